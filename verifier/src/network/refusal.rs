//! Why a live ruleset is refused.

use crate::refusal::refusals;

refusals! {
    /// One reason to refuse a ruleset.
    NetworkRefusal:

    RulesetForeign { reason: String }
    "the ruleset is not one of ours: {reason}"
    "`nft list ruleset` shows something that this project never writes: another table, hook, or rule. It may send, change or let out packets that the proof knows nothing of. Remove it, or look where it came from."

    ReadersDisagree { difference: String }
    "two readers of the table of packets do not agree: {difference}"
    "What was proven was read from nft's text. A second program read nft's JSON of the same table, and found other rules there, or rules changed in between. Ask again; if it stays, keep the output of `nft list ruleset` and `nft -j list ruleset`: one of the readers is wrong, and the proof may be of other rules than the kernel's."

    RulesetUnclear { reason: String }
    "the rules cannot be followed: {reason}"
    "A rule names what is not there, goes in a circle, or the marks of flows are not one mark. Whoever wrote these rules was not this project. Apply the profile again."

    LinksMalformed { reason: String }
    "the list of links cannot be read: {reason}"
    "The file given with --links is not the output of `ip -j link`. Without it nobody knows which links need an egress chain. Collect it again."

    LinkUnguarded { link: String }
    "{link} has no egress chain: frames that a process writes itself would leave there"
    "Every link but loopback needs its chain before it may go up. Apply the profile again; what keeps links down until then failed, so look into the journal too."

    EgressChainWithoutLink { chain: String }
    "chain {chain} guards no link that is there"
    "The link that this chain was made for is gone, or was renamed, or came back as another device. Apply the profile again."

    PacketLeaks { link: String, packet: String, rule: String }
    "a packet leaves through {link}: {packet}: {rule}"
    "The profile does not allow what is shown, and the rule named lets it out. Apply the profile again; the audit chain says who changed rules."

    FrameLeaks { link: String, packet: String, rule: String }
    "a frame that a process writes itself leaves through {link}: {packet}: {rule}"
    "Such frames meet no rule but those of the link's egress chain, and the one named lets it out. Apply the profile again."

    TooOften { link: String, packet: String, rule: String }
    "what a link needs leaves {link} without the limit on it: {packet}: {rule}"
    "What anybody may send for the sake of the link is limited, so that it carries little else. The limit is missing, looser, or there more than once. Apply the profile again."

    MarkShown { packet: String, rule: String }
    "a packet shows the mark that lets frames out: {packet}: {rule}"
    "Who watches frames, or receives the packet, reads this mark, and may set it on frames of his own: then the link's chain lets them through. It is cleared before a frame leaves, and nothing else has it. Apply the profile again."

    PacketForwarded { packet: String, rule: String }
    "a packet is passed through this machine: {packet}: {rule}"
    "No profile forwards anything: this machine is no router, and what others send through it is theirs. Apply the profile again."

    PacketAdmitted { packet: String, rule: String }
    "a packet is let in that nobody asked for: {packet}: {rule}"
    "Only answers within this profile's flows come in, and what links need. Apply the profile again."

    FlowMarked { packet: String, rule: String }
    "a flow is marked that the profile does not allow: {packet}: {rule}"
    "Whatever follows in a marked flow leaves without being asked whose it is. Apply the profile again."

    LoopbackOpen { port: u16, packet: String, rule: String }
    "port {port} on loopback is open to others: {packet}: {rule}"
    "Services on loopback are for the users that manifests/policy/loopback.yml names, and root is none of them. Apply the profile again."

    NotLetOut { link: String, what: String, packet: String, rule: String }
    "{link} does not carry {what}, which the profile promises: {packet}: {rule}"
    "The rules are stricter than the profile: nothing leaks, but something that was confirmed does not work. Apply the profile again."

    LoopbackShut { packet: String, rule: String }
    "loopback is shut where it should be open: {packet}: {rule}"
    "Processes of this machine cannot reach each other. Nothing leaks, but services fail. Apply the profile again."

    NotCounted { packet: String, rule: String }
    "what is refused is not counted as what it is: {packet}: {rule}"
    "Each refused packet raises a counter, so that an attempt leaves a trace; requests for names, and they alone, raise one of their own, on which the DNS leak check rests. Apply the profile again."
}

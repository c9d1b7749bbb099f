//! Why an audit chain, or a proof from one, is refused: every reason by a name that is a sentence.

use crate::refusal::refusals;

refusals! {
    /// One reason to refuse an audit chain.
    ChainRefusal:

    ChainFileForeign { path: String }
    "`{path}` does not belong into an audit chain"
    "The directory holds something that the format does not name. Nothing vouches for it, so nothing may read it. Remove it, or look where it came from."

    ChainFileNotRegular { path: String }
    "`{path}` is a link or a special file"
    "A chain consists of regular files and directories only: a link could show one file to this program and another to the next. Copy the chain without links."

    ChainFileTooLarge { path: String, limit: u64 }
    "`{path}` has more than {limit} bytes"
    "The file is above the bound that the format sets for it. No chain of ours comes near it."

    CheckpointMissing {}
    "`checkpoint` is missing: nobody signed this chain"
    "The signed head is not there. Entries alone prove nothing: whoever can write the disk could have written all of them. A chain that was deleted, or copied in part, looks like this."

    CheckpointMalformed { path: String, reason: String }
    "a checkpoint in `{path}` is malformed: {reason}"
    "The signed head, or the closing checkpoint of an epoch, is not in its one spelling with exactly one Ed25519 signature. It was edited, cut, or signed by another program."

    CheckpointOfAnotherChain { path: String, origin: String }
    "a checkpoint in `{path}` is one of {origin}"
    "Every checkpoint of a chain names the same origin. This one belongs to the chain of another device, or of the same device before it began anew."

    ChainOfAnotherKey { origin: String }
    "the chain is that of {origin}, which no trusted key made"
    "The trust directory holds keys of audit chains, but not the one that this chain's name is made of. It is the chain of another device, somebody began a new one in its place, or the trust directory is another device's."

    CheckpointSignedByAnotherKey { size: u64, epoch: u64 }
    "the checkpoint of {size} entries is not signed by the key of epoch {epoch}"
    "Each epoch has a key of its own, and only that key may sign in it. Somebody signed with another one: this is how it looks when whoever stole a later key rewrites earlier entries."

    CheckpointSignatureInvalid { size: u64, epoch: u64 }
    "the signature of epoch {epoch} over the checkpoint of {size} entries does not hold"
    "The checkpoint names the right key, but was changed after it was signed, or the signature was."

    CheckpointOfNoEpoch { size: u64 }
    "`checkpoints.log` closes an epoch with {size} entries, and none ends there"
    "Each record of checkpoints.log closes the epoch that ends with the entry before its size. There is no such entry: one of the two was added, removed or moved."

    RootDiffers { size: u64 }
    "the first {size} entries are not those that were signed"
    "The root of the tree over these entries is another than the signed checkpoint says. An entry in front of it was changed, added, removed or moved after it was signed."

    ChainShorterThanCheckpoint { entries: u64, size: u64 }
    "the chain has {entries} entries, {size} were signed"
    "Entries that a signed checkpoint covers are gone: the end of the chain was cut off, or the disk lost it."

    TooManyUnsignedEntries { size: u64, limit: u64 }
    "more than {limit} entries follow the newest checkpoint, which covers {size}"
    "The writer signs several times a second, so this many entries without a signature were not written by it, or the newest checkpoint was exchanged for an older one."

    EpochOutOfOrder { seq: u64, number: u64, expected: u64 }
    "entry {seq} begins epoch {number}, {expected} is next"
    "Epochs are numbered without gaps. One is missing or stands twice: the chain was put together from pieces."

    EpochKeyUnusable { seq: u64 }
    "entry {seq} names a key that is none"
    "The next key must be 32 bytes of base64, a point of full order, and another one than before. Nothing that follows can be verified."

    EpochNotClosed { epoch: u64, size: u64 }
    "epoch {epoch} ended with {size} entries and nobody signed that"
    "The key of an epoch signs the epoch's end before it is destroyed. That checkpoint is not in checkpoints.log, so a later key could have written what lies before it."

    SegmentMissing { path: String }
    "`{path}` is missing, and no entry says that it was removed"
    "Entries are gone from the beginning or the middle of the chain. A segment may only be absent when a later audit.prune entry says so, and the segments after it are all there."

    SegmentSizeWrong { path: String, entries: u64 }
    "`{path}` has {entries} entries instead of 65536"
    "Every segment but the last is full, and none is more than full. Entries were removed or added, or two segments were exchanged."

    SegmentTailWrong { path: String }
    "`{path}` goes on after its last entry"
    "Only the last segment may end in bytes that are no entry: one line that is being written, then zeros. Here something else follows, which a reader that stops earlier would not see."

    PrunedTilesMissing { until: u64 }
    "the hashes of the entries before {until} are not there"
    "Segments were removed by order, but the tiles that stand for them are missing or incomplete, so nothing that was signed can be compared."

    PrunedEpochUnproved { epoch: u64 }
    "the entry that ended epoch {epoch} was removed and is not kept"
    "The keys of later epochs follow from the entries that ended earlier ones. `epochs.jsonl` keeps these lines when their segments are removed; this one is absent, or is not what was signed."

    EntryTooLong { seq: u64 }
    "entry {seq} is longer than an entry can be"
    "A line has more than 16,384 bytes. The writer refuses such entries, so somebody else wrote it."

    EntryMalformed { seq: u64, byte: usize }
    "entry {seq} is not spelled as entries are, from byte {byte} on"
    "An entry has one spelling. This line has another: it was edited, damaged, or written by another program."

    EntryOfUnknownVersion { seq: u64, version: u64 }
    "entry {seq} is of version {version}"
    "This program knows version 1. Either a newer writer made the entry, and a newer verify-release is needed, or somebody hopes that unknown entries are passed over."

    EntryOutOfPlace { seq: u64, found: u64 }
    "entry {found} stands where entry {seq} belongs"
    "Entries are numbered without gaps. One was removed, added, doubled or moved."

    LinkBroken { seq: u64 }
    "entry {seq} does not follow from the entry before it"
    "Each entry holds the digest of the line before it. One of the two was changed, or another stood between them."

    GenesisDiffers { origin: String }
    "the first entry does not begin the chain of {origin}"
    "The first entry's link is made from the chain's name. It was taken from another chain, or entries in front of it are gone."

    MonotonicClockSteppedBack { seq: u64 }
    "entry {seq} was written before the one in front of it"
    "Within one boot the kernel's clock since boot cannot step back. Entries were moved, or taken from another place."

    EntryDataMalformed { seq: u64, kind: String, reason: String }
    "entry {seq} has no data of the kind `{kind}`: {reason}"
    "Data is canonical JSON, and a known kind has exactly its keys. The writer refuses anything else, so somebody else wrote it."

    EntryTracesWrong { seq: u64, kind: String }
    "entry {seq} of the kind `{kind}` has a payload and must not, or lacks one"
    "Whether an entry has a payload depends on its kind alone. A person's traces in another kind could not be forgotten; a missing digest hides what was kept."

    PayloadMissing { seq: u64 }
    "the payload of entry {seq} is gone, and no entry says that it was forgotten"
    "Payloads may be erased, but a later audit.forget entry has to say so. This one was removed or overwritten by somebody else than the writer."

    PayloadDiffers { seq: u64 }
    "the payload of entry {seq} is not the one that was written"
    "The digest of salt and payload is another than the entry holds. The payload was changed afterwards."

    PayloadOfNoEntry { path: String, seq: u64 }
    "`{path}` holds a payload for {seq}, which has no place there"
    "Payloads stand in the order of their entries, one for each that names one. This one was added, doubled or moved."

    GapNotAcknowledged { seq: u64 }
    "entry {seq} says that the chain before was broken or gone, and nobody was shown"
    "The writer found a broken chain, or none where one must have been, and began a new one. Until a person has been shown (audit.acknowledged), this counts as what it may be: somebody removed the past."

    WitnessedChainIsAnother { origin: String, kept: String }
    "the chain is that of {origin}, the kept checkpoint that of {kept}"
    "The checkpoint that somebody kept is of another chain. Either it is another device's, or this chain was begun in the place of the one that was seen."

    WitnessedByUnknownKey { size: u64 }
    "the kept checkpoint of {size} entries is not signed by a key of this chain"
    "The checkpoint that somebody kept must be signed by the key of the epoch that its last entry lies in. It is not: the chain that was seen had other keys, or the kept file is not one of this chain's checkpoints."

    HeadOlderThanWitnessed { head: u64, size: u64 }
    "the signed head covers {head} entries, somebody has seen {size}"
    "An older copy of the chain was put in place of the newer one, or its end was cut off. Every signature in it is good: only the kept checkpoint shows it."

    WitnessedRootDiffers { size: u64 }
    "the first {size} entries are not those that somebody has seen"
    "The chain was rewritten after the checkpoint was kept, with a valid key. Trust the kept checkpoint, not the chain."

    WitnessDidNotCosign { witness: String, size: u64 }
    "{witness} did not cosign the kept checkpoint of {size} entries"
    "The witness was asked for by name, and no line under the kept checkpoint is a cosignature of its key (type 0x04): without it nobody says that anybody else has seen this checkpoint. Add what the witness answered to the file, or look whether the key is the witness's."

    CosignatureInvalid { witness: String, size: u64 }
    "the cosignature of {witness} over the kept checkpoint of {size} entries does not hold"
    "A line under the kept checkpoint names the witness's key, but the checkpoint, the time or the signature in it was changed afterwards, or somebody else made it. Do not believe the file; ask the witness again."

    ProofMalformed { reason: String }
    "the proof is malformed: {reason}"
    "The file is no c2sp.org/tlog-proof@v1 in its one spelling that carries its entry as extra data."

    ProofDoesNotHold { index: u64, size: u64 }
    "the proof does not lead from entry {index} to the root of {size} entries"
    "The entry, its place, the hashes or the checkpoint were changed: this entry is not in the chain that was signed."

    ProofSignedByUnknownKey { size: u64 }
    "the checkpoint of {size} entries in the proof is not signed by a known key"
    "Known are the keys in the trust directory, and those that proofs given before this one show to have followed them. Give the proofs of the epochs' ends first."

    ProofSignatureInvalid { size: u64 }
    "the signature over the checkpoint of {size} entries in the proof does not hold"
    "The checkpoint names a known key, but was changed after it was signed, or the signature was."

    HmacLogLineMalformed { file: String, line: u64, reason: String }
    "line {line} of `{file}` is no entry of a python-hmac-chain: {reason}"
    "The other program writes one JSON object per line, with six keys in their order and in Python's spelling. This line was edited, torn, or written by another program."

    HmacLogLinkBroken { file: String, line: u64 }
    "line {line} of `{file}` does not follow from the line before it"
    "Each entry of a python-hmac-chain names the hash of the one before it, over archives too. One was removed, added or moved, or an archive is missing."

    HmacLogHashDiffers { file: String, line: u64 }
    "line {line} of `{file}` has another hash than it says"
    "The entry was changed after it was written, or the key is not the one that it was written with."

    HmacLogUnkeyedEntry { file: String, line: u64 }
    "line {line} of `{file}` has a hash without a key"
    "A key was given, and this entry says that it was written without. Whoever can write the log can make such an entry: a keyed log has none."

    HmacLogCheckpointMalformed { reason: String }
    "the checkpoint beside the log is not what it should be: {reason}"
    "The file LOG.checkpoint counts entries, names the hash of the last one, and carries an HMAC over both. It was edited, or made with another key."

    HmacLogCheckpointDiffers { entries: u64 }
    "entry {entries} of the log is not the one that the checkpoint names"
    "The checkpoint names the hash of its last entry, and the log has another entry there: it was written anew, or the checkpoint is another log's."

    HmacLogShorterThanCheckpoint { entries: u64, covered: u64 }
    "the log has {entries} entries, its checkpoint counted {covered}"
    "Entries that the checkpoint counted are gone: the end was cut off, or an archive is missing."
}

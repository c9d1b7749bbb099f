//! The rules of a profile: what is loaded into the kernel.
//!
//! New flows are let out by the user they are from, and marked; what follows in a flow is let out by that mark alone,
//! since what is sent after a process has ended has no user. The mark is another one after each switch, so that old
//! flows end with the rules that allowed them. Whatever bypasses the first table (frames that a process writes itself)
//! meets the second.

use super::profile::{DHCP_UID, DNS_PORTS, LinkNeed, Loopback, Ports, Profile};
use super::rules::{
    Act, Base, Chain, Condition, EPOCH, EPOCH_NOW, ETHER_ARP, ETHER_IPV4, ETHER_IPV6, Elements, Field, Hook,
};
use super::rules::{Rule, Ruleset, Span, TCP, Table, UDP};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Counts what asked for names.
pub const DNS_REFUSED: &str = "dns_refused";
/// Counts other packets that may not leave.
pub const REFUSED: &str = "refused";
/// Counts frames that may not leave.
pub const FRAMES_REFUSED: &str = "frames_refused";
/// Counts connections to ports of ours by users who may not.
pub const LOOPBACK_REFUSED: &str = "loopback_refused";
/// Counts what came from outside and was not asked for.
pub const INPUT_REFUSED: &str = "input_refused";
/// Counts what was to pass through.
pub const FORWARD_REFUSED: &str = "forward_refused";

/// Addresses of IPv4 that are nobody's on the internet (IANA's special-purpose registry), multicast and above.
pub const SPECIAL4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// Addresses of IPv6 that are nobody's on the internet, lead to IPv4 ones, or are for many.
pub const SPECIAL6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 96),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// [`SPECIAL4`] as spans.
pub fn special4() -> Vec<Span<u32>> {
    SPECIAL4.iter().map(|(net, length)| (net.to_bits(), net.to_bits() | low32(32 - length))).collect()
}

/// [`SPECIAL6`] as spans.
pub fn special6() -> Vec<Span<u128>> {
    SPECIAL6.iter().map(|(net, length)| (net.to_bits(), net.to_bits() | low128(128 - length))).collect()
}

const fn low32(bits: u32) -> u32 {
    (1_u32 << bits) - 1
}

const fn low128(bits: u32) -> u128 {
    (1_u128 << bits) - 1
}

/// What routers and neighbours are asked: types of ICMPv6.
pub const ND_OUT: &[Span] = &[(133, 133), (135, 136)];
/// What they say.
pub const ND_IN: &[Span] = &[(134, 136)];
/// Neighbours' packets were forwarded by nobody.
pub const ND_HOPS: u64 = 255;

/// The table of packets of a profile: one transaction loads it. `epoch` is its mark, another one after each switch.
pub fn inet(profile: &Profile, loopback: &Loopback, epoch: u32) -> Table {
    let mut table = Table::default();
    for name in [DNS_REFUSED, REFUSED, LOOPBACK_REFUSED, INPUT_REFUSED, FORWARD_REFUSED] {
        table.counters.insert(name.to_owned(), (0, 0));
    }
    if !profile.leaves.is_empty() {
        table.sets.insert(SET4.to_owned(), Elements::V4(special4()));
        table.sets.insert(SET6.to_owned(), Elements::V6(special6()));
        table.sets.insert(EPOCH.to_owned(), Elements::Marks(vec![epoch]));
        let protocols = [Some(TCP), profile.link.contains(&LinkNeed::Dhcp).then_some(UDP)];
        let pairs = protocols.into_iter().flatten().map(|proto| (proto, epoch)).collect();
        table.maps.insert(EPOCH_NOW.to_owned(), pairs);
    }
    table.chains.push(base("input", Hook::Input, input(profile)));
    table.chains.push(base("forward", Hook::Forward, vec![refused(FORWARD_REFUSED)]));
    let dns = [
        Condition::one_of(Field::L4Proto, [(TCP, TCP), (UDP, UDP)]),
        Condition::one_of(Field::AnyDport, DNS_PORTS.map(|port| (port, port))),
    ];
    table.chains.push(base(
        "output",
        Hook::Output,
        vec![
            Rule::new(vec![Condition::link(Field::OutLink, "lo")], vec![Act::Goto(LOOPBACK.to_owned())]),
            Rule::new(dns.to_vec(), vec![Act::Count(DNS_REFUSED.to_owned()), Act::Drop]),
            match profile.is_closed() {
                true => refused(REFUSED),
                false => Rule::new(Vec::new(), vec![Act::Goto(LEAVING.to_owned())]),
            },
        ],
    ));
    if !profile.is_closed() {
        table.chains.push(Chain { name: LEAVING.to_owned(), base: None, rules: leaving(profile) });
    }
    for leave in &profile.leaves {
        let rules = match leave.ports.spans() {
            ports if ports.is_empty() => vec![refused(REFUSED)],
            _ => flows(&leave.ports),
        };
        table.chains.push(Chain { name: format!("{OF_USER}{}", leave.user), base: None, rules });
    }
    table.chains.extend(loopback_chains(loopback));
    table
}

/// The table of frames: one chain for each link that there is.
pub fn links<'a>(profile: &Profile, epoch: u32, names: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::default();
    table.counters.insert(FRAMES_REFUSED.to_owned(), (0, 0));
    if !profile.leaves.is_empty() {
        table.sets.insert(EPOCH.to_owned(), Elements::Marks(vec![epoch]));
    }
    table.chains = names
        .into_iter()
        .map(|name| base(&link_chain(name), Hook::Egress(Some(name.to_owned())), frames(profile)))
        .collect();
    table
}

/// Both, for the links that there are.
pub fn ruleset<'a>(
    profile: &Profile,
    loopback: &Loopback,
    epoch: u32,
    names: impl IntoIterator<Item = &'a str>,
) -> Ruleset {
    Ruleset { inet: inet(profile, loopback, epoch), links: links(profile, epoch, names) }
}

/// The chain of a link: each byte that is no letter or digit as `_XX`.
pub fn link_chain(link: &str) -> String {
    link.bytes().fold("link_".to_owned(), |mut name, byte| {
        if byte.is_ascii_alphanumeric() {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("_{byte:02x}"));
        }
        name
    })
}

const SET4: &str = "special4";
const SET6: &str = "special6";
const LEAVING: &str = "leaving";
const OF_USER: &str = "from_";
const LOOPBACK: &str = "loopback";
const OF_PORT: &str = "loopback_";

fn base(name: &str, hook: Hook, rules: Vec<Rule>) -> Chain {
    Chain { name: name.to_owned(), base: Some(Base { hook, drops: true }), rules }
}

fn refused(counter: &str) -> Rule {
    Rule::new(Vec::new(), vec![Act::Count(counter.to_owned()), Act::Drop])
}

fn established() -> Condition {
    Condition::is(Field::CtState, 1)
}

fn new() -> Condition {
    Condition::is(Field::CtState, 3)
}

fn input(profile: &Profile) -> Vec<Rule> {
    let mut rules = vec![Rule::new(vec![Condition::link(Field::InLink, "lo")], vec![Act::Accept])];
    if !profile.leaves.is_empty() {
        // What is related are errors on the way, such as a packet that is too large.
        let answers = Condition::one_of(Field::CtState, [(1, 1), (2, 2)]);
        rules.push(Rule::new(vec![answers, Condition::in_set(Field::CtMark, EPOCH)], vec![Act::Accept]));
    }
    if profile.link.contains(&LinkNeed::Nd) {
        rules.push(Rule::new(neighbours(ND_IN), vec![Act::Accept]));
    }
    rules.push(refused(INPUT_REFUSED));
    rules
}

fn neighbours(types: &[Span]) -> Vec<Condition> {
    vec![Condition::one_of(Field::Icmp6Type, types.iter().copied()), Condition::is(Field::HopLimit, ND_HOPS)]
}

fn dhcp() -> Vec<Condition> {
    vec![
        Condition::is(Field::SocketUid, u64::from(DHCP_UID)),
        Condition::is(Field::UdpSport, 68),
        Condition::is(Field::UdpDport, 67),
    ]
}

fn leaving(profile: &Profile) -> Vec<Rule> {
    let now = || EPOCH_NOW.to_owned();
    let mut rules = Vec::new();
    if !profile.leaves.is_empty() {
        rules.push(Rule::new(
            // Conntrack takes a SYN for a part of a flow that is not closed yet: whoever begins is asked who he is.
            vec![!Condition::begins(), established(), Condition::in_set(Field::CtMark, EPOCH)],
            vec![Act::MarkPacket(now()), Act::Accept],
        ));
    }
    if profile.link.contains(&LinkNeed::Nd) {
        rules.push(Rule::new(neighbours(ND_OUT), vec![Act::Accept]));
    }
    for leave in &profile.leaves {
        rules.push(Rule::new(
            vec![Condition::begins(), new(), Condition::is(Field::SocketUid, u64::from(leave.uid))],
            vec![Act::Goto(format!("{OF_USER}{}", leave.user))],
        ));
    }
    if profile.link.contains(&LinkNeed::Dhcp) {
        // Its flow is marked for the answers. The link's chain limits it.
        let acts = match profile.leaves.is_empty() {
            true => vec![Act::Accept],
            false => vec![Act::MarkFlow(now()), Act::Accept],
        };
        rules.push(Rule::new(dhcp(), acts));
    }
    rules.push(refused(REFUSED));
    rules
}

fn flows(ports: &Ports) -> Vec<Rule> {
    let port = match ports {
        Ports::Only(ports) => {
            Condition::one_of(Field::TcpDport, ports.iter().map(|it| (u64::from(*it), u64::from(*it))))
        }
        // Those of DNS are dropped before.
        Ports::AllBut(ports) => {
            let mut others: Vec<Span> = (ports.iter().map(|it| u64::from(*it)))
                .filter(|it| !DNS_PORTS.contains(it))
                .map(|it| (it, it))
                .collect();
            // Some port must be named: later fragments have none, and are not to begin a flow.
            if others.is_empty() {
                others.push((DNS_PORTS[0], DNS_PORTS[0]));
            }
            !Condition::one_of(Field::TcpDport, others)
        }
    };
    let marked = || {
        let now = || EPOCH_NOW.to_owned();
        vec![Act::MarkFlow(now()), Act::MarkPacket(now()), Act::Accept]
    };
    let public = |field, set| !Condition::in_set(field, set);
    vec![
        Rule::new(vec![public(Field::Destination4, SET4), port.clone()], marked()),
        Rule::new(vec![public(Field::Destination6, SET6), port], marked()),
        refused(REFUSED),
    ]
}

/// Each port of ours is a chain of its own: what it does not let through is answered.
fn loopback_chains(loopback: &Loopback) -> Vec<Chain> {
    let of_port = |port: &u16| format!("{OF_PORT}{port}");
    let mut rules = vec![Rule::new(vec![!Condition::begins(), established()], vec![Act::Accept])];
    rules.extend(
        loopback.0.keys().map(|port| {
            Rule::new(vec![Condition::is(Field::TcpDport, u64::from(*port))], vec![Act::Goto(of_port(port))])
        }),
    );
    rules.push(Rule::new(Vec::new(), vec![Act::Accept]));
    let mut chains = vec![Chain { name: LOOPBACK.to_owned(), base: None, rules }];
    chains.extend(loopback.0.keys().map(|port| {
        let theirs = Condition::one_of(Field::SocketUid, loopback.spans(*port));
        let rules = vec![
            Rule::new(vec![theirs], vec![Act::Accept]),
            // nft adds this condition if it is not there: only packets of TCP can be answered so.
            Rule::new(
                vec![Condition::is(Field::L4Proto, TCP)],
                vec![Act::Count(LOOPBACK_REFUSED.to_owned()), Act::Reject],
            ),
        ];
        Chain { name: of_port(port), base: None, rules }
    }));
    chains
}

fn frames(profile: &Profile) -> Vec<Rule> {
    let mut rules = Vec::new();
    if !profile.leaves.is_empty() {
        // Whoever watches frames sees them after this chain, and could set a mark that he sees.
        rules.push(Rule::new(vec![Condition::in_set(Field::Mark, EPOCH)], vec![Act::ClearMark, Act::Accept]));
    }
    for need in &profile.link {
        // The type on the wire stands last: where nft's listing finds it before a condition that implies it, it leaves
        // it out, and then what the sender calls his frame is all that is asked.
        let on_wire = |ether| Condition::is(Field::EtherType, ether);
        let conditions = match need {
            LinkNeed::Arp => vec![on_wire(ETHER_ARP)],
            LinkNeed::Nd => [neighbours(ND_OUT), vec![on_wire(ETHER_IPV6)]].concat(),
            LinkNeed::Dhcp => [dhcp(), vec![on_wire(ETHER_IPV4)]].concat(),
        };
        rules.push(Rule::new(conditions, vec![Act::Limit(need.limit()), Act::Accept]));
    }
    rules.push(refused(FRAMES_REFUSED));
    rules
}

//! The rules, typed: as much of nft's language as this project writes, and nothing else.
//!
//! Numbers are closed ranges everywhere. A rule is its conditions, all of which hold, and then what it does.

use std::collections::BTreeMap;

/// The table of packets, in the family `inet`.
pub const INET_TABLE: &str = "secure_ai";
/// The table of frames, in the family `netdev`: one chain for each link.
pub const LINK_TABLE: &str = "secure_ai_l2";
/// The set of the mark that flows of this profile have.
pub const EPOCH: &str = "epoch";
/// The map from which a flow gets that mark.
pub const EPOCH_NOW: &str = "epoch_now";
/// `IPPROTO_TCP`.
pub const TCP: u64 = 6;
/// `IPPROTO_UDP`.
pub const UDP: u64 = 17;
/// `IPPROTO_ICMPV6`.
pub const ICMPV6: u64 = 58;
/// `ETH_P_IP`.
pub const ETHER_IPV4: u64 = 0x0800;
/// `ETH_P_ARP`.
pub const ETHER_ARP: u64 = 0x0806;
/// `ETH_P_IPV6`.
pub const ETHER_IPV6: u64 = 0x86dd;

/// Both tables; the one that is not there is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ruleset {
    /// [`INET_TABLE`].
    pub inet: Table,
    /// [`LINK_TABLE`].
    pub links: Table,
}

/// What a table holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// Named counters, with packets and bytes.
    pub counters: BTreeMap<String, (u64, u64)>,
    /// Named sets.
    pub sets: BTreeMap<String, Elements>,
    /// Named maps from a protocol to a mark.
    pub maps: BTreeMap<String, BTreeMap<u64, u32>>,
    /// In the order in which they stand.
    pub chains: Vec<Chain>,
}

/// From the first to the last, both among them.
pub type Span<T = u64> = (T, T);

/// What a named set holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elements {
    /// Addresses of IPv4.
    V4(Vec<Span<u32>>),
    /// Addresses of IPv6.
    V6(Vec<Span<u128>>),
    /// Marks.
    Marks(Vec<u32>),
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where the kernel enters it; none for one that rules go to.
    pub base: Option<Base>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// Where the kernel enters a chain: `type filter`, priority 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Where.
    pub hook: Hook,
    /// What becomes of what no rule decides: `policy drop`, or `policy accept`.
    pub drops: bool,
}

/// A place in the kernel's way of a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// To this machine.
    Input,
    /// Through it.
    Forward,
    /// From it.
    Output,
    /// A frame, onto this link. None: the link is gone, and nft lists the chain without it.
    Egress(Option<String>),
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// In order.
    pub acts: Vec<Act>,
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Of what.
    pub field: Field,
    /// `!=`.
    pub not: bool,
    /// What it is compared with.
    pub with: With,
}

/// What a field is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum With {
    /// One of these.
    Values(Vec<Span>),
    /// An element of this set.
    Set(String),
    /// The link of this name.
    Link(String),
    /// `syn` of `syn` and `ack`: the packet begins a connection. Of [`Field::TcpFlags`], and nothing else is.
    Begin,
}

/// What of a packet is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// `iif`.
    InLink,
    /// `oif`.
    OutLink,
    /// `meta l4proto`.
    L4Proto,
    /// `meta skuid`.
    SocketUid,
    /// `meta mark`.
    Mark,
    /// `ct state`, as a mask of [`CtState`].
    CtState,
    /// `ct mark`.
    CtMark,
    /// `ether type`: on the wire, whatever the sender calls it.
    EtherType,
    /// `ip daddr`.
    Destination4,
    /// `ip6 daddr`.
    Destination6,
    /// `ip6 hoplimit`.
    HopLimit,
    /// `icmpv6 type`.
    Icmp6Type,
    /// `th dport`.
    AnyDport,
    /// `tcp dport`.
    TcpDport,
    /// `tcp flags`.
    TcpFlags,
    /// `udp sport`.
    UdpSport,
    /// `udp dport`.
    UdpDport,
}

impl Field {
    /// Every one, with nft's words, and whether it is known to packets (`inet`) and to frames (`netdev`).
    pub const ALL: &[(Self, &'static str, &'static str, bool, bool)] = &[
        (Self::InLink, "iif", "", true, false),
        (Self::OutLink, "oif", "", true, false),
        (Self::L4Proto, "meta", "l4proto", true, true),
        (Self::SocketUid, "meta", "skuid", true, true),
        (Self::Mark, "meta", "mark", true, true),
        (Self::CtState, "ct", "state", true, false),
        (Self::CtMark, "ct", "mark", true, false),
        (Self::EtherType, "ether", "type", false, true),
        (Self::Destination4, "ip", "daddr", true, false),
        (Self::Destination6, "ip6", "daddr", true, false),
        (Self::HopLimit, "ip6", "hoplimit", true, true),
        (Self::Icmp6Type, "icmpv6", "type", true, true),
        (Self::AnyDport, "th", "dport", true, false),
        (Self::TcpDport, "tcp", "dport", true, false),
        (Self::TcpFlags, "tcp", "flags", true, false),
        (Self::UdpSport, "udp", "sport", true, true),
        (Self::UdpDport, "udp", "dport", true, true),
    ];

    /// The largest value.
    pub const fn max(self) -> u64 {
        match self {
            Self::L4Proto | Self::HopLimit | Self::Icmp6Type => 0xff,
            Self::EtherType | Self::AnyDport | Self::TcpDport | Self::UdpSport | Self::UdpDport => 0xffff,
            // The last number is the kernel's word for nobody.
            Self::SocketUid => 0xffff_fffe,
            _ => 0xffff_ffff,
        }
    }

    /// Values that nft writes as words.
    pub const fn words(self) -> &'static [(&'static str, u64)] {
        match self {
            Self::L4Proto => &[("icmp", 1), ("tcp", TCP), ("udp", UDP), ("ipv6-icmp", ICMPV6)],
            Self::EtherType => &[("ip", ETHER_IPV4), ("arp", ETHER_ARP), ("ip6", ETHER_IPV6)],
            Self::CtState => &[("invalid", 0), ("established", 1), ("related", 2), ("new", 3), ("untracked", 4)],
            Self::Icmp6Type => &[
                ("nd-router-solicit", 133),
                ("nd-router-advert", 134),
                ("nd-neighbor-solicit", 135),
                ("nd-neighbor-advert", 136),
                ("nd-redirect", 137),
            ],
            _ => &[],
        }
    }
}

/// What a rule does once its conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Goes on only as often as this.
    Limit(Limit),
    /// `ct mark set meta l4proto map @NAME`: the flow is marked; a protocol that the map lacks ends the rule.
    MarkFlow(String),
    /// `meta mark set meta l4proto map @NAME`: likewise the packet.
    MarkPacket(String),
    /// `meta mark set 0x00000000`: the packet has no mark any more.
    ClearMark,
    /// Counts.
    Count(String),
    /// Lets through, as far as this hook goes.
    Accept,
    /// Drops.
    Drop,
    /// Drops, and answers the sender with a TCP reset.
    Reject,
    /// Goes on in another chain, and not here again.
    Goto(String),
}

impl Act {
    /// Does it end the rule's chain?
    pub const fn is_verdict(&self) -> bool {
        matches!(self, Self::Accept | Self::Drop | Self::Reject | Self::Goto(_))
    }
}

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// So many.
    pub rate: u64,
    /// In so many seconds.
    pub seconds: u64,
    /// And so many at once.
    pub burst: u64,
}

impl Limit {
    /// nft's, where none is said.
    pub const BURST: u64 = 5;
    /// Units of time.
    pub const UNITS: &[(&'static str, u64)] = &[("second", 1), ("minute", 60), ("hour", 3600), ("day", 86_400)];

    /// Does it let through no more than the other?
    pub const fn within(self, other: Self) -> bool {
        self.burst <= other.burst && self.rate.saturating_mul(other.seconds) <= other.rate.saturating_mul(self.seconds)
    }
}

impl Rule {
    /// A rule.
    pub const fn new(conditions: Vec<Condition>, acts: Vec<Act>) -> Self {
        Self { conditions, acts }
    }
}

impl Condition {
    /// `FIELD VALUES`.
    pub fn one_of(field: Field, values: impl IntoIterator<Item = Span>) -> Self {
        Self { field, not: false, with: With::Values(values.into_iter().collect()) }
    }

    /// `FIELD VALUE`.
    pub fn is(field: Field, value: u64) -> Self {
        Self::one_of(field, [(value, value)])
    }

    /// `FIELD @SET`.
    pub fn in_set(field: Field, set: &str) -> Self {
        Self { field, not: false, with: With::Set(set.to_owned()) }
    }

    /// The packet begins a connection: SYN without ACK.
    pub const fn begins() -> Self {
        Self { field: Field::TcpFlags, not: false, with: With::Begin }
    }

    /// `FIELD "LINK"`.
    pub fn link(field: Field, name: &str) -> Self {
        Self { field, not: false, with: With::Link(name.to_owned()) }
    }
}

impl std::ops::Not for Condition {
    type Output = Self;

    /// The opposite.
    fn not(self) -> Self {
        Self { not: !self.not, ..self }
    }
}

impl Table {
    /// A chain by its name.
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == name)
    }
}

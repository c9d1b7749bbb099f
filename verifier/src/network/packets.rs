//! Sets of packets, exactly: every packet there can be, in as many classes as the rules can tell apart.
//!
//! Each field's values fall into classes within which all conditions agree; a [`Packets`] is a product of classes of
//! all fields, a list of them any set. Splitting and subtracting them is exact, so whatever is said of the classes is
//! said of each single packet.

use super::print::word;
use super::rules::{ETHER_ARP, ETHER_IPV4, ETHER_IPV6, Field, Span};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A dimension of [`Packets`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Axis {
    /// What its sender calls it, and the destination of a packet: rules read its headers as this kind's.
    To,
    /// The type of its frame on the wire, which may be another.
    Wire,
    /// Protocol.
    L4,
    /// Source port.
    Sport,
    /// Destination port.
    Dport,
    /// Type of ICMPv6.
    Icmp6,
    /// Hop limit.
    Hops,
    /// Whose socket it is from; the last class: nobody's.
    Uid,
    /// Conntrack's state of its flow.
    State,
    /// The mark of its flow.
    FlowMark,
    /// Its own.
    Mark,
    /// Whether a header of its protocol can be read: not of a later fragment.
    Part,
    /// Whether it begins a connection of TCP.
    Begin,
    /// The link: loopback, or another.
    Link,
}

const AXES: usize = 14;
const ALL_AXES: [Axis; AXES] = [
    Axis::To,
    Axis::Wire,
    Axis::L4,
    Axis::Sport,
    Axis::Dport,
    Axis::Icmp6,
    Axis::Hops,
    Axis::Uid,
    Axis::State,
    Axis::FlowMark,
    Axis::Mark,
    Axis::Part,
    Axis::Begin,
    Axis::Link,
];
/// Classes of one field: bits of a word.
const CLASSES_MAX: usize = 64;
/// The value that stands for no socket at all.
const NOBODY: u64 = 0xffff_ffff;
/// The value that stands for a protocol that cannot be told: a header that is cut, or no chain of headers.
const UNTOLD: u64 = 0x100;
/// The value that stands for no type on the wire: a link without Ethernet headers.
const UNTYPED: u64 = 0x1_0000;
/// Of [`Axis::Mark`] and [`Axis::FlowMark`]: the mark of this profile's flows.
pub const OURS: u64 = 1;
/// Any other mark, none among them.
pub const OTHER: u64 = 2;
/// Of [`Axis::Part`]: not a later fragment.
pub const WHOLE: u64 = 1;
/// Of [`Axis::Begin`]: it is a SYN without ACK.
pub const BEGINS: u64 = 1;
/// Of [`Axis::Link`]: loopback.
pub const LOOPBACK: u64 = 1;
/// Any other link.
pub const OUTSIDE: u64 = 2;

/// A product of classes: for each axis, a bit for each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packets([u64; AXES]);

impl Packets {
    /// The classes of an axis.
    pub fn on(&self, axis: Axis) -> u64 {
        self.0[axis as usize]
    }

    /// The same with only these classes of an axis.
    pub fn only(mut self, axis: Axis, mask: u64) -> Self {
        self.0[axis as usize] &= mask;
        self
    }

    /// The same, but that this class is now theirs.
    pub fn set(mut self, axis: Axis, mask: u64) -> Self {
        self.0[axis as usize] = mask;
        self
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.0.contains(&0)
    }

    /// What is in both.
    pub fn and(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|axis| self.0[axis] & other.0[axis]))
    }

    /// Both as one, where they differ on one axis at most.
    fn joined(&self, other: &Self) -> Option<Self> {
        let mut differ = (0..AXES).filter(|axis| self.0[*axis] != other.0[*axis]);
        let (axis, None) = (differ.next().unwrap_or(0), differ.next()) else { return None };
        let mut both = *self;
        both.0[axis] |= other.0[axis];
        Some(both)
    }

    /// What is in this one only, in parts that have nothing in common.
    pub fn without(&self, other: &Self) -> Vec<Self> {
        if self.and(other).is_empty() {
            return vec![*self];
        }
        let mut rest = *self;
        let mut parts = Vec::new();
        for axis in 0..AXES {
            let outside = rest.0[axis] & !other.0[axis];
            if outside != 0 {
                let mut part = rest;
                part.0[axis] = outside;
                parts.push(part);
                rest.0[axis] &= other.0[axis];
            }
        }
        parts
    }
}

/// What is left of a set once all of the others are taken out.
pub fn subtract(from: &[Packets], others: impl IntoIterator<Item = Packets>) -> Vec<Packets> {
    let mut left: Vec<Packets> = from.iter().copied().filter(|it| !it.is_empty()).collect();
    for other in others {
        left = left.iter().flat_map(|it| it.without(&other)).collect();
    }
    left
}

/// The same packets in fewer parts: two that differ on one axis alone are one.
pub fn merged(parts: impl IntoIterator<Item = Packets>) -> Vec<Packets> {
    let mut merged: Vec<Packets> = Vec::new();
    for mut part in parts {
        while let Some((at, both)) = merged.iter().enumerate().find_map(|(at, it)| Some((at, it.joined(&part)?))) {
            merged.swap_remove(at);
            part = both;
        }
        merged.push(part);
    }
    merged
}

/// More classes than a word has bits: no ruleset of ours comes near.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyClasses;

/// Values of a field, cut where any condition tells them apart.
#[derive(Debug, Clone)]
struct Line {
    classes: Vec<Span>,
}

impl Line {
    fn cut(max: u64, spans: &[Span]) -> Result<Self, TooManyClasses> {
        let mut starts = vec![0];
        for (first, last) in spans {
            starts.extend([Some(*first), last.checked_add(1)].into_iter().flatten().filter(|it| *it <= max));
        }
        starts.sort_unstable();
        starts.dedup();
        let ends = starts.iter().skip(1).map(|next| next - 1).chain([max]);
        let classes: Vec<Span> = starts.iter().copied().zip(ends).collect();
        if classes.len() > CLASSES_MAX { Err(TooManyClasses) } else { Ok(Self { classes }) }
    }

    /// Classes that lie within.
    fn mask(&self, spans: &[Span]) -> u64 {
        let within =
            |class: &Span| spans.iter().any(|(first, last)| (*first..=*last).contains(&class.0) && class.1 <= *last);
        bits(self.classes.iter().map(within))
    }

    fn all(&self) -> u64 {
        bits(self.classes.iter().map(|_| true))
    }
}

fn bits(classes: impl Iterator<Item = bool>) -> u64 {
    classes.enumerate().fold(0, |mask, (at, is)| mask | u64::from(is) << at)
}

/// A class of destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// Neither.
    Other,
    /// IPv4, to such an address.
    V4(u32),
    /// IPv6, to such an address.
    V6(u128),
}

/// Everything that rules and promises tell apart, of each field.
#[derive(Debug, Default)]
pub struct Distinctions {
    /// Values.
    pub spans: Vec<(Field, Vec<Span>)>,
    /// Sets of addresses of IPv4.
    pub v4: Vec<Vec<Span<u32>>>,
    /// Sets of addresses of IPv6.
    pub v6: Vec<Vec<Span<u128>>>,
}

/// All packets, in classes.
#[derive(Debug)]
pub struct Space {
    l4: Line,
    sport: Line,
    dport: Line,
    icmp6: Line,
    hops: Line,
    uid: Line,
    wire: Line,
    to: Vec<To>,
    v4: Vec<(Vec<Span<u32>>, u64)>,
    v6: Vec<(Vec<Span<u128>>, u64)>,
}

impl Space {
    /// Cuts all packets into the classes that these distinctions make.
    ///
    /// # Errors
    /// [`TooManyClasses`] of a field.
    pub fn new(known: Distinctions) -> Result<Self, TooManyClasses> {
        let of = |fields: &[Field]| -> Vec<Span> {
            known
                .spans
                .iter()
                .filter(|(field, _)| fields.contains(field))
                .flat_map(|(_, spans)| spans.clone())
                .collect()
        };
        let mut to = vec![To::Other];
        let ethers =
            [of(&[Field::EtherType]), [ETHER_ARP, ETHER_IPV4, ETHER_IPV6, UNTYPED].map(|it| (it, it)).to_vec()]
                .concat();
        let v4 = told_apart(known.v4, u32::MAX, |it| it.checked_add(1), &mut to, To::V4);
        let v6 = told_apart(known.v6, u128::MAX, |it| it.checked_add(1), &mut to, To::V6);
        if to.len() > CLASSES_MAX {
            return Err(TooManyClasses);
        }
        let mut uid = of(&[Field::SocketUid]);
        uid.push((NOBODY, NOBODY));
        let mut l4 = of(&[Field::L4Proto]);
        l4.push((UNTOLD, UNTOLD));
        Ok(Self {
            l4: Line::cut(UNTOLD, &l4)?,
            sport: Line::cut(Field::UdpSport.max(), &of(&[Field::UdpSport]))?,
            dport: Line::cut(Field::AnyDport.max(), &of(&[Field::AnyDport, Field::TcpDport, Field::UdpDport]))?,
            icmp6: Line::cut(Field::Icmp6Type.max(), &of(&[Field::Icmp6Type]))?,
            hops: Line::cut(Field::HopLimit.max(), &of(&[Field::HopLimit]))?,
            uid: Line::cut(NOBODY, &uid)?,
            wire: Line::cut(UNTYPED, &ethers)?,
            to,
            v4,
            v6,
        })
    }

    /// Every packet.
    pub fn all(&self) -> Packets {
        let mut all = Packets([u64::MAX; AXES]);
        for axis in ALL_AXES {
            let mask = match axis {
                Axis::To => bits(self.to.iter().map(|_| true)),
                Axis::State => bits([true; 5].into_iter()),
                Axis::FlowMark | Axis::Mark | Axis::Part | Axis::Begin | Axis::Link => OURS | OTHER,
                _ => self.line(axis).map_or(u64::MAX, Line::all),
            };
            all = all.set(axis, mask);
        }
        all
    }

    fn line(&self, axis: Axis) -> Option<&Line> {
        match axis {
            Axis::L4 => Some(&self.l4),
            Axis::Sport => Some(&self.sport),
            Axis::Dport => Some(&self.dport),
            Axis::Icmp6 => Some(&self.icmp6),
            Axis::Hops => Some(&self.hops),
            Axis::Uid => Some(&self.uid),
            Axis::Wire => Some(&self.wire),
            _ => None,
        }
    }

    /// Classes of an axis of numbers that lie within these spans; with `not`, all others, but nobody's socket and what has
    /// no type.
    pub fn within(&self, axis: Axis, spans: &[Span], not: bool) -> u64 {
        let Some(line) = self.line(axis) else { return 0 };
        let mask = line.mask(spans);
        let others = line.all() & !mask;
        let neither = match axis {
            Axis::Uid => line.mask(&[(NOBODY, NOBODY)]),
            Axis::Wire => self.wire(UNTYPED),
            _ => 0,
        };
        if not { others & !neither } else { mask }
    }

    /// The values that these classes of an axis of numbers hold; `None` for all that there are.
    pub fn values(&self, axis: Axis, mask: u64) -> Option<Vec<Span>> {
        let line = self.line(axis)?;
        let mut spans: Vec<Span> = Vec::new();
        for (at, (first, last)) in line.classes.iter().enumerate() {
            match spans.last_mut() {
                _ if mask >> at & 1 == 0 => {}
                Some((_, end)) if *end + 1 == *first => *end = *last,
                _ => spans.push((*first, *last)),
            }
        }
        let (first, last) = (line.classes.first()?.0, line.classes.last()?.1);
        (spans != [(first, last)]).then_some(spans)
    }

    /// Classes of packets of IPv4.
    pub fn v4(&self) -> u64 {
        bits(self.to.iter().map(|to| matches!(to, To::V4(_))))
    }

    /// Classes of packets of IPv6.
    pub fn v6(&self) -> u64 {
        bits(self.to.iter().map(|to| matches!(to, To::V6(_))))
    }

    /// A type on the wire.
    pub fn wire(&self, ether: u64) -> u64 {
        self.wire.mask(&[(ether, ether)])
    }

    /// What the kernel sends as this type: links without Ethernet headers know none.
    pub fn sent_as(&self, ether: u64) -> u64 {
        self.wire(ether) | self.wire(UNTYPED)
    }

    /// Classes of packets of IPv4 to one of these addresses.
    pub fn to_v4(&self, spans: &[Span<u32>]) -> u64 {
        self.v4.iter().find(|(known, _)| known == spans).map_or(0, |(_, mask)| *mask)
    }

    /// Classes of packets of IPv6 to one of these addresses.
    pub fn to_v6(&self, spans: &[Span<u128>]) -> u64 {
        self.v6.iter().find(|(known, _)| known == spans).map_or(0, |(_, mask)| *mask)
    }

    /// A packet among these, in words.
    pub fn example(&self, packets: &Packets) -> String {
        let first = |axis: Axis| packets.on(axis).trailing_zeros() as usize;
        let all = self.all();
        let told = |axis: Axis| packets.on(axis) != all.on(axis);
        let value = |axis: Axis| self.line(axis).and_then(|line| line.classes.get(first(axis))).map_or(0, |it| it.0);
        let mut words = Vec::new();
        let to = self.to.get(first(Axis::To));
        let is_ip = !matches!(to, Some(To::Other) | None);
        let kind = match to {
            Some(To::V4(_)) => ETHER_IPV4,
            Some(To::V6(_)) => ETHER_IPV6,
            _ => u64::MAX,
        };
        if packets.on(Axis::Wire) & self.wire(kind) == 0 {
            words.push(match value(Axis::Wire) {
                UNTYPED => "a frame without a type".to_owned(),
                ether => format!("a frame of type {}", word(Field::EtherType, ether)),
            });
            if is_ip {
                words.push(format!("which its sender calls {}", word(Field::EtherType, kind)));
            }
        }
        if is_ip && told(Axis::L4) {
            words.push(match value(Axis::L4) {
                UNTOLD => "no protocol that can be told".to_owned(),
                protocol => format!("protocol {}", word(Field::L4Proto, protocol)),
            });
        }
        match to {
            Some(To::V4(address)) => words.push(format!("to {}", Ipv4Addr::from_bits(*address))),
            Some(To::V6(address)) => words.push(format!("to {}", Ipv6Addr::from_bits(*address))),
            Some(To::Other) | None => {}
        }
        if is_ip {
            for (axis, name) in
                [(Axis::Dport, "port"), (Axis::Sport, "from port"), (Axis::Icmp6, "type"), (Axis::Hops, "hop limit")]
            {
                if told(axis) {
                    words.push(format!("{name} {}", value(axis)));
                }
            }
            if told(Axis::Part) {
                words.push(if packets.on(Axis::Part) & WHOLE == 0 { "a later fragment" } else { "whole" }.to_owned());
            }
        }
        if is_ip && told(Axis::Begin) && told(Axis::L4) {
            words.push(if packets.on(Axis::Begin) & BEGINS == 0 { "no SYN" } else { "a SYN" }.to_owned());
        }
        match value(Axis::Uid) {
            NOBODY => words.push("of no socket".to_owned()),
            uid if told(Axis::Uid) => words.push(format!("of user {uid}")),
            _ => words.push("of any user".to_owned()),
        }
        if is_ip && told(Axis::State) {
            let states = Field::CtState.words();
            words.push(format!("state {}", states.get(first(Axis::State)).map_or("", |(name, _)| name)));
        }
        if is_ip && packets.on(Axis::FlowMark) == OURS {
            words.push("in a marked flow".to_owned());
        }
        words.join(", ")
    }
}

/// Addresses of which each set knows the same are one class; it gets one of them for its name.
fn told_apart<T: Copy + Ord + From<u8>>(
    sets: Vec<Vec<Span<T>>>,
    max: T,
    after: impl Fn(T) -> Option<T>,
    to: &mut Vec<To>,
    class: impl Fn(T) -> To,
) -> Vec<(Vec<Span<T>>, u64)> {
    let mut starts: Vec<T> = vec![T::from(0)];
    for (first, last) in sets.iter().flatten() {
        starts.extend([Some(*first), after(*last)].into_iter().flatten().filter(|it| *it <= max));
    }
    starts.sort_unstable();
    starts.dedup();
    let mut classes: Vec<(Vec<bool>, usize)> = Vec::new();
    for start in starts {
        let member = |set: &Vec<Span<T>>| set.iter().any(|(first, last)| (*first..=*last).contains(&start));
        let signature: Vec<bool> = sets.iter().map(member).collect();
        if !classes.iter().any(|(known, _)| *known == signature) {
            classes.push((signature, to.len()));
            to.push(class(start));
        }
    }
    let mask = |set: usize| {
        let of = classes.iter().filter(|(signature, _)| signature.get(set) == Some(&true));
        // More classes than bits are refused by whoever asked.
        of.fold(0_u64, |mask, (_, at)| mask | 1_u64.checked_shl(u32::try_from(*at).unwrap_or(u32::MAX)).unwrap_or(0))
    };
    let masks: Vec<u64> = (0..sets.len()).map(mask).collect();
    sets.into_iter().zip(masks).collect()
}

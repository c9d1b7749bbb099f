//! What becomes of one packet by these rules: for tests that send it, and compare.

use super::model::{Fate, Model, ModelError, begin, distinctions};
use super::packets::{Axis, BEGINS, Distinctions, OTHER, OUTSIDE, Space, WHOLE};
use super::rules::{EPOCH, ETHER_IPV4, ETHER_IPV6, Elements, Field, Hook, Ruleset};
use std::net::IpAddr;
use std::rc::Rc;

/// A packet, as far as rules look at it. It begins a flow, and has no mark of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The type that its sender calls it: by this one rules read its headers.
    pub called: u64,
    /// The type of its frame on the wire.
    pub ether: u64,
    /// Where it goes, if that is IP.
    pub to: Option<IpAddr>,
    /// The protocol behind headers of extension.
    pub protocol: u64,
    /// Ports; 0 where its protocol has none.
    pub ports: (u64, u64),
    /// The type of ICMPv6.
    pub icmp6: u64,
    /// The hop limit.
    pub hops: u64,
    /// Is it a later fragment?
    pub later: bool,
    /// Is it a SYN without ACK?
    pub begins: bool,
    /// Does conntrack keep no flow for it? So it is with some of ICMPv6.
    pub untracked: bool,
    /// Whose socket it is from.
    pub uid: u64,
    /// Does a process write it as a frame? Then the link's chain alone meets it.
    pub frame: bool,
}

/// Does it leave by this link, and by which rule was that decided?
///
/// # Errors
/// The rules in words: they cannot be followed.
pub fn leaves(ruleset: &Ruleset, link: &str, packet: &Packet) -> Result<(bool, String), String> {
    let words = |error: ModelError| error.to_string();
    let one = |value: u64| vec![(value, value)];
    let mut known = Distinctions::default();
    distinctions(ruleset, &mut known);
    // It is a class of its own on every axis.
    match packet.to {
        Some(IpAddr::V4(to)) => known.v4.push(vec![(to.to_bits(), to.to_bits())]),
        Some(IpAddr::V6(to)) => known.v6.push(vec![(to.to_bits(), to.to_bits())]),
        None => {}
    }
    for (field, value) in [
        (Field::EtherType, packet.ether),
        (Field::L4Proto, packet.protocol),
        (Field::UdpSport, packet.ports.0),
        (Field::AnyDport, packet.ports.1),
        (Field::Icmp6Type, packet.icmp6),
        (Field::HopLimit, packet.hops),
        (Field::SocketUid, packet.uid),
    ] {
        known.spans.push((field, one(value)));
    }
    let space = Space::new(known).map_err(|_| "a field has more classes than are followed".to_owned())?;
    let to = match packet.to {
        Some(IpAddr::V4(to)) => space.to_v4(&[(to.to_bits(), to.to_bits())]),
        Some(IpAddr::V6(to)) => space.to_v6(&[(to.to_bits(), to.to_bits())]),
        None if packet.called == ETHER_IPV4 || packet.called == ETHER_IPV6 => {
            return Err("a packet of IP goes to an address".to_owned());
        }
        None => !(space.v4() | space.v6()),
    };
    let mut it = space.all().only(Axis::To, to).only(Axis::Link, OUTSIDE);
    for (axis, value) in [
        (Axis::Wire, packet.ether),
        (Axis::L4, packet.protocol),
        (Axis::Sport, packet.ports.0),
        (Axis::Dport, packet.ports.1),
        (Axis::Icmp6, packet.icmp6),
        (Axis::Hops, packet.hops),
        (Axis::Uid, packet.uid),
    ] {
        it = it.only(axis, space.within(axis, &one(value), false));
    }
    let state = if packet.untracked { 1 << 4 } else { 1 << 3 };
    it = it.only(Axis::Mark, OTHER).only(Axis::FlowMark, OTHER).only(Axis::State, state);
    it = it.only(Axis::Begin, if packet.begins { BEGINS } else { !BEGINS });
    it = it.only(Axis::Part, if packet.later { !WHOLE } else { WHOLE });
    let epoch = match ruleset.inet.sets.get(EPOCH) {
        Some(Elements::Marks(marks)) if marks.len() == 1 => marks.first().copied(),
        _ => None,
    };
    let mut here = begin([it]);
    if !packet.frame {
        let inet = Model::new(&space, &ruleset.inet, epoch).map_err(words)?;
        let outcome = inet.hook(&Hook::Output, &here).map_err(words)?;
        if let Some(refused) = outcome.refused.first().filter(|_| outcome.accepted.is_empty()) {
            return Ok((false, refused.rules()));
        }
        let sent = outcome.accepted.into_iter();
        here = sent.map(|fate| Fate { before: Some(Rc::clone(&fate.by)), ..fate }).collect();
    }
    let frames = Model::new(&space, &ruleset.links, epoch).map_err(words)?;
    let outcome = frames.hook(&Hook::Egress(Some(link.to_owned())), &here).map_err(words)?;
    // What a limit may let through does leave, at times.
    let (left, by) = match outcome.accepted.first() {
        Some(accepted) => (true, Some(accepted)),
        None => (false, outcome.refused.first()),
    };
    Ok((left, by.map_or_else(|| "no rule".to_owned(), Fate::rules)))
}

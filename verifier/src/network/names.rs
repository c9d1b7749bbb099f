//! Whether these rules let a request for names begin at all, whichever profile's they are, or nobody's.

use super::links::Links;
use super::model::{Fate, Model, begin, distinctions};
use super::packets::{Axis, Distinctions, OTHER, OUTSIDE, Packets, Space, WHOLE};
use super::profile::DNS_PORTS;
use super::promise::{ESTABLISHED, OF_A_FLOW};
use super::prove::epoch;
use super::refusal::NetworkRefusal;
use super::rules::{ETHER_IPV4, ETHER_IPV6, Field, Hook, Ruleset, TCP, UDP};
use crate::refusal::Findings;
use std::rc::Rc;

/// The packets, and the frames that a process writes itself, that would get onto a link with a request for names (TCP
/// or UDP to a port of [`DNS_PORTS`]), and the rules that let them. Those within a flow that was answered are not asked
/// about: it would have had to begin.
///
/// # Errors
/// [`NetworkRefusal::RulesetUnclear`]: these rules cannot be followed, so nothing is known.
pub fn names_that_leave(ruleset: &Ruleset, links: &Links) -> Result<Vec<NetworkRefusal>, NetworkRefusal> {
    let unclear = |reason: String| NetworkRefusal::RulesetUnclear { reason };
    let mut known = Distinctions::default();
    distinctions(ruleset, &mut known);
    known.spans.push((Field::AnyDport, DNS_PORTS.map(|it| (it, it)).to_vec()));
    let space = Space::new(known).map_err(|_| unclear("a field has more classes than are followed".to_owned()))?;
    let mark = epoch(ruleset);
    let follow = |error: super::model::ModelError| unclear(error.to_string());
    let inet = Model::new(&space, &ruleset.inet, mark).map_err(follow)?;
    let frames = Model::new(&space, &ruleset.links, mark).map_err(follow)?;

    let asks = asks(&space);
    let sent = sent_by_sockets(&space);
    let first = sent.map(|it| it.only(Axis::State, OF_A_FLOW));
    // What has no flow is in no marked one.
    let alone = sent.map(|it| it.only(Axis::State, !OF_A_FLOW).only(Axis::FlowMark, OTHER));
    let sent = inet.hook(&Hook::Output, &begin([first, alone].concat())).map_err(follow)?.accepted;
    let sent: Vec<Fate> = sent.into_iter().map(|fate| Fate { before: Some(Rc::clone(&fate.by)), ..fate }).collect();

    let mut found = Findings::default();
    for link in links.0.keys() {
        let hook = Hook::Egress(Some(link.clone()));
        for fate in frames.hook(&hook, &sent).map_err(follow)?.accepted {
            let (packet, rule) = (space.example(&fate.packets), fate.rules());
            found.add(NetworkRefusal::PacketLeaks { link: link.clone(), packet, rule });
        }
        for fate in frames.hook(&hook, &begin(asks)).map_err(follow)?.accepted {
            let (packet, rule) = (space.example(&fate.packets), fate.rules());
            found.add(NetworkRefusal::FrameLeaks { link: link.clone(), packet, rule });
        }
    }
    Ok(found.into_vec())
}

/// Every request that begins outside of loopback, of IPv4 and of IPv6 on the wire, whatever its sender calls it.
fn asks(space: &Space) -> [Packets; 4] {
    let any = space.all().only(Axis::Link, OUTSIDE).only(Axis::Mark, OTHER);
    let port = space.within(Axis::Dport, &DNS_PORTS.map(|it| (it, it)), false);
    let any = any.only(Axis::Dport, port).only(Axis::Part, WHOLE).only(Axis::State, !ESTABLISHED);
    let of = |proto, ether| {
        let l4 = space.within(Axis::L4, &[(proto, proto)], false);
        any.only(Axis::L4, l4).only(Axis::Wire, space.sent_as(ether))
    };
    [of(TCP, ETHER_IPV4), of(TCP, ETHER_IPV6), of(UDP, ETHER_IPV4), of(UDP, ETHER_IPV6)]
}

/// Those among them that the kernel makes for a socket: it calls them what they are.
fn sent_by_sockets(space: &Space) -> [Packets; 4] {
    let [tcp4, tcp6, udp4, udp6] = asks(space);
    let (v4, v6) = (space.v4(), space.v6());
    [tcp4.only(Axis::To, v4), tcp6.only(Axis::To, v6), udp4.only(Axis::To, v4), udp6.only(Axis::To, v6)]
}

//! What a profile promises, as sets of packets: taken from its page, never from rules.

use super::compose::{ND_HOPS, ND_IN, ND_OUT, special4, special6};
use super::packets::{Axis, BEGINS, Distinctions, LOOPBACK, OTHER, OURS, OUTSIDE, Packets, Space, WHOLE};
use super::profile::{DHCP_UID, DNS_PORTS, LinkNeed, Loopback, Profile};
use super::rules::{ETHER_ARP, ETHER_IPV4, ETHER_IPV6, Field, ICMPV6, Limit, Span, TCP, UDP};
use crate::service::Uids;

/// `ct state established`, as its bit: in a flow that was answered.
pub const ESTABLISHED: u64 = 1 << 1;
const RELATED: u64 = 1 << 2;
const NEW: u64 = 1 << 3;
/// The others, `invalid` and `untracked`, belong to no flow.
pub const OF_A_FLOW: u64 = ESTABLISHED | RELATED | NEW;

/// Packets that may leave.
#[derive(Debug)]
pub struct Allowed {
    /// In words.
    pub what: String,
    /// These, and no others.
    pub packets: Packets,
    /// No more often than this.
    pub limit: Option<Limit>,
    /// And of these each must: as they are when they leave.
    pub must: Packets,
}

/// A profile's promises.
#[derive(Debug)]
pub struct Promise {
    /// Packets that processes of this machine may send.
    pub packets: Vec<Allowed>,
    /// Frames that processes of this machine may write themselves.
    pub frames: Vec<Allowed>,
    /// Flows that may be marked as this profile's.
    pub flows: Vec<Packets>,
    /// What may come in.
    pub input: Vec<Packets>,
    /// Packets that ask for names: all are counted.
    pub dns: Vec<Packets>,
    /// Destinations that are public.
    pub public: u64,
    /// Connections to a port of ours on loopback, and of whom.
    pub loopback: Vec<(u16, Packets, Packets)>,
}

/// Adds what this profile tells apart.
pub fn distinctions(profile: &Profile, loopback: &Loopback, known: &mut Distinctions) {
    known.v4.push(special4());
    known.v6.push(special6());
    let mut add = |field: Field, spans: Vec<Span>| known.spans.push((field, spans));
    let one = |value: u64| vec![(value, value)];
    add(Field::EtherType, one(ETHER_ARP));
    add(Field::HopLimit, one(ND_HOPS));
    add(Field::Icmp6Type, [ND_IN, ND_OUT].concat());
    add(Field::UdpSport, one(68));
    add(Field::UdpDport, one(67));
    add(Field::AnyDport, DNS_PORTS.map(|it| (it, it)).to_vec());
    add(Field::SocketUid, one(u64::from(DHCP_UID)));
    for leave in &profile.leaves {
        add(Field::SocketUid, one(u64::from(leave.uid)));
        add(Field::TcpDport, leave.ports.spans());
    }
    for (port, uids) in &loopback.0 {
        add(Field::TcpDport, one(u64::from(*port)));
        add(Field::SocketUid, uids.iter().map(|Uids { first, last }| (u64::from(*first), u64::from(*last))).collect());
    }
}

impl Promise {
    /// Of a profile.
    pub fn of(profile: &Profile, loopback: &Loopback, space: &Space) -> Self {
        let words = Words { space, outside: space.all().only(Axis::Link, OUTSIDE) };
        let (v4, v6) = (space.v4(), space.v6());
        let public = (v4 & !space.to_v4(&special4())) | (v6 & !space.to_v6(&special6()));
        let mut promise = Self {
            packets: Vec::new(),
            frames: Vec::new(),
            flows: Vec::new(),
            input: Vec::new(),
            dns: Vec::new(),
            public,
            loopback: Vec::new(),
        };
        for leave in &profile.leaves {
            let ports = space.within(Axis::Dport, &leave.ports.spans(), false);
            let uid = space.within(Axis::Uid, &[(u64::from(leave.uid), u64::from(leave.uid))], false);
            let flow = (words.of(TCP, public)).only(Axis::Dport, ports).only(Axis::Uid, uid).only(Axis::State, NEW);
            let flow = flow.only(Axis::Begin, BEGINS);
            promise.flows.push(flow);
            // As they leave: in a flow without its mark the next packet would be lost. A packet may be cut on its way.
            let packets = flow.only(Axis::FlowMark, OURS).set(Axis::Part, WHOLE | OTHER);
            promise.packets.push(Allowed {
                what: format!("new flows of {} to public addresses", leave.user),
                packets,
                limit: None,
                must: packets.only(Axis::Mark, OTHER),
            });
        }
        if !profile.leaves.is_empty() {
            // Every later part of a flow, a fragment too: its ports are those of the flow. Nothing that begins another.
            let tcp = space.within(Axis::L4, &[(TCP, TCP)], false);
            let later = words.outside.only(Axis::L4, tcp).only(Axis::To, v4 | v6);
            let later = later.only(Axis::State, ESTABLISHED).only(Axis::FlowMark, OURS).only(Axis::Begin, OTHER);
            let dns = space.within(Axis::Dport, &DNS_PORTS.map(|it| (it, it)), false);
            promise.packets.push(Allowed {
                what: "what follows in such a flow".to_owned(),
                packets: later,
                limit: None,
                must: later.only(Axis::Mark, OTHER).only(Axis::Dport, !dns),
            });
            let answers = words.outside.only(Axis::State, ESTABLISHED | RELATED).only(Axis::FlowMark, OURS);
            promise.input.push(answers.only(Axis::To, v4 | v6));
        }
        for need in &profile.link {
            let limit = Some(need.limit());
            match need {
                LinkNeed::Arp => {
                    let arp = words.outside.only(Axis::Wire, space.wire(ETHER_ARP));
                    let must = arp.only(Axis::Mark, OTHER);
                    promise.frames.push(Allowed { what: "ARP".to_owned(), packets: arp, limit, must });
                }
                LinkNeed::Nd => {
                    let asked = |types| {
                        words
                            .of(ICMPV6, v6)
                            .only(Axis::Icmp6, space.within(Axis::Icmp6, types, false))
                            .only(Axis::Hops, space.within(Axis::Hops, &[(ND_HOPS, ND_HOPS)], false))
                    };
                    let sent = asked(ND_OUT);
                    let written = sent.only(Axis::Wire, space.wire(ETHER_IPV6));
                    let must = written.only(Axis::Mark, OTHER).only(Axis::FlowMark, OTHER);
                    let what = || "neighbour discovery".to_owned();
                    promise.packets.push(Allowed { what: what(), packets: sent, limit, must });
                    promise.frames.push(Allowed { what: what(), packets: written, limit, must });
                    promise.input.push(asked(ND_IN));
                }
                LinkNeed::Dhcp => {
                    let uid = u64::from(DHCP_UID);
                    let dhcp = (words.of(UDP, v4 | v6))
                        .only(Axis::Sport, space.within(Axis::Sport, &[(68, 68)], false))
                        .only(Axis::Dport, space.within(Axis::Dport, &[(67, 67)], false))
                        .only(Axis::Uid, space.within(Axis::Uid, &[(uid, uid)], false));
                    promise.flows.push(dhcp);
                    // Where no flow is let out there are no marks.
                    let marked = if profile.leaves.is_empty() { OURS | OTHER } else { OURS };
                    let sent = dhcp.only(Axis::FlowMark, marked);
                    let wire = space.wire(ETHER_IPV4);
                    let must =
                        sent.only(Axis::Mark, OTHER).only(Axis::State, NEW).only(Axis::Wire, wire).only(Axis::To, v4);
                    let what = || "DHCP".to_owned();
                    promise.packets.push(Allowed { what: what(), packets: sent, limit, must });
                    let written = dhcp.only(Axis::Wire, wire);
                    let must = written.only(Axis::Mark, OTHER);
                    promise.frames.push(Allowed { what: what(), packets: written, limit, must });
                }
            }
        }
        let dns = space.within(Axis::Dport, &DNS_PORTS.map(|it| (it, it)), false);
        promise.dns = [TCP, UDP].map(|proto| words.of(proto, v4 | v6).only(Axis::Dport, dns)).to_vec();
        for port in loopback.0.keys() {
            let number = u64::from(*port);
            let to = (words.of(TCP, v4 | v6).set(Axis::Link, LOOPBACK))
                .only(Axis::Dport, space.within(Axis::Dport, &[(number, number)], false));
            let uids = space.within(Axis::Uid, &loopback.spans(*port), false);
            // All but what follows in a connection: no state makes a SYN a part of one.
            for begins in
                [to.only(Axis::State, !ESTABLISHED), to.only(Axis::State, ESTABLISHED).only(Axis::Begin, BEGINS)]
            {
                promise.loopback.push((*port, begins, begins.only(Axis::Uid, uids)));
            }
        }
        promise
    }
}

struct Words<'a> {
    space: &'a Space,
    outside: Packets,
}

impl Words<'_> {
    /// Packets of a protocol, whole, to destinations outside.
    fn of(&self, proto: u64, to: u64) -> Packets {
        let mask = self.space.within(Axis::L4, &[(proto, proto)], false);
        self.outside.only(Axis::L4, mask).only(Axis::To, to).only(Axis::Part, WHOLE)
    }
}

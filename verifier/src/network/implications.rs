//! What rules mean for a person: who may send what where, as the model has it. No prose that could differ from them.

use super::model::Fate;
use super::packets::{Axis, Packets, Space, merged};
use super::promise::ESTABLISHED;
use super::rules::{ETHER_IPV4, ETHER_IPV6, Field, Limit, Span};
use serde::Serialize;
use std::fmt::{self, Display, Formatter};

/// Somebody may send something of his own accord; what follows in a flow is not told again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sends {
    /// Users from one to another; none: anybody.
    pub users: Option<Vec<Span>>,
    /// Protocols, or types of frames.
    pub what: Vec<String>,
    /// Where to.
    pub to: To,
    /// Destination ports; none: there are none, or all.
    pub ports: Option<Vec<Span>>,
    /// Types of ICMPv6; likewise.
    pub types: Option<Vec<Span>>,
    /// How often at most, on each link: so many in so many seconds.
    pub limit: Option<(u64, u64)>,
}

/// Where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// Public addresses.
    Public,
    /// Whoever is on the link: no address decides.
    Anywhere,
    /// Some of these and others.
    Mixed,
}

impl Sends {
    /// What leaves by itself, of all that leaves.
    pub(super) fn of(left: &[Fate], space: &Space, public: u64) -> Vec<Self> {
        let mut limits: Vec<Option<Limit>> = Vec::new();
        left.iter().for_each(|fate| {
            if !limits.contains(&fate.limit) {
                limits.push(fate.limit);
            }
        });
        let mut sends = Vec::new();
        for limit in limits {
            let begins = |fate: &&Fate| fate.limit == limit && fate.packets.on(Axis::State) != ESTABLISHED;
            // Marks and parts of packets are not a person's business.
            let bare = |fate: &Fate| {
                const NOT_TOLD: [Axis; 5] = [Axis::State, Axis::FlowMark, Axis::Mark, Axis::Part, Axis::Begin];
                NOT_TOLD.iter().fold(fate.packets, |it, axis| it.set(*axis, u64::MAX))
            };
            for packets in merged(left.iter().filter(begins).map(bare)) {
                let one = Self::read(&packets, space, public, limit);
                if !sends.contains(&one) {
                    sends.push(one);
                }
            }
        }
        sends
    }

    fn read(packets: &Packets, space: &Space, public: u64, limit: Option<Limit>) -> Self {
        let to = packets.on(Axis::To);
        let ip = space.sent_as(ETHER_IPV4) | space.sent_as(ETHER_IPV6);
        let is_ip = to & !(space.v4() | space.v6()) == 0 && packets.on(Axis::Wire) & !ip == 0;
        let told = |axis| space.values(axis, packets.on(axis));
        let (field, axis) = if is_ip { (Field::L4Proto, Axis::L4) } else { (Field::EtherType, Axis::Wire) };
        let what = match told(axis) {
            Some(values) => {
                let values = values.iter().flat_map(|(first, last)| *first..=*last);
                values.map(|it| super::print::word(field, it)).collect()
            }
            None => vec![if is_ip { "any protocol" } else { "any frame" }.to_owned()],
        };
        Self {
            users: told(Axis::Uid),
            what,
            to: match to {
                to if to & !public == 0 => To::Public,
                to if to & public == 0 && is_ip => To::Mixed,
                _ => To::Anywhere,
            },
            ports: if is_ip { told(Axis::Dport) } else { None },
            types: if is_ip { told(Axis::Icmp6) } else { None },
            limit: limit.map(|it| (it.rate, it.seconds)),
        }
    }
}

impl Display for Sends {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.users {
            None => f.write_str("anybody")?,
            Some(users) => write!(f, "user {}", listed(users))?,
        }
        write!(f, ": {}", self.what.join(", "))?;
        if let Some(types) = &self.types {
            write!(f, " of type {}", listed(types))?;
        }
        f.write_str(match self.to {
            To::Public => " to public addresses",
            To::Anywhere => "",
            To::Mixed => " to other than public addresses",
        })?;
        if let Some(ports) = &self.ports {
            // Whichever is shorter: the ports, or the others.
            match others(ports) {
                but if but.len() < ports.len() => write!(f, ", every port but {}", listed(&but))?,
                _ => write!(f, ", port {}", listed(ports))?,
            }
        }
        match self.limit {
            Some((rate, 1)) => write!(f, ", at most {rate} a second"),
            Some((rate, seconds)) => write!(f, ", at most {rate} in {seconds} seconds"),
            None => Ok(()),
        }
    }
}

fn listed(spans: &[Span]) -> String {
    let one = |(first, last): &Span| if first == last { first.to_string() } else { format!("{first}-{last}") };
    spans.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The ports that are not among these.
fn others(ports: &[Span]) -> Vec<Span> {
    let mut others = Vec::new();
    let mut next = 0;
    for (first, last) in ports {
        if next < *first {
            others.push((next, first - 1));
        }
        next = last + 1;
    }
    if next <= Field::AnyDport.max() {
        others.push((next, Field::AnyDport.max()));
    }
    others
}

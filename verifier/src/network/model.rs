//! What the kernel does with packets by these rules: every packet at once, in classes.

use super::packets::{Axis, BEGINS, Distinctions, LOOPBACK, OTHER, OURS, OUTSIDE, Packets, Space, WHOLE, subtract};
use super::promise::OF_A_FLOW;
use super::rules::{Act, Chain, Condition, EPOCH, EPOCH_NOW, Elements, Field, Hook, ICMPV6, Limit};
use super::rules::{Rule, Ruleset, TCP, Table, UDP, With};
use std::rc::Rc;

/// Chains that go to chains: ours go two deep.
const DEPTH_MAX: usize = 8;
/// How often a part of the packets meets a rule at one hook: with ours some hundred times, and a proof ends by this.
const STEPS_MAX: usize = 20_000;

/// Why the rules cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// A chain, set, map or counter is named that is not there, or of another kind.
    #[error("chain {chain}, `{rule}`: there is no {what} of this name")]
    Absent {
        /// In which chain.
        chain: String,
        /// The rule.
        rule: String,
        /// What is not there.
        what: &'static str,
    },
    /// A chain goes to a hook, to itself, or too deep.
    #[error("chain {0} goes to chains without end")]
    Endless(String),
    /// Rules that do not mean the same to every reader.
    #[error("chain {chain}: {what}")]
    Shape {
        /// Which chain.
        chain: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The mark of flows is not one mark, the same everywhere.
    #[error("the set or map `{0}` does not hold one and the same mark, which is not 0")]
    Marks(String),
    /// More than is followed.
    #[error("the rules cut packets into more parts than are followed")]
    TooMany,
}

/// What became of packets, and by which rule.
#[derive(Debug, Clone)]
pub struct Fate {
    /// As they are afterwards.
    pub packets: Packets,
    /// `chain NAME, RULE`; or the chain's policy.
    pub by: Rc<str>,
    /// The rule that let them through the hook before this one.
    pub before: Option<Rc<str>>,
    /// The strictest limit on the way.
    pub limit: Option<Limit>,
    /// Counters that counted them.
    pub counted: Vec<Rc<str>>,
}

impl Fate {
    /// The rules, in words.
    pub fn rules(&self) -> String {
        match &self.before {
            Some(before) => format!("{before}, then {}", self.by),
            None => self.by.to_string(),
        }
    }
}

/// What a hook does.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Goes on.
    pub accepted: Vec<Fate>,
    /// Ends here.
    pub refused: Vec<Fate>,
    /// Flows that were marked as ours, as their packets were then.
    pub marked: Vec<Fate>,
    /// Parts that met a rule so far.
    steps: usize,
}

/// Adds what these rules tell apart.
pub fn distinctions(ruleset: &Ruleset, known: &mut Distinctions) {
    for table in [&ruleset.inet, &ruleset.links] {
        for elements in table.sets.values() {
            match elements {
                Elements::V4(spans) => known.v4.push(spans.clone()),
                Elements::V6(spans) => known.v6.push(spans.clone()),
                Elements::Marks(_) => {}
            }
        }
        for proto in table.maps.values().flat_map(|map| map.keys()) {
            known.spans.push((Field::L4Proto, vec![(*proto, *proto)]));
        }
        for condition in table.chains.iter().flat_map(|it| &it.rules).flat_map(|it| &it.conditions) {
            if let With::Values(spans) = &condition.with {
                known.spans.push((condition.field, spans.clone()));
            }
        }
    }
    known.spans.push((Field::L4Proto, [TCP, UDP, ICMPV6].map(|it| (it, it)).to_vec()));
}

/// A table whose rules can be followed.
#[derive(Debug)]
pub struct Model<'a> {
    space: &'a Space,
    table: &'a Table,
}

impl<'a> Model<'a> {
    /// Of a table.
    ///
    /// # Errors
    /// [`ModelError::Marks`]: `epoch` is what flows of this profile are marked with, and all of it.
    pub fn new(space: &'a Space, table: &'a Table, epoch: Option<u32>) -> Result<Self, ModelError> {
        for (name, elements) in &table.sets {
            if let Elements::Marks(marks) = elements
                && (name != EPOCH || epoch.is_none() || marks.as_slice() != epoch.as_slice())
            {
                return Err(ModelError::Marks(name.clone()));
            }
        }
        for (name, pairs) in &table.maps {
            if name != EPOCH_NOW || epoch.is_none() || pairs.values().any(|mark| Some(*mark) != epoch) {
                return Err(ModelError::Marks(name.clone()));
            }
        }
        Ok(Self { space, table })
    }

    /// What becomes of these packets in a chain and those that it goes to.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn run(&self, chain: &Chain, packets: &[Fate]) -> Result<Outcome, ModelError> {
        let mut outcome = Outcome::default();
        let left = self.through(chain, packets.to_vec(), &mut outcome, 0)?;
        let drops = chain.base.as_ref().is_some_and(|base| base.drops);
        let by: Rc<str> = format!("chain {}, policy {}", chain.name, if drops { "drop" } else { "accept" }).into();
        let end = if drops { &mut outcome.refused } else { &mut outcome.accepted };
        end.extend(left.into_iter().map(|fate| Fate { by: Rc::clone(&by), ..fate }));
        Ok(outcome)
    }

    /// Hands back what no rule decided. A chain that was gone to does not come back: what it leaves, the policy decides.
    fn through(
        &self,
        chain: &Chain,
        mut here: Vec<Fate>,
        outcome: &mut Outcome,
        depth: usize,
    ) -> Result<Vec<Fate>, ModelError> {
        if depth > DEPTH_MAX {
            return Err(ModelError::Endless(chain.name.clone()));
        }
        let mut ends = Vec::new();
        for rule in &chain.rules {
            let by: Rc<str> = format!("chain {}, `{rule}`", chain.name).into();
            let absent = |what| ModelError::Absent { chain: chain.name.clone(), rule: rule.to_string(), what };
            let matched = self.matched(rule).map_err(absent)?;
            let mut next = Vec::new();
            for fate in here {
                outcome.steps += 1;
                if outcome.steps > STEPS_MAX {
                    return Err(ModelError::TooMany);
                }
                let packets = fate.packets.and(&matched);
                if packets.is_empty() {
                    next.push(fate);
                    continue;
                }
                let mut inside = Fate { packets, by: Rc::clone(&by), ..fate.clone() };
                next.extend(fate.packets.without(&matched).into_iter().map(|packets| Fate { packets, ..fate.clone() }));
                let mut goes_on = true;
                for act in &rule.acts {
                    match act {
                        // Whoever is over it goes on as if the rule were not there.
                        Act::Limit(limit) => {
                            next.push(fate_of(&fate, inside.packets));
                            inside.limit = Some(inside.limit.filter(|known| known.within(*limit)).unwrap_or(*limit));
                        }
                        Act::MarkFlow(_) => {
                            outcome.marked.push(inside.clone());
                            inside.packets = inside.packets.set(Axis::FlowMark, OURS);
                        }
                        Act::MarkPacket(_) => inside.packets = inside.packets.set(Axis::Mark, OURS),
                        Act::ClearMark => inside.packets = inside.packets.set(Axis::Mark, OTHER),
                        Act::Count(name) => {
                            if !self.table.counters.contains_key(name) {
                                return Err(absent("counter"));
                            }
                            inside.counted.push(name.as_str().into());
                        }
                        Act::Accept => outcome.accepted.push(inside.clone()),
                        Act::Drop | Act::Reject => outcome.refused.push(inside.clone()),
                        Act::Goto(name) => {
                            let to =
                                self.table.chain(name).filter(|to| to.base.is_none()).ok_or_else(|| absent("chain"))?;
                            ends.extend(self.through(to, vec![inside.clone()], outcome, depth + 1)?);
                        }
                    }
                    goes_on &= !act.is_verdict();
                }
                if goes_on {
                    next.push(inside);
                }
            }
            here = next;
        }
        here.extend(ends);
        Ok(here)
    }

    /// The packets of which all conditions hold; or what is not there.
    fn matched(&self, rule: &Rule) -> Result<Packets, &'static str> {
        let mut packets = self.space.all();
        for condition in &rule.conditions {
            packets = self.holds(condition, packets)?;
        }
        for act in &rule.acts {
            match act {
                Act::MarkFlow(map) | Act::MarkPacket(map) => {
                    let pairs = self.table.maps.get(map).ok_or("map")?;
                    let protocols: Vec<_> = pairs.keys().map(|proto| (*proto, *proto)).collect();
                    let mask = self.space.within(Axis::L4, &protocols, false);
                    packets = packets.only(Axis::L4, mask).only(Axis::To, self.ip());
                }
                _ => {}
            }
        }
        Ok(packets)
    }

    fn ip(&self) -> u64 {
        self.space.v4() | self.space.v6()
    }

    /// Of a protocol whose header is there.
    fn transport(&self, packets: Packets, proto: u64) -> Packets {
        let mask = self.space.within(Axis::L4, &[(proto, proto)], false);
        packets.only(Axis::L4, mask).only(Axis::To, self.ip()).only(Axis::Part, WHOLE)
    }

    fn holds(&self, condition: &Condition, packets: Packets) -> Result<Packets, &'static str> {
        let Condition { field, not, with } = condition;
        let turned = |mask: u64, of: u64| if *not { of & !mask } else { mask };
        let values = match with {
            With::Values(spans) => spans.as_slice(),
            _ => &[],
        };
        let number = |axis| self.space.within(axis, values, *not);
        Ok(match (field, with) {
            (Field::InLink | Field::OutLink, With::Link(name)) if name == "lo" => {
                packets.only(Axis::Link, turned(LOOPBACK, LOOPBACK | OUTSIDE))
            }
            // A packet whose protocol cannot be told is neither one nor another.
            (Field::L4Proto, With::Values(_)) if !not => {
                packets.only(Axis::L4, number(Axis::L4)).only(Axis::To, self.ip())
            }
            (Field::SocketUid, With::Values(_)) => packets.only(Axis::Uid, number(Axis::Uid)),
            (Field::Mark, With::Set(name)) => packets.only(Axis::Mark, turned(self.marks(name)?, OURS | OTHER)),
            (Field::CtMark, With::Set(name)) => {
                // Without a flow there is nothing to compare.
                packets.only(Axis::FlowMark, turned(self.marks(name)?, OURS | OTHER)).only(Axis::State, OF_A_FLOW)
            }
            // nft compares for equality, and a list is several bits: never equal to one.
            (Field::CtState, With::Values(spans)) if !not || spans.len() == 1 => {
                let mask = spans.iter().fold(0_u64, |mask, (state, _)| mask | 1 << state);
                packets.only(Axis::State, turned(mask, 0b11111))
            }
            (Field::EtherType, With::Values(spans)) => {
                // A frame without an Ethernet header is neither of a type nor of another.
                packets.only(Axis::Wire, self.space.within(Axis::Wire, spans, *not))
            }
            (Field::Destination4, With::Set(name)) => {
                let Some(Elements::V4(spans)) = self.table.sets.get(name) else { return Err("set") };
                packets.only(Axis::To, turned(self.space.to_v4(spans), self.space.v4()))
            }
            (Field::Destination6, With::Set(name)) => {
                let Some(Elements::V6(spans)) = self.table.sets.get(name) else { return Err("set") };
                packets.only(Axis::To, turned(self.space.to_v6(spans), self.space.v6()))
            }
            (Field::HopLimit, With::Values(_)) => {
                packets.only(Axis::Hops, number(Axis::Hops)).only(Axis::To, self.space.v6())
            }
            (Field::Icmp6Type, With::Values(_)) => {
                let packets = self.transport(packets, ICMPV6).only(Axis::To, self.space.v6());
                packets.only(Axis::Icmp6, number(Axis::Icmp6))
            }
            (Field::AnyDport, With::Values(_)) => {
                packets.only(Axis::Dport, number(Axis::Dport)).only(Axis::To, self.ip()).only(Axis::Part, WHOLE)
            }
            (Field::TcpDport, With::Values(_)) => self.transport(packets, TCP).only(Axis::Dport, number(Axis::Dport)),
            (Field::TcpFlags, With::Begin) => {
                self.transport(packets, TCP).only(Axis::Begin, turned(BEGINS, BEGINS | OTHER))
            }
            (Field::UdpDport, With::Values(_)) => self.transport(packets, UDP).only(Axis::Dport, number(Axis::Dport)),
            (Field::UdpSport, With::Values(_)) => self.transport(packets, UDP).only(Axis::Sport, number(Axis::Sport)),
            _ => return Err("such comparison, or set"),
        })
    }

    fn marks(&self, name: &str) -> Result<u64, &'static str> {
        match self.table.sets.get(name) {
            Some(Elements::Marks(_)) => Ok(OURS),
            _ => Err("set"),
        }
    }

    /// The chains that the kernel enters at a hook.
    pub fn entered(&self, hook: &Hook) -> Vec<&'a Chain> {
        let at = |chain: &&Chain| chain.base.as_ref().is_some_and(|base| base.hook == *hook);
        self.table.chains.iter().filter(at).collect()
    }

    /// What becomes of packets at a hook: all its chains must let them through, one after the other.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn hook(&self, hook: &Hook, packets: &[Fate]) -> Result<Outcome, ModelError> {
        let mut outcome = Outcome { accepted: packets.to_vec(), ..Outcome::default() };
        for chain in self.entered(hook) {
            let next = self.run(chain, &outcome.accepted)?;
            outcome.accepted = next.accepted;
            outcome.refused.extend(next.refused);
            outcome.marked.extend(next.marked);
            outcome.steps += next.steps;
        }
        Ok(outcome)
    }
}

fn fate_of(fate: &Fate, packets: Packets) -> Fate {
    Fate { packets, ..fate.clone() }
}

/// Packets of which nothing is decided yet.
pub fn begin(packets: impl IntoIterator<Item = Packets>) -> Vec<Fate> {
    let by: Rc<str> = "no chain at all".into();
    let fates = packets.into_iter().filter(|it| !it.is_empty());
    fates.map(|packets| Fate { packets, by: Rc::clone(&by), before: None, limit: None, counted: Vec::new() }).collect()
}

/// What is left of these once those are taken out.
pub fn beyond(fate: &Fate, allowed: impl IntoIterator<Item = Packets>) -> Option<Packets> {
    subtract(&[fate.packets], allowed).first().copied()
}

//! Proves that rules are what a profile promises, or names the packet and the rule.
//!
//! Every packet there can be is followed, in as many classes as the rules and the promise tell apart: none is left out,
//! none is a sample. What is proven holds for rules in the kernel as nft lists them, a kernel that does what nft's
//! manual says, and a mark that nobody guesses (32 random bits; setting one needs CAP_NET_ADMIN or CAP_NET_RAW).

use super::compose::link_chain;
use super::compose::{DNS_REFUSED, FORWARD_REFUSED, FRAMES_REFUSED, INPUT_REFUSED, LOOPBACK_REFUSED, REFUSED};
use super::implications::Sends;
use super::links::Links;
use super::model::{Fate, Model, ModelError, Outcome, begin, beyond, distinctions};
use super::packets::{Axis, Distinctions, LOOPBACK, OTHER, OURS, OUTSIDE, Packets, Space, WHOLE, subtract};
use super::profile::{Loopback, Profile};
use super::promise::{self, Allowed, Promise};
use super::refusal::NetworkRefusal;
use super::rules::{Chain, EPOCH, ETHER_IPV4, ETHER_IPV6, Elements, Field, Hook, Rule, Ruleset, Table};
use crate::refusal::Findings;
use std::rc::Rc;

/// What a proof says of rules that hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// Links with their chains.
    pub links: Vec<String>,
    /// Parts into which the rules cut all packets: each was looked at.
    pub parts: usize,
    /// Who may send what where, of their own accord: as the rules have it, on every link.
    pub sends: Vec<Sends>,
}

/// Proves it.
///
/// # Errors
/// Every [`NetworkRefusal`] that is found.
pub fn prove(
    ruleset: &Ruleset,
    links: &Links,
    profile: &Profile,
    loopback: &Loopback,
) -> Result<Proven, Vec<NetworkRefusal>> {
    let mut known = Distinctions::default();
    distinctions(ruleset, &mut known);
    promise::distinctions(profile, loopback, &mut known);
    let unclear = |reason: String| vec![NetworkRefusal::RulesetUnclear { reason }];
    let space = Space::new(known).map_err(|_| unclear("a field has more classes than are followed".to_owned()))?;
    let promise = Promise::of(profile, loopback, &space);
    let mut prover =
        Prover { space: &space, promise: &promise, findings: Findings::default(), parts: 0, sends: Vec::new() };
    match prover.all(ruleset, links) {
        Err(error) => Err(unclear(error.to_string())),
        Ok(()) => match prover.findings.into_vec() {
            refusals if refusals.is_empty() => {
                let links = links.0.keys().cloned().collect();
                Ok(Proven { links, parts: prover.parts, sends: prover.sends })
            }
            refusals => Err(refusals),
        },
    }
}

/// What makes the order and the meaning of rules the same for whoever reads them.
fn shape(table: &Table) -> Result<(), ModelError> {
    let mut hooks = Vec::new();
    for chain in &table.chains {
        let wrong = |what| Err(ModelError::Shape { chain: chain.name.clone(), what });
        let hook = chain.base.as_ref().map(|base| &base.hook);
        if chain.base.as_ref().is_some_and(|base| !base.drops) {
            return wrong("what no rule decides is accepted");
        }
        // Which of two comes first, the kernel and a listing do not agree on.
        if hook.is_some_and(|hook| hooks.contains(&hook) && *hook != Hook::Egress(None)) {
            return wrong("its hook has another chain already");
        }
        if let Some(Hook::Egress(Some(link))) = hook
            && chain.name != link_chain(link)
        {
            return wrong("its name is not that of the link it guards");
        }
        hooks.extend(hook);
        for condition in chain.rules.iter().flat_map(|rule| &rule.conditions) {
            let only_at = match condition.field {
                Field::InLink => &Hook::Input,
                Field::OutLink => &Hook::Output,
                _ => continue,
            };
            if hook != Some(only_at) {
                return wrong("it asks for a link that is not known there");
            }
        }
    }
    Ok(())
}

/// The mark of flows, where it is one.
pub(super) fn epoch(ruleset: &Ruleset) -> Option<u32> {
    match ruleset.inet.sets.get(EPOCH) {
        Some(Elements::Marks(marks)) if marks.len() == 1 => marks.first().copied().filter(|mark| *mark != 0),
        _ => None,
    }
}

struct Prover<'a> {
    space: &'a Space,
    promise: &'a Promise,
    findings: Findings<NetworkRefusal>,
    parts: usize,
    sends: Vec<Sends>,
}

impl Prover<'_> {
    fn all(&mut self, ruleset: &Ruleset, links: &Links) -> Result<(), ModelError> {
        let epoch = epoch(ruleset);
        let inet = Model::new(self.space, &ruleset.inet, epoch)?;
        let frames = Model::new(self.space, &ruleset.links, epoch)?;
        shape(&ruleset.inet)?;
        shape(&ruleset.links)?;
        let sent = self.sent(&inet)?;
        let mut proven: Vec<(&[Rule], bool)> = Vec::new();
        for link in links.0.keys() {
            let guards = frames.entered(&Hook::Egress(Some(link.clone())));
            let Some(first) = guards.first() else {
                self.findings.add(NetworkRefusal::LinkUnguarded { link: link.clone() });
                continue;
            };
            // Links have equal chains: one proof is enough for all that are.
            let drops = first.base.as_ref().is_some_and(|base| base.drops);
            let alone = guards.len() == 1;
            if alone && proven.contains(&(first.rules.as_slice(), drops)) {
                continue;
            }
            if alone {
                proven.push((first.rules.as_slice(), drops));
            }
            self.leaving(&frames, link, &sent)?;
        }
        let guards = |chain: &Chain| match chain.base.as_ref().map(|base| &base.hook) {
            Some(Hook::Egress(Some(link))) => links.0.contains_key(link),
            Some(_) => false,
            None => true,
        };
        for chain in ruleset.links.chains.iter().filter(|chain| !guards(chain)) {
            self.findings.add(NetworkRefusal::EgressChainWithoutLink { chain: chain.name.clone() });
        }
        self.passing(&inet)?;
        self.arriving(&inet)?;
        self.on_loopback(&inet)
    }

    /// What processes may send: no mark yet; and what has no flow is in no marked one. A flow that nobody has answered
    /// yet is still new, and may be marked.
    fn first(&self, link: u64) -> Vec<Packets> {
        let any = self.space.all().only(Axis::Link, link).only(Axis::Mark, OTHER);
        let flows = promise::OF_A_FLOW;
        let of_kernel = self.of_kernel().into_iter().map(|kind| kind.and(&any));
        of_kernel
            .flat_map(|ip| [ip.only(Axis::State, flows), ip.only(Axis::State, !flows).only(Axis::FlowMark, OTHER)])
            .collect()
    }

    /// Packets whose frames the kernel writes: their type on the wire is what they are.
    fn of_kernel(&self) -> [Packets; 2] {
        let space = self.space;
        [(space.v4(), ETHER_IPV4), (space.v6(), ETHER_IPV6)]
            .map(|(to, ether)| space.all().only(Axis::To, to).only(Axis::Wire, space.sent_as(ether)))
    }

    /// Looks at what holds at every hook: what is marked, and that what is refused is counted as what it is. Of
    /// requests for names, `dns` alone counts them, and nothing else; all others are counted by `other` alone.
    fn follow(&mut self, outcome: Outcome, dns: Option<&str>, other: &str) -> Outcome {
        self.parts += outcome.accepted.len() + outcome.refused.len();
        let flows = self.promise.flows.clone();
        for fate in &outcome.marked {
            if let Some((packet, rule)) = self.more(fate, &flows) {
                self.findings.add(NetworkRefusal::FlowMarked { packet, rule });
            }
        }
        let dns_packets = if dns.is_some() { self.promise.dns.as_slice() } else { &[] };
        let mut wrong = Vec::new();
        for fate in &outcome.refused {
            let asks = dns_packets.iter().map(|it| it.and(&fate.packets)).find(|it| !it.is_empty());
            wrong.extend(
                match (fate.counted.as_slice(), dns) {
                    ([one], Some(dns)) if **one == *dns => beyond(fate, dns_packets.iter().copied()),
                    ([one], _) if **one == *other => asks,
                    _ => Some(fate.packets),
                }
                .map(|packets| (packets, fate)),
            );
        }
        // What goes on was refused nowhere.
        wrong.extend(outcome.accepted.iter().filter(|fate| !fate.counted.is_empty()).map(|fate| (fate.packets, fate)));
        for (packets, fate) in wrong {
            let (packet, rule) = (self.space.example(&packets), fate.rules());
            self.findings.add(NetworkRefusal::NotCounted { packet, rule });
        }
        outcome
    }

    fn more(&self, fate: &Fate, allowed: &[Packets]) -> Option<(String, String)> {
        beyond(fate, allowed.iter().copied()).map(|it| (self.space.example(&it), fate.rules()))
    }

    /// Who receives packets or watches frames sees their marks after these hooks.
    fn unmarked(&mut self, outcome: &Outcome) {
        for fate in &outcome.accepted {
            let shown = fate.packets.only(Axis::Mark, OURS);
            if !shown.is_empty() {
                let (packet, rule) = (self.space.example(&shown), fate.rules());
                self.findings.add(NetworkRefusal::MarkShown { packet, rule });
            }
        }
    }

    fn passing(&mut self, inet: &Model<'_>) -> Result<(), ModelError> {
        let packets = self.first(LOOPBACK | OUTSIDE);
        let outcome = inet.hook(&Hook::Forward, &begin(packets))?;
        let outcome = self.follow(outcome, None, FORWARD_REFUSED);
        for fate in &outcome.accepted {
            if let Some((packet, rule)) = self.more(fate, &[]) {
                self.findings.add(NetworkRefusal::PacketForwarded { packet, rule });
            }
        }
        Ok(())
    }

    fn arriving(&mut self, inet: &Model<'_>) -> Result<(), ModelError> {
        let packets = self.first(OUTSIDE);
        let outcome = inet.hook(&Hook::Input, &begin(packets.clone()))?;
        let outcome = self.follow(outcome, None, INPUT_REFUSED);
        self.unmarked(&outcome);
        for fate in &outcome.accepted {
            if let Some((packet, rule)) = self.more(fate, &self.promise.input) {
                self.findings.add(NetworkRefusal::PacketAdmitted { packet, rule });
            }
        }
        for wanted in &self.promise.input {
            for packets in &packets {
                self.wanted(&packets.and(wanted), &outcome, "the answers that belong to it", "any link");
            }
        }
        let packets = self.first(LOOPBACK);
        let inside = inet.hook(&Hook::Input, &begin(packets))?;
        let inside = self.follow(inside, None, INPUT_REFUSED);
        self.unmarked(&inside);
        self.open(&inside);
        Ok(())
    }

    fn open(&mut self, outcome: &Outcome) {
        for fate in &outcome.refused {
            let (packet, rule) = (self.space.example(&fate.packets), fate.rules());
            self.findings.add(NetworkRefusal::LoopbackShut { packet, rule });
        }
    }

    fn on_loopback(&mut self, inet: &Model<'_>) -> Result<(), ModelError> {
        let outcome = inet.hook(&Hook::Output, &begin(self.first(LOOPBACK)))?;
        let outcome = self.follow(outcome, None, LOOPBACK_REFUSED);
        self.unmarked(&outcome);
        for (port, to, allowed) in &self.promise.loopback {
            for fate in &outcome.accepted {
                let inside = Fate { packets: fate.packets.and(to), ..fate.clone() };
                if let Some((packet, rule)) = self.more(&inside, &[*allowed]) {
                    self.findings.add(NetworkRefusal::LoopbackOpen { port: *port, packet, rule });
                }
            }
        }
        // Nothing else is refused there.
        let guarded: Vec<Packets> = self.promise.loopback.iter().map(|(_, to, _)| *to).collect();
        let allowed: Vec<Packets> = self.promise.loopback.iter().map(|(.., allowed)| *allowed).collect();
        for fate in &outcome.refused {
            let mut wrong = subtract(&[fate.packets], guarded.iter().copied());
            wrong.extend(allowed.iter().map(|it| it.and(&fate.packets)).filter(|it| !it.is_empty()));
            if let Some(packets) = wrong.first() {
                let (packet, rule) = (self.space.example(packets), fate.rules());
                self.findings.add(NetworkRefusal::LoopbackShut { packet, rule });
            }
        }
        Ok(())
    }

    fn sent(&mut self, inet: &Model<'_>) -> Result<Vec<Fate>, ModelError> {
        let outcome = inet.hook(&Hook::Output, &begin(self.first(OUTSIDE)))?;
        let accepted = self.follow(outcome, Some(DNS_REFUSED), REFUSED).accepted;
        // Each table keeps the promise alone: the chains of links are no excuse for this one.
        let allowed: Vec<Packets> = self.promise.packets.iter().map(|it| it.packets).collect();
        for fate in &accepted {
            if let Some((packet, rule)) = self.more(fate, &allowed) {
                let link = "any link".to_owned();
                self.findings.add(NetworkRefusal::PacketLeaks { link, packet, rule });
            }
        }
        // What is too large for a link is cut before it gets there.
        let cut = |packets: Packets| match packets.on(Axis::Part) & WHOLE {
            0 => packets,
            _ => packets.set(Axis::Part, WHOLE | OTHER),
        };
        let go_on = |fate: Fate| Fate {
            packets: cut(fate.packets),
            before: Some(Rc::clone(&fate.by)),
            counted: Vec::new(),
            ..fate
        };
        Ok(accepted.into_iter().map(go_on).collect())
    }

    fn leaving(&mut self, frames: &Model<'_>, link: &str, sent: &[Fate]) -> Result<(), ModelError> {
        let hook = Hook::Egress(Some(link.to_owned()));
        let promise = self.promise;
        // What was let out as a packet keeps that rule's name where the chain of the link adds nothing.
        let outcome = frames.hook(&hook, sent)?;
        let outcome = self.follow(outcome, None, FRAMES_REFUSED);
        self.unmarked(&outcome);
        self.compare(&outcome, &promise.packets, &self.of_kernel(), link, |link, packet, rule| {
            NetworkRefusal::PacketLeaks { link, packet, rule }
        });
        let mut left = outcome.accepted;
        let written = self.space.all().only(Axis::Link, OUTSIDE).only(Axis::Mark, OTHER);
        let outcome = frames.hook(&hook, &begin([written]))?;
        let outcome = self.follow(outcome, None, FRAMES_REFUSED);
        self.unmarked(&outcome);
        self.compare(&outcome, &promise.frames, &[written], link, |link, packet, rule| NetworkRefusal::FrameLeaks {
            link,
            packet,
            rule,
        });
        left.extend(outcome.accepted);
        for sends in Sends::of(&left, self.space, promise.public) {
            if !self.sends.contains(&sends) {
                self.sends.push(sends);
            }
        }
        Ok(())
    }

    fn compare(
        &mut self,
        outcome: &Outcome,
        allowed: &[Allowed],
        sent: &[Packets],
        link: &str,
        leak: impl Fn(String, String, String) -> NetworkRefusal,
    ) {
        let all: Vec<Packets> = allowed.iter().map(|it| it.packets).collect();
        for fate in &outcome.accepted {
            if let Some((packet, rule)) = self.more(fate, &all) {
                self.findings.add(leak(link.to_owned(), packet, rule));
                continue;
            }
            // Each part must be within the limit of something that allows it.
            let within = allowed.iter().filter(|it| match (it.limit, fate.limit) {
                (None, _) => true,
                (Some(most), Some(has)) => has.within(most),
                (Some(_), None) => false,
            });
            let within: Vec<Packets> = within.map(|it| it.packets).collect();
            if let Some((packet, rule)) = self.more(fate, &within) {
                self.findings.add(NetworkRefusal::TooOften { link: link.to_owned(), packet, rule });
            }
        }
        // Limits of several rules add up.
        for limited in allowed.iter().filter(|it| it.limit.is_some()) {
            let mut rules: Vec<&Fate> = Vec::new();
            for fate in outcome.accepted.iter().filter(|it| !it.packets.and(&limited.packets).is_empty()) {
                if fate.limit.is_some() && !rules.iter().any(|known| Rc::ptr_eq(&known.by, &fate.by)) {
                    rules.push(fate);
                }
            }
            if let [_, another, ..] = rules.as_slice() {
                let (packet, rule) = (self.space.example(&another.packets.and(&limited.packets)), another.rules());
                self.findings.add(NetworkRefusal::TooOften { link: link.to_owned(), packet, rule });
            }
        }
        for (wanted, sent) in allowed.iter().flat_map(|wanted| sent.iter().map(move |sent| (wanted, sent))) {
            self.wanted(&wanted.must.and(sent), outcome, &wanted.what, link);
        }
    }

    /// All of this is let through.
    fn wanted(&mut self, packets: &Packets, outcome: &Outcome, what: &str, link: &str) {
        if packets.is_empty() {
            return;
        }
        let left = subtract(&[*packets], outcome.accepted.iter().map(|it| it.packets));
        if let Some(missing) = left.first() {
            let refused = outcome.refused.iter().find(|fate| {
                // Marks may be what is missing: the rest tells which packets.
                let marks = OURS | OTHER;
                let alike = missing.set(Axis::Mark, marks).set(Axis::FlowMark, marks);
                !fate.packets.and(&alike).is_empty()
            });
            self.findings.add(NetworkRefusal::NotLetOut {
                link: link.to_owned(),
                what: what.to_owned(),
                packet: self.space.example(missing),
                rule: refused.map_or_else(|| "an earlier chain".to_owned(), Fate::rules),
            });
        }
    }
}

//! A change on a machine that fails, or stops, at each of its steps.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic, as tests may")]

use secai_profiles::config::Policy;
use secai_profiles::decide::{Step, loosens, steps};
use secai_profiles::switch::{Machine, NoRules, UnderWay, close, run};
use secai_verifier::network::profile::{Profile, STRICTEST};
use std::collections::BTreeSet;
use std::path::Path;

/// What goes wrong, at which step of the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// From this act on nothing becomes of rules, and nobody says which hold.
    Silent(usize),
    Nothing,
    /// This step fails, as often as it is tried.
    Step(usize),
    /// This step fails, and everything after it.
    From(usize),
    /// The power goes before this step.
    Power(usize),
    /// The disk is full.
    Disk,
}

#[derive(Clone)]
struct Fake {
    fault: Fault,
    failing: Option<Step>,
    at: usize,
    rules: String,
    running: BTreeSet<String>,
    note: Option<UnderWay>,
    /// Each act, with what stood in the note.
    acts: Vec<(Step, Option<UnderWay>)>,
}

const POWER: &str = "the power has gone";

impl Fake {
    fn new(from: &Profile, to: &Profile, fault: Fault) -> Self {
        let failing = match fault {
            Fault::Step(at) => steps(from, to).get(at).cloned(),
            _ => None,
        };
        let (rules, running) = (from.name.clone(), from.units.on.clone());
        Self { fault, failing, at: 0, rules, running, note: None, acts: Vec::new() }
    }

    fn act(&mut self, step: Step, done: impl FnOnce(&mut Self)) -> Result<(), NoRules> {
        let at = self.at;
        self.at += 1;
        if self.fault == Fault::Power(at) {
            std::panic::panic_any(POWER);
        }
        self.acts.push((step.clone(), self.note.clone()));
        let fails = self.failing.as_ref() == Some(&step) || matches!(self.fault, Fault::From(first) if at >= first);
        if matches!((self.fault, &step), (Fault::Silent(first), Step::Rules(_)) if at >= first) {
            return Err(NoRules::Unknown("no answer".into()));
        }
        if fails {
            // The firewall's own promise: then the strictest rules hold, or none at all.
            if matches!(step, Step::Rules(_)) {
                self.rules = STRICTEST.into();
            }
            return Err(NoRules::Stricter("broken".into()));
        }
        done(self);
        Ok(())
    }
}

impl Machine for Fake {
    fn rules(&mut self, profile: &str) -> Result<(), NoRules> {
        self.act(Step::Rules(profile.into()), |it| it.rules = profile.into())
    }

    fn stop(&mut self, unit: &str) -> Result<(), String> {
        self.act(Step::Stop(unit.into()), |it| {
            it.running.remove(unit);
        })
        .map_err(|why| why.to_string())
    }

    fn start(&mut self, unit: &str) -> Result<(), String> {
        self.act(Step::Start(unit.into()), |it| {
            it.running.insert(unit.into());
        })
        .map_err(|why| why.to_string())
    }

    fn remember(&mut self, under_way: Option<&UnderWay>) -> Result<(), String> {
        match (self.fault, under_way) {
            (Fault::Disk, Some(_)) => Err("the disk is full".into()),
            (_, under_way) => {
                self.note = under_way.cloned();
                Ok(())
            }
        }
    }
}

fn pages() -> Vec<Profile> {
    let policy = Policy::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/policy"))).unwrap();
    policy.iter().map(|meant| meant.page.clone()).collect()
}

fn each(mut act: impl FnMut(&Profile, &Profile, &Profile)) {
    let pages = pages();
    let strictest = pages.iter().find(|page| page.name == STRICTEST).unwrap();
    for from in &pages {
        for to in &pages {
            act(from, to, strictest);
        }
    }
}

#[test]
fn nothing_fails_and_the_note_names_each_step_as_it_begins() {
    each(|from, to, strictest| {
        let mut fake = Fake::new(from, to, Fault::Nothing);
        let ended = run(&mut fake, from, to, strictest);
        assert_eq!((ended.holds.as_str(), &ended.failed), (to.name.as_str(), &None));
        assert_eq!((&fake.rules, &fake.running, &fake.note), (&to.name, &to.units.on, &None));
        let expected: Vec<_> = steps(from, to)
            .into_iter()
            .map(|step| {
                let note = UnderWay { from: from.name.clone(), step: step.to_string(), to: to.name.clone() };
                (step, Some(note))
            })
            .collect();
        assert_eq!(fake.acts, expected, "{} -> {}", from.name, to.name);
    });
}

#[test]
fn a_step_that_fails_never_leaves_more_open_than_before_or_after() {
    let mut seen = (0, 0);
    each(|from, to, strictest| {
        let all = steps(from, to);
        for (at, step) in all.iter().enumerate() {
            for fault in [Fault::Step(at), Fault::From(at)] {
                let what = format!("{} -> {}, {fault:?}: {step}", from.name, to.name);
                let mut fake = Fake::new(from, to, fault);
                let ended = run(&mut fake, from, to, strictest);
                assert_eq!(ended.failed, Some((step.to_string(), "broken".into())), "{what}: the first is told");
                assert_eq!(fake.note, None, "{what}");
                let after = &fake.acts[at + 1..];
                let opens = after.iter().any(|(it, _)| matches!(it, Step::Rules(name) if name != STRICTEST));
                assert!(!opens, "{what}: {after:?}");
                if loosens(from, to) || matches!(step, Step::Rules(_)) {
                    assert_eq!((ended.holds.as_str(), fake.rules.as_str()), (STRICTEST, STRICTEST), "{what}");
                    // What closes goes over every unit, whatever the others did.
                    let closed: Vec<Step> = steps(strictest, strictest);
                    assert_eq!(after.iter().map(|it| it.0.clone()).collect::<Vec<_>>(), closed, "{what}");
                    seen.0 += 1;
                } else {
                    assert_eq!(
                        (&ended.holds, &fake.rules),
                        (&to.name, &to.name),
                        "{what}: rules do not wait for units"
                    );
                    let rest: Vec<Step> = after.iter().map(|it| it.0.clone()).collect();
                    assert_eq!(rest, all[at + 1..], "{what}: and neither do other units");
                    seen.1 += 1;
                }
            }
        }
    });
    assert!(seen.0 > 40 && seen.1 > 20, "{seen:?}");
}

#[test]
fn a_crash_leaves_the_step_in_the_note_and_nothing_opened_early() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    each(|from, to, strictest| {
        let all = steps(from, to);
        for (at, step) in all.iter().enumerate() {
            let mut fake = Fake::new(from, to, Fault::Power(at));
            let crashed =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&mut fake, from, to, strictest)));
            let what = format!("{} -> {} before {step}", from.name, to.name);
            assert_eq!(crashed.unwrap_err().downcast_ref::<&str>(), Some(&POWER), "{what}");
            let note = UnderWay { from: from.name.clone(), step: step.to_string(), to: to.name.clone() };
            assert_eq!(fake.note, Some(note), "{what}");
            let opened = fake.rules == to.name && from.name != to.name && loosens(from, to);
            assert!(!opened, "{what}");
            // Whoever begins afterwards closes.
            fake.fault = Fault::Nothing;
            assert_eq!(close(&mut fake, &strictest.clone()).failed, None);
            assert_eq!((fake.rules.as_str(), &fake.note), (STRICTEST, &None), "{what}");
            assert_eq!(fake.running.intersection(&strictest.units.off).next(), None, "{what}");
        }
    });
    std::panic::set_hook(hook);
}

#[test]
fn a_full_disk_stops_what_loosens_and_nobody_who_tightens() {
    each(|from, to, strictest| {
        let mut fake = Fake::new(from, to, Fault::Disk);
        let ended = run(&mut fake, from, to, strictest);
        let what = format!("{} -> {}", from.name, to.name);
        if loosens(from, to) {
            assert_eq!((ended.holds.as_str(), fake.rules.as_str()), (STRICTEST, STRICTEST), "{what}");
            assert_eq!(ended.failed.map(|it| it.1), Some("the disk is full".into()), "{what}");
            assert!(fake.acts.iter().all(|(step, _)| !matches!(step, Step::Start(_))), "{what}: {:?}", fake.acts);
        } else {
            assert_eq!((ended.holds, ended.failed), (to.name.clone(), None), "{what}");
            assert_eq!((&fake.rules, &fake.running), (&to.name, &to.units.on), "{what}");
        }
    });
}

#[test]
fn where_nobody_says_which_rules_hold_nobody_says_that_they_are_closed() {
    let mut seen = 0;
    each(|from, to, strictest| {
        for (at, _) in steps(from, to).iter().enumerate().filter(|(_, step)| matches!(step, Step::Rules(_))) {
            let mut fake = Fake::new(from, to, Fault::Silent(at));
            let ended = run(&mut fake, from, to, strictest);
            assert!(ended.unknown && ended.failed.is_some(), "{} -> {}, {at}", from.name, to.name);
            assert!(fake.note.is_some(), "what was under way is known to whoever comes after");
            seen += 1;
            // One that is silent once, and then closes.
            let mut fake = Fake::new(from, to, Fault::Step(at));
            assert!(!run(&mut fake, from, to, strictest).unknown);
        }
    });
    assert!(seen >= 9, "{seen}");
}

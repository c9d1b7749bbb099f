//! A change of the profile, step by step, and what becomes of it when a step fails.

use crate::decide::{Step, loosens, steps};
use secai_verifier::network::profile::Profile;
use serde::{Deserialize, Serialize};

/// What does the steps.
pub trait Machine {
    /// Has the rules of a profile hold.
    ///
    /// # Errors
    /// They do not.
    fn rules(&mut self, profile: &str) -> Result<(), NoRules>;
    /// Stops a unit, and waits until it has stopped. One that is not there has.
    ///
    /// # Errors
    /// It runs still.
    fn stop(&mut self, unit: &str) -> Result<(), String>;
    /// Starts a unit, and waits until it runs.
    ///
    /// # Errors
    /// It does not run.
    fn start(&mut self, unit: &str) -> Result<(), String>;
    /// Writes down, for whoever begins after a crash, which step is next; nothing once all is done.
    ///
    /// # Errors
    /// It is not written.
    fn remember(&mut self, under_way: Option<&UnderWay>) -> Result<(), String>;
}

/// Why the rules are not those that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRules {
    /// Those of the strictest profile hold, or such that let nothing through.
    #[error("{0}")]
    Stricter(String),
    /// Nobody says which hold.
    #[error("{0}; nobody says which rules hold")]
    Unknown(String),
}

/// What stands on the disk during a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnderWay {
    /// The profile before.
    pub from: String,
    /// The step that has begun.
    pub step: String,
    /// The profile to be.
    pub to: String,
}

/// How a change ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The profile that holds.
    pub holds: String,
    /// What failed, and why: the first of it.
    pub failed: Option<(String, String)>,
    /// Units that may not run then, and would not stop.
    pub running: Vec<String>,
    /// Nobody says that it does hold: the service must end, and whoever comes after it closes.
    pub unknown: bool,
}

/// Changes. What loosens and fails on the way ends in the strictest profile; what tightens goes on, whatever a unit does.
pub fn run(machine: &mut dyn Machine, from: &Profile, to: &Profile, strictest: &Profile) -> Ended {
    let opens = loosens(from, to);
    let (mut failed, mut running) = (None, Vec::new());
    for step in steps(from, to) {
        let under_way = UnderWay { from: from.name.clone(), step: step.to_string(), to: to.name.clone() };
        // A full disk keeps nobody from tightening.
        let done = match machine.remember(Some(&under_way)) {
            Err(why) if opens => Err(NoRules::Stricter(why)),
            _ => act(machine, &step),
        };
        let Err(why) = done else { continue };
        let rules = matches!(step, Step::Rules(_));
        failed.get_or_insert((step.to_string(), why.to_string()));
        if opens || rules {
            return Ended { failed, ..close(machine, strictest) };
        }
        running.extend(step.stops());
    }
    let _ = machine.remember(None);
    Ended { holds: to.name.clone(), failed, running, unknown: false }
}

/// Has the strictest profile hold, whatever fails on the way. Where not even its rules can be had nothing goes anywhere:
/// that is no looser.
pub fn close(machine: &mut dyn Machine, strictest: &Profile) -> Ended {
    let (mut failed, mut running, mut unknown) = (None, Vec::new(), false);
    for step in steps(strictest, strictest) {
        if let Err(why) = act(machine, &step) {
            unknown |= matches!(why, NoRules::Unknown(_));
            running.extend(step.stops());
            failed.get_or_insert((step.to_string(), why.to_string()));
        }
    }
    // What was under way stays noted, for whoever comes after.
    if !unknown {
        let _ = machine.remember(None);
    }
    Ended { holds: strictest.name.clone(), failed, running, unknown }
}

fn act(machine: &mut dyn Machine, step: &Step) -> Result<(), NoRules> {
    match step {
        Step::Rules(profile) => machine.rules(profile),
        // What becomes of a unit says nothing of the rules.
        Step::Stop(unit) => machine.stop(unit).map_err(NoRules::Stricter),
        Step::Start(unit) => machine.start(unit).map_err(NoRules::Stricter),
    }
}

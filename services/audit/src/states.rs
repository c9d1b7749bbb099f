//! What systemd says of the services, over time, as entries: who started, stopped or failed. Pure.
//!
//! systemd tells a state, not each way there: what changes twice between two of its messages is told once. Each run of
//! a unit has an invocation of its own, so that a stop and start in between are still known to have happened.

use secai_verifier::audit::kind::ServiceState;
use std::collections::BTreeMap;

/// The state before, where nobody looked.
pub const UNSEEN: &str = "unseen";
/// The state of a unit that is not there, or has ended well.
const INACTIVE: &str = "inactive";
/// States in which nothing of a unit runs.
const ENDED: &[&str] = &[INACTIVE, "failed"];

/// What systemd says of a unit at one time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// `ActiveState`.
    pub active: String,
    /// `Result` of the service.
    pub result: String,
    /// `InvocationID`: another one for each start; empty when it never ran.
    pub invocation: Vec<u8>,
    /// `StateChangeTimestampMonotonic`: microseconds; 0 when it never changed.
    pub changed: u64,
    /// `ActiveEnterTimestampMonotonic`: microseconds; 0 when it never was active.
    pub entered: u64,
}

impl Seen {
    fn has_ended(&self) -> bool {
        ENDED.contains(&self.active.as_str())
    }
}

/// The last that was said of each unit.
#[derive(Debug, Default)]
pub struct States(BTreeMap<String, Seen>);

impl States {
    /// What is to be recorded now that this was said of a unit; what is older than what is known already is not.
    pub fn take(&mut self, unit: &str, seen: Seen) -> Vec<ServiceState> {
        let known = self.0.get(unit);
        let path = match known {
            None if seen.invocation.is_empty() && seen.has_ended() => Vec::new(),
            None => vec![UNSEEN.to_owned(), seen.active.clone()],
            // Or nothing changed yet: a start is given its invocation before anything else happens.
            Some(known) if known.changed > seen.changed => return Vec::new(),
            Some(known) if known.changed == seen.changed && known.active == seen.active => return Vec::new(),
            Some(known) => way(known, &seen),
        };
        let entries = path.windows(2).filter_map(|step| match step {
            [from, to] if from != to => Some(ServiceState {
                from: from.clone(),
                result: seen.result.clone(),
                to: to.clone(),
                unit: unit.to_owned(),
            }),
            _ => None,
        });
        let entries = entries.collect();
        self.0.insert(unit.to_owned(), seen);
        entries
    }
}

/// The states that a unit went through at least, from what was known to what is seen.
fn way(known: &Seen, seen: &Seen) -> Vec<String> {
    let mut way = vec![known.active.clone()];
    if seen.invocation != known.invocation && !seen.invocation.is_empty() {
        if !known.has_ended() {
            way.push(INACTIVE.to_owned());
        }
        if seen.has_ended() {
            way.push(if seen.entered > known.entered { "active" } else { "activating" }.to_owned());
        }
    }
    way.push(seen.active.clone());
    way
}

/// The path under which systemd's D-Bus has a unit: each byte that is no letter or digit, and a digit at the
/// beginning, as `_XX` (`bus_label_escape` in systemd).
pub fn object_path(unit: &str) -> String {
    let mut path = "/org/freedesktop/systemd1/unit/".to_owned();
    for (at, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit() {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "secure-ai-airlock.service";

    fn seen(active: &str, invocation: u8, changed: u64, entered: u64) -> Seen {
        let invocation = if invocation == 0 { Vec::new() } else { vec![invocation; 16] };
        Seen { active: active.into(), result: "success".into(), invocation, changed, entered }
    }

    fn steps(said: &[Seen]) -> Vec<String> {
        let mut states = States::default();
        let entries = said.iter().flat_map(|seen| states.take(UNIT, seen.clone()));
        entries.map(|entry| format!("{}→{}", entry.from, entry.to)).collect()
    }

    #[test]
    fn each_change_is_one_entry() {
        let run = [
            seen("inactive", 0, 0, 0),
            seen("activating", 1, 10, 0),
            seen("active", 1, 11, 11),
            seen("active", 1, 11, 11),
            seen("deactivating", 1, 20, 11),
            seen("failed", 1, 21, 11),
            seen("activating", 2, 30, 11),
        ];
        let wanted = [
            "inactive→activating",
            "activating→active",
            "active→deactivating",
            "deactivating→failed",
            "failed→activating",
        ];
        assert_eq!(steps(&run), wanted);
    }

    #[test]
    fn what_ran_before_anybody_looked_is_said_to_be_unseen() {
        assert_eq!(steps(&[seen("active", 1, 5, 5)]), ["unseen→active"]);
        assert_eq!(steps(&[seen("failed", 1, 5, 0)]), ["unseen→failed"]);
        assert_eq!(steps(&[seen("inactive", 1, 5, 0)]), ["unseen→inactive"]);
        assert!(steps(&[seen("inactive", 0, 0, 0)]).is_empty(), "it never ran");
    }

    #[test]
    fn what_happened_between_two_messages_is_known_by_its_invocation() {
        let ended = seen("inactive", 1, 5, 4);
        assert_eq!(steps(&[ended.clone(), seen("inactive", 2, 9, 8)])[1..], ["inactive→active", "active→inactive"]);
        assert_eq!(steps(&[ended.clone(), seen("failed", 2, 9, 4)])[1..], ["inactive→activating", "activating→failed"]);
        let runs = seen("active", 1, 5, 5);
        assert_eq!(steps(&[runs.clone(), seen("active", 2, 9, 9)])[1..], ["active→inactive", "inactive→active"]);
        assert_eq!(
            steps(&[runs.clone(), seen("failed", 2, 9, 5)])[1..],
            ["active→inactive", "inactive→activating", "activating→failed"]
        );
        // Nothing happened.
        assert_eq!(steps(&[runs.clone(), runs]).len(), 1);
    }

    #[test]
    fn a_start_that_is_only_about_to_happen_is_none_yet() {
        let before = [seen("inactive", 0, 0, 0), seen("inactive", 1, 0, 0)];
        assert_eq!(steps(&[&before[..], &[seen("activating", 1, 5, 0)]].concat()), ["inactive→activating"]);
        assert_eq!(
            steps(&[&before[..], &[seen("inactive", 1, 5, 4)]].concat()),
            ["inactive→active", "active→inactive"]
        );
    }

    #[test]
    fn an_older_message_changes_nothing() {
        let run = [seen("active", 1, 11, 11), seen("activating", 1, 10, 0), seen("active", 1, 11, 11)];
        assert_eq!(steps(&run), ["unseen→active"]);
    }

    #[test]
    fn units_lie_where_systemd_has_them() {
        assert_eq!(object_path(UNIT), "/org/freedesktop/systemd1/unit/secure_2dai_2dairlock_2eservice");
        assert_eq!(object_path("9p_x@é.service"), "/org/freedesktop/systemd1/unit/_39p_5fx_40_c3_a9_2eservice");
    }
}

//! What an audit chain says about the claims: read once, entry by entry, remembered in a few words.

use crate::audit::chain::{Options, Verdict, check};
use crate::audit::checkpoint::VerifierKey;
use crate::audit::entry::Entry;
use crate::audit::kind::{DnsChecked, ProfileApplied, ProfileRequested, ServiceState};
use crate::audit::read::read;
use crate::audit::store::Store;
use crate::evidence::units::Unit;
use crate::files::Fault;
use crate::network::profile::Profiles;
use crate::time::Time;
use std::collections::BTreeMap;
use std::num::NonZero;

/// Loosenings without a confirmation that are named.
const UNCONFIRMED_MAX: usize = 20;
/// Who confirms: a person, or the operator's file in his name.
const CONFIRM: [&str; 2] = ["person", "operator"];
/// The writer of the chain does not watch itself.
const WRITER: &str = "secure-ai-audit.service";
/// What the names of our units begin with.
const OURS: &str = "secure-ai-";
/// The clock of whoever gathered, and of the writer, are one; entries are written on while it is gathered.
const AHEAD_MAX_S: u64 = 300;

/// What is remembered of a chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Why the chain does not hold; of the rest nothing is said then.
    pub refusals: Vec<String>,
    /// Is it signed by a key that follows from a known one?
    pub signer_is_known: bool,
    /// Profiles that let out more, and nobody confirmed them, or entries that cannot be.
    pub unconfirmed: Vec<String>,
    /// The last profile that was applied, by whom, and when.
    applied: Option<(String, String, String)>,
    /// The last check for leaks of names: seconds since 1970, the verdict.
    dns: Option<(u64, String)>,
    /// The last state of each unit.
    states: BTreeMap<String, String>,
}

/// Checks a chain and reads it.
pub fn remember(store: &Store, trusted: &[VerifierKey], profiles: &Profiles) -> Result<Remembered, Fault> {
    let threads = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let options = Options { trusted, witnessed: None, cosigners: &[], full: true, threads };
    let (report, signer_is_known) = match check(store, &options)? {
        Verdict::Accepted(chain) => (chain.report().clone(), true),
        Verdict::SignerUnknown(report) => (*report, false),
        Verdict::Refused(refusals) => {
            let refusals = refusals.iter().map(|it| format!("{}: {it}", it.name())).collect();
            return Ok(Remembered { refusals, ..Remembered::default() });
        }
    };
    let mut reader =
        Reader { profiles, remembered: Remembered { signer_is_known, ..Remembered::default() }, asked: None };
    // Evidence is a copy that nobody writes: what was checked is what is read.
    read::<Fault>(store, 0, report.entries, false, |found| {
        if let Ok(entry) = Entry::parse(found.line) {
            reader.take(&entry);
        }
        Ok(())
    })?;
    Ok(reader.remembered)
}

struct Reader<'a> {
    profiles: &'a Profiles,
    remembered: Remembered,
    /// The last request, until a profile is applied.
    asked: Option<ProfileRequested>,
}

impl Reader<'_> {
    fn take(&mut self, entry: &Entry<'_>) {
        match entry.kind {
            "profile.requested" => self.asked = serde_json::from_str(entry.data).ok(),
            "profile.applied" => {
                if let Ok(applied) = serde_json::from_str::<ProfileApplied>(entry.data) {
                    self.applied(entry, applied);
                }
            }
            "dns.checked" => {
                let checked = serde_json::from_str::<DnsChecked>(entry.data).ok();
                let at = seconds(entry.time.as_str());
                self.remembered.dns = checked.zip(at).map(|(it, at)| (at, it.verdict)).or(self.remembered.dns.take());
            }
            "svc.state" => {
                if let Ok(ServiceState { unit, to, .. }) = serde_json::from_str(entry.data) {
                    self.remembered.states.insert(unit, to);
                }
            }
            // Nobody has looked at services since: what was said of them before is no word on now.
            "audit.start" => self.remembered.states.clear(),
            _ => {}
        }
    }

    fn applied(&mut self, entry: &Entry<'_>, applied: ProfileApplied) {
        let loosens = match (self.profiles.get(&applied.from), self.profiles.get(&applied.to)) {
            (Some(from), Some(to)) => !to.is_within(from),
            // A profile that this image does not have may have let out anything.
            _ => applied.from != applied.to,
        };
        let confirmed = self.asked.take().is_some_and(|asked| {
            let same = (&asked.from, &asked.to, &asked.digest) == (&applied.from, &applied.to, &applied.digest);
            // A person is somewhere: where nobody was asked, nobody confirmed.
            let was_asked = asked.by != "person" || !asked.terminal.is_empty();
            same && asked.by == applied.by && CONFIRM.contains(&asked.by.as_str()) && was_asked
        });
        if loosens && !confirmed && self.remembered.unconfirmed.len() < UNCONFIRMED_MAX {
            let (from, to) = (&applied.from, &applied.to);
            let line = format!("entry {}: {to} after {from}, and nobody confirmed it before", entry.seq);
            self.remembered.unconfirmed.push(line);
        }
        self.remembered.applied = Some((applied.to, applied.by, entry.time.as_str().to_owned()));
    }
}

/// Of an entry's time, which has parts of a second.
fn seconds(text: &str) -> Option<u64> {
    let whole: Time = format!("{}Z", text.split_once('.')?.0).parse().ok()?;
    Some(whole.seconds())
}

impl Remembered {
    /// Is there no check for leaks of names that found none, not long before `now`? Why.
    pub fn dns_is_not_clean(&self, now: Time, age_max_s: u64) -> Option<String> {
        match &self.dns {
            None => Some("the chain has no check for leaks of names".to_owned()),
            Some((_, verdict)) if verdict != "clean" => {
                Some(format!("the last check for leaks of names says `{verdict}`"))
            }
            Some((at, _)) if now.seconds() > at + age_max_s => {
                Some(format!("the last check for leaks of names is {} minutes old", (now.seconds() - at) / 60))
            }
            Some((at, _)) if *at > now.seconds() + AHEAD_MAX_S => {
                Some("the last check for leaks of names is later than this evidence".to_owned())
            }
            Some(_) => None,
        }
    }

    /// Is the last profile of the chain not the one in force? Why.
    pub fn profile_is_not(&self, in_force: &str) -> Option<String> {
        match &self.applied {
            None => Some("the chain has no change of the profile".to_owned()),
            Some((to, by, at)) if to != in_force => {
                Some(format!("{in_force} is in force, the chain ends in {to} (by {by}, {at})"))
            }
            Some(_) => None,
        }
    }

    /// Of which services is the chain's last word not what systemd says?
    pub fn services_are_not(&self, units: &BTreeMap<String, Unit>) -> Vec<String> {
        let ours = units.values().filter(|unit| {
            // Instances of a template have no page; what changes while it is looked at settles by itself.
            let is_ours = unit.id.starts_with(OURS) && unit.id.ends_with(".service") && !unit.id.contains('@');
            is_ours && unit.id != WRITER && ["active", "failed"].contains(&unit.active.as_str())
        });
        ours.filter_map(|unit| match self.states.get(&unit.id) {
            Some(state) if *state == unit.active => None,
            Some(state) => Some(format!("{} is {}, the chain says {state}", unit.id, unit.active)),
            None => Some(format!("{} is {}, the chain says nothing of it", unit.id, unit.active)),
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::entry::Moment;
    use crate::digest::Digest;
    use crate::network::profile::Profile;

    fn profiles() -> Profiles {
        let page = |name: &str| {
            let path = format!("{}/../manifests/policy/profiles/{name}.yml", env!("CARGO_MANIFEST_DIR"));
            Profile::parse(&std::fs::read(path).unwrap()).unwrap()
        };
        Profiles::new(["offline_private", "research", "full_lab"].map(page).to_vec()).unwrap()
    }

    fn told(entries: &[(&str, String)]) -> Remembered {
        let profiles = profiles();
        let mut reader = Reader { profiles: &profiles, remembered: Remembered::default(), asked: None };
        for (at, (kind, data)) in entries.iter().enumerate() {
            reader.take(&Entry {
                seq: at as u64,
                prev: Digest::of(b""),
                time: Moment::from_micros(1_700_000_000_000_000 + at as u64),
                boot: 1,
                mono: 1,
                writer: "profiles",
                uid: 0,
                kind,
                data,
                payload: None,
            });
        }
        reader.remembered
    }

    fn requested(by: &str, terminal: &str, from: &str, to: &str) -> (&'static str, String) {
        let digest = Digest::of(to.as_bytes());
        (
            "profile.requested",
            format!(
                r#"{{"by":"{by}","digest":"{digest}","from":"{from}","terminal":"{terminal}","to":"{to}","uid":1000}}"#
            ),
        )
    }

    fn applied(by: &str, from: &str, to: &str) -> (&'static str, String) {
        let digest = Digest::of(to.as_bytes());
        ("profile.applied", format!(r#"{{"by":"{by}","digest":"{digest}","from":"{from}","to":"{to}"}}"#))
    }

    #[test]
    fn what_loosens_was_confirmed_before() {
        const OFFLINE: &str = "offline_private";
        let boot = applied("boot", OFFLINE, OFFLINE);
        let of = |entries: &[(&'static str, String)]| {
            let told = told(&[std::slice::from_ref(&boot), entries].concat());
            (told.unconfirmed.len(), told.applied.unwrap().0)
        };
        let asked = requested("person", "tty1", OFFLINE, "research");
        let open = applied("person", OFFLINE, "research");
        let back = applied("expiry", "research", OFFLINE);
        assert_eq!(of(&[]), (0, OFFLINE.into()));
        assert_eq!(of(&[asked.clone(), open.clone()]), (0, "research".into()));
        assert_eq!(of(&[asked.clone(), open.clone(), back.clone()]), (0, OFFLINE.into()), "what tightens needs nobody");
        let operator = [requested("operator", "", OFFLINE, "research"), applied("operator", OFFLINE, "research")];
        assert_eq!(of(&operator).0, 0);
        for entries in [
            vec![open.clone()],
            // Afterwards is too late, and once is for once.
            vec![open.clone(), asked.clone()],
            vec![asked.clone(), open.clone(), back.clone(), open.clone()],
            vec![requested("person", "tty1", OFFLINE, "full_lab"), open.clone()],
            vec![requested("person", "", OFFLINE, "research"), open.clone()],
            vec![requested("expiry", "", OFFLINE, "research"), applied("expiry", OFFLINE, "research")],
            vec![asked.clone(), applied("boot", OFFLINE, "research")],
            vec![applied("boot", OFFLINE, "unheard_of")],
        ] {
            assert_eq!(of(&entries).0, 1, "{entries:?}");
        }
    }

    #[test]
    fn the_last_check_for_names_is_clean_and_recent() {
        let checked = |verdict: &str| {
            (
                "dns.checked",
                format!(r#"{{"findings":0,"profile":"offline_private","refused":9,"sent":9,"verdict":"{verdict}"}}"#),
            )
        };
        let at = |seconds: u64| Time::from_seconds(1_700_000_000 + seconds).unwrap();
        let of = |entries: &[(&str, String)], now: Time| told(entries).dns_is_not_clean(now, 3600);
        assert_eq!(of(&[checked("clean")], at(60)), None);
        assert_eq!(of(&[checked("leak"), checked("clean")], at(60)), None);
        assert!(of(&[], at(60)).unwrap().contains("no check"));
        assert!(of(&[checked("clean"), checked("leak")], at(60)).unwrap().contains("`leak`"));
        assert!(of(&[checked("clean")], at(3601)).unwrap().contains("60 minutes old"));
        assert!(of(&[checked("clean")], Time::from_seconds(1_600_000_000).unwrap()).unwrap().contains("later"));
    }

    #[test]
    fn the_chains_last_word_on_a_service_is_its_state() {
        let state = |unit: &str, to: &str| {
            ("svc.state", format!(r#"{{"from":"inactive","result":"success","to":"{to}","unit":"{unit}"}}"#))
        };
        let unit = |id: &str, active: &str| Unit {
            id: id.into(),
            active: active.into(),
            load: "loaded".into(),
            file_state: String::new(),
            fragment: String::new(),
            drop_ins: vec![],
            is_outdated: false,
        };
        let of = |entries: &[(&str, String)], active: &str| {
            let units =
                [unit("secure-ai-profiles.service", active), unit(WRITER, "active"), unit("dbus.service", "active")];
            let units = units.map(|it| (it.id.clone(), it)).into();
            told(entries).services_are_not(&units).len()
        };
        let began = state("secure-ai-profiles.service", "active");
        assert_eq!(of(std::slice::from_ref(&began), "active"), 0);
        assert_eq!(of(&[], "active"), 1);
        assert_eq!(of(&[began.clone(), state("secure-ai-profiles.service", "inactive")], "active"), 1);
        assert_eq!(of(std::slice::from_ref(&began), "failed"), 1);
        assert_eq!(
            of(&[began.clone(), ("audit.start", r#"{"version":"1"}"#.into())], "active"),
            1,
            "it looked away since"
        );
        assert_eq!(of(&[], "inactive"), 0);
    }
}

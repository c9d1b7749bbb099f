//! The profile is kept as it is, ends when its time is over, and nothing is loosened that is not recorded.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic, as tests may")]

mod device;

use device::{Device, Keeps, Pty, Shared, apply, ask, holds, preview, receive, refused, send};
use secai_api::profiles::{Reply, Why};
use secai_profiles::firewall::Refused;
use secai_profiles::serve::ServeError;
use secai_profiles::switch::UnderWay;
use secai_verifier::network::profile::STRICTEST;
use std::thread::sleep;
use std::time::{Duration, Instant};

const LO: &str = r#"{"ifname":"lo","flags":["LOOPBACK","UP"]}"#;

fn unguarded() -> Refused {
    Refused { name: "LinkUnguarded".into(), detail: "eth1 has no chain".into() }
}

#[test]
fn it_begins_and_ends_in_the_strictest() {
    let state = Shared::new();
    state.get().rules = "research".into();
    state.get().running = ["tor@default.service".to_owned()].into();
    let under_way = UnderWay { from: STRICTEST.into(), step: "rules of research".into(), to: "research".into() };
    state.get().note = Some(under_way);
    let Some(mut device) = Device::start(state) else { return };
    {
        let state = device.state.get();
        assert_eq!(state.log.iter().find(|it| !it.starts_with("entry")).unwrap(), "rules offline_private");
        assert!(state.running.is_empty() && state.note.is_none() && state.rules == STRICTEST);
        let kinds: Vec<_> = state.entries.iter().map(|it| it.0.as_str()).collect();
        assert_eq!(kinds, ["profile.interrupted", "profile.applied"]);
        assert_eq!(state.entries[0].1["step"], "rules of research");
        assert_eq!((&state.entries[1].1["by"], &state.entries[1].1["to"]), (&"boot".into(), &STRICTEST.into()));
    }
    assert!(holds(&device.change("research"), "research"));
    assert_eq!(device.state.get().rules, "research");
    let at = device.state.length();
    assert!(device.end().is_ok());
    assert_eq!(device.state.get().rules, STRICTEST);
    assert_eq!(device.state.done_since(at).first().unwrap(), "rules offline_private");
    let last = device.state.of("profile.requested").pop().unwrap();
    assert_eq!((&last["by"], &last["to"]), (&"shutdown".into(), &STRICTEST.into()));
    assert_eq!(device.state.of("profile.applied").len(), 3, "what was on its way at the end is recorded as well");
}

#[test]
fn an_ending_in_the_strictest_does_nothing_more() {
    let Some(mut device) = Device::start(Shared::new()) else { return };
    let at = device.state.length();
    assert!(device.end().is_ok());
    assert!(device.state.done_since(at).is_empty());
    assert!(device.state.of("profile.interrupted").is_empty(), "nothing was under way");
}

#[test]
fn a_profile_ends_when_its_time_is_over() {
    let Some(device) = Device::start(Shared::new()) else { return };
    assert!(holds(&device.change("full_lab"), "full_lab"));
    device.later(Duration::from_secs(3600 - 30));
    let shown = device.shown();
    assert!(shown.profile == "full_lab" && shown.ends_after_s.unwrap() <= 30, "{shown:?}");
    // The same again is for longer, so it is asked about again.
    let connection = device.connect();
    assert!(preview(&connection, "full_lab").loosens);
    device.later(Duration::from_secs(31));
    let shown = device.shown();
    assert_eq!((shown.profile.as_str(), shown.ends_after_s), (STRICTEST, None));
    device.state.until("it is closed", |it| it.running.is_empty() && it.rules == STRICTEST);
    device.state.until_entries("profile.applied", 3);
    let last = device.state.of("profile.requested").pop().unwrap();
    assert_eq!((&last["by"], &last["from"], &last["uid"]), (&"expiry".into(), &"full_lab".into(), &0.into()));
    // One without an end stays.
    assert!(holds(&device.change("research"), "research"));
    device.later(Duration::from_secs(86_400));
    assert_eq!(device.shown().profile, "research");
}

#[test]
fn what_others_changed_is_restored_with_their_name() {
    let Some(device) = Device::start(Shared::new()) else { return };
    assert!(holds(&device.change("research"), "research"));
    let looks = device.state.get().looks;
    device.stir();
    device.state.until("it looks", |it| it.looks > looks);
    assert_eq!(device.shown().restored, 0, "somebody changed something, and all is as it should be");
    let cases: [(&str, &[Refused], &str, &str); 4] = [
        ("full_lab", &[], "rules research", "the rules are those of full_lab"),
        ("nobody's", &[unguarded()], "rules research", "LinkUnguarded: eth1"),
        ("research", &[unguarded()], "link", "LinkUnguarded: eth1"),
        // Chains for links under the rules of another profile would be that one's.
        ("full_lab", &[unguarded()], "rules research", "LinkUnguarded: eth1"),
    ];
    for (number, (rules, refusals, done, found)) in cases.into_iter().enumerate() {
        let at = device.state.length();
        {
            let mut state = device.state.get();
            (state.rules, state.refusals) = (rules.into(), refusals.to_vec());
            state.links = format!("[{LO},{}]", r#"{"ifname":"eth1","flags":["UP"]}"#);
        }
        device.stir();
        let entries = device.state.until_entries("profile.restored", number + 1);
        let entry = &entries[number];
        assert!(entry["found"].as_str().unwrap().starts_with(found), "{entry}");
        assert_eq!((&entry["by"], &entry["profile"]), (&"nft".into(), &"research".into()));
        device.state.until("it does", |it| it.log[at..].iter().any(|it| it == done));
        assert_eq!(device.state.done_since(at), [done], "{rules}");
        assert_eq!(device.state.get().rules, "research");
    }
    assert_eq!(device.shown().restored, 4);
    // One that has just come, and is down, has its chain from udev's unit.
    let looks = {
        let mut state = device.state.get();
        state.refusals = vec![unguarded()];
        state.links = format!("[{LO},{}]", r#"{"ifname":"eth2","flags":[]}"#);
        state.looks
    };
    device.stir();
    device.state.until("it looks", |it| it.looks > looks);
    assert_eq!(device.shown().restored, 4);
    {
        let mut state = device.state.get();
        (state.refusals, state.links) = (Vec::new(), format!("[{LO}]"));
    }
    // In the strictest no link is up.
    assert!(holds(&device.change(STRICTEST), STRICTEST));
    let at = device.state.length();
    device.state.get().links = r#"[{"ifname":"lo","flags":["LOOPBACK","UP"]},{"ifname":"eth0","flags":["UP"]}]"#.into();
    device.stir();
    device.state.until("it sets it down", |it| it.log[at..].iter().any(|it| it == "link"));
}

#[test]
fn a_chain_that_a_link_left_behind_is_taken_away_and_is_nobodys_doing() {
    let Some(device) = Device::start(Shared::new()) else { return };
    let left = Refused { name: "EgressChainWithoutLink".into(), detail: "chain link_eth0 guards no link".into() };
    let at = device.state.length();
    device.state.get().refusals = vec![left.clone()];
    device.stir();
    device.state.until("it takes it away", |it| it.log[at..].iter().any(|it| it == "link"));
    assert_eq!((device.state.done_since(at), device.shown().restored), (vec!["link".to_owned()], 0));
    // Where that fails the rules are loaded, which is told.
    {
        let mut state = device.state.get();
        state.refusals = vec![left];
        state.fails = ["link".to_owned()].into();
    }
    let at = device.state.length();
    device.stir();
    device.state.until_entries("profile.restored", 1);
    device.state.until("it loads", |it| it.log[at..].iter().any(|it| it == "rules offline_private"));
}

#[test]
fn rules_that_cannot_be_restored_end_in_the_strictest() {
    let Some(device) = Device::start(Shared::new()) else { return };
    assert!(holds(&device.change("research"), "research"));
    let at = device.state.length();
    {
        let mut state = device.state.get();
        state.fails = ["rules research".to_owned()].into();
        state.rules = "full_lab".into();
    }
    device.stir();
    let entry = device.state.until_entries("profile.failed", 1)[0].clone();
    assert_eq!((&entry["from"], &entry["holds"]), (&"research".into(), &STRICTEST.into()));
    assert_eq!(device.state.done_since(at)[..2], ["rules research", "rules offline_private"]);
    assert_eq!(device.shown().profile, STRICTEST);
    assert!(device.state.get().running.is_empty());
    // A change that fails on its way ends there as well, and says so.
    let Reply::Refused { why: Why::Failed, message } = device.change("research") else { panic!() };
    assert!(message.contains("offline_private holds"), "{message}");
    let entry = device.state.until_entries("profile.failed", 2)[1].clone();
    assert_eq!((&entry["step"], &entry["holds"]), (&"rules of research".into(), &STRICTEST.into()));
}

#[test]
fn rules_that_are_fought_over_end_in_the_strictest_and_are_looked_at_slowly() {
    let Some(device) = Device::start(Shared::new()) else { return };
    assert!(holds(&device.change("research"), "research"));
    for round in 1..=11 {
        assert_eq!(device.shown().profile, "research", "{round}");
        device.state.get().rules = "full_lab".into();
        device.stir();
        device.state.until_entries("profile.restored", round);
        device.state.until("it is restored", |it| it.rules != "full_lab");
    }
    device.state.until("it is changed", |it| it.rules == STRICTEST && it.running.is_empty());
    let entry = device.state.until_entries("profile.requested", 2)[1].clone();
    assert_eq!((&entry["by"], &entry["to"]), (&"fault".into(), &STRICTEST.into()));
    // However often somebody changes them now, and however often that is said.
    let (began, looks) = (Instant::now(), device.state.get().looks);
    while began.elapsed() < Duration::from_millis(1500) {
        device.state.get().rules = "full_lab".into();
        device.stir();
        sleep(Duration::from_millis(20));
    }
    let looked = device.state.get().looks - looks;
    assert!((1..=2).contains(&looked), "{looked} looks in a second and a half");
    // Later a person may have another.
    device.state.get().ahead += Duration::from_secs(120);
    device.stir();
    device.state.until("it is restored", |it| it.rules == STRICTEST);
    assert!(holds(&device.change("research"), "research"));
}

#[test]
fn without_the_audit_daemon_nothing_is_loosened_and_everything_tightened() {
    let Some(device) = Device::start(Shared::new()) else { return };
    assert!(holds(&device.change("research"), "research"));
    device.state.until_entries("profile.applied", 2);
    let count = device.state.get().entries.len();
    for keeps in [Keeps::Refuses, Keeps::Hangs] {
        device.state.get().keeps = keeps;
        let (at, began) = (device.state.length(), Instant::now());
        assert_eq!(refused(&device.change("full_lab")), Some(Why::NotRecorded), "{keeps:?}");
        assert!(device.state.done_since(at).is_empty(), "{:?}", device.state.done_since(at));
        assert!(began.elapsed() < Duration::from_secs(5), "{keeps:?}: {:?}", began.elapsed());
        let shown = device.shown();
        assert_eq!(shown.profile, "research");
    }
    device.state.get().keeps = Keeps::Refuses;
    let at = device.state.length();
    assert!(holds(&device.change(STRICTEST), STRICTEST), "this needs no entry first");
    assert_eq!(device.state.done_since(at)[0], "rules offline_private");
    assert_eq!(device.state.get().rules, STRICTEST);
    assert_eq!(device.state.get().entries.len(), count);
    device.state.until("they wait", |_| device.recorder.waiting() > 0);
    assert!(device.shown().troubles.iter().any(|it| it.contains("wait for the audit daemon")));
    device.state.get().keeps = Keeps::All;
    // Two were on their way when the daemon hung: they are not sent again, and the others come in their order.
    device.recorder.flush(device::PATIENCE);
    let entries = device.state.get().entries[count..].to_vec();
    let changes: Vec<_> = entries.iter().filter(|it| it.0 != "profile.refused").map(|it| it.0.as_str()).collect();
    assert_eq!(changes, ["profile.requested", "profile.applied"], "{entries:?}");
    assert_eq!(device.recorder.waiting(), 0);
    assert!(holds(&device.change("full_lab"), "full_lab"), "and the control: it was for this");
}

#[test]
fn a_unit_that_would_not_stop_is_asked_again() {
    let Some(device) = Device::start(Shared::new()) else { return };
    assert!(holds(&device.change("research"), "research"));
    device.state.get().fails = ["stop tor@default.service".to_owned()].into();
    assert!(holds(&device.change(STRICTEST), STRICTEST), "its packets go nowhere");
    let told = |device: &Device| device.shown().troubles.iter().any(|it| it.contains("stop tor@default.service"));
    assert!(told(&device) && device.state.get().running.contains("tor@default.service"));
    device.later(Duration::from_secs(6));
    assert!(told(&device), "it fails again");
    device.state.get().fails.clear();
    device.later(Duration::from_secs(4));
    assert!(told(&device), "not all the time");
    device.later(Duration::from_secs(2));
    device.state.until("it stops", |it| it.running.is_empty());
    assert!(!told(&device));
    let entries = device.state.until_entries("profile.failed", 1);
    assert_eq!((entries.len(), &entries[0]["holds"]), (1, &STRICTEST.into()), "one entry: {entries:?}");
}

#[test]
fn a_daemon_that_hangs_costs_its_time_once_however_many_entries_wait() {
    let state = Shared::new();
    state.get().operator = "unattended: [{uids: [0], profiles: [offline_private]}]".into();
    let Some(device) = Device::start(state) else { return };
    device.state.get().keeps = Keeps::Refuses;
    let connection = device.connect();
    for _ in 0..8 {
        let token = preview(&connection, STRICTEST).token;
        assert!(holds(&ask(&connection, apply(STRICTEST, &token)), STRICTEST));
    }
    device.state.until("they wait", |_| device.recorder.waiting() >= 15);
    device.state.get().keeps = Keeps::Hangs;
    let began = Instant::now();
    assert_eq!(refused(&device.change("research")), Some(Why::NotRecorded));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(device.recorder.waiting() >= 12, "the others wait on");
}

#[test]
fn a_daemon_that_comes_late_gets_everything() {
    let state = Shared::new();
    state.get().note = Some(UnderWay { from: "a".into(), step: "b".into(), to: "c".into() });
    let Some(device) = Device::without_audit(state) else { return };
    let at = device.state.length();
    assert_eq!(refused(&device.change("research")), Some(Why::NotRecorded));
    assert!(device.state.done_since(at).is_empty());
    assert!(holds(&device.change(STRICTEST), STRICTEST));
    device.start_audit();
    device.state.until_entries("profile.applied", 2);
    device.recorder.flush(device::PATIENCE);
    let kinds: Vec<String> = device.state.get().entries.iter().map(|it| it.0.clone()).collect();
    let sync: Vec<_> = kinds.iter().filter(|it| *it != "profile.refused").collect();
    assert_eq!(sync, ["profile.interrupted", "profile.applied", "profile.requested", "profile.applied"]);
    assert_eq!(kinds.iter().filter(|it| *it == "profile.refused").count(), 1, "{kinds:?}");
}

#[test]
fn an_hour_that_ends_while_somebody_is_asked_makes_the_question_old() {
    let Some(device) = Device::start(Shared::new()) else { return };
    assert!(holds(&device.change("full_lab"), "full_lab"));
    device.later(Duration::from_secs(3590));
    let (connection, pty) = (device.connect(), Pty::new());
    let token = preview(&connection, "research").token;
    send(&connection, 1, apply("research", &token), Some(&pty.terminal));
    pty.read_until("confirm: ");
    device.later(Duration::from_secs(15));
    assert_eq!(device.shown().profile, STRICTEST);
    pty.type_in("research\n");
    assert_eq!(refused(&receive(&connection).0.answer), Some(Why::TokenOutdated));
    assert_eq!(device.state.get().rules, STRICTEST);
}

#[test]
fn where_the_firewall_does_not_answer_the_service_ends_and_claims_nothing() {
    let Some(mut device) = Device::start(Shared::new()) else { return };
    assert!(holds(&device.change("full_lab"), "full_lab"));
    let applied = device.state.until_entries("profile.applied", 2).len();
    {
        let mut state = device.state.get();
        state.silent = true;
        state.ahead += Duration::from_secs(3601);
    }
    let _wakes_it = device.connect();
    let ended = device.ended();
    assert!(matches!(&ended, Err(ServeError::NotClosed(why)) if why.contains("no answer")), "{ended:?}");
    assert_eq!(device.state.get().rules, "full_lab", "nothing became of it");
    device.state.until_entries("profile.failed", 1);
    assert_eq!(device.state.of("profile.applied").len(), applied, "nobody says that it is closed");
}

#[test]
fn who_closed_is_not_undone() {
    let Some(device) = Device::start(Shared::new()) else { return };
    assert!(holds(&device.change("research"), "research"));
    device.state.get().rules = STRICTEST.into();
    device.stir();
    device.state.until_entries("profile.applied", 3);
    assert_eq!((device.shown().profile.as_str(), device.shown().restored), (STRICTEST, 0));
    assert!(device.state.get().running.is_empty(), "what may not run in it has ended");
    let last = device.state.of("profile.requested").pop().unwrap();
    assert_eq!((&last["by"], &last["to"]), (&"fault".into(), &STRICTEST.into()));
}

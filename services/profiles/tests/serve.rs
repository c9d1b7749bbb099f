//! The service as it runs: who asks, what is typed, and what is refused.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic, as tests may")]

mod device;

use device::{
    Device, MARK, PATIENCE, POLICY, Pty, Shared, apply, ask, ask_at, holds, preview, receive, refused, send,
    try_receive,
};
use rustix::fs::{SealFlags, fcntl_get_seals};
use rustix::net::{RecvFlags, SendFlags};
use secai_api::profiles::{Evidence, Reply, Request, TOKEN_LIVES, Why};
use secai_verifier::files::load_profiles;
use secai_verifier::network::bind::{bind, holds as bound_to, shipped};
use secai_verifier::network::parse::parse;
use secai_verifier::network::profile::STRICTEST;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn a_person_confirms_and_the_entry_is_kept_before_any_step() {
    let Some(device) = Device::start(Shared::new()) else { return };
    let shown = device.shown();
    assert_eq!((shown.profile.as_str(), shown.ends_after_s, shown.restored), (STRICTEST, None, 0));
    assert_eq!((shown.profiles.len(), &shown.troubles), (3, &Vec::new()));
    let connection = device.connect();
    let meant = preview(&connection, "full_lab");
    assert_eq!((meant.from.as_str(), meant.to.as_str(), meant.loosens), (STRICTEST, "full_lab", true));
    assert_eq!((meant.starts.len(), meant.expires_after_minutes), (2, Some(60)));
    assert!(meant.leaves.iter().any(|it| it.contains("443")), "{:?}", meant.leaves);

    let (at, pty) = (device.state.length(), Pty::new());
    send(&connection, 7, apply("full_lab", &meant.token), Some(&pty.terminal));
    let screen = pty.answer("full_lab", "full_lab");
    for line in meant.leaves.iter().chain(&meant.told).chain([&"Ends by itself after 60 minutes.".to_owned()]) {
        assert!(screen.contains(line.as_str()), "{line} is not in {screen}");
    }
    let (answered, _) = receive(&connection);
    assert_eq!(answered.id, 7);
    let Reply::Applied { profile, digest, ends_after_s: Some(ends) } = answered.answer else { panic!("{answered:?}") };
    assert!(profile == "full_lab" && digest == meant.digest && (3590..=3600).contains(&ends), "{profile} {ends}");

    device.state.until_entries("profile.applied", 2);
    let log = device.state.get().log[at..].to_vec();
    let place = |what: &str| log.iter().position(|it| it == what).unwrap_or_else(|| panic!("{what}: {log:#?}"));
    let first_step = log.iter().position(|it| !it.starts_with("entry ") && !it.starts_with("kept ")).unwrap();
    assert!(place("kept profile.requested") < first_step, "{log:#?}");
    assert!(first_step < place("rules full_lab"), "what opens comes last: {log:#?}");
    assert!(place("rules full_lab") < place("entry profile.applied"), "{log:#?}");
    let entry = &device.state.of("profile.requested")[0];
    let text = |key: &str| entry[key].as_str().unwrap().to_owned();
    assert_eq!([text("by"), text("from"), text("to"), text("terminal")], ["person", STRICTEST, "full_lab", "tty1"]);
    assert_eq!((entry["uid"].as_u64(), text("digest")), (Some(0), meant.digest.clone()));
    // A token is for once.
    assert_eq!(refused(&ask_at(&connection, apply("full_lab", &meant.token), &pty.terminal)), Some(Why::TokenUnknown));
    // What tightens does not wait for its entry.
    let at = device.state.length();
    assert!(holds(&device.change(STRICTEST), STRICTEST));
    device.state.until_entries("profile.applied", 3);
    let log = device.state.get().log[at..].to_vec();
    let place = |what: &str| log.iter().position(|it| it == what).unwrap_or_else(|| panic!("{what}: {log:#?}"));
    assert!(place("rules offline_private") < place("kept profile.requested"), "{log:#?}");
    assert_eq!(device.shown().ends_after_s, None);
}

#[test]
fn what_is_typed_decides_and_one_is_asked_at_a_time() {
    let Some(device) = Device::start(Shared::new()) else { return };
    let at = device.state.length();
    let begin = |pty: &Pty| {
        let connection = device.connect();
        let token = preview(&connection, "research").token;
        send(&connection, 1, apply("research", &token), Some(&pty.terminal));
        connection
    };
    for typed in ["full_lab", "", "y", "research full_lab", "RESEARCH"] {
        let pty = Pty::new();
        let connection = begin(&pty);
        pty.answer("research", typed);
        assert_eq!(refused(&receive(&connection).0.answer), Some(Why::NotConfirmed), "{typed}");
    }
    // The terminal goes away.
    let pty = Pty::new();
    let connection = begin(&pty);
    pty.read_until("confirm: ");
    drop(pty);
    assert_eq!(refused(&receive(&connection).0.answer), Some(Why::NotConfirmed));
    // Somebody is asked; another one, even with everything in order, has to wait.
    let pty = Pty::new();
    let connection = begin(&pty);
    pty.read_until("confirm: ");
    let other = Pty::new();
    assert_eq!(refused(&receive(&begin(&other)).0.answer), Some(Why::Busy));
    // Whoever asked goes away: what is typed now is for somebody else, and the next may ask.
    drop(connection);
    pty.read_until("Whoever asked has gone");
    pty.type_in("research\n");
    assert_eq!(pty.read_line(), "research\n", "nobody but the shell reads it");
    let end = Instant::now() + PATIENCE;
    loop {
        let pty = Pty::new();
        let connection = begin(&pty);
        let patience = rustix::event::Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        let mut answer = [rustix::event::PollFd::new(&connection, rustix::event::PollFlags::IN)];
        if rustix::event::poll(&mut answer, Some(&patience)).unwrap() == 0 {
            // The control: it was this that was needed for a change.
            assert!(device.state.done_since(at).is_empty(), "{:?}", device.state.done_since(at));
            pty.answer("research", "research");
            assert!(holds(&receive(&connection).0.answer, "research"));
            break;
        }
        assert_eq!(refused(&receive(&connection).0.answer), Some(Why::Busy));
        assert!(Instant::now() < end);
    }
    let of = |state: &device::State, why: Why| {
        state.entries.iter().filter(|it| it.0 == "profile.refused" && it.1["reason"] == why.word()).count()
    };
    device.state.until("all are recorded", |it| of(it, Why::NotConfirmed) == 7 && of(it, Why::Busy) >= 1);
}

#[test]
fn a_terminal_where_another_reads_keeps_nobody_waiting_for_ever() {
    let Some(device) = Device::start(Shared::new()) else { return };
    let (connection, pty) = (device.connect(), Pty::new());
    let token = preview(&connection, "research").token;
    send(&connection, 1, apply("research", &token), Some(&pty.terminal));
    pty.read_until("confirm: ");
    device.later(Duration::from_secs(64));
    assert_eq!(refused(&ask_at(&device.connect(), apply("research", "no"), &pty.terminal)), Some(Why::TokenUnknown));
    device.later(Duration::from_secs(2));
    assert_eq!(refused(&receive(&connection).0.answer), Some(Why::NotConfirmed));
    // An answer that comes after all is no answer to anything: nobody waits there any more.
    let at = device.state.length();
    pty.type_in("research\n");
    assert_eq!(pty.read_line(), "research\n");
    assert_eq!((device.shown().profile.as_str(), device.state.done_since(at).len()), (STRICTEST, 0));
    assert!(holds(&device.change("research"), "research"));
}

#[test]
fn who_wants_to_close_waits_for_no_question_no_logind_and_no_bus() {
    let Some(device) = Device::start(Shared::new()) else { return };
    assert!(holds(&device.change("research"), "research"));
    let begin = |profile: &str| {
        let (connection, pty) = (device.connect(), Pty::new());
        let token = preview(&connection, profile).token;
        send(&connection, 1, apply(profile, &token), Some(&pty.terminal));
        (connection, pty)
    };
    let (opens, asked) = begin("full_lab");
    asked.read_until("confirm: ");
    asked.type_in("full_");
    // Who is nobody ends no question, and neither does another one that opens.
    device.state.get().in_front = Err("the process is in the background".into());
    assert_eq!(refused(&receive(&begin(STRICTEST).0).0.answer), Some(Why::NotAPerson));
    assert_eq!(refused(&receive(&begin("full_lab").0).0.answer), Some(Why::Busy));
    device.state.get().in_front = Ok("tty1".into());
    // Without logind nobody is a person, and without a bus nothing is known of units.
    device.state.get().person = Err("logind knows no session of it".into());
    device.state.get().mute = true;
    let (closes, pty) = begin(STRICTEST);
    assert_eq!(refused(&receive(&opens).0.answer), Some(Why::NotConfirmed));
    pty.read_until("confirm: ");
    // What was typed of the other word is nobody's, and the rest of it the shell's.
    asked.type_in("lab\n");
    assert_eq!(asked.read_line(), "lab\n");
    assert_eq!(device.shown().profile, "research");
    assert_eq!(refused(&receive(&begin(STRICTEST).0).0.answer), Some(Why::Busy), "one at a time");
    pty.type_in(&format!("{STRICTEST}\n"));
    assert!(holds(&receive(&closes).0.answer, STRICTEST));
    // The control: what opens needs both.
    assert_eq!(refused(&receive(&begin("research").0).0.answer), Some(Why::Failed));
    device.state.get().mute = false;
    assert_eq!(refused(&receive(&begin("research").0).0.answer), Some(Why::NotAPerson));
}

#[test]
fn tokens_are_looked_at_first_and_used_by_it() {
    let Some(device) = Device::start(Shared::new()) else { return };
    let (connection, pty) = (device.connect(), Pty::new());
    let at = device.state.length();
    let told = |token: &str, profile: &str| refused(&ask_at(&connection, apply(profile, token), &pty.terminal));
    assert_eq!(told("", "research"), Some(Why::TokenUnknown));
    assert_eq!(told(&"00".repeat(32), "research"), Some(Why::TokenUnknown));
    let for_another = preview(&connection, "full_lab").token;
    assert_eq!(told(&for_another, "research"), Some(Why::TokenForAnother));
    assert_eq!(told(&for_another, "full_lab"), Some(Why::TokenUnknown), "it is used");
    let late = preview(&connection, "research").token;
    device.later(TOKEN_LIVES + Duration::from_secs(1));
    assert_eq!(told(&late, "research"), Some(Why::TokenExpired));
    let of_another = preview(&device.connect_as(1000), "research").token;
    assert_eq!(told(&of_another, "research"), Some(Why::TokenOfAnother));
    assert_eq!(told("", "nothing"), Some(Why::UnknownProfile));
    assert!(device.state.done_since(at).is_empty());
    // Another change makes what was shown untrue, also for whoever is being asked.
    let outdated = preview(&connection, "full_lab").token;
    let asked = Pty::new();
    send(&connection, 3, apply("full_lab", &outdated), Some(&asked.terminal));
    asked.read_until("confirm: ");
    let before = preview(&device.connect(), "full_lab").token;
    device.state.get().operator = "unattended: [{uids: [0], profiles: [research]}]".into();
    let by_itself = preview(&device.connect(), "research").token;
    assert!(holds(&ask(&device.connect(), apply("research", &by_itself)), "research"));
    asked.type_in("full_lab\n");
    assert_eq!(refused(&receive(&connection).0.answer), Some(Why::TokenOutdated));
    assert_eq!(told(&before, "full_lab"), Some(Why::TokenUnknown), "void with the change");
    assert_eq!(device.shown().profile, "research");
}

#[test]
fn nobody_but_a_person_or_whom_the_operator_names_changes_anything() {
    let Some(device) = Device::start(Shared::new()) else { return };
    let at = device.state.length();
    let pty = Pty::new();
    let told = |connection: &_, profile: &str, beside: bool| {
        let token = preview(connection, profile).token;
        send(connection, 1, apply(profile, &token), beside.then_some(&pty.terminal));
        receive(connection).0.answer
    };
    let user = device.connect_as(1000);
    assert_eq!(refused(&told(&user, "research", false)), Some(Why::NotAPerson), "without a terminal");
    device.state.get().person = Err("the session is over a network".into());
    let reply = told(&user, "research", true);
    assert!(matches!(&reply, Reply::Refused { why: Why::NotAPerson, message } if message.contains("over a network")));
    device.state.get().lacks.insert("tor@default.service".into());
    let reply = told(&user, "research", true);
    assert!(matches!(&reply, Reply::Refused { why: Why::UnitsMissing, message } if message.contains("tor@default")));
    let listed = device.shown().profiles;
    assert_eq!(listed.iter().find(|it| it.name == "research").unwrap().lacks, ["tor@default.service"]);
    device.state.get().lacks.clear();
    // By the page: the dashboard sees, the leak check has evidence, a service that leaves has nothing.
    for (uid, request, expected) in [
        (957, Request::Show {}, None),
        (957, Request::Preview { profile: "research".into() }, Some(Why::NotAllowed)),
        (957, apply("research", ""), Some(Why::NotAllowed)),
        (961, Request::Evidence {}, None),
        (961, Request::Show {}, Some(Why::NotAllowed)),
        (952, Request::Show {}, Some(Why::NotAllowed)),
        (952, apply(STRICTEST, ""), Some(Why::NotAllowed)),
        (65_534, apply("full_lab", ""), Some(Why::NotAllowed)),
        (60_000, Request::Show {}, None),
        (60_001, Request::Show {}, Some(Why::NotAllowed)),
    ] {
        let what = format!("{uid} {request:?}");
        assert_eq!(refused(&ask(&device.connect_as(uid), request)), expected, "{what}");
    }
    // What the operator wrote wrongly allows nothing, and is said.
    device.state.get().operator = "unattended: [{uids: [1000], profiles: [resaerch]}]".into();
    assert_eq!(refused(&told(&user, "research", true)), Some(Why::NotAPerson));
    assert!(device.shown().troubles.iter().any(|it| it.contains("resaerch")), "{:?}", device.shown().troubles);
    device.state.get().operator = "unattended: [{uids: [1000], profiles: [research]}]".into();
    assert_eq!(refused(&told(&device.connect_as(1001), "research", true)), Some(Why::NotAPerson), "another user");
    assert_eq!(refused(&told(&user, "full_lab", true)), Some(Why::NotAPerson), "another profile");
    assert!(device.state.done_since(at).is_empty(), "{:?}", device.state.done_since(at));
    assert!(holds(&told(&user, "research", false), "research"), "and this is what is allowed");
    let entry = device.state.until_entries("profile.requested", 1)[0].clone();
    assert_eq!((entry["by"].as_str(), entry["uid"].as_u64()), (Some("operator"), Some(1000)));
    assert_eq!(entry["terminal"], "");
    let refusals = device.state.until_entries("profile.refused", 9);
    assert!(refusals.iter().any(|it| it["uid"] == 65_534 && it["to"] == "full_lab"), "{refusals:?}");
}

#[test]
fn refusals_of_one_user_are_few_entries_that_count_all() {
    let Some(device) = Device::start(Shared::new()) else { return };
    let connection = device.connect_as(1000);
    for _ in 0..40 {
        assert_eq!(refused(&ask(&connection, apply("research", "no"))), Some(Why::TokenUnknown));
    }
    // Another user's has its own.
    assert_eq!(refused(&ask(&device.connect_as(1001), apply("x\u{1b}[31m", "no"))), Some(Why::UnknownProfile));
    device.state.until_entries("profile.refused", 33);
    device.later(Duration::from_secs(11));
    assert_eq!(refused(&ask(&connection, apply("research", "no"))), Some(Why::TokenUnknown));
    let entries = device.state.until_entries("profile.refused", 34);
    let of = |uid: u64| entries.iter().filter(|it| it["uid"] == uid).cloned().collect::<Vec<_>>();
    assert_eq!((of(1000).len(), of(1001).len()), (33, 1));
    assert_eq!(of(1000).last().unwrap()["unnamed"], 8);
    assert_eq!(of(1000)[0]["reason"], "token_unknown");
    assert_eq!(of(1001)[0]["to"], "x[31m", "no control characters");
}

#[test]
fn evidence_cannot_be_changed_and_has_no_mark() {
    let Some(device) = Device::start(Shared::new()) else { return };
    let connection = device.connect_as(961);
    let mark = format!("{MARK:#010x}");
    let read = || {
        send(&connection, 5, Request::Evidence {}, None);
        let (answered, Some(file)) = receive(&connection) else { panic!() };
        assert_eq!(answered.answer, Reply::Evidence {});
        let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        assert_eq!(fcntl_get_seals(&file).unwrap(), all);
        let mut file = std::fs::File::from(file);
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert!(file.write_all(b"x").is_err() && file.set_len(0).is_err(), "it is sealed");
        let evidence: Evidence = serde_json::from_str(&text).unwrap();
        evidence
    };
    assert_eq!(read().profile, STRICTEST);
    // Flows that are known by a mark there are only where something leaves.
    assert!(holds(&device.change("research"), "research"));
    let evidence = read();
    assert!(!evidence.ruleset.contains(&mark) && evidence.ruleset.contains("0x00000001"), "{}", evidence.ruleset);
    let parsed = parse(evidence.ruleset.as_bytes()).unwrap();
    let (profiles, loopback) = load_profiles(Path::new(POLICY)).unwrap();
    let page = profiles.iter().find(|page| page.name == "research").unwrap();
    assert!(bound_to(&parsed, &shipped(page, &loopback)), "it is still what it was");
    assert!(bind(&shipped(page, &loopback), MARK, ["eth0"]).to_string().contains(&mark), "the control");
    assert!(evidence.links.contains("LOOPBACK"));
    // Rules of somebody else beside ours cannot be read: the mark is still nobody's business.
    let foreign = "table ip nat {\n\tchain x {\n\t\ttcp flags 0x02 meta mark 0x0000ffee accept\n\t}\n}\n";
    device.state.get().foreign = Some(foreign.into());
    let evidence = read();
    assert!(parse(evidence.ruleset.as_bytes()).is_err());
    assert!(!evidence.ruleset.contains(&mark), "{}", evidence.ruleset);
    assert!(evidence.ruleset.contains("table ip nat") && evidence.ruleset.contains("tcp flags 0x02 meta mark 0x"));
}

#[test]
fn who_asks_for_evidence_all_the_time_keeps_nobody_from_it() {
    let Some(device) = Device::start(Shared::new()) else { return };
    let busy = |connection: &_| (0..20).filter(|_| refused(&ask(connection, Request::Evidence {})).is_some()).count();
    let (one, other) = (device.connect_as(961), device.connect_as(1000));
    // The clock goes on meanwhile.
    let (before, began) = (device.state.get().looks, Instant::now());
    let refusals = busy(&other);
    let looks = device.state.get().looks - before;
    assert!(refusals + looks >= 20 && looks <= 5 * (1 + began.elapsed().as_secs() as usize), "{refusals} {looks}");
    assert_eq!(refused(&ask(&one, Request::Evidence {})), None, "another user's");
    device.later(Duration::from_secs(2));
    assert_eq!(refused(&ask(&other, Request::Evidence {})), None, "a second later");
}

#[test]
fn hostile_packets_and_many_connections_end_nothing() {
    let Some(device) = Device::start(Shared::new()) else { return };
    let connection = device.connect();
    for packet in [&b"{}"[..], b"\xff\x00", b"[]", br#"{"id":1,"ask":{"show":{"uid":0}}}"#, &[b'['; 30_000]] {
        connection.send(packet, None).unwrap();
        assert_eq!(refused(&receive(&connection).0.answer), Some(Why::Malformed));
    }
    // A long name that is no profile's, in characters that grow when they are told.
    let long = Request::Preview { profile: "\u{10ffff}".repeat(8_000) };
    assert_eq!(refused(&ask(&connection, long)), Some(Why::UnknownProfile));
    // Too long a packet ends its own connection.
    rustix::net::send(&connection, &vec![b'x'; secai_api::PACKET_BYTES_MAX + 1], SendFlags::empty()).unwrap();
    assert!(try_receive(&connection).is_none());
    // Who asks and does not listen is let go.
    let deaf = device.connect();
    let show = br#"{"id":1,"ask":{"show":{}}}"#;
    let sent = (0..100_000).take_while(|_| deaf.send(show, None).is_ok()).count();
    assert!(sent < 100_000, "{sent}");
    drop(deaf);
    // Of one user only some connections stay, the last ones; others still come through.
    let many: Vec<_> = (0..120).map(|_| device.connect_as(1000)).collect();
    let served = |it: &_| {
        let packet = rustix::net::send(it, show, SendFlags::NOSIGNAL);
        let mut room = [0; 4096];
        packet.is_ok() && rustix::net::recv(it, &mut room, RecvFlags::empty()).is_ok_and(|(_, length)| length > 0)
    };
    device.shown();
    let of_last = many.iter().rev().map(&served).collect::<Vec<bool>>();
    assert_eq!(of_last.iter().filter(|it| **it).count(), 8);
    assert!(of_last[..8].iter().all(|it| *it), "{of_last:?}");
    // Neither is one locked out by many users, and who is being asked keeps his place.
    let (asking, pty) = (device.connect_as(1000), Pty::new());
    let token = preview(&asking, "full_lab").token;
    send(&asking, 1, apply("full_lab", &token), Some(&pty.terminal));
    pty.read_until("confirm: ");
    let of_many: Vec<_> =
        (1000..1020).flat_map(|uid| (0..8).map(move |_| uid)).map(|uid| device.connect_as(uid)).collect();
    assert_eq!(device.shown().profile, STRICTEST);
    assert!((of_many.iter().filter(|it| served(it)).count()) < 64);
    pty.type_in("full_lab\n");
    assert!(holds(&receive(&asking).0.answer, "full_lab"));
    drop((many, of_many));
    assert!(holds(&device.change("research"), "research"));
}

//! The service as it runs: callers over its socket, and the chain judged by the verifier.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic, as tests may")]

mod running;

use running::{Running, append, ask, note, receive, refused, send};
use secai_api::audit::{Answered, Asked, Prune, Range, Reply, Request, Why, from_packet, to_packet};
use secai_daemon::packet::{Buffer, Received};
use secai_verifier::audit::store::Store;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

#[test]
fn what_is_asked_is_kept_forgotten_signed_and_handed_out() {
    let mut running = Running::new();
    running.note_key();
    let connection = running.connect();
    assert_eq!(ask(&connection, note("one")), Reply::Appended { seq: Some(1) });
    assert_eq!(ask(&connection, note("two")), Reply::Appended { seq: Some(2) });
    assert_eq!(ask(&connection, Request::Forget(Range { from: 1, until: 2 })), Reply::Appended { seq: Some(3) });
    assert_eq!(refused(&ask(&connection, Request::Forget(Range { from: 1, until: 2 }))), Some(Why::Nothing));
    assert_eq!(refused(&ask(&connection, Request::Acknowledge {})), Some(Why::Nothing));
    for (until, why) in [(0, Why::Nothing), (1, Why::WrongData), (65_536, Why::Needed)] {
        assert_eq!(refused(&ask(&connection, Request::Prune(Prune { until }))), Some(why), "{until}");
    }
    let Reply::Checkpoint { note, .. } = ask(&connection, Request::Checkpoint {}) else { panic!() };
    assert!(note.contains("\n4\n"), "{note}");
    send(&connection, 7, Request::Open {});
    let mut buffer = Buffer::new();
    let Received::PacketWith(packet, folder) = connection.receive_with_descriptor(&mut buffer).unwrap() else {
        panic!()
    };
    assert_eq!(from_packet::<Answered>(packet).unwrap(), Answered { id: 7, answer: Reply::Opened {} });
    assert!(Store::from_directory(folder, Path::new("chain")).read("checkpoint", 4096).unwrap().unwrap().is_some());
    assert!(running.end(rustix::process::Signal::TERM), "it ends in order");
    let report = running.judged();
    assert_eq!((report.entries, report.unsigned(), report.payloads, report.forgotten), (5, 0, 1, 1));
}

#[test]
fn nobody_is_believed_and_nothing_wrong_is_written() {
    let running = Running::new();
    running.note_key();
    let connection = running.connect();
    let state = r#"{"from":"a","result":"b","to":"c","unit":"d"}"#;
    let long = format!(r#"{{"from":"{}","result":"b","to":"c","unit":"d"}}"#, "x".repeat(17_000));
    let asks: [(&str, Request, Why); 8] = [
        ("a kind that root may not have recorded", append("svc.state", state, None), Why::NotAllowed),
        ("a kind of the writer's own", append("audit.stop", r#"{"refused":0}"#, None), Why::NotAllowed),
        ("no kind", append("net.leak", "{}", None), Why::NotAllowed),
        ("no payload", append("owner.note", r#"{"bytes":1}"#, None), Why::WrongData),
        ("data in another spelling", append("owner.note", r#"{"bytes": 1}"#, Some("x")), Why::WrongData),
        ("data with another key", append("owner.note", r#"{"bytes":1,"uid":0}"#, Some("x")), Why::WrongData),
        ("a payload that is too long", note(&"x".repeat(9000)), Why::WrongData),
        ("too long an entry", append("svc.state", &long, None), Why::NotAllowed),
    ];
    let mut count = 0;
    for (what, request, why) in asks {
        assert_eq!(refused(&ask(&connection, request)), Some(why), "{what}");
        count += 1;
    }
    for packet in [
        &b"{}"[..],
        b"\xff",
        br#"{"id":1,"ask":{"append":{"kind":"owner.note","data":{"bytes":1},"payload":"eA==","uid":0}}}"#,
    ] {
        connection.send(packet, None).unwrap();
        assert_eq!(refused(&receive(&connection).unwrap().answer), Some(Why::Malformed));
        count += 1;
    }
    let status = running.status();
    assert_eq!((status.size, status.refused.values().sum::<u64>()), (1, count), "{status:?}");
    // Not even what is not JSON, or far too long, ends the connection of others or ours.
    assert_eq!(ask(&connection, note("still there")), Reply::Appended { seq: Some(1) });
}

/// What a user may ask, as the kernel names it: this thread's user is changed, and nothing else.
fn as_user<T: Send>(uid: u32, act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let uid = rustix::process::Uid::from_raw(uid);
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            act()
        });
        thread.join().unwrap()
    })
}

#[test]
fn a_caller_is_whom_the_kernel_names() {
    if !rustix::process::geteuid().is_root() {
        // Only root may be somebody else; CI is root.
        return;
    }
    let running = Running::new();
    fs::set_permissions(running.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let _ready = running.connect();
    let state = r#"{"from":"a","result":"b","to":"c","unit":"d"}"#;
    let service = || append("svc.state", state, None);
    for (uid, request, expected) in [
        (956, service(), None),
        (1000, service(), Some(Why::NotAllowed)),
        (65_534, service(), Some(Why::NotAllowed)),
        (1000, note("mine"), None),
        (952, note("mine"), Some(Why::NotAllowed)),
        (960, Request::Status {}, None),
        (952, Request::Status {}, Some(Why::NotAllowed)),
        (960, Request::Forget(Range { from: 0, until: 9 }), Some(Why::NotAllowed)),
    ] {
        let what = format!("{uid}: {request:?}");
        let connection = as_user(uid, || running.connect());
        assert_eq!(refused(&ask(&connection, request)), expected, "{what}");
    }
    let text = fs::read_to_string(running.path("state/chain/seg/000000000000.jsonl")).unwrap();
    assert!(text.contains(r#""w":"audit","uid":956,"k":"svc.state""#), "{text}");
    assert!(text.contains(r#""w":"person","uid":1000,"k":"owner.note""#), "{text}");
}

#[test]
fn a_full_disk_is_said_and_room_lets_it_go_on() {
    if !rustix::process::geteuid().is_root() {
        // Only root may mount a small disk; CI is root.
        return;
    }
    let mut running = Running::new();
    running.note_key();
    assert!(running.end(rustix::process::Signal::TERM));
    // A small disk that this run of the service alone sees.
    let script =
        r#"cp -a "$1" "$1.kept"; mount -t tmpfs -o size=100m none "$1"; cp -a "$1.kept/." "$1"; shift; exec "$@""#;
    let state = running.path("state").to_string_lossy().into_owned();
    let mut command = running.command_behind(&["unshare", "--mount", "sh", "-euc", script, "sh", &state]);
    running.start(&mut command);
    let connection = running.connect();
    assert!(matches!(ask(&connection, note("before")), Reply::Appended { .. }));
    let pid = running.child.as_ref().unwrap().id();
    let filler = format!("/proc/{pid}/root{state}/filler");
    // Below the reserve, what is not of the chain itself is refused; a person may still forget.
    fs::write(&filler, vec![1; 60 << 20]).unwrap();
    assert_eq!(refused(&ask(&connection, note("low"))), Some(Why::DiskFull));
    assert!(matches!(ask(&connection, Request::Forget(Range { from: 0, until: 99 })), Reply::Appended { .. }));
    // Without any room nothing is written and nothing ends.
    let mut file = fs::File::options().append(true).open(&filler).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    assert_eq!(refused(&ask(&connection, Request::Checkpoint {})), Some(Why::DiskFull));
    assert_eq!(refused(&ask(&connection, note("full"))), Some(Why::DiskFull));
    let Reply::Status(status) = ask(&connection, Request::Status {}) else { panic!() };
    assert!(status.disk_full && status.refused["disk_full"] == 3, "{status:?}");
    drop(file);
    fs::remove_file(&filler).unwrap();
    assert_eq!(ask(&connection, note("after")), Reply::Appended { seq: Some(status.size) });
    assert!(matches!(ask(&connection, Request::Checkpoint {}), Reply::Checkpoint { .. }));
    let kept = running.path("judged");
    running::copy_tree(std::path::Path::new(&format!("/proc/{pid}/root{state}/chain")), &kept);
    running.end(rustix::process::Signal::KILL);
    assert_eq!(running.judged_at(&kept).unsigned(), 0);
}

#[test]
fn of_64_writers_killed_at_random_nothing_acknowledged_is_lost() {
    let mut running = Running::new();
    running.note_key();
    let mut acknowledged = BTreeSet::new();
    for round in 0..6u64 {
        let stop = std::sync::atomic::AtomicBool::new(false);
        // All of them are there before the service dies.
        let connected = std::sync::Barrier::new(65);
        let seen: Vec<u64> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..64)
                .map(|writer| {
                    let (running, stop, connected) = (&running, &stop, &connected);
                    scope.spawn(move || {
                        let connection = running.connect();
                        connected.wait();
                        let mut seen = Vec::new();
                        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                            let text = format!("{round}-{writer}-{}", seen.len());
                            let packet = to_packet(&Asked { id: 1, ask: note(&text) }).unwrap();
                            if connection.send(&packet, None).is_err() {
                                break;
                            }
                            match receive(&connection) {
                                Some(Answered { answer: Reply::Appended { seq: Some(seq) }, .. }) => seen.push(seq),
                                _ => break,
                            }
                        }
                        seen
                    })
                })
                .collect();
            connected.wait();
            std::thread::sleep(Duration::from_millis(150 + 40 * round));
            // The service dies in the middle of it; the writers see that.
            let pid = rustix::process::Pid::from_child(running.child.as_ref().unwrap());
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            let seen = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            seen
        });
        running.end(rustix::process::Signal::KILL);
        for seq in seen {
            assert!(acknowledged.insert(seq), "entry {seq} was acknowledged twice");
        }
        running.start(&mut running.command());
        let size = running.status().size;
        assert!(acknowledged.last().is_none_or(|last| *last < size), "{size} entries, {acknowledged:?}");
    }
    assert!(running.end(rustix::process::Signal::TERM));
    let report = running.judged();
    eprintln!("{} acknowledged, {} entries, {} payloads", acknowledged.len(), report.entries, report.payloads);
    assert!(acknowledged.len() > 200 && report.payloads >= acknowledged.len() as u64);
}

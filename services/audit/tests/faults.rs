//! The service is killed at every system call of an append, a rotation and a removal of segments, and each call that
//! writes fails once.
//! `strace` counts the calls and brings the faults about in the real program.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic, as tests may")]

mod running;

use running::{Running, ask, copy_tree, note, receive, send};
use secai_api::audit::{Answered, Prune, Reply, Request, Why};
use secai_audit::recover::{Places, open};
use secai_audit::writer::{Pending, Writer};
use secai_daemon::packet::Connection;
use secai_verifier::audit::report::Remark;
use secai_verifier::audit::{EPOCHS_KEPT, SEGMENT_ENTRIES, payload_path, segment_path};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A system call: the name of its thread, its own, and how many of that name there were up to it in that thread.
type Call = (String, String, u32);

/// Is `strace` there, and may it look? CI must have it.
fn can_trace() -> bool {
    let traced = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    let can = traced.is_ok_and(|status| status.success());
    assert!(can || std::env::var_os("CI").is_none(), "strace is needed");
    if !can {
        eprintln!("SKIPPED: strace cannot trace here");
    }
    can
}

fn has_minutes() -> bool {
    std::env::var("SECAI_TIER").is_ok_and(|tier| tier == "vm")
}

/// A device whose service is not running, after `grow` has written to its chain.
fn device(grow: impl Fn(&mut Writer)) -> Running {
    let mut device = Running::new();
    device.note_key();
    device.end(rustix::process::Signal::TERM);
    let places = Places { state: device.path("state"), keys: device.path("keys") };
    let (mut writer, _) = open(&places).unwrap();
    grow(&mut writer);
    writer.stop(0).unwrap();
    device
}

fn copy_of(device: &Running) -> Running {
    let copy = Running { dir: tempfile::tempdir().unwrap(), child: None };
    copy_tree(device.dir.path(), copy.dir.path());
    let _ = fs::remove_file(copy.path("socket"));
    copy
}

/// A device whose service runs, has done what it does before the first request, and waits.
fn running(device: &Running) -> (Running, Connection) {
    let mut copy = copy_of(device);
    copy.start(&mut copy.command());
    let connection = copy.connect();
    assert!(matches!(ask(&connection, Request::Status {}), Reply::Status(_)));
    let asleep = |thread: &String| {
        let stat = fs::read_to_string(format!("/proc/{thread}/stat")).unwrap();
        stat.rsplit(") ").next().is_some_and(|after| after.starts_with('S'))
    };
    while !threads(&copy).values().all(asleep) {
        std::thread::sleep(Duration::from_millis(1));
    }
    (copy, connection)
}

/// The threads of the service by their names.
fn threads(device: &Running) -> BTreeMap<String, String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", device.child.as_ref().unwrap().id())).unwrap();
    let named = tasks.flatten().map(|task| {
        let name = fs::read_to_string(task.path().join("comm")).unwrap().trim_end().to_owned();
        (name, task.file_name().into_string().unwrap())
    });
    named.collect()
}

/// `strace`, attached when this returns.
fn trace<'a>(threads: impl IntoIterator<Item = &'a String>, words: &[&str]) -> Child {
    let threads: Vec<_> = threads.into_iter().flat_map(|thread| ["-p", thread]).collect();
    let mut child = Command::new("strace").args(&threads).args(words).stderr(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let attached = said.filter(|line| line.ends_with(" attached")).take(threads.len() / 2).count();
    assert_eq!(attached, threads.len() / 2, "strace did not attach: {:?}", child.wait());
    child
}

/// Waiting, and looking at the room on the disk after it: how often depends on which thread is faster, and nothing
/// changes by it.
const WAITING: [&str; 4] = ["epoll_wait", "epoll_pwait", "futex", "statfs"];

/// The calls between taking the request and answering it, of all threads.
fn calls(device: &Running, request: fn() -> Request) -> Vec<Call> {
    let (mut device, connection) = running(device);
    let threads = threads(&device);
    let path = device.path("trace");
    let mut strace = trace(threads.values(), &["-o", path.to_str().unwrap()]);
    assert!(matches!(ask(&connection, request()), Reply::Appended { .. }));
    device.end(rustix::process::Signal::KILL);
    strace.wait().unwrap();
    let text = fs::read_to_string(path).unwrap();
    let (mut count, mut calls, mut within) = (BTreeMap::new(), Vec::new(), false);
    for line in text.lines() {
        // Of several threads each line begins with the number of one.
        let of = |id: &str| threads.iter().find(|(_, thread)| *thread == id).map(|(name, _)| name);
        let (thread, line) = match line.split_once(' ').and_then(|(id, line)| Some((of(id)?, line.trim_start()))) {
            Some(found) => found,
            None => (threads.keys().next().unwrap(), line),
        };
        let Some((name, _)) = line.split_once('(') else { continue };
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            continue;
        }
        let number = count.entry((thread, name.to_owned())).or_insert(0);
        *number += 1;
        within |= name == "recvmsg" && line.contains(r#"\"ask\""#);
        if within && !WAITING.contains(&name) {
            calls.push((thread.clone(), name.to_owned(), *number));
        }
        if within && name == "sendmsg" {
            return calls;
        }
    }
    panic!("no answer was traced:\n{text}");
}

/// Brings one fault about while a request is under way; what was answered, and the device afterwards.
fn with_fault(
    device: &Running,
    (thread, name, number): &Call,
    fault: &str,
    request: fn() -> Request,
) -> (Running, Option<Answered>) {
    let (copy, connection) = running(device);
    let (only, inject) = (format!("trace={name}"), format!("inject={name}:{fault}:when={number}"));
    let mut strace = trace([&threads(&copy)[thread]], &["-o", "/dev/null", "-e", &only, "-e", &inject]);
    send(&connection, 1, request());
    let answer = receive(&connection);
    // It ends with what it traces, or lets go of it.
    let _ = strace.kill();
    strace.wait().unwrap();
    (copy, answer)
}

/// It starts again, has what it acknowledged, goes on, and the verifier accepts all of it.
fn goes_on(mut device: Running, acknowledged: Option<u64>, what: &str) {
    again(&mut device);
    let Reply::Appended { seq: Some(seq) } = ask(&device.connect(), note("afterwards")) else { panic!("{what}") };
    assert!(
        acknowledged.is_none_or(|acknowledged| acknowledged < seq),
        "{what}: {acknowledged:?} is lost, {seq} is next"
    );
    assert!(device.end(rustix::process::Signal::TERM), "{what}");
    let report = device.judged();
    assert_eq!(report.unsigned(), 0, "{what}");
}

/// It starts once more, after whatever ended it.
fn again(device: &mut Running) {
    let _ = device.child.take().map(|mut child| child.wait());
    let _ = fs::remove_file(device.path("socket"));
    device.start(&mut device.command());
}

fn a_note() -> Request {
    note("under way")
}

fn killed_at_every_call(device: &Running) {
    let calls = calls(device, a_note);
    let mut hit = 0;
    for call in &calls {
        let what = format!("{} (number {} of {})", call.1, call.2, call.0);
        let (device, answer) = with_fault(device, call, "signal=KILL", a_note);
        let acknowledged = answer.map(|answered| match answered.answer {
            Reply::Appended { seq: Some(seq) } => seq,
            other => panic!("{what}: {other:?}"),
        });
        assert!(acknowledged.is_none(), "{what}: it answered, and should have died before");
        hit += 1;
        goes_on(device, acknowledged, &what);
    }
    eprintln!("{hit} of {} cut points", calls.len());
    assert!(["fdatasync", "pwrite64"].iter().all(|name| calls.iter().any(|call| call.1 == *name)));
}

#[test]
fn killed_at_every_call_of_an_append_it_goes_on() {
    if can_trace() {
        killed_at_every_call(&device(|_| {}));
    }
}

/// The chain is one entry short of a full segment once the service has said that it started.
fn before_a_rotation() -> Running {
    device(|writer| {
        let data = r#"{"from":"a","result":"b","to":"c","unit":"d"}"#.to_owned();
        let entry = Pending { writer: "audit".into(), uid: 956, kind: "svc.state", data, payload: None };
        // Then come: the end of this writer, and the beginning of the next.
        while writer.size() < SEGMENT_ENTRIES - 2 {
            let room = SEGMENT_ENTRIES - 2 - writer.size();
            writer.append(&vec![entry.clone(); room.min(4096) as usize]).unwrap();
        }
    })
}

#[test]
fn killed_at_every_call_of_a_rotation_it_goes_on() {
    // Minutes: each start reads a whole segment.
    if can_trace() && has_minutes() {
        killed_at_every_call(&before_a_rotation());
    }
}

/// Calls that change what lies on the disk: between two of them it is the same. A removal reads far more than it writes.
const CHANGING: [&str; 8] = ["pwrite64", "fdatasync", "fsync", "syncfs", "rename", "ftruncate", "unlink", "unlinkat"];

fn a_removal() -> Request {
    Request::Prune(Prune { until: SEGMENT_ENTRIES })
}

/// A chain with remarks and the ends of two epochs in its first segment, all of which is in closed epochs.
fn before_a_removal() -> Running {
    device(|writer| {
        let remark = Pending {
            writer: "person".into(),
            uid: 1000,
            kind: "owner.note",
            data: r#"{"bytes":1}"#.into(),
            payload: Some(b"x".to_vec()),
        };
        let fill = |writer: &mut Writer, until: u64| {
            while writer.size() < until {
                let room = until - writer.size();
                writer.append(&vec![remark.clone(); room.min(4096) as usize]).unwrap();
            }
            writer.end_epoch().unwrap();
        };
        [700, 3000, SEGMENT_ENTRIES + 500].into_iter().for_each(|until| fill(writer, until));
    })
}

#[test]
fn killed_at_every_change_of_a_removal_it_completes_it_or_never_began() {
    // Minutes: each verdict reads more than a whole segment.
    if !can_trace() || !has_minutes() {
        return;
    }
    let device = before_a_removal();
    let calls: Vec<_> =
        calls(&device, a_removal).into_iter().filter(|call| CHANGING.contains(&call.1.as_str())).collect();
    let (mut completed, mut not_begun) = (0, 0);
    for call in &calls {
        let what = format!("{} (number {} of {})", call.1, call.2, call.0);
        let (mut device, answer) = with_fault(&device, call, "signal=KILL", a_removal);
        assert_eq!(answer, None, "{what}: it answered, and should have died before");
        // As the crash left it, before anything is put in order.
        device.judged();
        again(&mut device);
        let answer = ask(&device.connect(), a_removal());
        match &answer {
            Reply::Appended { .. } => not_begun += 1,
            Reply::Refused { why: Why::Nothing, .. } => completed += 1,
            other => panic!("{what}: {other:?}"),
        }
        assert!(device.end(rustix::process::Signal::TERM), "{what}");
        for gone in [segment_path(0), payload_path(0)] {
            assert!(!device.path("state/chain").join(gone).exists(), "{what}");
        }
        let kept = fs::read_to_string(device.path("state/chain").join(EPOCHS_KEPT)).unwrap();
        assert_eq!(kept.lines().count(), 2, "{what}: {kept}");
        let report = device.judged();
        let removed = Remark::Pruned { until: SEGMENT_ENTRIES, signed: true };
        assert!(report.unsigned() == 0 && report.remarks.contains(&removed), "{what}: {report:?}");
    }
    eprintln!("{} of {0} cut points: {completed} completed at the next start, {not_begun} not begun", calls.len());
    assert!(completed > 3 && not_begun > 3);
    assert!(["pwrite64", "syncfs", "unlink", "fsync"].iter().all(|name| calls.iter().any(|call| call.1 == *name)));
}

#[test]
fn a_call_that_fails_is_never_acknowledged() {
    if !can_trace() {
        return;
    }
    let device = device(|_| {});
    let calls = calls(&device, a_note);
    for (name, error) in [("pwrite64", "EIO"), ("pwrite64", "ENOSPC"), ("fdatasync", "EIO"), ("fdatasync", "ENOSPC")] {
        for call in calls.iter().filter(|call| call.1 == name) {
            let what = format!("{name} number {} fails with {error}", call.2);
            let (mut device, answer) = with_fault(&device, call, &format!("error={error}"), a_note);
            // Room that could not be made is said; after anything else the service ends without an answer.
            match answer.map(|answered| answered.answer) {
                None => {
                    let ended = device.child.take().unwrap().wait().unwrap();
                    assert_eq!(ended.code(), Some(2), "{what}");
                    let said = fs::read_to_string(device.path("log")).unwrap();
                    assert!(said.contains("because: cannot") && said.contains("hint: "), "{what}: {said}");
                }
                Some(Reply::Refused { .. }) => drop(device.end(rustix::process::Signal::KILL)),
                other => panic!("{what}: {other:?}"),
            }
            goes_on(device, None, &what);
        }
    }
}

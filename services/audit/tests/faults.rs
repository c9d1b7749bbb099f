//! The service is killed at every system call of an append and of a rotation, and each call that writes fails once.
//! `strace` counts the calls and brings the faults about in the real program.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic, as tests may")]

mod running;

use running::{Running, ask, copy_tree, note, receive, send};
use secai_api::audit::{Answered, Reply};
use secai_audit::recover::{Places, open};
use secai_audit::writer::{Pending, Writer};
use secai_verifier::audit::SEGMENT_ENTRIES;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

/// A system call by its name, and how many of that name there were up to it since the program began.
type Call = (String, u32);

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

/// The calls between taking the request and answering it. Waiting for requests is left out: there nothing is under way.
fn calls(device: &Running) -> Vec<Call> {
    let mut device = copy_of(device);
    let trace = device.path("trace").to_string_lossy().into_owned();
    device.start(&mut device.command_behind(&["strace", "-qq", "-o", &trace]));
    assert!(matches!(ask(&device.connect(), note("traced")), Reply::Appended { .. }));
    device.kill_behind();
    let text = fs::read_to_string(trace).unwrap();
    let (mut count, mut calls, mut within) = (BTreeMap::new(), Vec::new(), false);
    for line in text.lines() {
        let Some((name, _)) =
            line.split_once('(').filter(|(name, _)| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
        else {
            continue;
        };
        let number = count.entry(name.to_owned()).or_insert(0);
        *number += 1;
        within |= name == "recvmsg" && line.contains(r#"\"ask\""#);
        if within && name != "epoll_wait" {
            calls.push((name.to_owned(), *number));
        }
        if within && name == "sendmsg" {
            return calls;
        }
    }
    panic!("no answer was traced:\n{text}");
}

/// Brings one fault about while a request is under way; what was answered, and the device afterwards.
fn with_fault(device: &Running, (name, number): &Call, fault: &str) -> (Running, Option<Answered>) {
    let mut copy = copy_of(device);
    let inject = format!("inject={name}:{fault}:when={number}");
    let trace = format!("trace={name}");
    copy.start(&mut copy.command_behind(&["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject]));
    let connection = copy.connect();
    send(&connection, 1, note("under way"));
    let answer = receive(&connection);
    (copy, answer)
}

/// It starts again, has what it acknowledged, goes on, and the verifier accepts all of it.
fn goes_on(mut device: Running, acknowledged: Option<u64>, what: &str) {
    let _ = device.child.take().map(|mut child| child.wait());
    let _ = fs::remove_file(device.path("socket"));
    device.start(&mut device.command());
    let Reply::Appended { seq: Some(seq) } = ask(&device.connect(), note("afterwards")) else { panic!("{what}") };
    assert!(
        acknowledged.is_none_or(|acknowledged| acknowledged < seq),
        "{what}: {acknowledged:?} is lost, {seq} is next"
    );
    assert!(device.end(rustix::process::Signal::TERM), "{what}");
    let report = device.judged();
    assert_eq!(report.unsigned(), 0, "{what}");
}

fn killed_at_every_call(device: &Running) {
    let calls = calls(device);
    let mut hit = 0;
    for call in &calls {
        let what = format!("{} (number {})", call.0, call.1);
        let (device, answer) = with_fault(device, call, "signal=KILL");
        let acknowledged = answer.map(|answered| match answered.answer {
            Reply::Appended { seq: Some(seq) } => seq,
            other => panic!("{what}: {other:?}"),
        });
        assert!(acknowledged.is_none(), "{what}: it answered, and should have died before");
        hit += 1;
        goes_on(device, acknowledged, &what);
    }
    eprintln!("{hit} of {} cut points", calls.len());
    assert!(calls.iter().any(|(name, _)| name == "fdatasync") && calls.iter().any(|(name, _)| name == "pwrite64"));
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
    if can_trace() && std::env::var("SECAI_TIER").is_ok_and(|tier| tier == "vm") {
        killed_at_every_call(&before_a_rotation());
    }
}

#[test]
fn a_call_that_fails_is_never_acknowledged() {
    if !can_trace() {
        return;
    }
    let device = device(|_| {});
    let calls = calls(&device);
    for (name, error) in [("pwrite64", "EIO"), ("pwrite64", "ENOSPC"), ("fdatasync", "EIO"), ("fdatasync", "ENOSPC")] {
        for call in calls.iter().filter(|(called, _)| called == name) {
            let what = format!("{name} number {} fails with {error}", call.1);
            let (mut device, answer) = with_fault(&device, call, &format!("error={error}"));
            // Room that could not be made is said; after anything else the service ends without an answer.
            match answer.map(|answered| answered.answer) {
                None => {
                    let ended = device.child.take().unwrap().wait().unwrap();
                    assert_eq!(ended.code(), Some(2), "{what}");
                    let said = fs::read_to_string(device.path("log")).unwrap();
                    assert!(said.contains("because: cannot") && said.contains("hint: "), "{what}: {said}");
                }
                Some(Reply::Refused { .. }) => device.kill_behind(),
                other => panic!("{what}: {other:?}"),
            }
            goes_on(device, None, &what);
        }
    }
}

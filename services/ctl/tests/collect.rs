//! `secaictl collect` on the machine that runs the tests: what it is not is said, and what it wrote is evidence.

#![expect(clippy::unwrap_used, reason = "what the tests share is a test too")]

use std::fs::{self, File, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use secai_api::packet::{from_packet, to_packet};
use secai_api::profiles::{Answered, Asked, Reply, Request};
use secai_daemon::listen::bind_without_systemd;
use secai_daemon::packet::{Buffer, Received};
use secai_verifier::evidence::Item;
use secai_verifier::files::load_evidence;
use serde_json::Value;

fn collect(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_secaictl"));
    command.args(["collect", "--profiles", "/nonexistent/p", "--audit", "/nonexistent/a", "--output"]);
    command.arg(folder).args(words).output().unwrap()
}

#[test]
fn everything_is_there_or_missing_with_its_reason() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("evidence");
    let answer = collect(&folder, &["--json"]);
    assert_eq!(answer.status.code(), Some(0), "{answer:?}");
    let said: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let evidence = load_evidence(&folder).unwrap().unwrap();
    let missing: Vec<_> = evidence.missing().collect();
    assert_eq!(said["gathered"].as_u64().unwrap() as usize, Item::ALL.len() - missing.len());
    // Nobody answers for these two.
    for (name, why) in [("profile", "profiles service cannot be reached"), ("chain", "audit daemon cannot be reached")]
    {
        let found = missing.iter().find(|it| it.what == name).unwrap_or_else(|| panic!("{name}: {missing:?}"));
        assert!(found.why.contains(why), "{found:?}");
        assert!(String::from_utf8_lossy(&answer.stderr).contains(&format!("{name} is missing: ")));
    }
    // What every kernel has is what it has.
    assert_eq!(evidence.bytes(Item::BootId).unwrap(), fs::read("/proc/sys/kernel/random/boot_id").unwrap());
    assert_eq!(evidence.bytes(Item::CommandLine).unwrap(), fs::read("/proc/cmdline").unwrap());
    secai_verifier::evidence::sockets::parse(evidence.text(Item::Tcp).unwrap().unwrap()).unwrap();
    // Nobody else reads it.
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(folder.join("evidence.json")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn nothing_is_overwritten_and_nothing_left_in_part() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("mine"), "x").unwrap();
    let answer = collect(scratch.path(), &[]);
    assert_eq!((answer.status.code(), answer.stdout.len()), (Some(2), 0));
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    // Where there is no room, nothing is begun.
    let answer = collect(&scratch.path().join("mine/evidence"), &[]);
    assert_eq!(answer.status.code(), Some(2));
    // An empty folder is taken.
    let empty = scratch.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert_eq!(collect(&empty, &[]).status.code(), Some(0));
    assert!(empty.join("evidence.json").exists());
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2, "the parts are gone");
}

/// A profiles service that answers one request, with this beside its answer.
fn answering(socket: &Path, beside: Option<OwnedFd>) {
    let listener = bind_without_systemd(socket).unwrap();
    fs::set_permissions(socket, Permissions::from_mode(0o666)).unwrap();
    thread::spawn(move || {
        let connection = loop {
            match listener.accept().unwrap() {
                Some(connection) => break connection,
                None => thread::sleep(Duration::from_millis(1)),
            }
        };
        let mut buffer = Buffer::new();
        let Ok(Received::Packet(packet)) = connection.receive_with_descriptor(&mut buffer) else { return };
        let Asked { id, ask } = from_packet(packet).unwrap();
        assert_eq!(ask, Request::Evidence {});
        let answer = to_packet(&Answered { id, answer: Reply::Evidence {} }).unwrap();
        let _ = connection.send(&answer, beside.as_ref().map(AsFd::as_fd));
        // Whoever asked has it before the connection ends.
        let _ = connection.receive_with_descriptor(&mut buffer);
    });
}

/// Who may read what everybody may.
const NOBODY: u32 = 65_534;

#[test]
fn a_person_is_told_rules_and_links_by_the_service() {
    let gathered = |beside: Option<OwnedFd>| {
        let scratch = tempfile::tempdir().unwrap();
        fs::set_permissions(scratch.path(), Permissions::from_mode(0o777)).unwrap();
        let (socket, folder) = (scratch.path().join("p.sock"), scratch.path().join("evidence"));
        answering(&socket, beside);
        // Where it was compiled not everybody may look.
        let program = scratch.path().join("secaictl");
        fs::copy(env!("CARGO_BIN_EXE_secaictl"), &program).unwrap();
        let mut command = Command::new(program);
        command.args(["collect", "--audit", "/nonexistent/a", "--profiles"]).arg(&socket).arg("--output").arg(&folder);
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let answer = command.current_dir("/").output().unwrap();
        assert_eq!(answer.status.code(), Some(0), "{answer:?}");
        let evidence = load_evidence(&folder).unwrap().unwrap();
        [Item::Profile, Item::Ruleset, Item::Links].map(|item| match evidence.bytes(item) {
            Ok(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Err(unseen) => format!("- {}", unseen.why),
        })
    };
    let file = |text: &str| {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("f"), text).unwrap();
        OwnedFd::from(File::open(scratch.path().join("f")).unwrap())
    };
    let told = r#"{"profile":"research","ruleset":"table x","links":"[]"}"#;
    assert_eq!(gathered(Some(file(told))), ["research\n", "table x", "[]"]);
    let (pipe, _writer) = std::io::pipe().unwrap();
    for beside in [None, Some(file("{}")), Some(file(&told[1..])), Some(OwnedFd::from(pipe))] {
        let found = gathered(beside);
        assert!(found.iter().all(|it| it.contains("answered something else")), "{found:?}");
    }
}

//! The program: exit codes, standard output, JSON.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use secai_verifier::evidence::Item;
use serde_json::Value;

use crate::make::Lab;

/// A verb over everything that there is of a device.
pub fn run(lab: &Lab, verb: &str, more: &[&str]) -> Output {
    let all = ["--evidence", "evidence", "--root", "root", "--release", "bundle", "--trust", "trust"];
    plainly(lab, &[&[verb], &all[..], more].concat())
}

fn plainly(lab: &Lab, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_verify-release")).args(words).current_dir(lab.dir.path()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn json_of(answer: &Output) -> Value {
    serde_json::from_slice(&answer.stdout).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

#[test]
fn accepted_is_0_refused_is_1_and_the_rest_is_2() {
    let lab = Lab::new();
    let good = run(&lab, "device", &[]);
    let said = text(&good.stdout);
    assert_eq!((good.status.code(), text(&good.stderr).as_str()), (Some(0), ""), "{said}");
    assert!(said.starts_with("accepted\nrelease   minimal 0.1.0, number 7 of dev\n"), "{said}");
    assert!(said.contains("offline_private is proven, leaves: nothing"), "{said}");

    fs::write(lab.at("/etc/hostname"), "other\n").unwrap();
    let json = json_of(&run(&lab, "device", &["--format", "json"]));
    assert_eq!((&json["verdict"], &json["listed"]["etc"][0]), (&"accepted".into(), &"changed: /etc/hostname".into()));

    // What is not given is not judged, and nothing is accepted in part.
    for words in [
        &["device", "--evidence", "evidence"][..],
        &["device", "--evidence", "evidence", "--root", "root"],
        &["device", "--evidence", "evidence", "--release", "bundle", "--trust", "trust"],
    ] {
        let part = plainly(&lab, words);
        let said = text(&part.stdout);
        assert_eq!(part.status.code(), Some(2), "{said}");
        assert!(said.starts_with("not judged in full\nnot seen: "), "{said}");
    }
    for words in [
        &["device", "--evidence", "nowhere"][..],
        &["device", "--evidence", "evidence", "--root", "nowhere"],
        &["device", "--evidence", "evidence", "--release", "bundle"],
        &["device", "--evidence", "evidence", "--boot", "root/boot"],
        &["claims", "--evidence", "evidence"],
    ] {
        let none = plainly(&lab, words);
        assert_eq!((none.status.code(), text(&none.stdout).as_str()), (Some(2), ""), "{words:?}");
    }
    lab.replace(Item::Lockdown, "none [integrity]", "[none] integrity");
    let bad = run(&lab, "device", &[]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(text(&bad.stdout).starts_with("refused\nKernelNotLocked: "), "{}", text(&bad.stdout));
    fs::write(lab.path("evidence/tcp"), "x").unwrap();
    for verb in ["device", "claims"] {
        let damaged = run(&lab, verb, &[]);
        assert_eq!(damaged.status.code(), Some(1));
        assert!(text(&damaged.stdout).starts_with("refused\nEvidenceDamaged: "), "{}", text(&damaged.stdout));
    }
}

/// Who may read what everybody may.
const NOBODY: u32 = 65_534;

#[test]
fn what_may_not_be_read_is_named_and_nothing_is_accepted() {
    let lab = Lab::new();
    let path = lab.at("/etc/hostname");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).unwrap();
    // Where it was compiled not everybody may look.
    let program = lab.dir.path().join("verify-release");
    fs::copy(env!("CARGO_BIN_EXE_verify-release"), &program).unwrap();
    let mut command = Command::new(program);
    command.args(["device", "--evidence", "evidence", "--root", "root", "--release", "bundle", "--trust", "trust"]);
    if fs::read(&path).is_ok() {
        // Root reads everything: somebody else is asked.
        fs::set_permissions(lab.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    let answer = command.current_dir(lab.dir.path()).output().unwrap();
    assert_eq!(answer.status.code(), Some(2));
    assert!(text(&answer.stdout).contains("not seen: /etc/hostname: "), "{}", text(&answer.stdout));
}

//! The program: exit codes, standard output, JSON.

use std::path::Path;
use std::process::{Command, Output};

use crate::make::{NOW, Plan};

fn run(root: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_verify-release")).args(arguments).current_dir(root).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const JUDGE: [&str; 6] = ["bundle", "bundle", "--trust", "trust", "--assume-now", NOW];

#[test]
fn accepted_is_0_refused_is_1_and_the_rest_is_2() {
    let dir = tempfile::tempdir().unwrap();
    Plan::default().make(dir.path());
    let good = run(dir.path(), &JUDGE);
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    assert!(
        text(&good.stdout).starts_with("accepted\nname      minimal\nversion   0.1.0\nnumber    7\n"),
        "{}",
        text(&good.stdout)
    );
    assert!(good.stderr.is_empty());
    let json = run(dir.path(), &[&JUDGE[..], &["--format", "json"]].concat());
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((value["verdict"].as_str(), value["release"]["number"].as_u64()), (Some("accepted"), Some(7)));

    let late = run(dir.path(), &["bundle", "bundle", "--trust", "trust", "--assume-now", "2027-03-01T00:00:00Z"]);
    assert_eq!(late.status.code(), Some(1));
    assert!(
        text(&late.stdout).starts_with("refused\nReleaseExpired: the release expired at"),
        "{}",
        text(&late.stdout)
    );
    std::fs::remove_file(dir.path().join("bundle/release.json")).unwrap();
    let json = run(dir.path(), &[&JUDGE[..], &["--format", "json"]].concat());
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((json.status.code(), value["verdict"].as_str()), (Some(1), Some("refused")));
    assert_eq!(value["refusals"][0]["name"], "FileMissing");

    for arguments in [
        &["bundle", "absent", "--trust", "trust"][..],
        &["bundle", "bundle", "--trust", "absent"],
        &["bundle", "bundle", "--trust", "bundle"],
        &["bundle", "trust/roles.yml", "--trust", "trust"],
        &["bundle", "bundle"],
        &["bundle", "bundle", "--trust", "trust", "--assume-now", "yesterday"],
        &["explain", "Nonsense"],
        &[],
    ] {
        let out = run(dir.path(), arguments);
        assert_eq!(out.status.code(), Some(2), "{arguments:?}");
        assert!(out.stdout.is_empty() && !out.stderr.is_empty(), "{arguments:?}");
    }
    let absent = text(&run(dir.path(), &["bundle", "absent", "--trust", "trust"]).stderr);
    assert!(
        absent.contains("cannot read absent") && absent.contains("because: ") && absent.contains("hint: "),
        "{absent}"
    );
}

#[test]
fn every_refusal_is_explained() {
    let names = text(&run(Path::new("."), &["explain"]).stdout);
    assert!(names.lines().count() > 40);
    for name in ["SbomOmitsFile", "KeySignedTwice"] {
        let out = run(Path::new("."), &["explain", name]);
        assert!(out.status.success() && text(&out.stdout).starts_with(&format!("{name}\n\n")));
    }
}

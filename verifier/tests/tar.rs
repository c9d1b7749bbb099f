//! GNU tar reads our archives as we do.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a helper of tests may panic and print, as tests may")]
#![allow(clippy::disallowed_methods, reason = "the verifier starts no process; its tests compare it with others")]

use std::process::Command;

use secai_verifier::ostree::Xattrs;
use secai_verifier::tar::{END, Entry, Kind, preamble};

#[test]
fn gnu_tar_lists_the_same_names() {
    if Command::new("tar").arg("--version").output().is_err() {
        println!("SKIPPED: no tar here");
        return;
    }
    let xattrs = Xattrs::new([(b"user.x".to_vec(), vec![0, b'\n', b'=', 0xff])]).unwrap();
    let long = format!("usr/{}/{}", "a".repeat(90), "b".repeat(90));
    let mut entries: Vec<Entry> = preamble(0o755, 0, 0).into_iter().map(|(entry, _)| entry).collect();
    entries.push(Entry { xattrs, ..Entry::object("usr/é", 513) });
    entries.push(Entry::object(long.clone(), 0));
    entries.push(Entry { kind: Kind::HardLink(long), ..Entry::object("usr/hard", 0) });
    entries.push(Entry { kind: Kind::Symlink("é".repeat(60)), mode: 0o777, ..Entry::object("usr/soft", 0) });
    let mut archive = Vec::new();
    for entry in &entries {
        archive.extend(entry.render().unwrap());
        archive.resize(archive.len() + usize::try_from(entry.size()).unwrap() + entry.padding(), 0);
    }
    archive.extend(END);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar");
    std::fs::write(&path, archive).unwrap();
    let out = Command::new("tar").args(["--quoting-style=literal", "-tf"]).arg(&path).output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    let names: Vec<String> = entries.into_iter().map(|entry| entry.path).collect();
    assert_eq!(String::from_utf8(out.stdout).unwrap().lines().collect::<Vec<_>>(), names);
}

//! Logs that Python wrote (`spec/vectors/audit/python-hmac-chain`), as they are and changed.

use std::fs;
use std::path::{Path, PathBuf};

use secai_verifier::audit::python_hmac_chain::{Found, Key, check, line_is_read};

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/vectors/audit/python-hmac-chain")
}

fn key() -> Key {
    Key::of_file(&fs::read(vectors().join("audit.key")).unwrap()).unwrap()
}

/// The log after a change to a copy of all files; refusals by name.
fn changed(log: &str, key: Option<&Key>, change: impl FnOnce(&Path)) -> Result<Found, Vec<&'static str>> {
    let dir = tempfile::tempdir().unwrap();
    for file in fs::read_dir(vectors()).unwrap() {
        let path = file.unwrap().path();
        fs::write(dir.path().join(path.file_name().unwrap()), fs::read(&path).unwrap()).unwrap();
    }
    change(dir.path());
    check(&dir.path().join(log), key)
        .unwrap()
        .map_err(|refusals| refusals.iter().map(|refusal| refusal.name()).collect())
}

fn replace(dir: &Path, file: &str, old: &str, new: &str) {
    let text = fs::read_to_string(dir.join(file)).unwrap();
    assert!(text.contains(old), "{old} not in {file}");
    fs::write(dir.join(file), text.replacen(old, new, 1)).unwrap();
}

#[test]
fn what_python_wrote_holds() {
    let keyed = changed("keyed.jsonl", Some(&key()), |_| {}).unwrap();
    assert_eq!((keyed.entries, keyed.files, keyed.checkpointed, keyed.keyed), (12, 3, Some(12), true));
    assert!(keyed.vouches()[0].starts_with("nobody without the key"));
    let unkeyed = changed("unkeyed.jsonl", None, |_| {}).unwrap();
    assert_eq!((unkeyed.entries, unkeyed.files, unkeyed.checkpointed, unkeyed.not_computed), (5, 1, None, 0));
    assert!(unkeyed.vouches()[0].contains("could have computed all of them anew"));
    let without = changed("keyed.jsonl", None, |_| {}).unwrap();
    assert_eq!((without.not_computed, without.keyed), (12, false));
}

/// A refusal's name, and what meets it.
type Row = (&'static str, fn(&Path));

/// Changes and the refusals that they meet; all of one sort are told in one test, so that none is forgotten.
pub fn met() -> Vec<&'static str> {
    let key = key();
    let first = |change: fn(&Path)| changed("keyed.jsonl", Some(&key), change).unwrap_err()[0];
    let rows: [Row; 12] = [
        ("HmacLogHashDiffers", |dir| replace(dir, "keyed.jsonl", "event 8", "event 9")),
        ("HmacLogHashDiffers", |dir| {
            fs::remove_file(dir.join("keyed.jsonl.checkpoint"))
                .and_then(|()| {
                    let text = fs::read_to_string(dir.join("keyed.jsonl"))?;
                    fs::write(dir.join("keyed.jsonl"), text.replace("0.1", "0.2"))
                })
                .unwrap()
        }),
        ("HmacLogLineMalformed", |dir| replace(dir, "keyed.jsonl", "1e+16", "1e16")),
        ("HmacLogLineMalformed", |dir| replace(dir, "keyed.jsonl", r#""b":{"#, r#""b":1,"b":{"#)),
        ("HmacLogLineMalformed", |dir| replace(dir, "keyed.jsonl", "hmac-sha256", "hmac-md5")),
        ("HmacLogLineMalformed", |dir| replace(dir, "keyed.jsonl", "{\"timestamp\"", "\n{\"timestamp\"")),
        ("HmacLogUnkeyedEntry", |dir| replace(dir, "keyed.jsonl", "hmac-sha256", "sha256")),
        ("HmacLogLinkBroken", |dir| fs::remove_file(dir.join("keyed.20261122-192001-000001.jsonl")).unwrap()),
        ("HmacLogLinkBroken", |dir| {
            fs::copy(dir.join("unkeyed.jsonl"), dir.join("keyed.20261122-192001-000003.jsonl")).map(drop).unwrap()
        }),
        ("HmacLogCheckpointMalformed", |dir| replace(dir, "keyed.jsonl.checkpoint", "12", "11")),
        ("HmacLogShorterThanCheckpoint", |dir| {
            let text = fs::read_to_string(dir.join("keyed.jsonl")).unwrap();
            let cut = text.trim_end().rfind('\n').unwrap() + 1;
            fs::write(dir.join("keyed.jsonl"), &text[..cut]).unwrap();
        }),
        ("HmacLogShorterThanCheckpoint", |dir| fs::write(dir.join("keyed.jsonl"), "").unwrap()),
    ];
    for (expected, change) in rows {
        assert_eq!(first(change), expected);
    }
    // Without a key the checkpoint's own hash is all there is.
    let differs = changed("unkeyed.jsonl", None, |dir| {
        let text = format!(r#"{{"entries":3,"last_hash":"{}"}}"#, "0".repeat(64));
        fs::write(dir.join("unkeyed.jsonl.checkpoint"), text).unwrap();
    });
    assert_eq!(differs, Err(vec!["HmacLogCheckpointDiffers"]));
    rows.iter().map(|(name, _)| *name).chain(["HmacLogCheckpointDiffers"]).collect()
}

#[test]
fn every_byte_of_a_line_counts() {
    for line in fs::read_to_string(vectors().join("unkeyed.jsonl")).unwrap().lines() {
        assert!(line_is_read(line.as_bytes()));
        for at in 0..line.len() {
            let mut bad = line.as_bytes().to_vec();
            bad[at] ^= 1;
            let verdict = changed("unkeyed.jsonl", None, |dir| {
                let text = fs::read(dir.join("unkeyed.jsonl")).unwrap();
                let start = text.windows(line.len()).position(|window| window == line.as_bytes()).unwrap();
                let bytes = [&text[..start], &bad[..], &text[start + line.len()..]].concat();
                fs::write(dir.join("unkeyed.jsonl"), bytes).unwrap();
            });
            assert!(verdict.is_err(), "{at} of {line}");
        }
    }
}

#[test]
fn a_torn_last_line_is_told() {
    let found = changed("keyed.jsonl", Some(&key()), |dir| {
        let text = fs::read_to_string(dir.join("keyed.jsonl")).unwrap();
        fs::write(dir.join("keyed.jsonl"), format!("{text}{{\"timest")).unwrap();
    });
    assert_eq!(found.unwrap().torn, 8);
}

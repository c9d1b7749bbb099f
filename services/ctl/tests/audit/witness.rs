//! What a witness is asked and what it answered, as files; the codes that a terminal shows.

use crate::{FakeDaemon, copy, ran, secaictl, terminal, vectors};
use secai_api::audit::{Reply, Request};
use std::fs;
use std::io::Read;

/// The checkpoint of the vectors, which the key of epoch 1 signed.
fn checkpoint(_: &Request) -> Reply {
    let line = fs::read_to_string(vectors().join("chain/seg/000000000000.jsonl")).unwrap();
    let key = line.split(r#""key":""#).nth(1).unwrap().split('"').next().unwrap();
    let public = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, key).unwrap();
    let note = fs::read_to_string(vectors().join("chain/checkpoint")).unwrap();
    let name = note.lines().next().unwrap().to_owned();
    let key = secai_verifier::audit::checkpoint::VerifierKey::new(&name, &public.try_into().unwrap()).unwrap();
    Reply::Checkpoint { note, key: key.to_string() }
}

#[test]
fn a_witness_is_asked_by_a_file_and_its_answer_is_kept() {
    let daemon = FakeDaemon::of_vectors(checkpoint);
    let folder = tempfile::tempdir().unwrap();
    copy(&vectors().join("witness"), &folder.path().join("literal"));
    let of = |words: &[&str]| ran(daemon.command(words).current_dir(folder.path()));
    let same = |name: &str, literal: &str| {
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read(name), read(&format!("literal/{literal}")), "{name}");
    };
    // By the number of entries, and by the checkpoint that was kept when there were three.
    of(&["checkpoint", "--for-witness", "3", "-o", "request"]).has(
        0,
        &["request, request.epochs: asks about 5 entries who saw 3\n"],
        &[],
    );
    let seen = vectors().join("chain/checkpoints.log");
    of(&["checkpoint", "--for-witness", seen.to_str().unwrap(), "-o", "again"]).has(0, &["again.epochs"], &[]);
    for name in ["request", "again"] {
        same(name, "request");
        same(&format!("{name}.epochs"), "request.epochs");
    }
    // Who saw all of it needs no proof and no key; who saw nothing needs the key from the first on.
    of(&["checkpoint", "--for-witness", "literal/cosigned", "-o", "none"]).has(0, &["none: asks about 5"], &[]);
    assert!(fs::read_to_string(folder.path().join("none")).unwrap().starts_with("old 5\n\nsecai-os.local/"));
    let first = of(&["--json", "checkpoint", "--for-witness", "0", "-o", "first"]).json();
    assert_eq!((first[0]["epochs"].as_u64(), first[0]["size"].as_u64()), (Some(1), Some(5)));

    // The chain went back, or was rewritten: nothing is written.
    of(&["checkpoint", "--for-witness", "6", "-o", "x"]).has(1, &[], &["covers 5 entries, 6 were seen", "hint: "]);
    let rewritten = fs::read_to_string(&seen).unwrap().replacen("\n3\n", "\n4\n", 1);
    fs::write(folder.path().join("rewritten"), rewritten).unwrap();
    of(&["checkpoint", "--for-witness", "rewritten", "-o", "x"]).has(1, &[], &["not those that somebody has seen"]);
    of(&["checkpoint", "--for-witness", "absent", "-o", "x"]).has(2, &[], &["cannot read absent"]);
    of(&["checkpoint", "--for-witness", "3"]).has(2, &[], &["--output"]);
    // Half of it is nothing.
    fs::write(folder.path().join("x"), "in the way").unwrap();
    of(&["checkpoint", "--for-witness", "3", "-o", "x"]).has(2, &[], &["nothing is overwritten"]);
    assert!(!folder.path().join("x.epochs").exists());

    // The answer goes under the checkpoint, whether what was asked is at hand or the checkpoint alone.
    let of = |words: &[&str]| ran(secaictl(words).current_dir(folder.path()));
    let witness = ["--witness", "literal/witness.vkey"];
    let cosigned = of(&[&["cosigned", "request", "literal/answer", "-o", "kept"], &witness[..]].concat());
    cosigned.has(0, &["kept: 5 entries; witness.example/w1 saw them at 2026-11-22T21:00:00Z\n"], &[]);
    let alone = vectors().join("chain/checkpoint");
    let twice = ["cosigned", alone.to_str().unwrap(), "literal/answer", "literal/answer", "-o", "unchecked"];
    of(&twice).has(0, &["unchecked: 5 entries\n"], &["was not checked: give --witness"]);
    same("kept", "cosigned");
    same("unchecked", "cosigned");

    // What is no answer, or one about something else, or nobody's who was asked for.
    let answer = fs::read_to_string(folder.path().join("literal/answer")).unwrap();
    let log_line = fs::read_to_string(&alone).unwrap().lines().last().unwrap().to_owned() + "\n";
    for (text, said) in [
        (answer.replacen("AAAAB", "AAAAC", 1), "does not hold"),
        (log_line, "has no signature of witness.example/w1+"),
        ("3\n".to_owned(), "a signature line is not"),
    ] {
        fs::write(folder.path().join("bad"), text).unwrap();
        let words = [&["cosigned", "request", "bad", "-o", "never"], &witness[..]].concat();
        of(&words).has(1, &[], &["bad is not what a witness was asked, or answered", said]);
    }
    of(&["cosigned", "literal/answer", "literal/answer", "-o", "never"]).has(1, &[], &["blank line"]);
    of(&["cosigned", "absent", "literal/answer", "-o", "never"]).has(2, &[], &["cannot read absent"]);
    assert!(!folder.path().join("never").exists());
}

#[test]
fn a_code_on_a_terminal_has_colours_of_its_own() {
    let daemon = FakeDaemon::of_vectors(checkpoint);
    let (mut ours, theirs) = terminal();
    let mut child = daemon.command(&["checkpoint", "--qr"]).stdout(theirs).spawn().unwrap();
    let mut said = Vec::new();
    // Its end is an error of a terminal's.
    let _ = ours.read_to_end(&mut said);
    assert!(child.wait().unwrap().success());
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("\u{1b}[38;5;16;48;5;231m"), "{said}");
    assert!(said.contains("\u{1b}[0m\r\n"), "{said}");
}

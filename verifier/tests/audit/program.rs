//! The program: exit codes, standard output, JSON.

use std::path::Path;
use std::process::{Command, Output};

use secai_verifier::audit::proof::prove;
use secai_verifier::audit::store::Store;

use crate::make::{Chain, Witness, write};

fn run(root: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_verify-release"));
    command.arg("audit").args(arguments).current_dir(root).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn accepted_is_0_refused_is_1_and_the_rest_is_2() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::small();
    chain.write(&dir.path().join("chain"));
    chain.trust(&dir.path().join("trust"));
    write(dir.path(), "kept", chain.checkpoint(8).as_bytes());
    std::fs::create_dir(dir.path().join("empty")).unwrap();

    let good = run(dir.path(), &["chain", "--trust", "trust"]);
    let out = text(&good.stdout);
    assert_eq!(good.status.code(), Some(0), "{out}{}", text(&good.stderr));
    for words in [
        "accepted\nchain     secai-os.local/audit/",
        "\nhead      10 entries, root ",
        "\nepochs    3\nverified  10 entries\nlinked    every entry is signed\nlast      2026-11-22T19:20:00.000010Z\n",
        "\nlevel     L0: the head was read from the same disk",
        "\nlevel     an older whole copy of the chain would not",
    ] {
        assert!(out.contains(words), "{words} not in {out}");
    }
    assert!(good.stderr.is_empty());

    let kept = run(dir.path(), &["chain", "--trust", "trust", "--from", "kept", "--format", "json"]);
    let value: serde_json::Value = serde_json::from_slice(&kept.stdout).unwrap();
    assert_eq!((kept.status.code(), value["verdict"].as_str()), (Some(0), Some("accepted")));
    assert_eq!((value["witnessed"].as_u64(), value["linked"].as_u64()), (Some(8), Some(10)));
    assert!(value["vouches"][1].as_str().unwrap().contains("none of the first 8 entries was replaced or cut"));

    for arguments in [&["chain"][..], &["chain", "--trust", "empty"]] {
        let unknown = run(dir.path(), arguments);
        assert_eq!(unknown.status.code(), Some(2));
        assert!(text(&unknown.stdout).starts_with("consistent in itself, signer unknown\n"));
    }

    std::fs::remove_file(dir.path().join("chain/checkpoint")).unwrap();
    for trust in [&["--trust", "trust"][..], &[]] {
        let refused = run(dir.path(), &[&["chain"], trust].concat());
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stdout).starts_with("refused\nCheckpointMissing: "), "{}", text(&refused.stdout));
    }
    write(dir.path(), "broken/a.vkey", b"nonsense\n");
    for arguments in [
        &["absent", "--trust", "trust"][..],
        &["chain", "--trust", "absent"],
        &["chain", "--trust", "broken"],
        &["kept", "--trust", "trust"],
        &["chain", "--trust", "trust", "--from", "absent"],
        &["chain", "--trust", "trust", "--from", "trust/device.vkey"],
        &["--trust", "trust"],
        &["chain", "--proof", "kept"],
    ] {
        let out = run(dir.path(), arguments);
        assert_eq!(out.status.code(), Some(2), "{arguments:?}: {}", text(&out.stdout));
        assert!(out.stdout.is_empty() && !out.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_witness_that_is_asked_for_must_have_cosigned() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::small();
    chain.write(&dir.path().join("chain"));
    chain.trust(&dir.path().join("trust"));
    let witness = Witness::new(1);
    write(dir.path(), "alone", chain.checkpoint(8).as_bytes());
    write(dir.path(), "cosigned", witness.cosigns(&chain.checkpoint(8)).as_bytes());
    write(dir.path(), "forged", witness.cosigns(&chain.checkpoint(8)).replace("AAAAB", "AAAAC").as_bytes());
    write(dir.path(), "ada.vkey", witness.key.to_string().as_bytes());
    let judged = |from: &str, more: &[&str]| {
        let words = [&["chain", "--trust", "trust", "--from", from, "--witness", "ada.vkey"], more].concat();
        let out = run(dir.path(), &words);
        (out.status.code(), text(&out.stdout))
    };
    let (code, out) = judged("cosigned", &[]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("\nlevel     L3: witness.example/w1 saw 8 entries at 2026-11-22T21:00:00Z by its clock; 2 entries after that\n"), "{out}");
    let value: serde_json::Value = serde_json::from_str(&judged("cosigned", &["--format", "json"]).1).unwrap();
    assert_eq!(
        (value["level"].as_str(), value["cosigned"][0]["time"].as_str()),
        (Some("L3"), Some("2026-11-22T21:00:00Z"))
    );
    for (from, name) in [("alone", "WitnessDidNotCosign"), ("forged", "CosignatureInvalid")] {
        let (code, out) = judged(from, &[]);
        assert_eq!(code, Some(1), "{out}");
        assert!(out.starts_with("refused\n") && out.contains(name), "{out}");
    }
    // A witness without a checkpoint is none, and neither is a key of the chain.
    for words in [
        &["chain", "--trust", "trust", "--witness", "ada.vkey"][..],
        &["chain", "--trust", "trust", "--from", "cosigned", "--witness", "trust/device.vkey"],
        &["chain", "--trust", "trust", "--from", "cosigned", "--witness", "absent"],
    ] {
        assert_eq!(run(dir.path(), words).status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn proofs_are_judged_without_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::small();
    chain.write(&dir.path().join("chain"));
    chain.trust(&dir.path().join("trust"));
    let proofs = prove(&Store::open(&dir.path().join("chain")).unwrap(), 8).unwrap();
    for (at, proof) in proofs.iter().enumerate() {
        write(dir.path(), &format!("{at}.tlog-proof"), proof.render().as_bytes());
    }
    let all = ["--proof", "0.tlog-proof", "--proof", "1.tlog-proof", "--proof", "2.tlog-proof"];
    let good = run(dir.path(), &[&all[..], &["--trust", "trust"]].concat());
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stdout));
    assert!(text(&good.stdout).contains("entry 8 of secai-os.local/audit/"), "{}", text(&good.stdout));
    // Without the proofs before it nobody knows the key; without trust nobody knows any.
    let alone = run(dir.path(), &["--proof", "2.tlog-proof", "--trust", "trust", "--format", "json"]);
    let value: serde_json::Value = serde_json::from_slice(&alone.stdout).unwrap();
    assert_eq!(
        (alone.status.code(), value["refusals"][0]["name"].as_str()),
        (Some(1), Some("ProofSignedByUnknownKey"))
    );
    assert_eq!(run(dir.path(), &all).status.code(), Some(2));
    // Every byte counts.
    let good = proofs[0].render().into_bytes();
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        write(dir.path(), "bad.tlog-proof", &bad);
        let out = run(dir.path(), &["--proof", "bad.tlog-proof", "--trust", "trust"]);
        assert_eq!(out.status.code(), Some(1), "byte {at}");
    }
}

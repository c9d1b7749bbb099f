//! What a witness is asked and what it answers: compared with what others wrote, and with literal bytes that `openssl`
//! alone can check.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use secai_verifier::audit::add_checkpoint::{AddCheckpoint, begins_with, request};
use secai_verifier::audit::checkpoint::Note;
use secai_verifier::audit::cosignature::CosignerKey;
use secai_verifier::audit::proof::{Proof, ProveError};
use secai_verifier::audit::refusal::ChainRefusal;
use secai_verifier::audit::store::Store;
use secai_verifier::files::{load_chain_keys, load_cosigner_keys};
use tlog_tiles::{Hash, check_tree};

use crate::make::{Chain, SEEN_SECONDS, Witness, files, write};
use crate::vectors::{chain, vectors};
use crate::{judge, judge_cosigned};

#[test]
fn a_request_shows_to_others_that_the_tree_grew_and_by_which_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut whole = Chain::new(17);
    while whole.size() < 1300 {
        match whole.size() {
            3 | 255 | 256 | 700 => whole.epoch(),
            _ => {
                whole.state("x");
            }
        }
    }
    whole.write(dir.path());
    let store = Store::open(dir.path()).unwrap();
    for size in [1, 4, 256, 257, 512, 700, 1300] {
        let note = Note::parse(whole.checkpoint(size).as_bytes()).unwrap();
        for old in [0, 1, 3, 4, 5, 255, 256, 257, 258, 511, 512, 700, 701, 1299, 1300] {
            if old > size {
                assert!(matches!(request(&store, old, &note), Err(ProveError::Older { .. })));
                continue;
            }
            let (asked, endings) = request(&store, old, &note).unwrap();
            assert_eq!(AddCheckpoint::parse(asked.render().as_bytes()), Ok(asked.clone()));
            let hash = |size| Hash(*whole.root(size).as_bytes());
            let theirs: Vec<Hash> = asked.proof.iter().map(|hash| Hash(*hash.as_bytes())).collect();
            if old > 0 {
                check_tree(&theirs, size, hash(size), old, hash(old)).unwrap();
                assert!(check_tree(&theirs, size, hash(size), old, hash(old - 1)).is_err(), "{old} → {size}");
            } else {
                assert!(theirs.is_empty());
            }
            // A witness knows the key of the epoch that the last entry which it saw lies in.
            let mut keys = vec![whole.vkey(whole.epoch_of(old))];
            let text: String = endings.iter().map(Proof::render).collect();
            assert_eq!(Proof::parse_all(text.as_bytes()).unwrap(), endings);
            for proof in &endings {
                proof.verify(&keys[keys.len() - 1..]).unwrap();
                keys.extend(proof.next_key());
            }
            assert_eq!(keys.last(), Some(&whole.vkey(whole.epoch_of(size))), "{old} → {size}");
            asked.note.verify(keys.last().unwrap()).unwrap();
        }
    }
    for bad in ["x", "x\nc2sp.org/tlog-proof@v1\n", "c2sp.org/tlog-proof@v1\n"] {
        assert!(Proof::parse_all(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn a_chain_that_was_rewritten_since_is_not_shown_to_a_witness() {
    let dir = tempfile::tempdir().unwrap();
    let mut now = Chain::small();
    let seen = Note::parse(now.checkpoint(9).as_bytes()).unwrap();
    let ask = |now: &Chain| {
        now.write(dir.path());
        let note = Note::parse(now.checkpoint(now.size()).as_bytes()).unwrap();
        let (asked, _) = request(&Store::open(dir.path()).unwrap(), 9, &note).unwrap();
        begins_with(&asked, &seen)
    };
    ask(&now).unwrap();
    now.edit(8, "inactive", "failed");
    assert!(matches!(ask(&now), Err(ProveError::Refused(ChainRefusal::WitnessedRootDiffers { size: 9 }))));
    let mut other = Chain::new(99);
    while other.size() < 10 {
        other.state("x");
    }
    assert!(matches!(ask(&other), Err(ProveError::Refused(ChainRefusal::WitnessedChainIsAnother { .. }))));
    // Entries that are not those of the checkpoint: nothing is proved of them.
    let note = Note::parse(now.checkpoint(9).as_bytes()).unwrap();
    let wrong = request(&Store::open(dir.path()).unwrap(), 5, &note);
    assert!(matches!(wrong, Err(ProveError::Refused(ChainRefusal::RootDiffers { size: 9 }))));
}

#[test]
fn what_a_witness_vouches_for_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::small();
    chain.write(dir.path());
    let (one, two) = (Witness::new(1), Witness::new(2));
    let kept = two.cosigns(&one.cosigns(&chain.checkpoint(8)));
    let trusted = [chain.vkey(0)];
    let report = judge_cosigned(dir.path(), &trusted, Some(&kept), std::slice::from_ref(&one.key), false).unwrap();
    let words = report.vouches();
    assert_eq!(
        words[0],
        "L3: witness.example/w1 saw 8 entries at 2026-11-22T21:00:00Z by its clock; 2 entries after that"
    );
    assert!(words[1].ends_with("was replaced or cut since witness.example/w1 saw them"), "{words:?}");
    assert_eq!(report.level(), "L3");
    let both = judge_cosigned(dir.path(), &trusted, Some(&kept), &[one.key, two.key], false).unwrap();
    assert_eq!(both.vouches().iter().filter(|words| words.starts_with("L3: ")).count(), 2);
    // Negative control: nobody asked for the witnesses, so nobody says that they signed.
    let report = judge(dir.path(), &trusted, Some(&kept), false).unwrap();
    assert_eq!(report.level(), "kept head");
    assert!(!report.vouches().iter().any(|words| words.contains("L3")), "{:?}", report.vouches());
    // The chain's own checkpoint stays one signature of one key.
    write(dir.path(), "checkpoint", Witness::new(1).cosigns(&chain.checkpoint(10)).as_bytes());
    assert!(judge(dir.path(), &trusted, None, false).unwrap_err()[0].starts_with("CheckpointMalformed"));
}

fn witness_vectors() -> PathBuf {
    vectors().join("witness")
}

#[test]
fn the_request_and_the_answer_are_the_literal_ones() {
    let dir = tempfile::tempdir().unwrap();
    let chain = chain();
    chain.write(dir.path());
    let note = Note::parse(chain.checkpoint(5).as_bytes()).unwrap();
    let (asked, endings) = request(&Store::open(dir.path()).unwrap(), 3, &note).unwrap();
    let witness = Witness::new(43);
    for (name, now) in [
        ("request", asked.render()),
        ("request.epochs", endings.iter().map(Proof::render).collect()),
        ("answer", witness.answer(&note.checkpoint)),
        ("cosigned", witness.cosigns(&note.render())),
        ("witness.vkey", format!("{}\n", witness.key)),
    ] {
        if std::env::var("SECAI_GOLDEN").as_deref() == Ok("write") {
            write(&witness_vectors(), name, now.as_bytes());
        }
        assert_eq!(fs::read_to_string(witness_vectors().join(name)).unwrap(), now, "{name}");
    }
    let trusted = load_chain_keys(&vectors()).unwrap();
    let cosigners = load_cosigner_keys(&[witness_vectors().join("witness.vkey")]).unwrap();
    let kept = fs::read_to_string(witness_vectors().join("cosigned")).unwrap();
    let report = judge_cosigned(&vectors().join("chain"), &trusted, Some(&kept), &cosigners, false).unwrap();
    assert_eq!((report.level(), report.cosigned[0].seconds), ("L3", SEEN_SECONDS));
}

/// Consistency with `sha256sum`, the cosignature with `openssl` over the literal message, in a script that knows
/// nothing of our code; and it sees what is wrong.
#[test]
fn the_answer_can_be_checked_by_hand() {
    let run = |dir: &Path| {
        let out = Command::new("sh").arg(witness_vectors().join("by-hand.sh")).arg(dir).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    };
    let copy = tempfile::tempdir().unwrap();
    for path in files(&vectors()) {
        write(copy.path(), path.strip_prefix(vectors()).unwrap().to_str().unwrap(), &fs::read(&path).unwrap());
    }
    let (code, said) = run(copy.path());
    assert_eq!((code, said), (Some(0), format!("witness.example/w1 saw five entries at {SEEN_SECONDS}\n")));

    let note = Note::parse(&fs::read(copy.path().join("chain/checkpoint")).unwrap()).unwrap();
    let witness = Witness::new(43);
    let good = witness.answer(&note.checkpoint);
    let signature: [u8; 64] = signed(&good)[12..].try_into().unwrap();
    let other = Witness::new(44);
    let mut older = note.checkpoint.clone();
    older.size = 4;
    for (what, answer) in [
        ("another time", witness.key.line(SEEN_SECONDS + 1, &signature)),
        ("another key", other.answer(&note.checkpoint)),
        ("another key under this one's hash", {
            let bytes: [u8; 64] = signed(&other.answer(&note.checkpoint))[12..].try_into().unwrap();
            witness.key.line(SEEN_SECONDS, &bytes)
        }),
        ("another checkpoint", witness.answer(&older)),
    ] {
        write(copy.path(), "witness/answer", answer.as_bytes());
        write(copy.path(), "witness/cosigned", format!("{}{answer}", note.render()).as_bytes());
        let (code, said) = run(copy.path());
        assert_eq!(code, Some(1), "{what}: {said}");
        // We say the same as the script.
        let mut note = note.clone();
        note.add(answer.as_bytes()).unwrap();
        assert!(note.cosigned(&witness.key).is_err(), "{what}");
    }
    write(copy.path(), "witness/answer", good.as_bytes());
    write(copy.path(), "witness/cosigned", format!("{}{good}", note.render()).as_bytes());
    assert_eq!(run(copy.path()).0, Some(0));
    let request = fs::read_to_string(copy.path().join("witness/request")).unwrap();
    for at in 1..5 {
        let line = request.lines().nth(at).unwrap();
        let wrong = if line.starts_with('A') { "B" } else { "A" };
        write(copy.path(), "witness/request", request.replacen(line, &format!("{wrong}{}", &line[1..]), 1).as_bytes());
        assert_eq!(run(copy.path()).0, Some(1), "hash {at}");
    }
}

/// The bytes of a signature line.
fn signed(line: &str) -> Vec<u8> {
    use base64::Engine as _;
    let base64 = line.trim_end().split(' ').nth(2).unwrap();
    base64::engine::general_purpose::STANDARD.decode(base64).unwrap()
}

#[test]
fn a_witness_is_not_counted_twice_and_a_logs_key_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let one = Witness::new(1).key;
    let again = CosignerKey::new("witness.example/w2", one.public()).unwrap();
    let put = |name: &str, text: String| {
        write(dir.path(), name, text.as_bytes());
        dir.path().join(name)
    };
    let (one, again) = (put("one", format!("{one}\n")), put("again", again.to_string()));
    assert_eq!(load_cosigner_keys(std::slice::from_ref(&one)).unwrap().len(), 1);
    assert!(load_cosigner_keys(&[one, again]).unwrap_err().to_string().contains("as trust"));
    assert!(load_cosigner_keys(&[put("log", Chain::small().vkey(0).to_string())]).is_err());
}

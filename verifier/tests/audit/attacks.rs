//! Attacks, each with the name of what refuses it first, or with the reason why nothing does.
//!
//! Naive: whoever can write the disk and has no key. Re-sealed: whoever has the current epoch's key too, and made anew
//! every link, hash, root and signature that points to the change.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use secai_verifier::audit::checkpoint::{Checkpoint, VerifierKey};
use secai_verifier::audit::cosignature::CosignerKey;
use secai_verifier::audit::entry::ENTRY_BYTES_MAX;
use secai_verifier::audit::payload::Payload;
use secai_verifier::audit::proof::{Proof, prove};
use secai_verifier::audit::refusal::ChainRefusal;
use secai_verifier::audit::store::Store;
use secai_verifier::audit::{SEGMENT_ENTRIES, UNSIGNED_ENTRIES_MAX, payload_path, segment_path, tile_path};
use secai_verifier::digest::Digest;

use crate::judge_cosigned;
use crate::make::{Chain, Witness, files, seal, write};

/// A chain on the disk, and what the verifier is given with it.
struct World {
    chain: Chain,
    dir: tempfile::TempDir,
    trusted: Vec<VerifierKey>,
    from: Option<String>,
    cosigners: Vec<CosignerKey>,
}

impl World {
    fn of(chain: Chain) -> Self {
        let world = Self {
            trusted: vec![chain.vkey(0)],
            chain,
            dir: tempfile::tempdir().unwrap(),
            from: None,
            cosigners: Vec::new(),
        };
        world.write();
        world
    }

    /// The same chain in another directory.
    fn again(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for path in files(self.dir.path()) {
            let below = path.strip_prefix(self.dir.path()).unwrap();
            write(dir.path(), below.to_str().unwrap(), &fs::read(&path).unwrap());
        }
        Self { chain: self.chain.clone(), dir, trusted: self.trusted.clone(), from: None, cosigners: Vec::new() }
    }

    fn write(&self) {
        self.chain.write(self.dir.path());
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        write(self.dir.path(), path, bytes.as_ref());
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn replace(&self, path: &str, old: &str, new: &str) {
        let text = self.text(path);
        assert!(text.contains(old), "{old} not in {path}");
        self.put(path, text.replacen(old, new, 1));
    }

    /// The lines of the first segment, as text.
    fn lines(&self) -> Vec<String> {
        self.text(&segment_path(0)).lines().map(str::to_owned).collect()
    }

    fn put_lines(&self, lines: &[String]) {
        self.put(&segment_path(0), lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    }

    /// The first refusal's name, or how it was accepted.
    fn verdict(&self) -> String {
        match judge_cosigned(self.dir.path(), &self.trusted, self.from.as_deref(), &self.cosigners, false) {
            Ok(report) => format!("accepted {}", report.vouches()[0].split(':').next().unwrap()),
            Err(refusals) => {
                println!("  {refusals:?}");
                refusals[0].split(':').next().unwrap().to_owned()
            }
        }
    }
}

type Row = (&'static str, &'static str, fn(&mut World));

/// On the disk, without a key.
const NAIVE: &[Row] = &[
    ("a file is added", "ChainFileForeign", |w| w.put("seg/notes.txt", "x")),
    ("a file is added between tiles", "ChainFileForeign", |w| w.put("tile/0/000.tmp", "x")),
    ("payloads without a segment", "ChainFileForeign", |w| w.put(&payload_path(SEGMENT_ENTRIES), "\n")),
    ("the checkpoint is a link", "ChainFileNotRegular", |w| {
        fs::rename(w.path("checkpoint"), w.dir.path().join("checkpoints.log")).unwrap();
        std::os::unix::fs::symlink("checkpoints.log", w.path("checkpoint")).unwrap();
    }),
    ("the segment is a link", "ChainFileNotRegular", |w| {
        fs::remove_file(w.path(&segment_path(0))).unwrap();
        std::os::unix::fs::symlink("/dev/zero", w.path(&segment_path(0))).unwrap();
    }),
    ("a checkpoint without end", "ChainFileTooLarge", |w| w.put("checkpoint", vec![b'x'; 70_000])),
    ("the checkpoint is removed", "CheckpointMissing", |w| fs::remove_file(w.path("checkpoint")).unwrap()),
    ("everything is removed", "CheckpointMissing", |w| {
        fs::remove_dir_all(w.dir.path()).unwrap();
        fs::create_dir(w.dir.path()).unwrap();
    }),
    ("the checkpoint is emptied", "CheckpointMalformed", |w| w.put("checkpoint", "")),
    ("a second signature", "CheckpointMalformed", |w| {
        let text = w.text("checkpoint");
        let last = text.lines().last().unwrap();
        w.put("checkpoint", format!("{text}{last}\n"));
    }),
    ("an extension line", "CheckpointMalformed", |w| w.replace("checkpoint", "\n10\n", "\n10\nmore\n")),
    ("another algorithm's signature", "CheckpointSignedByAnotherKey", |w| {
        // Type 0x04 of c2sp.org/signed-note under the right name.
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.encode([4; 68]);
        let text = w.text("checkpoint");
        let last = text.lines().last().unwrap();
        let name = last.split(' ').nth(1).unwrap();
        w.put("checkpoint", text.replace(last, &format!("— {name} {bytes}")));
    }),
    ("the log of another chain", "CheckpointOfAnotherChain", |w| {
        w.put("checkpoints.log", other().log());
    }),
    ("another device's chain", "ChainOfAnotherKey", |w| other().write(w.dir.path())),
    ("another device's key", "ChainOfAnotherKey", |w| w.trusted = vec![other().vkey(0)]),
    ("the size of the checkpoint", "CheckpointSignatureInvalid", |w| w.replace("checkpoint", "\n10\n", "\n9\n")),
    ("a closing checkpoint is added", "CheckpointOfNoEpoch", |w| {
        let log = format!("{}{}", w.chain.log(), w.chain.checkpoint(8));
        w.put("checkpoints.log", log);
    }),
    ("closing checkpoints are swapped", "CheckpointOfNoEpoch", |w| {
        let log = format!("{}{}", w.chain.sealed(7, 1), w.chain.sealed(4, 0));
        w.put("checkpoints.log", log);
    }),
    ("the log is removed", "EpochNotClosed", |w| fs::remove_file(w.path("checkpoints.log")).unwrap()),
    ("the log is cut", "EpochNotClosed", |w| w.put("checkpoints.log", w.chain.sealed(4, 0))),
    ("one letter of one entry", "EntryMalformed", |w| w.replace(&segment_path(0), r#""uid":956"#, r#""uid";956"#)),
    ("one digit of one entry", "LinkBroken", |w| w.replace(&segment_path(0), r#""uid":956"#, r#""uid":957"#)),
    ("the last entry", "RootDiffers", |w| w.replace(&segment_path(0), r#""refused":0"#, r#""refused":1"#)),
    ("an entry is removed", "EntryOutOfPlace", |w| {
        let mut lines = w.lines();
        lines.remove(5);
        w.put_lines(&lines);
    }),
    ("an entry is added", "EntryOutOfPlace", |w| {
        let mut lines = w.lines();
        lines.insert(5, lines[5].clone());
        w.put_lines(&lines);
    }),
    ("two entries change places", "EntryOutOfPlace", |w| {
        let mut lines = w.lines();
        lines.swap(5, 6);
        w.put_lines(&lines);
    }),
    ("a version to come", "EntryOfUnknownVersion", |w| w.replace(&segment_path(0), r#""v":1"#, r#""v":2"#)),
    ("an entry without end", "EntryTooLong", |w| {
        w.replace(&segment_path(0), "0.1.0", &"x".repeat(ENTRY_BYTES_MAX + 1));
    }),
    ("the end is cut off", "ChainShorterThanCheckpoint", |w| {
        let lines = w.lines();
        w.put_lines(&lines[..8]);
    }),
    ("segments are removed", "ChainShorterThanCheckpoint", |w| fs::remove_dir_all(w.path("seg")).unwrap()),
    ("something behind the room", "SegmentTailWrong", |w| {
        w.put(&segment_path(0), format!("{}\0\0x\n", w.text(&segment_path(0))));
    }),
    ("a payload is erased", "PayloadMissing", |w| {
        let path = payload_path(0);
        let first = w.text(&path).lines().next().unwrap().to_owned();
        w.replace(&path, &first, &" ".repeat(first.len()));
    }),
    ("all payloads are removed", "PayloadMissing", |w| fs::remove_file(w.path(&payload_path(0))).unwrap()),
    ("a payload's letter", "PayloadDiffers", |w| w.replace(&payload_path(0), r#""payload":"c"#, r#""payload":"d"#)),
    ("a payload's salt", "PayloadDiffers", |w| w.replace(&payload_path(0), r#""salt":"0"#, r#""salt":"1"#)),
    ("a payload is doubled", "PayloadOfNoEntry", |w| {
        let text = w.text(&payload_path(0));
        w.put(&payload_path(0), format!("{}\n{text}", text.lines().next().unwrap()));
    }),
    ("an older checkpoint under many entries", "TooManyUnsignedEntries", |w| {
        for _ in 0..=UNSIGNED_ENTRIES_MAX {
            w.chain.state("x");
        }
        w.chain.signed = Some(10);
        w.write();
    }),
    ("a kept checkpoint of another chain", "WitnessedChainIsAnother", |w| w.from = Some(other().checkpoint(5))),
    ("the kept checkpoint is signed by nobody here", "WitnessedByUnknownKey", |w| {
        w.from = Some(w.chain.sealed(5, 0));
    }),
    ("the witness did not cosign", "WitnessDidNotCosign", |w| {
        (w.from, w.cosigners) = (Some(w.chain.checkpoint(5)), vec![Witness::new(1).key]);
    }),
    ("another witness cosigned under the name", "WitnessDidNotCosign", |w| {
        w.from = Some(Witness::new(2).cosigns(&w.chain.checkpoint(5)));
        w.cosigners = vec![Witness::new(1).key];
    }),
    ("one of two witnesses cosigned", "WitnessDidNotCosign", |w| {
        w.from = Some(Witness::new(1).cosigns(&w.chain.checkpoint(5)));
        w.cosigners = vec![Witness::new(1).key, Witness::new(2).key];
    }),
    ("a cosignature of another checkpoint", "CosignatureInvalid", |w| {
        let other = Witness::new(1).cosigns(&w.chain.checkpoint(6));
        let line = other.lines().last().unwrap();
        w.from = Some(format!("{}{line}\n", w.chain.checkpoint(5)));
        w.cosigners = vec![Witness::new(1).key];
    }),
    ("the witness saw a checkpoint that nobody here signed", "WitnessedByUnknownKey", |w| {
        w.from = Some(Witness::new(1).cosigns(&w.chain.sealed(5, 0)));
        w.cosigners = vec![Witness::new(1).key];
    }),
];

fn other() -> Chain {
    let mut chain = Chain::new(99);
    for _ in 0..5 {
        chain.state("x");
    }
    chain.epoch();
    chain.state("x");
    chain
}

/// Re-sealed with the current epoch's key; whatever earlier epochs signed stays.
const RESEALED: &[Row] = &[
    ("an entry of a closed epoch", "RootDiffers", |w| {
        let log = w.chain.log();
        w.chain.edit(1, "inactive", "failed");
        w.write();
        w.put("checkpoints.log", log);
    }),
    ("a closed epoch, closed again with a later key", "CheckpointSignedByAnotherKey", |w| {
        w.chain.edit(1, "inactive", "failed");
        w.write();
        w.put("checkpoints.log", format!("{}{}", w.chain.sealed(4, 2), w.chain.sealed(7, 2)));
    }),
    ("an entry is removed from a closed epoch", "EpochNotClosed", |w| {
        let log = w.chain.log();
        w.chain.lines.remove(1);
        let before = |payload: &Payload| (payload.seq - 1, Payload { seq: payload.seq - 1, ..payload.clone() });
        w.chain.payloads = w.chain.payloads.values().map(before).collect();
        w.chain.forgotten = [3].into();
        w.chain.edit(6, r#""from":4,"until":5"#, r#""from":3,"until":4"#);
        w.write();
        w.put("checkpoints.log", log);
    }),
    ("an epoch is left out", "EpochOutOfOrder", |w| {
        w.chain.edit(6, r#""number":2"#, r#""number":3"#);
        w.write();
    }),
    ("an epoch begins with a key that is none", "EpochKeyUnusable", |w| {
        let line = String::from_utf8(w.chain.lines[6].clone()).unwrap();
        let key = line.split(r#""key":""#).nth(1).unwrap()[..8].to_owned();
        w.chain.edit(6, &key, "AAAA====");
        w.write();
    }),
    ("an epoch goes on with the key before", "EpochKeyUnusable", |w| {
        use base64::Engine as _;
        let encode = |key: &VerifierKey| base64::engine::general_purpose::STANDARD.encode(key.public());
        let (own, before) = (encode(&w.chain.vkey(2)), encode(&w.chain.vkey(1)));
        w.chain.edit(6, &own, &before);
        w.write();
    }),
    ("another genesis", "GenesisDiffers", |w| {
        w.chain.lines[0] = other().lines[0].clone();
        let mut prev = Digest::of(&w.chain.lines[0]);
        for line in &mut w.chain.lines[1..] {
            let text = String::from_utf8(line.clone()).unwrap();
            let at = text.find(r#""prev":""#).unwrap() + 8;
            *line = format!("{}{prev}{}", &text[..at], &text[at + 64..]).into_bytes();
            prev = Digest::of(line);
        }
        w.write();
    }),
    ("two entries change places", "MonotonicClockSteppedBack", |w| {
        w.chain.lines.swap(8, 9);
        w.chain.relink();
        w.write();
    }),
    ("an entry under another number", "EntryOutOfPlace", |w| {
        w.chain.edit(9, "audit.stop", "audit.stop");
        let line = String::from_utf8(w.chain.lines[9].clone()).unwrap();
        w.chain.lines[9] = line.replace(r#""seq":9"#, r#""seq":10"#).into_bytes();
        w.write();
    }),
    ("a key more in an entry's data", "EntryDataMalformed", |w| {
        w.chain.edit(9, r#""refused":0"#, r#""refused":0,"why":1"#);
        w.write();
    }),
    ("an unknown kind with data in another spelling", "EntryDataMalformed", |w| {
        w.chain.edit(9, "audit.stop", "audit.stoq");
        w.chain.edit(9, r#""refused":0"#, r#""refused":00"#);
        w.write();
    }),
    ("a kind that must not have a payload", "EntryTracesWrong", |w| {
        w.chain.edit(9, "}}", &format!(r#"}},"p":"{}"}}"#, Digest::of(b"x")));
        w.write();
    }),
    ("a kind that must have a payload", "EntryTracesWrong", |w| {
        let digest = w.chain.payloads[&2].digest();
        w.chain.edit(2, &format!(r#","p":"{digest}""#), "");
        w.chain.payloads.remove(&2);
        w.write();
    }),
    ("a payload is erased and the entry that says so comes before", "PayloadMissing", |w| {
        let seq = w.chain.note("later");
        w.chain.forgotten.insert(seq);
        w.chain.edit(7, r#""until":5"#, r#""until":99"#);
        w.write();
    }),
    ("the chain begins anew and nobody was shown", "GapNotAcknowledged", |w| {
        w.chain = gap(false);
        w.trusted = vec![w.chain.vkey(0)];
        w.write();
    }),
    ("the current epoch, rewritten", "accepted L0", |w| {
        w.chain.edit(8, "inactive", "failed");
        w.write();
    }),
    ("the current epoch, rewritten, but somebody has seen it", "WitnessedRootDiffers", |w| {
        w.from = Some(w.chain.checkpoint(9));
        w.chain.edit(8, "inactive", "failed");
        w.write();
    }),
    ("the current epoch, rewritten, but a witness has seen it", "WitnessedRootDiffers", |w| {
        w.from = Some(Witness::new(1).cosigns(&w.chain.checkpoint(9)));
        w.cosigners = vec![Witness::new(1).key];
        w.chain.edit(8, "inactive", "failed");
        w.write();
    }),
    ("a witness has seen it, and it grew", "accepted L3", |w| {
        w.from = Some(Witness::new(1).cosigns(&w.chain.checkpoint(9)));
        w.cosigners = vec![Witness::new(1).key];
        w.chain.state("d");
        w.write();
    }),
    ("the current epoch's end is cut off and sealed", "accepted L0", |w| {
        w.chain.lines.truncate(8);
        w.write();
    }),
    ("the current epoch's end is cut off and sealed, but somebody has seen it", "HeadOlderThanWitnessed", |w| {
        w.from = Some(w.chain.checkpoint(9));
        w.chain.lines.truncate(8);
        w.write();
    }),
];

fn gap(acknowledged: bool) -> Chain {
    let mut chain = Chain::new(3);
    let root = Digest::of(b"before");
    chain.push("audit.gap", &format!(r#"{{"reason":"gone","root":"{root}","size":12}}"#));
    chain.push("audit.start", r#"{"version":"0.1.0"}"#);
    if acknowledged {
        chain.push("audit.acknowledged", &format!(r#"{{"root":"{root}"}}"#));
    }
    chain
}

/// A full segment and a bit, with one epoch ended in each.
fn two_segments() -> Chain {
    let mut chain = Chain::new(5);
    while chain.size() < SEGMENT_ENTRIES + 40 {
        match chain.size() {
            1000 => chain.epoch(),
            size if size == SEGMENT_ENTRIES + 3 => chain.epoch(),
            _ => {
                chain.state("x");
            }
        }
    }
    chain.push("audit.prune", &format!(r#"{{"until":{SEGMENT_ENTRIES}}}"#));
    chain
}

const SEGMENTS: &[Row] = &[
    ("the first segment is removed by order, and its epoch is kept", "accepted L0", |w| {
        prune(w);
    }),
    ("a segment was removed, and the key does not follow", "PrunedEpochUnproved", |w| {
        prune(w);
        fs::remove_file(w.path("epochs.jsonl")).unwrap();
    }),
    ("a segment was removed, and the key follows from another line", "PrunedEpochUnproved", |w| {
        prune(w);
        w.replace("epochs.jsonl", r#""uid":956"#, r#""uid":957"#);
    }),
    ("a segment was removed, and a hash was changed", "RootDiffers", |w| {
        prune(w);
        let path = tile_path(1, 0);
        let mut bytes = fs::read(w.path(&path)).unwrap();
        bytes[5000] ^= 1;
        w.put(&path, bytes);
    }),
    ("a segment was removed with its tiles", "PrunedTilesMissing", |w| {
        prune(w);
        fs::remove_dir_all(w.path("tile")).unwrap();
    }),
    ("a segment was removed", "SegmentMissing", |w| {
        w.chain.lines.pop();
        w.write();
        prune(w);
    }),
    ("a segment was renamed", "SegmentMissing", |w| {
        fs::rename(w.path(&segment_path(SEGMENT_ENTRIES)), w.path(&segment_path(2 * SEGMENT_ENTRIES))).unwrap();
    }),
    ("two segments change places", "EntryOutOfPlace", |w| {
        let (one, two) = (w.path(&segment_path(0)), w.path(&segment_path(SEGMENT_ENTRIES)));
        fs::rename(&one, w.path("x")).unwrap();
        fs::rename(&two, &one).unwrap();
        fs::rename(w.path("x"), &two).unwrap();
    }),
    ("an entry moves to the next segment", "SegmentSizeWrong", |w| {
        let text = w.text(&segment_path(0));
        let cut = text.trim_end().rfind('\n').unwrap() + 1;
        let next = format!("{}{}", &text[cut..], w.text(&segment_path(SEGMENT_ENTRIES)));
        w.put(&segment_path(0), &text[..cut]);
        w.put(&segment_path(SEGMENT_ENTRIES), next);
    }),
    ("an entry moves to the segment before", "SegmentSizeWrong", |w| {
        let text = w.text(&segment_path(SEGMENT_ENTRIES));
        let cut = text.find('\n').unwrap() + 1;
        let before = format!("{}{}", w.text(&segment_path(0)), &text[..cut]);
        w.put(&segment_path(0), before);
        w.put(&segment_path(SEGMENT_ENTRIES), &text[cut..]);
    }),
    ("room in a segment that is not the last", "SegmentTailWrong", |w| {
        w.put(&segment_path(0), format!("{}\0", w.text(&segment_path(0))));
    }),
];

fn prune(w: &World) {
    fs::remove_file(w.path(&segment_path(0))).unwrap();
    w.put("epochs.jsonl", [w.chain.lines[1000].as_slice(), b"\n"].concat());
}

#[test]
fn every_attack_meets_its_refusal_and_every_refusal_an_attack() {
    let mut met = BTreeSet::new();
    let mut run = |chain: Chain, rows: &[Row]| {
        let good = World::of(chain);
        assert_eq!(good.verdict(), "accepted L0");
        for (name, expected, act) in rows {
            let mut world = good.again();
            act(&mut world);
            let verdict = world.verdict();
            println!("{verdict:<28} {name}");
            assert_eq!(verdict, *expected, "{name}");
            met.insert(verdict);
        }
    };
    run(Chain::small(), NAIVE);
    run(Chain::small(), RESEALED);
    run(two_segments(), SEGMENTS);
    met.extend(proofs());
    met.extend(crate::python::met().into_iter().map(str::to_owned));
    let unmet: Vec<_> = ChainRefusal::ALL.iter().filter(|name| !met.contains(**name)).collect();
    assert!(unmet.is_empty(), "no attack meets {unmet:?}");
}

/// Attacks on proofs, and the names that they meet.
fn proofs() -> Vec<String> {
    let chain = Chain::small();
    let dir = tempfile::tempdir().unwrap();
    chain.write(dir.path());
    let proofs = prove(&Store::open(dir.path()).unwrap(), 8).unwrap();
    assert_eq!(proofs.len(), 3, "two epochs ended before");
    let mut keys = vec![chain.vkey(0)];
    let unknown = proofs[2].verify(&keys).unwrap_err();
    for proof in &proofs {
        assert_eq!(proof.verify(&keys), Ok(()));
        keys.extend(proof.next_key());
    }
    assert_eq!(keys, [chain.vkey(0), chain.vkey(1), chain.vkey(2)]);
    let mut elsewhere = proofs[2].clone();
    elsewhere.index = 7;
    let mut sealed = proofs[2].clone();
    let checkpoint = Checkpoint { size: 10, root: chain.root(10), origin: chain.origin() };
    let signature = seal(checkpoint, &chain.keys[0], &chain.vkey(2));
    sealed.note = secai_verifier::audit::checkpoint::Note::parse(signature.as_bytes()).unwrap();
    let expected = [
        (unknown, "ProofSignedByUnknownKey"),
        (elsewhere.verify(&keys).unwrap_err(), "ProofDoesNotHold"),
        (sealed.verify(&keys).unwrap_err(), "ProofSignatureInvalid"),
        (Proof::parse(b"c2sp.org/tlog-proof@v2\n").unwrap_err(), "ProofMalformed"),
    ];
    expected.iter().for_each(|(refusal, name)| assert_eq!(refusal.name(), *name));
    expected.iter().map(|(_, name)| (*name).to_owned()).collect()
}

/// An older state of the whole directory, validly signed: nothing on the disk can show it, a kept checkpoint does.
#[test]
fn cut_to_every_length_is_accepted_at_l0_alone() {
    let chain = Chain::small();
    let kept = chain.checkpoint(chain.size());
    for size in 0..chain.size() {
        let mut older = chain.clone();
        older.lines.truncate(size as usize);
        older.ends.retain(|end| *end <= size);
        older.keys.truncate(older.ends.len() + 1);
        older.forgotten.retain(|_| size > 7);
        older.payloads.retain(|seq, _| *seq < size);
        let mut world = World::of(older);
        assert_eq!(world.verdict(), "accepted L0", "{size}");
        world.from = Some(kept.clone());
        assert_eq!(world.verdict(), "HeadOlderThanWitnessed", "{size}");
        // The entries alone are cut, the newer checkpoint is still there.
        world.from = None;
        world.put("checkpoint", &kept);
        world.put("checkpoints.log", chain.log());
        assert_ne!(world.verdict(), "accepted L0", "{size}");
    }
}

/// Every byte of every file, one bit of it turned: refused, or it is known why not.
#[test]
fn a_flipped_byte_is_refused_wherever_it_counts() {
    let chain = Chain::small();
    let world = World::of(chain.clone());
    let (mut refused, mut accepted) = (0, 0);
    for path in files(world.dir.path()) {
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            for flip in [1 << (at % 8)] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                fs::write(&path, &bad).unwrap();
                if !world.verdict().starts_with("accepted") {
                    refused += 1;
                    continue;
                }
                // The blanks where a payload was forgotten: whatever is there is no payload.
                let blank = path.extension().is_some_and(|ending| ending == "payload")
                    && good[at..].iter().all(|byte| *byte == b' ' || *byte == b'\n');
                assert!(blank, "{} byte {at} ^ {flip}", path.display());
                accepted += 1;
            }
        }
        fs::write(&path, &good).unwrap();
    }
    println!("{refused} refused, {accepted} in the blanks of a forgotten payload");
    assert_eq!(world.verdict(), "accepted L0");
}

#[test]
fn an_acknowledged_gap_is_accepted() {
    let world = World::of(gap(true));
    assert_eq!(world.verdict(), "accepted L0");
}

#[test]
fn wrong_tiles_are_not_believed() {
    let chain = crate::whole::large();
    let mut world = World::of(chain.clone());
    world.from = Some(chain.checkpoint(SEGMENT_ENTRIES + 7000));
    for path in [tile_path(0, 200), tile_path(0, 270), tile_path(1, 0)] {
        let good = fs::read(world.path(&path)).unwrap();
        let mut bad = good.clone();
        bad[33] ^= 1;
        world.put(&path, bad);
        let report = judge_cosigned(world.dir.path(), &world.trusted, world.from.as_deref(), &[], false).unwrap();
        println!("{path}: {:?}", report.remarks);
        // A tile that is not needed is not looked at; one that is makes the check read everything.
        assert!(report.read_from == 0 || path == tile_path(0, 200), "{path}");
        world.put(&path, good);
    }
}

//! Removing segments: what stays explains what is gone, and nothing goes that is still needed.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic, as tests may")]

mod running;

use running::copy_tree;
use secai_audit::disk::Keep;
use secai_audit::prune::NotPruned;
use secai_audit::recover::{Found, Places, open};
use secai_audit::writer::{Pending, Writer};
use secai_verifier::audit::chain::{Options, Verdict, check};
use secai_verifier::audit::checkpoint::{Note, VerifierKey};
use secai_verifier::audit::proof::{ProveError, prove};
use secai_verifier::audit::report::Remark;
use secai_verifier::audit::store::Store;
use secai_verifier::audit::{EPOCHS_KEPT, SEGMENT_ENTRIES, payload_path, read, segment_path, tile_path};
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A chain of two segments, the first of which holds remarks and the ends of two epochs.
struct Device {
    dir: TempDir,
    key: VerifierKey,
    /// Checkpoints that somebody kept: one within the first segment, one within the second.
    kept: [Note; 2],
}

impl Device {
    fn new() -> Self {
        let dir = scratch();
        let places = places(&dir);
        for place in [&places.state, &places.keys] {
            fs::create_dir(place).unwrap();
        }
        let (mut writer, _) = open(&places).unwrap();
        writer.append(&[note("forgotten with its segment")]).unwrap();
        writer.end_epoch().unwrap();
        writer.append(&[state()]).unwrap();
        let early = writer.checkpoint(Keep::OnDisk).unwrap();
        writer.append(&vec![state(); 1000]).unwrap();
        writer.end_epoch().unwrap();
        while writer.size() < SEGMENT_ENTRIES + 700 {
            writer.append(&vec![state(); 4096.min((SEGMENT_ENTRIES + 700 - writer.size()) as usize)]).unwrap();
        }
        assert_eq!(
            writer.prune(SEGMENT_ENTRIES, person()).unwrap(),
            Err(NotPruned::NotClosed { until: SEGMENT_ENTRIES, closed: 1005, most: 0 }),
            "the epoch is not over"
        );
        writer.end_epoch().unwrap();
        writer.append(&[note("stays")]).unwrap();
        let late = writer.checkpoint(Keep::OnDisk).unwrap();
        Self { dir, key: writer.key().device().clone(), kept: [early, late] }
    }

    fn again(&self) -> Self {
        let dir = scratch();
        copy_tree(self.dir.path(), dir.path());
        Self { dir, key: self.key.clone(), kept: self.kept.clone() }
    }

    fn open(&self) -> (Writer, Found) {
        open(&places(&self.dir)).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        places(&self.dir).chain().join(name)
    }

    fn store(&self) -> Store {
        Store::open(&places(&self.dir).chain()).unwrap()
    }

    fn judged(&self, witnessed: Option<&Note>) -> Verdict {
        let trusted = [self.key.clone()];
        let options = Options {
            trusted: &trusted,
            witnessed,
            cosigners: &[],
            full: witnessed.is_none(),
            threads: NonZeroUsize::MIN,
        };
        check(&self.store(), &options).unwrap()
    }

    /// The names of what is refused; none when it is accepted.
    fn refusals(&self) -> Vec<&'static str> {
        match self.judged(None) {
            Verdict::Refused(refusals) => refusals.iter().map(|refusal| refusal.name()).collect(),
            _ => Vec::new(),
        }
    }
}

fn places(dir: &TempDir) -> Places {
    Places { state: dir.path().join("state"), keys: dir.path().join("keys") }
}

/// In memory where that can be had: what syncs wait for is not the question.
fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn person() -> (String, u32) {
    ("person".to_owned(), 1000)
}

fn note(text: &str) -> Pending {
    let data = format!(r#"{{"bytes":{}}}"#, text.len());
    let payload = Some(text.as_bytes().to_vec());
    Pending { writer: "person".into(), uid: 1000, kind: "owner.note", data, payload }
}

fn state() -> Pending {
    let data = r#"{"from":"a","result":"b","to":"c","unit":"d"}"#.to_owned();
    Pending { writer: "audit".into(), uid: 956, kind: "svc.state", data, payload: None }
}

#[test]
fn what_is_removed_is_explained_by_what_stays() {
    let device = Device::new();
    let (first, second) = (segment_path(0), segment_path(SEGMENT_ENTRIES));
    // By hand, without an entry: the attack that this must be told from.
    let attacked = device.again();
    fs::remove_file(attacked.path(&first)).unwrap();
    fs::remove_file(attacked.path(&payload_path(0))).unwrap();
    assert!(attacked.refusals().contains(&"SegmentMissing"));
    // A tile that a crash tore is made again while it still can be.
    fs::write(device.path(&tile_path(0, 3)), [0; 8192]).unwrap();
    fs::remove_file(device.path(&tile_path(0, 4))).unwrap();

    let (mut writer, _) = device.open();
    let seq = writer.prune(SEGMENT_ENTRIES, person()).unwrap().unwrap();
    assert!(!device.path(&first).exists() && !device.path(&payload_path(0)).exists());
    assert!(device.path(&second).exists());
    assert_eq!(fs::read_to_string(device.path(EPOCHS_KEPT)).unwrap().lines().count(), 2, "the ends of two epochs");
    let gone = writer.prune(SEGMENT_ENTRIES, person()).unwrap();
    assert_eq!(gone, Err(NotPruned::Gone { until: SEGMENT_ENTRIES, first: SEGMENT_ENTRIES }));
    assert_eq!(writer.forget(0, SEGMENT_ENTRIES, person()).unwrap(), None, "nothing is left to forget there");
    writer.stop(0).unwrap();

    for witnessed in [None, Some(&device.kept[0]), Some(&device.kept[1])] {
        let from = witnessed.map(|note| note.checkpoint.size);
        let verdict = device.judged(witnessed);
        let Verdict::Accepted(verified) = &verdict else { panic!("from {from:?}: {verdict:#?}") };
        let report = verified.report();
        assert_eq!(report.unsigned(), 0);
        // From a checkpoint after what is gone, nothing before it is looked at.
        let removed = report.remarks.contains(&Remark::Pruned { until: SEGMENT_ENTRIES, signed: true });
        assert_eq!(removed, from.is_none_or(|from| from < SEGMENT_ENTRIES), "from {from:?}: {:?}", report.remarks);
    }
    let mut shown = Vec::new();
    read::read::<secai_verifier::files::Fault>(&device.store(), 0, u64::MAX, true, |found| {
        shown.push((found.place, found.payload.map(|payload| payload.bytes)));
        Ok(())
    })
    .unwrap();
    assert_eq!(shown[0].0, SEGMENT_ENTRIES);
    assert_eq!(shown.iter().filter_map(|(_, payload)| payload.as_deref()).collect::<Vec<_>>(), [b"stays"]);
    // Proofs: of what stays with the keys that follow over what is gone, of the kept ends of epochs; of the rest not.
    for of in [seq, SEGMENT_ENTRIES, device.kept[0].checkpoint.size - 2] {
        let mut keys = vec![device.key.clone()];
        for proof in prove(&device.store(), of).unwrap() {
            proof.verify(&keys).unwrap();
            keys.extend(proof.next_key());
        }
    }
    assert!(matches!(prove(&device.store(), 1), Err(ProveError::Absent(1))));

    // The writer goes on over what is gone, whatever became of the tiles that it can make again.
    let (mut writer, found) = device.open();
    assert_eq!(found, Found::default());
    writer.append(&[note("afterwards")]).unwrap();
    writer.stop(0).unwrap();
    assert_eq!(device.refusals(), [] as [&str; 0]);

    // Negative controls: without what was to stay it is refused.
    type Change = fn(&Path);
    let changes: [(&str, Change, &str); 3] = [
        ("the ends of epochs", |chain| fs::remove_file(chain.join(EPOCHS_KEPT)).unwrap(), "PrunedEpochUnproved"),
        ("the hashes", |chain| fs::remove_dir_all(chain.join("tile")).unwrap(), "PrunedTilesMissing"),
        ("a hash", |chain| fs::write(chain.join(tile_path(1, 0)), [7; 8192]).unwrap(), "RootDiffers"),
    ];
    for (what, change, refusal) in changes {
        let copy = device.again();
        change(&places(&copy.dir).chain());
        assert!(copy.refusals().contains(&refusal), "{what}: {:?}", copy.refusals());
    }
    let without_hashes = device.again();
    fs::remove_dir_all(without_hashes.path("tile")).unwrap();
    assert!(without_hashes.open().1.gap.is_some(), "a chain whose beginning nothing stands for cannot go on");
    let without_key = device.again();
    fs::remove_dir_all(places(&without_key.dir).keys).unwrap();
    fs::create_dir(places(&without_key.dir).keys).unwrap();
    assert!(without_key.open().1.gap.is_some(), "it is not taken for a new one");
    let forged = device.again();
    let text = fs::read_to_string(forged.path(&second)).unwrap().replacen(r#""prev":"0"#, r#""prev":"1"#, 1);
    fs::write(forged.path(&second), text).unwrap();
    assert!(forged.open().1.gap.is_some(), "an entry of the last segment was changed");
}

#[test]
fn a_chain_that_does_not_hold_is_kept_whole() {
    let device = Device::new();
    let first = device.path(&segment_path(0));
    let (mut writer, _) = device.open();
    let text = fs::read_to_string(&first).unwrap().replacen(r#""unit":"d""#, r#""unit":"e""#, 1);
    fs::write(&first, text).unwrap();
    let size = writer.size();
    let refused = writer.prune(SEGMENT_ENTRIES, person()).unwrap();
    assert!(matches!(&refused, Err(NotPruned::Refused(why)) if why.contains("entry")), "{refused:?}");
    assert_eq!(writer.size(), size, "and no entry says that anything was removed");
    assert!(first.exists() && !device.path(EPOCHS_KEPT).exists());
}

/// A crash at each step, as it leaves the files; kills in the real service are in `faults.rs`.
#[test]
fn what_a_crash_interrupted_the_next_start_completes() {
    let device = Device::new();
    let before = device.again();
    let (mut writer, _) = device.open();
    writer.prune(SEGMENT_ENTRIES, person()).unwrap().unwrap();
    drop(writer);
    for (what, files) in [
        ("nothing was removed yet", vec![segment_path(0), payload_path(0)]),
        ("the payloads were", vec![segment_path(0)]),
    ] {
        let copy = device.again();
        for name in &files {
            fs::copy(before.path(name), copy.path(name)).unwrap();
        }
        assert_eq!(copy.refusals(), [] as [&str; 0], "{what}");
        assert_eq!(copy.open().1, Found::default(), "{what}");
        assert!(!copy.path(&segment_path(0)).exists() && !copy.path(&payload_path(0)).exists(), "{what}");
        assert_eq!(copy.refusals(), [] as [&str; 0], "{what}");
    }
    // Before the entry, with a part of what is kept: it is as if nobody had asked, and asking again does it.
    let kept = fs::read(device.path(EPOCHS_KEPT)).unwrap();
    let foreign = [&kept[..], &fs::read(before.path(&segment_path(SEGMENT_ENTRIES))).unwrap()[..400]].concat();
    for left in [&kept[..10], &kept, &foreign] {
        let (copy, length) = (before.again(), left.len());
        fs::write(copy.path(EPOCHS_KEPT), left).unwrap();
        assert_eq!(copy.refusals(), [] as [&str; 0], "{length} bytes");
        let (mut writer, _) = copy.open();
        assert!(copy.path(&segment_path(0)).exists());
        writer.prune(SEGMENT_ENTRIES, person()).unwrap().unwrap();
        assert_eq!(fs::read(copy.path(EPOCHS_KEPT)).unwrap(), kept, "{length} bytes");
        assert_eq!(copy.refusals(), [] as [&str; 0], "{length} bytes");
    }
}

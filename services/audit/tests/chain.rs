//! The writer on real files: what it acknowledged is there after anything, and what it says about itself is true.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic, as tests may")]

use secai_audit::recover::{Found, Places, open};
use secai_audit::writer::{Pending, WriteError, Writer};
use secai_verifier::audit::checkpoint::Note;
use secai_verifier::audit::entry::{Entry, genesis};
use secai_verifier::audit::tree::{Frontier, leaf};
use secai_verifier::audit::{SEGMENT_ENTRIES, segment_path};
use secai_verifier::digest::Digest;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

struct Device {
    dir: TempDir,
}

impl Device {
    fn new() -> Self {
        let device = Self { dir: scratch() };
        for place in [device.places().state, device.places().keys] {
            fs::create_dir(place).unwrap();
        }
        device
    }

    fn places(&self) -> Places {
        Places { state: self.dir.path().join("state"), keys: self.dir.path().join("keys") }
    }

    fn open(&self) -> (Writer, Found) {
        open(&self.places()).unwrap()
    }

    fn chain(&self) -> PathBuf {
        self.places().chain()
    }

    fn copy(&self) -> Self {
        let copy = Self { dir: scratch() };
        copy_tree(self.dir.path(), copy.dir.path());
        copy
    }

    /// Every entry, with the checks of the links and the newest checkpoint done on the way.
    fn entries(&self) -> Vec<(String, String)> {
        let note = Note::parse(&fs::read(self.chain().join("checkpoint")).unwrap()).unwrap();
        let (mut prev, mut frontier) = (genesis(&note.checkpoint.origin), Frontier::new());
        let (mut entries, mut segment) = (Vec::new(), 0);
        while let Ok(bytes) = fs::read(self.chain().join(segment_path(segment))) {
            for line in bytes.split(|byte| *byte == b'\n') {
                let Ok(entry) = Entry::parse(line) else {
                    assert!(line.iter().all(|byte| *byte == 0), "{}", String::from_utf8_lossy(line));
                    continue;
                };
                assert_eq!((entry.seq, entry.prev), (entries.len() as u64, prev));
                prev = Digest::of(line);
                frontier.push(leaf(line));
                entries.push((entry.kind.to_owned(), entry.data.to_owned()));
                if frontier.size() == note.checkpoint.size {
                    assert_eq!(frontier.root(), note.checkpoint.root);
                }
            }
            segment += SEGMENT_ENTRIES;
        }
        assert!(entries.len() as u64 >= note.checkpoint.size);
        entries
    }
}

/// In memory where that can be had: syncs are many here, and what they wait for is not the question.
fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_tree(&path, &to)
        } else {
            let _ = fs::copy(&path, &to).unwrap();
        }
    }
}

fn note(text: &str) -> Pending {
    let data = format!(r#"{{"bytes":{}}}"#, text.len());
    let payload = Some(text.as_bytes().to_vec());
    Pending { writer: "owner".into(), uid: 1000, kind: "owner.note", data, payload }
}

fn state(n: usize) -> Pending {
    let data = format!(r#"{{"from":"inactive","result":"success","to":"active","unit":"u{n}.service"}}"#);
    Pending { writer: "audit".into(), uid: 956, kind: "svc.state", data, payload: None }
}

#[test]
fn a_chain_grows_over_restarts() {
    let device = Device::new();
    for round in 0..3 {
        let (mut writer, found) = device.open();
        assert_eq!(found, Found::default(), "round {round}");
        let at = writer.append(&[note("hello"), state(round)]).unwrap();
        assert_eq!(at, 1 + 4 * round as u64);
        writer.stop(0).unwrap();
    }
    let kinds: Vec<_> = device.entries().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["audit.start", "owner.note", "svc.state", "audit.stop"].repeat(3));
}

#[test]
fn two_writers_are_one_too_many() {
    let device = Device::new();
    let _writer = device.open();
    assert!(matches!(open(&device.places()), Err(WriteError::Locked { .. })));
}

#[test]
fn segments_and_tiles_follow_each_other() {
    let device = Device::new();
    let (mut writer, _) = device.open();
    let batch: Vec<_> = (0..4096).map(state).collect();
    while writer.size() < SEGMENT_ENTRIES + 5000 {
        writer.append(&batch).unwrap();
    }
    let (size, epoch) = (writer.size(), writer.key().epoch());
    assert_eq!(epoch, 1, "an epoch ends after 65,536 entries");
    drop(writer);
    assert_eq!(device.entries().len() as u64, size);
    let first = fs::read(device.chain().join(segment_path(0))).unwrap();
    assert_eq!(first.iter().filter(|byte| **byte == b'\n').count() as u64, SEGMENT_ENTRIES);
    assert_eq!(first.last(), Some(&b'\n'), "a full segment ends with its last line");
    assert_eq!(fs::read(device.chain().join("tile/1/000")).unwrap().len(), 8192);
    for tile in [0, 255, 256 + (size - SEGMENT_ENTRIES) / 256 - 1] {
        assert!(device.chain().join(secai_verifier::audit::tile_path(0, tile)).exists(), "tile {tile} of {size}");
    }
    // With tiles, without them, and with a false one: the same chain goes on.
    for change in ["none", "gone", "false"] {
        let copy = device.copy();
        match change {
            "gone" => fs::remove_dir_all(copy.chain().join("tile")).unwrap(),
            "false" => fs::write(copy.chain().join("tile/1/000"), [7; 8192]).unwrap(),
            _ => {}
        }
        let (writer, found) = copy.open();
        assert_eq!((found, writer.size()), (Found::default(), size + 1), "tiles: {change}");
        drop(writer);
        assert_eq!(copy.entries().len() as u64, size + 1);
    }
    // A changed entry in a segment that the tiles speak for is found by the root that was kept, at the latest when
    // the entries are read.
    let copy = device.copy();
    let path = copy.chain().join(segment_path(0));
    let text = String::from_utf8(fs::read(&path).unwrap()).unwrap().replacen("u7.service", "u8.service", 1);
    fs::write(&path, text).unwrap();
    fs::remove_dir_all(copy.chain().join("tile")).unwrap();
    assert!(copy.open().1.gap.is_some());
}

/// Acknowledged: a first batch. Under way: a second one, of which any part may have reached the disk.
fn torn() -> (Device, Vec<u8>, usize, usize) {
    let device = Device::new();
    let (mut writer, _) = device.open();
    writer.append(&[note("first"), state(1)]).unwrap();
    let path = device.chain().join(segment_path(0));
    let length = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let acknowledged = length(&fs::read(&path).unwrap());
    writer.append(&[note("second"), state(2)]).unwrap();
    let bytes = fs::read(&path).unwrap();
    let end = length(&bytes);
    (device, bytes, acknowledged, end)
}

/// The second batch ends early; so many bytes follow that were zero before it.
fn cut_at_every_byte(zeros: impl Fn(usize, usize) -> usize) {
    let (device, bytes, acknowledged, end) = torn();
    for cut in acknowledged..=end {
        let mut left = bytes[..cut].to_vec();
        left.resize(cut + zeros(bytes.len(), end), 0);
        let copy = device.copy();
        fs::write(copy.chain().join(segment_path(0)), &left).unwrap();
        let (writer, found) = copy.open();
        let whole = left[..cut].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        let expected = (cut > whole).then(|| ((cut - whole) as u64, Digest::of(&left[whole..cut])));
        assert_eq!((&found.torn, &found.gap), (&expected, &None), "after {cut} of {end} bytes");
        drop(writer);
        let entries = copy.entries();
        assert!(entries.len() >= 3, "the first batch was acknowledged");
        let recorded = entries.iter().filter(|(kind, _)| kind == "audit.recovered").count();
        assert_eq!(recorded, usize::from(expected.is_some()));
    }
    eprintln!("{} of {0} cuts", end - acknowledged + 1);
}

#[test]
fn a_cut_at_every_byte_of_the_last_batch_before_the_end_of_the_file_is_recorded() {
    cut_at_every_byte(|_, _| 0);
}

#[test]
fn a_cut_at_every_byte_of_the_last_batch_before_zeros_is_recorded() {
    cut_at_every_byte(|room, end| room - end);
}

#[test]
fn a_hole_in_the_last_batch_is_torn_and_one_before_it_is_tampering() {
    let (device, bytes, acknowledged, end) = torn();
    let path = Path::new("chain").join(segment_path(0));
    for from in acknowledged..end {
        let mut left = bytes.clone();
        left[from..(from + 512).min(end)].fill(0);
        let copy = device.copy();
        fs::write(copy.places().state.join(&path), &left).unwrap();
        let (writer, found) = copy.open();
        assert_eq!(
            found.gap,
            None,
            "a hole at {from}: {}",
            String::from_utf8_lossy(&left[acknowledged..end]).replace('\0', "0")
        );
        assert!(found.torn.is_some() || from + 512 >= end, "a hole at {from}");
        drop(writer);
        assert!(copy.entries().len() >= 3);
    }
    let mut left = bytes;
    left[acknowledged - 40..acknowledged - 20].fill(0);
    fs::write(device.places().state.join(&path), &left).unwrap();
    let (writer, found) = device.open();
    assert!(found.gap.is_some(), "the first batch was on the disk before the second began");
    drop(writer);
    let kinds: Vec<_> = device.entries().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["audit.gap", "audit.start"]);
    assert!(device.places().state.join("broken-1").join(segment_path(0)).exists(), "what was there is kept");
}

#[test]
fn what_was_signed_cannot_go_unnoticed() {
    let device = Device::new();
    let (mut writer, _) = device.open();
    writer.append(&(0..300).map(state).collect::<Vec<_>>()).unwrap();
    assert_eq!(writer.signed(), 301, "256 entries are signed without being asked");
    drop(writer);
    let segment = segment_path(0);
    type Change = fn(&Path, &Path);
    let changes: [(&str, Change); 5] = [
        ("an entry edited", |chain, segment| {
            let path = chain.join(segment);
            let text = fs::read_to_string(&path).unwrap().replacen("u200.service", "u201.service", 1);
            fs::write(path, text).unwrap();
        }),
        ("the last entries cut", |chain, segment| {
            let path = chain.join(segment);
            let text = fs::read_to_string(&path).unwrap();
            let at = text.match_indices('\n').nth(250).unwrap().0;
            fs::write(path, &text[..=at]).unwrap();
        }),
        ("the segment removed", |chain, segment| fs::remove_file(chain.join(segment)).unwrap()),
        ("everything removed", |chain, _| fs::remove_dir_all(chain).unwrap()),
        ("the entries emptied", |chain, segment| fs::write(chain.join(segment), "").unwrap()),
    ];
    for (what, change) in changes {
        let copy = device.copy();
        change(&copy.chain(), Path::new(&segment));
        let (writer, found) = copy.open();
        assert!(found.gap.is_some(), "{what}");
        assert!(writer.gap().is_some());
        drop(writer);
        // It stays known until the owner says so.
        let (mut writer, _) = copy.open();
        assert!(writer.gap().is_some(), "{what}: still");
        assert!(writer.acknowledge(("owner".into(), 1000)).unwrap().is_some());
        drop(writer);
        assert!(copy.open().0.gap().is_none());
    }
    let gone = device.copy();
    for key in fs::read_dir(gone.places().keys).unwrap().flatten() {
        fs::remove_file(key.path()).unwrap();
    }
    assert!(gone.open().1.gap.is_some(), "without its key a chain cannot go on");
    assert_eq!(device.open().1, Found::default(), "and untouched it goes on");
}

#[test]
fn what_is_forgotten_is_gone_and_stays_gone() {
    let device = Device::new();
    let (mut writer, _) = device.open();
    writer.append(&[note("keep me"), note("forget me"), note("keep me too")]).unwrap();
    let path = device.chain().join(secai_verifier::audit::payload_path(0));
    let before = fs::read(&path).unwrap();
    let secret = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains("Zm9yZ2V0IG1l");
    assert!(secret(&before));
    assert_eq!(writer.forget(2, 3, ("owner".into(), 1000)).unwrap(), Some(4));
    assert_eq!(writer.forget(2, 3, ("owner".into(), 1000)).unwrap(), None, "there is nothing left to forget");
    drop(writer);
    let after = fs::read(&path).unwrap();
    assert!(!secret(&after));
    assert_eq!(after.len(), before.len());
    assert_eq!(String::from_utf8_lossy(&after).matches("salt").count(), 2);
    // A crash came between the entry and the erasing: the next start makes good for it.
    fs::write(&path, before).unwrap();
    drop(device.open());
    assert!(!secret(&fs::read(&path).unwrap()));
    assert!(
        device
            .entries()
            .iter()
            .any(|(kind, data)| kind == "audit.forget" && data == r#"{"count":1,"from":2,"until":3}"#)
    );
}

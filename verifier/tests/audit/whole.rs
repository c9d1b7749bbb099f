//! Chains that hold, small and of several segments, whole and from a kept checkpoint on.

use std::fs;

use secai_verifier::audit::report::Remark;
use secai_verifier::audit::{SEGMENT_ENTRIES, segment_path};

use crate::make::{Chain, write};
use crate::{judge, judge_own};

#[test]
fn a_small_chain_holds() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::small();
    chain.write(dir.path());
    let report = judge_own(&chain, dir.path()).unwrap();
    assert_eq!((report.verified(), report.entries, report.epochs), (10, 10, 3));
    assert_eq!((report.payloads, report.forgotten), (1, 1));
    assert_eq!(report.remarks, []);
    assert_eq!(report.signer, Some(chain.vkey(2)));
    assert!(report.vouches()[0].starts_with("L0"), "{:?}", report.vouches());

    assert_eq!(judge(dir.path(), &[], None, false), Err(vec!["SignerUnknown".to_owned()]));
    // A key of a later epoch makes no chain's name: it is no reason to refuse, and none to believe.
    assert_eq!(judge(dir.path(), &[chain.vkey(1)], None, false), Err(vec!["SignerUnknown".to_owned()]));
}

#[test]
fn every_size_is_signed_by_its_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::small();
    for size in 0..=chain.size() {
        chain.write(dir.path());
        write(dir.path(), "checkpoint", chain.checkpoint(size).as_bytes());
        // What lies behind is linked, and not signed yet.
        let report = judge_own(&chain, dir.path()).unwrap_or_else(|refusals| panic!("{size}: {refusals:?}"));
        assert_eq!((report.verified(), report.unsigned()), (size, chain.size() - size));
    }
}

#[test]
fn what_is_being_written_is_no_alarm() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::small();
    chain.write(dir.path());
    let path = dir.path().join(segment_path(0));
    let good = fs::read(&path).unwrap();
    let next = {
        let mut more = chain.clone();
        more.state("d");
        [more.lines.last().unwrap().as_slice(), b"\n"].concat()
    };
    for cut in 0..=next.len() {
        for room in [0, 1, 9000] {
            let bytes = [good.as_slice(), &next[..cut], &vec![0; room]].concat();
            fs::write(&path, bytes).unwrap();
            let report = judge_own(&chain, dir.path()).unwrap();
            let whole = cut == next.len();
            assert_eq!(report.unsigned(), u64::from(whole));
            let torn = Remark::TornTail { bytes: cut as u64 };
            assert_eq!(report.remarks.contains(&torn), cut > 0 && !whole, "{cut}: {:?}", report.remarks);
        }
    }
}

#[test]
fn remarks_are_no_refusals() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::small();
    chain.forgotten.clear();
    chain.clock = 0;
    chain.push("future.kind", r#"{"a":[1,"x"]}"#);
    chain.push("future.kind", "{}");
    chain.boot = 5;
    chain.mono = 0;
    chain.state("after a reboot");
    chain.write(dir.path());
    let report = judge_own(&chain, dir.path()).unwrap();
    assert_eq!(
        report.remarks,
        [
            Remark::ForgottenButThere { payloads: 1, first: 4 },
            Remark::TimeSteppedBack { times: 1, first: 10 },
            Remark::UnknownKind { kind: "future.kind".into(), entries: 2 },
        ]
    );
}

/// A segment and a bit, several epochs, notes here and there.
pub fn large() -> Chain {
    let mut chain = Chain::new(9);
    chain.push("audit.start", r#"{"version":"0.1.0"}"#);
    while chain.size() < SEGMENT_ENTRIES + 9000 {
        match chain.size() {
            size if size % 20_011 == 5 => chain.epoch(),
            size if size % 997 == 3 => {
                chain.note("a remark");
            }
            _ => {
                chain.state("x");
            }
        }
    }
    chain
}

#[test]
fn several_segments_hold_whole_and_from_any_kept_checkpoint_on() {
    let dir = tempfile::tempdir().unwrap();
    let chain = large();
    chain.write(dir.path());
    let trusted = [chain.vkey(0)];
    let whole = judge_own(&chain, dir.path()).unwrap();
    assert_eq!(whole.entries, chain.size());
    assert_eq!(whole.epochs, chain.ends.len() as u64 + 1);
    for size in [
        1,
        255,
        256,
        257,
        SEGMENT_ENTRIES - 1,
        SEGMENT_ENTRIES,
        SEGMENT_ENTRIES + 1,
        70_000,
        chain.ends[2],
        chain.ends[2] - 1,
        chain.ends[2] + 1,
        SEGMENT_ENTRIES + 8990,
        chain.size(),
    ] {
        let kept = chain.checkpoint(size);
        let report = judge(dir.path(), &trusted, Some(&kept), false).unwrap();
        assert_eq!(report.remarks, [], "{size} was read from the tiles");
        assert_eq!(report.read_from, (size - 1) / 256 * 256, "{size}");
        assert_eq!((report.entries, report.epochs, report.witnessed), (chain.size(), whole.epochs, Some(size)));
        assert_eq!(report.head, whole.head);
    }
    // With --full everything is read, and without tiles too.
    let kept = chain.checkpoint(70_000);
    assert_eq!(judge(dir.path(), &trusted, Some(&kept), true).unwrap().read_from, 0);
    fs::remove_dir_all(dir.path().join("tile")).unwrap();
    let report = judge(dir.path(), &trusted, Some(&kept), false).unwrap();
    assert_eq!(report.read_from, 0);
    assert!(matches!(report.remarks[..], [Remark::ReadInFull { .. }]), "{:?}", report.remarks);
}

//! The chain of a running writer is judged again and again, while services write, people forget, segments and epochs
//! end: no false alarm. And a true one is raised by the same judge.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod running;

use running::{Running, ask, copy_tree, note};
use secai_api::audit::{Range, Reply, Request};
use secai_verifier::audit::SEGMENT_ENTRIES;
use secai_verifier::audit::chain::{Options, Verdict, check};
use secai_verifier::audit::checkpoint::{Note, VerifierKey};
use secai_verifier::audit::refusal::ChainRefusal;
use secai_verifier::audit::store::Store;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const WRITERS: usize = 16;
/// Of so many judgements one is of the whole chain, the others go on from the checkpoint that was seen last.
const WHOLE_EVERY: usize = 200;
/// Entries between two judgements: together more than a segment has, and no more than can be judged whole so often.
const ENTRIES_PER_JUDGEMENT: u64 = 8;
/// How far the writers may run ahead of the judge, who never sees them stand still.
const AHEAD_MAX: u64 = 2000;

/// In the longer tier as many as the chain is promised to bear, and more entries than a segment has.
fn judgements() -> usize {
    if std::env::var("SECAI_TIER").is_ok_and(|tier| tier == "vm") { 10_000 } else { 400 }
}

fn judge(chain: &Path, key: &VerifierKey, from: Option<&Note>) -> Result<u64, Vec<ChainRefusal>> {
    let trusted = std::slice::from_ref(key);
    let options = Options { trusted, witnessed: from, cosigners: &[], full: false, threads: NonZeroUsize::MIN };
    match check(&Store::open(chain).unwrap(), &options).unwrap() {
        Verdict::Accepted(verified) => Ok(verified.report().entries),
        Verdict::Refused(refusals) => Err(refusals),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_running_writer_causes_no_false_alarm() {
    let device = Running::new();
    device.note_key();
    let key: VerifierKey = device.status().device_key.parse().unwrap();
    let chain = device.path("state/chain");
    let (over, judged) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut whole, mut entries) = (0, 0);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (device, over, judged) = (&device, &over, &judged);
            scope.spawn(move || {
                let connection = device.connect();
                let mut round = 0;
                while !over.load(Ordering::Relaxed) {
                    let Reply::Appended { seq: Some(seq) } = ask(&connection, note(&format!("{writer} {round}")))
                    else {
                        panic!("not written");
                    };
                    if writer == 0 && round % 40 == 39 {
                        let range = Range { from: seq.saturating_sub(60), until: seq };
                        assert!(matches!(ask(&connection, Request::Forget(range)), Reply::Appended { .. }));
                    }
                    while seq > judged.load(Ordering::Relaxed) * ENTRIES_PER_JUDGEMENT + AHEAD_MAX
                        && !over.load(Ordering::Relaxed)
                    {
                        thread::sleep(Duration::from_millis(1));
                    }
                    round += 1;
                }
            });
        }
        let _ends = EndOnDrop(&over);
        let mut from: Option<Note> = None;
        for count in 1..=judgements() {
            let whole_now = count % WHOLE_EVERY == 0;
            // What is kept now must hold in all that comes.
            let kept = std::fs::read(chain.join("checkpoint")).unwrap();
            let verdict = judge(&chain, &key, from.as_ref().filter(|_| !whole_now));
            entries = verdict.unwrap_or_else(|refusals| panic!("alarm {count}: {refusals:?}"));
            whole += usize::from(whole_now);
            from = Some(Note::parse(&kept).unwrap());
            judged.fetch_add(1, Ordering::Relaxed);
        }
    });
    eprintln!(
        "{} judgements without alarm, {whole} of them of the whole chain, while {entries} entries were written, into {} segments",
        judgements(),
        entries.div_ceil(SEGMENT_ENTRIES)
    );
    assert!(judgements() < 10_000 || entries > SEGMENT_ENTRIES, "{entries} entries reach no second segment");

    // The same judge, the same chain, one byte of it another.
    let other = device.path("other");
    copy_tree(&chain, &other);
    let segment = other.join(secai_verifier::audit::segment_path(0));
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(10).position(|word| word == b"owner.note").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    assert!(judge(&other, &key, None).is_err());
}

/// Writers end where a judgement panics, too.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

//! A chain that is checked while it is written, payloads forgotten and epochs ended on the way: no false alarm.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use secai_verifier::audit::{payload_path, segment_path};

use crate::judge;
use crate::make::Chain;

/// How long; a soak gives more.
fn seconds() -> u64 {
    std::env::var("SECAI_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

/// Between two rounds of the writer.
const PAUSE_MILLIS: u64 = 4;

/// Room in front of the writer, as it allocates it.
const ROOM_BYTES: u64 = 64 << 20;

struct Writer<'a> {
    dir: &'a Path,
    /// Beside the chain: what is renamed into it.
    beside: &'a Path,
    segment: File,
    payloads: File,
    chain: Chain,
    written: usize,
    at: u64,
    payload_at: u64,
    places: Vec<(u64, u64, usize)>,
}

impl Writer<'_> {
    /// Payloads, then entries in one call, as the writer does.
    fn batch(&mut self) {
        let from = self.written as u64;
        let mut bytes = Vec::new();
        for (seq, payload) in self.chain.payloads.range(from..) {
            let mut line = Vec::new();
            payload.render(&mut line);
            self.places.push((*seq, self.payload_at + bytes.len() as u64, line.len()));
            bytes.extend(line);
            bytes.push(b'\n');
        }
        self.payloads.write_all_at(&bytes, self.payload_at).unwrap();
        self.payload_at += bytes.len() as u64;
        let mut bytes = Vec::new();
        for line in &self.chain.lines[self.written..] {
            bytes.extend(line);
            bytes.push(b'\n');
        }
        self.segment.write_all_at(&bytes, self.at).unwrap();
        self.at += bytes.len() as u64;
        self.written = self.chain.lines.len();
    }

    fn sign(&self) {
        let text = self.chain.checkpoint(self.chain.size());
        fs::write(self.beside.join("next"), text).unwrap();
        fs::rename(self.beside.join("next"), self.dir.join("checkpoint")).unwrap();
    }

    fn round(&mut self, round: u64) {
        for _ in 0..1 + round % 40 {
            self.chain.state("x");
        }
        self.chain.note("a remark that will be forgotten");
        self.batch();
        if round.is_multiple_of(3) {
            self.sign();
        }
        if round.is_multiple_of(5)
            && let Some((seq, at, length)) = self.places.pop()
        {
            self.chain.forget(seq, seq + 1);
            self.batch();
            self.payloads.write_all_at(&vec![b' '; length], at).unwrap();
        }
        if round % 50 == 49 {
            self.chain.epoch();
            self.batch();
            let (size, epoch) = (self.chain.size(), self.chain.ends.len() - 1);
            let log = fs::OpenOptions::new().append(true).create(true).open(self.dir.join("checkpoints.log")).unwrap();
            std::io::Write::write_all(&mut &log, self.chain.sealed(size, epoch).as_bytes()).unwrap();
            self.sign();
        }
    }
}

#[test]
fn a_busy_writer_causes_no_alarm() {
    let root = tempfile::tempdir().unwrap();
    let (dir, beside) = (root.path().join("chain"), root.path().join("beside"));
    fs::create_dir_all(dir.join("seg")).unwrap();
    fs::create_dir_all(&beside).unwrap();
    let segment = File::create(dir.join(segment_path(0))).unwrap();
    segment.set_len(ROOM_BYTES).unwrap();
    let payloads = File::create(dir.join(payload_path(0))).unwrap();
    let mut chain = Chain::new(21);
    chain.push("audit.start", r#"{"version":"0.1.0"}"#);
    let trusted = [chain.vkey(0)];
    let (dir, beside) = (dir.as_path(), beside.as_path());
    let (written, at, payload_at, places) = (0, 0, 0, Vec::new());
    let mut writer = Writer { dir, beside, segment, payloads, chain, written, at, payload_at, places };
    writer.batch();
    writer.sign();

    let first = writer.chain.checkpoint(1);

    let over = AtomicBool::new(false);
    let (checks, entries) = thread::scope(|scope| {
        let over = &over;
        let work = scope.spawn(move || {
            let mut round = 0;
            while !over.load(Ordering::Relaxed) && writer.chain.size() < 60_000 {
                writer.round(round);
                round += 1;
                // Slow enough that a check sees many states, and not only the last one.
                thread::sleep(Duration::from_millis(PAUSE_MILLIS));
            }
            writer.chain.size()
        });
        let (begun, mut checks) = (Instant::now(), 0);
        while begun.elapsed() < Duration::from_secs(seconds()) {
            // In turn whole, and from the first checkpoint on.
            let from = (checks % 2 == 1).then_some(first.as_str());
            if let Err(refusals) = judge(dir, &trusted, from, false) {
                over.store(true, Ordering::Relaxed);
                panic!("after {checks} checks: {refusals:?}");
            }
            checks += 1;
        }
        over.store(true, Ordering::Relaxed);
        (checks, work.join().unwrap())
    });
    println!("{checks} checks without alarm, while {entries} entries were written");
    assert!(checks > 1 && judge(dir, &trusted, None, false).is_ok());
}

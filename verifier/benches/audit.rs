//! `cargo bench -p secai-verifier --bench audit`: a chain of a million entries, read whole, against bare SHA-256 over
//! the same bytes with as many threads; ten thousand new entries from a kept checkpoint on; memory of both sizes.
//! `SECAI_LARGEST=10000000` has the memory measured for a chain of that size too (4 GiB on the disk, 12 in memory).
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a helper of tests may panic and print, as tests may")]
#![allow(clippy::disallowed_methods, reason = "the verifier starts no process; its tests compare it with others")]

#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../tests/audit/make.rs"]
mod make;

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use make::{Chain, files, write};
use secai_verifier::audit::chain::{Options, Verdict, check};
use secai_verifier::audit::checkpoint::{Note, VerifierKey};
use secai_verifier::audit::report::Report;
use secai_verifier::audit::store::Store;
use secai_verifier::digest::Digest;

const ENTRIES: u64 = 1_000_000;
const NEW_ENTRIES: u64 = 10_000;
const FEW_ENTRIES: u64 = 10_000;
const RUNS: usize = 5;

fn chain(entries: u64) -> Chain {
    let mut chain = Chain::new(1);
    while chain.size() < entries {
        match chain.size() {
            size if size % 65_536 == 100 => chain.epoch(),
            size if size % 50 == 7 => {
                chain.note("a remark");
            }
            size => {
                chain.state(&format!("secure-ai-{}.service", size % 9));
            }
        }
    }
    chain
}

fn best(what: &str, mut run: impl FnMut()) -> Duration {
    let times = (0..RUNS).map(|_| {
        let begun = Instant::now();
        run();
        begun.elapsed()
    });
    let best = times.min().unwrap();
    println!("{:9.1} ms  {what}", best.as_secs_f64() * 1e3);
    best
}

fn judged(dir: &Path, key: &VerifierKey, from: Option<&Note>, threads: NonZeroUsize) -> Report {
    let trusted = std::slice::from_ref(key);
    let options = Options { trusted, witnessed: from, cosigners: &[], full: false, threads };
    match check(&Store::open(dir).unwrap(), &options).unwrap() {
        Verdict::Accepted(chain) => chain.report().clone(),
        other => panic!("{other:?}"),
    }
}

/// Peak of the program's memory in KiB, as the kernel counts it.
fn memory(dir: &Path, trust: &Path) -> u64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_verify-release"));
    let mut child = command.arg("audit").arg(dir).arg("--trust").arg(trust).stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        peak = peak.max(line.trim().trim_end_matches(" kB").parse().unwrap_or(0));
        thread::sleep(Duration::from_micros(200));
    }
    peak
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let (large, small, trust) = (dir.path().join("large"), dir.path().join("small"), dir.path().join("trust"));
    let whole = chain(ENTRIES + NEW_ENTRIES);
    whole.write(&large);
    whole.trust(&trust);
    let kept = Note::parse(whole.checkpoint(ENTRIES).as_bytes()).unwrap();
    let few = chain(FEW_ENTRIES);
    few.write(&small);
    few.trust(&trust.join("few"));
    write(&trust, "few.vkey", format!("{}\n", few.vkey(0)).as_bytes());
    let key = whole.vkey(0);
    let entries = whole.size();
    drop(whole);

    let segments: Vec<_> =
        files(&large.join("seg")).into_iter().filter(|path| path.extension().is_some_and(|e| e == "jsonl")).collect();
    let bytes: u64 = segments.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    let threads = thread::available_parallelism().unwrap();
    println!("{entries} entries, {} MiB, {threads} threads, best of {RUNS}", bytes >> 20);

    let full = best("verify-release audit, whole", || {
        assert_eq!(judged(&large, &key, None, threads).verified(), entries);
    });
    let bare = best("bare SHA-256 over the segments", || {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..threads.get() {
                scope.spawn(|| {
                    while let Some(path) = segments.get(next.fetch_add(1, Ordering::Relaxed)) {
                        std::hint::black_box(Digest::of(&fs::read(path).unwrap()));
                    }
                });
            }
        });
    });
    let new = best("ten thousand new entries, from a kept checkpoint on", || {
        let report = judged(&large, &key, Some(&kept), threads);
        assert!(report.read_from > ENTRIES - 300 && report.entries == entries);
    });
    println!("{:9.2} million entries a second", entries as f64 / full.as_secs_f64() / 1e6);
    println!(
        "{:9.2} of bare SHA-256 (each entry is hashed twice, and once more in the tree)",
        bare.as_secs_f64() / full.as_secs_f64()
    );
    println!("{:9.0} times as fast from a kept checkpoint on", full.as_secs_f64() / new.as_secs_f64());
    let (few, many) = (memory(&small, &trust), memory(&large, &trust));
    println!("{few} KiB for {FEW_ENTRIES} entries, {many} KiB for {entries}: {:.2} times", many as f64 / few as f64);
    if let Some(entries) = std::env::var("SECAI_LARGEST").ok().and_then(|text| text.parse().ok()) {
        let largest = dir.path().join("largest");
        let most = chain(entries);
        most.write(&largest);
        most.trust(&trust.join("largest"));
        write(&trust, "largest.vkey", format!("{}\n", most.vkey(0)).as_bytes());
        drop(most);
        let begun = Instant::now();
        let most = memory(&largest, &trust);
        println!(
            "{most} KiB for {entries}: {:.2} times, in {:.1} s",
            most as f64 / few as f64,
            begun.elapsed().as_secs_f64()
        );
    }
}

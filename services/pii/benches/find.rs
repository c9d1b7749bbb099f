//! Megabytes a second on ordinary text, on text full of findings, and on what is made to be slow; recall and precision by
//! kind; and, of the same run, the pattern recognisers of `presidio-analyzer` and the examples of `python-stdnum`.
//!
//! `cargo bench -p secai-pii`: figures of one run on one machine; nothing is asserted. The two come from the package
//! index that pip is set to, into a folder below the target folder; where they cannot be had, that is said.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may panic, and its figures are its output")]

#[path = "../tests/made/mod.rs"]
mod made;

use made::{ENCODINGS, ORDINARY, Random, WITHOUT_CHECKSUM, detectors, generated, of};
use secai_pii::{Detectors, Kind, OwnIdentifiers};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MEGABYTE: usize = 1_000_000;
/// A figure is the best of the rounds that fit into this.
const LONG: Duration = Duration::from_secs(2);

fn repeated(parts: &[String], bytes: usize) -> String {
    parts
        .iter()
        .cycle()
        .scan(0, |sum, part| (*sum < bytes).then(|| *sum += part.len() + 1).map(|()| part.as_str()))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Megabytes a second, and how many were found.
fn speed(detectors: &Detectors, text: &str) -> (f64, usize) {
    let (begin, mut best, mut count) = (Instant::now(), Duration::MAX, 0);
    while begin.elapsed() < LONG {
        let round = Instant::now();
        count = detectors.find(text.as_bytes()).unwrap().len();
        best = best.min(round.elapsed());
    }
    (text.len() as f64 / best.as_secs_f64() / MEGABYTE as f64, count)
}

fn texts() -> Vec<(&'static str, String)> {
    let ordinary: Vec<String> = ORDINARY.iter().map(|text| (*text).to_owned()).collect();
    let mut random = Random(21);
    let values: Vec<String> = (0..200).flat_map(|_| generated(&mut random)).map(|(_, value)| value).collect();
    let mixed: Vec<String> = ORDINARY
        .iter()
        .zip(values.iter().step_by(7))
        .flat_map(|(text, value)| [(*text).to_owned(), value.clone()])
        .collect();
    vec![
        ("prose", repeated(&ordinary[..2], MEGABYTE)),
        ("prose, code and logs", repeated(&ordinary, MEGABYTE)),
        ("every second line a value", repeated(&mixed, MEGABYTE)),
        ("nothing but values", repeated(&values, MEGABYTE)),
    ]
}

/// What would be slow if anything were tried from each place to the end.
fn hostile() -> Vec<(&'static str, String)> {
    let of = |text: &str| text.repeat(MEGABYTE / text.len());
    vec![
        ("1 1 1 …", of("1 ")),
        ("12 12 12 …", of("12 ")),
        ("1111…", of("1")),
        ("a@a@a@…", of("a@")),
        ("::::…", of(":")),
        ("a:a:a:…", of("a:")),
        ("aaaa…", of("a")),
        ("%25%25…", of("%25")),
        ("-----BEGIN …", of(&format!("-----BEGIN {} KEY-----\n", "PRIVATE"))),
        ("eyJ.eyJ.…", of("eyJhbGciOiJIUzI1NiJ9.")),
        ("eyJa-eyJa-…", of("eyJa-")),
        ("ya29.ya29.…", of("ya29.")),
        ("wide digits", of("４")),
        ("base64 of base64", of(&ENCODINGS[2](&ENCODINGS[2]("me@example.org ")))),
        ("password=password=…", of("password=")),
    ]
}

/// Of values of a kind, how many were found as it; of what was found as it in all texts, how many were.
fn recall_and_precision() {
    let (mut wanted, mut hit, mut claimed) =
        (BTreeMap::<Kind, u32>::new(), BTreeMap::<Kind, u32>::new(), BTreeMap::<Kind, u32>::new());
    let mut random = Random(33);
    for _ in 0..1000 {
        for (kind, text) in generated(&mut random) {
            let found = of(&text);
            *wanted.entry(kind).or_default() += 1;
            *hit.entry(kind).or_default() += u32::from(found.contains(&kind));
            for other in found {
                *claimed.entry(other).or_default() += 1;
            }
        }
    }
    for text in ORDINARY.iter().flat_map(|text| of(text)) {
        *claimed.entry(text).or_default() += 1;
    }
    println!(
        "\ngenerated values      recall  precision  (1,000 of each, beside the words that people use, and ordinary text)"
    );
    for (kind, wanted) in wanted {
        let (hit, claimed) =
            (hit.get(&kind).copied().unwrap_or_default(), claimed.get(&kind).copied().unwrap_or_default());
        let note = if WITHOUT_CHECKSUM.contains(&kind) { "no checksum" } else { "" };
        println!(
            "{:<20} {:>6.1} % {:>8.1} %  {note}",
            kind.label(),
            f64::from(hit * 100) / f64::from(wanted),
            f64::from(hit * 100) / f64::from(claimed.max(1))
        );
    }
    let mut passed = BTreeMap::<Kind, u32>::new();
    for length in [8, 9, 10, 11, 12, 13, 15, 16] {
        for _ in 0..10_000 {
            of(&format!("took {} of them", random.digits(length)))
                .into_iter()
                .for_each(|kind| *passed.entry(kind).or_default() += 1);
        }
    }
    println!("\nof 80,000 random numbers of 8 to 16 digits, without a word beside them: {passed:?}");
}

const PEER: &str = include_str!("peer.py");

/// The interpreter with both packages, made once.
fn python() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pii-peers");
    let python = folder.join("bin/python");
    let run = |command: &mut Command| {
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.map_err(|error| error.to_string())?.success().then_some(()).ok_or_else(|| format!("{command:?} failed"))
    };
    if run(Command::new(&python).args(["-c", "import presidio_analyzer, stdnum"])).is_err() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "presidio-analyzer", "python-stdnum"]))?;
    }
    Ok(python)
}

/// Lines of the peer: tab-separated words.
fn ask(python: &Path, what: &str, input: &str) -> Vec<Vec<String>> {
    let mut child = Command::new(python)
        .args(["-c", PEER, what])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

fn independent(python: &Path) {
    println!("\nexamples of python-stdnum   recall  right by form of ours / theirs   wrong ones taken of theirs");
    let mut by_kind = BTreeMap::<String, [u32; 4]>::new();
    for line in ask(python, "examples", "") {
        let [kind, right, text] = line.as_slice() else { continue };
        let found = of(text).iter().any(|found| found.label() == kind);
        let row = by_kind.entry(kind.clone()).or_default();
        let at = if right == "right" { 0 } else { 2 };
        row[at] += 1;
        row[at + 1] += u32::from(found);
    }
    for (kind, [right, found, wrong, taken]) in by_kind {
        println!(
            "{kind:<24} {:>8.1} %  {found}/{right}   {taken}/{wrong}",
            f64::from(found * 100) / f64::from(right.max(1))
        );
    }
}

/// The most memory that this process had, in megabytes.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e3
}

fn main() {
    // `cargo bench` says so; `cargo test --all-targets` and nextest start it too, without.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let before = peak();
    println!("{:<28} {:>8}   findings of a megabyte", "ours", "MB/s");
    let mut ours = Vec::new();
    for (name, text) in texts() {
        let (speed, count) = speed(detectors(), &text);
        println!("{name:<28} {speed:>8.1}   {count}");
        ours.push((name, text, speed));
    }
    for (name, text) in hostile() {
        let (speed, _) = speed(detectors(), &text);
        let (twice, _) = self::speed(detectors(), &text.repeat(2));
        println!("{name:<28} {speed:>8.1}   hostile; twice as long {twice:.1} MB/s");
    }
    println!(
        "{:<28} {:>8.1}   MB more at the peak than at the beginning; the longest text has 2 MB",
        "memory",
        peak() - before
    );
    let mut own = OwnIdentifiers::default();
    for at in 0..32 {
        own.name(&format!("Jane {at} Doe")).unwrap().address(&format!("{at} Some Long Street, Sometown")).unwrap();
    }
    let listed = Detectors::new(&own).unwrap();
    for (name, text, _) in ours.iter().skip(1).take(1) {
        println!("{:<28} {:>8.1}   with 64 identifiers of its owner", name, speed(&listed, text).0);
    }
    recall_and_precision();
    match python() {
        Err(reason) => println!("\npresidio-analyzer and python-stdnum: absent ({reason})"),
        Ok(python) => {
            independent(&python);
            println!(
                "\npresidio-analyzer, blank model, pattern recognisers for English alone      MB/s      ours are faster by"
            );
            for (name, text, speed) in ours {
                // Enough for seconds of its time.
                let part = &text[..text.floor_char_boundary(100_000)];
                let lines = ask(&python, "speed", part);
                let Some([theirs, count]) = lines.first().map(Vec::as_slice) else {
                    println!("{name:<28} no answer");
                    continue;
                };
                let theirs: f64 = theirs.parse().unwrap();
                println!("{name:<28} {theirs:>8.4}   {:>8.0}   ({count} findings of 100 kB)", speed / theirs);
            }
        }
    }
}

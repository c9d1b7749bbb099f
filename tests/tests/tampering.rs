//! The tamper table: for every kind of file in a bundle, every kind of change, naive and re-sealed, and the
//! name of the refusal that it meets.
//!
//! *Naive*: the bytes change, nothing else. *Re-sealed*: one artefact changes, every digest, size, sum and
//! signature that points to it is made again with the valid keys, the others stay as they were; then a digest
//! or signature must not be what speaks first. Where the changed artefact is itself a sum or a signature, the
//! row says so (`itself`). Rows that end in an acceptance are genuine releases, or what the format does not
//! forbid: each says why.

#[path = "tampering/rows.rs"]
mod rows;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use rows::{Form, ROWS, Row};
use secai_tests::tiny::{self, Answer, Maker, Seal, apply, judge, steps};
use secai_verifier::refusal::Refusal;

/// Refusals of a check of a digest, size, sum or signature: whoever has the keys makes these good.
const SEALS: [&str; 20] = [
    "SumsMalformed",
    "SumsOmitFile",
    "SumsNameAbsentFile",
    "SumsDigestDiffers",
    "SumsSignatureMalformed",
    "SumsSignatureInvalid",
    "SumsSignatureByUnknownKey",
    "SignatureInvalid",
    "SignerUnknown",
    "KeyRevoked",
    "KeyOutsideValidity",
    "KeySignedTwice",
    "TooFewSignatures",
    "TooManySignatures",
    "BlobDigestDiffers",
    "BlobSizeDiffers",
    "DiffIdDiffers",
    "CommitSignatureMissing",
    "CommitSignatureInvalid",
    "CommitSignatureByUnknownKey",
];

/// More than a small machine has cores: they wait.
const WORKERS: usize = 4;

/// How often each outcome was met.
#[derive(Default)]
struct Counts {
    tried: usize,
    refused: BTreeMap<&'static str, usize>,
    accepted: usize,
}

impl Counts {
    fn add(&mut self, answer: &Answer) {
        self.tried += 1;
        match answer.first() {
            Some(name) => *self.refused.entry(name).or_default() += 1,
            None => self.accepted += 1,
        }
    }

    fn tell(&self, kind: &str) -> String {
        let refused: usize = self.refused.values().sum();
        let mut text =
            format!("{kind}: tried {}, refused {refused}, accepted as listed {}\n", self.tried, self.accepted);
        let mut names: Vec<_> = self.refused.iter().collect();
        names.sort_by_key(|(name, count)| (usize::MAX - *count, **name));
        for (name, count) in names {
            writeln!(text, "  {count:>3} {name}").unwrap();
        }
        text
    }
}

/// What a row says it meets: `NAME`, `NAME|NAME` where it depends on the digit that was hit, `NAME only`,
/// `itself NAME`, or `accepted: WHY`.
fn compare(row: &Row, kind: &str, expected: &str, answer: &Answer, faults: &mut Vec<String>) {
    let mut fault = |what: &str| {
        faults.push(format!("{} / {} ({kind}): {what}; {expected} expected, found: {answer}", row.part, row.what))
    };
    if expected.starts_with("accepted: ") {
        if *answer != Answer::Accepted {
            fault("refused");
        }
        return;
    }
    let itself = expected.strip_prefix("itself ");
    let name = itself.unwrap_or(expected);
    let (name, only) = name.strip_suffix(" only").map_or((name, false), |name| (name, true));
    let Answer::Refused(names) = answer else { return fault("ACCEPTED") };
    if !name.split('|').any(|name| names.first() == Some(&name)) {
        fault("another refusal comes first");
    }
    if only && names.len() != 1 {
        fault("another refusal comes too");
    }
    if kind == "re-sealed" && itself.is_none() && names.first().is_some_and(|first| SEALS.contains(first)) {
        fault("a digest or signature spoke first");
    }
    // Nobody signs the sums of a copy: whatever they find, something else must find it too.
    if kind == "naive" && itself.is_none() && names.iter().all(|name| name.starts_with("Sums")) {
        fault("only the sums found it");
    }
}

#[test]
fn every_change_meets_its_refusal() {
    if !tiny::require_maker("every_change_meets_its_refusal") {
        return;
    }
    assert!(SEALS.iter().all(|name| Refusal::ALL.contains(name)));
    let maker = Maker::new();
    let (mut table, mut faults) = (String::new(), Vec::new());
    let (mut naive, mut resealed) = (Counts::default(), Counts::default());
    for (row, answers) in ROWS.iter().zip(answers(&maker)) {
        writeln!(table, "{} / {}", row.part, row.what).unwrap();
        for ((kind, form), answer) in forms(row).into_iter().zip(answers) {
            let (Some((_, expected)), Some(answer)) = (form, answer) else { continue };
            compare(row, kind, expected, &answer, &mut faults);
            if kind == "naive" { &mut naive } else { &mut resealed }.add(&answer);
            let why = expected.strip_prefix("accepted: ").map_or(String::new(), |why| format!(" ({why})"));
            writeln!(table, "    {kind:>9}: {answer}{why}").unwrap();
        }
    }
    writeln!(table, "\n{}\n{}", naive.tell("naive"), resealed.tell("re-sealed")).unwrap();
    println!("{table}");
    if let Some(file) = std::env::var_os("SECAI_TAMPER_TABLE") {
        std::fs::write(file, &table).unwrap();
    }
    assert!(faults.is_empty(), "{} rows differ:\n{}\n", faults.len(), faults.join("\n"));
}

fn forms(row: &Row) -> [(&'static str, Form); 2] {
    [("naive", row.naive), ("re-sealed", row.resealed)]
}

/// The answers to every row's forms. Most of the time goes by waiting for gpg to sign: rows are judged side by side.
fn answers(maker: &Maker) -> Vec<[Option<Answer>; 2]> {
    let mut answers = vec![[None, None]; ROWS.len()];
    let next = Mutex::new(ROWS.iter().zip(&mut answers));
    let work = || {
        loop {
            // Nothing panics while it holds the lock.
            let Some((row, answer)) = next.lock().unwrap().next() else { return };
            for (slot, ((kind, form), seal)) in
                answer.iter_mut().zip(forms(row).into_iter().zip([Seal::None, Seal::All]))
            {
                *slot = form.map(|(change, _)| {
                    println!("{} / {} ({kind})", row.part, row.what);
                    judge(maker, &apply(maker, &steps(change), seal))
                });
            }
        }
    };
    std::thread::scope(|scope| (0..WORKERS).for_each(|_| drop(scope.spawn(work))));
    answers
}

/// What nobody tampered with is accepted: without this, a verifier that refuses everything would pass above.
#[test]
fn what_is_genuine_is_accepted() {
    if !tiny::require_maker("what_is_genuine_is_accepted") {
        return;
    }
    let maker = Maker::new();
    let bytes: usize = maker.base.values().map(Vec::len).sum();
    println!("the bundle has {bytes} bytes in {} files", maker.base.len());
    assert!((40_000..100_000).contains(&bytes), "{bytes} bytes are not some 64 KB");
    let whole = [
        ("untouched", &maker.base),
        ("another number", &maker.later),
        ("another channel", &maker.other_channel),
        ("an older release, whole", &maker.older),
        ("another image, whole", &maker.other),
    ];
    for (what, files) in whole {
        assert_eq!(judge(&maker, &maker.whole(files)), Answer::Accepted, "{what}");
    }
    for (what, change) in rows::THERE_AND_BACK {
        for seal in [Seal::None, Seal::Sums, Seal::All] {
            assert_eq!(judge(&maker, &apply(&maker, &steps(change), seal)), Answer::Accepted, "{what} ({seal:?})");
        }
    }
}

/// How many positions are tried in all.
const POSITIONS: usize = 240;

/// Any byte of any file, turned or cut off, with the sums made again and without: refused, never a panic, never
/// a fault.
#[test]
fn any_byte_counts() {
    if !tiny::require_maker("any_byte_counts") {
        return;
    }
    let maker = Maker::new();
    let files: Vec<&String> = maker.base.keys().collect();
    let mut state: u64 = 0x5eca_105e_ed00_0001;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) as usize % below
    };
    for number in 0..POSITIONS {
        let path = files[number % files.len()];
        let seal = number % 2 == 0 && !path.starts_with("SHA256SUMS");
        let mut case = maker.untouched();
        let bytes = case.files.get_mut(path).unwrap();
        let at = random(bytes.len());
        let what = if random(5) == 0 {
            bytes.truncate(at);
            "cut"
        } else {
            bytes[at] ^= 1 << random(8);
            "turned"
        };
        if seal {
            maker.seal_sums(&mut case);
        }
        let sums = if seal { "made again" } else { "as they were" };
        assert_ne!(judge(&maker, &case), Answer::Accepted, "{path} {what} at {at}, the sums {sums}");
    }
}

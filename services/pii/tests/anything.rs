//! Whatever the text is: places lie in it and on its characters, what is redacted is gone, nothing panics.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod made;

use made::{ENCODINGS, ORDINARY, Random, detectors, generated};
use secai_pii::{Detectors, Evidence, Finding, Kind, SCORE_MIN, TEXT_BYTES_MAX, TextTooLong};

fn check(detectors: &Detectors, text: &[u8]) -> Vec<Finding> {
    let found = detectors.find(text).unwrap();
    let mut end = 0;
    for finding in &found {
        assert!(end <= finding.range.start && finding.range.start < finding.range.end, "{finding:?}");
        assert!((SCORE_MIN..=100).contains(&finding.score), "{finding:?}");
        end = finding.range.end;
    }
    assert!(end <= text.len());
    if let Ok(text) = std::str::from_utf8(text) {
        for finding in &found {
            assert!(text.is_char_boundary(finding.range.start) && text.is_char_boundary(finding.range.end));
        }
    }
    found
}

/// Bytes that candidates are made of, more often than others.
const STUFF: &[&str] = &[
    "4111",
    " 1111",
    "-",
    "@",
    "a.org",
    ":",
    "::",
    "fe80",
    "%40",
    "&#6",
    "4;",
    "\\u00",
    "40",
    "\\",
    "é",
    "４",
    "\u{200B}",
    "日",
    "0x",
    "+49",
    "(",
    ")",
    "eyJhbGciOiJIUzI1NiJ9",
    ".",
    "-----BEGIN ",
    "-----",
    "DE89",
    "=",
    "password",
    "bWVAZXhhbXBsZS5vcmc",
    "1",
    "\n",
    "born ",
    "12 March",
    "Street",
    " ",
    "ﷺ",
    "\u{301}",
    "/",
    "_",
    "ghp_",
    "%",
    "%25",
    "&amp;",
    "\"",
];

#[test]
fn places_lie_on_characters_of_the_original() {
    let mut random = Random(3);
    for _ in 0..20_000 {
        let text: String = (0..random.below(24)).map(|_| STUFF[random.below(STUFF.len() as u64) as usize]).collect();
        check(detectors(), text.as_bytes());
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random(5);
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
        check(detectors(), &bytes);
        let ascii: Vec<u8> = bytes.iter().map(|byte| byte & 0x7F).collect();
        check(detectors(), &ascii);
    }
}

#[test]
fn what_is_redacted_is_gone_and_counted() {
    let mut random = Random(9);
    for round in 0..200 {
        let values = generated(&mut random);
        let (_, one) = &values[round % values.len()];
        let hidden = ENCODINGS[round % ENCODINGS.len()](one);
        let text = values.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", and\n");
        for text in [text, format!("ü {one} 日"), format!("é {hidden} 本")] {
            let found = check(detectors(), text.as_bytes());
            let redacted = detectors().redact(&text).unwrap();
            assert_eq!(detectors().find(redacted.text.as_bytes()).unwrap(), [], "{}", redacted.text);
            assert!(redacted.counts.values().sum::<usize>() >= found.len());
            for finding in found {
                assert!(!redacted.text.contains(&text[finding.range]), "{}", redacted.text);
                assert!(redacted.text.contains(finding.kind.label()), "{}", redacted.text);
            }
        }
    }
    let redacted = detectors().redact("mail me@example.org or you@example.org").unwrap();
    assert_eq!(redacted.text, "mail [EMAIL] or [EMAIL]");
    assert_eq!(Vec::from_iter(redacted.counts.into_values()), [2]);
    for text in ORDINARY {
        assert_eq!(detectors().redact(text).unwrap().text, *text);
    }
}

#[test]
fn a_text_above_the_limit_is_refused_unread() {
    let text = vec![b' '; TEXT_BYTES_MAX + 1];
    assert_eq!(detectors().find(&text), Err(TextTooLong(TEXT_BYTES_MAX + 1)));
    assert_eq!(detectors().find(&text[1..]), Ok(vec![]));
}

#[test]
fn generated_values_are_all_found_as_what_they_are() {
    let mut random = Random(11);
    for _ in 0..300 {
        for (kind, text) in generated(&mut random) {
            let found = check(detectors(), text.as_bytes());
            // What passes two countries' sums is one of theirs. Random text has no form: the bench says how much is found.
            let is_it = |finding: &Finding| finding.kind == kind || finding.evidence == Evidence::Checksum;
            assert!(kind == Kind::Secret || found.iter().any(is_it), "{kind:?} in {text:?}: {found:?}");
        }
    }
}

#[test]
fn a_number_is_found_wherever_it_stands_in_a_long_row_of_groups() {
    for before in [0, 1, 7, 1000, 1015, 1020, 1023, 1024, 1025, 3000] {
        for value in ["4111 1111 1111 1111", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"] {
            let text = format!("{}{value}{}", "77 ".repeat(before), " 77".repeat(50));
            let found = check(detectors(), text.as_bytes());
            assert!(found.iter().any(|finding| finding.kind == Kind::Card), "{before} {value}: {found:?}");
        }
    }
}

//! Detectors of personal data and secrets, for what is about to leave the device.
//!
//! A text is folded (`fold.rs`), passed over once (`scan.rs`), and so is what its encodings hold (`layers.rs`), two deep.
//! Work and memory grow with the text and with nothing in it. What a finding rests on is said with it ([`Evidence`]):
//! most of what people have carries no checksum.
//!
//! This crate never opens, sends, prints or keeps anything: a [`Finding`] has no copy of what was found. It never
//! promises to find all: names of people and places that nobody listed have no form.

mod bank;
mod checksum;
mod coins;
mod context;
mod finding;
mod fold;
mod keys;
mod layers;
mod national;
mod network;
mod number;
mod offsets;
mod own;
mod phone;
mod place;
mod scan;
mod secret;

pub use finding::{Evidence, Finding, Kind, SCORE_MIN};
pub use own::{IDENTIFIER_BYTES_MAX, IDENTIFIERS_MAX, IdentifierError, OwnIdentifiers};

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

/// A text is held with its decoded layers and where they come from: some twenty times its size at the worst. Who streams
/// gives windows that overlap.
pub const TEXT_BYTES_MAX: usize = 16 << 20;

/// Encodings taken off one after the other: a value in JSON in base64, a percent sign in percent.
pub const DEPTH_MAX: u8 = 2;

/// What was written over a finding can stand beside what was none before: so often a text is read again.
const REDACT_ROUNDS_MAX: usize = 4;

/// The text is above [`TEXT_BYTES_MAX`]; nothing was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text has {0} bytes, more than {TEXT_BYTES_MAX}")]
pub struct TextTooLong(pub usize);

/// The detectors could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the words to look for do not fit into one automaton: {0}")]
pub struct TooManyWords(#[from] aho_corasick::BuildError);

/// A text with its findings replaced by their labels, and how many of each there were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redacted {
    /// `[EMAIL]` and the like where something was.
    pub text: String,
    /// By kind.
    pub counts: BTreeMap<Kind, usize>,
}

/// Every detector, ready for use by many threads.
pub struct Detectors {
    context: context::Context,
    own: Option<own::Own>,
}

impl Detectors {
    /// Takes a millisecond or so: once, not for each text.
    ///
    /// # Errors
    /// [`TooManyWords`]; not within the limits of [`OwnIdentifiers`].
    pub fn new(own: &OwnIdentifiers) -> Result<Self, TooManyWords> {
        Ok(Self { context: context::Context::new()?, own: own::Own::new(own)? })
    }

    /// What is in `text`, in the order of its places; none overlaps another. Need not be UTF-8.
    ///
    /// # Errors
    /// [`TextTooLong`].
    pub fn find(&self, text: &[u8]) -> Result<Vec<Finding>, TextTooLong> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(TextTooLong(text.len()));
        }
        let mut found = Vec::new();
        self.layer(text, 0, &|range| range, &mut found);
        for finding in &mut found {
            finding.range = whole_characters(text, &finding.range);
        }
        Ok(apart(found))
    }

    /// `text` with a label in place of each finding.
    ///
    /// # Errors
    /// [`TextTooLong`].
    pub fn redact(&self, text: &str) -> Result<Redacted, TextTooLong> {
        let mut redacted = Redacted { text: text.to_owned(), counts: BTreeMap::new() };
        for _ in 0..REDACT_ROUNDS_MAX {
            let found = self.find(redacted.text.as_bytes())?;
            if found.is_empty() {
                break;
            }
            let (mut out, mut copied) = (String::with_capacity(redacted.text.len()), 0);
            for finding in &found {
                out.push_str(redacted.text.get(copied..finding.range.start).unwrap_or_default());
                out.push_str(finding.kind.label());
                copied = finding.range.end;
                *redacted.counts.entry(finding.kind).or_default() += 1;
            }
            out.push_str(redacted.text.get(copied..).unwrap_or_default());
            redacted.text = out;
        }
        Ok(redacted)
    }

    /// `locate` leads from a place in `bytes` to the place in the text as it was given.
    fn layer(&self, bytes: &[u8], depth: u8, locate: &dyn Fn(Range<usize>) -> Range<usize>, found: &mut Vec<Finding>) {
        let (text, offsets) = match fold::fold(bytes) {
            Some((text, offsets)) => (Cow::Owned(text), Some(offsets)),
            None => (Cow::Borrowed(bytes), None),
        };
        let locate =
            |range: Range<usize>| locate(offsets.as_ref().map_or(range.clone(), |offsets| offsets.source(range)));
        let scan = scan::Scan::new(&text, &self.context).run();
        found.extend(scan.found.into_iter().map(|local| Finding {
            kind: local.claim.kind,
            range: locate(local.range),
            score: local.claim.score,
            evidence: local.claim.evidence,
            depth,
        }));
        for local in self.own.iter().flat_map(|own| own.find(&text)) {
            let own::OwnFound { kind, range, score, evidence } = local;
            found.push(Finding { kind, range: locate(range), score, evidence, depth });
        }
        if depth == DEPTH_MAX {
            return;
        }
        if let Some((plain, offsets)) = layers::unescape(&text) {
            self.layer(&plain, depth + 1, &|range| locate(offsets.source(range)), found);
        }
        for token in scan.tokens {
            let written = text.get(token.clone()).unwrap_or_default();
            for part in parts(written) {
                if let Some((plain, offsets)) = written.get(part.clone()).and_then(layers::decode) {
                    let inside = |range: Range<usize>| {
                        let range = offsets.source(range);
                        locate(range.start + part.start + token.start..range.end + part.start + token.start)
                    };
                    self.layer(&plain, depth + 1, &inside, found);
                }
            }
        }
    }
}

/// What may be encoded in a token: `name=VALUE==`, `/path/VALUE`, or all of it. Each byte is in two of them at most.
fn parts(token: &[u8]) -> Vec<Range<usize>> {
    let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
    let end = token.len() - padding;
    let begin = token.iter().take(end).rposition(|byte| *byte == b'=').map_or(0, |at| at + 1);
    let mut parts = Vec::new();
    parts.push(begin..token.len());
    let value = token.get(begin..end).unwrap_or_default();
    if value.contains(&b'/') {
        let mut at = begin;
        for part in value.split(|byte| *byte == b'/') {
            if part.len() >= layers::TOKEN_CHARS_MIN {
                parts.push(at..at + part.len());
            }
            at += part.len() + 1;
        }
    }
    parts
}

/// Out to the boundaries of UTF-8 characters.
fn whole_characters(text: &[u8], range: &Range<usize>) -> Range<usize> {
    let inside = |at: usize| text.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
    let start = (0..4).filter_map(|back| range.start.checked_sub(back)).find(|at| !inside(*at));
    let end = (0..4).map(|on| range.end + on).find(|at| !inside(*at));
    start.unwrap_or(range.start)..end.unwrap_or(range.end).min(text.len())
}

/// Where findings overlap, the surest says what the whole stretch is.
fn apart(mut found: Vec<Finding>) -> Vec<Finding> {
    found.sort_by_key(|finding| (finding.range.start, finding.range.end));
    let mut apart: Vec<Finding> = Vec::with_capacity(found.len());
    for next in found {
        let Some(last) = apart.last_mut().filter(|last| next.range.start < last.range.end) else {
            apart.push(next);
            continue;
        };
        let range = last.range.start..last.range.end.max(next.range.end);
        let sure = |finding: &Finding| (finding.score, finding.range.len(), std::cmp::Reverse(finding.depth));
        if sure(&next) > sure(last) {
            *last = next;
        }
        last.range = range;
    }
    apart
}

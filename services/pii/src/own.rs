//! What its owner listed: found in any case and spacing, with one letter wrong, missing, too many, or two swapped.

use crate::finding::{Evidence, Kind};
use aho_corasick::AhoCorasick;
use std::ops::Range;

/// A person, the family, addresses and employers of a life.
pub const IDENTIFIERS_MAX: usize = 256;

/// A long address. Longer, and each near miss costs as much again.
pub const IDENTIFIER_BYTES_MAX: usize = 128;

/// Two letters are in every text.
const LETTERS_MIN: usize = 3;

/// Shorter ones are a letter away from many words: they are matched to the letter.
const LETTERS_EDITED_MIN: usize = 6;

/// Why an identifier cannot be looked for.
#[derive(Debug, thiserror::Error)]
pub enum IdentifierError {
    /// Fewer letters and digits than can be told from a word.
    #[error("an identifier has {0} letters and digits, fewer than {LETTERS_MIN}")]
    TooShort(usize),
    /// Above [`IDENTIFIER_BYTES_MAX`].
    #[error("an identifier has {0} bytes, more than {IDENTIFIER_BYTES_MAX}")]
    TooLong(usize),
    /// Above [`IDENTIFIERS_MAX`].
    #[error("more than {IDENTIFIERS_MAX} identifiers")]
    TooMany,
}

/// What a person wants to keep in: names, addresses, employers. Not `Debug`: it would be printed.
#[derive(Default)]
pub struct OwnIdentifiers {
    /// Kind, and letters and digits alone, as each case writes them: where scripts look alike, cases do not.
    listed: Vec<(Kind, Vec<u8>)>,
    count: usize,
}

impl OwnIdentifiers {
    /// A name.
    ///
    /// # Errors
    /// [`IdentifierError`].
    pub fn name(&mut self, name: &str) -> Result<&mut Self, IdentifierError> {
        self.add(Kind::OwnName, name)
    }

    /// An address, or a part of it that stands for it.
    ///
    /// # Errors
    /// [`IdentifierError`].
    pub fn address(&mut self, address: &str) -> Result<&mut Self, IdentifierError> {
        self.add(Kind::OwnAddress, address)
    }

    /// An employer.
    ///
    /// # Errors
    /// [`IdentifierError`].
    pub fn employer(&mut self, employer: &str) -> Result<&mut Self, IdentifierError> {
        self.add(Kind::OwnEmployer, employer)
    }

    /// Anything else: an account, a customer's number.
    ///
    /// # Errors
    /// [`IdentifierError`].
    pub fn other(&mut self, other: &str) -> Result<&mut Self, IdentifierError> {
        self.add(Kind::OwnOther, other)
    }

    fn add(&mut self, kind: Kind, value: &str) -> Result<&mut Self, IdentifierError> {
        if value.len() > IDENTIFIER_BYTES_MAX {
            return Err(IdentifierError::TooLong(value.len()));
        }
        if self.count == IDENTIFIERS_MAX {
            return Err(IdentifierError::TooMany);
        }
        let mut written: Vec<Vec<u8>> = Vec::new();
        for value in [value.to_owned(), value.to_lowercase(), value.to_uppercase()] {
            let folded = crate::fold::fold(value.as_bytes());
            let (letters, _) = squeeze(folded.as_ref().map_or(value.as_bytes(), |(folded, _)| folded));
            let count = String::from_utf8_lossy(&letters).chars().count();
            if count < LETTERS_MIN {
                return Err(IdentifierError::TooShort(count));
            }
            if !written.contains(&letters) {
                written.push(letters);
            }
        }
        self.listed.extend(written.into_iter().map(|letters| (kind, letters)));
        self.count += 1;
        Ok(self)
    }
}

/// Letters and digits alone, small, each byte with the place of its character.
fn squeeze(bytes: &[u8]) -> (Vec<u8>, Vec<u32>) {
    let (mut letters, mut places, mut at) = (Vec::with_capacity(bytes.len()), Vec::with_capacity(bytes.len()), 0_u32);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_ascii_alphanumeric() {
                letters.push(c.to_ascii_lowercase() as u8);
                places.push(at);
            } else if c.is_alphanumeric() {
                for small in c.to_lowercase() {
                    letters.extend_from_slice(small.encode_utf8(&mut [0; 4]).as_bytes());
                }
                places.resize(letters.len(), at);
            }
            at += c.len_utf8() as u32;
        }
        at += chunk.invalid().len() as u32;
    }
    (letters, places)
}

#[derive(Clone, Copy)]
enum Piece {
    First,
    Second,
    /// The whole, or the whole with the two letters at the seam of its halves swapped.
    Whole(u8),
}

pub(crate) struct Own {
    listed: Vec<(Kind, Vec<u8>)>,
    /// One wrong letter leaves one half right: every match has a half, or a whole, in it.
    pieces: AhoCorasick,
    of: Vec<(usize, Piece)>,
}

pub(crate) struct OwnFound {
    pub kind: Kind,
    pub range: Range<usize>,
    pub score: u8,
    pub evidence: Evidence,
}

impl Own {
    pub fn new(own: &OwnIdentifiers) -> Result<Option<Self>, aho_corasick::BuildError> {
        let (mut patterns, mut of) = (Vec::new(), Vec::new());
        for (index, (_, letters)) in own.listed.iter().enumerate() {
            if letters.len() < LETTERS_EDITED_MIN {
                patterns.push(letters.clone());
                of.push((index, Piece::Whole(0)));
                continue;
            }
            let seam = letters.len() / 2;
            let (first, second) = letters.split_at(seam);
            patterns.push(first.to_vec());
            of.push((index, Piece::First));
            patterns.push(second.to_vec());
            of.push((index, Piece::Second));
            let mut swapped = letters.clone();
            swapped.swap(seam - 1, seam);
            patterns.push(swapped);
            of.push((index, Piece::Whole(1)));
        }
        if patterns.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { listed: own.listed.clone(), pieces: AhoCorasick::new(patterns)?, of }))
    }

    pub fn find(&self, bytes: &[u8]) -> Vec<OwnFound> {
        let (letters, places) = squeeze(bytes);
        let mut found = Vec::new();
        for hit in self.pieces.find_overlapping_iter(&letters) {
            let Some((index, piece)) = self.of.get(hit.pattern().as_usize()) else { continue };
            let Some((kind, wanted)) = self.listed.get(*index) else { continue };
            let seam = wanted.len() / 2;
            let whole = match piece {
                Piece::Whole(edits) => vec![(hit.start(), hit.end(), *edits)],
                Piece::First => {
                    let (rest, text) =
                        (wanted.get(seam..).unwrap_or_default(), letters.get(hit.end()..).unwrap_or_default());
                    let ends = within_one(rest, text).into_iter().flatten();
                    ends.map(|(length, edits)| (hit.start(), hit.end() + length, edits)).collect()
                }
                Piece::Second => {
                    let back = |bytes: &[u8]| bytes.iter().rev().copied().collect::<Vec<u8>>();
                    let from = hit.start().saturating_sub(seam + 1);
                    let rest = back(wanted.get(..seam).unwrap_or_default());
                    let text = back(letters.get(from..hit.start()).unwrap_or_default());
                    let ends = within_one(&rest, &text).into_iter().flatten();
                    ends.map(|(length, edits)| (hit.start() - length, hit.end(), edits)).collect()
                }
            };
            let word =
                whole.into_iter().find_map(|(start, end, edits)| Some((as_words(bytes, &places, start, end)?, edits)));
            if let Some((range, edits)) = word {
                let score = if edits == 0 { 98 } else { 80 };
                found.push(OwnFound { kind: *kind, range, score, evidence: Evidence::Own { edits } });
            }
        }
        found
    }
}

/// Where the letters stand in the text, if whole words do.
fn as_words(bytes: &[u8], places: &[u32], start: usize, end: usize) -> Option<Range<usize>> {
    let from = *places.get(start)? as usize;
    let last = *places.get(end.checked_sub(1)?)? as usize;
    let more = bytes.get(last + 1..)?.iter().take_while(|byte| **byte & 0xC0 == 0x80).count();
    let to = last + 1 + if bytes.get(last)?.is_ascii() { 0 } else { more };
    let inside = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte >= 0x80);
    let alone = !inside(from.checked_sub(1).and_then(|at| bytes.get(at))) && !inside(bytes.get(to));
    (start < end && alone).then_some(from..to)
}

/// The beginnings of `text` that are `wanted` but for one edit: their lengths, fewest edits first.
fn within_one(wanted: &[u8], text: &[u8]) -> [Option<(usize, u8)>; 4] {
    let length = wanted.len();
    let same = wanted.iter().zip(text).take_while(|(one, other)| one == other).count();
    if same == length {
        return [Some((length, 0)), Some((length + 1, 1)).filter(|_| text.len() > length), None, None];
    }
    let follows = |from: usize, at: usize| {
        let rest = wanted.get(from..).unwrap_or_default();
        text.get(at..).is_some_and(|text| text.starts_with(rest)).then_some((at + rest.len(), 1))
    };
    let swapped = text.get(same) == wanted.get(same + 1) && text.get(same + 1) == wanted.get(same) && same + 1 < length;
    [
        follows(same + 1, same + 1),
        follows(same, same + 1),
        follows(same + 1, same),
        if swapped { follows(same + 2, same + 2) } else { None },
    ]
}

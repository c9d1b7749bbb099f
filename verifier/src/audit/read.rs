//! Hands out entries as they lie there, in order, with their payloads: for whoever shows a chain to a person.
//!
//! Nothing here judges. [`super::chain`] does, before; whoever shows what it accepted compares the lines with the root
//! that was signed, since the files may have changed between.

use super::entry::{ENTRY_BYTES_MAX, Entry};
use super::lines::{Lines, Piece};
use super::payload::{PAYLOAD_LINE_BYTES_MAX, Payload};
use super::store::{Opened, Store};
use super::{SEGMENT_ENTRIES, payload_path, segment_path};
use crate::files::Fault;
use std::fs::File;

/// One line.
#[derive(Debug)]
pub struct Found<'a> {
    /// Where it stands, counted; not what it says.
    pub place: u64,
    /// The line without its newline.
    pub line: &'a [u8],
    /// The payload that its entry names; none where there is none, or another.
    pub payload: Option<Payload>,
}

/// Hands out the lines from place `from` to before `until`, ascending, of the segments that are there; payloads where
/// `payloads` says so. Ends early where a segment has no whole line any more and is the last.
///
/// # Errors
/// Those of `take`; [`Fault`] where something is there and cannot be read.
pub fn read<E: From<Fault>>(
    store: &Store,
    from: u64,
    until: u64,
    payloads: bool,
    mut take: impl FnMut(Found<'_>) -> Result<(), E>,
) -> Result<(), E> {
    for first in store.list(false)?.segments {
        if first >= until || first.saturating_add(SEGMENT_ENTRIES) <= from {
            continue;
        }
        let path = segment_path(first);
        let Opened::File(file) = store.file(&path)? else { continue };
        let beside = payload_path(first);
        let beside_file = match payloads {
            true => store.file(&beside)?,
            false => Opened::Absent,
        };
        let mut kept = match &beside_file {
            Opened::File(file) => Some(Kept::beside(file)),
            _ => None,
        };
        let mut lines = Lines::new(&file, 0, ENTRY_BYTES_MAX);
        for place in first..until {
            let line = match lines.next().map_err(store.unreadable(&path))? {
                Piece::Line(line) => line,
                Piece::TooLong | Piece::End(_) => break,
            };
            if place < from {
                continue;
            }
            let named = Entry::parse(line).ok().and_then(|entry| entry.payload);
            let payload = match (named, &mut kept) {
                (Some(digest), Some(kept)) => {
                    kept.of(place).map_err(store.unreadable(&beside))?.filter(|payload| payload.digest() == digest)
                }
                _ => None,
            };
            take(Found { place, line, payload })?;
        }
    }
    Ok(())
}

/// The payloads of a segment, in step with its entries.
struct Kept<'a> {
    lines: Lines<'a, File>,
    ahead: Option<Payload>,
    over: bool,
}

impl<'a> Kept<'a> {
    fn beside(file: &'a File) -> Self {
        Self { lines: Lines::new(file, 0, PAYLOAD_LINE_BYTES_MAX), ahead: None, over: false }
    }

    /// That of one entry; asked for in ascending order.
    fn of(&mut self, seq: u64) -> std::io::Result<Option<Payload>> {
        while !self.over && self.ahead.as_ref().is_none_or(|payload| payload.seq < seq) {
            match self.lines.next()? {
                // A line that is no payload is one that was forgotten.
                Piece::Line(line) => self.ahead = Payload::parse(line).or(self.ahead.take()),
                Piece::TooLong | Piece::End(_) => self.over = true,
            }
        }
        Ok(self.ahead.take_if(|payload| payload.seq == seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_vectors_are_handed_out_as_they_lie() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/vectors/audit/chain");
        let text = std::fs::read_to_string(path.join(segment_path(0))).unwrap();
        let store = Store::open(&path).unwrap();
        let of = |from, until, payloads| {
            let mut found = Vec::new();
            read::<Fault>(&store, from, until, payloads, |it| {
                found.push((it.place, String::from_utf8(it.line.to_vec()).unwrap(), it.payload.map(|it| it.bytes)));
                Ok(())
            })
            .unwrap();
            found
        };
        let all = of(0, u64::MAX, true);
        assert_eq!(all.iter().map(|it| it.1.as_str()).collect::<Vec<_>>(), text.lines().collect::<Vec<_>>());
        assert_eq!(all[1].2.as_deref(), Some(&b"remember the milk"[..]));
        assert_eq!(of(1, 3, true), all[1..3]);
        assert_eq!(of(2, 9, true), all[2..]);
        assert!(of(0, 9, false).iter().all(|it| it.2.is_none()));
        assert_eq!(of(5, 9, true), []);
    }
}

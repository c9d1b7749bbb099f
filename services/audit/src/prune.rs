//! Removing the oldest segments, so that a device need not keep everything for ever (`spec/audit-chain.md` §7).
//!
//! What the rest of the chain stands on stays: the hashes of what goes (its tiles) and the entries that ended epochs in
//! it. Both are on the disk before the `audit.prune` entry, that entry before anything goes, and of each segment the
//! payloads go first: so a crash at any point leaves a chain that explains what it lacks, and the next start goes on.

use crate::disk::{self, Keep, LineReader, Lines};
use crate::recover::NOTE_LINES;
use crate::writer::{Pending, WriteError, Writer, write_tile};
use secai_api::audit::Why;
use secai_verifier::audit::chain::{Options, Verdict, check};
use secai_verifier::audit::checkpoint::{NOTE_BYTES_MAX, Note};
use secai_verifier::audit::entry::{ENTRY_BYTES_MAX, Entry};
use secai_verifier::audit::kind::{self, Data};
use secai_verifier::audit::store::Store;
use secai_verifier::audit::tree::{Frontier, TILE_WIDTH, leaf};
use secai_verifier::audit::{
    CHECKPOINTS_LOG, EPOCHS_KEPT, SEGMENT_ENTRIES, SEGMENTS_DIR, payload_path, segment_path, tile_path,
};
use secai_verifier::files::Fault;
use std::num::NonZeroUsize;
use std::path::Path;

/// Refusals that an answer names: the others `verify-release audit` does.
const REFUSALS_SAID_MAX: usize = 3;

/// What is there to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct There {
    /// The first entry that is there.
    pub first: u64,
    /// Entries that closing checkpoints cover.
    pub closed: u64,
}

/// Why nothing is removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPruned {
    /// Everything before is gone already.
    #[error("there are no entries before {until}: the first one that is there is {first}")]
    Gone {
        /// What was asked for.
        until: u64,
        /// The first entry.
        first: u64,
    },
    /// The key that signed some of it still exists.
    #[error(
        "not all entries before {until} are in a closed epoch: those before {closed} are, which ends no segment after {most}"
    )]
    NotClosed {
        /// What was asked for.
        until: u64,
        /// Entries in closed epochs.
        closed: u64,
        /// The most that may be asked for.
        most: u64,
    },
    /// The chain does not hold: all of it is evidence now.
    #[error("the chain does not hold, and nothing of it is removed: {0}")]
    Refused(String),
}

impl NotPruned {
    /// For programs.
    pub fn why(&self) -> Why {
        match self {
            Self::Gone { .. } => Why::Nothing,
            Self::NotClosed { .. } | Self::Refused(_) => Why::Needed,
        }
    }
}

/// May the entries before `until`, which is the border of a segment, be removed? Only what a closing checkpoint covers:
/// nobody has the key any more with which it could be written anew.
///
/// # Errors
/// [`NotPruned`].
pub fn decide(until: u64, there: There) -> Result<(), NotPruned> {
    let There { first, closed } = there;
    if until <= first {
        return Err(NotPruned::Gone { until, first });
    }
    if until > closed {
        return Err(NotPruned::NotClosed { until, closed, most: closed - closed % SEGMENT_ENTRIES });
    }
    Ok(())
}

impl Writer {
    /// Removes the segments that end at `until` or before, after an entry that says so; the place of that entry.
    ///
    /// # Errors
    /// [`WriteError::Full`]: no entry says so, and nothing is removed. Anything else: the service must end, and its next
    /// start goes on with it where an entry says so.
    pub fn prune(&mut self, until: u64, asker: (String, u32)) -> Result<Result<u64, NotPruned>, WriteError> {
        let until = until - until % SEGMENT_ENTRIES;
        let segments = segments(self.folder())?;
        let first = segments.first().copied().unwrap_or(0);
        if let Err(no) = decide(until, There { first, closed: closed(self.folder())? }) {
            return Ok(Err(no));
        }
        if let Err(refusals) = self.judge()? {
            return Ok(Err(NotPruned::Refused(refusals)));
        }
        cut_kept(self.folder(), first)?;
        for first in segments.into_iter().filter(|first| *first < until) {
            self.keep_what_stays(first)?;
        }
        // Names and tiles too: nobody can make these again from now on.
        let folder = disk::at("open", self.folder(), std::fs::File::open(self.folder()))?;
        disk::at("sync", self.folder(), rustix::fs::syncfs(&folder).map_err(std::io::Error::from))?;
        let mut entry = Pending::own(&kind::Pruned { until })?;
        (entry.writer, entry.uid) = asker;
        let seq = self.append(&[entry])?;
        let signed = self.checkpoint(Keep::OnDisk);
        self.midway("sign", signed)?;
        let removed = remove_before(self.folder(), until);
        self.midway("remove segments of", removed)?;
        Ok(Ok(seq))
    }

    /// The verifier's word on the chain as it lies there: what is removed cannot be judged any more.
    fn judge(&self) -> Result<Result<(), String>, WriteError> {
        let unreadable = |cause: Fault| WriteError::Disk {
            doing: "check",
            path: self.folder().to_owned(),
            cause: std::io::Error::other(cause),
        };
        let store = Store::open(self.folder()).map_err(unreadable)?;
        let trusted = [self.key().device().clone()];
        let options =
            Options { trusted: &trusted, witnessed: None, cosigners: &[], full: true, threads: NonZeroUsize::MIN };
        Ok(match check(&store, &options).map_err(unreadable)? {
            Verdict::Accepted(_) => Ok(()),
            Verdict::SignerUnknown(_) => Err("it is signed by another device's key".to_owned()),
            Verdict::Refused(refusals) => {
                Err(refusals.iter().take(REFUSALS_SAID_MAX).map(ToString::to_string).collect::<Vec<_>>().join("; "))
            }
        })
    }

    /// Sees to it that what stands for a segment afterwards is there. Tiles follow from the entries: one that is
    /// another was torn by a crash, or changed, and is written anew.
    fn keep_what_stays(&self, first: u64) -> Result<(), WriteError> {
        let path = self.folder().join(segment_path(first));
        let Some(mut reader) = LineReader::open(&path)? else { return Ok(()) };
        let (mut endings, mut upper) = (Vec::new(), Vec::new());
        for tile in 0..SEGMENT_ENTRIES / TILE_WIDTH {
            let (mut row, mut own) = (Vec::new(), Frontier::new());
            while own.size() < TILE_WIDTH {
                let line = reader.next_line(ENTRY_BYTES_MAX)?;
                let line = disk::at("read", &path, line.ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into()))?;
                let hash = leaf(line);
                row.extend(hash.as_bytes());
                own.push(hash);
                if Entry::parse(line).is_ok_and(|entry| entry.kind == kind::Epoch::KIND) {
                    endings.extend(line);
                    endings.push(b'\n');
                }
            }
            upper.extend(own.root().as_bytes());
            self.keep_tile(0, first / TILE_WIDTH + tile, &row)?;
        }
        self.keep_tile(1, first / SEGMENT_ENTRIES, &upper)?;
        if endings.is_empty() { Ok(()) } else { disk::append_once(&self.folder().join(EPOCHS_KEPT), &endings) }
    }

    fn keep_tile(&self, level: u32, number: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let name = tile_path(level, number);
        let there = disk::read_file(&self.folder().join(&name), bytes.len() as u64);
        if matches!(there, Ok(Some(there)) if there == bytes) {
            Ok(())
        } else {
            write_tile(self.folder(), &name, bytes)
        }
    }
}

/// Cuts from `epochs.jsonl` what is not of removed segments: what a crash left before an entry said that more of them go.
fn cut_kept(chain: &Path, first: u64) -> Result<(), WriteError> {
    let path = chain.join(EPOCHS_KEPT);
    let Some(mut reader) = LineReader::open(&path)? else { return Ok(()) };
    let mut whole = 0;
    while let Some(line) = reader.next_line(ENTRY_BYTES_MAX)? {
        if Entry::parse(line).is_ok_and(|entry| entry.seq >= first) {
            break;
        }
        whole = reader.offset();
    }
    let mut lines = Lines::open(&path, whole)?;
    if lines.room() > whole { lines.cut() } else { Ok(()) }
}

/// Removes what an `audit.prune` entry says, oldest first: also what a crash in between left.
pub(crate) fn remove_before(chain: &Path, until: u64) -> Result<(), WriteError> {
    let folder = chain.join(SEGMENTS_DIR);
    for first in segments(chain)?.into_iter().filter(|first| *first < until) {
        for name in [payload_path(first), segment_path(first)] {
            let path = chain.join(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => disk::at("remove", &path, other)?,
            }
            // Each before the next: no crash leaves payloads without their segment, or a hole between segments.
            disk::sync_folder(&folder)?;
        }
    }
    Ok(())
}

/// The segments that are there, ascending.
pub(crate) fn segments(chain: &Path) -> Result<Vec<u64>, WriteError> {
    let folder = chain.join(SEGMENTS_DIR);
    let mut segments = Vec::new();
    for entry in disk::at("read", &folder, std::fs::read_dir(&folder))? {
        let name = disk::at("read", &folder, entry)?.file_name();
        let first = name.to_str().and_then(|name| name.strip_suffix(".jsonl")).and_then(|digits| digits.parse().ok());
        segments.extend(first.filter(|first: &u64| first.is_multiple_of(SEGMENT_ENTRIES)));
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Entries that the last closing checkpoint covers.
fn closed(chain: &Path) -> Result<u64, WriteError> {
    let Some(mut reader) = LineReader::open(&chain.join(CHECKPOINTS_LOG))? else { return Ok(0) };
    let (mut record, mut closed) = (Vec::new(), 0);
    for line in 1.. {
        let Some(text) = reader.next_line(NOTE_BYTES_MAX)? else { break };
        record.extend(text);
        record.push(b'\n');
        if line % NOTE_LINES == 0 {
            closed = Note::parse(&record).map_or(closed, |note| note.checkpoint.size);
            record.clear();
        }
    }
    Ok(closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_and_closed_is_removed() {
        const ONE: u64 = SEGMENT_ENTRIES;
        let there = |first, closed| There { first, closed };
        assert_eq!(decide(ONE, there(0, ONE)), Ok(()));
        assert_eq!(decide(3 * ONE, there(ONE, 3 * ONE + 5)), Ok(()));
        for (until, there, expected) in [
            (0, there(0, ONE), NotPruned::Gone { until: 0, first: 0 }),
            (ONE, there(ONE, 2 * ONE), NotPruned::Gone { until: ONE, first: ONE }),
            (ONE, there(0, ONE - 1), NotPruned::NotClosed { until: ONE, closed: ONE - 1, most: 0 }),
            (
                3 * ONE,
                there(0, 2 * ONE + 9),
                NotPruned::NotClosed { until: 3 * ONE, closed: 2 * ONE + 9, most: 2 * ONE },
            ),
            (u64::MAX, there(0, 0), NotPruned::NotClosed { until: u64::MAX, closed: 0, most: 0 }),
        ] {
            assert_eq!(decide(until, there), Err(expected));
        }
    }
}

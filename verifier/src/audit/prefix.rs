//! What is known of a chain's beginning without reading its entries: hashes from tiles, and the keys of the epochs
//! that ended there. Everything is compared with one root, which the caller compares with a signed one.

use std::collections::BTreeMap;

use super::checkpoint::Note;
use super::entry::{ENTRY_BYTES_MAX, Entry};
use super::epochs::Ending;
use super::kind::{Data, Epoch};
use super::lines::{Lines, Piece};
use super::locate::locate;
use super::refusal::ChainRefusal;
use super::store::{Opened, Store};
use super::tiles::{TileError, Tiles};
use super::tree::{self, leaf};
use super::{EPOCHS_KEPT, SEGMENT_ENTRIES, segment_path};
use crate::canonical::from_canonical;
use crate::digest::Digest;
use crate::files::Fault;
use crate::refusal::Findings;

/// `epochs.jsonl`: eight years of an epoch each quarter of an hour, 300 bytes each.
pub(super) const EPOCHS_KEPT_BYTES_MAX: u64 = 128 << 20;

/// The beginning of a chain.
pub(super) struct Prefix {
    /// Number of entries.
    pub size: u64,
    /// Root over them, from tiles.
    pub root: Digest,
}

impl Prefix {
    /// The entries that ended epochs in it. Each must lie in the tree, and the checkpoint that its epoch's key signed
    /// must be one of a tree that this one begins with.
    pub fn endings(
        &self,
        store: &Store,
        tiles: &Tiles<'_>,
        closings: &[Note],
        findings: &mut Findings<ChainRefusal>,
    ) -> Result<Vec<Ending>, TileError> {
        let kept = match store.read(EPOCHS_KEPT, EPOCHS_KEPT_BYTES_MAX)? {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(refusal) => {
                findings.add(refusal);
                Vec::new()
            }
        };
        let kept = kept_lines(&kept);
        let mut endings = Vec::new();
        for (epoch, note) in closings.iter().take_while(|note| note.checkpoint.size <= self.size).enumerate() {
            let size = note.checkpoint.size;
            let unproved = ChainRefusal::PrunedEpochUnproved { epoch: epoch as u64 };
            let line = match size.checked_sub(1) {
                None => None,
                Some(seq) => match line_of(store, seq)? {
                    Some(line) => Some(line),
                    None => kept.get(&seq).map(|line| line.to_vec()),
                },
            };
            let Some((line, ending)) = line.and_then(|line| ending(&line).map(|ending| (line, ending))) else {
                findings.add(unproved);
                continue;
            };
            let path = tree::prove_inclusion(tiles, size - 1, self.size)?;
            let root = tree::root_of_inclusion(size - 1, self.size, leaf(&line), &path);
            if ending.seq + 1 != size || root != Some(self.root) {
                findings.add(unproved);
                continue;
            }
            let proof = tree::prove_consistency(tiles, size, self.size)?;
            if !tree::is_consistent(size, self.size, note.checkpoint.root, self.root, &proof) {
                findings.add(ChainRefusal::RootDiffers { size });
            }
            endings.push(ending);
        }
        Ok(endings)
    }
}

fn ending(line: &[u8]) -> Option<Ending> {
    let entry = Entry::parse(line).ok().filter(|entry| entry.kind == Epoch::KIND)?;
    let Epoch { key, number } = from_canonical(entry.data.as_bytes()).ok()?;
    Some(Ending { seq: entry.seq, number, key })
}

/// The lines by the numbers that they say.
fn kept_lines(kept: &[u8]) -> BTreeMap<u64, &[u8]> {
    let lines = kept.split(|byte| *byte == b'\n');
    lines.filter_map(|line| Entry::parse(line).ok().map(|entry| (entry.seq, line))).collect()
}

/// The line of an entry that ended an epoch and whose segment was removed.
pub(super) fn kept(store: &Store, seq: u64) -> Result<Option<Vec<u8>>, Fault> {
    let bytes = store.read(EPOCHS_KEPT, EPOCHS_KEPT_BYTES_MAX)?.unwrap_or_default().unwrap_or_default();
    Ok(kept_lines(&bytes).get(&seq).map(|line| line.to_vec()))
}

/// The line that says it is entry `seq`; nothing when its segment is absent or has no such line.
///
/// # Errors
/// [`Fault`] where the segment is there and cannot be read.
pub(super) fn line_of(store: &Store, seq: u64) -> Result<Option<Vec<u8>>, Fault> {
    let Some((file, offset)) = place_of(store, seq)? else { return Ok(None) };
    let path = segment_path(seq / SEGMENT_ENTRIES * SEGMENT_ENTRIES);
    let mut lines = Lines::new(&file, offset, ENTRY_BYTES_MAX);
    Ok(match lines.next().map_err(store.unreadable(&path))? {
        Piece::Line(line) => Some(line.to_vec()),
        Piece::TooLong | Piece::End(_) => None,
    })
}

/// The segment of entry `seq`, and where its line begins.
pub(super) fn place_of(store: &Store, seq: u64) -> Result<Option<(std::fs::File, u64)>, Fault> {
    let path = segment_path(seq / SEGMENT_ENTRIES * SEGMENT_ENTRIES);
    let Opened::File(file) = store.file(&path)? else { return Ok(None) };
    Ok(locate(&file, seq).map_err(store.unreadable(&path))?.map(|offset| (file, offset)))
}

/// Hashes of the entries `from..until` of one segment, read from their lines; nothing when one is not there.
pub(super) fn leaves_of(store: &Store, from: u64, until: u64) -> Result<Option<Vec<Digest>>, Fault> {
    let mut leaves = Vec::new();
    if from == until {
        return Ok(Some(leaves));
    }
    let Some((file, offset)) = place_of(store, from)? else { return Ok(None) };
    let path = segment_path(from / SEGMENT_ENTRIES * SEGMENT_ENTRIES);
    let mut lines = Lines::new(&file, offset, ENTRY_BYTES_MAX);
    for _ in from..until {
        match lines.next().map_err(store.unreadable(&path))? {
            Piece::Line(line) => leaves.push(leaf(line)),
            Piece::TooLong | Piece::End(_) => return Ok(None),
        }
    }
    Ok(Some(leaves))
}

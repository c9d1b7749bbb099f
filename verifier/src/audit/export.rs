//! A chain as a static tree of files that any reader of c2sp.org/tlog-tiles can use: `checkpoint`, `tile/L/N` with the
//! partial ones, `tile/entries/N`.

use super::checkpoint::{NOTE_BYTES_MAX, Note};
use super::entry::ENTRY_BYTES_MAX;
use super::lines::{Lines, Piece};
use super::refusal::ChainRefusal;
use super::store::{Opened, Store};
use super::tree::{Frontier, TILE_HEIGHT, TILE_WIDTH, leaf};
use super::{CHECKPOINT, SEGMENT_ENTRIES, epochs, segment_path, tile_path};
use crate::digest::Digest;
use crate::files::Fault;

/// Why a chain cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The chain does not hold.
    #[error("the chain does not hold: {0}")]
    Refused(ChainRefusal),
    /// Segments were removed: their entries cannot be given out.
    #[error("the chain does not begin with entry 0 any more")]
    Pruned,
    /// Files of the chain cannot be read.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The receiver of the files failed.
    #[error("cannot write {path}")]
    Write {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// A tile or a bundle of entries that is being filled.
fn partial(path: String, width: u64) -> String {
    if width == TILE_WIDTH { path } else { format!("{path}.p/{width}") }
}

/// Hands every file of the export to `write`: path below the export's root, and bytes. `checkpoint` comes last, so that
/// a reader who sees it sees all it covers.
///
/// # Errors
/// [`ExportError`]; the files written until then are no export.
pub fn export(store: &Store, mut write: impl FnMut(&str, &[u8]) -> std::io::Result<()>) -> Result<Note, ExportError> {
    let bytes = store.read(CHECKPOINT, NOTE_BYTES_MAX as u64)?.map_err(ExportError::Refused)?;
    let bytes = bytes.ok_or(ExportError::Refused(ChainRefusal::CheckpointMissing {}))?;
    let note = epochs::read_head(&bytes).map_err(ExportError::Refused)?;
    let size = note.checkpoint.size;
    let mut put = |path: String, bytes: &[u8]| {
        write(&path, bytes).map_err(|source| ExportError::Write { path: path.clone(), source })
    };

    let mut tree = Frontier::new();
    let mut rows: Vec<Vec<Digest>> = Vec::new();
    let mut bundle = Vec::new();
    for first in (0..size).step_by(SEGMENT_ENTRIES as usize) {
        let path = segment_path(first);
        let Opened::File(file) = store.file(&path)? else {
            let pruned = tree.size() == 0 && store.list(false)?.segments.iter().any(|other| *other > first);
            return Err(if pruned {
                ExportError::Pruned
            } else {
                ExportError::Refused(ChainRefusal::SegmentMissing { path })
            });
        };
        let mut lines = Lines::new(&file, 0, ENTRY_BYTES_MAX);
        for seq in first..size.min(first + SEGMENT_ENTRIES) {
            let Piece::Line(line) = lines.next().map_err(store.unreadable(&path))? else {
                return Err(ExportError::Refused(ChainRefusal::ChainShorterThanCheckpoint { entries: seq, size }));
            };
            // Lines have at most ENTRY_BYTES_MAX bytes, which two hold.
            bundle.extend(u16::try_from(line.len()).unwrap_or(u16::MAX).to_be_bytes());
            bundle.extend(line);
            let own = leaf(line);
            let mut completed = vec![(0, own)];
            tree.push_with(own, |level, _, hash| {
                if level.is_multiple_of(TILE_HEIGHT) {
                    completed.push(((level / TILE_HEIGHT) as usize, hash));
                }
            });
            for (level, hash) in completed {
                if rows.len() <= level {
                    rows.push(Vec::new());
                }
                if let Some(row) = rows.get_mut(level) {
                    row.push(hash);
                    if row.len() as u64 == TILE_WIDTH {
                        let number = seq >> (TILE_HEIGHT as usize * (level + 1));
                        put(tile_path(level as u32, number), &bytes_of(row))?;
                        row.clear();
                    }
                }
            }
            if (seq + 1).is_multiple_of(TILE_WIDTH) {
                put(entries_path(seq / TILE_WIDTH), &bundle)?;
                bundle.clear();
            }
        }
    }
    if tree.root() != note.checkpoint.root {
        return Err(ExportError::Refused(ChainRefusal::RootDiffers { size }));
    }
    if !bundle.is_empty() {
        put(partial(entries_path(size / TILE_WIDTH), size % TILE_WIDTH), &bundle)?;
    }
    for (level, row) in rows.iter().enumerate().filter(|(_, row)| !row.is_empty()) {
        let number = size >> (TILE_HEIGHT as usize * (level + 1));
        put(partial(tile_path(level as u32, number), row.len() as u64), &bytes_of(row))?;
    }
    put(CHECKPOINT.to_owned(), note.render().as_bytes())?;
    Ok(note)
}

fn bytes_of(row: &[Digest]) -> Vec<u8> {
    row.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// `tile/entries/N`.
fn entries_path(number: u64) -> String {
    tile_path(0, number).replacen("tile/0/", "tile/entries/", 1)
}

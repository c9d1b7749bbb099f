//! Hashes of complete subtrees, from the tiles of a chain. They are believed only as far as a root that was signed
//! follows from them: that is for the caller to compare.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::store::Store;
use super::tree::{Frontier, Nodes, TILE_HEIGHT, TILE_WIDTH};
use crate::digest::Digest;
use crate::files::Fault;

/// Tiles that are kept in memory: 8 MiB of hashes.
const TILES_KEPT_MAX: usize = 1024;
/// Roots of tiles that are kept in memory; one for 256 entries at the lowest level.
const ROOTS_KEPT_MAX: usize = 1 << 17;

/// Why a hash cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TileError {
    /// Neither its tile nor those below it are there in full.
    #[error("no tile holds the hash {index} of level {level}")]
    Missing {
        /// Level of the subtree.
        level: u32,
        /// Its index.
        index: u64,
    },
    /// A tile cannot be read.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The hashes of a full tile; none where it is absent.
type Row = Option<Rc<[Digest]>>;

/// The tiles of a chain, and the leaves of the last tile that is not full.
pub struct Tiles<'a> {
    store: &'a Store,
    leaves_from: u64,
    leaves: Vec<Digest>,
    rows: RefCell<HashMap<(u32, u64), Row>>,
    roots: RefCell<HashMap<(u32, u64), Digest>>,
}

impl<'a> Tiles<'a> {
    /// The tiles of this chain.
    pub fn of(store: &'a Store) -> Self {
        Self { store, leaves_from: 0, leaves: Vec::new(), rows: RefCell::default(), roots: RefCell::default() }
    }

    /// Also these leaves, the first of which is number `from`.
    pub fn with_leaves(self, from: u64, leaves: Vec<Digest>) -> Self {
        Self { leaves_from: from, leaves, ..self }
    }

    /// What a tree of `size` leaves consists of.
    ///
    /// # Errors
    /// [`TileError`].
    pub fn frontier(&self, size: u64) -> Result<Frontier, TileError> {
        let peaks = Frontier::nodes_of(size).map(|(level, index)| self.node(level, index)).collect::<Result<_, _>>()?;
        Ok(Frontier::from_peaks(size, peaks).unwrap_or_default())
    }

    fn row(&self, level: u32, number: u64) -> Result<Row, TileError> {
        if let Some(known) = self.rows.borrow().get(&(level, number)) {
            return Ok(known.clone());
        }
        let bytes = self.store.tile(level, number)?;
        let row: Row = bytes.map(|bytes| bytes.as_chunks().0.iter().map(|hash| Digest::from_bytes(*hash)).collect());
        let mut rows = self.rows.borrow_mut();
        if rows.len() >= TILES_KEPT_MAX {
            rows.clear();
        }
        rows.insert((level, number), row.clone());
        Ok(row)
    }

    fn computed(&self, level: u32, index: u64) -> Result<Digest, TileError> {
        let (tile_level, above) = (level / TILE_HEIGHT, level % TILE_HEIGHT);
        let first = index << above;
        let width = 1usize << above;
        if let Some(row) = self.row(tile_level, first / TILE_WIDTH)? {
            let from = usize::try_from(first % TILE_WIDTH).unwrap_or(usize::MAX);
            if let Some(hashes) = row.get(from..from + width) {
                return Ok(root(hashes));
            }
        }
        if tile_level == 0 {
            let from = first.checked_sub(self.leaves_from).and_then(|from| usize::try_from(from).ok());
            let hashes = from.and_then(|from| self.leaves.get(from..from.checked_add(width)?));
            return hashes.map(root).ok_or(TileError::Missing { level, index });
        }
        Ok(super::tree::node(&self.node(level - 1, 2 * index)?, &self.node(level - 1, 2 * index + 1)?))
    }
}

/// The root of a complete subtree.
fn root(hashes: &[Digest]) -> Digest {
    let mut frontier = Frontier::new();
    hashes.iter().for_each(|hash| frontier.push(*hash));
    frontier.root()
}

impl Nodes for Tiles<'_> {
    type Error = TileError;

    fn node(&self, level: u32, index: u64) -> Result<Digest, TileError> {
        // Leaves come from their tile at once; what is computed is worth keeping.
        if level == 0 {
            return self.computed(level, index);
        }
        if let Some(known) = self.roots.borrow().get(&(level, index)) {
            return Ok(*known);
        }
        let hash = self.computed(level, index)?;
        let mut roots = self.roots.borrow_mut();
        if roots.len() >= ROOTS_KEPT_MAX {
            roots.clear();
        }
        roots.insert((level, index), hash);
        Ok(hash)
    }
}

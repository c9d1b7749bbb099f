//! Proofs that one entry is in the chain, for people who do not have it: `c2sp.org/tlog-proof@v1`, with the entry's
//! line as extra data.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra eyJ2IjoxLCJzZXEiOjcsIn…
//! index 7
//! gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
//! …
//!
//! secai-os.local/audit/0123456789abcdef
//! 41
//! qJG4UCyOVPdm0jVpvhqyFUAgGcA0Cwv7tYQ9Nt6qAIE=
//!
//! — secai-os.local/audit/0123456789abcdef CjVhLq…
//! ```
//!
//! An entry of a later epoch is signed by a key that follows from the trusted one: proofs of the entries that ended the
//! epochs before it go with it, and are checked before it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::{NOTE_BYTES_MAX, Note, NoteError, VerifierKey};
use super::entry::{ENTRY_BYTES_MAX, Entry};
use super::epochs;
use super::kind::{Data, Epoch};
use super::prefix::{leaves_of, line_of};
use super::refusal::ChainRefusal;
use super::store::Store;
use super::tiles::{TileError, Tiles};
use super::tree::{self, TILE_WIDTH, leaf};
use super::{CHECKPOINT, CHECKPOINTS_LOG};
use crate::canonical::from_canonical;
use crate::digest::Digest;
use crate::files::Fault;
use crate::refusal::Findings;

const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Hashes of a path: a tree has at most 2^64 leaves.
const HASHES_MAX: usize = 64;
/// A proof: an entry, 64 hashes and a note with witnesses.
pub const PROOF_BYTES_MAX: u64 = (ENTRY_BYTES_MAX * 2 + HASHES_MAX * 64 + NOTE_BYTES_MAX) as u64;

/// A proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The entry's line.
    pub entry: Vec<u8>,
    /// Its place.
    pub index: u64,
    /// From its sibling to the root's child.
    pub path: Vec<Digest>,
    /// Size and root of the tree, signed.
    pub note: Note,
}

impl Proof {
    /// The text.
    pub fn render(&self) -> String {
        let mut text = format!("{HEADER}\nextra {}\nindex {}\n", STANDARD.encode(&self.entry), self.index);
        for hash in &self.path {
            text.push_str(&STANDARD.encode(hash.as_bytes()));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.note.render());
        text
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// [`ChainRefusal::ProofMalformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ChainRefusal> {
        let malformed = |reason: &str| ChainRefusal::ProofMalformed { reason: reason.to_owned() };
        if bytes.len() as u64 > PROOF_BYTES_MAX {
            return Err(malformed("it is too long"));
        }
        let text = str::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8"))?;
        let (head, note) = text.split_once("\n\n").ok_or_else(|| malformed("it has no checkpoint"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(malformed("its first line is another"));
        }
        let extra = lines.next().and_then(|line| line.strip_prefix("extra "));
        let entry = extra.and_then(|base64| STANDARD.decode(base64).ok());
        let entry = entry.ok_or_else(|| malformed("its second line is not the entry as extra data"))?;
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(|index| index.parse().ok());
        let index = index.ok_or_else(|| malformed("its third line is not the index"))?;
        let hash = |line: &str| STANDARD.decode(line).ok().and_then(|bytes| Digest::from_slice(&bytes));
        let path: Option<Vec<Digest>> = lines.map(hash).collect();
        let path = path.filter(|path| path.len() <= HASHES_MAX).ok_or_else(|| malformed("a hash is none"))?;
        let note = Note::parse(note.as_bytes()).map_err(|error| malformed(&error.to_string()))?;
        let proof = Self { entry, index, path, note };
        if proof.render() == text { Ok(proof) } else { Err(malformed("it is not in the one spelling")) }
    }

    /// Reads proofs that stand one after the other.
    ///
    /// # Errors
    /// [`ChainRefusal::ProofMalformed`].
    pub fn parse_all(bytes: &[u8]) -> Result<Vec<Self>, ChainRefusal> {
        let header = format!("{HEADER}\n");
        let mut starts: Vec<usize> = memchr::memmem::find_iter(bytes, &header).collect();
        starts.retain(|at| *at == 0 || bytes.get(at - 1) == Some(&b'\n'));
        let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
        if starts.first().is_some_and(|first| *first != 0) || starts.is_empty() && !bytes.is_empty() {
            return Err(ChainRefusal::ProofMalformed { reason: "it does not begin with one".to_owned() });
        }
        starts.iter().zip(ends).map(|(from, until)| Self::parse(bytes.get(*from..until).unwrap_or_default())).collect()
    }

    /// Does it show that the entry is in a tree that one of these keys signed?
    ///
    /// # Errors
    /// Why not.
    pub fn verify(&self, keys: &[VerifierKey]) -> Result<(), ChainRefusal> {
        let size = self.note.checkpoint.size;
        let says =
            Entry::parse(&self.entry).map_err(|error| ChainRefusal::ProofMalformed { reason: error.to_string() })?;
        let root = tree::root_of_inclusion(self.index, size, leaf(&self.entry), &self.path);
        if says.seq != self.index || root != Some(self.note.checkpoint.root) {
            return Err(ChainRefusal::ProofDoesNotHold { index: self.index, size });
        }
        let mut named = false;
        for key in keys.iter().filter(|key| key.name() == self.note.checkpoint.origin) {
            match self.note.verify(key) {
                Ok(()) => return Ok(()),
                Err(NoteError::BadSignature(_)) => named = true,
                Err(_) => {}
            }
        }
        Err(match named {
            true => ChainRefusal::ProofSignatureInvalid { size },
            false => ChainRefusal::ProofSignedByUnknownKey { size },
        })
    }

    /// The key that follows, where the entry ends an epoch and the tree ends with it. Only to be believed of a proof
    /// that was verified.
    pub fn next_key(&self) -> Option<VerifierKey> {
        let entry = Entry::parse(&self.entry).ok()?;
        if entry.kind != Epoch::KIND || self.index.checked_add(1) != Some(self.note.checkpoint.size) {
            return None;
        }
        let Epoch { key, .. } = from_canonical(entry.data.as_bytes()).ok()?;
        let public = STANDARD.decode(key).ok()?.try_into().ok()?;
        VerifierKey::new(&self.note.checkpoint.origin, &public).ok()
    }
}

/// Why a proof cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The newest checkpoint does not cover the entry.
    #[error("entry {seq} is not signed yet: the newest checkpoint covers {size} entries")]
    NotSigned {
        /// The entry.
        seq: u64,
        /// What is covered.
        size: u64,
    },
    /// The checkpoint covers less than what was seen.
    #[error("the checkpoint covers {size} entries, {old} were seen")]
    Older {
        /// What was seen.
        old: u64,
        /// What is covered.
        size: u64,
    },
    /// The segment was removed.
    #[error("entry {0} is not there any more, or its segment is damaged")]
    Absent(u64),
    /// The chain itself does not hold.
    #[error("the chain does not hold: {0}")]
    Refused(ChainRefusal),
    /// Hashes cannot be had.
    #[error(transparent)]
    Tiles(#[from] TileError),
    /// Files cannot be read.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Proves an entry: first the entries that ended the epochs before its own, then itself. Only what follows from the
/// checkpoints is given out.
///
/// # Errors
/// [`ProveError`].
pub fn prove(store: &Store, seq: u64) -> Result<Vec<Proof>, ProveError> {
    let refused = ProveError::Refused;
    let bytes = store.read(CHECKPOINT, NOTE_BYTES_MAX as u64)?.map_err(refused)?;
    let head = epochs::read_head(&bytes.ok_or(ProveError::Refused(ChainRefusal::CheckpointMissing {}))?);
    let head = head.map_err(ProveError::Refused)?;
    let closings = closings(store, &head.checkpoint.origin)?;
    if seq >= head.checkpoint.size {
        return Err(ProveError::NotSigned { seq, size: head.checkpoint.size });
    }
    let mut proofs = Vec::new();
    for note in closings {
        let size = note.checkpoint.size;
        if size > seq {
            proofs.push(prove_one(store, seq, note)?);
            return Ok(proofs);
        }
        proofs.push(prove_one(store, size - 1, note)?);
    }
    proofs.push(prove_one(store, seq, head)?);
    Ok(proofs)
}

/// Proves the entries that ended epochs, from the one that the last of `old` entries lies in to the one before that of
/// a checkpoint: by them the checkpoint's key follows from the one that signed when there were `old` entries.
///
/// # Errors
/// [`ProveError`].
pub fn prove_endings(store: &Store, old: u64, head: &Note) -> Result<Vec<Proof>, ProveError> {
    let ended = closings(store, &head.checkpoint.origin)?.into_iter();
    let ended = ended.filter(|note| (old..head.checkpoint.size).contains(&note.checkpoint.size));
    ended.map(|note| prove_one(store, note.checkpoint.size.saturating_sub(1), note)).collect()
}

/// The closing checkpoints of the chain's epochs.
fn closings(store: &Store, origin: &str) -> Result<Vec<Note>, ProveError> {
    let log = store.read(CHECKPOINTS_LOG, epochs::LOG_BYTES_MAX)?.map_err(ProveError::Refused)?.unwrap_or_default();
    let mut findings = Findings::default();
    let closings = epochs::read_log(&log, origin, &mut findings);
    match findings.into_vec().into_iter().next() {
        Some(refusal) => Err(ProveError::Refused(refusal)),
        None => Ok(closings),
    }
}

fn prove_one(store: &Store, index: u64, note: Note) -> Result<Proof, ProveError> {
    let size = note.checkpoint.size;
    let entry = match line_of(store, index)? {
        Some(line) => line,
        None => super::prefix::kept(store, index)?.ok_or(ProveError::Absent(index))?,
    };
    let from = size / TILE_WIDTH * TILE_WIDTH;
    let leaves = leaves_of(store, from, size)?.unwrap_or_default();
    let tiles = Tiles::of(store).with_leaves(from, leaves);
    let path = tree::prove_inclusion(&tiles, index, size)?;
    if tree::root_of_inclusion(index, size, leaf(&entry), &path) != Some(note.checkpoint.root) {
        return Err(ProveError::Refused(ChainRefusal::RootDiffers { size }));
    }
    Ok(Proof { entry, index, path, note })
}

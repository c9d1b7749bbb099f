//! What a witness is asked (c2sp.org/tlog-witness, `add-checkpoint`), as a file: somebody carries it there, and the
//! answer back ([`super::cosignature`]).
//!
//! ```text
//! old 20
//! PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
//! …
//!
//! secai-os.local/audit/0123456789abcdef
//! 41
//! qJG4UCyOVPdm0jVpvhqyFUAgGcA0Cwv7tYQ9Nt6qAIE=
//!
//! — secai-os.local/audit/0123456789abcdef CjVhLq…
//! ```
//!
//! Each epoch has a key of its own, and a witness knows the one of the checkpoint that it saw last: proofs of the entries
//! that ended the epochs since go with it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::{NOTE_BYTES_MAX, Note, NoteError};
use super::prefix::leaves_of;
use super::proof::{Proof, ProveError, prove_endings};
use super::refusal::ChainRefusal;
use super::store::Store;
use super::tiles::Tiles;
use super::tree::{self, TILE_WIDTH};
use crate::digest::Digest;

/// Hashes of a consistency proof, as the format has it.
const HASHES_MAX: usize = 63;
/// A request: 63 hashes of 45 bytes and a note with witnesses.
pub const REQUEST_BYTES_MAX: u64 = (HASHES_MAX * 45 + NOTE_BYTES_MAX + 64) as u64;

/// Why a request is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not of the form.
    #[error("the request is malformed: {0}")]
    Malformed(&'static str),
    /// Its checkpoint is none.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Entries of the checkpoint that the witness saw last; 0 for none.
    pub old: u64,
    /// That the new tree begins with that one (RFC 6962 §2.1.2).
    pub proof: Vec<Digest>,
    /// The new checkpoint.
    pub note: Note,
}

impl AddCheckpoint {
    /// The bytes.
    pub fn render(&self) -> String {
        let mut text = format!("old {}\n", self.old);
        for hash in &self.proof {
            text.push_str(&STANDARD.encode(hash.as_bytes()));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.note.render());
        text
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        let malformed = RequestError::Malformed;
        if bytes.len() as u64 > REQUEST_BYTES_MAX {
            return Err(malformed("it is too long"));
        }
        let text = str::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8"))?;
        let (head, note) = text.split_once("\n\n").ok_or(malformed("it has no checkpoint"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(|size| size.parse().ok());
        let old = old.ok_or(malformed("its first line is not `old` and a number"))?;
        let hash = |line: &str| STANDARD.decode(line).ok().and_then(|bytes| Digest::from_slice(&bytes));
        let proof: Option<Vec<Digest>> = lines.map(hash).collect();
        let proof = proof.filter(|proof| proof.len() <= HASHES_MAX).ok_or(malformed("a hash is none"))?;
        let request = Self { old, proof, note: Note::parse(note.as_bytes())? };
        if request.render() == text { Ok(request) } else { Err(malformed("it is not in the one spelling")) }
    }
}

/// What is asked of a witness that saw the checkpoint of `old` entries last (0: none), about this checkpoint of the
/// chain: the request, and the proofs by which its key follows from the one that the witness knows.
///
/// # Errors
/// [`ProveError`]; [`ProveError::Older`] where `old` is above the checkpoint.
pub fn request(store: &Store, old: u64, note: &Note) -> Result<(AddCheckpoint, Vec<Proof>), ProveError> {
    let size = note.checkpoint.size;
    if old > size {
        return Err(ProveError::Older { old, size });
    }
    let from = size / TILE_WIDTH * TILE_WIDTH;
    let tiles = Tiles::of(store).with_leaves(from, leaves_of(store, from, size)?.unwrap_or_default());
    if tiles.frontier(size)?.root() != note.checkpoint.root {
        return Err(ProveError::Refused(ChainRefusal::RootDiffers { size }));
    }
    let proof = tree::prove_consistency(&tiles, old, size)?;
    Ok((AddCheckpoint { old, proof, note: note.clone() }, prove_endings(store, old, note)?))
}

/// Does the chain begin with the checkpoint that the witness gave back? What it does not, no proof will show.
///
/// # Errors
/// [`ProveError::Refused`]: it is another chain, or was rewritten since.
pub fn begins_with(request: &AddCheckpoint, kept: &Note) -> Result<(), ProveError> {
    let (kept, now) = (&kept.checkpoint, &request.note.checkpoint);
    if kept.origin != now.origin {
        let (origin, kept) = (now.origin.clone(), kept.origin.clone());
        return Err(ProveError::Refused(ChainRefusal::WitnessedChainIsAnother { origin, kept }));
    }
    match tree::is_consistent(kept.size, now.size, kept.root, now.root, &request.proof) {
        true => Ok(()),
        false => Err(ProveError::Refused(ChainRefusal::WitnessedRootDiffers { size: kept.size })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of c2sp.org/tlog-witness.
    const EXAMPLE: &str = "old 20852014\n\
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
        /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\n\
        example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        — example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";

    #[test]
    fn the_request_of_the_specification_is_read() {
        let request = AddCheckpoint::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!((request.old, request.proof.len()), (20_852_014, 4));
        assert_eq!((request.note.checkpoint.size, request.note.signatures()), (20_852_163, 2));
        assert_eq!(request.render(), EXAMPLE);
    }

    #[test]
    fn another_spelling_is_no_request() {
        let hash = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n";
        for (from, to) in [
            ("old 20852014", "old 020852014"),
            ("old 20852014", "old +20852014"),
            ("old 20852014", "old  20852014"),
            ("old 20852014", "old 99999999999999999999"),
            ("old 20852014", "Old 20852014"),
            ("old 20852014\n", ""),
            ("PlRN", "PlR"),
            (hash, "AAAA\n"),
            (hash, &hash.repeat(61)),
            ("\n\nexample", "\nexample"),
            ("\n\nexample", "\r\n\r\nexample"),
            ("\n20852163\n", "\n20852163\nmore\n"),
        ] {
            assert!(EXAMPLE.contains(from), "{from}");
            let bad = EXAMPLE.replacen(from, to, 1);
            assert!(AddCheckpoint::parse(bad.as_bytes()).is_err(), "{from} → {to}");
        }
        let most = EXAMPLE.replacen(hash, &hash.repeat(60), 1);
        assert_eq!(AddCheckpoint::parse(most.as_bytes()).unwrap().proof.len(), HASHES_MAX);
    }
}

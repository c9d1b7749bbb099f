//! What lies in the TPM's index: two slots, each a checkpoint, zeros after it, and SHA-256 of both.
//!
//! ```text
//! 0     256 bytes  checkpoint, zeros     256   32 bytes  SHA-256 of the 256
//! 288   256 bytes  checkpoint, zeros     544   32 bytes  SHA-256 of the 256
//! ```
//!
//! One is written while the other stays: whatever the power does to the one, a head is there. The newer one counts.

use secai_verifier::audit::checkpoint::Note;
use secai_verifier::digest::Digest;

/// A checkpoint of ours has at most 240 bytes: two names of 37, a number of 20 digits, 44 and 92 of base64.
const NOTE_BYTES: usize = 256;
/// A slot.
pub const SLOT_BYTES: usize = NOTE_BYTES + 32;
/// Slots.
pub const SLOTS: usize = 2;

/// The bytes of a slot; none for a note that is longer than ours are.
pub fn slot(note: &Note) -> Option<[u8; SLOT_BYTES]> {
    let text = note.render();
    let mut bytes = [0; SLOT_BYTES];
    let (room, digest) = bytes.split_at_mut(NOTE_BYTES);
    room.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    digest.copy_from_slice(Digest::of(room).as_bytes());
    Some(bytes)
}

fn head(bytes: &[u8; SLOT_BYTES]) -> Option<Note> {
    let (room, digest) = bytes.split_at(NOTE_BYTES);
    if Digest::of(room).as_bytes() != digest {
        return None;
    }
    let end = room.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    Note::parse(room.get(..end)?).ok()
}

/// The newer head, and which slot holds it; none where neither holds one.
pub fn newest(slots: &[[u8; SLOT_BYTES]; SLOTS]) -> Option<(usize, Note)> {
    let heads = slots.iter().enumerate().filter_map(|(at, bytes)| Some((at, head(bytes)?)));
    heads.max_by_key(|(_, note)| note.checkpoint.size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use secai_verifier::audit::checkpoint::{Checkpoint, VerifierKey, origin};

    fn note(size: u64) -> Note {
        let public = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes();
        let checkpoint = Checkpoint { origin: origin(&public), size, root: Digest::of(&size.to_be_bytes()) };
        let key = VerifierKey::new(&checkpoint.origin, &public).unwrap();
        Note::sealed(checkpoint, &key, &[1; 64])
    }

    #[test]
    fn the_largest_checkpoint_fits_and_a_cosigned_one_does_not() {
        let mut largest = note(u64::MAX);
        assert_eq!(largest.render().len(), 240);
        assert_eq!(newest(&[slot(&largest).unwrap(), [0; SLOT_BYTES]]), Some((0, largest.clone())));
        largest.add("— another AAAAAAAAAAAA\n".as_bytes()).unwrap();
        assert_eq!(slot(&largest), None);
    }

    #[test]
    fn a_write_that_the_power_cut_leaves_the_other_head() {
        let (old, new) = (slot(&note(3)).unwrap(), slot(&note(900)).unwrap());
        let before = slot(&note(1)).unwrap();
        assert_eq!(newest(&[old, new]).unwrap().0, 1);
        assert_eq!(newest(&[new, old]).unwrap().0, 0);
        for cut in 0..SLOT_BYTES {
            for rest in [&before, &[0; SLOT_BYTES], &[0xff; SLOT_BYTES]] {
                let mut torn = *rest;
                torn[..cut].copy_from_slice(&new[..cut]);
                let (at, head) = newest(&[old, torn]).unwrap();
                // Zeros after a text are what it would have ended in anyway.
                assert!(at == 0 && head == note(3) || torn == new, "{cut}");
            }
        }
        for bytes in [[0; SLOT_BYTES], [0xff; SLOT_BYTES]] {
            assert_eq!(newest(&[bytes, bytes]), None);
        }
    }
}

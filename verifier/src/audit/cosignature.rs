//! What a witness says of a checkpoint: that it has seen it, when, and nothing inconsistent with it
//! (c2sp.org/tlog-cosignature, Ed25519). It signs
//!
//! ```text
//! cosignature/v1
//! time 1795381200
//! secai-os.local/audit/0123456789abcdef
//! 41
//! qJG4UCyOVPdm0jVpvhqyFUAgGcA0Cwv7tYQ9Nt6qAIE=
//! ```
//!
//! and answers with a signature line of the checkpoint: `— NAME BASE64(key hash ‖ time in 8 bytes ‖ signature)`.

use super::checkpoint::{COSIGNATURE, Checkpoint, NamedKey, Note, NoteError, signature_line};
use crate::time::Time;

/// The latest time that the format allows.
const SECONDS_MAX: u64 = i64::MAX as u64;

/// A witness's key. It and a log's of the same bytes have other hashes: neither passes for the other.
pub type CosignerKey = NamedKey<COSIGNATURE>;

/// That a witness has seen a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// Its name.
    pub witness: String,
    /// When, in seconds since 1970 by its own clock.
    pub seconds: u64,
}

impl Cosignature {
    /// When, in words.
    pub fn time(&self) -> String {
        Time::from_seconds(self.seconds)
            .map_or_else(|_| format!("second {} of 1970", self.seconds), |it| it.to_string())
    }
}

/// What a witness signs.
pub fn message(checkpoint: &Checkpoint, seconds: u64) -> String {
    format!("cosignature/v1\ntime {seconds}\n{}", checkpoint.body())
}

impl CosignerKey {
    /// The line that a signature over [`message`] becomes.
    pub fn line(&self, seconds: u64, signature: &[u8; 64]) -> String {
        signature_line(self.name(), &[&self.id()[..], &seconds.to_be_bytes(), signature].concat())
    }
}

impl Note {
    /// What this witness says of it; the latest, where it did several times. Lines of others are passed over.
    ///
    /// # Errors
    /// [`NoteError::Unsigned`]: nothing. [`NoteError::BadSignature`]: one of its lines does not hold.
    pub fn cosigned(&self, by: &CosignerKey) -> Result<Cosignature, NoteError> {
        let mut latest = None;
        for bytes in self.signatures_of(by) {
            let held = bytes.split_first_chunk().map(|(time, signature)| (u64::from_be_bytes(*time), signature));
            let held = held.filter(|(seconds, signature)| {
                *seconds <= SECONDS_MAX && by.holds(message(&self.checkpoint, *seconds).as_bytes(), signature)
            });
            let (seconds, _) = held.ok_or_else(|| NoteError::BadSignature(by.to_string()))?;
            latest = latest.max(Some(seconds));
        }
        let seconds = latest.ok_or_else(|| NoteError::Unsigned(by.to_string()))?;
        Ok(Cosignature { witness: by.name().to_owned(), seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::checkpoint::{VerifierKey, origin};
    use crate::digest::Digest;
    use ed25519_dalek::{Signer, SigningKey};

    const SECONDS: u64 = 1_795_381_200;

    fn note(log: &SigningKey) -> Note {
        let public = log.verifying_key().to_bytes();
        let checkpoint = Checkpoint { origin: origin(&public), size: 41, root: Digest::of(b"x") };
        let signature = log.sign(checkpoint.body().as_bytes()).to_bytes();
        let key = VerifierKey::new(&checkpoint.origin, &public).unwrap();
        Note::sealed(checkpoint, &key, &signature)
    }

    fn line(of: &Note, key: &CosignerKey, secret: &SigningKey, signed: u64, said: u64) -> String {
        key.line(said, &secret.sign(message(&of.checkpoint, signed).as_bytes()).to_bytes())
    }

    #[test]
    fn the_key_and_the_line_of_the_specification_are_read() {
        // The examples of c2sp.org/tlog-cosignature; the key behind them is published nowhere.
        let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
            — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
            — witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";
        let note = Note::parse(text.as_bytes()).unwrap();
        assert_eq!(note.render(), text);
        let expected = "cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        assert_eq!(message(&note.checkpoint, 1_679_315_147), expected);
    }

    #[test]
    fn a_cosignature_holds_for_its_witness_its_time_and_its_bytes_alone() {
        let (log, secret) = (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[9; 32]));
        let public = secret.verifying_key().to_bytes();
        let key = CosignerKey::new("witness.example/w1", &public).unwrap();
        assert_eq!(key.to_string().parse::<CosignerKey>().as_ref(), Ok(&key));
        assert!(key.to_string().parse::<VerifierKey>().is_err(), "no log's key");
        let alone = note(&log);
        let of = |lines: &str| {
            let mut note = alone.clone();
            note.add(lines.as_bytes()).map(|()| note)
        };
        let good = line(&alone, &key, &secret, SECONDS, SECONDS);
        let said = |lines: &str| of(lines).and_then(|note| note.cosigned(&key)).map(|it| it.seconds);
        assert_eq!(said(&good), Ok(SECONDS));
        let later = line(&alone, &key, &secret, SECONDS + 5, SECONDS + 5);
        assert_eq!(said(&format!("{later}{good}{good}")), Ok(SECONDS + 5));
        let unsigned = Err(NoteError::Unsigned(key.to_string()));
        let bad = Err(NoteError::BadSignature(key.to_string()));
        assert_eq!(alone.cosigned(&key).map(drop), unsigned.clone().map(drop::<u64>));

        // Another time than was signed; none; one that the format does not have.
        assert_eq!(said(&line(&alone, &key, &secret, SECONDS, SECONDS + 1)), bad);
        assert_eq!(said(&line(&alone, &key, &secret, u64::MAX, u64::MAX)), bad);
        // A signature of the other type: over the text alone, as a log signs, under either hash.
        let plain = secret.sign(alone.checkpoint.body().as_bytes()).to_bytes();
        assert_eq!(said(&signature_line(key.name(), &[&key.id()[..], &plain].concat())), bad);
        let as_log = VerifierKey::new(key.name(), &public).unwrap();
        assert_eq!(said(&signature_line(key.name(), &[&as_log.id()[..], &plain].concat())), unsigned);
        // Another's, under its own name or under this one.
        let other = SigningKey::from_bytes(&[10; 32]);
        let others = CosignerKey::new(key.name(), &other.verifying_key().to_bytes()).unwrap();
        assert_eq!(said(&line(&alone, &others, &other, SECONDS, SECONDS)), unsigned);
        assert_eq!(said(&line(&alone, &key, &other, SECONDS, SECONDS)), bad);
        // One that does not hold is not outweighed by one that does.
        assert_eq!(said(&format!("{good}{}", line(&alone, &key, &secret, 1, 2))), bad);
        // Over another checkpoint.
        let mut grown = alone.checkpoint.clone();
        grown.size += 1;
        assert_eq!(said(&key.line(SECONDS, &secret.sign(message(&grown, SECONDS).as_bytes()).to_bytes())), bad);

        let text = of(&good).unwrap().render();
        assert_eq!(Note::parse(text.as_bytes()).unwrap().cosigned(&key).unwrap().time(), "2026-11-22T21:00:00Z");
        let own = text.find("— witness").unwrap();
        for at in (0..text.find("\n\n").unwrap()).chain(own..text.len()) {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let accepted = Note::parse(&bytes).is_ok_and(|note| note.cosigned(&key).is_ok());
                assert!(!accepted, "byte {at}, bit {bit}");
            }
        }
        for malformed in ["", "x", "— a b\n", &good[..good.len() - 1], &format!("\n{good}"), &format!("{good}\n")] {
            assert!(matches!(of(malformed), Err(NoteError::Malformed(_))), "{malformed:?}");
        }
    }
}

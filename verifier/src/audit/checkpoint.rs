//! Signed heads of the chain: C2SP signed notes (c2sp.org/tlog-checkpoint, c2sp.org/signed-note).
//!
//! ```text
//! secai-os.local/audit/0123456789abcdef
//! 41
//! qJG4UCyOVPdm0jVpvhqyFUAgGcA0Cwv7tYQ9Nt6qAIE=
//!
//! — secai-os.local/audit/0123456789abcdef CjVhLq…
//! ```

use crate::digest::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// A note: far above any of ours, room for witnesses.
pub const NOTE_BYTES_MAX: usize = 64 << 10;
/// Signatures of one note.
pub const NOTE_SIGNATURES_MAX: usize = 64;
/// What origins of ours begin with.
const ORIGIN: &str = "secai-os.local/audit/";
/// Signature type Ed25519 of c2sp.org/signed-note.
const ED25519: u8 = 1;
/// Signature type of a cosignature, c2sp.org/tlog-cosignature.
pub(super) const COSIGNATURE: u8 = 4;

/// The origin of a chain whose epoch 0 has this key; the name of all of its keys.
pub fn origin(first: &[u8; 32]) -> String {
    let hex = Digest::of(first).to_string();
    format!("{ORIGIN}{}", hex.get(..16).unwrap_or_default())
}

/// Why a note, a key or a signature is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not of the form.
    #[error("the checkpoint is malformed: {0}")]
    Malformed(&'static str),
    /// A verifier key that is none.
    #[error("the verifier key is malformed: {0}")]
    Key(&'static str),
    /// None of its signatures is by the key.
    #[error("the checkpoint has no signature of {0}")]
    Unsigned(String),
    /// The signature of the key does not hold.
    #[error("the signature of {0} over the checkpoint does not hold")]
    BadSignature(String),
}

/// Size and root of a chain, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The chain.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root of the tree of that size.
    pub root: Digest,
}

impl Checkpoint {
    /// What is signed: the three lines.
    pub fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.as_bytes()))
    }
}

/// An Ed25519 key under a name, for signatures of one type: `NAME+HASH+BASE64`. The type is part of its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedKey<const TYPE: u8> {
    name: String,
    key: VerifyingKey,
}

/// A key that signs checkpoints: a log's.
pub type VerifierKey = NamedKey<ED25519>;

impl<const TYPE: u8> NamedKey<TYPE> {
    /// A public key under a name.
    ///
    /// # Errors
    /// [`NoteError::Key`] when the name has a space, `+` or newline, or the bytes are no point.
    pub fn new(name: &str, public: &[u8; 32]) -> Result<Self, NoteError> {
        if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+') {
            return Err(NoteError::Key("its name is empty or has a space or a plus"));
        }
        let key = VerifyingKey::from_bytes(public).map_err(|_| NoteError::Key("it is no Ed25519 public key"))?;
        if key.is_weak() {
            return Err(NoteError::Key("it is a point of small order"));
        }
        Ok(Self { name: name.to_owned(), key })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The 32 bytes.
    pub fn public(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Is this its signature over the message?
    pub(super) fn holds(&self, message: &[u8], signature: &[u8]) -> bool {
        // Strict: no signature that two implementations judge differently.
        Signature::from_slice(signature).is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }

    /// First four bytes of SHA-256(name ‖ 0x0A ‖ type ‖ key).
    pub fn id(&self) -> [u8; 4] {
        let mut hasher = Sha256::new();
        hasher.update(self.name.as_bytes());
        hasher.update([b'\n', TYPE]);
        hasher.update(self.key.as_bytes());
        let digest: [u8; 32] = hasher.finalize().into();
        digest.first_chunk().copied().unwrap_or_default()
    }
}

impl<const TYPE: u8> fmt::Display for NamedKey<TYPE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![TYPE];
        bytes.extend(self.key.as_bytes());
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id()), STANDARD.encode(bytes))
    }
}

impl<const TYPE: u8> FromStr for NamedKey<TYPE> {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(base64)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("it is not NAME+HASH+BASE64"));
        };
        let bytes = STANDARD.decode(base64).map_err(|_| NoteError::Key("its last part is not base64"))?;
        let Some((_, public)) = bytes.split_first().filter(|(kind, _)| **kind == TYPE) else {
            return Err(NoteError::Key("it is of another type: 0x01 is a log's Ed25519 key, 0x04 a witness's"));
        };
        let public = public.try_into().map_err(|_| NoteError::Key("it does not have 32 bytes"))?;
        let key = Self::new(name, public)?;
        // One spelling, the hash included.
        if hash.len() != 8 || key.to_string() != text {
            return Err(NoteError::Key("its hash is not that of its name and key"));
        }
        Ok(key)
    }
}

/// A checkpoint and who signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What is signed.
    pub checkpoint: Checkpoint,
    signatures: Vec<(String, Vec<u8>)>,
}

impl Note {
    /// Reads a note whose text is a checkpoint without extension lines.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        let malformed = NoteError::Malformed;
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(malformed("it is too long"));
        }
        let text = str::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8"))?;
        let (body, signed) = text.split_once("\n\n").ok_or(malformed("it has no blank line before its signatures"))?;
        let lines: Vec<&str> = body.split('\n').collect();
        let [origin, size, root] = lines.as_slice() else {
            return Err(malformed("its text does not have three lines"));
        };
        if origin.is_empty() || origin.chars().any(char::is_control) {
            return Err(malformed("its origin is empty or has control characters"));
        }
        let number: u64 = size.parse().map_err(|_| malformed("its size is no number"))?;
        let root = STANDARD.decode(root).ok().and_then(|bytes| Digest::from_slice(&bytes));
        let root = root.ok_or(malformed("its root is not 32 bytes of base64"))?;
        let checkpoint = Checkpoint { origin: (*origin).to_owned(), size: number, root };
        if checkpoint.body() != format!("{body}\n") {
            return Err(malformed("it is not in the one spelling"));
        }
        Ok(Self { checkpoint, signatures: signature_lines(signed)? })
    }

    /// Also these signature lines, each that it does not have yet: what a witness answers. Whether they hold is for
    /// whoever knows the witness.
    ///
    /// # Errors
    /// [`NoteError::Malformed`]; nothing is added then.
    pub fn add(&mut self, lines: &[u8]) -> Result<(), NoteError> {
        let text = str::from_utf8(lines).map_err(|_| NoteError::Malformed("a signature is not UTF-8"))?;
        let new = signature_lines(text)?;
        let mut more = self.clone();
        for line in new {
            if !more.signatures.contains(&line) {
                more.signatures.push(line);
            }
        }
        if more.signatures.len() > NOTE_SIGNATURES_MAX || more.render().len() > NOTE_BYTES_MAX {
            return Err(NoteError::Malformed("there are too many signatures"));
        }
        *self = more;
        Ok(())
    }

    /// A note with one signature over [`Checkpoint::body`].
    pub fn sealed(checkpoint: Checkpoint, key: &VerifierKey, signature: &[u8; 64]) -> Self {
        let mut bytes = key.id().to_vec();
        bytes.extend(signature);
        Self { checkpoint, signatures: vec![(key.name.clone(), bytes)] }
    }

    /// The bytes.
    pub fn render(&self) -> String {
        let mut text = self.checkpoint.body();
        text.push('\n');
        for (name, bytes) in &self.signatures {
            text.push_str(&signature_line(name, bytes));
        }
        text
    }

    /// Number of signatures.
    pub fn signatures(&self) -> usize {
        self.signatures.len()
    }

    /// Does it have a signature of this key that holds? Names and hashes of other keys are passed over.
    ///
    /// # Errors
    /// [`NoteError::Unsigned`], [`NoteError::BadSignature`].
    pub fn verify(&self, key: &VerifierKey) -> Result<(), NoteError> {
        let bytes = self.signatures_of(key).next().ok_or_else(|| NoteError::Unsigned(key.to_string()))?;
        match key.holds(self.checkpoint.body().as_bytes(), bytes) {
            true => Ok(()),
            false => Err(NoteError::BadSignature(key.to_string())),
        }
    }

    /// What this key put under it, without the key's hash.
    pub(super) fn signatures_of<const TYPE: u8>(&self, key: &NamedKey<TYPE>) -> impl Iterator<Item = &[u8]> {
        let (name, id) = (key.name.clone(), key.id());
        self.signatures.iter().filter(move |line| line.0 == name).filter_map(move |(_, bytes)| bytes.strip_prefix(&id))
    }
}

/// `— NAME BASE64`, with its newline.
pub(super) fn signature_line(name: &str, bytes: &[u8]) -> String {
    format!("— {name} {}\n", STANDARD.encode(bytes))
}

/// Names and bytes of signature lines, the last of which ends too.
fn signature_lines(text: &str) -> Result<Vec<(String, Vec<u8>)>, NoteError> {
    let malformed = NoteError::Malformed;
    let text = text.strip_suffix('\n').ok_or(malformed("it does not end with a newline"))?;
    let mut signatures = Vec::new();
    for line in text.split('\n') {
        let (name, base64) = line
            .strip_prefix("— ")
            .and_then(|rest| rest.split_once(' '))
            .ok_or(malformed("a signature line is not `— NAME BASE64`"))?;
        let bytes = STANDARD.decode(base64).map_err(|_| malformed("a signature is not base64"))?;
        if name.is_empty() || bytes.len() < 5 || signatures.len() == NOTE_SIGNATURES_MAX {
            return Err(malformed("a signature has no name or no bytes, or there are too many"));
        }
        signatures.push((name.to_owned(), bytes));
    }
    Ok(signatures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};

    #[test]
    fn the_key_of_the_specification_is_read() {
        // The example of c2sp.org/signed-note (from the Go checksum database).
        let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let key: VerifierKey = text.parse().unwrap();
        assert_eq!(key.to_string(), text);
        for bad in [
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeuman+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+AhpcAQcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3",
        ] {
            assert!(bad.parse::<VerifierKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_note_holds_for_its_key_and_its_bytes_alone() {
        let secret = SigningKey::from_bytes(&[7; 32]);
        let public = secret.verifying_key().to_bytes();
        let name = origin(&public);
        let key = VerifierKey::new(&name, &public).unwrap();
        let checkpoint = Checkpoint { origin: name.clone(), size: 41, root: Digest::of(b"x") };
        let signature = secret.sign(checkpoint.body().as_bytes()).to_bytes();
        let note = Note::sealed(checkpoint, &key, &signature);
        let text = note.render();
        assert_eq!(Note::parse(text.as_bytes()), Ok(note.clone()));
        assert_eq!(note.verify(&key), Ok(()));
        let other = VerifierKey::new(&name, &SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes()).unwrap();
        assert!(matches!(note.verify(&other), Err(NoteError::Unsigned(_))));
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let accepted = Note::parse(&bytes).is_ok_and(|note| note.verify(&key).is_ok());
                assert!(!accepted, "byte {at}, bit {bit}");
            }
        }
        for bad in [text.replace("\n41\n", "\n041\n"), text.replace("\n41\n", "\n41\nextension\n"), format!("{text}\n")]
        {
            assert!(Note::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}

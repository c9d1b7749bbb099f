//! Payloads: what must be forgettable, beside the chain (`spec/audit-chain.md` §5).
//!
//! ```text
//! {"seq":7,"salt":"000102030405060708090a0b0c0d0e0f","payload":"aHVnZ2luZ2ZhY2UuY286NDQz"}
//! ```

use crate::digest::Digest;
use base64::Engine as _;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::io::Write as _;

/// A payload: what an entry of full length could not hold either.
pub const PAYLOAD_BYTES_MAX: usize = 8_192;
/// Bytes of a salt: nobody tries 2^128.
pub const SALT_BYTES: usize = 16;
/// A line: four bytes for three of payload, and its frame.
pub const PAYLOAD_LINE_BYTES_MAX: usize = PAYLOAD_BYTES_MAX / 3 * 4 + 128;

/// One line of a segment's payloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The entry it belongs to.
    pub seq: u64,
    /// Random, so that nobody who knows the digest can try likely payloads.
    pub salt: [u8; SALT_BYTES],
    /// The payload.
    pub bytes: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    seq: u64,
    salt: String,
    payload: String,
}

impl Payload {
    /// SHA-256(salt ‖ payload): `p` of its entry.
    pub fn digest(&self) -> Digest {
        let mut hasher = Sha256::new();
        hasher.update(self.salt);
        hasher.update(&self.bytes);
        hasher.into()
    }

    /// Appends the line, without a newline.
    pub fn render(&self, line: &mut Vec<u8>) {
        let (salt, bytes) = (u128::from_be_bytes(self.salt), Base64Display::new(&self.bytes, &STANDARD));
        let _ = write!(line, r#"{{"seq":{},"salt":"{salt:032x}","payload":"{bytes}"}}"#, self.seq);
    }

    /// Reads a line in its one spelling; none for anything else, a forgotten payload (spaces) among it.
    pub fn parse(line: &[u8]) -> Option<Self> {
        if line.len() > PAYLOAD_LINE_BYTES_MAX {
            return None;
        }
        let read: Line = serde_json::from_slice(line).ok()?;
        let salt = u128::from_str_radix(&read.salt, 16).ok()?.to_be_bytes();
        let payload = Self { seq: read.seq, salt, bytes: STANDARD.decode(read.payload).ok()? };
        let mut again = Vec::with_capacity(line.len());
        payload.render(&mut again);
        (payload.bytes.len() <= PAYLOAD_BYTES_MAX && again == line).then_some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_spelling_only() {
        let payload = Payload { seq: 7, salt: *b"0123456789abcdef", bytes: b"huggingface.co:443".to_vec() };
        let mut line = Vec::new();
        payload.render(&mut line);
        assert_eq!(Payload::parse(&line), Some(payload.clone()));
        assert_eq!(payload.digest(), Digest::of(b"0123456789abcdefhuggingface.co:443"));
        for at in 0..line.len() {
            let mut other = line.clone();
            other[at] = b' ';
            assert!(Payload::parse(&other).is_none_or(|read| read != payload), "byte {at}");
        }
        let longest = Payload { bytes: vec![0xff; PAYLOAD_BYTES_MAX], seq: u64::MAX, ..payload };
        line.clear();
        longest.render(&mut line);
        assert_eq!(Payload::parse(&line), Some(longest));
        assert_eq!(Payload::parse(&[b' '; 80]), None);
    }
}

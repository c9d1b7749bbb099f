//! DSSE envelopes: `{"payload":BASE64,"payloadType":TYPE,"signatures":[{"keyid":HEX,"sig":BASE64}]}`.
//!
//! Members stand in this order and nothing else does; one final newline may follow. What is signed is
//! the pre-authentication encoding, [`Envelope::pae`]. No key is handled here: a signature comes ready made.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::limits::{ENVELOPE_TAIL_BYTES_MAX, SBOM_ENVELOPE_BYTES_MAX, SIGNATURES_MAX};
use crate::trust::KeyId;

/// A payload, its type, and signatures over both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The signed bytes.
    pub payload: Vec<u8>,
    /// What the payload is; printable ASCII without `"` and `\`.
    pub payload_type: String,
    /// The signatures, in the order in which they were added.
    pub signatures: Vec<Signature>,
}

/// One signature of an [`Envelope`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// SHA-256 of the key's DER SubjectPublicKeyInfo.
    pub keyid: KeyId,
    /// ECDSA P-256 over SHA-256 of the pre-authentication encoding, ASN.1 DER.
    pub sig: Vec<u8>,
}

/// Why bytes are no envelope.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Above [`SBOM_ENVELOPE_BYTES_MAX`].
    #[error("the envelope has {0} bytes, more than {SBOM_ENVELOPE_BYTES_MAX}")]
    TooLarge(u64),
    /// It does not begin with the payload.
    #[error("the envelope does not begin with `{PREFIX}` and a base64 text")]
    NoPayload,
    /// Not the standard alphabet, or padding or trailing bits are off.
    #[error("the envelope holds base64 that is not canonical: {0}")]
    Base64(#[from] base64::DecodeError),
    /// What follows the payload is above [`ENVELOPE_TAIL_BYTES_MAX`].
    #[error("the envelope has {0} bytes after its payload, more than {ENVELOPE_TAIL_BYTES_MAX}")]
    TailTooLarge(u64),
    /// What follows the payload has another shape.
    #[error("the envelope does not end with its type and signatures: {0}")]
    Tail(#[from] serde_json::Error),
    /// Above [`SIGNATURES_MAX`].
    #[error("the envelope has {0} signatures, more than {SIGNATURES_MAX}")]
    TooManySignatures(usize),
    /// Spelled in another way than it would be written.
    #[error("the envelope is spelled in another way than its rendering")]
    NotCanonical,
}

const PREFIX: &str = r#"{"payload":""#;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Tail {
    payload_type: String,
    signatures: Vec<TailSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TailSignature {
    keyid: KeyId,
    sig: String,
}

impl Envelope {
    /// An envelope that nobody signed yet.
    pub fn unsigned(payload_type: &str, payload: Vec<u8>) -> Self {
        Self { payload, payload_type: payload_type.to_owned(), signatures: Vec::new() }
    }

    /// The bytes that a signature covers: `DSSEv1 SP LEN(type) SP type SP LEN(body) SP body`.
    pub fn pae(&self) -> Vec<u8> {
        pae(&self.payload_type, &self.payload)
    }

    /// Adds a ready made signature over [`Self::pae`].
    pub fn add_signature(&mut self, keyid: KeyId, sig: Vec<u8>) {
        self.signatures.push(Signature { keyid, sig });
    }

    /// Reads an envelope; signatures are not judged.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() as u64 > SBOM_ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError::TooLarge(bytes.len() as u64));
        }
        let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let rest = body.strip_prefix(PREFIX.as_bytes()).ok_or(EnvelopeError::NoPayload)?;
        let end = rest.iter().position(|&byte| byte == b'"').ok_or(EnvelopeError::NoPayload)?;
        let (payload, tail) = rest.split_at(end);
        let tail = tail.strip_prefix(b"\",").ok_or(EnvelopeError::NoPayload)?;
        if tail.len() as u64 > ENVELOPE_TAIL_BYTES_MAX {
            return Err(EnvelopeError::TailTooLarge(tail.len() as u64));
        }
        let mut object = Vec::with_capacity(tail.len() + 1);
        object.push(b'{');
        object.extend_from_slice(tail);
        let read: Tail = serde_json::from_slice(&object)?;
        if serde_json::to_vec(&read)? != object {
            return Err(EnvelopeError::NotCanonical);
        }
        if read.signatures.len() > SIGNATURES_MAX {
            return Err(EnvelopeError::TooManySignatures(read.signatures.len()));
        }
        let signatures = read
            .signatures
            .into_iter()
            .map(|signature| Ok(Signature { keyid: signature.keyid, sig: STANDARD.decode(signature.sig)? }));
        Ok(Self {
            signatures: signatures.collect::<Result<_, EnvelopeError>>()?,
            payload_type: read.payload_type,
            payload: STANDARD.decode(payload)?,
        })
    }

    /// The bytes of the envelope, with a final newline.
    pub fn render(&self) -> Vec<u8> {
        let mut out = String::with_capacity(self.payload.len() / 3 * 4 + 256);
        out.push_str(PREFIX);
        STANDARD.encode_string(&self.payload, &mut out);
        out.push_str(r#"","payloadType":"#);
        out.push_str(&json_text(&self.payload_type));
        out.push_str(r#","signatures":["#);
        for (position, signature) in self.signatures.iter().enumerate() {
            if position > 0 {
                out.push(',');
            }
            out.push_str(&format!(r#"{{"keyid":"{}","sig":""#, signature.keyid));
            STANDARD.encode_string(&signature.sig, &mut out);
            out.push_str("\"}");
        }
        out.push_str("]}\n");
        out.into_bytes()
    }
}

fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The pre-authentication encoding of a payload and its type.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    let mut out = Vec::with_capacity(head.len() + payload.len());
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn sample() -> Envelope {
        let mut envelope = Envelope::unsigned("text/plain", b"hello world".to_vec());
        envelope.add_signature(KeyId(Digest::of(b"a")), vec![1, 2, 3]);
        envelope.add_signature(KeyId(Digest::of(b"b")), vec![]);
        envelope
    }

    #[test]
    fn reads_what_it_writes() {
        for envelope in [sample(), Envelope::unsigned("", vec![])] {
            let bytes = envelope.render();
            assert_eq!(Envelope::parse(&bytes).unwrap(), envelope);
            assert_eq!(Envelope::parse(bytes.trim_ascii_end()).unwrap(), envelope);
        }
    }

    #[test]
    fn pae_is_that_of_the_specification() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn other_spellings_are_refused() {
        let good = String::from_utf8(sample().render()).unwrap();
        for (from, to) in [
            ("\n", "\n\n"),
            ("{\"payload\"", "{ \"payload\""),
            ("payloadType", "payloadtype"),
            ("\"signatures\"", "\"x\":1,\"signatures\""),
            ("aGVsbG8gd29ybGQ=", "aGVsbG8gd29ybGQ"),
            ("aGVsbG8gd29ybGQ=", "aGVsbG8gd29ybGR="),
            ("AQID", "AQI D"),
            ("\"sig\"", "\"cert\":\"\",\"sig\""),
            ("text/plain", "text\\/plain"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            assert!(Envelope::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}

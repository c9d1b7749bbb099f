//! OpenPGP: detached binary signatures against the certificates of a trust directory.
//!
//! A signature counts when it was made by a primary key or subkey that is for signing, bound to its
//! certificate, neither revoked nor expired, over SHA-2 of 256 bits or more. `gpg` is the reference: a
//! test compares verdicts with it.

use std::io::Cursor;

use pgp::composed::{ArmorOptions, Deserializable, DetachedSignature, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{KeyDetails, Tag, VerifyingKey};

use crate::time::Time;
use crate::trust::CLOCK_SKEW_SECONDS;

/// One certificate: a primary key, its user IDs and subkeys.
#[derive(Debug, Clone)]
pub struct Certificate(SignedPublicKey);

/// Why a signature is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenPgpError {
    /// No certificate could be read.
    #[error("no OpenPGP certificate: {0}")]
    Certificate(String),
    /// No signature could be read.
    #[error("no OpenPGP signature: {0}")]
    Malformed(String),
    /// None of the certificates is named as its maker.
    #[error("the signer is unknown")]
    UnknownKey,
    /// One of the certificates is named, but the signature does not count.
    #[error("{0}")]
    Invalid(&'static str),
}

impl Certificate {
    /// Reads armoured certificates, at least one.
    pub fn read_armoured(bytes: &[u8]) -> Result<Vec<Self>, OpenPgpError> {
        let fault = |error: pgp::errors::Error| OpenPgpError::Certificate(error.to_string());
        let (certificates, _) = SignedPublicKey::from_armor_many_buf(Cursor::new(bytes)).map_err(fault)?;
        let certificates =
            certificates.map(|certificate| certificate.map(Self)).collect::<Result<Vec<_>, _>>().map_err(fault)?;
        if certificates.is_empty() {
            return Err(OpenPgpError::Certificate("the file is empty".to_owned()));
        }
        Ok(certificates)
    }

    /// The primary key's fingerprint, in lower-case hex.
    pub fn fingerprint(&self) -> String {
        self.0.primary_key.fingerprint().to_string()
    }
}

/// Verifies an armoured signature file over `data`; the fingerprint of the certificate that made it.
pub fn verify_armoured(
    certificates: &[Certificate],
    data: &[u8],
    armoured: &[u8],
    now: Time,
) -> Result<String, OpenPgpError> {
    let fault = |error: pgp::errors::Error| OpenPgpError::Malformed(error.to_string());
    let (signatures, _) = DetachedSignature::from_armor_many_buf(Cursor::new(armoured)).map_err(fault)?;
    let signature = only(signatures)?;
    // Words around the armour are signed by nobody; its checksum is optional, but not a false one.
    let plain = [true, false].into_iter().any(|include_checksum| {
        let rendered = signature.to_armored_bytes(ArmorOptions { headers: None, include_checksum });
        rendered.is_ok_and(|rendered| rendered == armoured)
    });
    if !plain {
        return Err(OpenPgpError::Malformed("it is not in the one plain armour".to_owned()));
    }
    judge(&signature.signature, certificates, data, now)
}

/// Verifies a binary signature over `data`; the fingerprint of the certificate that made it.
pub fn verify_binary(
    certificates: &[Certificate],
    data: &[u8],
    binary: &[u8],
    now: Time,
) -> Result<String, OpenPgpError> {
    let fault = |error: pgp::errors::Error| OpenPgpError::Malformed(error.to_string());
    let signature = only(DetachedSignature::from_bytes_many(Cursor::new(binary)).map_err(fault)?)?;
    if signature.to_bytes().map_err(fault)? != binary {
        return Err(OpenPgpError::Malformed("it is not its own rendering".to_owned()));
    }
    judge(&signature.signature, certificates, data, now)
}

type Signatures<'a> = Box<dyn Iterator<Item = pgp::errors::Result<DetachedSignature>> + 'a>;

/// The one signature there is, when nothing rides on it: what is not hashed may only repeat who signed.
fn only(mut signatures: Signatures<'_>) -> Result<DetachedSignature, OpenPgpError> {
    let first = signatures.next().ok_or_else(|| OpenPgpError::Malformed("there is none".to_owned()))?;
    let detached = first.map_err(|error| OpenPgpError::Malformed(error.to_string()))?;
    let signature = &detached.signature;
    if signatures.next().is_some() {
        return Err(OpenPgpError::Malformed("there are several".to_owned()));
    }
    if signature.typ() != Some(SignatureType::Binary) {
        return Err(OpenPgpError::Malformed("it is not over binary data".to_owned()));
    }
    let mut loose = signature.config().into_iter().flat_map(|config| &config.unhashed_subpackets);
    let names = |data: &_| matches!(data, SubpacketData::IssuerKeyId(_) | SubpacketData::IssuerFingerprint(_));
    if !loose.all(|it| !it.is_critical && names(&it.data)) {
        return Err(OpenPgpError::Malformed("it carries words that it does not sign".to_owned()));
    }
    Ok(detached)
}

fn judge(signature: &Signature, certificates: &[Certificate], data: &[u8], now: Time) -> Result<String, OpenPgpError> {
    let mut answer = OpenPgpError::UnknownKey;
    for certificate in certificates {
        match certificate.judge(signature, data, now) {
            Ok(()) => return Ok(certificate.fingerprint()),
            Err(OpenPgpError::UnknownKey) => {}
            Err(other) => answer = other,
        }
    }
    Err(answer)
}

impl Certificate {
    fn judge(&self, signature: &Signature, data: &[u8], now: Time) -> Result<(), OpenPgpError> {
        let primary = &self.0.primary_key;
        if names(signature, primary) {
            let flags = self
                .latest_self_signature(now)
                .ok_or(OpenPgpError::Invalid("the certificate has no valid self-signature"))?;
            self.primary_usable(now)?;
            if !flags.key_flags().sign() {
                return Err(OpenPgpError::Invalid("the key is not for signing"));
            }
            return counts(signature, primary, data, now);
        }
        let subkey = self.0.public_subkeys.iter().find(|subkey| names(signature, &subkey.key));
        let subkey = subkey.ok_or(OpenPgpError::UnknownKey)?;
        self.primary_usable(now)?;
        self.subkey_usable(subkey, now)?;
        counts(signature, &subkey.key, data, now)
    }

    /// The self-signature that governs the primary key: the latest that is valid.
    fn latest_self_signature(&self, now: Time) -> Option<&Signature> {
        let primary = &self.0.primary_key;
        let direct = self.0.details.direct_signatures.iter().filter(|signature| signature.verify_key(primary).is_ok());
        let certifications = self.0.details.users.iter().flat_map(|user| {
            user.signatures.iter().filter(|signature| {
                signature.typ() != Some(SignatureType::CertRevocation)
                    && signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
            })
        });
        certifications
            .chain(direct)
            .filter(|signature| strong(signature) && current(signature, now))
            .max_by_key(|signature| signature.created())
    }

    fn primary_usable(&self, now: Time) -> Result<(), OpenPgpError> {
        let primary = &self.0.primary_key;
        // A revocation counts whatever its date: a key that was lost may have signed at any time.
        if self.0.details.revocation_signatures.iter().any(|signature| signature.verify_key(primary).is_ok()) {
            return Err(OpenPgpError::Invalid("the certificate is revoked"));
        }
        let governing = self
            .latest_self_signature(now)
            .ok_or(OpenPgpError::Invalid("the certificate has no valid self-signature"))?;
        unexpired(primary, governing, now)
    }

    fn subkey_usable(&self, subkey: &SignedPublicSubKey, now: Time) -> Result<(), OpenPgpError> {
        let primary = &self.0.primary_key;
        let own = || {
            subkey.signatures.iter().filter(|signature| signature.verify_subkey_binding(primary, &subkey.key).is_ok())
        };
        if own().any(|signature| signature.typ() == Some(SignatureType::SubkeyRevocation)) {
            return Err(OpenPgpError::Invalid("the subkey is revoked"));
        }
        let binding = own()
            .filter(|signature| strong(signature) && current(signature, now))
            .max_by_key(|signature| signature.created())
            .ok_or(OpenPgpError::Invalid("the subkey is not bound to its certificate"))?;
        let back = binding
            .embedded_signature()
            .is_some_and(|back| strong(back) && back.verify_primary_key_binding(&subkey.key, primary).is_ok());
        if !binding.key_flags().sign() || !back {
            return Err(OpenPgpError::Invalid("the subkey is not for signing"));
        }
        unexpired(&subkey.key, binding, now)
    }
}

/// Whether a signature names this key as its maker.
fn names(signature: &Signature, key: &impl KeyDetails) -> bool {
    let (fingerprints, ids) = (signature.issuer_fingerprint(), signature.issuer_key_id());
    let named = !fingerprints.is_empty() || !ids.is_empty();
    // All that is said must agree: readers differ in what they look at.
    named
        && fingerprints.iter().all(|fingerprint| **fingerprint == key.fingerprint())
        && ids.iter().all(|id| **id == key.legacy_key_id())
}

fn counts(signature: &Signature, key: &impl VerifyingKey, data: &[u8], now: Time) -> Result<(), OpenPgpError> {
    if !strong(signature) {
        return Err(OpenPgpError::Invalid("the signature is over a weak hash"));
    }
    if !current(signature, now) {
        return Err(OpenPgpError::Invalid("the signature is expired, or from the future"));
    }
    if signature.created().is_none_or(|created| created < key.created_at()) {
        return Err(OpenPgpError::Invalid("the signature is older than its key"));
    }
    signature.verify(key, data).map_err(|_| OpenPgpError::Invalid("the signature does not verify"))
}

fn strong(signature: &Signature) -> bool {
    matches!(signature.hash_alg(), Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512))
}

/// Made before `now`, give or take a clock's error, and not expired by then.
fn current(signature: &Signature, now: Time) -> bool {
    let Some(created) = signature.created().map(|created| u64::from(created.as_secs())) else { return false };
    let lifetime = signature.signature_expiration_time().map_or(0, |lifetime| u64::from(lifetime.as_secs()));
    created <= now.seconds() + CLOCK_SKEW_SECONDS && (lifetime == 0 || now.seconds() < created + lifetime)
}

fn unexpired(key: &impl KeyDetails, governing: &Signature, now: Time) -> Result<(), OpenPgpError> {
    let lifetime = governing.key_expiration_time().map_or(0, |lifetime| u64::from(lifetime.as_secs()));
    if lifetime != 0 && now.seconds() >= u64::from(key.created_at().as_secs()) + lifetime {
        return Err(OpenPgpError::Invalid("the key is expired"));
    }
    Ok(())
}

//! Whom to believe: `roles.yml` and the public keys beside it.
//!
//! ```yaml
//! schema: 1
//! roles:
//!   build: {threshold: 1, keys: [{id: HEX, from: 2026-11-01T00:00:00Z, until: 2028-11-01T00:00:00Z}]}
//!   release: {threshold: 1, keys: [{id: HEX, from: 2026-11-01T00:00:00Z, until: 2028-11-01T00:00:00Z, revoked: true}]}
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use p256::ecdsa::signature::Verifier;
use p256::pkcs8::{DecodePublicKey, Document};
use serde::{Deserialize, Serialize};

use crate::audit::checkpoint::NoteError;
use crate::digest::{Digest, NotADigest};
use crate::limits::TRUST_FILE_BYTES_MAX;
use crate::openpgp::{Certificate, OpenPgpError};
use crate::time::Time;

/// The number of this format.
pub const SCHEMA: u32 = 1;
/// How far two honest clocks may part: a signature this much in the future is not one.
pub const CLOCK_SKEW_SECONDS: u64 = 300;

/// A key's name: SHA-256 of its DER SubjectPublicKeyInfo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub Digest);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for KeyId {
    type Err = NotADigest;

    fn from_str(hex: &str) -> Result<Self, NotADigest> {
        hex.parse().map(Self)
    }
}

/// What a key signs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleName {
    /// What the image is made of: SBOM, provenance.
    Build,
    /// That it is released: `release.json`.
    Release,
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Build => "build",
            Self::Release => "release",
        })
    }
}

/// `roles.yml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolesFile {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The roles.
    pub roles: Roles,
}

/// Every role there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roles {
    /// Who builds.
    pub build: Role,
    /// Who releases.
    pub release: Role,
}

impl Roles {
    /// The role of this name.
    pub fn get(&self, name: RoleName) -> &Role {
        match name {
            RoleName::Build => &self.build,
            RoleName::Release => &self.release,
        }
    }
}

/// Keys, and how many of them must agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// How many distinct keys must have signed; at least 1.
    pub threshold: usize,
    /// The keys, each once.
    pub keys: Vec<RoleKey>,
}

/// A key of a role, and when it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleKey {
    /// Which key.
    pub id: KeyId,
    /// It counts from this time on, inclusive.
    pub from: Time,
    /// It counts until this time, inclusive.
    pub until: Time,
    /// It does not count at all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
}

/// Why trust cannot be used. Always a fault, never a refusal.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Above [`TRUST_FILE_BYTES_MAX`].
    #[error("the file has {0} bytes, more than {TRUST_FILE_BYTES_MAX}")]
    TooLarge(u64),
    /// Not the YAML that is expected.
    #[error("the roles are not what is expected: {0}")]
    Shape(#[from] serde_yaml::Error),
    /// Another format.
    #[error("`schema` is {0}, this program knows {SCHEMA}")]
    Schema(u32),
    /// No number of keys could ever reach it.
    #[error("the role `{role}` asks for {threshold} of {keys} keys")]
    Threshold {
        /// Which role.
        role: RoleName,
        /// What it asks for.
        threshold: usize,
        /// What it has.
        keys: usize,
    },
    /// One key stands twice in a role.
    #[error("the role `{0}` names the key {1} twice")]
    KeyTwice(RoleName, KeyId),
    /// The key would never count.
    #[error("the key {0} counts until a time before it begins to count")]
    Validity(KeyId),
    /// `build` is always one signature.
    #[error("the role `build` has a threshold of {0}; a statement is signed by exactly one builder")]
    BuildThreshold(usize),
    /// A role names a key that no `.pub` holds.
    #[error("no `.pub` file holds the key {0}, which roles.yml names")]
    KeyAbsent(KeyId),
    /// An `.asc` holds no certificate.
    #[error(transparent)]
    Certificate(#[from] OpenPgpError),
    /// Not a PEM SubjectPublicKeyInfo of P-256.
    #[error("the key is not a PEM SubjectPublicKeyInfo on the curve P-256: {0}")]
    Key(String),
    /// Not one line with a verifier key of an audit chain.
    #[error(transparent)]
    ChainKey(#[from] NoteError),
}

impl RolesFile {
    /// Reads `roles.yml`.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        if bytes.len() as u64 > TRUST_FILE_BYTES_MAX {
            return Err(TrustError::TooLarge(bytes.len() as u64));
        }
        let file: Self = serde_yaml::from_slice(bytes)?;
        file.validate()?;
        Ok(file)
    }

    /// The text of `roles.yml`.
    pub fn render(&self) -> Result<String, TrustError> {
        self.validate()?;
        Ok(serde_yaml::to_string(self)?)
    }

    fn validate(&self) -> Result<(), TrustError> {
        if self.schema != SCHEMA {
            return Err(TrustError::Schema(self.schema));
        }
        for name in [RoleName::Build, RoleName::Release] {
            let Role { threshold, keys } = self.roles.get(name);
            if *threshold == 0 || *threshold > keys.len() {
                return Err(TrustError::Threshold { role: name, threshold: *threshold, keys: keys.len() });
            }
            let mut seen = BTreeSet::new();
            for key in keys {
                if !seen.insert(key.id) {
                    return Err(TrustError::KeyTwice(name, key.id));
                }
                if key.until < key.from {
                    return Err(TrustError::Validity(key.id));
                }
            }
        }
        if self.roles.build.threshold != 1 {
            return Err(TrustError::BuildThreshold(self.roles.build.threshold));
        }
        Ok(())
    }
}

/// Whom to believe, ready for use: roles with all their keys, and OpenPGP certificates.
#[derive(Debug, Clone)]
pub struct Trust {
    roles: Roles,
    keys: BTreeMap<KeyId, PublicKey>,
    certificates: Vec<Certificate>,
}

impl Trust {
    /// Puts a trust directory's files together; every key that a role names must be there.
    pub fn new(
        file: RolesFile,
        keys: impl IntoIterator<Item = PublicKey>,
        certificates: Vec<Certificate>,
    ) -> Result<Self, TrustError> {
        file.validate()?;
        let keys: BTreeMap<KeyId, PublicKey> = keys.into_iter().map(|key| (key.id(), key)).collect();
        let mut named = file.roles.build.keys.iter().chain(&file.roles.release.keys);
        match named.find(|key| !keys.contains_key(&key.id)) {
            Some(absent) => Err(TrustError::KeyAbsent(absent.id)),
            None => Ok(Self { roles: file.roles, keys, certificates }),
        }
    }

    /// The roles.
    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    /// The public key of this name.
    pub fn key(&self, id: KeyId) -> Option<&PublicKey> {
        self.keys.get(&id)
    }

    /// The OpenPGP certificates; without any, OpenPGP signatures are not judged.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }
}

/// A public key that verifies signatures of envelopes.
#[derive(Debug, Clone)]
pub struct PublicKey {
    id: KeyId,
    key: p256::ecdsa::VerifyingKey,
}

impl PublicKey {
    /// Reads a PEM SubjectPublicKeyInfo.
    pub fn from_pem(pem: &str) -> Result<Self, TrustError> {
        let (label, document) =
            Document::from_pem(pem.trim_ascii()).map_err(|error| TrustError::Key(error.to_string()))?;
        if label != "PUBLIC KEY" {
            return Err(TrustError::Key(format!("it is labelled `{label}`")));
        }
        Self::from_der(document.as_bytes())
    }

    /// Reads a DER SubjectPublicKeyInfo.
    pub fn from_der(der: &[u8]) -> Result<Self, TrustError> {
        let key =
            p256::ecdsa::VerifyingKey::from_public_key_der(der).map_err(|error| TrustError::Key(error.to_string()))?;
        Ok(Self { id: KeyId(Digest::of(der)), key })
    }

    /// SHA-256 of the DER that it was read from.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Whether `sig` (ASN.1 DER) is this key's over SHA-256 of `message`.
    pub fn verifies(&self, message: &[u8], sig: &[u8]) -> bool {
        p256::ecdsa::Signature::from_der(sig).is_ok_and(|sig| self.key.verify(message, &sig).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> RolesFile {
        let key = |name: &[u8], revoked| RoleKey {
            id: KeyId(Digest::of(name)),
            from: "2026-11-01T00:00:00Z".parse().unwrap(),
            until: "2028-11-01T00:00:00Z".parse().unwrap(),
            revoked,
        };
        RolesFile {
            schema: SCHEMA,
            roles: Roles {
                build: Role { threshold: 1, keys: vec![key(b"a", false)] },
                release: Role { threshold: 2, keys: vec![key(b"a", false), key(b"b", true)] },
            },
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let text = sample().render().unwrap();
        assert_eq!(RolesFile::parse(text.as_bytes()).unwrap(), sample());
        assert_eq!(text.matches("revoked").count(), 1);
    }

    #[test]
    fn each_rule_refuses() {
        let text = sample().render().unwrap();
        for (from, to) in [
            ("schema: 1", "schema: 2"),
            ("threshold: 1", "threshold: 0"),
            ("threshold: 2", "threshold: 3"),
            ("threshold: 1", "threshold: 2"),
            ("2028-11-01", "2020-11-01"),
            ("revoked: true", "revoked: yes please"),
            ("revoked: true", "revoke: true"),
            ("build:", "builder:"),
        ] {
            let bad = text.replacen(from, to, 1);
            assert_ne!(bad, text, "{from}");
            assert!(RolesFile::parse(bad.as_bytes()).is_err(), "{to}");
        }
        let mut twice = sample();
        twice.roles.release.keys[1].id = twice.roles.release.keys[0].id;
        assert!(matches!(twice.render(), Err(TrustError::KeyTwice(RoleName::Release, _))));
    }

    #[test]
    fn a_key_is_named_by_its_der() {
        use p256::ecdsa::signature::Signer;
        use p256::ecdsa::{DerSignature, SigningKey};
        use p256::pkcs8::{EncodePublicKey, LineEnding};
        let secret = SigningKey::from_slice(&[7; 32]).unwrap();
        let public = secret.verifying_key();
        let key = PublicKey::from_pem(&public.to_public_key_pem(LineEnding::LF).unwrap()).unwrap();
        assert_eq!(key.id(), KeyId(Digest::of(public.to_public_key_der().unwrap().as_bytes())));
        let sig: DerSignature = secret.sign(b"message");
        assert!(key.verifies(b"message", sig.as_bytes()));
        assert!(!key.verifies(b"massage", sig.as_bytes()));
        assert!(!key.verifies(b"message", &sig.as_bytes()[1..]));
        assert!(PublicKey::from_pem("").is_err());
    }
}

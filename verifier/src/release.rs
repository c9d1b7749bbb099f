//! `release.json`: what one release binds together, and until when.
//!
//! ```json
//! {"channel":"dev","commit":"<64 hex>","created":"2026-11-22T21:00:00Z","expires":"2027-02-20T21:00:00Z",
//!  "image":{"digest":"sha256:<hex>","size":1234},"name":"minimal","number":7,
//!  "sbom":{"digest":"sha256:<hex>","size":5678},"schema":1,"version":"0.1.0"}
//! ```
//! in one line, canonical; it is the payload of an envelope of the role `release`.

use serde::{Deserialize, Serialize};

use crate::canonical::{JsonError, from_canonical, to_canonical};
use crate::digest::{self, Digest};
use crate::time::Time;

/// The number of this format.
pub const SCHEMA: u32 = 1;

/// One release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Who it is for: `stable`, `dev`.
    pub channel: String,
    /// The OSTree commit's checksum.
    pub commit: Digest,
    /// When the release was made.
    pub created: Time,
    /// From when on nobody accepts it any more.
    pub expires: Time,
    /// The image's manifest.
    pub image: Artifact,
    /// What the image is called.
    pub name: String,
    /// Counts releases of a channel, from 1.
    pub number: u64,
    /// The CycloneDX document, as it stands in its statement.
    pub sbom: Artifact,
    /// [`SCHEMA`].
    pub schema: u32,
    /// The version, for people.
    pub version: String,
}

/// Bytes, by digest and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// SHA-256 of the bytes.
    #[serde(with = "digest::oci")]
    pub digest: Digest,
    /// How many bytes.
    pub size: u64,
}

impl Artifact {
    /// What these bytes are.
    pub fn of(bytes: &[u8]) -> Self {
        Self { digest: Digest::of(bytes), size: bytes.len() as u64 }
    }
}

/// Why a release is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Not canonical JSON of the expected shape.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Another format.
    #[error("`schema` is {0}, this program knows {SCHEMA}")]
    Schema(u32),
    /// `name` or `channel` has other characters.
    #[error("`{0}` is not of the form [a-z0-9][a-z0-9-]{{0,63}}")]
    Name(&'static str),
    /// `version` has other characters.
    #[error("`version` is not of the form [0-9A-Za-z][0-9A-Za-z.+~-]{{0,127}}")]
    Version,
    /// Numbers begin at 1.
    #[error("`number` is 0")]
    NumberZero,
    /// It would have expired before it was made.
    #[error("`expires` is not after `created`")]
    Lifetime,
}

impl Release {
    /// Reads the payload of an envelope; binds nothing to anything yet.
    pub fn parse(payload: &[u8]) -> Result<Self, ReleaseError> {
        let release: Self = from_canonical(payload)?;
        release.validate()?;
        Ok(release)
    }

    /// The payload of an envelope.
    pub fn render(&self) -> Result<Vec<u8>, ReleaseError> {
        self.validate()?;
        Ok(to_canonical(self)?)
    }

    /// What a release must be in itself.
    pub fn validate(&self) -> Result<(), ReleaseError> {
        if self.schema != SCHEMA {
            return Err(ReleaseError::Schema(self.schema));
        }
        for (member, value) in [("name", &self.name), ("channel", &self.channel)] {
            if !is_name(value) {
                return Err(ReleaseError::Name(member));
            }
        }
        if !is_version(&self.version) {
            return Err(ReleaseError::Version);
        }
        if self.number == 0 {
            return Err(ReleaseError::NumberZero);
        }
        if self.expires <= self.created {
            return Err(ReleaseError::Lifetime);
        }
        Ok(())
    }
}

/// `[a-z0-9][a-z0-9-]{0,63}`: names of images and channels.
pub fn is_name(text: &str) -> bool {
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 64 && text.starts_with(lower) && text.chars().all(|c| lower(c) || c == '-')
}

/// `[0-9A-Za-z][0-9A-Za-z.+~-]{0,127}`: versions of images.
pub fn is_version(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 128 && text.starts_with(first) && text.chars().all(|c| first(c) || ".+~-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Release {
        Release {
            channel: "dev".into(),
            commit: Digest::of(b"commit"),
            created: "2026-11-22T21:00:00Z".parse().unwrap(),
            expires: "2027-02-20T21:00:00Z".parse().unwrap(),
            image: Artifact::of(b"manifest"),
            name: "minimal".into(),
            number: 7,
            sbom: Artifact::of(b"sbom"),
            schema: SCHEMA,
            version: "0.1.0".into(),
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let bytes = sample().render().unwrap();
        assert_eq!(Release::parse(&bytes).unwrap(), sample());
        assert!(bytes.starts_with(br#"{"channel":"dev","commit":""#));
    }

    #[test]
    fn each_rule_refuses() {
        let refuse = |change: &dyn Fn(&mut Release)| {
            let mut release = sample();
            change(&mut release);
            assert!(release.render().is_err());
            assert!(Release::parse(&to_canonical(&release).unwrap()).is_err());
        };
        refuse(&|release| release.schema = 2);
        refuse(&|release| release.name = "Minimal".into());
        refuse(&|release| release.name = String::new());
        refuse(&|release| release.channel = "-".into());
        refuse(&|release| release.version = "1 ".into());
        refuse(&|release| release.version = "a".repeat(129));
        refuse(&|release| release.number = 0);
        refuse(&|release| release.expires = release.created);
        let text = String::from_utf8(sample().render().unwrap()).unwrap();
        for (from, to) in [
            ("\"schema\":1,", "\"schema\":1,\"sigs\":[],"),
            ("\"number\":7,", ""),
            ("\"number\":7", "\"number\":\"7\""),
        ] {
            assert!(Release::parse(text.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
        }
    }
}

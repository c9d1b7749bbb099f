//! The language in which a test says what to change: steps, each one operation in one artefact.
//!
//! | `in:` | what it is | made again after it, when re-sealed |
//! |---|---|---|
//! | `tree` | the tree, through the builder | everything but what is told to `stay` |
//! | `layer N`, `layer /PATH` | the archive in a layer (the one that holds the path) | `blob`, `config`, … |
//! | `blob N` | the compressed layer, as it lies | `manifest`, … |
//! | `config`, `manifest`, `index.json`, `oci-layout` | the image's documents | what names them |
//! | `sbom`, `statement`, `sbom.dsse.json` | document, payload, envelope | `release`, signature |
//! | `commit.commit`, `commit.commitmeta` | the commit object, its signatures | labels, `release`, signature |
//! | `release`, `release.json` | payload, envelope | signature |
//! | `SHA256SUMS`, `SHA256SUMS.asc` | | signature |
//! | `trust`, `bundle` | whom to believe; any file | the sums |

use secai_verifier::time::Time;
use secai_verifier::trust::RoleName;
use serde::Deserialize;
use serde_yaml::{Mapping, Value};

/// What to change, and what is made again afterwards.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// What is made again.
    pub seal: Seal,
    /// The operations.
    pub steps: Vec<Step>,
}

/// What is made again after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seal {
    /// Nothing: the naive change.
    None,
    /// `SHA256SUMS` and its signature, which cover every file whatever it is.
    Sums,
    /// Every digest, size, sum and signature that points to what was changed.
    All,
}

/// One operation in one artefact.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Mapping")]
pub struct Step {
    /// Where.
    pub place: Place,
    /// What.
    pub op: Op,
}

/// An artefact, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table above says what each is")]
pub enum Place {
    Tree,
    Commit,
    Layer(Which),
    Blob(Which),
    Config,
    Manifest,
    Index,
    OciLayout,
    Sbom,
    Statement,
    SbomEnvelope,
    CommitObject,
    CommitMeta,
    Release,
    ReleaseEnvelope,
    Sums,
    SumsSignature,
    Trust,
    Bundle,
}

/// Which layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// By its position.
    Number(usize),
    /// The first that has an entry for this path of the commit.
    Holding(String),
}

/// An operation. A `path` is one of the commit (`/usr/etc/passwd`) but in `bundle`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs, reason = "fields are the words of the language")]
pub enum Op {
    // Any bytes.
    /// Turns the lowest bit of one byte: the one after a text, or so many percent into the file.
    Flip {
        #[serde(default)]
        after: Option<String>,
        #[serde(default)]
        percent: usize,
    },
    /// Makes the digit after a text another one.
    Digit { after: String },
    /// Replaces the first occurrence of a text.
    Text { find: String, replace: String },
    /// Removes the first line that ends so.
    DropLine { ending: String },
    /// Adds bytes at the end.
    Append { text: String },
    /// Removes bytes from the end.
    Cut { bytes: usize },
    /// Adds zeros until there are so many bytes.
    Fill { to: usize },

    // JSON documents.
    /// Sets a member, by its JSON pointer.
    Set { at: String, to: Value },
    /// Removes a member.
    Delete { at: String },

    // Artefacts as a whole.
    /// It is not there, and what pointed to it does not any more.
    Remove,
    /// Another genuine bundle's stands in its place.
    Take { from: Source },
    /// Another genuine bundle's stands beside it.
    Add { from: Source },
    /// It stays as it was, whatever the steps before would make of it (`commit`, `sbom`).
    Stay,
    /// It is signed by these and nobody else.
    Signers { by: Vec<Signer> },

    // Files, in a tree, a layer or the SBOM.
    /// Other bytes; without a text, one bit.
    Content {
        path: String,
        #[serde(default)]
        to: Option<String>,
    },
    /// Other permission bits (octal, in quotes). In a layer, `alone`: of this entry only, not of its object.
    Mode {
        path: String,
        to: String,
        #[serde(default)]
        alone: bool,
    },
    /// Another owner and group, `UID:GID`.
    Owner {
        path: String,
        to: String,
        #[serde(default)]
        alone: bool,
    },
    /// An extended attribute, or none of that name. In a layer, `alone`: in the PAX records only.
    Xattr {
        path: String,
        name: String,
        #[serde(default)]
        to: Option<String>,
        #[serde(default)]
        alone: bool,
    },
    /// Another link target.
    Target { path: String, to: String },
    /// One more file. In a layer a plain entry at its end, without an object.
    Create { path: String, to: String },
    /// One file (in a tree: or folder) less. In a layer only this entry.
    Drop { path: String },

    // Entries of a layer.
    /// Exchanges an entry with the one after it.
    Swap { path: String },
    /// The entry stands twice.
    Twice { path: String },
    /// A hard link to an object becomes a file with the object's bytes.
    Copy { path: String },
    /// A file becomes a hard link to its object.
    Link { path: String },
    /// A further PAX header before the entry.
    Pax { path: String, key: String, value: String },
    /// Bytes of the entry's header block; its checksum is made again.
    Header { path: String, at: usize, to: String },

    // A compressed layer.
    /// A second, empty frame follows.
    SecondFrame,
    /// A skippable frame stands before.
    SkippableFrame,
    /// The same archive in a frame without checksum.
    NoChecksum,

    /// The layer changes places with another.
    Exchange { with: usize },

    // Trust.
    /// The stranger's key of that role is admitted to the role.
    Admit { role: Role },
    /// So many keys of the role must sign.
    Threshold { role: Role, to: usize },
    /// The first key of the role is revoked.
    Revoke { role: Role },
    /// The first key of the role counts only then.
    Window { role: Role, from: Time, until: Time },
    /// The OpenPGP certificate is the stranger's.
    Estrange,

    // Any file of the bundle.
    /// A file.
    File { path: String, text: String },
    /// A blob under its right name.
    Blob { text: String },
    /// A file becomes a symbolic link.
    Symlink { path: String, to: String },
    /// An empty folder.
    Folder { path: String },
}

/// A genuine bundle to take artefacts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Another image, of the same day.
    Other,
    /// An older release of this image.
    Older,
}

/// Who signs: the keys that the trust directory names for a role, or the stranger's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signer {
    /// The key of the role `build`.
    Build,
    /// The key of the role `release`; for OpenPGP, the one certificate.
    Release,
    /// A key that nobody knows, unless it was admitted.
    Stranger,
}

/// A role, as `roles.yml` spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Who builds.
    Build,
    /// Who releases.
    Release,
}

impl From<Role> for RoleName {
    fn from(role: Role) -> Self {
        match role {
            Role::Build => Self::Build,
            Role::Release => Self::Release,
        }
    }
}

impl TryFrom<Mapping> for Step {
    type Error = String;

    fn try_from(mut fields: Mapping) -> Result<Self, String> {
        let place = fields.remove("in").ok_or("a step has no `in`")?;
        let place = Place::parse(place.as_str().ok_or("`in` is no text")?)?;
        let op = serde_yaml::from_value(Value::Mapping(fields)).map_err(|error| error.to_string())?;
        Ok(Self { place, op })
    }
}

impl Place {
    fn parse(text: &str) -> Result<Self, String> {
        let which = |rest: &str| match rest.parse() {
            Ok(number) => Ok(Which::Number(number)),
            Err(_) if rest.starts_with('/') => Ok(Which::Holding(rest.to_owned())),
            Err(_) => Err(format!("`{text}` names no layer")),
        };
        Ok(match text {
            "tree" => Self::Tree,
            "commit" => Self::Commit,
            "config" => Self::Config,
            "manifest" => Self::Manifest,
            "index.json" => Self::Index,
            "oci-layout" => Self::OciLayout,
            "sbom" => Self::Sbom,
            "statement" => Self::Statement,
            "sbom.dsse.json" => Self::SbomEnvelope,
            "commit.commit" => Self::CommitObject,
            "commit.commitmeta" => Self::CommitMeta,
            "release" => Self::Release,
            "release.json" => Self::ReleaseEnvelope,
            "SHA256SUMS" => Self::Sums,
            "SHA256SUMS.asc" => Self::SumsSignature,
            "trust" => Self::Trust,
            "bundle" => Self::Bundle,
            other => match other.split_once(' ') {
                Some(("layer", rest)) => Self::Layer(which(rest)?),
                Some(("blob", rest)) => Self::Blob(which(rest)?),
                _ => return Err(format!("`{other}` is no artefact")),
            },
        })
    }
}

/// Reads steps: the YAML of a table's row, `{in: …, op: …}, …`.
///
/// # Panics
/// When they cannot be read: a test that does not say what it changes tests nothing.
pub fn steps(text: &str) -> Vec<Step> {
    serde_yaml::from_str(&format!("[{text}]")).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Permission bits from octal digits.
pub(super) fn octal(text: &str) -> u32 {
    u32::from_str_radix(text, 8).unwrap()
}

/// User and group from `UID:GID`.
pub(super) fn owner(text: &str) -> (u32, u32) {
    let (uid, gid) = text.split_once(':').unwrap();
    (uid.parse().unwrap(), gid.parse().unwrap())
}

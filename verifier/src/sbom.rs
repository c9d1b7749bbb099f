//! The SBOM: a CycloneDX 1.6 document in which every file of the commit has an owner.
//!
//! ```json
//! {"bomFormat":"CycloneDX","specVersion":"1.6","version":1,
//!  "metadata":{"timestamp":"2026-11-22T21:00:00Z","component":{"type":"operating-system","name":"minimal","version":"0.1.0"}},
//!  "components":[{"type":"library","bom-ref":PURL,"name":"bash","version":"5.2","purl":PURL,"hashes":[…],
//!   "components":[{"type":"file","bom-ref":"file:/usr/bin/bash","name":"/usr/bin/bash","hashes":[…],"properties":[…]}]}]}
//! ```
//! in one line, members in this order. The reader renders again and compares on the fly: one content,
//! one spelling. Memory is that of the model, about the size of the document.

use std::borrow::Cow;
use std::io::Write;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::limits::{FILES_MAX, SBOM_BYTES_MAX};
use crate::tar;
use crate::time::Time;

mod json;

/// The document: one image and the owners of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sbom {
    /// The image's name.
    pub name: String,
    /// The image's version.
    pub version: String,
    /// The commit's date.
    pub created: Time,
    /// Owners, strictly ascending by [`OwnerKind::bom_ref`].
    pub owners: Vec<Owner>,
}

/// A package or a stage of the build, with the files it answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Who it is.
    pub kind: OwnerKind,
    /// Its files, strictly ascending by path.
    pub files: Vec<File>,
}

/// Who owns files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnerKind {
    /// A package.
    Package {
        /// Name of the package.
        name: String,
        /// Its version.
        version: String,
        /// Its package URL, which is its `bom-ref` too.
        purl: String,
        /// SHA-256 of the archive (`.deb`) it came in.
        archive: Digest,
    },
    /// A program of ours, from the service pack.
    Program {
        /// What the program is called.
        name: String,
        /// Its version.
        version: String,
        /// The crates in it, strictly ascending.
        crates: Vec<Crate>,
    },
    /// `secai:compose`: files made while composing.
    Compose,
    /// `secai:pack`: what the service pack holds besides programs.
    Pack {
        /// SHA-256 of its `pack.json`, which lists all it holds.
        list: Digest,
    },
    /// `secai:recipe`: files that the recipe lays.
    Recipe,
}

/// A crate inside a program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Crate {
    /// Its package URL: of a version's characters only `+` has to be written in another way.
    pub fn purl(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version.replace('+', "%2B"))
    }

    /// A name that cargo admits, and a version.
    pub fn is_valid(&self) -> bool {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        !self.name.is_empty()
            && self.name.bytes().all(word)
            && self.version.starts_with(|it: char| it.is_ascii_digit())
            && self.version.bytes().all(|byte| word(byte) || b".+".contains(&byte))
    }
}

/// What references of our programs begin with.
const PROGRAM: &str = "secai:program:";

impl OwnerKind {
    /// The reference by which the document knows the owner.
    pub fn bom_ref(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            Self::Package { purl, .. } => purl,
            Self::Program { name, .. } => return Cow::Owned(format!("{PROGRAM}{name}")),
            Self::Compose => "secai:compose",
            Self::Pack { .. } => "secai:pack",
            Self::Recipe => "secai:recipe",
        })
    }
}

/// One file of the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its absolute path in the commit (`/usr/etc/passwd`).
    pub path: String,
    /// Its whole `st_mode`.
    pub mode: u32,
    /// Its owner's number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
    /// What is in it.
    pub content: Content,
    /// Who wrote it, when its bytes are not those of the package that owns it.
    pub origin: Option<Origin>,
    /// Where the package's archive has it, when it lies elsewhere in the image.
    pub archive_path: Option<String>,
}

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A regular file with bytes of this SHA-256.
    Regular(Digest),
    /// A symbolic link to this target.
    Symlink(String),
}

/// Who wrote bytes that are not the owning package's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A maintainer script or the compose itself.
    Compose,
    /// The service pack.
    Pack,
    /// The recipe.
    Recipe,
}

/// Why bytes are no SBOM.
#[derive(Debug, thiserror::Error)]
pub enum SbomError {
    /// Above [`SBOM_BYTES_MAX`].
    #[error("the document has {0} bytes, more than {SBOM_BYTES_MAX}")]
    TooLarge(u64),
    /// Above [`FILES_MAX`].
    #[error("the document lists {0} files, more than {FILES_MAX}")]
    TooManyFiles(usize),
    /// No JSON, or not of the shape above.
    #[error("the document is not of the expected shape: {0}")]
    Shape(#[from] serde_json::Error),
    /// Spelled in another way than it would be written.
    #[error("the document is not its own rendering (first difference at byte {0})")]
    NotCanonical(usize),
    /// Owners ascend by `bom-ref`, none twice.
    #[error("the owner `{0}` is not in order: `bom-ref`s ascend bytewise, none twice")]
    OwnerOrder(String),
    /// Files of an owner ascend by path, none twice.
    #[error("the file `{0}` is not in order: an owner's paths ascend bytewise, none twice")]
    FileOrder(String),
    /// Two owners list one path.
    #[error("the file `{0}` has two owners")]
    TwoOwners(String),
    /// Crates of a program ascend, none twice; names and versions as cargo has them.
    #[error("the crate `{0}` is not in order, or has no name or version of a crate")]
    Crate(String),
    /// A path that no commit can hold.
    #[error("`{0}` is no absolute path without empty, `.` or `..` parts")]
    Path(String),
    /// Type bits do not fit the content, or there are bits beyond a mode's.
    #[error("the file `{0}` has a mode that does not fit its content")]
    Mode(String),
    /// The document could not be written.
    #[error("the document could not be written: {0}")]
    Write(#[from] std::io::Error),
}

impl Sbom {
    /// Reads a document.
    pub fn parse(bytes: &[u8]) -> Result<Self, SbomError> {
        if bytes.len() as u64 > SBOM_BYTES_MAX {
            return Err(SbomError::TooLarge(bytes.len() as u64));
        }
        let sbom: Self = serde_json::from_slice::<json::Document>(bytes)?.into();
        sbom.validate()?;
        let mut comparison = Comparison { expected: bytes, at: 0, differs: false };
        let written = serde_json::to_writer(&mut comparison, &json::Document::from(&sbom));
        if comparison.differs || comparison.at != bytes.len() {
            return Err(SbomError::NotCanonical(comparison.at));
        }
        written?;
        Ok(sbom)
    }

    /// Writes the document.
    pub fn write<W: Write>(&self, mut writer: W) -> Result<(), SbomError> {
        self.validate()?;
        serde_json::to_writer(&mut writer, &json::Document::from(self))?;
        Ok(writer.flush()?)
    }

    /// The bytes of the document.
    pub fn render(&self) -> Result<Vec<u8>, SbomError> {
        let mut out = Vec::new();
        self.write(&mut out)?;
        Ok(out)
    }

    /// Every file with its owner, strictly ascending by path.
    pub fn by_path(&self) -> Result<Vec<(&File, &Owner)>, SbomError> {
        let mut files = Vec::with_capacity(self.owners.iter().map(|owner| owner.files.len()).sum());
        files.extend(self.owners.iter().flat_map(|owner| owner.files.iter().map(move |file| (file, owner))));
        files.sort_unstable_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        match files.windows(2).find(|pair| matches!(pair, [(a, _), (b, _)] if a.path == b.path)) {
            Some(pair) => Err(SbomError::TwoOwners(pair.iter().map(|(file, _)| file.path.clone()).take(1).collect())),
            None => Ok(files),
        }
    }

    fn validate(&self) -> Result<(), SbomError> {
        let count = self.owners.iter().map(|owner| owner.files.len()).sum();
        if count > FILES_MAX {
            return Err(SbomError::TooManyFiles(count));
        }
        let mut before: Option<Cow<'_, str>> = None;
        for owner in &self.owners {
            let bom_ref = owner.kind.bom_ref();
            if before.is_some_and(|before| before >= bom_ref) {
                return Err(SbomError::OwnerOrder(bom_ref.into_owned()));
            }
            before = Some(bom_ref);
            owner.validate()?;
        }
        self.by_path().map(drop)
    }
}

impl Owner {
    fn validate(&self) -> Result<(), SbomError> {
        if let OwnerKind::Program { crates, .. } = &self.kind {
            let mut before: Option<&Crate> = None;
            for one in crates {
                if before.is_some_and(|before| before >= one) || !one.is_valid() {
                    return Err(SbomError::Crate(format!("{} {}", one.name, one.version)));
                }
                before = Some(one);
            }
        }
        let mut before: Option<&str> = None;
        for file in &self.files {
            if before.is_some_and(|before| before >= file.path.as_str()) {
                return Err(SbomError::FileOrder(file.path.clone()));
            }
            before = Some(&file.path);
            let inside = file.path.strip_prefix('/').is_some_and(|rest| tar::check_path(rest).is_ok());
            if !inside || file.path.ends_with('/') {
                return Err(SbomError::Path(file.path.clone()));
            }
            let kind = match file.content {
                Content::Regular(_) => 0o100_000,
                Content::Symlink(_) => 0o120_000,
            };
            if file.mode & !0o7777 != kind {
                return Err(SbomError::Mode(file.path.clone()));
            }
        }
        Ok(())
    }
}

/// Takes what is written only as long as it equals what is expected: a comparison without a second copy.
struct Comparison<'a> {
    expected: &'a [u8],
    at: usize,
    differs: bool,
}

impl Write for Comparison<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let rest = self.expected.get(self.at..).unwrap_or_default();
        if !rest.starts_with(bytes) {
            self.at += rest.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            self.differs = true;
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        self.at += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn sample() -> Sbom {
        let file = |path: &str, content| File {
            path: path.into(),
            mode: if matches!(content, Content::Regular(_)) { 0o100_755 } else { 0o120_777 },
            uid: 0,
            gid: 42,
            content,
            origin: None,
            archive_path: None,
        };
        let purl = "pkg:deb/debian/bash@5.2.37-2?arch=amd64";
        Sbom {
            name: "minimal".into(),
            version: "0.1.0".into(),
            created: "2026-11-22T21:00:00Z".parse().unwrap(),
            owners: vec![
                Owner {
                    kind: OwnerKind::Package {
                        name: "bash".into(),
                        version: "5.2.37-2".into(),
                        purl: purl.into(),
                        archive: Digest::of(b"deb"),
                    },
                    files: vec![
                        File {
                            origin: Some(Origin::Recipe),
                            archive_path: Some("/bin/bash".into()),
                            ..file("/usr/bin/bash", Content::Regular(Digest::of(b"bash")))
                        },
                        file("/usr/bin/rbash", Content::Symlink("ba\"sh\u{1}é".into())),
                    ],
                },
                Owner { kind: OwnerKind::Compose, files: vec![file("/usr/é\n\\", Content::Regular(Digest::of(b"")))] },
                Owner { kind: OwnerKind::Pack { list: Digest::of(b"list") }, files: vec![] },
                Owner {
                    kind: OwnerKind::Program {
                        name: "secai-audit".into(),
                        version: "0.1.0".into(),
                        crates: [("serde", "1.0.228"), ("toml_parser", "1.1.5+spec-1.1.0")]
                            .map(|(name, version)| Crate { name: name.into(), version: version.into() })
                            .into(),
                    },
                    files: vec![file("/usr/libexec/secure-ai/secai-audit", Content::Regular(Digest::of(b"audit")))],
                },
                Owner { kind: OwnerKind::Recipe, files: vec![] },
            ],
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let bytes = sample().render().unwrap();
        assert_eq!(Sbom::parse(&bytes).unwrap(), sample());
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let bash = &value["components"][0]["components"][0];
        assert_eq!(bash["bom-ref"], "file:/usr/bin/bash");
        assert_eq!(bash["properties"][0]["value"], "100755");
        assert_eq!(bash["properties"][1]["value"], "0:42");
        assert_eq!(value["components"][1]["bom-ref"], "secai:compose");
        let program = &value["components"][3];
        assert_eq!(program["bom-ref"], "secai:program:secai-audit");
        assert_eq!(program["components"][1]["purl"], "pkg:cargo/toml_parser@1.1.5%2Bspec-1.1.0");
        assert_eq!(program["components"][2]["type"], "file");
    }

    #[test]
    fn other_spellings_and_shapes_are_refused() {
        let good = String::from_utf8(sample().render().unwrap()).unwrap();
        for (from, to) in [
            ("{\"bomFormat\"", "{ \"bomFormat\""),
            ("\"1.6\"", "\"1.5\""),
            ("\"version\":1,", "\"version\":1,\"serialNumber\":\"x\","),
            ("100755", "0100755"),
            ("100755", "120755"),
            ("100755", "40755"),
            ("0:42", "0:042"),
            ("0:42", "+0:42"),
            ("secai:mode", "secai:mood"),
            ("file:/usr/bin/bash", "file:/usr/bin/dash"),
            ("/usr/bin/rbash", "/usr/bin/rb/../ash"),
            ("SHA-256", "SHA-1"),
            ("secai:compose", "secai:composf"),
            ("\"library\"", "\"application\""),
            ("pkg:cargo/serde@1.0.228\",\"name\"", "pkg:cargo/serde@1.0.227\",\"name\""),
            ("\"purl\":\"pkg:cargo/serde@", "\"purl\":\"pkg:deb/serde@"),
            ("\"name\":\"serde\"", "\"name\":\"toml_parser\""),
            ("\"name\":\"secai-audit\",\"version\":\"0.1.0\"", "\"name\":\"secai-audit\""),
            ("secai:pack\",\"hashes\"", "secai:pack\",\"version\":\"1\",\"hashes\""),
            ("\"name\":\"/usr/bin/bash\"", "\"name\":\"/usr/bin/bash\",\"version\":\"1\""),
            ("}]}", "}]} "),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good, "{from}");
            assert!(Sbom::parse(bad.as_bytes()).is_err(), "{to}");
        }
        for cut in 0..good.len() {
            assert!(Sbom::parse(&good.as_bytes()[..cut]).is_err());
        }
    }

    #[test]
    fn order_and_uniqueness_are_demanded() {
        let mut sbom = sample();
        sbom.owners.swap(0, 1);
        assert!(matches!(sbom.render(), Err(SbomError::OwnerOrder(_))));
        let mut sbom = sample();
        sbom.owners[0].files.swap(0, 1);
        assert!(matches!(sbom.render(), Err(SbomError::FileOrder(_))));
        let mut sbom = sample();
        let twice = sbom.owners[0].files[0].clone();
        sbom.owners[2].files.push(twice);
        assert!(matches!(sbom.render(), Err(SbomError::TwoOwners(_))));
        for change in [
            (|crates| crates.swap(0, 1)) as fn(&mut Vec<Crate>),
            |crates| crates.push(crates[1].clone()),
            |crates| crates[0].name = "a/b".into(),
            |crates| crates[0].version = "v1".into(),
            |crates| crates[0].version = "1%2B".into(),
        ] {
            let mut sbom = sample();
            let OwnerKind::Program { crates, .. } = &mut sbom.owners[3].kind else { panic!() };
            change(crates);
            assert!(matches!(sbom.render(), Err(SbomError::Crate(_))));
        }
    }
}

//! The SBOM's JSON members, in the order in which they stand; strings are borrowed while reading.

use std::borrow::Cow;

use serde::de::Error as _;
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Content, Crate, File, Origin, Owner, OwnerKind, PROGRAM, Sbom};
use crate::digest::Digest;
use crate::time::Time;

const SHA256: &str = "SHA-256";
const MODE: &str = "secai:mode";
const OWNER: &str = "secai:owner";
const TARGET: &str = "secai:target";
const ORIGIN: &str = "secai:origin";
const ARCHIVE_PATH: &str = "secai:archive-path";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Document<'a> {
    bom_format: CycloneDx,
    spec_version: SpecVersion,
    version: One,
    #[serde(borrow)]
    metadata: Metadata<'a>,
    components: Cow<'a, [Owner]>,
}

#[derive(Serialize, Deserialize)]
enum CycloneDx {
    #[serde(rename = "CycloneDX")]
    CycloneDx,
}

#[derive(Serialize, Deserialize)]
enum SpecVersion {
    #[serde(rename = "1.6")]
    V1_6,
}

#[derive(Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
#[derive(Clone)]
struct One;

impl TryFrom<u64> for One {
    type Error = &'static str;
    fn try_from(number: u64) -> Result<Self, Self::Error> {
        if number == 1 { Ok(Self) } else { Err("the document's `version` is not 1") }
    }
}

impl From<One> for u64 {
    fn from(_: One) -> Self {
        1
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata<'a> {
    timestamp: Time,
    #[serde(borrow)]
    component: Image<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Image<'a> {
    r#type: OperatingSystem,
    name: Cow<'a, str>,
    version: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
enum OperatingSystem {
    #[serde(rename = "operating-system")]
    OperatingSystem,
}

impl<'a> From<&'a Sbom> for Document<'a> {
    fn from(sbom: &'a Sbom) -> Self {
        Self {
            bom_format: CycloneDx::CycloneDx,
            spec_version: SpecVersion::V1_6,
            version: One,
            metadata: Metadata {
                timestamp: sbom.created,
                component: Image {
                    r#type: OperatingSystem::OperatingSystem,
                    name: Cow::Borrowed(&sbom.name),
                    version: Cow::Borrowed(&sbom.version),
                },
            },
            components: Cow::Borrowed(&sbom.owners),
        }
    }
}

impl From<Document<'_>> for Sbom {
    fn from(document: Document<'_>) -> Self {
        Self {
            name: document.metadata.component.name.into_owned(),
            version: document.metadata.component.version.into_owned(),
            created: document.metadata.timestamp,
            owners: document.components.into_owned(),
        }
    }
}

#[derive(Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Type {
    Library,
    Application,
    File,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hash<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    content: Digest,
}

impl Hash<'_> {
    fn new(content: Digest) -> [Self; 1] {
        [Self { alg: Cow::Borrowed(SHA256), content }]
    }

    fn read([hash]: [Self; 1]) -> Result<Digest, &'static str> {
        if hash.alg == SHA256 { Ok(hash.content) } else { Err("a hash is not SHA-256") }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Property<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
}

#[derive(Serialize)]
struct OwnerOut<'a> {
    r#type: Type,
    #[serde(rename = "bom-ref")]
    bom_ref: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hashes: Option<[Hash<'a>; 1]>,
    components: Parts<'a>,
}

/// What an owner consists of: a program's crates, then its files.
struct Parts<'a> {
    program: &'a str,
    crates: &'a [Crate],
    files: &'a [File],
}

impl Serialize for Parts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.crates.len() + self.files.len()))?;
        for one in self.crates {
            let purl = one.purl();
            list.serialize_element(&CrateOut {
                r#type: Type::Library,
                // Several programs hold one crate; a reference is one component's.
                bom_ref: format!("{}#{purl}", self.program),
                name: &one.name,
                version: &one.version,
                purl,
            })?;
        }
        for file in self.files {
            list.serialize_element(file)?;
        }
        list.end()
    }
}

#[derive(Serialize)]
struct CrateOut<'a> {
    r#type: Type,
    #[serde(rename = "bom-ref")]
    bom_ref: String,
    name: &'a str,
    version: &'a str,
    purl: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnerIn<'a> {
    r#type: Type,
    #[serde(rename = "bom-ref", borrow)]
    bom_ref: Cow<'a, str>,
    name: String,
    version: Option<String>,
    purl: Option<String>,
    #[serde(borrow)]
    hashes: Option<[Hash<'a>; 1]>,
    components: Vec<PartIn>,
}

/// One of [`Parts`].
enum PartIn {
    Crate(Crate),
    File(File),
}

impl Serialize for Owner {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bom_ref = &*self.kind.bom_ref();
        let stage = OwnerOut {
            r#type: Type::Application,
            bom_ref,
            name: bom_ref,
            version: None,
            purl: None,
            hashes: None,
            components: Parts { program: bom_ref, crates: &[], files: &self.files },
        };
        match &self.kind {
            OwnerKind::Compose | OwnerKind::Recipe => stage,
            OwnerKind::Pack { list } => OwnerOut { hashes: Some(Hash::new(*list)), ..stage },
            OwnerKind::Program { name, version, crates } => OwnerOut {
                name,
                version: Some(version),
                components: Parts { program: bom_ref, crates, files: &self.files },
                ..stage
            },
            OwnerKind::Package { name, version, purl, archive } => OwnerOut {
                r#type: Type::Library,
                name,
                version: Some(version),
                purl: Some(purl),
                hashes: Some(Hash::new(*archive)),
                ..stage
            },
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Owner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = OwnerIn::deserialize(deserializer)?;
        let (mut crates, mut files) = (Vec::new(), Vec::with_capacity(read.components.len()));
        for part in read.components {
            match part {
                PartIn::Crate(one) => crates.push(one),
                PartIn::File(file) => files.push(file),
            }
        }
        // Whatever disagrees between these members is found when the document is rendered again.
        let kind = match (read.r#type, read.version, read.purl, read.hashes) {
            (Type::Library, Some(version), Some(purl), Some(hashes)) => OwnerKind::Package {
                name: read.name,
                version,
                purl,
                archive: Hash::read(hashes).map_err(D::Error::custom)?,
            },
            (Type::Application, Some(version), None, None) if read.bom_ref.starts_with(PROGRAM) => {
                OwnerKind::Program { name: read.name, version, crates: std::mem::take(&mut crates) }
            }
            (Type::Application, None, None, Some(hashes)) if read.bom_ref == "secai:pack" => {
                OwnerKind::Pack { list: Hash::read(hashes).map_err(D::Error::custom)? }
            }
            (Type::Application, None, None, None) => [OwnerKind::Compose, OwnerKind::Recipe]
                .into_iter()
                .find(|kind| kind.bom_ref() == read.bom_ref)
                .ok_or_else(|| D::Error::custom("an application that is neither `secai:compose` nor `secai:recipe`"))?,
            _ => return Err(D::Error::custom("a component that is no package, program, pack or stage")),
        };
        if !crates.is_empty() {
            return Err(D::Error::custom("a component of a component is no file"));
        }
        Ok(Self { kind, files })
    }
}

#[derive(Serialize)]
struct FileOut<'a> {
    r#type: Type,
    #[serde(rename = "bom-ref")]
    bom_ref: String,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hashes: Option<[Hash<'a>; 1]>,
    properties: Vec<Property<'a>>,
}

impl Serialize for File {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut properties = Vec::with_capacity(5);
        let mut add = |name: &'static str, value: Cow<'_, str>| {
            properties.push(Property { name: Cow::Borrowed(name), value: Cow::Owned(value.into_owned()) });
        };
        add(MODE, Cow::Owned(format!("{:o}", self.mode)));
        add(OWNER, Cow::Owned(format!("{}:{}", self.uid, self.gid)));
        if let Content::Symlink(target) = &self.content {
            add(TARGET, Cow::Borrowed(target));
        }
        match self.origin {
            Some(Origin::Compose) => add(ORIGIN, Cow::Borrowed("compose")),
            Some(Origin::Pack) => add(ORIGIN, Cow::Borrowed("pack")),
            Some(Origin::Recipe) => add(ORIGIN, Cow::Borrowed("recipe")),
            None => {}
        }
        if let Some(path) = &self.archive_path {
            add(ARCHIVE_PATH, Cow::Borrowed(path));
        }
        FileOut {
            r#type: Type::File,
            bom_ref: format!("file:{}", self.path),
            name: &self.path,
            hashes: match self.content {
                Content::Regular(digest) => Some(Hash::new(digest)),
                Content::Symlink(_) => None,
            },
            properties,
        }
        .serialize(serializer)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PartJson<'a> {
    r#type: Type,
    #[serde(rename = "bom-ref", borrow)]
    _bom_ref: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    version: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "purl")]
    _purl: Option<Cow<'a, str>>,
    #[serde(borrow)]
    hashes: Option<[Hash<'a>; 1]>,
    #[serde(borrow, default)]
    properties: Vec<Property<'a>>,
}

impl<'de> Deserialize<'de> for PartIn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let part = PartJson::deserialize(deserializer)?;
        // References, members that do not belong there and the order are found when the document is rendered again.
        match (&part.r#type, part.version) {
            (Type::Library, Some(version)) => {
                Ok(Self::Crate(Crate { name: part.name.into_owned(), version: version.into_owned() }))
            }
            (Type::File, version) => PartJson { version, ..part }.file().map(Self::File).map_err(D::Error::custom),
            _ => Err(D::Error::custom("a component of a component is no file")),
        }
    }
}

impl PartJson<'_> {
    /// Order and repetition of properties are not looked at: rendering again finds them.
    fn file(self) -> Result<File, &'static str> {
        let (mut mode, mut owner, mut target, mut origin, mut archive_path) = (None, None, None, None, None);
        for Property { name, value } in self.properties {
            match name.as_ref() {
                MODE => mode = u32::from_str_radix(&value, 8).ok(),
                OWNER => {
                    owner = value.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)))
                }
                TARGET => target = Some(value.into_owned()),
                ORIGIN if value == "compose" => origin = Some(Origin::Compose),
                ORIGIN if value == "pack" => origin = Some(Origin::Pack),
                ORIGIN if value == "recipe" => origin = Some(Origin::Recipe),
                ARCHIVE_PATH => archive_path = Some(value.into_owned()),
                _ => return Err("a file's property is unknown"),
            }
        }
        let content = match (self.hashes, target) {
            (Some(hashes), None) => Content::Regular(Hash::read(hashes)?),
            (None, Some(target)) => Content::Symlink(target),
            _ => return Err("a file has neither or both of a hash and a target"),
        };
        let (uid, gid) = owner.ok_or("a file's `secai:owner` is missing or malformed")?;
        Ok(File {
            path: self.name.into_owned(),
            mode: mode.ok_or("a file's `secai:mode` is missing or malformed")?,
            uid,
            gid,
            content,
            origin,
            archive_path,
        })
    }
}

//! The OCI documents of an image: layout, index, manifest, config, each canonical and without unknown members.
//!
//! Types hold what may differ between two images; what must not is checked while reading and filled in
//! while writing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::canonical::{JsonError, from_canonical, to_canonical};
use crate::digest::{self, Digest};
use crate::layout::{
    COMPONENT_SEPARATOR, CONFIG_TYPE, INDEX_TYPE, LABEL_BOOTABLE, LABEL_BOOTC, LABEL_COMMIT, LABEL_FINAL_DIFFID,
    LABEL_LINUX, LABEL_OCI_VERSION, LABEL_VERSION, LAYER_TYPE, MANIFEST_TYPE, OSTREE_COMPONENTS, REF_NAME,
};
use crate::limits::LAYERS_MAX;
use crate::release::is_version;
use crate::time::Time;

/// Bytes of `oci-layout`.
pub const OCI_LAYOUT_BYTES: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Why a document is not taken.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// Not canonical JSON of the expected shape.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A member that has one value only has another.
    #[error("`{0}` has another value than `{1}`")]
    Fixed(&'static str, &'static str),
    /// There is not exactly one manifest.
    #[error("the index names {0} manifests instead of one")]
    Manifests(usize),
    /// No layer, or above [`LAYERS_MAX`].
    #[error("there are {0} layers instead of 1 to {LAYERS_MAX}")]
    Layers(usize),
    /// One layer stands twice.
    #[error("the layer {0} stands twice")]
    LayerTwice(Digest),
    /// Annotations or labels are others than the format's.
    #[error("the annotations or labels of {0} are others than this format has")]
    Labels(&'static str),
    /// Not one entry of `diff_ids` and `history` for each layer.
    #[error("`{0}` has not as many entries as there are layers")]
    Count(&'static str),
    /// A value has characters that it may not have.
    #[error("`{0}` has a value that it may not have")]
    Value(&'static str),
    /// Dates part.
    #[error("a `created` differs from the image's")]
    Created,
}

/// Bytes elsewhere: media type, digest and size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(with = "digest::oci")]
    digest: Digest,
    media_type: String,
    size: u64,
}

/// A blob, by digest and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blob {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// How many bytes.
    pub size: u64,
}

impl Blob {
    /// What these bytes are.
    pub fn of(bytes: &[u8]) -> Self {
        Self { digest: Digest::of(bytes), size: bytes.len() as u64 }
    }

    fn describe(self, media_type: &str, annotations: BTreeMap<String, String>) -> RawDescriptor {
        RawDescriptor { annotations, digest: self.digest, media_type: media_type.to_owned(), size: self.size }
    }
}

impl RawDescriptor {
    fn blob(&self, member: &'static str, media_type: &'static str) -> Result<Blob, OciError> {
        if self.media_type != media_type {
            return Err(OciError::Fixed(member, media_type));
        }
        Ok(Blob { digest: self.digest, size: self.size })
    }
}

fn one(key: &str, value: String) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value)])
}

/// `index.json`: one manifest and the version it is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The manifest.
    pub manifest: Blob,
    /// The version, as annotation of its descriptor.
    pub version: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawIndex {
    manifests: Vec<RawDescriptor>,
    media_type: String,
    schema_version: u32,
}

fn fixed(media_type: &str, expected: &'static str, schema_version: u32) -> Result<(), OciError> {
    if media_type != expected {
        return Err(OciError::Fixed("mediaType", expected));
    }
    if schema_version != 2 {
        return Err(OciError::Fixed("schemaVersion", "2"));
    }
    Ok(())
}

impl Index {
    /// Reads `index.json`.
    pub fn parse(bytes: &[u8]) -> Result<Self, OciError> {
        let raw: RawIndex = from_canonical(bytes)?;
        fixed(&raw.media_type, INDEX_TYPE, raw.schema_version)?;
        let [descriptor] = raw.manifests.as_slice() else {
            return Err(OciError::Manifests(raw.manifests.len()));
        };
        let manifest = descriptor.blob("manifests.mediaType", MANIFEST_TYPE)?;
        let version = descriptor.annotations.get(REF_NAME).filter(|version| is_version(version));
        let index = Self { manifest, version: version.ok_or(OciError::Labels("the manifest's descriptor"))?.clone() };
        if descriptor.annotations.len() != 1 {
            return Err(OciError::Labels("the manifest's descriptor"));
        }
        Ok(index)
    }

    /// The bytes of `index.json`.
    pub fn render(&self) -> Result<Vec<u8>, OciError> {
        let descriptor = self.manifest.describe(MANIFEST_TYPE, one(REF_NAME, self.version.clone()));
        Ok(to_canonical(&RawIndex {
            manifests: vec![descriptor],
            media_type: INDEX_TYPE.to_owned(),
            schema_version: 2,
        })?)
    }
}

/// The labels of a config, and at once the annotations of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// `ostree.commit`
    pub commit: Digest,
    /// `ostree.final-diffid`: the last layer's.
    pub final_diff_id: Digest,
    /// `ostree.linux`: the kernel's release.
    pub linux: String,
    /// `version` and `org.opencontainers.image.version`.
    pub version: String,
}

impl Labels {
    fn to_map(&self) -> BTreeMap<String, String> {
        [
            (LABEL_BOOTC, "1".to_owned()),
            (LABEL_BOOTABLE, "true".to_owned()),
            (LABEL_COMMIT, self.commit.to_string()),
            (LABEL_FINAL_DIFFID, self.final_diff_id.oci()),
            (LABEL_LINUX, self.linux.clone()),
            (LABEL_OCI_VERSION, self.version.clone()),
            (LABEL_VERSION, self.version.clone()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }

    fn from_map(map: &BTreeMap<String, String>, place: &'static str) -> Result<Self, OciError> {
        let text = |key| map.get(key).map_or("", String::as_str);
        let labels = Self {
            commit: text(LABEL_COMMIT).parse().map_err(|_| OciError::Labels(place))?,
            final_diff_id: Digest::parse_oci(text(LABEL_FINAL_DIFFID)).map_err(|_| OciError::Labels(place))?,
            linux: text(LABEL_LINUX).to_owned(),
            version: text(LABEL_VERSION).to_owned(),
        };
        if labels.to_map() != *map || labels.linux.is_empty() || !is_version(&labels.version) {
            return Err(OciError::Labels(place));
        }
        Ok(labels)
    }
}

/// A layer in a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The compressed archive.
    pub blob: Blob,
    /// Owners of what is in it, strictly ascending; empty for the first layer only.
    pub components: Vec<String>,
}

/// The manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The config.
    pub config: Blob,
    /// The layers, the metadata layer first.
    pub layers: Vec<Layer>,
    /// Its annotations.
    pub labels: Labels,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawManifest {
    annotations: BTreeMap<String, String>,
    config: RawDescriptor,
    layers: Vec<RawDescriptor>,
    media_type: String,
    schema_version: u32,
}

impl Manifest {
    /// Reads a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, OciError> {
        let raw: RawManifest = from_canonical(bytes)?;
        fixed(&raw.media_type, MANIFEST_TYPE, raw.schema_version)?;
        if !raw.config.annotations.is_empty() {
            return Err(OciError::Labels("the config's descriptor"));
        }
        let layers = raw.layers.iter().map(|layer| {
            Ok(Layer { blob: layer.blob("layers.mediaType", LAYER_TYPE)?, components: components(&layer.annotations)? })
        });
        let manifest = Self {
            config: raw.config.blob("config.mediaType", CONFIG_TYPE)?,
            layers: layers.collect::<Result<_, OciError>>()?,
            labels: Labels::from_map(&raw.annotations, "the manifest")?,
        };
        manifest.validate()?;
        Ok(manifest)
    }

    /// The bytes of the manifest.
    pub fn render(&self) -> Result<Vec<u8>, OciError> {
        self.validate()?;
        let layers = self.layers.iter().map(|layer| {
            let joined = layer.components.join(&COMPONENT_SEPARATOR.to_string());
            let annotations = if joined.is_empty() { BTreeMap::new() } else { one(OSTREE_COMPONENTS, joined) };
            layer.blob.describe(LAYER_TYPE, annotations)
        });
        Ok(to_canonical(&RawManifest {
            annotations: self.labels.to_map(),
            config: self.config.describe(CONFIG_TYPE, BTreeMap::new()),
            layers: layers.collect(),
            media_type: MANIFEST_TYPE.to_owned(),
            schema_version: 2,
        })?)
    }

    fn validate(&self) -> Result<(), OciError> {
        if !(1..=LAYERS_MAX).contains(&self.layers.len()) {
            return Err(OciError::Layers(self.layers.len()));
        }
        let mut seen = BTreeSet::new();
        for (position, layer) in self.layers.iter().enumerate() {
            if !seen.insert(layer.blob.digest) {
                return Err(OciError::LayerTwice(layer.blob.digest));
            }
            let ascending = layer.components.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
            let plain = layer.components.iter().all(|name| !name.is_empty() && !name.contains(COMPONENT_SEPARATOR));
            if layer.components.is_empty() != (position == 0) || !ascending || !plain {
                return Err(OciError::Labels("a layer"));
            }
        }
        Ok(())
    }
}

fn components(annotations: &BTreeMap<String, String>) -> Result<Vec<String>, OciError> {
    match (annotations.len(), annotations.get(OSTREE_COMPONENTS)) {
        (0, _) => Ok(Vec::new()),
        (1, Some(joined)) => Ok(joined.split(COMPONENT_SEPARATOR).map(str::to_owned).collect()),
        _ => Err(OciError::Labels("a layer")),
    }
}

/// The config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `amd64`
    pub architecture: String,
    /// The commit's date.
    pub created: Time,
    /// Its labels.
    pub labels: Labels,
    /// SHA-256 of each uncompressed layer.
    pub diff_ids: Vec<Digest>,
    /// What made each layer.
    pub history: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    architecture: String,
    config: RawContainer,
    created: Time,
    history: Vec<RawHistory>,
    os: String,
    rootfs: RawRootfs,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RawContainer {
    labels: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHistory {
    created: Time,
    created_by: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRootfs {
    #[serde(with = "digest::oci_list")]
    diff_ids: Vec<Digest>,
    r#type: String,
}

impl Config {
    /// Reads a config.
    pub fn parse(bytes: &[u8]) -> Result<Self, OciError> {
        let raw: RawConfig = from_canonical(bytes)?;
        if raw.os != "linux" {
            return Err(OciError::Fixed("os", "linux"));
        }
        if raw.rootfs.r#type != "layers" {
            return Err(OciError::Fixed("rootfs.type", "layers"));
        }
        if raw.history.iter().any(|entry| entry.created != raw.created) {
            return Err(OciError::Created);
        }
        let config = Self {
            architecture: raw.architecture,
            created: raw.created,
            labels: Labels::from_map(&raw.config.labels, "the config")?,
            diff_ids: raw.rootfs.diff_ids,
            history: raw.history.into_iter().map(|entry| entry.created_by).collect(),
        };
        config.validate()?;
        Ok(config)
    }

    /// The bytes of the config.
    pub fn render(&self) -> Result<Vec<u8>, OciError> {
        self.validate()?;
        let history = self.history.iter().map(|by| RawHistory { created: self.created, created_by: by.clone() });
        Ok(to_canonical(&RawConfig {
            architecture: self.architecture.clone(),
            config: RawContainer { labels: self.labels.to_map() },
            created: self.created,
            history: history.collect(),
            os: "linux".to_owned(),
            rootfs: RawRootfs { diff_ids: self.diff_ids.clone(), r#type: "layers".to_owned() },
        })?)
    }

    fn validate(&self) -> Result<(), OciError> {
        if !(1..=LAYERS_MAX).contains(&self.diff_ids.len()) {
            return Err(OciError::Layers(self.diff_ids.len()));
        }
        if self.history.len() != self.diff_ids.len() {
            return Err(OciError::Count("history"));
        }
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if self.architecture.is_empty() || !self.architecture.chars().all(plain) {
            return Err(OciError::Value("architecture"));
        }
        if self.diff_ids.last() != Some(&self.labels.final_diff_id) {
            return Err(OciError::Labels("the config (`ostree.final-diffid` is not the last layer's)"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Labels {
        Labels {
            commit: Digest::of(b"c"),
            final_diff_id: Digest::of(b"2"),
            linux: "6.12".into(),
            version: "0.1.0".into(),
        }
    }

    fn manifest() -> Manifest {
        let layer = |bytes: &[u8], components: &[&str]| Layer {
            blob: Blob::of(bytes),
            components: components.iter().map(|&name| name.to_owned()).collect(),
        };
        Manifest {
            config: Blob::of(b"config"),
            layers: vec![layer(b"0", &[]), layer(b"1", &["a", "b"])],
            labels: labels(),
        }
    }

    fn config() -> Config {
        Config {
            architecture: "amd64".into(),
            created: "2026-11-22T21:00:00Z".parse().unwrap(),
            labels: labels(),
            diff_ids: vec![Digest::of(b"1"), Digest::of(b"2")],
            history: vec!["metadata".into(), "a,b".into()],
        }
    }

    #[test]
    fn each_document_reads_what_it_writes() {
        let index = Index { manifest: Blob::of(b"m"), version: "0.1.0".into() };
        assert_eq!(Index::parse(&index.render().unwrap()).unwrap(), index);
        assert_eq!(Manifest::parse(&manifest().render().unwrap()).unwrap(), manifest());
        assert_eq!(Config::parse(&config().render().unwrap()).unwrap(), config());
    }

    #[test]
    fn unknown_members_and_other_values_are_refused() {
        let text = String::from_utf8(manifest().render().unwrap()).unwrap();
        for (from, to) in [
            ("\"schemaVersion\":2", "\"schemaVersion\":1"),
            ("\"schemaVersion\":2", "\"schemaVersion\":2,\"subject\":{}"),
            ("tar+zstd", "tar+gzip"),
            ("\"a,b\"", "\"b,a\""),
            ("\"a,b\"", "\"a,,b\""),
            ("\"a,b\"", "\"\""),
            ("\"ostree.bootable\":\"true\",", ""),
            ("\"version\":\"0.1.0\"", "\"version\":\"0.2.0\""),
            ("\"size\":6", "\"size\":-6"),
        ] {
            let bad = text.replacen(from, to, 1);
            assert_ne!(bad, text, "{from}");
            assert!(Manifest::parse(bad.as_bytes()).is_err(), "{to}");
        }
        let text = String::from_utf8(config().render().unwrap()).unwrap();
        for (from, to) in [
            ("linux\",\"rootfs", "Linux\",\"rootfs"),
            ("amd64", "AMD64"),
            ("2026-11-22T21:00:00Z\",\"history", "2026-11-22T21:00:01Z\",\"history"),
            ("\"type\":\"layers\"", "\"type\":\"layer\""),
        ] {
            let bad = text.replacen(from, to, 1);
            assert_ne!(bad, text, "{from}");
            assert!(Config::parse(bad.as_bytes()).is_err(), "{to}");
        }
    }

    #[test]
    fn layers_are_counted_and_distinct() {
        let mut none = manifest();
        none.layers.clear();
        assert!(matches!(none.render(), Err(OciError::Layers(0))));
        let mut twice = manifest();
        twice.layers[1].blob = twice.layers[0].blob;
        assert!(matches!(twice.render(), Err(OciError::LayerTwice(_))));
        let mut parted = config();
        parted.diff_ids.reverse();
        assert!(parted.render().is_err());
    }
}

//! Stage 4: the commit inside an OCI image, in the ostree-encapsulated, chunked form.
//!
//! Layer 0 holds commit, folders and trees; every further layer the files of some packages, so that an update
//! moves few layers. Layers are written in parallel, each in one pass: tar → both digests → zstd. A layer whose
//! content is in the cache is not compressed again.

mod layer;
mod pack;

use crate::cache::Cache;
use crate::commit::Commit;
use crate::error::{At, Error};
use crate::plan::Plan;
use crate::rootfs::Rootfs;
use crate::stage::{Inputs, State, Workspace};
use oci_spec::image as spec;
use rayon::prelude::*;
use secai_verifier::canonical::to_canonical;
use secai_verifier::digest::Digest;
use secai_verifier::oci::{self, Blob};
use secai_verifier::sbom::Owner;
use secai_verifier::{layout, tar as canonical_tar};
use serde::Serialize;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::str::FromStr;

pub use layer::{LEVEL, LayerFile};

/// What the fourth stage hands on.
#[derive(Debug)]
pub struct Image {
    /// The manifest.
    pub manifest: Blob,
    /// Compressed bytes of all layers.
    pub bytes: u64,
    /// Number of layers.
    pub layers: usize,
}

/// What the image stage is made from.
pub fn inputs(plan: &Plan, commit: &Commit, owners: &[Owner]) -> Inputs {
    Inputs::new()
        .with("builder", &plan.builder)
        .with("commit", commit.checksum)
        .with("owners", Digest::of(format!("{owners:?}").as_bytes()))
        .with("zstd", zstd::zstd_safe::version_string())
        .with("level", LEVEL)
}

/// Makes the image layout, or finds it made.
///
/// # Errors
/// [`Error::Tree`] for what the format cannot hold, [`Error::ChangedUnderneath`], I/O.
pub fn build(
    plan: &Plan,
    rootfs: &Rootfs,
    commit: &Commit,
    owners: &[Owner],
    workspace: &Workspace,
    cache: &Cache,
    say: &dyn Fn(&str),
) -> Result<Image, Error> {
    let inputs = inputs(plan, commit, owners);
    let output = workspace.output("image");
    if workspace.state("image", &inputs) == State::Cached
        && let Some(kept) = read(&output)
    {
        return Ok(kept);
    }
    let partial = workspace.begin("image")?;
    say("writing layers");
    fs::create_dir_all(partial.join(layout::in_image(layout::BLOBS_DIR))).at("create", &partial)?;
    let (kept, scratch) = (cache.folder("layers")?, cache.scratch()?);
    let store = layer::Store { kept: &kept, scratch: scratch.path() };
    let bins = pack::pack(owners, commit);
    // Largest first: two cores then finish together.
    let mut order: Vec<usize> = (0..bins.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(bins.get(*i).map_or(0, pack::Bin::bytes)));
    let root = commit.tree.folders.first().ok_or_else(|| Error::Tree("it has no root".into()))?;
    let preamble = canonical_tar::preamble(root.mode, root.uid, root.gid);
    let first = layer::metadata_layer(commit, &preamble, &store)?;
    let mut made: Vec<(usize, LayerFile)> = order
        .into_par_iter()
        .with_max_len(1)
        .filter_map(|i| bins.get(i).map(|bin| (i, bin)))
        .map(|(i, bin)| layer::file_layer(bin, commit, &rootfs.path, &preamble, &store).map(|l| (i, l)))
        .collect::<Result<_, _>>()?;
    made.sort_by_key(|(i, _)| *i);
    let mut layers = vec![(first, Vec::new())];
    layers.extend(made.into_iter().map(|(i, l)| (l, bins.get(i).map(|b| b.names.clone()).unwrap_or_default())));
    let image = assemble(plan, commit, &layers, &partial)?;
    workspace.finish("image", &inputs)?;
    Ok(image)
}

/// Writes blobs, config, manifest and index into an image layout.
fn assemble(plan: &Plan, commit: &Commit, layers: &[(LayerFile, Vec<String>)], to: &Path) -> Result<Image, Error> {
    let blobs = to.join(layout::in_image(layout::BLOBS_DIR));
    for (layer, _) in layers {
        link_or_copy(&layer.path, &blobs.join(layer.blob.digest.to_string()))?;
    }
    let last = layers.last().map(|(l, _)| l.diff_id).unwrap_or(commit.checksum);
    let labels = HashMap::from([
        (layout::LABEL_BOOTC.to_owned(), "1".to_owned()),
        (layout::LABEL_BOOTABLE.to_owned(), "true".to_owned()),
        (layout::LABEL_COMMIT.to_owned(), commit.checksum.to_string()),
        (layout::LABEL_FINAL_DIFFID.to_owned(), last.oci()),
        (layout::LABEL_LINUX.to_owned(), commit.kernel.clone()),
        (layout::LABEL_OCI_VERSION.to_owned(), plan.recipe.version.clone()),
        (layout::LABEL_VERSION.to_owned(), plan.recipe.version.clone()),
    ]);
    let created = crate::attest::date(plan)?.to_string();
    let history = layers
        .iter()
        .map(|(_, names)| {
            let what = if names.is_empty() { "ostree commit and folders".to_owned() } else { names.join(" ") };
            spec::HistoryBuilder::default().created(&created).created_by(format!("secai-build: {what}")).build()
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(unfit)?;
    let diff_ids: Vec<String> = layers.iter().map(|(l, _)| l.diff_id.oci()).collect();
    let config = spec::ImageConfigurationBuilder::default()
        .architecture(spec::Arch::Amd64)
        .os(spec::Os::Linux)
        .created(&created)
        .config(spec::ConfigBuilder::default().labels(labels.clone()).build().map_err(unfit)?)
        .rootfs(spec::RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build().map_err(unfit)?)
        .history(history)
        .build()
        .map_err(unfit)?;
    let config = put(&config, &blobs, |bytes| oci::Config::parse(bytes).map(drop))?;
    let descriptors = layers
        .iter()
        .map(|(layer, names)| {
            let mut d = descriptor(spec::MediaType::ImageLayerZstd, &layer.blob)?;
            if !names.is_empty() {
                let joined = names.join(&layout::COMPONENT_SEPARATOR.to_string());
                d.set_annotations(Some(HashMap::from([(layout::OSTREE_COMPONENTS.to_owned(), joined)])));
            }
            Ok(d)
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let manifest = spec::ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(spec::MediaType::ImageManifest)
        .config(descriptor(spec::MediaType::ImageConfig, &config)?)
        .layers(descriptors)
        .annotations(labels)
        .build()
        .map_err(unfit)?;
    let manifest = put(&manifest, &blobs, |bytes| oci::Manifest::parse(bytes).map(drop))?;
    let index = oci::Index { manifest, version: plan.recipe.version.clone() };
    let index = index.render().map_err(|e| Error::Tree(e.to_string()))?;
    for (name, bytes) in [(layout::OCI_LAYOUT, oci::OCI_LAYOUT_BYTES), (layout::INDEX, &index)] {
        let name = layout::in_image(name);
        fs::write(to.join(name), bytes).at("write", to.join(name))?;
    }
    let bytes = layers.iter().map(|(l, _)| l.blob.size).sum();
    Ok(Image { manifest, bytes, layers: layers.len() })
}

fn unfit(e: oci_spec::OciSpecError) -> Error {
    Error::Tree(format!("the image model refuses it: {e}"))
}

fn descriptor(kind: spec::MediaType, blob: &Blob) -> Result<spec::Descriptor, Error> {
    let digest = spec::Digest::from_str(&blob.digest.oci()).map_err(unfit)?;
    Ok(spec::Descriptor::new(kind, blob.size, digest))
}

/// Writes a document canonically as a blob; the verifier's own strict reader must agree that it is one.
fn put<E: std::fmt::Display>(
    document: &impl Serialize,
    blobs: &Path,
    check: impl Fn(&[u8]) -> Result<(), E>,
) -> Result<Blob, Error> {
    let bytes = to_canonical(document).map_err(|e| Error::Tree(e.to_string()))?;
    check(&bytes).map_err(|e| Error::Tree(format!("the image's own description is refused: {e}")))?;
    let blob = Blob::of(&bytes);
    let path = blobs.join(blob.digest.to_string());
    fs::write(&path, &bytes).at("write", &path)?;
    Ok(blob)
}

/// What a finished stage left, if every blob is still what its name says: bundles link to them, and an edit there is
/// an edit here.
fn read(output: &Path) -> Option<Image> {
    let blobs = output.join(layout::in_image(layout::BLOBS_DIR));
    let index = oci::Index::parse(&fs::read(output.join(layout::in_image(layout::INDEX))).ok()?).ok()?;
    let bytes = fs::read(blobs.join(index.manifest.digest.to_string())).ok()?;
    let manifest = oci::Manifest::parse(&bytes).ok()?;
    let mut named: Vec<Blob> = manifest.layers.iter().map(|l| l.blob).collect();
    named.extend([index.manifest, manifest.config]);
    let whole = named
        .par_iter()
        .with_max_len(1)
        .all(|blob| crate::cache::sha256(&blobs.join(blob.digest.to_string())).is_ok_and(|found| found == blob.digest));
    whole.then(|| Image {
        manifest: index.manifest,
        bytes: manifest.layers.iter().map(|l| l.blob.size).sum(),
        layers: manifest.layers.len(),
    })
}

/// Puts a file at another place: a link where the file system allows it.
///
/// # Errors
/// I/O.
pub fn link_or_copy(from: &Path, to: &Path) -> Result<(), Error> {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).at("copy", from)?;
    }
    Ok(())
}

//! The layers, all at once, and what the commit and the SBOM say about them.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::sync::Mutex;

use super::documents::{Digests, Documents, compare_blob};
use super::{Bundle, Fault, Stages, Summary, hex};
use crate::digest::Digest;
use crate::layer::{self, Contents, Layer};
use crate::layout::{BLOBS_DIR, COMMIT_OBJECT, blob_path};
use crate::oci::{Blob, Manifest};
use crate::ostree::Commit;
use crate::refusal::Refusal;
use crate::sbom::{OwnerKind, Sbom, SbomError};
use crate::{accounts, tree};

/// Reads every layer and compares it; counts when there was nothing to refuse.
pub(super) fn read(
    bundle: &Bundle,
    documents: &Documents,
    stages: &mut Stages,
    digests: &mut Digests,
) -> Result<Option<Summary>, Fault> {
    let Some(manifest) = &documents.manifest else {
        // The SBOM is judged in itself all the same.
        documents
            .sbom()
            .map(Sbom::parse)
            .and_then(Result::err)
            .into_iter()
            .for_each(|error| stages.sbom.add(malformed(&error)));
        return Ok(None);
    };
    unreferenced(bundle, documents, manifest, stages);
    let (layers, sbom) = read_layers(bundle, manifest, documents)?;
    let sbom = match sbom {
        Some(Ok(sbom)) => {
            stages.sbom.extend(names_this_image(&sbom, documents, manifest));
            Some(sbom)
        }
        Some(Err(error)) => {
            stages.sbom.add(malformed(&error));
            None
        }
        None => None,
    };
    let Some(layers) = judge_layers(manifest, documents, layers, stages, digests) else { return Ok(None) };
    let files = layers.iter().map(|contents| contents.paths.len()).sum();
    judge_commit(documents, &layers, stages);
    let Some(sbom) = sbom else { return Ok(None) };
    stages.sbom.extend(accounts::compare(&sbom, &layers));
    let packages = sbom.owners.iter().filter(|owner| matches!(owner.kind, OwnerKind::Package { .. })).count();
    Ok(Some(Summary { files, packages, layers: layers.len(), ..Summary::default() }))
}

fn malformed(error: &SbomError) -> Refusal {
    Refusal::SbomMalformed { reason: error.to_string() }
}

fn unreferenced(bundle: &Bundle, documents: &Documents, manifest: &Manifest, stages: &mut Stages) {
    let mut reached: BTreeSet<Digest> = manifest.layers.iter().map(|layer| layer.blob.digest).collect();
    reached.insert(manifest.config.digest);
    reached.extend(documents.image().map(|image| image.digest));
    for (path, _) in bundle.files() {
        let blob = path
            .strip_prefix(BLOBS_DIR)
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|hex| hex.parse::<Digest>().ok());
        if let Some(blob) = blob.filter(|blob| !reached.contains(blob)) {
            stages.image.add(Refusal::BlobUnreferenced { blob: hex(&blob) });
        }
    }
}

type ReadLayers = Vec<Option<Layer>>;

/// Layers on every core, the largest first, while this thread reads the SBOM. Absent blobs stay `None`.
fn read_layers(
    bundle: &Bundle,
    manifest: &Manifest,
    documents: &Documents,
) -> Result<(ReadLayers, Option<Result<Sbom, SbomError>>), Fault> {
    let mut order: Vec<(usize, Blob)> = manifest.layers.iter().map(|layer| layer.blob).enumerate().collect();
    order.retain(|(_, blob)| bundle.size(&blob_path(&blob.digest)).is_some());
    order.sort_by_key(|(_, blob)| blob.size);
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get).min(order.len());
    let queue = Mutex::new(order);
    let work = || {
        let mut done = Vec::new();
        loop {
            // The queue is only popped: a thread that died cannot have left it half changed.
            let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
            let Some((number, blob)) = next else { return Ok(done) };
            let path = blob_path(&blob.digest);
            done.push((number, layer::read(number, bundle.open(&path)?).map_err(bundle.unreadable(&path))?));
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let sbom = documents.sbom().map(Sbom::parse);
        let mut layers: ReadLayers = manifest.layers.iter().map(|_| None).collect();
        for thread in threads {
            let done: Result<Vec<_>, Fault> = match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            for (number, layer) in done? {
                if let Some(place) = layers.get_mut(number) {
                    *place = Some(layer);
                }
            }
        }
        Ok((layers, sbom))
    })
}

/// What each layer is in itself; the contents when every layer's could be read.
fn judge_layers(
    manifest: &Manifest,
    documents: &Documents,
    layers: ReadLayers,
    stages: &mut Stages,
    digests: &mut Digests,
) -> Option<Vec<Contents>> {
    let mut contents = Vec::with_capacity(layers.len());
    for (number, (described, layer)) in manifest.layers.iter().zip(layers).enumerate() {
        let path = blob_path(&described.blob.digest);
        let Some(layer) = layer else {
            stages.layout.add(Refusal::FileMissing { path });
            continue;
        };
        digests.insert(path, layer.blob);
        compare_blob(described.blob, Blob { digest: layer.blob, size: layer.size }, stages);
        stages.layers.extend(layer.refusals);
        let named = documents.config.as_ref().and_then(|config| config.diff_ids.get(number));
        if let (Some(named), Some(found)) = (named, layer.diff_id)
            && *named != found
        {
            stages.image.add(Refusal::DiffIdDiffers { layer: number });
        }
        contents.extend(layer.contents);
    }
    (contents.len() == manifest.layers.len()).then_some(contents)
}

fn judge_commit(documents: &Documents, layers: &[Contents], stages: &mut Stages) {
    let Some((checksum, bytes)) = layers.first().and_then(|metadata| metadata.commit.as_ref()) else { return };
    if let Some((found, _)) = documents.commit.as_ref().filter(|(found, _)| found != checksum) {
        stages.commit.add(Refusal::CommitObjectDiffersFromLayer { found: hex(found), layer: hex(checksum) });
    }
    match Commit::parse(bytes) {
        Ok(commit) => stages.commit.extend(tree::compare(&commit, layers)),
        Err(error) => {
            stages.commit.add(Refusal::CommitMalformed { path: COMMIT_OBJECT.to_owned(), reason: error.to_string() })
        }
    }
}

/// Name, version and date in the SBOM are the image's.
fn names_this_image(sbom: &Sbom, documents: &Documents, manifest: &Manifest) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut compare = |found: String, named: String| {
        if found != named {
            refusals.push(Refusal::SbomNamesAnotherImage { found, named });
        }
    };
    if let Some(release) = &documents.release {
        compare(release.name.clone(), sbom.name.clone());
    }
    compare(manifest.labels.version.clone(), sbom.version.clone());
    if let Some((_, Some(commit))) = &documents.commit {
        compare(commit.timestamp.to_string(), sbom.created.to_string());
    }
    refusals
}

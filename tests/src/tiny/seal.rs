//! Makes a changed bundle: every artefact in the order in which one points to another, each step where it belongs.
//!
//! An artefact is made from those before it (when re-sealed; else it is what it was), changed by its steps, and
//! what comes after sees the changed bytes. So a step in a pointer itself (a digest in `release`) is not
//! overwritten, and nothing that does not point to a change is touched.

use secai_verifier::digest::Digest;
use secai_verifier::dsse::Envelope;
use secai_verifier::layout::{self, blob_path};
use secai_verifier::oci::{self, Blob, Config, Index, Labels, Manifest};
use secai_verifier::ostree::commitmeta;
use secai_verifier::release::{Artifact, Release};
use secai_verifier::statement;
use secai_verifier::sums::Sums;
use secai_verifier::trust::RoleName;
use serde_json::Value;

use super::change::{Op, Place, Seal, Signer, Source, Step};
use super::maker::{Maker, NAME, VERSION};
use super::parts::{Layer, Parts};
use super::{Case, Files, edit, layer};

/// Changes the maker's bundle.
///
/// # Panics
/// When a step makes no sense where it stands: a test that changes nothing tests nothing.
pub fn apply(maker: &Maker, steps: &[Step], seal: Seal) -> Case {
    let base = maker.parts().clone();
    let from = tree(maker, steps, seal, &base);
    let mut case = maker.untouched();
    case.files.clear();
    let mut work = Work { maker, steps, follow: seal == Seal::All, base, from, case, used: 0 };
    let layers = work.layers();
    let commit = work.commit();
    let config = work.config(&layers, commit.as_deref());
    let manifest = work.manifest(&layers, config.as_deref());
    work.index(manifest.as_deref());
    let document = work.sbom(manifest.as_deref());
    work.release(manifest.as_deref(), commit.as_deref(), &document);
    work.bundle();
    work.sums(seal != Seal::None);
    work.trust();
    assert_eq!(work.used, steps.len(), "a step did nothing: {steps:?}");
    work.case
}

/// The bundle that the artefacts come from before their own steps: of a changed tree when there are steps in it.
fn tree(maker: &Maker, steps: &[Step], seal: Seal, base: &Parts) -> Parts {
    let changes: Vec<Op> = steps.iter().filter(|step| step.place == Place::Tree).map(|step| step.op.clone()).collect();
    if changes.is_empty() {
        return base.clone();
    }
    let mut made = Parts::of(&maker.release(&maker.content(NAME, VERSION, &changes), 2, "dev"));
    let stays = |place| steps.iter().any(|step| step.place == place && step.op == Op::Stay);
    if stays(Place::Commit) || seal != Seal::All {
        made.commit = base.commit.clone();
        made.layers[0] = base.layers[0].clone();
    }
    if stays(Place::Sbom) || seal != Seal::All {
        made.document = base.document.clone();
    }
    if seal != Seal::All {
        // Changed layers lie where the old ones lay; that they are as many is what makes the change naive.
        assert_eq!(made.layers.len(), base.layers.len(), "only a re-sealed change can change the number of layers");
        let layers = made.layers.into_iter().zip(&base.layers);
        let layers =
            layers.map(|(made, base)| Layer { blob: made.blob, archive: made.archive, ..base.clone() }).collect();
        return Parts { layers, ..base.clone() };
    }
    made
}

struct Work<'a> {
    maker: &'a Maker,
    steps: &'a [Step],
    follow: bool,
    base: Parts,
    from: Parts,
    case: Case,
    used: usize,
}

impl Work<'_> {
    fn ops(&mut self, place: &Place) -> Vec<Op> {
        let ops: Vec<Op> = self.steps.iter().filter(|step| step.place == *place).map(|step| step.op.clone()).collect();
        self.used += ops.len();
        ops
    }

    fn source(&self, source: Source) -> &Files {
        match source {
            Source::Other => &self.maker.other,
            Source::Older => &self.maker.older,
        }
    }

    /// Applies the steps of a whole file that is no blob, and lays it.
    fn file(&mut self, place: Place, path: &str, bytes: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let mut bytes = bytes;
        for op in self.ops(&place) {
            bytes = match op {
                Op::Remove => None,
                // Whoever made the bytes saw to it.
                Op::Signers { .. } => bytes,
                Op::Take { from } => Some(self.source(from)[path].clone()),
                Op::Add { from } => {
                    let beside = match path.rsplit_once('.') {
                        Some((name, ending)) => format!("{name}-2.{ending}"),
                        None => format!("{path}-2"),
                    };
                    let other = self.source(from)[path].clone();
                    self.case.files.insert(beside, other);
                    bytes
                }
                op => Some(changed(&op, bytes.unwrap())),
            };
        }
        if let Some(bytes) = &bytes {
            self.case.files.insert(path.to_owned(), bytes.clone());
        }
        bytes
    }

    fn blob(&mut self, bytes: Vec<u8>, old_path: &str) {
        let path = if self.follow { blob_path(&Digest::of(&bytes)) } else { old_path.to_owned() };
        self.case.files.insert(path, bytes);
    }

    fn layers(&mut self) -> Vec<Layer> {
        self.used += self.steps.iter().filter(|step| [Place::Tree, Place::Commit].contains(&step.place)).count();
        let mut layers: Vec<Option<Layer>> = self.from.layers.iter().cloned().map(Some).collect();
        let mut added = Vec::new();
        for step in self.steps {
            let (which, compressed) = match &step.place {
                Place::Layer(which) => (which, false),
                Place::Blob(which) => (which, true),
                _ => continue,
            };
            self.used += 1;
            let number = self.from.position(which);
            let others = |source| Parts::of(self.source(source)).layers[number].clone();
            let layer = layers[number].as_mut().unwrap();
            match &step.op {
                Op::Remove => layers[number] = None,
                // The annotations of the place stay: only the layer is another.
                Op::Take { from } => {
                    let Layer { blob, archive, .. } = others(*from);
                    *layer = Layer { blob, archive, ..layer.clone() };
                }
                Op::Add { from } => added.push(Some(others(*from))),
                Op::Exchange { with } => exchange(&mut layers, number, *with),
                op if compressed => {
                    layer.blob = layer::frame(op, &layer.blob).unwrap_or_else(|| changed(op, layer.blob.clone()));
                }
                op => {
                    let bytes = edit::bytes(op, layer.archive.clone()).or_else(|| layer::entries(op, &layer.archive));
                    layer.archive = bytes.unwrap_or_else(|| panic!("{op:?} changes no layer"));
                    layer.blob = layer::compress(&layer.archive, true);
                }
            }
        }
        let mut layers: Vec<Layer> = layers.into_iter().chain(added).flatten().collect();
        for (number, layer) in layers.iter_mut().enumerate() {
            // Whatever lies first is the layer without owners: the manifest must not be what speaks.
            match number {
                0 => layer.components.clear(),
                _ if layer.components.is_empty() => layer.components.push("moved".into()),
                _ => {}
            }
            self.blob(layer.blob.clone(), &layer.path);
        }
        layers
    }

    fn commit(&mut self) -> Option<Vec<u8>> {
        let commit = self.file(Place::CommitObject, layout::COMMIT_OBJECT, Some(self.from.commit.clone()));
        let signers = self.ops_of_signers(&Place::CommitMeta);
        let changed = commit.as_ref().is_some_and(|commit| *commit != self.base.commit);
        let signatures = match (&commit, signers) {
            (Some(commit), Some(signers)) => {
                Some(signers.iter().map(|signer| self.openpgp(*signer, commit, false)).collect())
            }
            (Some(commit), None) if self.follow && changed => Some(vec![self.openpgp(Signer::Release, commit, false)]),
            _ => None,
        };
        let bytes = signatures.map(|list: Vec<Vec<u8>>| commitmeta::render(&list));
        let bytes = bytes.unwrap_or_else(|| self.base.files[layout::COMMIT_META].clone());
        self.file(Place::CommitMeta, layout::COMMIT_META, Some(bytes));
        commit
    }

    /// The signers that the steps of an envelope name, if they do.
    fn ops_of_signers(&self, place: &Place) -> Option<Vec<Signer>> {
        self.steps.iter().filter(|step| step.place == *place).find_map(|step| match &step.op {
            Op::Signers { by } => Some(by.clone()),
            _ => None,
        })
    }

    fn config(&mut self, layers: &[Layer], commit: Option<&[u8]>) -> Option<Vec<u8>> {
        let old = &self.from.config;
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(&layer.archive)).collect();
        let labels = Labels {
            commit: commit.map_or(old.labels.commit, Digest::of),
            final_diff_id: *diff_ids.last().unwrap(),
            ..old.labels.clone()
        };
        let history = layers.iter().map(|layer| layer.made_by.clone()).collect();
        let config = Config { labels, diff_ids, history, ..old.clone() };
        let path = self.base.config_path();
        let bytes = if self.follow { config.render().unwrap() } else { self.base.files[&path].clone() };
        self.document(Place::Config, bytes, &path, |parts| parts.config_path())
    }

    /// Applies the steps of a document that is a blob, and lays it.
    fn document(
        &mut self,
        place: Place,
        bytes: Vec<u8>,
        path: &str,
        in_other: fn(&Parts) -> String,
    ) -> Option<Vec<u8>> {
        let mut bytes = Some(bytes);
        for op in self.ops(&place) {
            let other = |source| {
                let files = self.source(source);
                files[&in_other(&Parts::of(files))].clone()
            };
            bytes = match op {
                Op::Remove => None,
                Op::Take { from } => Some(other(from)),
                Op::Add { from } => {
                    let other = other(from);
                    self.case.files.insert(blob_path(&Digest::of(&other)), other);
                    bytes
                }
                op => Some(changed(&op, bytes.unwrap())),
            };
        }
        if let Some(bytes) = bytes.clone() {
            self.blob(bytes, path);
        }
        bytes
    }

    fn manifest(&mut self, layers: &[Layer], config: Option<&[u8]>) -> Option<Vec<u8>> {
        let path = self.base.manifest_path();
        let mut bytes = self.base.files[&path].clone();
        if self.follow {
            let described = layers
                .iter()
                .map(|layer| oci::Layer { blob: Blob::of(&layer.blob), components: layer.components.clone() });
            let final_diff_id = Digest::of(&layers.last().unwrap().archive);
            let commit = self
                .case
                .files
                .get(layout::COMMIT_OBJECT)
                .map_or(self.from.manifest.labels.commit, |commit| Digest::of(commit));
            let manifest = Manifest {
                config: config.map_or(self.base.manifest.config, Blob::of),
                layers: described.collect(),
                labels: Labels { commit, final_diff_id, ..self.from.manifest.labels.clone() },
            };
            bytes = manifest.render().unwrap();
            if config.is_none() {
                bytes = edit::bytes(&Op::Delete { at: "/config".into() }, bytes).unwrap();
            }
        }
        self.document(Place::Manifest, bytes, &path, |parts| parts.manifest_path())
    }

    fn index(&mut self, manifest: Option<&[u8]>) {
        let mut bytes = self.base.files[layout::INDEX].clone();
        if self.follow {
            let first = manifest.map_or(self.base.index.manifest, Blob::of);
            bytes = Index { manifest: first, ..self.from.index.clone() }.render().unwrap();
            let added = self.steps.iter().filter(|step| step.place == Place::Manifest).find_map(|step| match step.op {
                Op::Add { from } => Some(Index::parse(&self.source(from)[layout::INDEX]).unwrap()),
                _ => None,
            });
            let descriptor = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap()["manifests"][0].clone();
            let mut manifests = if manifest.is_some() { vec![descriptor(&bytes)] } else { Vec::new() };
            manifests.extend(added.map(|index| descriptor(&index.render().unwrap())));
            if manifests.len() != 1 {
                let to = serde_yaml::to_value(manifests).unwrap();
                bytes = edit::bytes(&Op::Set { at: "/manifests".into(), to }, bytes).unwrap();
            }
        }
        self.file(Place::Index, layout::INDEX, Some(bytes));
        self.file(Place::OciLayout, layout::OCI_LAYOUT, Some(oci::OCI_LAYOUT_BYTES.to_vec()));
    }

    /// Document, statement, envelope; the document that lies in the bundle at the end comes back.
    fn sbom(&mut self, manifest: Option<&[u8]>) -> Vec<u8> {
        let mut document = self.from.document.clone();
        for op in self.ops(&Place::Sbom).into_iter().filter(|op| *op != Op::Stay) {
            document = edit::sbom(&op, &document).unwrap_or_else(|| changed(&op, document));
        }
        let image = manifest.filter(|_| self.follow).map_or(self.base.statement.manifest, Digest::of);
        let mut payload = statement::render(&self.base.statement.name, &image, &document).unwrap();
        for op in self.ops(&Place::Statement) {
            payload = changed(&op, payload);
        }
        let envelope = self.signed(Place::SbomEnvelope, payload, &self.base.envelope.clone(), RoleName::Build);
        let laid = self.file(Place::SbomEnvelope, layout::SBOM_STATEMENT, Some(envelope));
        let laid = laid.and_then(|bytes| Envelope::parse(&bytes).ok());
        let spliced = laid
            .and_then(|envelope| Some(envelope.payload[statement::parse(&envelope.payload).ok()?.predicate].to_vec()));
        spliced.unwrap_or(document)
    }

    fn release(&mut self, manifest: Option<&[u8]>, commit: Option<&[u8]>, document: &[u8]) {
        let old = self.base.release.clone();
        let mut payload = self.base.release_envelope.payload.clone();
        if self.follow {
            let release = Release {
                image: manifest.map_or(old.image, Artifact::of),
                commit: commit.map_or(old.commit, Digest::of),
                sbom: Artifact::of(document),
                ..old
            };
            payload = release.render().unwrap();
        }
        for op in self.ops(&Place::Release) {
            payload = changed(&op, payload);
        }
        let envelope =
            self.signed(Place::ReleaseEnvelope, payload, &self.base.release_envelope.clone(), RoleName::Release);
        self.file(Place::ReleaseEnvelope, layout::RELEASE, Some(envelope));
    }

    /// An envelope around a payload, with the old signatures or, re-sealed or by its own step, new ones.
    fn signed(&self, place: Place, payload: Vec<u8>, old: &Envelope, role: RoleName) -> Vec<u8> {
        let signers = self.ops_of_signers(&place);
        let own = if role == RoleName::Build { Signer::Build } else { Signer::Release };
        let mut envelope = Envelope { payload, ..old.clone() };
        if self.follow || signers.is_some() {
            envelope.signatures.clear();
            for signer in signers.unwrap_or_else(|| vec![own]) {
                match signer {
                    Signer::Build => self.maker.own.sign(RoleName::Build, &mut envelope),
                    Signer::Release => self.maker.own.sign(RoleName::Release, &mut envelope),
                    Signer::Stranger => self.maker.stranger.sign(role, &mut envelope),
                }
            }
        }
        envelope.render()
    }

    fn openpgp(&self, signer: Signer, message: &[u8], armour: bool) -> Vec<u8> {
        let keys = if signer == Signer::Stranger { &self.maker.stranger } else { &self.maker.own };
        keys.sign_openpgp(message, armour).unwrap()
    }

    fn bundle(&mut self) {
        for op in self.ops(&Place::Bundle) {
            match op {
                Op::File { path, text } => drop(self.case.files.insert(path, text.into_bytes())),
                Op::Blob { text } => {
                    drop(self.case.files.insert(blob_path(&Digest::of(text.as_bytes())), text.into_bytes()))
                }
                Op::Symlink { path, to } => {
                    self.case.files.remove(&path);
                    self.case.links.insert(path, to);
                }
                Op::Folder { path } => self.case.folders.push(path),
                other => panic!("{other:?} changes no bundle"),
            }
        }
    }

    fn sums(&mut self, made_again: bool) {
        let signers = self.ops_of_signers(&Place::SumsSignature);
        let mut sums = self.base.files[layout::SUMS].clone();
        if made_again {
            sums = Sums::new(self.case.files.iter().map(|(path, bytes)| (path.clone(), Digest::of(bytes)))).render();
        }
        let sums = self.file(Place::Sums, layout::SUMS, Some(sums));
        let mut signature = self.base.files[layout::SUMS_SIGNATURE].clone();
        if let Some(sums) =
            sums.filter(|sums| (made_again && *sums != self.base.files[layout::SUMS]) || signers.is_some())
        {
            let signer = signers.and_then(|signers| signers.first().copied());
            signature = self.openpgp(signer.unwrap_or(Signer::Release), &sums, true);
        }
        self.file(Place::SumsSignature, layout::SUMS_SIGNATURE, Some(signature));
    }

    fn trust(&mut self) {
        let stranger = self.maker.stranger_trust();
        for op in self.ops(&Place::Trust) {
            let trust = &mut self.case.trust;
            match op {
                Op::Admit { role } => {
                    let admitted = stranger.roles.roles.get(role.into()).keys.clone();
                    trust.role(role).keys.extend(admitted);
                    trust.keys.extend(stranger.keys.iter().cloned());
                }
                Op::Threshold { role, to } => trust.role(role).threshold = to,
                Op::Revoke { role } => trust.role(role).keys[0].revoked = true,
                Op::Window { role, from, until } => {
                    let key = &mut trust.role(role).keys[0];
                    (key.from, key.until) = (from, until);
                }
                Op::Estrange => trust.certificates = stranger.certificates.clone(),
                other => panic!("{other:?} changes no trust"),
            }
        }
    }
}

/// Two layers change places; where they lie by name does not.
fn exchange(layers: &mut [Option<Layer>], one: usize, other: usize) {
    layers.swap(one, other);
    if let Ok([Some(one), Some(other)]) = layers.get_disjoint_mut([one, other]) {
        std::mem::swap(&mut one.path, &mut other.path);
    }
}

/// Applies an operation on bytes.
fn changed(op: &Op, bytes: Vec<u8>) -> Vec<u8> {
    edit::bytes(op, bytes).unwrap_or_else(|| panic!("{op:?} does not belong here"))
}

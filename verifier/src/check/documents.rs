//! The small files of a bundle: read, parse, judge their signatures, compare them with each other.

use std::collections::{BTreeMap, BTreeSet};

use super::{Bundle, Fault, Stages, hex};
use crate::canonical::JsonError;
use crate::digest::Digest;
use crate::dsse::Envelope;
use crate::layout::{
    COMMIT_META, COMMIT_OBJECT, INDEX, LABEL_COMMIT, LABEL_LINUX, LABEL_VERSION, OCI_LAYOUT, RELEASE, RELEASE_TYPE,
    SBOM_STATEMENT, STATEMENT_TYPE, SUMS, SUMS_SIGNATURE, blob_path,
};
use crate::limits::{
    JSON_BYTES_MAX, METADATA_BYTES_MAX, SBOM_ENVELOPE_BYTES_MAX, SIGNATURES_MAX, SUMS_BYTES_MAX, TRUST_FILE_BYTES_MAX,
};
use crate::oci::{Blob, Config, Index, Manifest, OCI_LAYOUT_BYTES, OciError};
use crate::openpgp::{self, OpenPgpError};
use crate::ostree::{Commit, commitmeta};
use crate::refusal::Refusal;
use crate::release::{Artifact, Release, ReleaseError};
use crate::statement::{self, Statement};
use crate::sums::Sums;
use crate::threshold;
use crate::time::Time;
use crate::trust::{CLOCK_SKEW_SECONDS, KeyId, RoleName, Trust};

/// Digests of the files that were read, by path in the bundle.
pub(super) type Digests = BTreeMap<String, Digest>;

/// What the small files say; a part is absent when its file is, or could not be parsed.
#[derive(Default)]
pub(super) struct Documents {
    sums: Option<(Sums, Vec<u8>)>,
    sums_signature: Option<Vec<u8>>,
    release_envelope: Option<Envelope>,
    pub(super) release: Option<Release>,
    sbom_envelope: Option<Envelope>,
    statement: Option<Statement>,
    pub(super) commit: Option<(Digest, Option<Commit>)>,
    commit_bytes: Vec<u8>,
    commit_signatures: Option<Vec<Vec<u8>>>,
    index: Option<Index>,
    pub(super) manifest: Option<Manifest>,
    pub(super) config: Option<Config>,
}

/// Whose signatures are good.
#[derive(Default)]
pub(super) struct Signed {
    pub(super) release: Option<BTreeSet<KeyId>>,
    pub(super) build: Option<BTreeSet<KeyId>>,
    pub(super) openpgp: BTreeSet<String>,
    pub(super) openpgp_not_judged: bool,
}

struct Source<'a> {
    bundle: &'a Bundle,
    stages: &'a mut Stages,
    digests: &'a mut Digests,
}

impl Source<'_> {
    fn take(&mut self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Fault> {
        match self.bundle.read(path, limit)? {
            Ok(bytes) => {
                self.digests.insert(path.to_owned(), Digest::of(&bytes));
                Ok(Some(bytes))
            }
            Err(refusal) => {
                self.stages.layout.add(refusal);
                Ok(None)
            }
        }
    }

    fn take_optional(&mut self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Fault> {
        if self.bundle.size(path).is_none() { Ok(None) } else { self.take(path, limit) }
    }

    fn envelope(&mut self, path: &str, payload_type: &str, limit: u64) -> Result<Option<Envelope>, Fault> {
        let Some(bytes) = self.take(path, limit)? else { return Ok(None) };
        let reason = match Envelope::parse(&bytes) {
            Ok(envelope) if envelope.payload_type == payload_type => return Ok(Some(envelope)),
            Ok(envelope) => format!("its payload type is `{}`", envelope.payload_type),
            Err(error) => error.to_string(),
        };
        self.stages.signatures.add(Refusal::EnvelopeMalformed { path: path.to_owned(), reason });
        Ok(None)
    }

    /// A blob that is a document, with its digest and size compared.
    fn blob(&mut self, blob: Blob) -> Result<Option<(String, Vec<u8>)>, Fault> {
        let path = blob_path(&blob.digest);
        let Some(bytes) = self.take(&path, JSON_BYTES_MAX)? else { return Ok(None) };
        compare_blob(blob, Blob::of(&bytes), self.stages);
        Ok(Some((path, bytes)))
    }

    /// Parses one of the image's documents.
    fn parsed<T>(
        &mut self,
        path: &str,
        parsed: Result<T, OciError>,
        malformed: impl Fn(String) -> Refusal,
    ) -> Option<T> {
        let error = match parsed {
            Ok(document) => return Some(document),
            Err(error) => error,
        };
        let refusal = match &error {
            OciError::Json(json) => not_canonical(path, json),
            _ => None,
        };
        self.stages.image.add(refusal.unwrap_or_else(|| malformed(error.to_string())));
        None
    }
}

fn not_canonical(path: &str, error: &JsonError) -> Option<Refusal> {
    let spelled = matches!(error, JsonError::NotCanonical(_) | JsonError::NotAnInteger);
    spelled.then(|| Refusal::JsonNotCanonical { path: path.to_owned(), reason: error.to_string() })
}

/// Compares a blob with its descriptor.
pub(super) fn compare_blob(named: Blob, found: Blob, stages: &mut Stages) {
    if named.size != found.size {
        let blob = hex(&named.digest);
        stages.image.add(Refusal::BlobSizeDiffers { blob, found: found.size, named: named.size });
    }
    if named.digest != found.digest {
        let blob = hex(&named.digest);
        stages.image.add(Refusal::BlobDigestDiffers { blob, found: hex(&found.digest) });
    }
}

/// Reads and parses every file but the layers.
pub(super) fn read(bundle: &Bundle, stages: &mut Stages, digests: &mut Digests) -> Result<Documents, Fault> {
    stages.layout.extend(bundle.refusals().iter().cloned());
    let mut source = Source { bundle, stages, digests };
    let mut documents = Documents::default();
    documents.read_sums(&mut source)?;
    documents.read_release(&mut source)?;
    documents.read_commit(&mut source)?;
    documents.read_statement(&mut source)?;
    documents.read_image(&mut source)?;
    Ok(documents)
}

/// Reads and parses release, commit and bill of materials alone.
pub(super) fn read_statements(bundle: &Bundle, stages: &mut Stages, digests: &mut Digests) -> Result<Documents, Fault> {
    stages.layout.extend(bundle.refusals().iter().cloned());
    let mut source = Source { bundle, stages, digests };
    let mut documents = Documents::default();
    documents.read_release(&mut source)?;
    documents.read_commit(&mut source)?;
    documents.read_statement(&mut source)?;
    Ok(documents)
}

impl Documents {
    fn read_sums(&mut self, source: &mut Source<'_>) -> Result<(), Fault> {
        if let Some(bytes) = source.take(SUMS, SUMS_BYTES_MAX)? {
            match Sums::parse(&bytes) {
                Ok(sums) => self.sums = Some((sums, bytes)),
                Err(error) => source.stages.sums.add(Refusal::SumsMalformed { reason: error.to_string() }),
            }
        }
        self.sums_signature = source.take_optional(SUMS_SIGNATURE, TRUST_FILE_BYTES_MAX)?;
        Ok(())
    }

    fn read_release(&mut self, source: &mut Source<'_>) -> Result<(), Fault> {
        self.release_envelope = source.envelope(RELEASE, RELEASE_TYPE, JSON_BYTES_MAX)?;
        let Some(envelope) = &self.release_envelope else { return Ok(()) };
        match Release::parse(&envelope.payload) {
            Ok(release) => self.release = Some(release),
            Err(error) => {
                let refusal = match &error {
                    ReleaseError::Json(json) => not_canonical(RELEASE, json),
                    _ => None,
                };
                source
                    .stages
                    .release
                    .add(refusal.unwrap_or_else(|| Refusal::ReleaseMalformed { reason: error.to_string() }));
            }
        }
        Ok(())
    }

    fn read_commit(&mut self, source: &mut Source<'_>) -> Result<(), Fault> {
        let malformed = |path: &str, reason: String| Refusal::CommitMalformed { path: path.to_owned(), reason };
        if let Some(bytes) = source.take(COMMIT_OBJECT, METADATA_BYTES_MAX)? {
            let parsed = Commit::parse(&bytes)
                .map_err(|error| source.stages.commit.add(malformed(COMMIT_OBJECT, error.to_string())));
            self.commit = Some((Digest::of(&bytes), parsed.ok()));
            self.commit_bytes = bytes;
        }
        self.commit_signatures = Some(Vec::new());
        if let Some(bytes) = source.take_optional(COMMIT_META, METADATA_BYTES_MAX)? {
            let parsed = commitmeta::parse(&bytes).map_err(|error| error.to_string()).and_then(|signatures| {
                if signatures.len() > SIGNATURES_MAX {
                    Err(format!("it has more than {SIGNATURES_MAX} signatures"))
                } else {
                    Ok(signatures)
                }
            });
            self.commit_signatures =
                parsed.map_err(|reason| source.stages.signatures.add(malformed(COMMIT_META, reason))).ok();
        }
        Ok(())
    }

    fn read_statement(&mut self, source: &mut Source<'_>) -> Result<(), Fault> {
        self.sbom_envelope = source.envelope(SBOM_STATEMENT, STATEMENT_TYPE, SBOM_ENVELOPE_BYTES_MAX)?;
        let Some(envelope) = &self.sbom_envelope else { return Ok(()) };
        match statement::parse(&envelope.payload) {
            Ok(statement) => self.statement = Some(statement),
            Err(error) => source.stages.release.add(Refusal::StatementMalformed { reason: error.to_string() }),
        }
        Ok(())
    }

    fn read_image(&mut self, source: &mut Source<'_>) -> Result<(), Fault> {
        let index = |path: &str| {
            let path = path.to_owned();
            move |reason| Refusal::IndexMalformed { path: path.clone(), reason }
        };
        if source.take(OCI_LAYOUT, JSON_BYTES_MAX)?.is_some_and(|bytes| bytes != OCI_LAYOUT_BYTES) {
            source.stages.image.add(index(OCI_LAYOUT)("it has other bytes than it always has".to_owned()));
        }
        let Some(bytes) = source.take(INDEX, JSON_BYTES_MAX)? else { return Ok(()) };
        self.index = source.parsed(INDEX, Index::parse(&bytes), index(INDEX));
        let Some(index) = &self.index else { return Ok(()) };
        let Some((path, bytes)) = source.blob(index.manifest)? else { return Ok(()) };
        self.manifest = source.parsed(&path, Manifest::parse(&bytes), |reason| Refusal::ManifestMalformed { reason });
        let Some(manifest) = &self.manifest else { return Ok(()) };
        let Some((path, bytes)) = source.blob(manifest.config)? else { return Ok(()) };
        self.config = source.parsed(&path, Config::parse(&bytes), |reason| Refusal::ConfigMalformed { reason });
        Ok(())
    }

    /// The manifest's digest, as the index names it.
    pub(super) fn image(&self) -> Option<Blob> {
        self.index.as_ref().map(|index| index.manifest)
    }

    /// The SBOM's bytes, within its statement.
    pub(super) fn sbom(&self) -> Option<&[u8]> {
        let statement = self.statement.as_ref()?;
        self.sbom_envelope.as_ref()?.payload.get(statement.predicate.clone())
    }

    /// What the bill of materials was signed for.
    pub(super) fn statement(&self) -> Option<&Statement> {
        self.statement.as_ref()
    }

    /// Counts signatures over what they sign; what they sign is not looked at.
    pub(super) fn judge_signatures(&self, trust: &Trust, now: Time, stages: &mut Stages) -> Signed {
        let mut signed = Signed::default();
        let mut count = |path, envelope: &Option<Envelope>, role| match threshold::count(
            path,
            envelope.as_ref()?,
            role,
            trust,
            now,
        ) {
            Ok(keys) => Some(keys),
            Err(refusals) => {
                stages.signatures.extend(refusals);
                None
            }
        };
        signed.release = count(RELEASE, &self.release_envelope, RoleName::Release);
        signed.build = count(SBOM_STATEMENT, &self.sbom_envelope, RoleName::Build);
        if trust.certificates().is_empty() {
            signed.openpgp_not_judged =
                self.sums_signature.is_some() || self.commit_signatures.as_ref().is_some_and(|list| !list.is_empty());
            return signed;
        }
        if let (Some(signature), Some((_, sums))) = (&self.sums_signature, &self.sums) {
            let refusal = match openpgp::verify_armoured(trust.certificates(), sums, signature, now) {
                Ok(_) => None,
                Err(OpenPgpError::UnknownKey) => Some(Refusal::SumsSignatureByUnknownKey {}),
                Err(OpenPgpError::Invalid(reason)) => Some(Refusal::SumsSignatureInvalid { reason: reason.to_owned() }),
                Err(error) => Some(Refusal::SumsSignatureMalformed { reason: error.to_string() }),
            };
            stages.signatures.extend(refusal);
        }
        // Without the commit there is nothing that its signatures could be about.
        if let (Some(_), Some(signatures)) = (&self.commit, &self.commit_signatures) {
            stages.signatures.extend(self.judge_commit_signatures(signatures, trust, now, &mut signed.openpgp));
        }
        signed
    }

    /// One good signature suffices: others may be of people whom this trust directory does not know.
    fn judge_commit_signatures(
        &self,
        signatures: &[Vec<u8>],
        trust: &Trust,
        now: Time,
        good: &mut BTreeSet<String>,
    ) -> Option<Refusal> {
        let mut refusal = Refusal::CommitSignatureMissing {};
        for signature in signatures {
            match openpgp::verify_binary(trust.certificates(), &self.commit_bytes, signature, now) {
                Ok(fingerprint) => drop(good.insert(fingerprint)),
                Err(OpenPgpError::UnknownKey) if matches!(refusal, Refusal::CommitSignatureInvalid { .. }) => {}
                Err(OpenPgpError::UnknownKey) => refusal = Refusal::CommitSignatureByUnknownKey {},
                Err(error) => refusal = Refusal::CommitSignatureInvalid { reason: error.to_string() },
            }
        }
        good.is_empty().then_some(refusal)
    }

    /// Compares the documents with each other and with the clock.
    pub(super) fn compare(&self, stages: &mut Stages, now: Time) {
        if let Some(release) = &self.release {
            stages.release.extend(self.compare_release(release, now));
        }
        if let (Some(statement), Some(image)) = (&self.statement, self.image()) {
            if statement.manifest != image.digest {
                let (found, named) = (hex(&image.digest), hex(&statement.manifest));
                stages.release.add(Refusal::StatementNamesAnotherImage { found, named });
            }
            if let Some(release) = self.release.as_ref().filter(|release| release.name != statement.name) {
                let (found, named) = (release.name.clone(), statement.name.clone());
                stages.release.add(Refusal::StatementNamesAnotherImage { found, named });
            }
        }
        stages.image.extend(self.compare_labels());
        if let Some((checksum, Some(commit))) = &self.commit {
            stages.commit.extend(self.compare_commit(*checksum, commit));
        }
    }

    fn compare_release(&self, release: &Release, now: Time) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        if let Some(image) = self.image() {
            let named = release.image;
            if (named.digest, named.size) != (image.digest, image.size) {
                let text = |digest: &Digest, size| format!("{digest} of {size} bytes");
                let (found, named) = (text(&image.digest, image.size), text(&named.digest, named.size));
                refusals.push(Refusal::ReleaseNamesAnotherImage { found, named });
            }
        }
        refusals.extend(self.compare_with_release(release));
        if let Some(manifest) = self.manifest.as_ref().filter(|manifest| manifest.labels.version != release.version) {
            let (found, named) = (manifest.labels.version.clone(), release.version.clone());
            refusals.push(Refusal::ReleaseNamesAnotherVersion { found, named });
        }
        if now >= release.expires {
            refusals.push(Refusal::ReleaseExpired { expires: release.expires.to_string(), now: now.to_string() });
        }
        if release.created.seconds() > now.seconds() + CLOCK_SKEW_SECONDS {
            refusals.push(Refusal::ReleaseFromTheFuture { created: release.created.to_string(), now: now.to_string() });
        }
        refusals
    }

    /// Commit and bill of materials are those that the release names.
    pub(super) fn compare_with_release(&self, release: &Release) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        if let Some((checksum, _)) = self.commit.as_ref().filter(|(checksum, _)| *checksum != release.commit) {
            refusals.push(Refusal::ReleaseNamesAnotherCommit { found: hex(checksum), named: hex(&release.commit) });
        }
        if let Some(found) = self.sbom().map(Artifact::of).filter(|found| *found != release.sbom) {
            let text = |artifact: Artifact| format!("{} of {} bytes", artifact.digest, artifact.size);
            refusals.push(Refusal::ReleaseNamesAnotherSbom { found: text(found), named: text(release.sbom) });
        }
        refusals
    }

    /// Index, manifest and config say the same.
    fn compare_labels(&self) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let mut differ = |label: &str| refusals.push(Refusal::LabelsDiffer { label: label.to_owned() });
        let Some(manifest) = &self.manifest else { return refusals };
        if self.index.as_ref().is_some_and(|index| index.version != manifest.labels.version) {
            differ(LABEL_VERSION);
        }
        let Some(config) = &self.config else { return refusals };
        if config.labels != manifest.labels {
            differ("annotations and Labels");
        }
        if config.diff_ids.len() != manifest.layers.len() {
            let reason =
                format!("it has {} diff_ids, the manifest has {} layers", config.diff_ids.len(), manifest.layers.len());
            refusals.push(Refusal::ConfigMalformed { reason });
        }
        refusals
    }

    pub(super) fn compare_commit(&self, checksum: Digest, commit: &Commit) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let mut compare = |label: &str, same: bool| {
            if !same {
                refusals.push(Refusal::LabelsDifferFromCommit { label: label.to_owned() });
            }
        };
        if let Some(Manifest { labels, .. }) = &self.manifest {
            compare(LABEL_COMMIT, labels.commit == checksum);
            compare(LABEL_LINUX, commit.linux() == Some(&labels.linux));
            compare(LABEL_VERSION, commit.version() == Some(&labels.version));
        }
        if let Some(config) = &self.config {
            compare("created", config.created == commit.timestamp);
        }
        if let Some(release) = &self.release {
            compare("subject", commit.subject == format!("{} {}", release.name, release.version));
        }
        refusals
    }
}

/// Compares `SHA256SUMS` with what is there.
pub(super) fn compare_sums(bundle: &Bundle, documents: &Documents, digests: &Digests, stages: &mut Stages) {
    let Some((sums, _)) = &documents.sums else { return };
    for (path, _) in bundle.files().filter(|(path, _)| ![SUMS, SUMS_SIGNATURE].contains(path)) {
        match (sums.get(path), digests.get(path)) {
            (None, _) => stages.sums.add(Refusal::SumsOmitFile { path: path.to_owned() }),
            (Some(listed), Some(found)) if listed != found => {
                stages.sums.add(Refusal::SumsDigestDiffers { path: path.to_owned() })
            }
            _ => {}
        }
    }
    for (path, _) in
        sums.lines().iter().filter(|(path, _)| !bundle.holds(path) || [SUMS, SUMS_SIGNATURE].contains(&path.as_str()))
    {
        stages.sums.add(Refusal::SumsNameAbsentFile { path: path.clone() });
    }
}

//! Decides whether a bundle is acceptable. Only this module makes a [`VerifiedStatement`] or a
//! [`VerifiedContent`]: whoever holds one holds the proof.
//!
//! A bundle is judged in stages: layout, sums, signatures, release, image, layers, commit, SBOM. A stage
//! runs whenever what it needs could be read, whatever an earlier one found, so that a shallow finding
//! does not hide a deep one; refusals are listed in the order of stages.

mod content;
mod documents;
mod installed;

use std::collections::BTreeSet;

use crate::digest::Digest;
pub use crate::files::{Bundle, Fault};
use crate::refusal::{Findings, Refusal};
use crate::release::Release;
use crate::time::Time;
use crate::trust::{KeyId, Trust};
pub use installed::{Installed, installed};

/// The answer to whether a bundle is acceptable.
#[derive(Debug)]
pub enum Verdict {
    /// Every check was made and passed.
    Accepted(Box<VerifiedContent>),
    /// At least one reason not to take it, in the order of stages.
    Refused(Vec<Refusal>),
}

/// A release that keys, threshold, freshness and bindings vouch for: enough to start a download.
#[derive(Debug, Clone)]
pub struct VerifiedStatement {
    release: Release,
    signers: BTreeSet<KeyId>,
    builders: BTreeSet<KeyId>,
}

impl VerifiedStatement {
    /// What was released.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// The keys of the role `release` that signed.
    pub fn signers(&self) -> &BTreeSet<KeyId> {
        &self.signers
    }

    /// The key of the role `build` that signed.
    pub fn builders(&self) -> &BTreeSet<KeyId> {
        &self.builders
    }
}

/// A bundle of which every byte was checked: enough to stage.
#[derive(Debug, Clone)]
pub struct VerifiedContent {
    statement: VerifiedStatement,
    summary: Summary,
}

impl VerifiedContent {
    /// What was released.
    pub fn statement(&self) -> &VerifiedStatement {
        &self.statement
    }

    /// What was counted on the way.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}

/// What a check counted on the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Regular files and symbolic links of the commit.
    pub files: usize,
    /// Packages that own files.
    pub packages: usize,
    /// Layers of the image.
    pub layers: usize,
    /// Fingerprints of the OpenPGP certificates that signed the commit; none without certificates.
    pub openpgp: BTreeSet<String>,
    /// Whether there were OpenPGP signatures that no certificate was given for.
    pub openpgp_not_judged: bool,
}

/// Findings of each stage; stages end in another order than they are told in.
#[derive(Default)]
struct Stages {
    layout: Findings,
    sums: Findings,
    signatures: Findings,
    release: Findings,
    image: Findings,
    layers: Findings,
    commit: Findings,
    sbom: Findings,
}

impl Stages {
    fn into_refusals(self) -> Vec<Refusal> {
        let Self { layout, sums, signatures, release, image, layers, commit, sbom } = self;
        [layout, sums, signatures, release, image, layers, commit, sbom]
            .into_iter()
            .flat_map(Findings::into_vec)
            .collect()
    }
}

/// Judges a whole bundle at the time `now`.
pub fn check(bundle: &Bundle, trust: &Trust, now: Time) -> Result<Verdict, Fault> {
    let mut stages = Stages::default();
    let mut digests = documents::Digests::default();
    let documents = documents::read(bundle, &mut stages, &mut digests)?;
    let signed = documents.judge_signatures(trust, now, &mut stages);
    documents.compare(&mut stages, now);
    let content = content::read(bundle, &documents, &mut stages, &mut digests)?;
    documents::compare_sums(bundle, &documents, &digests, &mut stages);

    let refusals = stages.into_refusals();
    if !refusals.is_empty() {
        return Ok(Verdict::Refused(refusals));
    }
    // Nothing was refused; that nothing was left out either is proved by having all of it.
    match (documents.release, signed.release, signed.build, content) {
        (Some(release), Some(signers), Some(builders), Some(counts)) => {
            let statement = VerifiedStatement { release, signers, builders };
            let summary = Summary { openpgp: signed.openpgp, openpgp_not_judged: signed.openpgp_not_judged, ..counts };
            Ok(Verdict::Accepted(Box::new(VerifiedContent { statement, summary })))
        }
        _ => Ok(Verdict::Refused(vec![Refusal::FileMissing { path: crate::layout::RELEASE.to_owned() }])),
    }
}

/// The digest as refusals write it.
fn hex(digest: &Digest) -> String {
    digest.to_string()
}

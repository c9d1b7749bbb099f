//! What an installed release says, of a bundle without its blobs: enough to compare a device with, never to install.

use std::collections::BTreeSet;

use super::documents::{self, Digests};
use super::{Bundle, Fault, Stages, hex};
use crate::layout::COMMIT_OBJECT;
use crate::ostree::Commit;
use crate::refusal::Refusal;
use crate::release::Release;
use crate::sbom::Sbom;
use crate::trust::{KeyId, Trust};

/// A release whose signatures and bindings hold, with its commit and its bill of materials. It may have expired: that
/// governs what is accepted, never what is installed.
#[derive(Debug, Clone)]
pub struct Installed {
    release: Release,
    commit: Commit,
    sbom: Sbom,
    signers: BTreeSet<KeyId>,
    openpgp: BTreeSet<String>,
}

impl Installed {
    /// What was released.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// Its commit.
    pub fn commit(&self) -> &Commit {
        &self.commit
    }

    /// Every file of it.
    pub fn sbom(&self) -> &Sbom {
        &self.sbom
    }

    /// The keys of the role `release` that signed.
    pub fn signers(&self) -> &BTreeSet<KeyId> {
        &self.signers
    }

    /// Fingerprints of the OpenPGP certificates that signed the commit.
    pub fn openpgp(&self) -> &BTreeSet<String> {
        &self.openpgp
    }
}

/// Judges the documents of a bundle as at the date of its release. Blobs are neither wanted nor read.
pub fn installed(bundle: &Bundle, trust: &Trust) -> Result<Result<Installed, Vec<Refusal>>, Fault> {
    let mut stages = Stages::default();
    let documents = documents::read_statements(bundle, &mut stages, &mut Digests::default())?;
    let Some(release) = documents.release.clone() else { return Ok(Err(refused(stages))) };
    let signed = documents.judge_signatures(trust, release.created, &mut stages);
    stages.release.extend(documents.compare_installed(&release));
    let commit = match &documents.commit {
        Some((checksum, Some(commit))) => {
            stages.commit.extend(documents.compare_commit(*checksum, commit));
            Some(commit.clone())
        }
        _ => None,
    };
    let sbom = match documents.sbom().map(Sbom::parse) {
        Some(Ok(sbom)) => {
            let found = (sbom.name.clone(), sbom.version.clone());
            let named = (release.name.clone(), release.version.clone());
            if found != named {
                let text = |(name, version): (String, String)| format!("{name} {version}");
                stages.sbom.add(Refusal::SbomNamesAnotherImage { found: text(found), named: text(named) });
            }
            Some(sbom)
        }
        Some(Err(error)) => {
            stages.sbom.add(Refusal::SbomMalformed { reason: error.to_string() });
            None
        }
        None => None,
    };
    let refusals = stages.into_refusals();
    if !refusals.is_empty() {
        return Ok(Err(refusals));
    }
    Ok(match (commit, sbom, signed.release, signed.build) {
        (Some(commit), Some(sbom), Some(signers), Some(_)) => {
            Ok(Installed { release, commit, sbom, signers, openpgp: signed.openpgp })
        }
        _ => Err(vec![Refusal::FileMissing { path: COMMIT_OBJECT.to_owned() }]),
    })
}

/// Never empty: whoever asks has nothing else.
fn refused(stages: Stages) -> Vec<Refusal> {
    let refusals = stages.into_refusals();
    let none = || vec![Refusal::FileMissing { path: crate::layout::RELEASE.to_owned() }];
    if refusals.is_empty() { none() } else { refusals }
}

/// What the documents say of each other, of what no blob is needed for.
impl documents::Documents {
    fn compare_installed(&self, release: &Release) -> Vec<Refusal> {
        let mut refusals = self.compare_with_release(release);
        if let Some(statement) = self.statement() {
            let (found, named) = (hex(&release.image.digest), hex(&statement.manifest));
            if found != named || statement.name != release.name {
                refusals.push(Refusal::StatementNamesAnotherImage { found, named });
            }
        }
        refusals
    }
}

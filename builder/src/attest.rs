//! Stage 5: the SBOM, as a by-product of composing, and the statement that binds it to the image.
//!
//! `5-attest/` holds the CycloneDX document for people and the unsigned envelope for the bundle.

use crate::commit::Commit;
use crate::error::{At, Error};
use crate::image::Image;
use crate::plan::Plan;
use crate::stage::{Inputs, State, Workspace};
use secai_verifier::digest::Digest;
use secai_verifier::dsse::Envelope;
use secai_verifier::release::Artifact;
use secai_verifier::sbom::{Owner, Sbom};
use secai_verifier::time::Time;
use secai_verifier::{layout, statement};
use std::fs;

/// The CycloneDX document in `5-attest/`.
pub const DOCUMENT: &str = "sbom.cdx.json";
/// The unsigned envelope in `5-attest/`.
pub const ENVELOPE: &str = "sbom.dsse.json";

/// What the fifth stage hands on.
#[derive(Debug)]
pub struct Attestation {
    /// The document's digest and size.
    pub sbom: Artifact,
    /// The statement, not yet signed.
    pub envelope: Envelope,
}

/// What the attestation is made from.
pub fn inputs(plan: &Plan, commit: &Commit, image: &Image) -> Inputs {
    Inputs::new()
        .with("builder", &plan.builder)
        .with("commit", commit.checksum)
        .with("image", image.manifest.digest)
        .with("packages", Digest::of(serde_json::to_string(&plan.packages).unwrap_or_default().as_bytes()))
}

/// Writes the SBOM of the commit, or finds it written.
///
/// # Errors
/// [`Error::Tree`] for a tree that no SBOM can describe; I/O.
pub fn build(
    plan: &Plan,
    commit: &Commit,
    image: &Image,
    owners: Vec<Owner>,
    workspace: &Workspace,
    say: &dyn Fn(&str),
) -> Result<Attestation, Error> {
    let inputs = inputs(plan, commit, image);
    let output = workspace.output("attest");
    if workspace.state("attest", &inputs) == State::Cached {
        return read(&output);
    }
    let partial = workspace.begin("attest")?;
    say("writing the SBOM");
    fs::create_dir(&partial).at("create", &partial)?;
    let created = date(plan)?;
    let sbom = Sbom { name: plan.recipe.name.clone(), version: plan.recipe.version.clone(), created, owners };
    let document = sbom.render().map_err(|e| Error::Tree(e.to_string()))?;
    let statement = statement::render(&plan.recipe.name, &image.manifest.digest, &document)
        .map_err(|e| Error::Tree(e.to_string()))?;
    let envelope = Envelope::unsigned(layout::STATEMENT_TYPE, statement);
    for (name, bytes) in [(DOCUMENT, document.as_slice()), (ENVELOPE, &envelope.render())] {
        fs::write(partial.join(name), bytes).at("write", partial.join(name))?;
    }
    workspace.finish("attest", &inputs)?;
    Ok(Attestation { sbom: Artifact::of(&document), envelope })
}

fn read(output: &std::path::Path) -> Result<Attestation, Error> {
    let path = output.join(DOCUMENT);
    let document = fs::read(&path).at("read", &path)?;
    let path = output.join(ENVELOPE);
    let bytes = fs::read(&path).at("read", &path)?;
    let envelope = Envelope::parse(&bytes).map_err(|e| Error::Unusable { path, reason: e.to_string() })?;
    Ok(Attestation { sbom: Artifact::of(&document), envelope })
}

/// The plan's date in the form that the formats write.
///
/// # Errors
/// [`Error::Tree`] for a date outside 1970–9999.
pub fn date(plan: &Plan) -> Result<Time, Error> {
    u64::try_from(plan.date)
        .ok()
        .and_then(|s| Time::from_seconds(s).ok())
        .ok_or_else(|| Error::Tree("its date is out of range".into()))
}

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
pub fn inputs(plan: &Plan, commit: &Commit, image: &Image, owners: &[Owner]) -> Inputs {
    Inputs::new()
        .with("builder", &plan.builder)
        .with("commit", commit.checksum)
        .with("image", image.manifest.digest)
        .with("owners", Digest::of(format!("{owners:?}").as_bytes()))
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
    let inputs = inputs(plan, commit, image, &owners);
    let output = workspace.output("attest");
    if workspace.state("attest", &inputs) == State::Cached
        && let Some(kept) = read(&output)
    {
        return Ok(kept);
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

/// What a finished stage left, if it is still that: the envelope alone counts, and its statement names the document.
fn read(output: &std::path::Path) -> Option<Attestation> {
    let envelope = Envelope::parse(&fs::read(output.join(ENVELOPE)).ok()?).ok()?;
    let statement = statement::parse(&envelope.payload).ok()?;
    let document = envelope.payload.get(statement.predicate)?;
    let as_written = Sbom::parse(document).is_ok() && fs::read(output.join(DOCUMENT)).is_ok_and(|d| d == document);
    as_written.then(|| Attestation { sbom: Artifact::of(document), envelope: envelope.clone() })
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

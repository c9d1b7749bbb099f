//! Stage 6: the bundle — content and the release act in one folder.
//!
//! Everything is laid and signed in `6-bundle.partial`, `SHA256SUMS` last; only then does it take its place. A
//! build that is killed leaves no bundle, never one that is signed in part.

use crate::attest::Attestation;
use crate::commit::Commit;
use crate::error::{At, Error};
use crate::image::{Image, link_or_copy};
use crate::plan::Plan;
use crate::release::Keys;
use crate::stage::{Inputs, Workspace, remove, write_atomically};
use secai_verifier::digest::Digest;
use secai_verifier::dsse::Envelope;
use secai_verifier::layout;
use secai_verifier::ostree::commitmeta;
use secai_verifier::release::{Artifact, Release, SCHEMA};
use secai_verifier::sums::Sums;
use secai_verifier::time::Time;
use secai_verifier::trust::RoleName;
use std::fs;
use std::path::{Path, PathBuf};

/// How long a release counts for acceptance, unless told otherwise.
pub const LIFETIME_SECONDS: u64 = 90 * 24 * 3600;

/// What the release act says besides the content.
#[derive(Debug, Clone)]
pub struct Act {
    /// Release number; none: one more than the last bundle's, else 1.
    pub number: Option<u64>,
    /// Channel.
    pub channel: String,
    /// When.
    pub created: Time,
    /// Until when it may be accepted.
    pub expires: Time,
}

/// A finished bundle.
#[derive(Debug)]
pub struct Bundle {
    /// Its folder.
    pub path: PathBuf,
    /// What it says; none in an unsigned bundle.
    pub release: Option<Release>,
}

/// Assembles and signs; `keys` none makes an unsigned bundle.
///
/// # Errors
/// [`Error::Key`], [`Error::Unusable`] for an earlier bundle whose number cannot be read, I/O.
#[expect(clippy::too_many_arguments, reason = "a bundle is all that came before it, each in its own type")]
pub fn build(
    plan: &Plan,
    commit: &Commit,
    image: &Image,
    attestation: Attestation,
    act: &Act,
    keys: Option<&Keys>,
    workspace: &Workspace,
    say: &dyn Fn(&str),
) -> Result<Bundle, Error> {
    let output = workspace.output("bundle");
    let number = match act.number {
        Some(number) => number,
        None => {
            last_number(&output, &workspace.root().join(NUMBER))?.checked_add(1).ok_or_else(|| Error::Unusable {
                path: output.clone(),
                reason: "its release has the last number there is; give --number".into(),
            })?
        }
    };
    say("assembling and signing");
    // The earlier bundle stays where it is until this one is whole.
    let partial = workspace.partial("bundle");
    remove(&partial)?;
    for dir in layout::DIRS {
        fs::create_dir_all(partial.join(dir)).at("create", partial.join(dir))?;
    }
    lay_image(&workspace.output("image"), &partial)?;
    let put = |name: &str, bytes: &[u8]| fs::write(partial.join(name), bytes).at("write", partial.join(name));
    put(layout::COMMIT_OBJECT, &commit.object)?;
    let mut envelope = attestation.envelope;
    let mut release = None;
    if let Some(keys) = keys {
        keys.sign(RoleName::Build, &mut envelope);
        let signature = keys.sign_openpgp(&commit.object, false)?;
        put(layout::COMMIT_META, &commitmeta::render(&[signature]))?;
        let claim = Release {
            channel: act.channel.clone(),
            commit: commit.checksum,
            created: act.created,
            expires: act.expires,
            image: Artifact { digest: image.manifest.digest, size: image.manifest.size },
            name: plan.recipe.name.clone(),
            number,
            sbom: attestation.sbom,
            schema: SCHEMA,
            version: plan.recipe.version.clone(),
        };
        let payload = claim.render().map_err(|e| Error::Tree(e.to_string()))?;
        let mut signed = Envelope::unsigned(layout::RELEASE_TYPE, payload);
        keys.sign(RoleName::Release, &mut signed);
        put(layout::RELEASE, &signed.render())?;
        release = Some(claim);
    }
    put(layout::SBOM_STATEMENT, &envelope.render())?;
    let sums = sums(&partial)?;
    put(layout::SUMS, &sums)?;
    if let Some(keys) = keys {
        put(layout::SUMS_SIGNATURE, &keys.sign_openpgp(&sums, true)?)?;
    }
    if let Some(release) = &release {
        write_atomically(&workspace.root().join(NUMBER), release.number.to_string().as_bytes())?;
    }
    let inputs = Inputs::new().with("image", image.manifest.digest).with("number", number);
    workspace.finish("bundle", &inputs)?;
    Ok(Bundle { path: output, release })
}

/// The last number that was signed here, in `out/NAME`: an unsigned bundle in between must not make it start again.
const NUMBER: &str = ".number";

/// The number in the last signed bundle's release; 0 when there was none.
fn last_number(bundle: &Path, kept: &Path) -> Result<u64, Error> {
    let before = fs::read_to_string(kept).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0);
    Ok(number_in(bundle)?.max(before))
}

fn number_in(bundle: &Path) -> Result<u64, Error> {
    let path = bundle.join(layout::RELEASE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e).at("read", &path),
    };
    let unusable = |reason: String| Error::Unusable { path: path.clone(), reason: format!("{reason}; give --number") };
    let envelope = Envelope::parse(&bytes).map_err(|e| unusable(e.to_string()))?;
    Ok(Release::parse(&envelope.payload).map_err(|e| unusable(e.to_string()))?.number)
}

fn lay_image(image: &Path, bundle: &Path) -> Result<(), Error> {
    for name in [layout::OCI_LAYOUT, layout::INDEX] {
        let inside = layout::in_image(name);
        // Copied, not linked: these are the files people edit when they try things.
        fs::copy(image.join(inside), bundle.join(name)).at("copy", image.join(inside))?;
    }
    let blobs = image.join(layout::in_image(layout::BLOBS_DIR));
    for entry in fs::read_dir(&blobs).at("read", &blobs)? {
        let entry = entry.at("read", &blobs)?;
        link_or_copy(&entry.path(), &bundle.join(layout::BLOBS_DIR).join(entry.file_name()))?;
    }
    Ok(())
}

/// `SHA256SUMS` over everything that lies in the bundle so far. A blob is hashed again here: what is signed is what
/// lies on the disk.
fn sums(bundle: &Path) -> Result<Vec<u8>, Error> {
    use rayon::prelude::*;
    let mut files = Vec::new();
    let mut folders = vec![bundle.to_owned()];
    while let Some(dir) = folders.pop() {
        for entry in fs::read_dir(&dir).at("read", &dir)? {
            let path = entry.at("read", &dir)?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    let lines: Vec<(String, Digest)> = files
        .par_iter()
        .with_max_len(1)
        .map(|path| {
            let mut hasher = secai_verifier::digest::HashingWriter::new(std::io::sink());
            crate::tree::each_piece(path, |piece| drop(std::io::Write::write_all(&mut hasher, piece)))?;
            let name = path.strip_prefix(bundle).unwrap_or(path).to_string_lossy().into_owned();
            let digest = hasher.finish().0;
            let named = name.strip_prefix(&format!("{}/", layout::BLOBS_DIR));
            if named.is_some_and(|n| n != digest.to_string()) {
                return Err(Error::ChangedUnderneath { path: path.clone() });
            }
            Ok((name, digest))
        })
        .collect::<Result<_, Error>>()?;
    Ok(Sums::new(lines).render())
}

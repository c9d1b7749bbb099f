//! Asks the TPM and the writer, has the chain checked, and tells the TPM.

use super::decide::{Held, is_due, kept};
use super::tpm::{Tpm, TpmError};
use crate::disk::{Keep, lock, read_file, replace};
use crate::witness::{Seen, Told, WitnessError, alarm};
use crate::writer::WriteError;
use secai_daemon::report::Hint;
use secai_verifier::audit::chain::{Options, Verdict, check};
use secai_verifier::audit::checkpoint::{NOTE_BYTES_MAX, Note};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// The TPM, before or after.
    #[error("the TPM was of no help")]
    Tpm(#[from] TpmError),
    /// The writer or the chain.
    #[error(transparent)]
    Witness(#[from] WitnessError),
    /// What was anchored cannot be read or written.
    #[error("what was anchored cannot be read or written")]
    Memory(#[from] WriteError),
    /// The password of the TPM's owner is not there, or too long for one.
    #[error("{} holds no password of a TPM's owner", path.display())]
    OwnerAuth {
        /// Which file.
        path: PathBuf,
    },
    /// What was anchored is none of ours.
    #[error("{} is not what was anchored", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
    },
}

impl Hint for AnchorError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Tpm(TpmError::Unreachable { .. }) => {
                "is there a TPM, and is this user in its group (tss)? A device that had one and has none was changed"
            }
            Self::Tpm(TpmError::Refused { .. }) => "where the TPM's owner has a password: --owner-auth FILE",
            Self::Tpm(TpmError::Occupied) => "nothing of somebody else's is overwritten; `tpm2_nvreadpublic` shows it",
            Self::Witness(error) => return error.hint(),
            Self::Memory(error) => return error.hint(),
            Self::Tpm(TpmError::TooLong) | Self::OwnerAuth { .. } | Self::Unusable { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// Looks at the chain, compares it with what the TPM remembers, and has the TPM remember the new head where one
/// is due. `anew`: whatever it remembers, its owner knows, and it begins again with the chain that is there.
///
/// # Errors
/// [`AnchorError`]: nothing was compared, or nothing remembered.
pub fn look(socket: &Path, state: &Path, tpm: &mut Tpm, anew: bool) -> Result<Seen, AnchorError> {
    let _alone = lock(state)?;
    let path = state.join("anchored.note");
    let unusable = || AnchorError::Unusable { path: path.clone() };
    let anchored = read_file(&path, NOTE_BYTES_MAX as u64)?;
    let anchored = anchored.map(|bytes| Note::parse(&bytes).map_err(|_| unusable())).transpose()?;
    let told = Told::by(socket)?;
    let held = tpm.held()?;
    let kept = match (anew, kept(&held, anchored.as_ref())) {
        (true, _) => None,
        (false, Ok(kept)) => kept,
        (false, Err(lost)) => return Ok(alarm(state, &lost.to_string())?),
    };
    let trusted = [told.key()?];
    let threads = NonZeroUsize::MIN;
    let options = Options { trusted: &trusted, witnessed: kept, cosigners: &[], full: false, threads };
    let report = match check(&told.store, &options).map_err(WitnessError::Chain)? {
        Verdict::Accepted(verified) => verified.report().clone(),
        Verdict::SignerUnknown(_) => return Ok(alarm(state, "the chain is signed by another device's key")?),
        Verdict::Refused(refusals) => {
            let words: Vec<String> = refusals.iter().take(10).map(ToString::to_string).collect();
            return Ok(alarm(state, &words.join("; "))?);
        }
    };
    let due = is_due(kept, &report);
    if due {
        tpm.remember(&report.note)?;
    }
    // After it: the disk never knows of a head that the TPM does not.
    let now = if due { Some(&report.note) } else { kept };
    if let Some(now) = now.filter(|now| anchored.as_ref() != Some(now)) {
        replace(&path, &state.join("new"), now.render().as_bytes(), 0o600, Keep::OnDisk)?;
    }
    let before = match (&held, kept) {
        (_, Some(note)) => {
            format!("the chain begins with what the TPM remembered ({} entries)", note.checkpoint.size)
        }
        (Held::Head(_), None) => "what the TPM remembered was given up, as its owner said".to_owned(),
        (Held::Nothing | Held::NoHead, None) => "the TPM remembered nothing yet".to_owned(),
    };
    let size = report.head.size;
    let open = report.entries - now.map_or(0, |note| note.checkpoint.size).min(report.entries);
    Ok(Seen {
        consistent: true,
        words: format!("{before}; {size} are signed now, {open} entries are not anchored yet"),
    })
}

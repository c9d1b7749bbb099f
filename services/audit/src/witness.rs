//! Level L2: another user remembers the head of the chain, and looks whether the chain still has it.
//!
//! ```text
//! STATE/head.note    the newest checkpoint that was found consistent
//! STATE/device.vkey  the device's key, as it was the first time
//! STATE/alarm        what was found when it was not; stays until a person removes it
//! ```
//!
//! The writer's user cannot touch these: it can make a new chain, but not one that begins with the remembered head.

use crate::disk::{Keep, read_file, replace};
use crate::writer::WriteError;
use secai_api::audit::{Reply, Request, Status};
use secai_daemon::audit::{AuditClient, AuditError};
use secai_daemon::report::Hint;
use secai_verifier::audit::chain::{Options, Verdict, check};
use secai_verifier::audit::checkpoint::{NOTE_BYTES_MAX, Note, VerifierKey};
use secai_verifier::audit::store::Store;
use secai_verifier::files::Fault;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// A verifier key is a line.
const KEY_BYTES_MAX: u64 = 1024;

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The writer does not answer.
    #[error("the writer of the chain does not answer")]
    Writer(#[from] AuditError),
    /// It answers something else than what was asked.
    #[error("the writer of the chain answered something else")]
    Answer,
    /// The chain cannot be read.
    #[error("the chain cannot be read")]
    Chain(#[from] Fault),
    /// What was remembered cannot be read or written.
    #[error("what was remembered cannot be read or written")]
    Memory(#[from] WriteError),
    /// What was remembered is none of ours.
    #[error("{} is not what was remembered", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
    },
}

impl Hint for WitnessError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Writer(_) => Some("systemctl status secure-ai-audit".to_owned()),
            _ => None,
        }
    }
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Does the chain begin with the head that was remembered?
    pub consistent: bool,
    /// In words.
    pub words: String,
}

/// What the writer says, and its chain.
pub(crate) struct Told {
    device_key: String,
    /// The chain.
    pub store: Store,
}

impl Told {
    /// Asks it.
    pub fn by(socket: &Path) -> Result<Self, WitnessError> {
        let client = AuditClient::connect(socket)?;
        let (Reply::Status(Status { device_key, .. }), _) = client.ask(&Request::Status {})? else {
            return Err(WitnessError::Answer);
        };
        // What is on the disk is signed before it is looked at.
        let (Reply::Checkpoint { .. }, _) = client.ask(&Request::Checkpoint {})? else {
            return Err(WitnessError::Answer);
        };
        let (Reply::Opened {}, Some(folder)) = client.ask(&Request::Open {})? else { return Err(WitnessError::Answer) };
        Ok(Self { device_key, store: Store::from_directory(folder, Path::new("the chain")) })
    }

    /// The device's key, on its word.
    #[cfg(feature = "tpm")]
    pub fn key(&self) -> Result<VerifierKey, WitnessError> {
        self.device_key.parse().map_err(|_| WitnessError::Answer)
    }
}

/// Looks at the chain, compares, and remembers.
///
/// # Errors
/// [`WitnessError`]: nothing was compared.
pub fn look(socket: &Path, state: &Path) -> Result<Seen, WitnessError> {
    let Told { device_key, store } = Told::by(socket)?;
    let (head, key) = (state.join("head.note"), state.join("device.vkey"));
    let unusable = |path: &Path| WitnessError::Unusable { path: path.to_owned() };
    let known = read_file(&key, KEY_BYTES_MAX)?;
    let known = match &known {
        Some(bytes) => str::from_utf8(bytes).ok().map(str::trim_end).ok_or_else(|| unusable(&key))?,
        // The first time there is only the writer's word.
        None => &device_key,
    };
    let device: VerifierKey = known.parse().map_err(|_| unusable(&key))?;
    let before = read_file(&head, NOTE_BYTES_MAX as u64)?;
    let before = before.map(|bytes| Note::parse(&bytes).map_err(|_| unusable(&head))).transpose()?;
    let trusted = [device];
    let (trusting, threads) = (&trusted[..], NonZeroUsize::MIN);
    let options = Options { trusted: trusting, witnessed: before.as_ref(), cosigners: &[], full: false, threads };
    let report = match check(&store, &options)? {
        Verdict::Accepted(verified) => verified.report().clone(),
        Verdict::SignerUnknown(_) => return alarm(state, "the chain is signed by another device's key"),
        Verdict::Refused(refusals) => {
            let words: Vec<String> = refusals.iter().take(10).map(ToString::to_string).collect();
            return alarm(state, &words.join("; "));
        }
    };
    let scratch = state.join("new");
    for (path, text) in [(&key, format!("{}\n", trusted[0])), (&head, report.note.render())] {
        replace(path, &scratch, text.as_bytes(), 0o600, Keep::OnDisk)?;
    }
    let from = before.map_or(0, |note| note.checkpoint.size);
    let words = format!(
        "the chain begins with the head that was remembered ({from} entries); {} are signed now",
        report.head.size
    );
    Ok(Seen { consistent: true, words })
}

/// Says that something is wrong, and keeps saying it until a person has seen it.
pub(crate) fn alarm(state: &Path, words: &str) -> Result<Seen, WitnessError> {
    let words = format!("the chain is not what was remembered: {words}");
    replace(&state.join("alarm"), &state.join("new"), format!("{words}\n").as_bytes(), 0o600, Keep::OnDisk)?;
    Ok(Seen { consistent: false, words })
}

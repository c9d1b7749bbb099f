//! Level L3, the other end: a witness on another machine, without a network (c2sp.org/tlog-witness with files).
//!
//! ```text
//! STATE/0123456789abcdef.json   {"key":"NAME+HASH+BASE64","note":"…"}: what was cosigned last of the chain of that name
//! ```
//!
//! It is bound by what it remembers: who cosigns two views of one chain is no witness. So nothing leaves it before the
//! new checkpoint is on its disk, and two runs at once wait for each other.

mod decide;
mod key;

pub use decide::{Memory, No, decide};
pub use key::CosigningKey;

use crate::disk::{Keep, lock, read_file, replace};
use crate::writer::WriteError;
use secai_daemon::report::Hint;
use secai_verifier::audit::add_checkpoint::{AddCheckpoint, RequestError};
use secai_verifier::audit::checkpoint::{NOTE_BYTES_MAX, Note, NoteError, VerifierKey};
use secai_verifier::audit::proof::Proof;
use secai_verifier::files::Fault;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A note as JSON spells it, and a key.
const MEMORY_BYTES_MAX: u64 = 2 * NOTE_BYTES_MAX as u64 + 4096;

/// Why nothing was decided.
#[derive(Debug, thiserror::Error)]
pub enum CosignError {
    /// A file that was given cannot be read.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// What was remembered, or the key, cannot be read or written.
    #[error("the witness's own files cannot be read or written")]
    Memory(#[from] WriteError),
    /// What was remembered is none of ours.
    #[error("{} is not what a witness remembers", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
    },
    /// The key is none.
    #[error("cannot use {} as the key of a witness: {why}", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// The name of a new key is none.
    #[error("this is no name for a witness")]
    Name(#[source] NoteError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomness,
    /// The clock shows no usable time.
    #[error("this machine's clock shows no usable time")]
    Clock,
    /// Standard output does not take the answer.
    #[error("cannot write the answer")]
    Output(#[source] std::io::Error),
}

impl Hint for CosignError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Fault(fault) => fault.hint()?,
            Self::Memory(error) => return error.hint(),
            Self::Unusable { .. } => {
                "nothing is cosigned without what was cosigned before: bring it back from a backup"
            }
            Self::Key { .. } => {
                "`secai-audit cosign --new-key NAME --key FILE` makes one; chmod 600 keeps it to yourself"
            }
            Self::Name(_) => "a name without spaces and plus signs, such as ada.example/witness",
            Self::Output(_) => "what was asked about counts as seen: ask again from there on",
            Self::NoRandomness | Self::Clock => return None,
        };
        Some(hint.to_owned())
    }
}

/// Why the answer is no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What is asked is no request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The witness does not cosign it.
    #[error(transparent)]
    No(#[from] No),
}

/// What somebody brought.
pub struct Brought {
    /// The request.
    pub request: Vec<u8>,
    /// Proofs of epochs' ends; empty where there are none.
    pub epochs: Vec<u8>,
}

/// What is remembered, as it lies there.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemoryFile {
    key: String,
    note: String,
}

/// Decides and remembers; the line to give out, which may be given out only once this returned.
///
/// # Errors
/// [`CosignError`]: nothing was decided. A [`Refusal`] within: the answer is no, and nothing was remembered.
pub fn cosign(
    key: &CosigningKey,
    trusted: &[VerifierKey],
    state: &Path,
    brought: &Brought,
    seconds: u64,
) -> Result<Result<String, Refusal>, CosignError> {
    let asked = match AddCheckpoint::parse(&brought.request) {
        Ok(asked) => asked,
        Err(error) => return Ok(Err(error.into())),
    };
    let epochs = match Proof::parse_all(&brought.epochs) {
        Ok(epochs) => epochs,
        Err(refusal) => return Ok(Err(No::Epochs(refusal).into())),
    };
    let _alone = lock(state)?;
    // Only names of chains that are trusted become names of files.
    let origin = &asked.note.checkpoint.origin;
    if !trusted.iter().any(|key| key.name() == origin) {
        return Ok(Err(No::UnknownChain { origin: origin.clone() }.into()));
    }
    let path = memory_path(state, origin);
    let memory = recall(&path)?;
    let signer = match decide(trusted, memory.as_ref(), &epochs, &asked) {
        Ok(signer) => signer,
        Err(no) => return Ok(Err(no.into())),
    };
    let file = MemoryFile { key: signer.to_string(), note: asked.note.render() };
    let bytes = serde_json::to_vec(&file).map_err(|_| CosignError::Unusable { path: path.clone() })?;
    replace(&path, &state.join("new"), &bytes, 0o600, Keep::OnDisk)?;
    Ok(Ok(key.cosign(&asked.note.checkpoint, seconds)))
}

/// Names of chains end in their 16 hex digits; what else a name could be becomes harmless.
fn memory_path(state: &Path, origin: &str) -> PathBuf {
    let last = origin.rsplit('/').next().unwrap_or_default();
    let name: String = last.chars().filter(char::is_ascii_hexdigit).collect();
    state.join(format!("{name}.json"))
}

fn recall(path: &Path) -> Result<Option<Memory>, CosignError> {
    let unusable = || CosignError::Unusable { path: path.to_owned() };
    let Some(bytes) = read_file(path, MEMORY_BYTES_MAX)? else { return Ok(None) };
    let MemoryFile { key, note } = serde_json::from_slice(&bytes).map_err(|_| unusable())?;
    let key: VerifierKey = key.parse().map_err(|_| unusable())?;
    let note = Note::parse(note.as_bytes()).map_err(|_| unusable())?;
    // What was cosigned was signed: anything else was put there by somebody.
    note.verify(&key).map_err(|_| unusable())?;
    Ok(Some(Memory { key, note }))
}

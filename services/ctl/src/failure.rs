//! Why a verb did not do what it was asked, and which exit code that is.

use crate::leak::LabError;
use crate::profile::ProfilesError;
use secai_api::audit::Why;
use secai_daemon::audit::AuditError;
use secai_daemon::report::{COULD_NOT, Hint};
use secai_verifier::audit::add_checkpoint::RequestError;
use secai_verifier::audit::checkpoint::NoteError;
use secai_verifier::audit::export::ExportError;
use secai_verifier::audit::proof::ProveError;
use secai_verifier::audit::refusal::ChainRefusal;
use secai_verifier::audit::tiles::TileError;
use secai_verifier::files::Fault;
use std::io;
use std::path::{Path, PathBuf};

/// The exit code of a negative answer.
pub const NO: u8 = 1;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The audit daemon refused, or could not be asked.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The audit daemon answered what cannot be.
    #[error("the audit daemon answered something else than it was asked")]
    Garbled,
    /// The audit daemon's key or checkpoint is none.
    #[error("the audit daemon gave out what does not hold")]
    Note(#[from] NoteError),
    /// What a witness was asked, or answered, does not hold.
    #[error("{} is not what a witness was asked, or answered", path.display())]
    Witness {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: RequestError,
    },
    /// A chain or a trust directory cannot be read.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A proof cannot be made.
    #[error(transparent)]
    Prove(#[from] ProveError),
    /// Hashes of removed entries are not there.
    #[error(transparent)]
    Tiles(#[from] TileError),
    /// An export cannot be made.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The profiles service refused, or could not be asked.
    #[error(transparent)]
    Profiles(#[from] ProfilesError),
    /// Packets cannot be tried.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Signals or the end of the output cannot be waited for.
    #[error("cannot wait")]
    Signals(#[source] io::Error),
    /// Standard input cannot be read.
    #[error("cannot read standard input")]
    Input(#[source] io::Error),
    /// Standard output does not take the result.
    #[error("cannot write the result")]
    Output(#[from] io::Error),
    /// The checkpoint does not fit into a QR code.
    #[error("the checkpoint is too long for a QR code")]
    TooLongForQr,
    /// A negative answer in words.
    #[error("{0}")]
    No(&'static str, &'static str),
    /// Asked in a way that cannot be answered.
    #[error("{0}")]
    Usage(String, &'static str),
}

impl Failure {
    /// A file cannot be written.
    pub fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Write { path, source }
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Audit(AuditError::Refused { .. }) | Self::No(..) | Self::Note(_) => NO,
            Self::Witness { .. } | Self::Profiles(ProfilesError::Refused { .. }) => NO,
            Self::Prove(ProveError::Fault(_) | ProveError::Tiles(_)) => COULD_NOT,
            Self::Prove(_) | Self::Export(ExportError::Refused(_) | ExportError::Pruned) => NO,
            _ => COULD_NOT,
        }
    }

    /// Did whoever reads the result close it? Then there is nobody left to tell.
    pub fn nobody_reads(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl Hint for Failure {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            // The library's hint is for services.
            Self::Audit(AuditError::Refused { why: Why::NotAllowed, .. }) => {
                "manifests/services/audit.yml says which users may ask for what"
            }
            Self::Audit(AuditError::Unreachable { .. }) => {
                "see `systemctl status secure-ai-audit`; --dir PATH reads a copy of a chain without it"
            }
            Self::Audit(error) => return error.hint(),
            Self::Profiles(error) => return error.hint(),
            Self::Fault(fault) => fault.hint()?,
            Self::Garbled => "is another version of the daemon running? See `systemctl status secure-ai-audit`",
            Self::Prove(ProveError::NotSigned { .. }) => {
                "there is no such entry; or this is a copy that was made before it was signed: ask the daemon, without --dir"
            }
            Self::Prove(ProveError::Older { .. }) => {
                "a witness that saw more than is signed has seen another chain, or this one went back: keep what it says"
            }
            Self::Prove(ProveError::Refused(
                ChainRefusal::WitnessedRootDiffers { .. } | ChainRefusal::WitnessedChainIsAnother { .. },
            )) => "the chain is not the one that was seen: keep both checkpoints, they are the proof",
            Self::Prove(ProveError::Tiles(_)) | Self::Tiles(_) => "copy the chain with its folder `tile`",
            Self::Prove(ProveError::Refused(_)) | Self::Export(ExportError::Refused(_)) => {
                "`secaictl audit show` names everything that is wrong with the chain"
            }
            Self::Write { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                "nothing is overwritten: give another name, or move that away"
            }
            Self::No(_, hint) | Self::Usage(_, hint) => hint,
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

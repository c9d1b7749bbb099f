//! `prove`: writes proofs that others check with `verify-release audit --proof`, which is done here first.

use super::ask;
use super::chain::{Which, refused};
use crate::failure::Failure;
use crate::files::write_new;
use crate::output::{Output, plain};
use clap::Args;
use secai_daemon::report::{Priority, say};
use secai_verifier::audit::proof::{ProveError, prove};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What proofs are named.
const ENDING: &str = ".tlog-proof";

/// Words of the command line.
#[derive(Args)]
pub struct Arguments {
    /// The entry; it is signed first, where it was not yet
    seq: u64,
    /// Where to write the proof [default: SEQ.tlog-proof]; those of the ends of earlier epochs get `epoch-N` into their name
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
}

impl Arguments {
    /// Does it; prints the files in the order in which they are to be checked.
    pub fn run(self, socket: &Path, output: &mut Output) -> Result<ExitCode, Failure> {
        let chain = self.which.open(socket)?;
        let proofs = match (prove(&chain.store, self.seq), &chain.daemon) {
            (Err(ProveError::NotSigned { .. }), Some(client)) => {
                ask::signed(client)?;
                prove(&chain.store, self.seq)
            }
            (proofs, _) => proofs,
        }?;
        if chain.keys.is_empty() {
            say(Priority::Warning, "whose signature is under the proof was not checked: give --trust");
        } else {
            let mut keys = chain.keys.clone();
            for proof in &proofs {
                if let Err(refusal) = proof.verify(&keys) {
                    refused(&[refusal], output)?;
                    return Ok(ExitCode::FAILURE);
                }
                keys.extend(proof.next_key());
            }
        }
        let path = self.output.unwrap_or_else(|| format!("{}{ENDING}", self.seq).into());
        let last = proofs.len().saturating_sub(1);
        let paths: Vec<PathBuf> =
            (0..proofs.len()).map(|at| if at == last { path.clone() } else { of_epoch(&path, at) }).collect();
        for (at, (proof, path)) in proofs.iter().zip(&paths).enumerate() {
            if let Err(error) = write_new(path, proof.render().as_bytes()) {
                // Part of them proves nothing.
                paths.iter().take(at).for_each(|path| drop(std::fs::remove_file(path)));
                return Err(error);
            }
        }
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        output.line(
            || names.iter().map(|name| plain(name)).collect::<Vec<_>>().join("\n"),
            || json!({"seq": self.seq, "proofs": names}),
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

/// `x.tlog-proof` → `x.epoch-N.tlog-proof`.
fn of_epoch(path: &Path, epoch: usize) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{}.epoch-{epoch}{ENDING}", name.strip_suffix(ENDING).unwrap_or(&name)))
}

//! `export`: a static tree that any reader of c2sp.org/tlog-tiles can use; there as a whole or not at all.

use super::ask;
use super::chain::{Which, refused};
use crate::failure::Failure;
use crate::files::beside;
use crate::output::{Output, plain};
use clap::Args;
use secai_daemon::report::{Priority, say};
use secai_verifier::audit::export::export;
use serde_json::json;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Words of the command line.
#[derive(Args)]
pub struct Arguments {
    /// Where to write the tree: an empty folder, or one that does not exist yet
    #[arg(long, value_name = "DIR")]
    tlog: PathBuf,
    #[command(flatten)]
    which: Which,
}

impl Arguments {
    /// Does it.
    pub fn run(self, socket: &Path, output: &mut Output) -> Result<ExitCode, Failure> {
        // Without what a shell puts at the end of a folder's name.
        let to: PathBuf = self.tlog.components().collect();
        match fs::read_dir(&to).map(|mut names| names.next().is_some()) {
            Ok(true) => return Err(Failure::write(&to)(io::ErrorKind::AlreadyExists.into())),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Failure::write(&to)(error)),
            Ok(false) | Err(_) => {}
        }
        let chain = self.which.open(socket)?;
        if let Some(Err(why)) = chain.daemon.as_ref().map(ask::signed) {
            say(Priority::Warning, &format!("what is not signed yet is left out: {}", plain(&why.to_string())));
        }
        let part = Part(beside(&to));
        fs::create_dir(&part.0).map_err(Failure::write(&part.0))?;
        let note = export(&chain.store, |path, bytes| {
            let path = part.0.join(path);
            fs::create_dir_all(path.parent().unwrap_or(&part.0))?;
            fs::write(path, bytes)
        })?;
        // Afterwards, so that what was written out is what is checked: its checkpoint is compared as one that was kept.
        let judged = match chain.check(Some(&note), true)? {
            Ok(judged) => judged,
            Err(refusals) => {
                refused(&refusals, output)?;
                return Ok(ExitCode::FAILURE);
            }
        };
        fs::rename(&part.0, &to).map_err(Failure::write(&to))?;
        let size = note.checkpoint.size;
        output.line(
            || format!("{}: {size} entries, {}", plain(&to.display().to_string()), judged.signed_by()),
            || json!({"tree": to.display().to_string(), "size": size, "root": note.checkpoint.root.to_string(), "signer_from": judged.source()}),
        )?;
        Ok(judged.code())
    }
}

/// A folder that is removed unless it was renamed.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

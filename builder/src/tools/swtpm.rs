//! swtpm: a TPM in software, which a guest has beside it for as long as it runs.

use super::mortal;
use crate::error::{At, Error};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = "swtpm";
const PACKAGE: &str = "swtpm";
/// Its socket is there at once.
const BEGINS_WITHIN: Duration = Duration::from_secs(20);

/// One that runs; it ends with this.
#[derive(Debug)]
pub struct Swtpm {
    child: Child,
    socket: PathBuf,
    /// Of the socket: in a short path, which is all that one may have.
    _folder: tempfile::TempDir,
}

impl Swtpm {
    /// Starts it. What it keeps lies in `state`: with the same folder it is the same TPM.
    ///
    /// # Errors
    /// [`Error::ToolMissing`], [`Error::ToolFailed`]; I/O.
    pub fn begin(state: &Path) -> Result<Self, Error> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(state).at("create", state)?;
        let folder = tempfile::Builder::new().prefix("secai-tpm-").tempdir_in("/tmp").at("create", "/tmp")?;
        let socket = folder.path().join("tpm.sock");
        let mut command = mortal(PROGRAM, PACKAGE)?;
        // From within: in its path may stand what it takes for an option.
        command.current_dir(state).args(["socket", "--tpm2", "--terminate", "--tpmstate", "dir=.", "--ctrl"]);
        command.arg(format!("type=unixio,path={}", socket.display()));
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().at("run", PROGRAM)?;
        let mut begun = Self { child, socket, _folder: folder };
        let until = Instant::now() + BEGINS_WITHIN;
        while !begun.socket.exists() {
            let ended = begun.child.try_wait().at("run", PROGRAM)?;
            if let Some(status) = ended.map(|it| it.to_string()).or_else(|| (Instant::now() > until).then(String::new))
            {
                let mut said = Vec::new();
                let _ = begun.child.kill();
                if let Some(mut pipe) = begun.child.stderr.take() {
                    let _ = std::io::Read::read_to_end(&mut pipe, &mut said);
                }
                return Err(Error::ToolFailed { program: PROGRAM.into(), status, tail: super::tail(&said) });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(begun)
    }

    /// Where QEMU finds it.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

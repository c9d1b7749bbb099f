//! Programs of the composed tree, run inside it: own mount, process and network namespaces, a fresh /proc.

use super::{mortal, run};
use crate::error::Error;
use std::path::Path;

/// Runs `argv` inside `root` with `epoch` as SOURCE_DATE_EPOCH; returns its standard output.
///
/// # Errors
/// [`Error::ToolFailed`] with the last lines it wrote.
pub fn run_inside(root: &Path, argv: &[&str], epoch: i64) -> Result<Vec<u8>, Error> {
    let name = argv.first().copied().unwrap_or_default();
    let mut c = mortal("unshare", "util-linux")?;
    c.args(["--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child"])
        .arg("--mount-proc")
        .arg(format!("--root={}", root.display()))
        .arg("--")
        .args(argv)
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        .env("SYSTEMD_OFFLINE", "1");
    run(&mut c, name)
}

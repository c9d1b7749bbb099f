//! Programs of the composed tree, run inside it by bubblewrap: the tree is the only root they see, with namespaces of
//! their own, no network, a /dev of a few nodes, a tmpfs wherever a program may scribble, and few of root's rights.
//!
//! A recipe may replace any of these programs by its own: what runs here is not trusted.

use super::{mortal, run};
use crate::error::Error;
use std::path::Path;

/// What dpkg's and systemd's helpers need: to own files and to change who owns them. Nothing that leads out.
const CAPABILITIES: [&str; 7] =
    ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP"];

/// May the program change the tree?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// No: nothing it does stays but what it prints.
    ReadOnly,
    /// Yes, outside /dev, /proc, /run, /tmp and /var/tmp.
    ReadWrite,
}

/// Runs `argv` inside `root` with `epoch` as SOURCE_DATE_EPOCH; returns its standard output.
///
/// # Errors
/// [`Error::ToolFailed`] with the last lines it wrote to its standard error.
pub fn run_inside(root: &Path, access: Access, argv: &[&str], epoch: i64) -> Result<Vec<u8>, Error> {
    let mut c = mortal("bwrap", "bubblewrap")?;
    c.arg(if access == Access::ReadOnly { "--ro-bind" } else { "--bind" }).arg(root).arg("/");
    c.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/run", "--tmpfs", "/tmp", "--tmpfs", "/var/tmp"])
        .args(["--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", "localhost"])
        .args(["--die-with-parent", "--new-session", "--chdir", "/", "--cap-drop", "ALL"]);
    for capability in CAPABILITIES {
        c.args(["--cap-add", capability]);
    }
    c.arg("--").args(argv).env("SOURCE_DATE_EPOCH", epoch.to_string()).env("SYSTEMD_OFFLINE", "1");
    run(&mut c, argv.first().copied().unwrap_or_default())
}

//! Programs of the composed tree, run inside it: own mount, process and network namespaces, a fresh /proc, a /dev
//! of five nodes, and a tmpfs wherever a program may scribble.

use super::{mortal, run};
use crate::error::Error;
use std::path::Path;

/// `$1` is the tree, `$2` `ro` or `rw`, the rest a command for it.
const ENTER: &str = r#"root=$1 access=$2; shift 2
mount --bind "$root" "$root"
mount -o "remount,bind,$access" "$root"
for dir in dev run tmp var/tmp; do mount -t tmpfs tmpfs "$root/$dir"; done
for node in full null random urandom zero; do
  : > "$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
ln -s /proc/self/fd "$root/dev/fd"
mount -t proc proc "$root/proc"
exec chroot "$root" "$@""#;

/// May the program change the tree?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// No: nothing it does stays but what it prints.
    ReadOnly,
    /// Yes, outside /dev, /run, /tmp and /var/tmp.
    ReadWrite,
}

/// Runs `argv` inside `root` with `epoch` as SOURCE_DATE_EPOCH; returns its standard output.
///
/// # Errors
/// [`Error::ToolFailed`] with the last lines it wrote to its standard error.
pub fn run_inside(root: &Path, access: Access, argv: &[&str], epoch: i64) -> Result<Vec<u8>, Error> {
    let mut c = mortal("unshare", "util-linux")?;
    c.args([
        "--mount",
        "--net",
        "--pid",
        "--ipc",
        "--uts",
        "--fork",
        "--kill-child",
        "--",
        "sh",
        "-eu",
        "-c",
        ENTER,
        "sh",
    ])
    .arg(root)
    .arg(if access == Access::ReadOnly { "ro" } else { "rw" })
    .args(argv)
    .env("SOURCE_DATE_EPOCH", epoch.to_string())
    .env("SYSTEMD_OFFLINE", "1");
    run(&mut c, argv.first().copied().unwrap_or_default())
}

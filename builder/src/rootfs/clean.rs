//! What a compose leaves behind and an image must not hold: each path with its reason.

use crate::error::{At, Error};
use crate::stage::remove;
use std::fs;
use std::path::Path;

/// Removed with all they hold.
const REMOVED: &[(&str, &str)] = &[
    ("etc/.pwd.lock", "a lock of the compose"),
    ("etc/passwd-", "an older copy, depends on the order of installation"),
    ("etc/group-", "an older copy"),
    ("etc/shadow-", "an older copy"),
    ("etc/gshadow-", "an older copy"),
    ("etc/subuid-", "an older copy"),
    ("etc/subgid-", "an older copy"),
    ("etc/apt/sources.list", "names the compose's own repository"),
    ("etc/apt/apt.conf.d/99mmdebstrap", "the compose's own setting"),
    ("etc/dpkg/dpkg.cfg.d/99mmdebstrap", "the compose's own setting"),
    ("etc/resolv.conf", "the building machine's"),
    ("etc/hostname", "the building machine's"),
    ("etc/fstab", "a placeholder; the deployment mounts what it needs"),
    ("etc/machine-id", "each device makes its own"),
    ("var/lib/dbus/machine-id", "each device makes its own"),
    ("var/lib/apt", "package lists of the compose's repository"),
    ("var/lib/systemd", "state of helpers that ran at compose time"),
    ("var/lib/dpkg/lock", "a lock of the compose"),
    ("var/lib/dpkg/lock-frontend", "a lock of the compose"),
    ("var/lib/dpkg/triggers/Lock", "a lock of the compose"),
    ("var/lib/dpkg/available", "a copy of the compose's package lists"),
    ("var/lib/dpkg/status-old", "an older copy"),
    ("var/lib/dpkg/diversions-old", "an older copy"),
    ("var/lib/dpkg/statoverride-old", "an older copy"),
    ("vmlinuz", "a link into /boot"),
    ("vmlinuz.old", "a link into /boot"),
    ("initrd.img", "a link into /boot"),
    ("initrd.img.old", "a link into /boot"),
];

/// Files below these are removed; the folders stay, because packages list them.
const FILES_REMOVED: &[(&str, &str)] = &[
    ("var/cache", "made again on the device; aux-cache of ldconfig holds inode numbers"),
    ("var/log", "the compose's own log"),
    ("var/backups", "older copies"),
];

/// Emptied, the folder stays.
const EMPTIED: &[&str] = &["dev", "proc", "run", "sys", "tmp", "var/tmp", "root"];

/// Applies the lists to a tree.
///
/// # Errors
/// I/O.
pub fn clean(tree: &Path) -> Result<(), Error> {
    for (path, _) in REMOVED {
        remove(&tree.join(path))?;
    }
    for (dir, _) in FILES_REMOVED {
        remove_files(&tree.join(dir))?;
    }
    for dir in EMPTIED {
        let dir = tree.join(dir);
        if dir.is_dir() {
            for entry in fs::read_dir(&dir).at("read", &dir)? {
                remove(&entry.at("read", &dir)?.path())?;
            }
        }
    }
    // An empty file, not none: it must exist to be mounted over, and its absence would mean "first boot".
    super::lay::write(tree, "/etc/machine-id", b"")
}

/// Removes all but the folders; absence is fine.
fn remove_files(dir: &Path) -> Result<(), Error> {
    if !dir.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(dir).at("read", dir)? {
        let path = entry.at("read", dir)?.path();
        if path.symlink_metadata().at("read", &path)?.is_dir() {
            remove_files(&path)?;
        } else {
            remove(&path)?;
        }
    }
    Ok(())
}

//! Deployments beside the one that runs: each has an `/etc` of its own, with the accounts and settings that were there when it ran.

use crate::etc::{EtcError, restore};
use crate::mark::Begun;
use rustix::mount::{MountFlags, mount_remount};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where they lie, as a booted one sees them.
pub const SYSROOT: &str = "/sysroot";
/// Below it, folders of systems, each with its deployments in a folder.
const SYSTEMS: &str = "ostree/deploy";
const DEPLOYMENTS: &str = "deploy";

/// Has all of them but the one whose `/etc` is `etc` begin as they were released.
///
/// # Errors
/// [`EtcError`]; begun again it goes on.
pub fn restore_others(sysroot: &Path, etc: &Path) -> Result<(), EtcError> {
    for other in others(sysroot, etc)? {
        let own = other.join("etc");
        restore(&own, &other.join("usr/etc"))?;
        // What was begun is finished by the one that runs: no other may do it once more.
        Begun::finished_if_any(&own)?;
    }
    Ok(())
}

/// Writes to where they lie are this process's alone: it has mounts of its own, by its unit. In a guest without a disk there are none.
///
/// # Errors
/// [`EtcError`].
pub fn open_for_writing(sysroot: &Path) -> Result<(), EtcError> {
    mount_remount(sysroot, MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV, c"")
        .map_err(|errno| EtcError::Act("write to", sysroot.to_owned(), errno.into()))
}

fn others(sysroot: &Path, etc: &Path) -> Result<Vec<PathBuf>, EtcError> {
    let number = |path: &Path| path.metadata().map(|it| (it.dev(), it.ino()));
    let own = number(etc).map_err(|error| EtcError::Act("read", etc.to_owned(), error))?;
    let mut others = Vec::new();
    for system in folders(&sysroot.join(SYSTEMS))? {
        for deployment in folders(&system.join(DEPLOYMENTS))? {
            match number(&deployment.join("etc")) {
                Ok(it) if it != own => others.push(deployment),
                // One that is staged has none yet: it takes over what is in ours when the machine ends.
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(EtcError::Act("read", deployment, error));
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    Ok(others)
}

fn folders(of: &Path) -> Result<Vec<PathBuf>, EtcError> {
    let fail = |error| EtcError::Act("read", of.to_owned(), error);
    let mut folders = Vec::new();
    match fs::read_dir(of) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        names => {
            for entry in names.map_err(fail)? {
                let entry = entry.map_err(fail)?;
                if entry.file_type().map_err(fail)?.is_dir() {
                    folders.push(entry.path());
                }
            }
        }
    }
    folders.sort();
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_other_deployment_begins_as_it_was_released() {
        let root = tempfile::tempdir().unwrap();
        let deployments = root.path().join("ostree/deploy/secai/deploy");
        let lay = |path: &str, text: &str| {
            let path = deployments.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for name in ["a.0", "b.0", "b.1"] {
            lay(&format!("{name}/usr/etc/passwd"), "root");
            lay(&format!("{name}/etc/passwd"), "root ada");
            lay(&format!("{name}/etc/secure-ai/begun"), "reset\n");
            lay(&format!("{name}.origin"), "[origin]");
        }
        lay("staged.0/usr/etc/passwd", "root");
        for _ in 0..2 {
            restore_others(root.path(), &deployments.join("b.0/etc")).unwrap();
            let passwd = |name: &str| fs::read_to_string(deployments.join(name).join("etc/passwd")).unwrap();
            assert_eq!(["a.0", "b.0", "b.1"].map(passwd), ["root", "root ada", "root"]);
            let begun = |name: &str| Begun::of(&deployments.join(name).join("etc")).unwrap();
            assert_eq!(["a.0", "b.0", "b.1"].map(begun), [None, Some(Begun::Reset), None]);
        }
        restore_others(&root.path().join("nowhere"), &deployments.join("b.0/etc")).unwrap();
    }
}

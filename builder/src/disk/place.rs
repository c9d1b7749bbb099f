//! Where a disk is made: in a folder of its own beside its place, so that whoever looks finds a whole disk or none, and tools
//! are told names of ours whatever the path to them is.

use crate::error::{At, Error};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What lies in the folder, and all that is ever removed from it.
const FILES: [&str; 2] = ["raw", "qcow2"];

/// A folder that is ours alone until it is dropped.
#[derive(Debug)]
pub struct Place {
    /// The disk to be: its path, from the root.
    pub output: PathBuf,
    folder: PathBuf,
    held: OwnedFd,
}

impl Place {
    /// Takes the place of this disk.
    ///
    /// # Errors
    /// [`Error::Usage`] for what is there and is no file, and for a place inside the bundle; [`Error::Locked`] while another
    /// works there; [`Error::Unusable`] where somebody else's folder is in the way; I/O.
    pub fn of(bundle: &Path, output: &Path) -> Result<Self, Error> {
        let usage = |reason: &str| Error::Usage {
            option: "--output",
            value: output.display().to_string(),
            reason: reason.to_owned(),
        };
        if output.symlink_metadata().is_ok_and(|meta| !meta.is_file()) {
            return Err(usage("is there and is no file; onto a device, a finished disk is copied"));
        }
        let name = output.file_name().ok_or_else(|| usage("names no file"))?;
        let parent = output.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = parent.canonicalize().at("create", output)?;
        if bundle.canonicalize().is_ok_and(|bundle| parent.starts_with(bundle)) {
            return Err(usage("lies in the bundle, which would be none any more"));
        }
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".partial");
        let folder = parent.join(hidden);
        let held = own(&folder)?;
        let place = Self { output: parent.join(name), folder, held };
        place.clear();
        Ok(place)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file in there.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What cannot be removed is said where it is made anew.
    fn clear(&self) {
        for name in FILES {
            let _ = rustix::fs::unlinkat(&self.held, name, AtFlags::empty());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clear();
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Makes the folder, or takes the one that a killed run left: a folder, the caller's, for nobody else, and locked by nobody.
fn own(folder: &Path) -> Result<OwnedFd, Error> {
    let locked = || Error::Locked { path: folder.to_owned() };
    let unusable = || Error::Unusable { path: folder.to_owned(), reason: "it is there, and not ours".into() };
    match rustix::fs::mkdir(folder, Mode::RWXU) {
        Err(Errno::EXIST) => {}
        made => made.at("create", folder)?,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = match rustix::fs::open(folder, flags, Mode::empty()) {
        Err(Errno::LOOP | Errno::NOTDIR) => return Err(unusable()),
        opened => opened.at("read", folder)?,
    };
    let found = rustix::fs::fstat(&held).at("read", folder)?;
    if found.st_uid != rustix::process::geteuid().as_raw() || found.st_mode & 0o077 != 0 {
        return Err(unusable());
    }
    match rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Err(locked()),
        taken => taken.at("lock", folder)?,
    }
    // Whoever had it may have removed it in between, and a third made it anew.
    match folder.symlink_metadata() {
        Ok(now) if (now.dev(), now.ino()) == (found.st_dev, found.st_ino) => Ok(held),
        _ => Err(locked()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_place_is_taken_once_and_leaves_nothing() {
        let here = tempfile::tempdir().unwrap();
        let (bundle, output) = (here.path().join("bundle"), here.path().join("a?b:c@@d,e"));
        fs::create_dir(&bundle).unwrap();
        let place = Place::of(&bundle, &output).unwrap();
        assert_eq!(fs::metadata(place.folder()).unwrap().permissions().mode() & 0o777, 0o700);
        let error = Place::of(&bundle, &output).unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{error}");
        Place::of(&bundle, &here.path().join("other")).unwrap();
        fs::write(place.file("raw"), "x").unwrap();
        fs::write(&output, "as it was").unwrap();
        drop(place);
        assert_eq!(fs::read_dir(here.path()).unwrap().count(), 2, "the bundle and what was there");
        assert_eq!(fs::read_to_string(&output).unwrap(), "as it was");
    }

    #[test]
    fn what_a_killed_run_left_is_cleared_and_no_link_is_followed() {
        let here = tempfile::tempdir().unwrap();
        let (bundle, output, outside) =
            (here.path().join("bundle"), here.path().join("disk"), here.path().join("outside"));
        for folder in [&bundle, &outside] {
            fs::create_dir(folder).unwrap();
        }
        let folder = here.path().join(".disk.partial");
        fs::write(outside.join("raw"), "theirs").unwrap();
        symlink(&outside, &folder).unwrap();
        assert!(Place::of(&bundle, &output).unwrap_err().to_string().contains("not ours"));
        fs::remove_file(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(Place::of(&bundle, &output).unwrap_err().to_string().contains("not ours"));
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        symlink(outside.join("raw"), folder.join("raw")).unwrap();
        let place = Place::of(&bundle, &output).unwrap();
        fs::File::create_new(place.file("raw")).unwrap();
        drop(place);
        assert!(!folder.exists());
        assert_eq!(fs::read_to_string(outside.join("raw")).unwrap(), "theirs");
    }

    #[test]
    fn no_disk_goes_into_its_bundle_or_onto_what_is_no_file() {
        let here = tempfile::tempdir().unwrap();
        let (bundle, inside) = (here.path().join("bundle"), here.path().join("bundle/image"));
        fs::create_dir_all(&inside).unwrap();
        symlink(&inside, here.path().join("link")).unwrap();
        for output in ["bundle/disk.raw", "bundle/image/disk.raw", "link/disk.raw", "bundle/../bundle/disk.raw"] {
            let error = Place::of(&bundle, &here.path().join(output)).unwrap_err();
            assert!(error.to_string().contains("lies in the bundle"), "{output}: {error}");
        }
        for output in ["bundle", "link", "bundle/.."] {
            Place::of(&bundle, &here.path().join(output)).unwrap_err();
        }
        Place::of(&bundle, &here.path().join("bundle.raw")).unwrap();
    }
}

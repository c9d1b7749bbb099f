//! Copies the audit chain out of the folder that its writer hands out, while it is written.

use crate::audit::ask::{reach, signed};
use crate::failure::Failure;
use rustix::fs::{Dir, FileType, Mode, OFlags, openat};
use secai_api::audit::{Reply, Request};
use secai_verifier::audit::CHECKPOINT;
use secai_verifier::evidence::{CHAIN_BYTES_MAX, CHAIN_FILES_MAX};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Folders of tiles lie this deep: level, and a number of three parts.
const DEPTH_MAX: usize = 8;

/// Copies it to `to`, which is not there yet; nothing is left there when it fails.
///
/// # Errors
/// A sentence.
pub fn copy(socket: &Path, to: &Path) -> Result<(), String> {
    let folder = handed_out(socket).map_err(|error| super::why(&error))?;
    let copied = copy_all(&folder, to);
    copied.map_err(|error| {
        let _ = fs::remove_dir_all(to);
        error.to_string()
    })
}

fn handed_out(socket: &Path) -> Result<OwnedFd, Failure> {
    let client = reach(socket)?;
    // So that the copy ends in what is signed; a writer that cannot sign now has a checkpoint of before.
    let _ = signed(&client);
    match client.ask(&Request::Open {})? {
        (Reply::Opened {}, Some(folder)) => Ok(folder),
        _ => Err(Failure::Garbled),
    }
}

fn copy_all(folder: &OwnedFd, to: &Path) -> io::Result<()> {
    make(to)?;
    let mut left = Left { files: CHAIN_FILES_MAX, bytes: CHAIN_BYTES_MAX };
    // First: whatever it covers is there when the rest is copied.
    left.file(folder, CHECKPOINT, &to.join(CHECKPOINT))?;
    left.folder(folder.as_fd(), to, 0)
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)
}

/// What may still be copied.
struct Left {
    files: usize,
    bytes: u64,
}

fn too_large() -> io::Error {
    io::Error::other("it is too large to be copied: judge it where it lies, with `verify-release audit`")
}

impl Left {
    fn folder(&mut self, from: impl AsFd, to: &Path, depth: usize) -> io::Result<()> {
        for entry in Dir::read_from(&from)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if [".", ".."].contains(&name) || depth == 0 && name == CHECKPOINT {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            match entry.file_type() {
                FileType::Directory if depth < DEPTH_MAX => {
                    make(&to.join(name))?;
                    let below = openat(&from, name, flags | OFlags::DIRECTORY, Mode::empty())?;
                    self.folder(&below, &to.join(name), depth + 1)?;
                }
                FileType::RegularFile => self.file(&from, name, &to.join(name))?,
                // What the judge would refuse it is shown: a link by its name, without what it leads to.
                _ => drop(fs::write(to.join(format!("{name}.not-copied")), b"")),
            }
        }
        Ok(())
    }

    fn file(&mut self, from: impl AsFd, name: &str, to: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match openat(&from, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            // The writer removed it meanwhile; whether it had to be there the judge says.
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.files = self.files.checked_sub(1).ok_or_else(too_large)?;
        let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        let count = io::copy(&mut file.take(self.bytes + 1), &mut copy)?;
        self.bytes = self.bytes.checked_sub(count).ok_or_else(too_large)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_copied_and_no_link_followed() {
        let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../verifier/spec/vectors/audit/chain");
        let scratch = tempfile::tempdir().unwrap();
        let from: OwnedFd = File::open(&vectors).unwrap().into();
        let to = scratch.path().join("chain");
        copy_all(&from, &to).unwrap();
        for name in ["checkpoint", "seg/000000000000.jsonl"] {
            assert_eq!(fs::read(to.join(name)).unwrap(), fs::read(vectors.join(name)).unwrap(), "{name}");
        }
        let hostile = scratch.path().join("hostile");
        fs::create_dir(&hostile).unwrap();
        fs::write(hostile.join(CHECKPOINT), "x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", hostile.join("seg")).unwrap();
        let from: OwnedFd = File::open(&hostile).unwrap().into();
        let to = scratch.path().join("copied");
        copy_all(&from, &to).unwrap();
        assert!(fs::symlink_metadata(to.join("seg")).is_err() && to.join("seg.not-copied").exists());
    }

    #[test]
    fn what_is_too_large_is_not_copied_in_part() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join(CHECKPOINT), "12345").unwrap();
        let from: OwnedFd = File::open(scratch.path()).unwrap().into();
        let copied =
            |files, bytes, name: &str| Left { files, bytes }.file(&from, CHECKPOINT, &scratch.path().join(name));
        copied(1, 5, "a").unwrap();
        assert!(copied(1, 4, "b").unwrap_err().to_string().contains("too large"));
        assert!(copied(0, 5, "c").unwrap_err().to_string().contains("too large"));
    }
}

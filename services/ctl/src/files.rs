//! Writes files and folders whole or not at all, and never over something that is there.

use crate::failure::Failure;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A name beside `path` that is in nobody's way.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".part-{}", std::process::id()));
    name.into()
}

/// Writes a new file.
///
/// # Errors
/// [`Failure::Write`], also where there is something of this name; nothing is left behind.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let part = beside(path);
    let written = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(renameat_with(CWD, &part, CWD, path, RenameFlags::NOREPLACE)?)
    };
    written().map_err(|error| {
        let _ = fs::remove_file(&part);
        Failure::write(path)(error)
    })
}

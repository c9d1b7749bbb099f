//! mke2fs: an ext4 image filled from a folder, without mounting anything.

use super::{command, run};
use crate::error::{At, Error};
use std::fs;
use std::path::Path;

/// Makes `image`, a sparse file of `bytes`, an ext4 file system labelled `root` with what lies in `folder`.
///
/// # Errors
/// [`Error::ToolFailed`], I/O.
pub fn ext4(image: &Path, bytes: u64, folder: &Path) -> Result<(), Error> {
    let file = fs::File::create(image).at("create", image)?;
    file.set_len(bytes).at("create", image)?;
    drop(file);
    let mut c = command("mkfs.ext4", "e2fsprogs")?;
    // The host's mke2fs may know features that the guest's kernel or fsck does not.
    c.args([
        "-q",
        "-F",
        "-L",
        "root",
        "-m",
        "0",
        "-E",
        "lazy_itable_init=1",
        "-O",
        "^metadata_csum_seed,^orphan_file",
        "-d",
    ])
    .arg(folder)
    .arg(image);
    run(&mut c, "mkfs.ext4")?;
    Ok(())
}

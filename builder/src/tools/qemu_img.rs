//! qemu-img: from a raw disk to other formats.

use super::{command, run};
use crate::error::Error;
use std::path::Path;

/// Writes `to` as qcow2, with what `from` holds: names of files in `folder`, which no option and no address is.
///
/// # Errors
/// [`Error::ToolMissing`], [`Error::ToolFailed`].
pub fn to_qcow2(folder: &Path, from: &'static str, to: &'static str) -> Result<(), Error> {
    let mut c = command("qemu-img", "qemu-utils")?;
    // One piece after the other: where each lies in the file is then the same each time.
    c.current_dir(folder).args(["convert", "-q", "-m", "1", "-f", "raw", "-O", "qcow2", from, to]);
    run(&mut c, "qemu-img")?;
    Ok(())
}

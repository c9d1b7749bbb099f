//! mkfs.fat and mtools: a FAT32 image with a few files, without mounting it, and the same bytes for the same files.

use super::{by_name, command, run};
use crate::error::{At, Error};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One sector: below 65525 clusters it would not be FAT32, and firmware counts them.
const CLUSTER_SECTORS: &str = "1";

/// A file: where it lies, and its bytes.
pub type File = (&'static str, Vec<u8>);

/// A file system to be.
#[derive(Debug)]
pub struct Fat<'a> {
    /// The image, to be made.
    pub image: &'a Path,
    /// How long.
    pub bytes: u64,
    /// Its label: at most eleven capital letters.
    pub label: &'static str,
    /// Its number.
    pub volume: u32,
    /// The date of everything in it, in seconds since 1970.
    pub date: u64,
}

impl Fat<'_> {
    /// Makes it with these folders and files, in this order, and reads each file back; `scratch` is a folder for one at a time.
    ///
    /// # Errors
    /// [`Error::ToolMissing`], [`Error::ToolFailed`]; [`Error::ChangedUnderneath`] where a file does not read back as it was
    /// written; I/O.
    pub fn fill(&self, folders: &[&str], files: &[File], scratch: &Path) -> Result<(), Error> {
        let image = fs::File::create(self.image).at("create", self.image)?;
        image.set_len(self.bytes).at("write", self.image)?;
        drop(image);
        let name = by_name(self.image).1;
        let mut c = self.tool("mkfs.fat", "dosfstools")?;
        c.args(["-F", "32", "-S", "512", "-s", CLUSTER_SECTORS, "-i", &format!("{:08x}", self.volume)]);
        run(c.arg(name), "mkfs.fat")?;
        // mkfs.fat itself would date the label by the machine's clock.
        run(self.tool("mlabel", "mtools")?.arg("-i").arg(name).arg(format!("::{}", self.label)), "mlabel")?;
        for folder in folders {
            run(self.tool("mmd", "mtools")?.arg("-i").arg(name).arg(format!("::{folder}")), "mmd")?;
        }
        for (path, bytes) in files {
            let (from, back) = (scratch.join("file"), scratch.join("back"));
            fs::write(&from, bytes).at("write", &from)?;
            let place = format!("::{path}");
            run(self.tool("mcopy", "mtools")?.arg("-i").arg(name).arg(&from).arg(&place), "mcopy")?;
            run(self.tool("mcopy", "mtools")?.arg("-n").arg("-i").arg(name).arg(&place).arg(&back), "mcopy")?;
            if fs::read(&back).at("read", &back)? != *bytes {
                return Err(Error::ChangedUnderneath { path: PathBuf::from(path) });
            }
            fs::remove_file(&back).at("remove", &back)?;
        }
        Ok(())
    }

    fn tool(&self, name: &str, package: &'static str) -> Result<Command, Error> {
        let mut c = command(name, package)?;
        c.current_dir(by_name(self.image).0);
        // Nobody's drives and settings, and one date for all of it.
        c.env("MTOOLSRC", "/dev/null").env("SOURCE_DATE_EPOCH", self.date.to_string());
        Ok(c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_are_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        // What mtools would take for an offset.
        let folder = dir.path().join("a@@1M");
        fs::create_dir(&folder).unwrap();
        let image = folder.join("image");
        let files: [File; 2] = [("EFI/BOOT/BOOTX64.EFI", vec![7; 1 << 20]), ("EFI/debian/grub.cfg", b"set\n".to_vec())];
        let made = |volume, date| {
            let fat = Fat { image: &image, bytes: 64 << 20, label: "SECAI-ESP", volume, date };
            fat.fill(&["EFI", "EFI/BOOT", "EFI/debian"], &files, dir.path()).unwrap();
            fs::read(&image).unwrap()
        };
        let one = made(0x1234_abcd, 1_700_000_000);
        // FAT counts time in steps of two seconds.
        std::thread::sleep(std::time::Duration::from_millis(2100));
        assert!(one == made(0x1234_abcd, 1_700_000_000), "the time of making shows");
        assert!(one != made(0x1234_abce, 1_700_000_000) && one != made(0x1234_abcd, 1_700_000_002));
        // A boot sector's signature, and what firmware and kernels take for FAT32.
        assert_eq!((&one[510..512], &one[82..90]), (&[0x55, 0xaa][..], &b"FAT32   "[..]));
        let mut check = command("fsck.fat", "dosfstools").unwrap();
        run(check.arg("-n").arg(&image), "fsck.fat").unwrap();
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        let fat = Fat { image: &image, bytes: 64 << 20, label: "SECAI-ESP", volume: 1, date: 1_700_000_000 };
        let error = fat.fill(&[], &[("large", vec![1; 65 << 20])], dir.path()).unwrap_err();
        assert!(matches!(&error, Error::ToolFailed { program, .. } if program == "mcopy"), "{error}");
        fat.fill(&[], &[("no/folder", vec![1])], dir.path()).unwrap_err();
    }
}

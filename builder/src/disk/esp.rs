//! The EFI system partition: the boot chain that the distribution signed, as the commit holds it, and what of ours
//! belongs to it.

use crate::error::{At, Error};
use crate::tools::fat::File;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The least for which every firmware takes it for FAT32 with clusters of one sector is 33 MB; the rest is room for a
/// second GRUB and shim beside the first, while they are exchanged.
pub const ESP_BYTES: u64 = 64 << 20;
/// Of one program: GRUB, the largest, has 2.6 MB, and all of them with a second set must fit.
const PROGRAM_BYTES_MAX: u64 = 8 << 20;
/// Its label.
pub const LABEL: &str = "SECAI-ESP";
/// Its folders.
pub const FOLDERS: [&str; 3] = ["EFI", "EFI/BOOT", "EFI/debian"];
/// Where GRUB, as Debian signs it, looks for its configuration.
pub const GRUB_CFG: &str = "EFI/debian/grub.cfg";
/// Where starts are counted.
pub const GRUBENV: &str = "EFI/debian/grubenv";

/// A signed program of the boot chain.
#[derive(Debug)]
struct Signed {
    in_image: &'static str,
    on_esp: &'static str,
    package: &'static str,
}

/// The shim, which firmware with Microsoft's keys starts; GRUB, which the shim starts. Without fbx64.efi, which would write boot
/// entries into the firmware, and without mmx64.efi, by which whoever sits there makes a key of his own good for the shim.
const CHAIN: [Signed; 2] = [
    Signed { in_image: "usr/lib/shim/shimx64.efi.signed", on_esp: "EFI/BOOT/BOOTX64.EFI", package: "shim-signed" },
    Signed {
        in_image: "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
        on_esp: "EFI/BOOT/grubx64.efi",
        package: "grub-efi-amd64-signed",
    },
];

/// The boot chain, from the deployed commit at `root`: libostree has compared its objects with their names.
///
/// # Errors
/// [`Error::BootPackageMissing`]; I/O.
pub fn chain(root: &Path) -> Result<Vec<File>, Error> {
    CHAIN.iter().map(|it| Ok((it.on_esp, of_image(root, it.in_image, it.package)?))).collect()
}

/// A file that a package has to bring. A link would lead where the recipe's author wants, on the machine that builds.
fn of_image(root: &Path, path: &'static str, package: &'static str) -> Result<Vec<u8>, Error> {
    let unusable = |reason: &str| Error::Unusable { path: root.join(path), reason: reason.to_owned() };
    let flags = (OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
    let file = match inside(root, path, flags) {
        Err(Errno::NOENT) => return Err(Error::BootPackageMissing { path, package }),
        Err(Errno::LOOP) => return Err(unusable("it is a link, or lies behind one")),
        opened => std::fs::File::from(opened.at("read", root.join(path))?),
    };
    let mut bytes = Vec::new();
    file.take(PROGRAM_BYTES_MAX + 1).read_to_end(&mut bytes).at("read", root.join(path))?;
    match bytes.len() as u64 > PROGRAM_BYTES_MAX {
        true => Err(unusable("it is larger than any program of a boot chain")),
        false => Ok(bytes),
    }
}

/// Opens a path of the image, without a link anywhere on the way.
///
/// # Errors
/// [`Errno::LOOP`] for a link; others of `openat2`.
pub fn inside(root: &Path, path: &str, (flags, mode): (OFlags, Mode)) -> Result<OwnedFd, Errno> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::openat2(root, path, flags, mode, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_image_lacks_is_named_with_its_package() {
        let root = tempfile::tempdir().unwrap();
        for signed in CHAIN {
            let error = chain(root.path()).unwrap_err();
            let package = signed.package;
            assert!(matches!(&error, Error::BootPackageMissing { path, .. } if *path == signed.in_image), "{error}");
            assert!(error.hint().unwrap().contains(package), "{:?}", error.hint());
            let file = root.path().join(signed.in_image);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, signed.on_esp).unwrap();
        }
        let shim = root.path().join(CHAIN[0].in_image);
        std::fs::remove_file(&shim).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &shim).unwrap();
        assert!(chain(root.path()).unwrap_err().to_string().contains("it is a link"));
        std::fs::remove_file(&shim).unwrap();
        std::fs::File::create(&shim).unwrap().set_len(PROGRAM_BYTES_MAX + 1).unwrap();
        assert!(chain(root.path()).unwrap_err().to_string().contains("larger"));
        std::fs::write(&shim, CHAIN[0].on_esp).unwrap();
        let found = chain(root.path()).unwrap();
        assert!(found.iter().all(|(path, bytes)| path.as_bytes() == bytes), "{found:?}");
        // Neither of the shim's helpers: the one writes boot entries, the other makes keys good.
        let names: Vec<&str> = found.iter().map(|(path, _)| *path).collect();
        assert_eq!(names, ["EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/grubx64.efi"]);
    }
}

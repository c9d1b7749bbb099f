//! From a bundle to a disk that a machine starts from, by UEFI with Secure Boot: the table, the boot chain that the
//! distribution signed, the deployed commit, and room for what the device writes. Nothing is mounted, nothing but the bundle is
//! read, and the same bundle gives the same bytes with the same versions of the tools.

pub mod esp;
pub mod ids;
pub mod layout;
mod place;
mod release;
mod rendered;

use crate::cache::Cache;
use crate::deploy::{self, Deployed};
use crate::error::{At, Error};
use crate::tools::ext4::{Content, Ext4};
use crate::tools::fat::Fat;
use crate::tools::qemu_img;
use ids::{Ids, Part};
use layout::{Layout, Partition};
use place::Place;
use rendered::MakesVar;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use secai_verifier::device::arguments::{OF_A_DISK, OSTREE, ROOT};
use secai_verifier::grubenv::{Grubenv, Trial};
use serde::Serialize;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// In which form the disk is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Byte by byte; what is empty is a hole.
    Raw,
    /// QEMU's own, compact wherever it is copied.
    Qcow2,
}

/// What a disk is made with besides its bundle.
#[derive(Debug)]
pub struct DiskOptions {
    /// Its form.
    pub format: Format,
    /// Bytes of the whole disk; `None`: as few as its content needs, and 1 GiB for /var.
    pub size: Option<u64>,
    /// The file that it becomes.
    pub output: PathBuf,
    /// The directory of keys that the device is to judge releases by.
    pub trust: Option<PathBuf>,
}

/// A disk.
#[derive(Debug, Serialize)]
pub struct Disk {
    /// Checksum of the commit that is deployed on it.
    pub commit: String,
    /// Its file.
    pub disk: PathBuf,
    /// Its form.
    pub format: Format,
    /// Bytes, as the machine that starts from it sees it.
    pub bytes: u64,
    /// What is where.
    pub partitions: Vec<Partition>,
}

/// Dates that every file system of a disk can hold, in seconds since 1970: FAT begins in 1980 and ends in 2107, and to e2fsprogs 0
/// is the time of making. An image of another date is dated by the nearest.
const DATES: (u64, u64) = (315_532_800, 4_354_819_198);
/// What would turn ours round: a root that nobody writes to, and what is for init alone, as all behind it.
const AGAINST: [&str; 2] = ["ro", "--"];
/// What makes /var at the first start, and its package.
const MAKES_VAR: [(&str, &str); 2] =
    [("usr/sbin/mkfs.ext4", "e2fsprogs"), ("usr/lib/systemd/systemd-makefs", "systemd")];
/// An image with this makes it by itself, encrypted if its owner says so.
const FIRST_BOOT: &str = "usr/lib/systemd/system/secure-ai-var.service";
/// What that starts, and its package.
const FIRST_BOOT_NEEDS: [(&str, &str); 9] = [
    ("usr/sbin/mkfs.ext4", "e2fsprogs"),
    ("usr/sbin/tune2fs", "e2fsprogs"),
    ("usr/sbin/blkid", "util-linux"),
    ("usr/sbin/blkdiscard", "util-linux"),
    ("usr/sbin/cryptsetup", "cryptsetup-bin"),
    ("usr/sbin/dmsetup", "dmsetup"),
    // Without udev's word a mapping is waited for without end.
    ("usr/lib/udev/rules.d/55-dm.rules", "dmsetup"),
    ("usr/bin/systemd-cryptenroll", "systemd-cryptsetup"),
    ("usr/sbin/chpasswd", "passwd"),
];

/// Makes a disk.
///
/// # Errors
/// [`Error::BootPackageMissing`], [`Error::DoesNotFit`], [`Error::Unusable`] for a bundle that breaks its own format and for an
/// image that cannot be started so, [`Error::Ostree`], [`Error::ToolMissing`], [`Error::ToolFailed`]; I/O.
pub fn make(bundle: &Path, options: &DiskOptions, cache: &Cache, say: &dyn Fn(&str)) -> Result<Disk, Error> {
    // libostree makes folders of the device's system by the umask.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let place = Place::of(bundle, &options.output)?;
    let commit = deploy::manifest(bundle)?.labels.commit;
    let ids = Ids::of(commit);
    let scratch = cache.scratch()?;
    let sysroot = scratch.path().join("sysroot");
    let arguments: Vec<String> = std::iter::once(format!("{ROOT}=PARTUUID={}", ids.partition(Part::Root)))
        .chain(OF_A_DISK.map(str::to_owned))
        .collect();
    say("importing the layers");
    let deployed = deploy::deploy(bundle, &sysroot, [&[], &arguments], say)?;
    check(bundle, &deployed)?;
    let mut files = esp::chain(&deployed.root)?;
    files.push((esp::GRUB_CFG, rendered::grub_cfg()?.into_bytes()));
    let mut counted = Grubenv::default();
    counted.put(Trial::None).map_err(|e| Error::Unusable { path: esp::GRUBENV.into(), reason: e.to_string() })?;
    files.push((esp::GRUBENV, counted.to_bytes().to_vec()));
    lay_fstab(bundle, &deployed.root, &rendered::fstab(&ids, makes_var(&deployed.root))?)?;
    release::lay(bundle, options.trust.as_deref(), &sysroot, &deployed.commit)?;
    let boot = apart(&sysroot, &scratch.path().join("boot"))?;
    let layout = Layout::of(&ids, Content::of(&boot)?, Content::of(&sysroot)?, options.size)?;

    say("making the disk");
    let raw = place.file("raw");
    let raw = raw.as_path();
    let mut disk = fs::File::create_new(raw).at("create", raw)?;
    disk.set_len(layout.bytes).at("write", raw)?;
    layout.write(&ids, &mut disk, raw)?;
    let of = |part| layout.part(part).map(|it| (it.offset, it.bytes)).unwrap_or_default();
    let image = scratch.path().join("esp");
    let (bytes, date) = (of(Part::Esp).1, dated(deployed.date));
    let fat = Fat { image: &image, bytes, label: esp::LABEL, volume: ids.volume(), date };
    fat.fill(&esp::FOLDERS, &files, scratch.path())?;
    let image = fs::read(&image).at("read", &image)?;
    disk.seek(SeekFrom::Start(of(Part::Esp).0)).and_then(|_| sparse(&mut disk, &image)).at("write", raw)?;
    drop((disk, image));
    for (part, label, folder, immutable) in
        [(Part::Boot, "boot", &boot, None), (Part::Root, "root", &sysroot, Some(deployed.root.as_path()))]
    {
        say(&format!("filling {label}"));
        let (offset, bytes) = of(part);
        let (uuid, hash_seed) = (ids.file_system(part), ids.hash_seed(part));
        Ext4 { disk: raw, offset, bytes, label, uuid, hash_seed, date }.fill(folder, immutable, scratch.path())?;
    }
    let made = match options.format {
        Format::Raw => raw.to_owned(),
        Format::Qcow2 => {
            say("converting");
            qemu_img::to_qcow2(place.folder(), "raw", "qcow2")?;
            place.file("qcow2")
        }
    };
    fs::File::open(&made).and_then(|file| file.sync_all()).at("write", &made)?;
    fs::rename(&made, &place.output).at("move", &made)?;
    Ok(Disk {
        commit: deployed.commit,
        disk: place.output.clone(),
        format: options.format,
        bytes: layout.bytes,
        partitions: layout.partitions,
    })
}

/// Can this image be started from a disk?
fn check(bundle: &Path, deployed: &Deployed) -> Result<(), Error> {
    let needs: &[(&'static str, &'static str)] = match makes_var(&deployed.root) {
        MakesVar::Systemd => &MAKES_VAR,
        MakesVar::FirstBoot => &FIRST_BOOT_NEEDS,
    };
    for (path, package) in needs.iter().copied() {
        if deployed.root.join(path).symlink_metadata().is_err() {
            return Err(Error::BootPackageMissing { path, package });
        }
    }
    let unusable = |reason| Error::Unusable { path: bundle.to_owned(), reason };
    deployed.entry.is_plain().map_err(unusable)?;
    // An image that has another of a name is refused.
    for name in [ROOT, OSTREE].into_iter().chain(OF_A_DISK.map(key)).chain(AGAINST) {
        // GRUB looks for libostree's argument by its text.
        let same = |it: &&str| key(it) == name || (name == OSTREE && it.contains("ostree=/"));
        let ours = usize::from(!AGAINST.contains(&name));
        let mut found = deployed.entry.arguments().filter(same);
        if let (Some(first), true) = (found.next(), found.count() >= ours) {
            return Err(unusable(format!("its image sets the kernel argument {first}, which is the disk's to set")));
        }
    }
    Ok(())
}

fn makes_var(root: &Path) -> MakesVar {
    if root.join(FIRST_BOOT).symlink_metadata().is_ok() { MakesVar::FirstBoot } else { MakesVar::Systemd }
}

/// The nearest date that a disk can have.
fn dated(date: u64) -> u64 {
    date.clamp(DATES.0, DATES.1)
}

/// The name of a kernel argument.
fn key(argument: &str) -> &str {
    argument.split_once('=').map_or(argument, |(name, _)| name)
}

/// The table of this disk's file systems. An image that has one knows other disks.
fn lay_fstab(bundle: &Path, root: &Path, text: &str) -> Result<(), Error> {
    let path = root.join("etc/fstab");
    let new = (OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC, Mode::from_raw_mode(0o644));
    match esp::inside(root, "etc/fstab", new) {
        Err(Errno::EXIST | Errno::LOOP) => Err(Error::Unusable {
            path: bundle.to_owned(),
            reason: "the image has an /etc/fstab of its own, where the one of the disk has to stand".into(),
        }),
        opened => fs::File::from(opened.at("create", &path)?).write_all(text.as_bytes()).at("write", &path),
    }
}

/// Takes /boot out of the sysroot, which gets an empty folder for it.
fn apart(sysroot: &Path, boot: &Path) -> Result<PathBuf, Error> {
    let from = sysroot.join("boot");
    fs::rename(&from, boot).at("move", &from)?;
    fs::create_dir(&from).at("create", &from)?;
    // Where the EFI system partition is mounted.
    fs::create_dir(boot.join("efi")).at("create", boot.join("efi"))?;
    Ok(boot.to_owned())
}

/// Writes what is not zero; the rest of the file is a hole already.
fn sparse(disk: &mut fs::File, bytes: &[u8]) -> std::io::Result<()> {
    const PIECE_BYTES: usize = 4096;
    for piece in bytes.chunks(PIECE_BYTES) {
        match piece.iter().all(|byte| *byte == 0) {
            true => drop(disk.seek(SeekFrom::Current(piece.len() as i64))?),
            false => disk.write_all(piece)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_started_from_a_disk_is_named() {
        let image = tempfile::tempdir().unwrap();
        let deployed = |title: &str, own: &str| {
            Deployed {
            commit: String::new(),
            kernel: PathBuf::new(),
            initramfs: PathBuf::new(),
            entry: deploy::Entry::parse(&format!(
                "title {title}\noptions {own} root=PARTUUID=0-1 {} ostree=/ostree/boot.1/secai/0f/0\nlinux /v\ninitrd /i\n",
                OF_A_DISK.join(" ")
            ))
            .unwrap(),
            root: image.path().to_owned(),
            date: 0,
        }
        };
        let check = |title: &str, own: &str| check(Path::new("bundle"), &deployed(title, own));
        let lay = |path: &str| {
            fs::create_dir_all(image.path().join(path).parent().unwrap()).unwrap();
            fs::write(image.path().join(path), "").unwrap();
        };
        lay(FIRST_BOOT);
        for (path, package) in FIRST_BOOT_NEEDS {
            let error = check("SecAI OS", "quiet").unwrap_err();
            assert!(error.hint().unwrap().contains(package), "{error}");
            lay(path);
        }
        check("SecAI OS", "quiet").unwrap();
        fs::remove_dir_all(image.path().join("usr")).unwrap();
        for (path, package) in MAKES_VAR {
            let error = check("SecAI OS", "quiet").unwrap_err();
            assert!(error.hint().unwrap().contains(package), "{error}");
            lay(path);
        }
        check("SecAI OS (1)", "console=ttyS0,115200n8 panic_print=1 rootwait my.panic=1").unwrap();
        for own in ["panic=0", "root=/dev/sda", "rw", "ro", "rd.timeout=0", "rd.shell", "rd.emergency=halt", "--"]
            .into_iter()
            .chain(["ostree=/x", "my.ostree=/ostree/boot.0/secai/aa/0"])
        {
            let error = check("SecAI OS", &format!("quiet {own}")).unwrap_err().to_string();
            assert!(error.contains(&format!("kernel argument {own}, which")), "{own}: {error}");
        }
        assert!(check("SecAI OS", "a;reboot").unwrap_err().to_string().contains("kernel argument \"a;reboot\""));
        assert!(check("SecAI; reboot", "quiet").unwrap_err().to_string().contains("PRETTY_NAME"));
    }

    #[test]
    fn a_disk_has_a_date_that_its_file_systems_can_hold() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        let made = |date| {
            let fat = Fat { image: &image, bytes: esp::ESP_BYTES, label: esp::LABEL, volume: 1, date: dated(date) };
            fat.fill(&["EFI"], &[("EFI/file", vec![1])], dir.path()).unwrap();
            fs::read(&image).unwrap()
        };
        assert_eq!((dated(1_700_000_000), dated(0) > 0), (1_700_000_000, true));
        let [first, last] = [0, u64::MAX].map(made);
        assert!(first != last);
        // FAT counts time in steps of two seconds, and none of them is read off the clock.
        std::thread::sleep(std::time::Duration::from_millis(2100));
        assert!(first == made(0) && last == made(u64::MAX));
        // The day, month and year of the label: 1 January of year 0, which is 1980; 31 December of year 127.
        let root = 32 * 512 + 2 * u32::from_le_bytes(first[36..40].try_into().unwrap()) as usize * 512;
        assert_eq!((&first[root + 24..root + 26], &last[root + 24..root + 26]), (&[0x21, 0x00][..], &[0x9f, 0xff][..]));
    }

    #[test]
    fn a_table_of_file_systems_is_laid_where_none_is_and_never_through_a_link() {
        let image = tempfile::tempdir().unwrap();
        let (etc, outside) = (image.path().join("etc"), image.path().join("outside"));
        let lay = || lay_fstab(Path::new("bundle"), image.path(), "table");
        fs::create_dir(&etc).unwrap();
        lay().unwrap();
        assert_eq!(fs::read_to_string(etc.join("fstab")).unwrap(), "table");
        assert!(lay().unwrap_err().to_string().contains("of its own"));
        fs::remove_dir_all(&etc).unwrap();
        fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, &etc).unwrap();
        lay().unwrap_err();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
}

//! Starting a bundle in QEMU: its layers are imported into a fresh OSTree repository, deployed as on a device, and
//! booted. Nothing but the bundle is read. Or a disk, as a machine starts from it: by its firmware, with Secure Boot.

use crate::cache::Cache;
use crate::deploy;
use crate::error::{At, Error};
use crate::tools::ext4::Content;
use crate::tools::mkfs;
pub use crate::tools::qemu::Card;
use crate::tools::qemu::{Accelerator, Guest, Smm, Start, Watched};
use crate::tools::swtpm::Swtpm;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use serde::Serialize;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Room on the guest's disk beside what is deployed.
const DISK_SPARE_BYTES: u64 = 2 << 30;
/// Where a guest that is given its kernel finds its root.
const ROOT: [&str; 2] = ["root=/dev/vda", "rw"];
/// UEFI firmware that knows Secure Boot, and variables in which it is on, with Microsoft's keys: what a machine as it is
/// sold has.
const FIRMWARE: [&str; 2] = ["/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"];
/// Code and variables lie one behind the other in a chip of this size.
const FIRMWARE_BYTES: u64 = 4 << 20;
/// What a disk begins with.
const QCOW2: &[u8] = b"QFI\xfb";
const TABLE: &[u8] = b"EFI PART";
/// The feature of a qcow2 whose clusters lie in a file of their own.
const QCOW2_DATA_FILE: u8 = 1 << 2;
/// systemd's own bound.
const CREDENTIAL_NAME_MAX: usize = 255;
/// MiB of memory for the guest.
const MEMORY: u32 = 2048;

/// How to boot.
#[derive(Debug)]
pub struct BootOptions {
    /// What the serial console must show; `None`: until the guest ends by itself.
    pub expect: Option<Regex>,
    /// Is the serial console our own standard input and output?
    pub console: bool,
    /// A network card.
    pub network: Option<Card>,
    /// For how long it may take.
    pub timeout: Duration,
    /// Further kernel arguments, for this boot only; of a bundle.
    pub append: Vec<String>,
    /// Does what the guest writes stay on its disk? Of a disk.
    pub keep: bool,
    /// Variables of the firmware to begin with: keys, and whether Secure Boot is on. Of a disk.
    pub variables: Option<PathBuf>,
    /// What systemd in the guest is told, as its firmware would.
    pub credentials: Vec<Credential>,
    /// The folder of a TPM in software, which the guest has beside it.
    pub tpm: Option<PathBuf>,
    /// Where the serial log is kept.
    pub log: PathBuf,
}

/// A credential of systemd.
#[derive(Clone)]
pub struct Credential {
    name: String,
    value: Vec<u8>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its value is a secret.
        f.debug_struct("Credential").field("name", &self.name).finish_non_exhaustive()
    }
}

impl std::str::FromStr for Credential {
    type Err = String;

    /// `NAME=VALUE`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("is not NAME=VALUE")?;
        let is_name = name.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it));
        match is_name && !name.starts_with('.') && (1..=CREDENTIAL_NAME_MAX).contains(&name.len()) {
            true => Ok(Self { name: name.to_owned(), value: value.as_bytes().to_vec() }),
            false => Err(format!("`{name}` is no name of a credential")),
        }
    }
}

impl Credential {
    /// As systemd finds it among what the firmware says.
    fn told(&self) -> String {
        format!("io.systemd.credential.binary:{}={}", self.name, STANDARD.encode(&self.value))
    }

    /// Each in a file that nobody else reads: arguments are for everybody.
    fn laid(all: &[Self], folder: &Path) -> Result<Vec<PathBuf>, Error> {
        let lay = |(at, credential): (usize, &Self)| {
            let path = folder.join(format!("told-{at}"));
            let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            file.and_then(|mut file| file.write_all(credential.told().as_bytes())).at("create", &path)?;
            Ok(path)
        };
        all.iter().enumerate().map(lay).collect()
    }
}

/// What was seen.
#[derive(Debug, Serialize)]
pub struct Booted {
    /// Checksum of the commit that was deployed; of a bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Seconds from starting QEMU until the expression was seen.
    pub seconds: f64,
    /// `kvm` or `tcg`.
    pub accelerator: &'static str,
    /// The serial log.
    pub log: PathBuf,
}

/// Boots and watches a disk, where `path` is a file; else imports, deploys, boots and watches a bundle.
///
/// # Errors
/// [`Error::NotSeen`] when the guest shows something else; [`Error::NeedsRoot`] for a bundle; [`Error::Unusable`] for what
/// cannot be read; [`Error::Ostree`] when libostree refuses an object; [`Error::Firmware`]; [`Error::Usage`] for options of
/// the other kind.
pub fn boot(path: &Path, options: &BootOptions, cache: &Cache, say: &dyn Fn(&str)) -> Result<Booted, Error> {
    let wrong = |option, reason: &str| Error::Usage { option, value: String::new(), reason: reason.to_owned() };
    if path.is_file() {
        if !options.append.is_empty() {
            return Err(wrong("--append", "is for bundles: a disk has its kernel's arguments on it"));
        }
        return disk(path, options, cache, say);
    }
    if options.keep || options.variables.is_some() {
        return Err(wrong("--keep and --variables", "are for disks: a bundle is deployed anew each time"));
    }
    bundle(path, options, cache, say)
}

fn bundle(bundle: &Path, options: &BootOptions, cache: &Cache, say: &dyn Fn(&str)) -> Result<Booted, Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NeedsRoot { what: "deploying files with their real owners" });
    }
    // libostree makes folders of the guest's system by the umask.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let accelerator = Accelerator::of_this_machine(cache, Smm::Off)?;
    let scratch = cache.scratch()?;
    let sysroot = scratch.path().join("sysroot");
    say("importing the layers");
    let deployed = deploy::deploy(bundle, &sysroot, [&ROOT.map(str::to_owned), &options.append], say)?;
    say("making the disk");
    let disk = scratch.path().join("disk.ext4");
    mkfs::ext4(&disk, Content::of(&sysroot)?.on_ext4() + DISK_SPARE_BYTES, &sysroot)?;
    let start = Start::Kernel {
        kernel: &deployed.kernel,
        initramfs: &deployed.initramfs,
        arguments: deployed.entry.get("options"),
    };
    watch(start, (&disk, "raw"), accelerator, options, Some(&deployed.commit), scratch.path(), say)
}

fn disk(disk: &Path, options: &BootOptions, cache: &Cache, say: &dyn Fn(&str)) -> Result<Booted, Error> {
    let format = format_of(disk)?;
    // From the root: before a colon QEMU would read a protocol.
    let disk = disk.canonicalize().at("read", disk)?;
    let [code, usual] = FIRMWARE.map(Path::new);
    let begun = options.variables.as_deref().unwrap_or(usual);
    check_firmware(code, begun)?;
    let accelerator = Accelerator::of_this_machine(cache, Smm::On)?;
    let scratch = cache.scratch()?;
    let variables = scratch.path().join("variables.fd");
    fs::copy(begun, &variables).at("copy", begun)?;
    let start = Start::Firmware { code, variables: &variables };
    watch(start, (&disk, format), accelerator, options, None, scratch.path(), say)
}

/// Firmware whose code and variables do not belong together does nothing, and says nothing.
fn check_firmware(code: &Path, variables: &Path) -> Result<(), Error> {
    let bytes = |path: &Path| {
        let wrong = |reason: String| Error::Firmware { path: path.to_owned(), reason };
        path.metadata().map(|meta| meta.len()).map_err(|e| wrong(format!("it cannot be read: {e}")))
    };
    let (code_bytes, found) = (bytes(code)?, bytes(variables)?);
    match code_bytes + found == FIRMWARE_BYTES {
        true => Ok(()),
        false => Err(Error::Firmware {
            path: variables.to_owned(),
            reason: format!(
                "it has {found} bytes, and variables of {} have {}",
                code.display(),
                FIRMWARE_BYTES.saturating_sub(code_bytes)
            ),
        }),
    }
}

fn format_of(disk: &Path) -> Result<&'static str, Error> {
    let mut begin = [0; 520];
    let read = fs::File::open(disk).and_then(|mut file| file.read_exact(&mut begin));
    let unusable = |reason: &str| Error::Unusable { path: disk.to_owned(), reason: reason.to_owned() };
    match read {
        Ok(()) if names_another_file(&begin) => Err(unusable("it is qcow2, and what it holds lies in another file")),
        Ok(()) if begin.starts_with(QCOW2) => Ok("qcow2"),
        Ok(()) if begin.ends_with(TABLE) => Ok("raw"),
        Err(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => Err(e).at("read", disk),
        _ => Err(unusable("it is neither a folder with a bundle nor a disk, raw or qcow2")),
    }
}

/// A qcow2 may name a file that QEMU reads in its place: any on this machine. Ours name none.
fn names_another_file(begin: &[u8; 520]) -> bool {
    // Of its header: where the name of a backing file stands, and the features without which it cannot be read, from version 3.
    let is_set = |range: std::ops::Range<usize>| begin.get(range).is_some_and(|it| it.iter().any(|byte| *byte != 0));
    let is_new = begin.get(4..8).is_some_and(|version| version > &[0, 0, 0, 2][..]);
    let has_data_file = begin.get(79).is_some_and(|features| features & QCOW2_DATA_FILE != 0);
    begin.starts_with(QCOW2) && (is_set(8..16) || (is_new && has_data_file))
}

fn watch(
    start: Start,
    (disk, format): (&Path, &str),
    accelerator: Accelerator,
    options: &BootOptions,
    commit: Option<&str>,
    scratch: &Path,
    say: &dyn Fn(&str),
) -> Result<Booted, Error> {
    say("booting");
    fs::write(&options.log, "").at("create", &options.log)?;
    let told = Credential::laid(&options.credentials, scratch)?;
    let tpm = options.tpm.as_deref().map(Swtpm::begin).transpose()?;
    let guest = Guest {
        // The disk of a bundle is made anew each time.
        keep: options.keep || matches!(start, Start::Kernel { .. }),
        start,
        disk,
        format,
        memory: MEMORY,
        log: &options.log,
        console: options.console,
        network: options.network.as_ref(),
        told: &told,
        tpm: tpm.as_ref().map(Swtpm::socket),
    };
    let begin = Instant::now();
    let seen = |text: &str| options.expect.as_ref().is_some_and(|expect| expect.is_match(text));
    let watched = guest.watch(accelerator, options.timeout, &seen, &|line| say(line.trim()))?;
    let booted = |seconds| Booted {
        commit: commit.map(str::to_owned),
        seconds,
        accelerator: if accelerator == Accelerator::Kvm { "kvm" } else { "tcg" },
        log: options.log.clone(),
    };
    let ended = match watched {
        Watched::Seen(seconds) => return Ok(booted(seconds)),
        Watched::PoweredOff if options.expect.is_none() => return Ok(booted(begin.elapsed().as_secs_f64())),
        Watched::PoweredOff => "it powered off",
        Watched::Panicked => "its kernel panicked",
        Watched::TimedOut => "time ran out",
    };
    let expected = options.expect.as_ref().map_or_else(|| "its end".to_owned(), Regex::to_string);
    Err(Error::NotSeen {
        expected,
        seconds: options.timeout.as_secs(),
        ended: ended.to_owned(),
        log: options.log.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_told_as_systemd_reads_it_and_shown_to_nobody() {
        let credential: Credential = "secai.owner=ada:$y$=".parse().unwrap();
        assert_eq!(credential.told(), "io.systemd.credential.binary:secai.owner=YWRhOiR5JD0=");
        assert!(!format!("{credential:?}").contains("121"), "{credential:?}");
        let dir = tempfile::tempdir().unwrap();
        let [file] = &Credential::laid(std::slice::from_ref(&credential), dir.path()).unwrap()[..] else { panic!() };
        assert_eq!(fs::read_to_string(file).unwrap(), credential.told());
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&file.metadata().unwrap()) & 0o777, 0o600);
        for bad in ["", "secai.luks", "=x", "a/b=x", "..=x", "a b=x", &format!("{}=x", "a".repeat(256))] {
            bad.parse::<Credential>().unwrap_err();
        }
    }

    #[test]
    fn what_is_no_disk_and_what_is_no_firmware_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let mut table = vec![0; 1024];
        table[512..520].copy_from_slice(TABLE);
        assert_eq!(format_of(&file("raw", &table)).unwrap(), "raw");
        assert_eq!(format_of(&file("qcow2", &[QCOW2, &[0; 600]].concat())).unwrap(), "qcow2");
        let qcow2 = |version: u8, at: usize, byte: u8| {
            let mut bytes = [QCOW2, &[0, 0, 0, version], &[0; 600]].concat();
            bytes[at] |= byte;
            bytes
        };
        for (bytes, refused) in [
            (qcow2(2, 15, 0x48), true),
            (qcow2(3, 8, 1), true),
            (qcow2(3, 79, 4), true),
            (qcow2(3, 79, 1), false),
            (qcow2(2, 79, 4), false),
            (qcow2(3, 600, 1), false),
        ] {
            let found = format_of(&file("qcow2", &bytes));
            assert_eq!(found.is_err_and(|e| e.to_string().contains("another file")), refused, "{:?}", &bytes[..80]);
        }
        for bytes in [&b""[..], QCOW2, &[0; 1024]] {
            assert!(matches!(format_of(&file("other", bytes)), Err(Error::Unusable { .. })), "{bytes:?}");
        }
        let code = file("code", &vec![0; 3 << 20]);
        check_firmware(&code, &file("variables", &vec![0; 1 << 20])).unwrap();
        for variables in [file("variables of another size", &[0; 1 << 17]), dir.path().join("none")] {
            let error = check_firmware(&code, &variables).unwrap_err();
            assert!(matches!(&error, Error::Firmware { path, .. } if *path == variables), "{error}");
            assert!(error.hint().unwrap().contains("ovmf"));
        }
    }
}

//! The partition of `/var`: looked at, made, opened, erased, by the programs that know how.

use crate::config::{ConfigError, TPM, VarSaid, partition, passphrase};
use crate::decide::{FINISHED, Found, Key, Step, UNFINISHED, Way, found, keys, step, way};
use crate::deployments::{open_for_writing, restore_others};
use crate::etc::{EtcError, restore};
use crate::mark::Begun;
use crate::terminal::{Ask, Echo, Terminal, TerminalError, announce};
use secai_daemon::program::{Bounds, ProgramError, run as start};
use secai_daemon::report::{Hint, Priority};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

const BLKDISCARD: &str = "/usr/sbin/blkdiscard";
const BLKID: &str = "/usr/sbin/blkid";
const CRYPTENROLL: &str = "/usr/bin/systemd-cryptenroll";
const CRYPTSETUP: &str = "/usr/sbin/cryptsetup";
const DMSETUP: &str = "/usr/sbin/dmsetup";
const MKFS: &str = "/usr/sbin/mkfs.ext4";
const SYSTEMCTL: &str = "/usr/bin/systemctl";
const TUNE2FS: &str = "/usr/sbin/tune2fs";

/// Where udev lays partitions by their numbers.
const PARTITIONS: &str = "/dev/disk/by-partuuid";
/// Where the kernel's mappings lie, and that of `/etc/fstab` among them.
const MAPPINGS: &str = "/dev/mapper";
const NAME: &str = "var";
/// A TPM that the kernel keeps in order, and the firmware's word that there is one.
const TPM_DEVICE: &str = "/dev/tpmrm0";
const TPM_SAID: &str = "/sys/firmware/acpi/tables/TPM2";
/// What a disk, and its udev, may take to appear.
const DEVICE_TIME_MAX: Duration = Duration::from_secs(120);
const TPM_TIME_MAX: Duration = Duration::from_secs(20);
/// By looking: what udev says is not heard in a namespace without the machine's network.
const LOOKS: Duration = Duration::from_millis(100);
/// Making a file system on a large and slow disk, or deriving a key on a slow machine.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(900), bytes: 64 << 10 };
/// Writing zeros over all of it.
const ERASE_BOUNDS: Bounds = Bounds { time: Duration::from_secs(24 * 3600), bytes: 4096 };
/// Where signs of what lies on a partition stand, and as far as a file system begins.
const HEAD_BYTES: usize = 1 << 20;
/// The header of LUKS2 with its key slots, and what begins behind it.
const SLOTS_BYTES: usize = 32 << 20;
/// KiB for deriving a key. More is better against who tries passphrases, and this much a machine with 1 GiB has: `MemoryMax=` of the
/// unit has room for it.
const DERIVATION_KIB: &str = "262144";
/// Wrong passphrases in a row, and how long nobody is asked then.
const TRIES: usize = 3;
const PAUSE: Duration = Duration::from_secs(30);
/// cryptsetup's word for a key that opens nothing.
const NO_PERMISSION: i32 = 2;
/// libblkid's words for nothing, and for several things at once.
const BLKID_NOTHING: i32 = 2;
const BLKID_SEVERAL: i32 = 8;
/// Instead of a passphrase.
const NONE: &str = "none";

/// Why there is no `/var`.
#[derive(Debug, thiserror::Error)]
pub enum VarError {
    /// What was said of it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `/etc`.
    #[error(transparent)]
    Etc(#[from] EtcError),
    /// A program.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Nobody to ask.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
    /// No such partition.
    #[error("the partition of /var did not appear: {}", .0.display())]
    NoDevice(PathBuf),
    /// The kernel said no.
    #[error("cannot {0} {path}", path = .1.display())]
    Act(&'static str, PathBuf, #[source] io::Error),
    /// It is not ours.
    #[error("the partition of /var is not empty, and not made by this system: {0}")]
    Foreign(String),
    /// What was asked for cannot be had.
    #[error("{0}")]
    Cannot(&'static str),
}

impl Hint for VarError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Etc(error) => error.hint(),
            Self::Terminal(error) => error.hint(),
            Self::Foreign(_) => {
                Some("nothing was formatted: save what lies there from other media, and wipe it".to_owned())
            }
            Self::Cannot(_) => Some(format!("give {TPM} as `no`, or turn the TPM on in the firmware's settings")),
            _ => Some("the next boot goes on where this one ended".to_owned()),
        }
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// `/var` can be mounted.
    Ready,
    /// Everything was erased: the machine has to start again.
    Erased,
}

/// Sees to it that `/var` can be mounted.
///
/// # Errors
/// [`VarError`]; the next boot goes on.
pub fn run(etc: &Path, as_shipped: &Path, sysroot: &Path, credentials: Option<&Path>) -> Result<Done, VarError> {
    let Some(uuid) = partition(&etc.join("fstab"))? else { return Ok(Done::Ready) };
    if is_mapped(NAME) {
        return Ok(Done::Ready);
    }
    let by_number = Path::new(PARTITIONS).join(uuid);
    if !appears(&by_number, DEVICE_TIME_MAX) {
        return Err(VarError::NoDevice(by_number));
    }
    let device = Device(by_number.canonicalize().map_err(|error| VarError::Act("find", by_number, error))?);
    let found = device.look()?;
    match step(Begun::of(etc)?, &found) {
        Step::Erase => {
            announce(Priority::Warning, "erasing everything: the owner said so");
            device.erase(&found)?;
            open_for_writing(sysroot)?;
            restore_others(sysroot, etc)?;
            restore(etc, as_shipped)?;
            // From here on it is a first boot that was begun.
            Begun::Var.mark(etc)?;
            announce(Priority::Info, "everything is erased; the machine starts again");
            start(
                SYSTEMCTL,
                &["--no-block", "--job-mode=replace-irreversibly", "start", "reboot.target"],
                b"",
                BOUNDS,
            )?;
            Ok(Done::Erased)
        }
        Step::Refuse(what) => Err(VarError::Foreign(what)),
        Step::Make => {
            let said = VarSaid::read(credentials)?;
            let way = way(&said, said.tpm && has_tpm()).map_err(VarError::Cannot)?;
            let way = asked_for(way)?;
            Begun::Var.mark(etc)?;
            announce(Priority::Info, "making /var: this takes a minute");
            device.make(&way)?;
            device.name(&way)?;
            Begun::finished(etc)?;
            announce(Priority::Info, "/var is made");
            Ok(Done::Ready)
        }
        Step::Open => {
            let said = VarSaid::read(credentials)?;
            device.open(&said)?;
            Begun::finished_if_any(etc)?;
            Ok(Done::Ready)
        }
        Step::Map => {
            device.map()?;
            Begun::finished_if_any(etc)?;
            Ok(Done::Ready)
        }
    }
}

/// Polls, up to a bounded time.
fn appears(path: &Path, time: Duration) -> bool {
    let until = Instant::now() + time;
    loop {
        match path.exists() {
            false if Instant::now() < until => std::thread::sleep(LOOKS),
            there => return there,
        }
    }
}

fn has_tpm() -> bool {
    let time = if Path::new(TPM_SAID).exists() { TPM_TIME_MAX } else { Duration::ZERO };
    appears(Path::new(TPM_DEVICE), time)
}

fn is_mapped(name: &str) -> bool {
    Path::new(MAPPINGS).join(name).exists()
}

/// Whoever sits there is asked, where nobody said before.
fn asked_for(way: Way) -> Result<Way, TerminalError> {
    match way {
        Way::Ask { tpm } => ask(&mut Terminal::of_the_machine()?, tpm),
        said => Ok(said),
    }
}

fn ask(person: &mut impl Ask, tpm: bool) -> Result<Way, TerminalError> {
    person.tell(
        "\nSecAI OS: the first boot. What this device keeps lies in /var: homes, models, the audit chain.\n\
         It is encrypted with a passphrase, which is asked for at each start. Who forgets it has lost all of it.\n\
         With `none` it is not encrypted.",
    );
    loop {
        let first = person.ask("Passphrase of /var:", Echo::Hidden)?;
        if first.as_str() == NONE {
            person.tell(
                "WITHOUT ENCRYPTION whoever holds the disk reads everything on it. It can be had later only by erasing everything.",
            );
            if person.ask("To have it so, type none again:", Echo::Shown)?.as_str() == NONE {
                return Ok(Way::Plain);
            }
            continue;
        }
        match passphrase(first.as_bytes()) {
            Err(reason) => person.tell(&format!("Not that one: {reason}.")),
            Ok(passphrase) if *person.ask("The same again:", Echo::Hidden)? == *first => {
                return Ok(Way::Encrypt { passphrase, tpm });
            }
            Ok(_) => person.tell("These were two different ones."),
        }
    }
}

/// The partition.
struct Device(PathBuf);

impl Device {
    fn path(&self) -> &str {
        // As the kernel names it: nothing but letters and digits.
        self.0.to_str().unwrap_or_default()
    }

    fn fail(&self, verb: &'static str) -> impl FnOnce(io::Error) -> VarError {
        move |error| VarError::Act(verb, self.0.clone(), error)
    }

    fn look(&self) -> Result<Found, VarError> {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        let read = File::open(&self.0).and_then(|it| it.take(HEAD_BYTES as u64).read_to_end(&mut head));
        read.map_err(self.fail("read"))?;
        let known = match start(BLKID, &["--probe", "--output", "export", self.path()], b"", BOUNDS) {
            Ok(text) => kind(&String::from_utf8_lossy(&text)),
            Err(error) if error.code() == Some(BLKID_NOTHING) => None,
            Err(error) if error.code() == Some(BLKID_SEVERAL) => Some("several things at once".to_owned()),
            Err(error) => return Err(error.into()),
        };
        Ok(found(&head, known.as_deref()))
    }

    /// Nothing of what lay there can be read. What is encrypted is gone with the slots of its key; the rest with its bytes.
    fn erase(&self, found: &Found) -> Result<(), VarError> {
        match found {
            Found::Nothing => {}
            Found::Encrypted { .. } => {
                start(CRYPTSETUP, &["erase", "--batch-mode", self.path()], b"", BOUNDS)?;
                self.zero(SLOTS_BYTES)?;
            }
            Found::Plain { .. } | Found::Foreign(_) => {
                start(BLKDISCARD, &["--force", "--zeroout", self.path()], b"", ERASE_BOUNDS)?;
            }
        }
        self.sync()
    }

    /// From its end to its beginning: cut, it still says what it is, and is begun again.
    fn zero(&self, bytes: usize) -> Result<(), VarError> {
        const PIECE_BYTES: usize = 1 << 20;
        use std::os::unix::fs::FileExt;
        let device = File::options().write(true).open(&self.0).map_err(self.fail("open"))?;
        for at in (0..bytes / PIECE_BYTES).rev() {
            device.write_all_at(&[0; PIECE_BYTES], (at * PIECE_BYTES) as u64).map_err(self.fail("write"))?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), VarError> {
        File::options().write(true).open(&self.0).and_then(|it| it.sync_all()).map_err(self.fail("write"))
    }

    /// All of it, its last label last.
    fn make(&self, way: &Way) -> Result<(), VarError> {
        // What another kind of file system left would still be found.
        self.zero(SLOTS_BYTES)?;
        match way {
            Way::Encrypt { passphrase, tpm } => {
                let format = [
                    "luksFormat",
                    "--batch-mode",
                    "--type",
                    "luks2",
                    "--label",
                    UNFINISHED,
                    "--pbkdf",
                    "argon2id",
                    "--pbkdf-memory",
                    DERIVATION_KIB,
                    "--key-file",
                    "-",
                    self.path(),
                ];
                start(CRYPTSETUP, &format, passphrase, BOUNDS)?;
                if is_mapped(UNFINISHED) {
                    start(CRYPTSETUP, &["close", UNFINISHED], b"", BOUNDS)?;
                }
                self.unlock(UNFINISHED, passphrase)?;
                let inside = format!("{MAPPINGS}/{UNFINISHED}");
                start(MKFS, &["-q", "-F", "-L", NAME, &inside], b"", BOUNDS)?;
                start(CRYPTSETUP, &["close", UNFINISHED], b"", BOUNDS)?;
                if *tpm {
                    let enroll = ["--tpm2-device=auto", "--tpm2-pcrs=7", "--unlock-key-file=/dev/stdin", self.path()];
                    start(CRYPTENROLL, &enroll, passphrase, BOUNDS)?;
                }
                self.sync()?;
                start(CRYPTSETUP, &["config", "--label", FINISHED, self.path()], b"", BOUNDS)?;
            }
            Way::Plain | Way::Ask { .. } => {
                start(MKFS, &["-q", "-F", "-L", UNFINISHED, self.path()], b"", BOUNDS)?;
                self.sync()?;
                start(TUNE2FS, &["-L", FINISHED, self.path()], b"", BOUNDS)?;
            }
        }
        self.sync()
    }

    /// Under the name that `/etc/fstab` has for it.
    fn name(&self, way: &Way) -> Result<(), VarError> {
        match way {
            Way::Encrypt { passphrase, .. } => Ok(self.unlock(NAME, passphrase)?),
            Way::Plain | Way::Ask { .. } => self.map(),
        }
    }

    fn unlock(&self, name: &str, passphrase: &[u8]) -> Result<(), ProgramError> {
        // By this passphrase: cryptsetup would ask the TPM first, and take any.
        let words = ["open", "--type", "luks2", "--disable-external-tokens", "--key-file", "-", self.path(), name];
        start(CRYPTSETUP, &words, passphrase, BOUNDS).map(drop)
    }

    /// By what there is; in the end by who sits there, however often it takes.
    fn open(&self, said: &VarSaid) -> Result<(), VarError> {
        for key in keys(said, has_tpm()) {
            match key {
                Key::Tpm => {
                    let words =
                        ["open", "--type", "luks2", "--token-only", "--token-type", "systemd-tpm2", self.path(), NAME];
                    match start(CRYPTSETUP, &words, b"", BOUNDS) {
                        Ok(_) => {
                            announce(Priority::Info, "/var was opened by the TPM");
                            return Ok(());
                        }
                        // It was never told, or the machine started otherwise than it was then.
                        Err(error) => secai_daemon::report::say(Priority::Warning, &format!("not by the TPM: {error}")),
                    }
                }
                Key::Credential => {
                    let passphrase = said.passphrase.as_ref().map_or(&b""[..], |it| it.as_slice());
                    match self.unlock(NAME, passphrase) {
                        Err(error) if error.code() == Some(NO_PERMISSION) => {
                            announce(Priority::Warning, "the credential secai.luks does not open /var");
                        }
                        done => return Ok(done?),
                    }
                }
                Key::Person => {
                    let mut person = Terminal::of_the_machine()?;
                    return self.opened_by(&mut person);
                }
            }
        }
        Ok(())
    }

    fn opened_by(&self, person: &mut impl Ask) -> Result<(), VarError> {
        person.tell("");
        loop {
            for _ in 0..TRIES {
                let passphrase: Zeroizing<String> = person.ask("Passphrase of /var:", Echo::Hidden)?;
                match self.unlock(NAME, passphrase.as_bytes()) {
                    Err(error) if error.code() == Some(NO_PERMISSION) => person.tell("It does not open /var."),
                    done => return Ok(done?),
                }
            }
            person.tell(&format!("{TRIES} wrong ones: nobody is asked for {} s.", PAUSE.as_secs()));
            std::thread::sleep(PAUSE);
        }
    }

    /// As it is, under the same name.
    fn map(&self) -> Result<(), VarError> {
        let name = self.0.file_name().unwrap_or_default();
        let path = Path::new("/sys/class/block").join(name).join("size");
        let read = fs::read_to_string(&path).and_then(|text| text.trim().parse::<u64>().map_err(io::Error::other));
        let sectors = read.map_err(|error| VarError::Act("read", path, error))?;
        let table = format!("0 {sectors} linear {} 0", self.path());
        Ok(start(DMSETUP, &["create", NAME, "--table", &table], b"", BOUNDS).map(drop)?)
    }
}

/// What libblkid calls it; none where it knows no more than how the disk's own table has the partition.
fn kind(export: &str) -> Option<String> {
    let value = |key: &str| export.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let is_of_table = |line: &str| line.is_empty() || line.starts_with("DEVNAME=") || line.starts_with("PART_ENTRY_");
    match value("TYPE").or_else(|| value("PTTYPE")) {
        Some(name) => Some(name.to_owned()),
        None if export.lines().all(is_of_table) => None,
        None => Some("something that has no name".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::tests::Scripted;

    #[test]
    fn what_is_typed_wrongly_is_asked_again() {
        let mut person = Scripted::of(&["short", "correct horse", "correct hose", "none", "no", "none", "none"]);
        assert_eq!(ask(&mut person, true).unwrap(), Way::Plain);
        assert!(person.answers.is_empty());
        for words in ["fewer than 8", "two different", "WITHOUT ENCRYPTION whoever holds the disk"] {
            assert!(person.heard.contains(words), "{words}: {}", person.heard);
        }
        let mut person = Scripted::of(&["correct horse", "correct horse"]);
        let Way::Encrypt { passphrase, tpm: true } = ask(&mut person, true).unwrap() else { panic!() };
        assert_eq!(passphrase.as_slice(), b"correct horse");
        assert!(!person.heard.contains("correct") && !person.heard.contains("WITHOUT"));
        assert!(matches!(ask(&mut Scripted::of(&["none"]), false), Err(TerminalError::None)));
    }

    #[test]
    fn a_system_without_our_partition_needs_nothing() {
        let etc = tempfile::tempdir().unwrap();
        assert_eq!(run(etc.path(), etc.path(), etc.path(), None).unwrap(), Done::Ready);
        fs::write(etc.path().join("fstab"), "PARTUUID=1 /var ext4 x-systemd.makefs 0 2\n").unwrap();
        assert_eq!(run(etc.path(), etc.path(), etc.path(), None).unwrap(), Done::Ready);
    }

    #[test]
    fn a_kind_is_what_libblkid_calls_it() {
        let kind = |export| super::kind(export).unwrap_or_default();
        assert_eq!(kind("DEVNAME=/dev/x\nLABEL=TYPE=x\nTYPE=btrfs\nPART_ENTRY_TYPE=y\n"), "btrfs");
        assert_eq!(kind("DEVNAME=/dev/x\nPTTYPE=gpt\n"), "gpt");
        assert_eq!(kind("DEVNAME=/dev/x\nUSAGE=other\n"), "something that has no name");
        // An empty partition of a GPT.
        assert_eq!(kind("DEVNAME=/dev/x\nPART_ENTRY_SCHEME=gpt\nPART_ENTRY_NAME=var\n"), "");
    }

    #[test]
    fn what_is_erased_is_zero_from_its_beginning() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file.as_file(), &vec![7; SLOTS_BYTES + 1]).unwrap();
        let device = Device(file.path().to_owned());
        device.erase(&Found::Nothing).unwrap();
        assert!(fs::read(file.path()).unwrap().iter().all(|byte| *byte == 7));
        device.zero(SLOTS_BYTES).unwrap();
        let bytes = fs::read(file.path()).unwrap();
        assert!(bytes[..SLOTS_BYTES].iter().all(|byte| *byte == 0) && bytes[SLOTS_BYTES] == 7);
    }
}

//! What it is told: credentials of systemd, and the line of `/etc/fstab` that names the partition of `/var`.

use secai_daemon::report::Hint;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The passphrase of `/var`.
pub const LUKS: &str = "secai.luks";
/// Is the TPM to open it as well? `yes` or `no`.
pub const TPM: &str = "secai.tpm";
/// `yes`: `/var` is not encrypted.
pub const UNENCRYPTED: &str = "secai.unencrypted";
/// `NAME:HASH` of the owner, or `none`.
pub const OWNER: &str = "secai.owner";

/// Shorter ones are tried out in no time, however slow each try is made.
pub const PASSPHRASE_BYTES_MIN: usize = 8;
/// What cryptsetup takes at a keyboard: a longer one could not be typed.
pub const PASSPHRASE_BYTES_MAX: usize = 512;
/// Far above any of them.
const CREDENTIAL_BYTES_MAX: usize = 1024;
/// What `useradd` and systemd take.
const NAME_BYTES_MAX: usize = 31;
/// The least and the most of SHA-512's rounds: fewer are no work, more are none that anybody waits for.
const ROUNDS: std::ops::RangeInclusive<u32> = 5000..=10_000_000;
/// Salts and hashes as crypt(3) writes them.
const SHA512_SALT_MAX: usize = 16;
const SHA512_HASH: usize = 86;
const YESCRYPT_SALT_MAX: usize = 86;
const YESCRYPT_HASH: usize = 43;
const YESCRYPT_PARAMETERS_MAX: usize = 16;
/// A table of file systems has a handful of lines.
const FSTAB_BYTES_MAX: usize = 64 << 10;
/// Before the number of the partition, among the options of `/var`.
const PARTITION: &str = "x-secai.partition=";

/// Why what it is told cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Its value is nowhere in this.
    #[error("the credential {name} is malformed: {reason}")]
    Credential {
        /// Which.
        name: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The table does not say where `/var` lies.
    #[error("{} names no partition for /var: {reason}", path.display())]
    Fstab {
        /// The table.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}

impl Hint for ConfigError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Credential { .. } => {
                Some("nothing was changed: give it right, or not at all, and start the machine again".to_owned())
            }
            Self::Fstab { .. } => {
                Some("`secai-build disk` wrote it; `verify-release` says what was changed".to_owned())
            }
            Self::Read { .. } => None,
        }
    }
}

fn wrong(name: &'static str, reason: &'static str) -> ConfigError {
    ConfigError::Credential { name, reason }
}

/// A name and the hash of a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Of the account.
    pub name: String,
    /// As shadow(5) keeps it.
    pub hash: Zeroizing<String>,
}

/// What is said of the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnerSaid {
    /// Nobody is to have an account.
    Nobody,
    /// This one.
    Somebody(Owner),
}

/// What is said of `/var`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VarSaid {
    /// Its passphrase.
    pub passphrase: Option<Zeroizing<Vec<u8>>>,
    /// Shall the TPM open it?
    pub tpm: bool,
    /// Shall it lie on the disk as it is?
    pub unencrypted: bool,
}

impl VarSaid {
    /// From the values of the three credentials.
    ///
    /// # Errors
    /// [`ConfigError::Credential`].
    pub fn parse(luks: Option<&[u8]>, tpm: Option<&[u8]>, unencrypted: Option<&[u8]>) -> Result<Self, ConfigError> {
        let passphrase = luks.map(|value| passphrase(line(value)).map_err(|reason| wrong(LUKS, reason))).transpose()?;
        let tpm = tpm.map(|value| yes_or_no(TPM, value)).transpose()?.unwrap_or(false);
        let unencrypted = unencrypted.map(|value| yes_or_no(UNENCRYPTED, value)).transpose()?.unwrap_or(false);
        match unencrypted {
            true if passphrase.is_some() => Err(wrong(UNENCRYPTED, "there is a passphrase as well, secai.luks")),
            true if tpm => Err(wrong(UNENCRYPTED, "the TPM is asked for as well, secai.tpm")),
            _ => Ok(Self { passphrase, tpm, unencrypted }),
        }
    }

    /// From the folder in which systemd lays them.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(folder: Option<&Path>) -> Result<Self, ConfigError> {
        let [luks, tpm, unencrypted] = [LUKS, TPM, UNENCRYPTED].map(|name| credential(folder, name));
        let (luks, tpm, unencrypted) = (luks?, tpm?, unencrypted?);
        let bytes = |value: &Option<Zeroizing<Vec<u8>>>| value.as_ref().map(|it| it.to_vec()).map(Zeroizing::new);
        let (luks, tpm, unencrypted) = (bytes(&luks), bytes(&tpm), bytes(&unencrypted));
        Self::parse(
            luks.as_ref().map(|it| it.as_slice()),
            tpm.as_ref().map(|it| it.as_slice()),
            unencrypted.as_ref().map(|it| it.as_slice()),
        )
    }
}

impl OwnerSaid {
    /// From the value of the credential.
    ///
    /// # Errors
    /// [`ConfigError::Credential`].
    pub fn parse(value: &[u8]) -> Result<Self, ConfigError> {
        let text = std::str::from_utf8(line(value)).map_err(|_| wrong(OWNER, "it is no text"))?;
        if text == "none" {
            return Ok(Self::Nobody);
        }
        let (name, hash) = text.split_once(':').ok_or_else(|| wrong(OWNER, "it is neither NAME:HASH nor `none`"))?;
        check_name(name).map_err(|reason| wrong(OWNER, reason))?;
        check_hash(hash).map_err(|reason| wrong(OWNER, reason))?;
        Ok(Self::Somebody(Owner { name: name.to_owned(), hash: Zeroizing::new(hash.to_owned()) }))
    }

    /// From the folder in which systemd lays it; none where it is not given.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(folder: Option<&Path>) -> Result<Option<Self>, ConfigError> {
        credential(folder, OWNER)?.map(|value| Self::parse(&value)).transpose()
    }
}

/// Without the end of line that an editor leaves.
fn line(value: &[u8]) -> &[u8] {
    value.strip_suffix(b"\n").unwrap_or(value)
}

fn yes_or_no(name: &'static str, value: &[u8]) -> Result<bool, ConfigError> {
    match line(value) {
        b"yes" => Ok(true),
        b"no" => Ok(false),
        _ => Err(wrong(name, "it is neither `yes` nor `no`")),
    }
}

/// Can this be a passphrase, and be typed?
///
/// # Errors
/// Why not.
pub fn passphrase(value: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    match value.len() {
        ..PASSPHRASE_BYTES_MIN => Err("it has fewer than 8 bytes"),
        PASSPHRASE_BYTES_MIN..=PASSPHRASE_BYTES_MAX if value.iter().any(u8::is_ascii_control) => {
            Err("it holds a character that nobody can type in a line")
        }
        PASSPHRASE_BYTES_MIN..=PASSPHRASE_BYTES_MAX => Ok(Zeroizing::new(value.to_vec())),
        _ => Err("it has more than 512 bytes"),
    }
}

/// Can somebody have this name? As systemd's strict rules have it, and lower case.
///
/// # Errors
/// Why not.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let begins = name.bytes().next().is_some_and(|it| it.is_ascii_lowercase() || it == b'_');
    let goes_on = name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || b"_-".contains(&it));
    match () {
        () if !begins || !goes_on => Err("the name is not of a-z, 0-9, _ and -, beginning with a letter"),
        () if name.len() > NAME_BYTES_MAX => Err("the name has more than 31 characters"),
        () if name == "root" || name == "none" || name == "nobody" => Err("the name is not one of a person"),
        () if name.starts_with("secure-ai") || name.starts_with("systemd-") => {
            Err("the name is one of the system's own")
        }
        () => Ok(()),
    }
}

/// Is this a hash of crypt(3) that somebody can log in with, and that costs work to try out?
fn check_hash(hash: &str) -> Result<(), &'static str> {
    const SHAPE: &str = "the hash is not whole";
    let is_of_crypt =
        |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_alphanumeric() || b"./".contains(&it));
    let parts: Vec<&str> = hash.split('$').collect();
    let (salt, salt_max, made, length) = match parts[..] {
        ["", "y", parameters, salt, made] => {
            if !is_of_crypt(parameters) || parameters.len() > YESCRYPT_PARAMETERS_MAX {
                return Err(SHAPE);
            }
            (salt, YESCRYPT_SALT_MAX, made, YESCRYPT_HASH)
        }
        ["", "6", salt, made] => (salt, SHA512_SALT_MAX, made, SHA512_HASH),
        ["", "6", rounds, salt, made] => {
            let rounds = rounds.strip_prefix("rounds=").filter(|it| it.bytes().all(|it| it.is_ascii_digit()));
            if !rounds.and_then(|it| it.parse().ok()).is_some_and(|it| ROUNDS.contains(&it)) {
                return Err("the rounds of the hash are not from 5000 to 10000000");
            }
            (salt, SHA512_SALT_MAX, made, SHA512_HASH)
        }
        _ => return Err("the hash is neither yescrypt ($y$) nor SHA-512 ($6$) of crypt(3)"),
    };
    match is_of_crypt(salt) && salt.len() <= salt_max && is_of_crypt(made) && made.len() == length {
        true => Ok(()),
        false => Err(SHAPE),
    }
}

fn credential(folder: Option<&Path>, name: &'static str) -> Result<Option<Zeroizing<Vec<u8>>>, ConfigError> {
    let Some(folder) = folder else { return Ok(None) };
    let path = folder.join(name);
    match read(&path, CREDENTIAL_BYTES_MAX) {
        Ok(Some(bytes)) => Ok(Some(Zeroizing::new(bytes))),
        Ok(None) => Err(wrong(name, "it has more than 1024 bytes")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Read { path, source }),
    }
}

/// None: it is longer.
pub(crate) fn read(path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
    // In one piece: what grows leaves its bytes behind.
    let mut bytes = Vec::with_capacity(limit + 1);
    File::open(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|it| it.len() <= limit))
}

/// The partition that `/var` is made on; none where there is no table, as in a guest that is given its kernel, or where it says nothing of
/// ours.
///
/// # Errors
/// [`ConfigError`].
pub fn partition(path: &Path) -> Result<Option<String>, ConfigError> {
    let bytes = match read(path, FSTAB_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
    };
    let text = bytes.as_ref().and_then(|it| std::str::from_utf8(it).ok()).ok_or("it is no table");
    text.and_then(parse_fstab).map_err(|reason| ConfigError::Fstab { path: path.to_owned(), reason })
}

fn parse_fstab(text: &str) -> Result<Option<String>, &'static str> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut found = lines
        .filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [_, "/var", _, options, ..] => Some(options),
            _ => None,
        })
        .flat_map(|options| options.split(',').filter_map(|it| it.strip_prefix(PARTITION)));
    let Some(uuid) = found.next() else { return Ok(None) };
    // It becomes a part of a path.
    let is_hexadecimal = |part: &str| part.bytes().all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it));
    let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
    match () {
        () if found.next().is_some() => Err("it names two"),
        () if lengths != [8, 4, 4, 4, 12] || !uuid.split('-').all(is_hexadecimal) => Err("it is no UUID"),
        () => Ok(Some(uuid.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA512: &str = "$6$salt$";
    fn hash(of: &str, length: usize) -> String {
        format!("ada:{of}{}", "a".repeat(length))
    }

    #[test]
    fn an_owner_is_a_name_and_a_hash_that_costs_work() {
        let Ok(OwnerSaid::Somebody(owner)) = OwnerSaid::parse(format!("{}\n", hash("$y$j9T$salt$", 43)).as_bytes())
        else {
            panic!()
        };
        assert_eq!((owner.name.as_str(), owner.hash.len()), ("ada", 55));
        assert_eq!(OwnerSaid::parse(b"none").unwrap(), OwnerSaid::Nobody);
        for good in [hash(SHA512, 86), hash("$6$rounds=5000$salt$", 86), hash("$6$rounds=10000000$x$", 86)] {
            OwnerSaid::parse(good.as_bytes()).unwrap();
        }
        for (bad, reason) in [
            ("", "neither NAME:HASH"),
            ("ada", "neither NAME:HASH"),
            ("None", "neither NAME:HASH"),
            ("ada:", "neither yescrypt"),
            ("ada:secret", "neither yescrypt"),
            ("ada:!", "neither yescrypt"),
            (&hash("$1$salt$", 22), "neither yescrypt"),
            (&hash("$5$salt$", 43), "neither yescrypt"),
            (&hash(SHA512, 85), "not whole"),
            (&hash(SHA512, 87), "not whole"),
            (&hash("$6$$", 86), "not whole"),
            (&hash("$6$seventeenletters_$", 86), "not whole"),
            (&hash("$6$rounds=4999$salt$", 86), "rounds"),
            (&hash("$6$rounds=10000001$salt$", 86), "rounds"),
            (&hash("$6$rounds=+9999$salt$", 86), "rounds"),
            (&hash("$y$$salt$", 43), "not whole"),
            (&hash("$y$j9T$salt$", 42), "not whole"),
            (&format!("{}:x", hash(SHA512, 84)), "not whole"),
            (&format!("{}\nroot::0", hash(SHA512, 86)), "not whole"),
            (&hash(SHA512, 86).replace("ada", "Ada"), "the name"),
            (&hash(SHA512, 86).replace("ada", "0da"), "the name"),
            (&hash(SHA512, 86).replace("ada", "-da"), "the name"),
            (&hash(SHA512, 86).replace("ada", "root"), "the name"),
            (&hash(SHA512, 86).replace("ada", "secure-ai-audit"), "system's own"),
            (&hash(SHA512, 86).replace("ada", &"a".repeat(32)), "31"),
        ] {
            let error = OwnerSaid::parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("the credential secai.owner is malformed: "), "{error}");
            assert!(error.contains(reason), "{bad}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        OwnerSaid::parse(b"\xff:x").unwrap_err();
    }

    #[test]
    fn what_is_said_of_var_is_followed_to_the_letter_or_not_at_all() {
        let parse = VarSaid::parse;
        assert_eq!(parse(None, None, None).unwrap(), VarSaid::default());
        let said = parse(Some(b"correct horse\n"), Some(b"yes"), Some(b"no\n")).unwrap();
        assert_eq!(said.passphrase.unwrap().as_slice(), b"correct horse");
        assert!(said.tpm && !said.unencrypted);
        assert!(parse(None, None, Some(b"yes")).unwrap().unencrypted);
        let long = [b'x'; PASSPHRASE_BYTES_MAX + 1];
        for (luks, tpm, unencrypted, name) in [
            (Some(&b"sevenXX"[..]), None, None, LUKS),
            (Some(b"sevenXX\n"), None, None, LUKS),
            (Some(b""), None, None, LUKS),
            (Some(b"two\nlines of it"), None, None, LUKS),
            (Some(&long[..]), None, None, LUKS),
            (None, Some(&b"true"[..]), None, TPM),
            (None, Some(b""), None, TPM),
            (None, None, Some(&b"YES"[..]), UNENCRYPTED),
            (Some(b"correct horse"), None, Some(b"yes"), UNENCRYPTED),
            (None, Some(b"yes"), Some(b"yes"), UNENCRYPTED),
        ] {
            let error = parse(luks, tpm, unencrypted).unwrap_err();
            assert!(error.to_string().contains(&format!("{name} is malformed")), "{error}");
            assert!(!error.to_string().contains("horse") && error.hint().is_some());
        }
        parse(Some(&long[1..]), None, None).unwrap();
    }

    #[test]
    fn credentials_are_read_where_systemd_lays_them() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(VarSaid::read(None).unwrap(), VarSaid::default());
        assert_eq!(OwnerSaid::read(Some(folder.path())).unwrap(), None);
        std::fs::write(folder.path().join(UNENCRYPTED), "yes").unwrap();
        assert!(VarSaid::read(Some(folder.path())).unwrap().unencrypted);
        std::fs::write(folder.path().join(OWNER), vec![b'x'; CREDENTIAL_BYTES_MAX + 1]).unwrap();
        assert!(OwnerSaid::read(Some(folder.path())).unwrap_err().to_string().contains("more than"));
    }

    #[test]
    fn the_partition_stands_in_the_table() {
        let uuid = "0f1e2d3c-0000-4000-8000-0123456789ab";
        let var = format!("/dev/mapper/var /var ext4 nodev,x-secai.partition={uuid},nosuid 0 2\n");
        let other = "# x-secai.partition=1\nPARTUUID=1 /boot ext4 x-secai.partition=2 0 2\n";
        assert_eq!(parse_fstab(&format!("{other}{var}")).unwrap().as_deref(), Some(uuid));
        assert_eq!(parse_fstab(other).unwrap(), None);
        assert_eq!(parse_fstab("PARTUUID=3 /var ext4 x-systemd.makefs 0 2\n").unwrap(), None);
        for (bad, reason) in [
            (format!("{var}{var}"), "two"),
            (var.replace(uuid, ""), "no UUID"),
            (var.replace(uuid, "../../../dev/vda1-0000-0000-0000"), "no UUID"),
            (var.replace("0f1e", "0F1E"), "no UUID"),
        ] {
            assert!(parse_fstab(&bad).unwrap_err().contains(reason), "{bad}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(partition(&folder.path().join("fstab")).unwrap(), None);
        std::fs::write(folder.path().join("fstab"), var).unwrap();
        assert_eq!(partition(&folder.path().join("fstab")).unwrap().as_deref(), Some(uuid));
    }
}

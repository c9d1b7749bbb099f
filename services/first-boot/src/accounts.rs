//! passwd(5) and its three neighbours as texts: who is in them, and a person added. Parsing and writing of lines; no file is opened
//! here but by [`Accounts::read`] and [`Accounts::write`].

use crate::config::read;
use crate::etc::{EtcError, put};
use rustix::fs::{FlockOperation, Mode, OFlags, fcntl_lock, open};
use secai_daemon::report::Hint;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A device has some dozen accounts.
const BYTES_MAX: usize = 1 << 20;
/// The lock of shadow-utils and of systemd-sysusers, below `/etc`.
const LOCK: &str = ".pwd.lock";
/// Whoever holds it ends soon.
const LOCK_TIME_MAX: Duration = Duration::from_secs(60);
const LOCK_LOOKS: Duration = Duration::from_millis(100);
/// Users who are people.
pub const PEOPLE: std::ops::RangeInclusive<u32> = 1000..=60_000;
/// Whose members may become root.
pub const ADMINISTRATORS: &str = "sudo";
const SHELL: &str = "/bin/bash";
/// Days of age, of warning and of grace of a password: as shadow-utils writes them where nobody says otherwise.
const AGES: &str = "0:99999:7:::";

/// Why an account cannot be made or looked at.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Etc(#[from] EtcError),
    /// A file is none of accounts.
    #[error("{} is too large, or no text", .0.display())]
    Text(PathBuf),
    /// Somebody else changes them.
    #[error("somebody else holds the lock of the accounts for more than {} s", LOCK_TIME_MAX.as_secs())]
    Locked,
    /// The name is somebody's.
    #[error("there is an account `{0}` already, which is not a person's")]
    Taken(String),
    /// Each number is somebody's.
    #[error("there is no number left for another person")]
    NoNumber,
    /// The group of those who may become root is not there.
    #[error("there is no group `{ADMINISTRATORS}`")]
    NoAdministrators,
}

impl Hint for AccountError {}

/// The lock, as long as it is kept.
#[derive(Debug)]
pub struct Lock {
    _file: OwnedFd,
}

impl Lock {
    /// Waits for it.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn take(etc: &Path) -> Result<Self, AccountError> {
        let path = etc.join(LOCK);
        let cannot = |errno: rustix::io::Errno| EtcError::Act("lock", path.clone(), errno.into());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(cannot)?;
        let until = Instant::now() + LOCK_TIME_MAX;
        loop {
            match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) if Instant::now() < until => {
                    std::thread::sleep(LOCK_LOOKS);
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => return Err(AccountError::Locked),
                Err(errno) => return Err(cannot(errno).into()),
            }
        }
    }
}

/// The four files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accounts {
    /// Users.
    pub passwd: String,
    /// Their passwords.
    pub shadow: String,
    /// Groups.
    pub group: String,
    /// Who keeps these.
    pub gshadow: String,
}

impl Accounts {
    /// Reads them; one that is not there is empty.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn read(etc: &Path) -> Result<Self, AccountError> {
        let text = |name: &str| {
            let path = etc.join(name);
            match read(&path, BYTES_MAX) {
                Ok(bytes) => {
                    let text = bytes.and_then(|it| String::from_utf8(it).ok());
                    text.ok_or(AccountError::Text(path))
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
                Err(error) => Err(EtcError::Act("read", path, error).into()),
            }
        };
        Ok(Self { passwd: text("passwd")?, shadow: text("shadow")?, group: text("group")?, gshadow: text("gshadow")? })
    }

    /// Writes what is not as before: who is in passwd is everywhere, whenever it ends.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn write(&self, etc: &Path, before: &Self) -> Result<(), AccountError> {
        for (name, new, old, mode) in [
            ("group", &self.group, &before.group, 0o644),
            ("gshadow", &self.gshadow, &before.gshadow, 0o600),
            ("shadow", &self.shadow, &before.shadow, 0o600),
            ("passwd", &self.passwd, &before.passwd, 0o644),
        ] {
            if new != old {
                put(&etc.join(name), new.as_bytes(), mode)?;
            }
        }
        Ok(())
    }

    /// The name and number of every user.
    pub fn users(&self) -> impl Iterator<Item = (&str, u32)> {
        numbered(&self.passwd)
    }

    /// The name and number of every group.
    pub fn groups(&self) -> impl Iterator<Item = (&str, u32)> {
        numbered(&self.group)
    }

    /// These, and a person who may become root. Whoever has the name already, and is a person, keeps his number; the password is the
    /// new one.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn with_person(&self, name: &str, hash: &str) -> Result<(Self, u32), AccountError> {
        let known = self.users().find(|(it, _)| *it == name).map(|(_, uid)| uid);
        if known.is_some_and(|uid| !PEOPLE.contains(&uid))
            || (known.is_none() && self.groups().any(|(it, gid)| it == name && !PEOPLE.contains(&gid)))
        {
            return Err(AccountError::Taken(name.to_owned()));
        }
        // A group that a cut left without its user: its number is his.
        let of_group = self.groups().find(|(it, _)| *it == name).map(|(_, gid)| gid);
        let is_free = |id: &u32| !self.users().any(|(_, it)| it == *id) && !self.groups().any(|(_, it)| it == *id);
        let half_made = of_group.filter(|gid| !self.users().any(|(_, it)| it == *gid));
        let uid = known.or(half_made).or_else(|| PEOPLE.clone().find(is_free)).ok_or(AccountError::NoNumber)?;
        let gid = of_group.unwrap_or(uid);
        if !self.groups().any(|(it, _)| it == ADMINISTRATORS) {
            return Err(AccountError::NoAdministrators);
        }
        let new = Self {
            passwd: with_line(&self.passwd, name, &format!("{name}:x:{uid}:{gid}::/home/{name}:{SHELL}")),
            shadow: with_line(&self.shadow, name, &format!("{name}:{hash}::{AGES}")),
            group: with_member(&with_line(&self.group, name, &format!("{name}:x:{gid}:")), name),
            gshadow: with_member(&with_line(&self.gshadow, name, &format!("{name}:!::")), name),
        };
        Ok((new, uid))
    }
}

fn numbered(text: &str) -> impl Iterator<Item = (&str, u32)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        number.parse().ok().map(|number| (name, number))
    })
}

/// The text with this line for this name, in the place of the one it had.
fn with_line(text: &str, name: &str, line: &str) -> String {
    let is_his = |it: &str| it.split(':').next() == Some(name);
    let mut lines: Vec<&str> = text.lines().map(|it| if is_his(it) { line } else { it }).collect();
    if !lines.contains(&line) {
        lines.push(line);
    }
    lines.iter().map(|it| format!("{it}\n")).collect()
}

/// With him among those who may become root: members are a group's fourth field.
fn with_member(text: &str, name: &str) -> String {
    let line = |line: &str| match line.split(':').collect::<Vec<_>>()[..] {
        [ADMINISTRATORS, password, number, members] if !members.split(',').any(|it| it == name) => {
            let comma = if members.is_empty() { "" } else { "," };
            format!("{ADMINISTRATORS}:{password}:{number}:{members}{comma}{name}\n")
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/bash\nsecure-ai-audit:x:956:956::/:/usr/sbin/nologin\n".into(),
            shadow: "root:*:1::::::\n".into(),
            group: "root:x:0:\nsudo:x:27:\nsecure-ai-audit:x:956:\n".into(),
            gshadow: "root:*::\nsudo:*::\n".into(),
        }
    }

    #[test]
    fn a_person_is_added_once_and_may_become_root() {
        let (with, uid) = device().with_person("ada", "$y$hash").unwrap();
        assert_eq!(uid, 1000);
        assert!(with.passwd.ends_with("ada:x:1000:1000::/home/ada:/bin/bash\n"), "{}", with.passwd);
        assert!(with.shadow.ends_with("ada:$y$hash::0:99999:7:::\n"), "{}", with.shadow);
        assert_eq!(with.group, "root:x:0:\nsudo:x:27:ada\nsecure-ai-audit:x:956:\nada:x:1000:\n");
        assert_eq!(with.gshadow, "root:*::\nsudo:*::ada\nada:!::\n");
        // Whatever a cut left, the same comes out.
        for half in [
            Accounts { group: with.group.clone(), ..device() },
            Accounts { group: with.group.clone(), gshadow: with.gshadow.clone(), ..device() },
            Accounts { passwd: device().passwd, ..with.clone() },
            with.clone(),
        ] {
            assert_eq!(half.with_person("ada", "$y$hash").unwrap(), (with.clone(), 1000), "{half:?}");
        }
        let (other, uid) = with.with_person("eve", "$y$more").unwrap();
        assert_eq!(uid, 1001);
        assert!(other.group.contains("sudo:x:27:ada,eve\n"), "{}", other.group);
    }

    #[test]
    fn no_person_gets_an_account_of_the_system() {
        for name in ["root", "secure-ai-audit", "sudo"] {
            assert!(matches!(device().with_person(name, "$y$x"), Err(AccountError::Taken(_))), "{name}");
        }
        let without = Accounts { group: "root:x:0:\n".into(), ..device() };
        assert!(matches!(without.with_person("ada", "$y$x"), Err(AccountError::NoAdministrators)));
    }

    #[test]
    fn files_keep_who_was_in_them() {
        let etc = tempfile::tempdir().unwrap();
        assert_eq!(Accounts::read(etc.path()).unwrap(), Accounts::default());
        let _lock = Lock::take(etc.path()).unwrap();
        device().write(etc.path(), &Accounts::default()).unwrap();
        assert_eq!(Accounts::read(etc.path()).unwrap(), device());
        std::fs::write(etc.path().join("shadow"), b"\xff").unwrap();
        assert!(matches!(Accounts::read(etc.path()), Err(AccountError::Text(_))));
    }
}

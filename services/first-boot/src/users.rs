//! Services know each other, and the firewall knows them, by their numbers. systemd-sysusers picks another number where one is
//! somebody's, and leaves an account of the name as it finds it: what came of it is looked at, at every boot.

use crate::accounts::{AccountError, Accounts, Lock};
use crate::etc::EtcError;
use secai_daemon::report::Hint;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the lines of services lie.
pub const SYSUSERS: &str = "/usr/lib/sysusers.d";
/// Theirs, by name.
const PREFIX: &str = "secure-ai-";
/// A screenful each.
const BYTES_MAX: usize = 64 << 10;

/// Why no service of ours may start.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The accounts cannot be read or written.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// A file of ours cannot be read.
    #[error(transparent)]
    Etc(#[from] EtcError),
    /// A line that declares no user.
    #[error("{} declares no user with a number: `{line}`", path.display())]
    Line {
        /// Its file.
        path: PathBuf,
        /// The line.
        line: String,
    },
    /// The number is somebody else's.
    #[error("{kind} {number} is {found}'s, and {wanted} is known by it")]
    Taken {
        /// User or group.
        kind: &'static str,
        /// The number.
        number: u32,
        /// Who has it.
        found: String,
        /// Who should.
        wanted: String,
    },
    /// There is no such account.
    #[error("there is no {kind} {wanted}")]
    Missing {
        /// User or group.
        kind: &'static str,
        /// Who should be there.
        wanted: String,
    },
}

impl Hint for UsersError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Taken { .. } => Some(
                "nothing of SecAI starts: who has the number would be taken for it. Start the release before, and give that \
                 account another number"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// Who is to have which number.
type Wanted = BTreeMap<String, u32>;

/// Looks, and sets right what can be; how many accounts were.
///
/// # Errors
/// [`UsersError`]; nothing was changed then.
pub fn ensure(sysusers: &Path, etc: &Path) -> Result<usize, UsersError> {
    let wanted = declared(sysusers)?;
    let _lock = Lock::take(etc)?;
    let before = Accounts::read(etc)?;
    let (after, changed) = set_right(&before, &wanted)?;
    after.write(etc, &before)?;
    Ok(changed)
}

fn declared(sysusers: &Path) -> Result<Wanted, UsersError> {
    let cannot = |error| EtcError::Act("read", sysusers.to_owned(), error);
    let mut wanted = Wanted::new();
    for entry in fs::read_dir(sysusers).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if !path.file_name().is_some_and(|it| it.to_string_lossy().starts_with(PREFIX)) {
            continue;
        }
        let bytes =
            crate::config::read(&path, BYTES_MAX).map_err(|error| EtcError::Act("read", path.clone(), error))?;
        let text = bytes.and_then(|it| String::from_utf8(it).ok());
        let text = text.ok_or_else(|| UsersError::Line { path: path.clone(), line: "no text".to_owned() })?;
        wanted.extend(parse(&text).map_err(|line| UsersError::Line { path, line })?);
    }
    Ok(wanted)
}

/// `u NAME UID …`; the line that is none.
fn parse(text: &str) -> Result<Wanted, String> {
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["u" | "u!", name, number, ..] => {
                number.parse().map(|number| (name.to_owned(), number)).map_err(|_| line.to_owned())
            }
            _ => Err(line.to_owned()),
        })
        .collect()
}

/// An account of ours with another number gets its own where nobody has it. What it wrote under the other one stays as it is: its
/// service says so when it cannot read it.
fn set_right(accounts: &Accounts, wanted: &Wanted) -> Result<(Accounts, usize), UsersError> {
    let mut after = accounts.clone();
    let mut changed = 0;
    for (name, number) in wanted {
        for (kind, found) in
            [("user", accounts.users().collect::<Vec<_>>()), ("group", accounts.groups().collect::<Vec<_>>())]
        {
            if let Some((other, _)) = found.iter().find(|(it, id)| id == number && it != name) {
                let (found, wanted) = ((*other).to_owned(), name.clone());
                return Err(UsersError::Taken { kind, number: *number, found, wanted });
            }
            if !found.iter().any(|(it, _)| it == name) {
                return Err(UsersError::Missing { kind, wanted: name.clone() });
            }
        }
        after.passwd = renumbered(&after.passwd, name, *number, 2);
        after.group = renumbered(&after.group, name, *number, 1);
        changed += usize::from(lines_of(&after, name) != lines_of(accounts, name));
    }
    Ok((after, changed))
}

fn lines_of<'a>(accounts: &'a Accounts, name: &str) -> Vec<&'a str> {
    let is_his = |line: &&str| line.split(':').next() == Some(name);
    accounts.passwd.lines().chain(accounts.group.lines()).filter(is_his).collect()
}

/// With this number in so many fields from the third.
fn renumbered(text: &str, name: &str, number: u32, fields: usize) -> String {
    let line = |line: &str| {
        if line.split(':').next() != Some(name) {
            return format!("{line}\n");
        }
        let number = number.to_string();
        let field = |(at, it)| if (2..2 + fields).contains(&at) { number.as_str() } else { it };
        format!("{}\n", line.split(':').enumerate().map(field).collect::<Vec<_>>().join(":"))
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        parse("# Known by it.\nu secure-ai-audit 956 \"Audit\"\n\nu systemd-network 953 -\n").unwrap()
    }

    fn device() -> Accounts {
        Accounts {
            passwd: "root:x:0:0::/root:/bin/sh\nsecure-ai-audit:!*:956:956::/:/n\nsystemd-network:!*:953:953::/:/n\n"
                .into(),
            group: "root:x:0:\nsecure-ai-audit:x:956:\nsystemd-network:x:953:\n".into(),
            ..Accounts::default()
        }
    }

    #[test]
    fn a_number_that_is_somebody_elses_stops_everything() {
        let taken = |from: &str, to: &str| {
            let swap = |text: String| text.replace(from, to);
            let other = Accounts { passwd: swap(device().passwd), group: swap(device().group), ..device() };
            set_right(&other, &wanted())
        };
        for (from, to, found) in [
            ("root:x:0:", "root:x:0:0::/:/n\neve:x:956:", "user 956 is eve's, and secure-ai-audit"),
            ("root:x:0:\n", "root:x:0:\neve:x:953:\n", "group 953 is eve's, and systemd-network"),
            ("secure-ai-audit:", "gone:", "956 is gone's"),
            ("secure-ai-audit:x:956:\n", "", "no group secure-ai-audit"),
            ("secure-ai-audit:!*:956:956::/:/n\n", "", "no user secure-ai-audit"),
        ] {
            let error = taken(from, to).unwrap_err().to_string();
            assert!(error.contains(found), "{found}: {error}");
        }
    }

    #[test]
    fn an_account_of_ours_with_another_number_gets_its_own() {
        assert_eq!(set_right(&device(), &wanted()).unwrap(), (device(), 0));
        let other = Accounts {
            passwd: device().passwd.replace("956:956", "998:100"),
            group: device().group.replace("956", "997"),
            ..device()
        };
        assert_eq!(set_right(&other, &wanted()).unwrap(), (device(), 1));
    }

    #[test]
    fn what_is_declared_is_read_from_the_files_of_services() {
        let (sysusers, etc) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = |name: &str, text: &str| fs::write(sysusers.path().join(name), text).unwrap();
        file("secure-ai-audit.conf", "u secure-ai-audit 956 \"Audit\"\n");
        file("basic.conf", "g nobody - -\n");
        assert!(matches!(ensure(sysusers.path(), etc.path()), Err(UsersError::Missing { .. })));
        let other = Accounts { passwd: device().passwd.replace("956:956", "998:956"), ..device() };
        other.write(etc.path(), &Accounts::default()).unwrap();
        assert_eq!(ensure(sysusers.path(), etc.path()).unwrap(), 1);
        assert_eq!(Accounts::read(etc.path()).unwrap(), device());
        assert_eq!(ensure(sysusers.path(), etc.path()).unwrap(), 0);
        file("secure-ai-more.conf", "u secure-ai-more - \"More\"\n");
        assert!(matches!(ensure(sysusers.path(), etc.path()), Err(UsersError::Line { .. })));
    }
}

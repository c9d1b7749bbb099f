//! The account of the owner: from a credential, or asked for at the console, once.

use crate::accounts::{AccountError, Accounts, Lock};
use crate::config::{ConfigError, OwnerSaid, check_name, passphrase};
use crate::etc::EtcError;
use crate::mark;
use crate::terminal::{Ask, Echo, Terminal, TerminalError, announce};
use rustix::fs::{CWD, Gid, Mode, Uid, chown, mkdirat};
use secai_daemon::program::{Bounds, ProgramError, run as start};
use secai_daemon::report::{Hint, Priority};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// Makes of a password what is kept of it: as the image's own settings of PAM say.
const CHPASSWD: &str = "/usr/sbin/chpasswd";
/// One hash, on a slow machine.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(120), bytes: 4096 };
/// Nobody logs in with it.
const LOCKED: &str = "!";
/// Where homes lie: `/home` leads there.
const HOMES: &str = "/var/home";

/// Why there is no owner.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// What was said of him.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// His account.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// A file.
    #[error(transparent)]
    Etc(#[from] EtcError),
    /// His password.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Nobody to ask.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
    /// chpasswd ended well, and did nothing.
    #[error("the password was not kept")]
    NotKept,
}

impl Hint for OwnerError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Account(error) => error.hint(),
            Self::Etc(error) => error.hint(),
            Self::Terminal(error) => error.hint(),
            Self::Program(_) | Self::NotKept => None,
        }
    }
}

/// Has the device its owner?
///
/// # Errors
/// [`OwnerError`]; the next boot begins again.
pub fn run(etc: &Path, credentials: Option<&Path>) -> Result<(), OwnerError> {
    if mark::has_owner(etc) {
        return Ok(());
    }
    match OwnerSaid::read(credentials)? {
        Some(OwnerSaid::Nobody) => {
            mark::owner(etc, "none")?;
            announce(Priority::Info, "nobody owns this device: secai.owner says so");
        }
        Some(OwnerSaid::Somebody(owner)) => {
            make(etc, &owner.name, &owner.hash)?;
            mark::owner(etc, &owner.name)?;
        }
        None => {
            let mut terminal = Terminal::of_the_machine()?;
            let taken = Accounts::read(etc)?;
            let (name, password) = asked(&mut terminal, &taken)?;
            make(etc, &name, LOCKED)?;
            set_password(etc, &name, &password)?;
            mark::owner(etc, &name)?;
            terminal.tell(&format!("{name} owns this device, and may become root with sudo."));
        }
    }
    Ok(())
}

/// A name that is free, and a password typed twice.
fn asked(person: &mut impl Ask, accounts: &Accounts) -> Result<(String, Zeroizing<String>), TerminalError> {
    person.tell(
        "\nSecAI OS: the first boot. Whoever owns this device gets an account, and may become root.\n\
         What is kept of the password lies on the disk unencrypted: take another one than the passphrase of /var.",
    );
    let name = loop {
        let name = person.ask("Name of the owner:", Echo::Shown)?;
        match check_name(&name).map_err(str::to_owned).and_then(|()| match accounts.with_person(&name, LOCKED) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }) {
            Ok(()) => break name.as_str().to_owned(),
            Err(reason) => person.tell(&format!("Not that one: {reason}.")),
        }
    };
    let password = twice(person, &format!("Password of {name}:"))?;
    Ok((name, password))
}

/// A secret, typed twice alike.
fn twice(person: &mut impl Ask, question: &str) -> Result<Zeroizing<String>, TerminalError> {
    loop {
        let first = person.ask(question, Echo::Hidden)?;
        if let Err(reason) = passphrase(first.as_bytes()) {
            person.tell(&format!("Not that one: {reason}."));
        } else if *person.ask("The same again:", Echo::Hidden)? == *first {
            return Ok(first);
        } else {
            person.tell("These were two different ones.");
        }
    }
}

fn make(etc: &Path, name: &str, hash: &str) -> Result<(), OwnerError> {
    let uid = {
        let _lock = Lock::take(etc)?;
        let before = Accounts::read(etc)?;
        let (after, uid) = before.with_person(name, hash)?;
        after.write(etc, &before)?;
        uid
    };
    Ok(home(Path::new(HOMES), &etc.join("skel"), name, uid)?)
}

/// His folder, with what everybody begins with. What is there already stays.
fn home(homes: &Path, skeleton: &Path, name: &str, id: u32) -> Result<(), EtcError> {
    let at = |verb, path: &Path, error: std::io::Error| EtcError::Act(verb, path.to_owned(), error);
    let home = homes.join(name);
    match mkdirat(CWD, &home, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(errno) => return Err(at("create", &home, errno.into())),
    }
    let (uid, gid) = (Some(Uid::from_raw(id)), Some(Gid::from_raw(id)));
    let give = |path: &PathBuf| chown(path, uid, gid).map_err(|errno| at("change", path, errno.into()));
    for entry in fs::read_dir(skeleton).into_iter().flatten().flatten() {
        let to = home.join(entry.file_name());
        if entry.file_type().is_ok_and(|it| it.is_file()) && to.symlink_metadata().is_err() {
            fs::copy(entry.path(), &to).map_err(|error| at("write", &to, error))?;
            give(&to)?;
        }
    }
    // The last: while it is root's, nobody has put anything there.
    give(&home)
}

fn set_password(etc: &Path, name: &str, password: &str) -> Result<(), OwnerError> {
    let line = Zeroizing::new(format!("{name}:{password}\n"));
    start(CHPASSWD, &[], line.as_bytes(), BOUNDS)?;
    let is_kept = |line: &str| {
        let mut fields = line.split(':');
        fields.next() == Some(name) && fields.next().is_some_and(|hash| hash.starts_with('$'))
    };
    if Accounts::read(etc)?.shadow.lines().any(is_kept) { Ok(()) } else { Err(OwnerError::NotKept) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::tests::Scripted;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0::/:/n\ndaemon:x:1:1::/:/n\n".into(),
            group: "sudo:x:27:\n".into(),
            ..Accounts::default()
        }
    }

    #[test]
    fn mistakes_at_the_console_are_said_and_asked_again() {
        let mut person = Scripted::of(&[
            "",
            "Ada",
            "root",
            "daemon",
            "ada",
            "short",
            "correct horse",
            "correct hose",
            "correct horse",
            "correct horse",
        ]);
        let (name, password) = asked(&mut person, &accounts()).unwrap();
        assert_eq!((name.as_str(), password.as_str()), ("ada", "correct horse"));
        assert!(person.answers.is_empty());
        for words in ["fewer than 8", "two different", "not a person's", "not one of a person"] {
            assert!(person.heard.contains(words), "{words}: {}", person.heard);
        }
        assert_eq!(person.heard.matches("Name of the owner: Shown").count(), 5);
        assert!(!person.heard.contains("horse") && person.heard.contains("Password of ada: Hidden"));
        assert!(matches!(asked(&mut Scripted::of(&["ada"]), &accounts()), Err(TerminalError::None)));
    }

    #[test]
    fn a_home_has_what_everybody_begins_with_and_keeps_what_is_in_it() {
        let root = tempfile::tempdir().unwrap();
        let skeleton = root.path().join("skel");
        fs::create_dir_all(skeleton.join("folder")).unwrap();
        fs::write(skeleton.join(".profile"), "shipped").unwrap();
        let own = rustix::process::getuid().as_raw();
        home(root.path(), &skeleton, "ada", own).unwrap();
        let profile = root.path().join("ada/.profile");
        assert_eq!(fs::read_to_string(&profile).unwrap(), "shipped");
        fs::write(&profile, "hers").unwrap();
        home(root.path(), &skeleton, "ada", own).unwrap();
        assert_eq!(fs::read_to_string(&profile).unwrap(), "hers");
    }

    #[test]
    fn a_device_that_has_its_owner_asks_for_none() {
        let etc = tempfile::tempdir().unwrap();
        let credentials = tempfile::tempdir().unwrap();
        fs::write(credentials.path().join("secai.owner"), "ada").unwrap();
        assert!(matches!(run(etc.path(), Some(credentials.path())), Err(OwnerError::Config(_))));
        assert!(!mark::has_owner(etc.path()));
        fs::write(credentials.path().join("secai.owner"), "none").unwrap();
        run(etc.path(), Some(credentials.path())).unwrap();
        // Whatever is said later.
        fs::write(credentials.path().join("secai.owner"), "ada").unwrap();
        run(etc.path(), Some(credentials.path())).unwrap();
    }
}

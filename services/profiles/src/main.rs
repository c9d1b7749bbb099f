//! `secai-profiles serve`: changes the profile when a person confirms it, and keeps its rules as they are.

use clap::{Args, Parser, Subcommand};
use rustix::fs::{Mode, OFlags, fsync, open, rename, unlink};
use rustix::time::{ClockId, clock_gettime};
use secai_api::profiles::TYPING_LASTS;
use secai_daemon::audit::Waits;
use secai_daemon::listen::{ListenError, one_socket};
use secai_daemon::peer::Peer;
use secai_daemon::readiness::Readiness;
use secai_daemon::report::{Hint, fail};
use secai_daemon::shutdown::Shutdown;
use secai_profiles::config::{self, ConfigError, OPERATOR, Operator, PAGE, POLICY, Policy};
use secai_profiles::firewall::{Checked, Firewall, Held, PROGRAM};
use secai_profiles::question::Question;
use secai_profiles::record::Recorder;
use secai_profiles::serve::{self, ServeError, World};
use secai_profiles::switch::{Machine, NoRules, UnderWay};
use secai_profiles::watch::Watch;
use secai_profiles::{person, question, units};
use secai_verifier::network::profile::STRICTEST;
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The name of our socket unit, which systemd gives its socket.
const SOCKET_UNIT: &str = "secure-ai-profiles.socket";
/// What waits for the audit daemon when the service ends.
const LAST_ENTRIES: Duration = Duration::from_secs(5);
/// This program, by the kernel's word: nobody else's has its name.
const OURSELVES: &str = "/proc/self/exe";
/// A note of a few words.
const NOTE_BYTES_MAX: u64 = 4096;

/// Changes the profile when a person confirms it, and keeps its rules as they are.
#[derive(Parser)]
#[command(name = "secai-profiles", version, about)]
#[command(after_help = "Exit codes: 0 ended as asked; 2 could not do its work.")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve, as the one service that changes the profile
    #[command(
        after_help = "Example:\n  secai-profiles serve --policy manifests/policy --page manifests/services/profiles.yml --state /tmp/p --listen-without-systemd /tmp/p/sock"
    )]
    Serve(Serve),
    /// Ask at the terminal on standard input for a word, as long as whoever is at standard output is connected
    #[command(hide = true)]
    Ask(Ask),
}

/// What `serve` starts for each question.
#[derive(Args)]
struct Ask {
    /// What must be typed
    #[arg(long)]
    word: String,
    /// What is said before
    text: String,
}

#[derive(Args)]
struct Serve {
    /// Directory of the policy: loopback.yml and profiles/NAME.yml
    #[arg(long, value_name = "DIR", default_value = POLICY)]
    policy: PathBuf,
    /// This service's page: who may ask what
    #[arg(long, value_name = "FILE", default_value = PAGE)]
    page: PathBuf,
    /// What the operator allows without a person at the terminal
    #[arg(long, value_name = "FILE", default_value = OPERATOR)]
    operator: PathBuf,
    /// Folder in which a change under way is noted
    #[arg(long, value_name = "DIR", default_value = "/var/lib/secure-ai/profiles")]
    state: PathBuf,
    /// The program that loads rules
    #[arg(long, value_name = "FILE", default_value = PROGRAM)]
    firewall: PathBuf,
    /// A word for each of its runs: for tests and development
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    firewall_word: Vec<String>,
    /// Where the audit daemon answers
    #[arg(long, value_name = "PATH", default_value = secai_api::audit::SOCKET)]
    audit: PathBuf,
    /// Open the socket here instead of taking it from systemd: for tests and development
    #[arg(long, value_name = "PATH")]
    listen_without_systemd: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot take the socket")]
    Listen(#[from] ListenError),
    #[error("cannot read the profiles")]
    Config(#[from] ConfigError),
    #[error("cannot hear from the kernel what changes")]
    Watch(#[source] io::Error),
    #[error("cannot watch for signals, or start a thread")]
    Kernel(#[from] io::Error),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl Hint for Failure {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            _ => None,
        }
    }
}

fn main() -> ExitCode {
    match Arguments::parse().verb {
        Verb::Serve(words) => words.run().map_or_else(|failure| fail(&failure), |()| ExitCode::SUCCESS),
        Verb::Ask(Ask { word, text }) => question::ask(io::stdin(), io::stdout(), &text, &word, TYPING_LASTS).code(),
    }
}

impl Serve {
    fn run(self) -> Result<(), Failure> {
        let listener = one_socket(SOCKET_UNIT, self.listen_without_systemd.as_deref())?;
        let policy = Policy::read(&self.policy)?;
        let page = config::page(&self.page)?;
        let shutdown = Shutdown::on_signals()?;
        let watch = Watch::begin().map_err(Failure::Watch)?;
        let recorder = Recorder::start(&self.audit, Waits::default())?;
        let firewall = Firewall { program: self.firewall, words: self.firewall_word };
        let digests = policy.iter().map(|meant| (meant.page.name.clone(), meant.digest.to_string())).collect();
        let note = self.state.join("under-way.json");
        let mut device = Device { firewall, digests, note, operator: self.operator };
        let readiness = Readiness::from_environment();
        let ended = serve::run(&mut device, &policy, &page, &recorder, &watch, &listener, &shutdown, &readiness);
        recorder.flush(LAST_ENTRIES);
        Ok(ended?)
    }
}

/// This device.
struct Device {
    firewall: Firewall,
    /// Of the rules of each profile.
    digests: BTreeMap<String, String>,
    note: PathBuf,
    operator: PathBuf,
}

/// A run of the firewall that came to what was asked, or why not; and under which digest, where it says.
fn as_asked(run: Result<Held, impl std::fmt::Display>) -> Result<Option<String>, NoRules> {
    match run {
        Ok(Held { instead: None, digest, .. }) => Ok(digest),
        Ok(Held { instead: Some(why), closed: true, .. }) => Err(NoRules::Stricter(why)),
        Ok(Held { instead: Some(why), .. }) => Err(NoRules::Unknown(why)),
        Err(error) => Err(NoRules::Unknown(error.to_string())),
    }
}

impl Machine for Device {
    fn rules(&mut self, profile: &str) -> Result<(), NoRules> {
        let loaded = as_asked(self.firewall.apply(profile))?;
        // What a person confirmed, and what the chain says, is what is in the kernel.
        if loaded == self.digests.get(profile).cloned() {
            return Ok(());
        }
        let why = format!("the rules that were loaded are not those of the page of {profile}");
        Err(as_asked(self.firewall.apply(STRICTEST)).map_or_else(|error| error, |_| NoRules::Stricter(why)))
    }

    fn stop(&mut self, unit: &str) -> Result<(), String> {
        units::stop(unit).map_err(|error| error.to_string())
    }

    fn start(&mut self, unit: &str) -> Result<(), String> {
        units::start(unit).map_err(|error| error.to_string())
    }

    fn remember(&mut self, under_way: Option<&UnderWay>) -> Result<(), String> {
        remember(&self.note, under_way).map_err(|error| format!("{} cannot be written: {error}", self.note.display()))
    }
}

impl World for Device {
    fn person(&mut self, peer: &Peer, terminal: Option<&OwnedFd>) -> Result<String, String> {
        person::at_the_device(peer, terminal)
    }

    fn in_front(&mut self, peer: &Peer, terminal: Option<&OwnedFd>) -> Result<String, String> {
        person::at_a_terminal(peer, terminal)
    }

    fn question(&mut self, terminal: OwnedFd, asker: BorrowedFd<'_>, text: &str, word: &str) -> io::Result<Question> {
        Question::begin(Path::new(OURSELVES), terminal, asker, text, word)
    }

    fn has(&mut self, unit: &str) -> Result<bool, String> {
        units::look(unit).map(|seen| seen.there).map_err(|error| error.to_string())
    }

    fn check(&mut self) -> Result<Checked, String> {
        self.firewall.check().map_err(|error| error.to_string())
    }

    fn link(&mut self) -> Result<(), NoRules> {
        as_asked(self.firewall.link()).map(drop)
    }

    fn interrupted(&mut self) -> Option<UnderWay> {
        use secai_verifier::files::load;
        serde_json::from_slice(&load(&self.note, NOTE_BYTES_MAX).ok()?.ok()?).ok()
    }

    fn operator(&mut self, policy: &Policy) -> Result<Operator, String> {
        Operator::read(&self.operator, policy).map_err(|error| error.to_string())
    }

    fn now(&self) -> Duration {
        let time = clock_gettime(ClockId::Boottime);
        Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
    }
}

/// Whole on the disk, or as it was.
fn remember(note: &Path, under_way: Option<&UnderWay>) -> io::Result<()> {
    let Some(under_way) = under_way else {
        return match unlink(note) {
            Err(errno) if errno != rustix::io::Errno::NOENT => Err(errno.into()),
            _ => Ok(()),
        };
    };
    let fresh = note.with_extension("new");
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = std::fs::File::from(open(&fresh, flags, Mode::from(0o600))?);
    file.write_all(&serde_json::to_vec(under_way)?)?;
    file.sync_all()?;
    rename(&fresh, note)?;
    let folder = note.parent().unwrap_or(Path::new("/"));
    fsync(open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn device(folder: &Path, firewall: &str) -> Device {
        let program = folder.join("firewall");
        fs::write(&program, format!("#!/bin/sh\n{firewall}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let firewall = Firewall { program, words: vec!["--word".to_owned()] };
        let digests =
            BTreeMap::from([("research".to_owned(), "ab".to_owned()), (STRICTEST.to_owned(), "cd".to_owned())]);
        let (note, operator) = (folder.join("state/under-way.json"), folder.join("operator.yml"));
        Device { firewall, digests, note, operator }
    }

    #[test]
    fn the_note_is_whole_or_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let mut device = device(folder.path(), "exit 0");
        let under_way = |step: &str| UnderWay { from: "a".into(), step: step.into(), to: "b".into() };
        assert!(device.remember(Some(&under_way("one"))).unwrap_err().contains("cannot be written"), "no folder");
        assert_eq!(device.remember(None), Ok(()));
        fs::create_dir(folder.path().join("state")).unwrap();
        assert_eq!(device.interrupted(), None);
        device.remember(Some(&under_way("one"))).unwrap();
        assert_eq!(device.interrupted(), Some(under_way("one")));
        assert_eq!(fs::metadata(&device.note).unwrap().permissions().mode() & 0o777, 0o600);
        // The power went while the next one was written.
        let fresh = device.note.with_extension("new");
        fs::write(&fresh, "{\"from\":").unwrap();
        assert_eq!(device.interrupted(), Some(under_way("one")));
        device.remember(Some(&under_way("two"))).unwrap();
        assert_eq!(device.interrupted(), Some(under_way("two")));
        symlink(folder.path().join("elsewhere"), &fresh).unwrap();
        assert!(device.remember(Some(&under_way("three"))).is_err(), "no link is followed");
        assert_eq!(device.interrupted(), Some(under_way("two")));
        device.remember(None).unwrap();
        assert_eq!(device.interrupted(), None);
        for bad in ["", "{}", "{\"from\":\"a\",\"step\":\"b\",\"to\":\"c\",\"d\":1}"] {
            fs::write(&device.note, bad).unwrap();
            assert_eq!(device.interrupted(), None, "{bad}");
        }
    }

    #[test]
    fn the_firewalls_word_counts_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        use NoRules::{Stricter, Unknown};
        let told = r#"echo '{"profile":"research","digest":"ab","instead":null,"closed":true,"links":[]}'"#;
        let instead =
            r#"echo '{"profile":"offline_private","digest":null,"instead":"it leaks","closed":true}'; exit 1"#;
        let open = r#"echo '{"profile":null,"digest":null,"instead":"it leaks","closed":false}'; exit 1"#;
        let other = r#"echo '{"profile":"research","digest":"ef","instead":null,"closed":true}'"#;
        let words = r#"test "$*" = "apply --profile research --json --word" && test -z "$HOME$CARGO" && "#;
        for (says, expected) in [
            (format!("{words}{told}"), Ok(())),
            (instead.to_owned(), Err(Stricter("it leaks".into()))),
            (open.to_owned(), Err(Unknown("it leaks".into()))),
            (other.to_owned(), Err(Stricter("are not those of the page of research".into()))),
            // It was to close then, and did not.
            (format!("case $3 in research) {other};; *) {open};; esac"), Err(Unknown("it leaks".into()))),
            ("echo no nft here >&2; exit 2".to_owned(), Err(Unknown("no nft here".into()))),
            ("echo research".to_owned(), Err(Unknown("could not do it".into()))),
            (format!("{told}; echo more"), Err(Unknown("could not do it".into()))),
        ] {
            let done = device(folder.path(), &says).rules("research");
            match (done, expected) {
                (Ok(()), Ok(())) => {}
                (Err(Stricter(error)), Err(Stricter(why))) | (Err(Unknown(error)), Err(Unknown(why))) => {
                    assert!(error.contains(&why), "{says}: {error}");
                }
                (done, _) => panic!("{says}: {done:?}"),
            }
        }
        let mut gone = device(folder.path(), "");
        gone.firewall.program = folder.path().join("none");
        assert!(matches!(gone.link(), Err(Unknown(why)) if why.contains("cannot run")));
        assert!(gone.check().is_err());
    }
}

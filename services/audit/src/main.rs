//! `secai-audit serve`: the writer of the chain. `secai-audit witness`: another user who remembers its head.

use clap::{Args, Parser, Subcommand};
use secai_audit::config::{self, PAGES};
use secai_audit::recover::{Found, Places, open};
use secai_audit::serve::{self, ServeError};
use secai_audit::systemd::Systemd;
use secai_audit::witness::{self, WitnessError};
use secai_audit::writer::{OWN_NAME, WriteError};
use secai_daemon::listen::{ListenError, Listener, Passed, bind_without_systemd};
use secai_daemon::readiness::Readiness;
use secai_daemon::report::{Hint, Priority, fail, say};
use secai_daemon::sandbox::{Sandbox, SandboxError};
use secai_daemon::shutdown::Shutdown;
use secai_verifier::service::Services;
use std::path::PathBuf;
use std::process::ExitCode;

/// The name of our socket unit, which systemd gives its socket.
const SOCKET_UNIT: &str = "secure-ai-audit.socket";

/// Writes the audit chain; remembers its head as another user.
#[derive(Parser)]
#[command(name = "secai-audit", version, about)]
#[command(
    after_help = "Exit codes: 0 ended as asked, or the chain is as remembered; 1 it is not; 2 could not do its work."
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Write the chain, as its one writer
    #[command(
        after_help = "Example:\n  secai-audit serve --state /tmp/a/state --keys /tmp/a/keys --pages manifests/services --listen-without-systemd /tmp/a/sock"
    )]
    Serve(Serve),
    /// Compare the chain with the head that was remembered, and remember the new one
    #[command(
        after_help = "Example:\n  secai-audit witness --socket /run/secure-ai/audit.sock --state /var/lib/secure-ai/witness"
    )]
    Witness(Witness),
}

#[derive(Args)]
struct Serve {
    /// Folder of the chain (chain/), and of what was there before a break (broken-N/)
    #[arg(long, value_name = "DIR", default_value = "/var/lib/secure-ai/audit")]
    state: PathBuf,
    /// Folder of the private key
    #[arg(long, value_name = "DIR", default_value = "/var/lib/secure-ai/audit-keys")]
    keys: PathBuf,
    /// Folder of the services' pages
    #[arg(long, value_name = "DIR", default_value = PAGES)]
    pages: PathBuf,
    /// Open the socket here instead of taking it from systemd: for tests and development
    #[arg(long, value_name = "PATH")]
    listen_without_systemd: Option<PathBuf>,
}

#[derive(Args)]
struct Witness {
    /// Where the writer answers
    #[arg(long, value_name = "PATH", default_value = secai_api::audit::SOCKET)]
    socket: PathBuf,
    /// Folder of the remembered heads
    #[arg(long, value_name = "DIR", default_value = "/var/lib/secure-ai/witness")]
    state: PathBuf,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot take the socket")]
    Listen(#[from] ListenError),
    #[error("cannot read who may ask what")]
    Config(#[from] config::ConfigError),
    #[error("cannot write the chain")]
    Write(#[from] WriteError),
    #[error("cannot give up what is not needed")]
    Sandbox(#[from] SandboxError),
    #[error("cannot serve")]
    Serve(#[from] ServeError),
    #[error("cannot watch for signals")]
    Signals(#[from] std::io::Error),
    #[error("cannot begin to listen to systemd")]
    Systemd(#[source] std::io::Error),
    #[error(transparent)]
    Witness(#[from] WitnessError),
}

impl Hint for Failure {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Write(error) | Self::Serve(ServeError::Write(error)) => error.hint(),
            Self::Witness(error) => error.hint(),
            _ => None,
        }
    }
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Serve(words) => words.run(),
        Verb::Witness(words) => words.run(),
    };
    done.unwrap_or_else(|failure| fail(&failure))
}

impl Serve {
    fn run(self) -> Result<ExitCode, Failure> {
        let listener = self.socket()?;
        let services = config::read(&self.pages)?;
        let shutdown = Shutdown::on_signals()?;
        let (writer, found) = open(&Places { state: self.state.clone(), keys: self.keys.clone() })?;
        report(&found);
        let holds = Sandbox::new().writing(&self.state).writing(&self.keys).enter()?;
        say(Priority::Info, &format!("{} entries; {holds}", writer.size()));
        // Threads only now: what was given up holds for them too.
        let systemd = self.systemd(&services)?;
        serve::run(writer, &services, &listener, &shutdown, &Readiness::from_environment(), systemd.as_ref())?;
        Ok(ExitCode::SUCCESS)
    }

    /// Not for a writer beside systemd: its services are not this machine's.
    fn systemd(&self, services: &Services) -> Result<Option<Systemd>, Failure> {
        if self.listen_without_systemd.is_some() {
            return Ok(None);
        }
        // It says itself when it starts and stops.
        let others = services.pages().iter().filter(|page| page.name != OWN_NAME);
        Systemd::listen(others.map(|page| page.unit.clone()).collect()).map(Some).map_err(Failure::Systemd)
    }

    fn socket(&self) -> Result<Listener, ListenError> {
        match &self.listen_without_systemd {
            Some(path) => bind_without_systemd(path),
            None => {
                let mut passed = Passed::take()?;
                let listener = passed.packets(SOCKET_UNIT)?;
                passed.none_left()?;
                Ok(listener)
            }
        }
    }
}

fn report(found: &Found) {
    if let Some((bytes, _)) = &found.torn {
        say(Priority::Warning, &format!("a torn tail of {bytes} bytes was cut off, and that is recorded"));
    }
    if let Some(reason) = &found.gap {
        let words = format!("another chain begins, for the one that was here is broken ({reason}); it is kept beside");
        say(Priority::Error, &words);
    }
}

impl Witness {
    fn run(self) -> Result<ExitCode, Failure> {
        let seen = witness::look(&self.socket, &self.state)?;
        say(if seen.consistent { Priority::Info } else { Priority::Error }, &seen.words);
        Ok(if seen.consistent { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

//! `secai-first-boot`: what systemd runs before `/var` is mounted, before anybody logs in, and whenever accounts were made; and the
//! owner's word that everything is to go.

use clap::{Args, Parser, Subcommand};
use secai_daemon::report::{COULD_NOT, Hint, Priority, say, told};
use secai_first_boot::deployments::SYSROOT;
use secai_first_boot::owner::{self, OwnerError};
use secai_first_boot::reset::{self, ResetError};
use secai_first_boot::terminal::{Terminal, announce};
use secai_first_boot::users::{self, SYSUSERS, UsersError};
use secai_first_boot::var::{self, Done, VarError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const ETC: &str = "/etc";
/// As the image has it.
const AS_SHIPPED: &str = "/usr/etc";

/// Makes what a device has and its image has not: /var, and its owner
#[derive(Parser)]
#[command(name = "secai-first-boot", version, about)]
#[command(after_help = "Exit codes: 0 done; 2 could not do it: the next boot goes on.")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make or open the partition of /var, or erase it where that was begun
    Var,
    /// Make the account of the owner, once
    Owner,
    /// Look whether each service has its own number, and set right what can be
    Users,
    /// Have everything erased at the next boot: /var, accounts, settings
    #[command(after_help = "Example:\n  sudo /usr/libexec/secure-ai/secai-first-boot reset --erase-everything")]
    Reset(Reset),
}

#[derive(Args)]
struct Reset {
    /// This is what it does
    #[arg(long, required = true)]
    erase_everything: bool,
    /// Ask nothing
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Var(#[from] VarError),
    #[error(transparent)]
    Owner(#[from] OwnerError),
    #[error(transparent)]
    Users(#[from] UsersError),
    #[error(transparent)]
    Reset(#[from] ResetError),
}

impl Hint for Failure {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Var(error) => error.hint(),
            Self::Owner(error) => error.hint(),
            Self::Users(error) => error.hint(),
            Self::Reset(error) => error.hint(),
        }
    }
}

fn main() -> ExitCode {
    let verb = Arguments::parse().verb;
    let is_typed = matches!(verb, Verb::Reset(_));
    match verb.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // While the machine starts, nobody reads the journal.
            let tell = if is_typed { say } else { announce };
            tell(Priority::Error, &told(&failure));
            ExitCode::from(COULD_NOT)
        }
    }
}

impl Verb {
    fn run(self) -> Result<(), Failure> {
        let etc = Path::new(ETC);
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        match self {
            Self::Var => match var::run(etc, Path::new(AS_SHIPPED), Path::new(SYSROOT), credentials.as_deref())? {
                Done::Ready => {}
                // Until it is told to end with the machine: nothing may be mounted in between.
                Done::Erased => loop {
                    std::thread::park();
                },
            },
            Self::Owner => owner::run(etc, credentials.as_deref())?,
            Self::Users => {
                let changed = users::ensure(Path::new(SYSUSERS), etc)?;
                if changed > 0 {
                    announce(
                        Priority::Warning,
                        &format!("{changed} accounts of services had other numbers than theirs"),
                    );
                }
            }
            Self::Reset(words) => {
                let person = (!words.yes).then(Terminal::own);
                reset::run(etc, rustix::process::geteuid().is_root(), person)?;
                say(Priority::Warning, "everything is erased at the next boot: `systemctl reboot`");
            }
        }
        Ok(())
    }
}

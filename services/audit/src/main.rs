//! `secai-audit serve`: the writer of the chain. `secai-audit witness`: another user who remembers its head.
//! `secai-audit cosign`: a witness on another machine.

use clap::{Args, Parser, Subcommand};
#[cfg(feature = "tpm")]
use secai_audit::anchor::{self, AnchorError, tpm::Tpm};
use secai_audit::config::{self, PAGES};
use secai_audit::cosign::{Brought, CosignError, CosigningKey, No, Refusal, cosign};
use secai_audit::recover::{Found, Places, open};
use secai_audit::serve::{self, ServeError};
use secai_audit::systemd::Systemd;
use secai_audit::witness::{self, Seen, WitnessError};
use secai_audit::writer::{OWN_NAME, WriteError};
use secai_daemon::listen::{ListenError, one_socket};
use secai_daemon::readiness::Readiness;
use secai_daemon::report::{Hint, Priority, fail, say};
use secai_daemon::sandbox::{Sandbox, SandboxError};
use secai_daemon::shutdown::Shutdown;
use secai_verifier::audit::add_checkpoint::REQUEST_BYTES_MAX;
use secai_verifier::files::{load, load_chain_keys};
use secai_verifier::service::Services;
use secai_verifier::time::Time;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
#[cfg(feature = "tpm")]
use zeroize::Zeroizing;

/// The name of our socket unit, which systemd gives its socket.
const SOCKET_UNIT: &str = "secure-ai-audit.socket";
/// Proofs of epochs' ends: two years of an epoch each quarter of an hour, 2 KB each.
const EPOCHS_BYTES_MAX: u64 = 128 << 20;

/// Writes the audit chain; remembers its head as another user.
#[derive(Parser)]
#[command(name = "secai-audit", version, about)]
#[command(
    after_help = "Exit codes: 0 ended as asked, the chain is as remembered, or cosigned; 1 it is not; 2 could not do its work."
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
    /// Be a witness on another machine: answer a request that somebody brought, if the chain still begins with what was seen
    #[command(
        after_help = "Examples:\n  secai-audit cosign --new-key ada.example/witness --key ada.key > ada.vkey\n  secai-audit cosign --key ada.key --state seen --trust trust --epochs request.epochs request > answer"
    )]
    Cosign(Cosign),
    /// Compare the chain with the head that the TPM remembers, and have it remember the new one
    #[cfg(feature = "tpm")]
    #[command(after_help = "Example:\n  secai-audit anchor --state /var/lib/secure-ai/anchor --tpm device:/dev/tpmrm0")]
    Anchor(Anchor),
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

#[derive(Args)]
struct Cosign {
    /// The witness's private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Make the key, in a new file, and print its public half
    #[arg(long, value_name = "NAME", conflicts_with_all = ["state", "trust", "epochs", "request"])]
    new_key: Option<String>,
    /// Folder of what was cosigned last; whoever loses it has to begin with a new key
    #[arg(long, value_name = "DIR", required_unless_present = "new_key")]
    state: Option<PathBuf>,
    /// Directory of the keys (*.vkey) of the chains that this witness knows
    #[arg(long, value_name = "DIR", required_unless_present = "new_key")]
    trust: Option<PathBuf>,
    /// Proofs of epochs that ended since, which were written beside the request
    #[arg(long, value_name = "FILE")]
    epochs: Option<PathBuf>,
    /// The request: `secaictl audit checkpoint --for-witness` writes it
    #[arg(required_unless_present = "new_key")]
    request: Option<PathBuf>,
}

#[cfg(feature = "tpm")]
#[derive(Args)]
struct Anchor {
    /// Where the writer answers
    #[arg(long, value_name = "PATH", default_value = secai_api::audit::SOCKET)]
    socket: PathBuf,
    /// Folder of what was anchored
    #[arg(long, value_name = "DIR", default_value = "/var/lib/secure-ai/anchor")]
    state: PathBuf,
    /// The TPM, as the TSS names them
    #[arg(long, value_name = "NAME", default_value = "device:/dev/tpmrm0")]
    tpm: String,
    /// The password of the TPM's owner, where he set one: the bytes of this file
    #[arg(long, value_name = "FILE")]
    owner_auth: Option<PathBuf>,
    /// Whatever the TPM remembers or forgot, I know why: begin again with the chain that is there
    #[arg(long)]
    begin_anew: bool,
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
    #[error(transparent)]
    Cosign(#[from] CosignError),
    #[cfg(feature = "tpm")]
    #[error(transparent)]
    Anchor(#[from] AnchorError),
}

impl Hint for Failure {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Write(error) | Self::Serve(ServeError::Write(error)) => error.hint(),
            Self::Witness(error) => error.hint(),
            Self::Cosign(error) => error.hint(),
            #[cfg(feature = "tpm")]
            Self::Anchor(error) => error.hint(),
            _ => None,
        }
    }
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Serve(words) => words.run(),
        Verb::Witness(words) => words.run(),
        Verb::Cosign(words) => words.run(),
        #[cfg(feature = "tpm")]
        Verb::Anchor(words) => words.run(),
    };
    done.unwrap_or_else(|failure| fail(&failure))
}

impl Serve {
    fn run(self) -> Result<ExitCode, Failure> {
        let listener = one_socket(SOCKET_UNIT, self.listen_without_systemd.as_deref())?;
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
        Ok(told(&witness::look(&self.socket, &self.state)?))
    }
}

/// Says what was seen; the exit code.
fn told(seen: &Seen) -> ExitCode {
    say(if seen.consistent { Priority::Info } else { Priority::Error }, &seen.words);
    if seen.consistent { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(feature = "tpm")]
impl Anchor {
    fn run(self) -> Result<ExitCode, Failure> {
        /// Longer than any password that a TPM takes.
        const OWNER_AUTH_BYTES_MAX: u64 = 128;
        let owner = match &self.owner_auth {
            Some(path) => match load(path, OWNER_AUTH_BYTES_MAX) {
                Ok(Ok(password)) => password,
                _ => return Err(AnchorError::OwnerAuth { path: path.clone() }.into()),
            },
            None => Vec::new(),
        };
        let mut tpm = Tpm::open(&self.tpm, &Zeroizing::new(owner)).map_err(AnchorError::Tpm)?;
        Ok(told(&anchor::look(&self.socket, &self.state, &mut tpm, self.begin_anew)?))
    }
}

impl Cosign {
    fn run(self) -> Result<ExitCode, Failure> {
        let (Some(state), Some(trust), Some(request)) = (&self.state, &self.trust, &self.request) else {
            let key = CosigningKey::make(self.new_key.as_deref().unwrap_or_default(), &self.key)?;
            return print(&format!("{}\n", key.public()));
        };
        let key = CosigningKey::read(&self.key)?;
        let trusted = load_chain_keys(trust).map_err(CosignError::Fault)?;
        // What is longer is cut, and no request then.
        let read =
            |path: &Path, limit: u64| load(path, limit).map(Result::unwrap_or_default).map_err(CosignError::Fault);
        let epochs = self.epochs.as_deref().map(|path| read(path, EPOCHS_BYTES_MAX)).transpose()?.unwrap_or_default();
        let brought = Brought { request: read(request, REQUEST_BYTES_MAX)?, epochs };
        Sandbox::new().writing(state).enter()?;
        let seconds = Time::now().map_err(|_| CosignError::Clock)?.seconds();
        match cosign(&key, &trusted, state, &brought, seconds)? {
            Ok(line) => print(&line),
            Err(refusal) => {
                say(Priority::Error, &format!("not cosigned: {refusal}"));
                if let Refusal::No(No::Conflict { size, .. }) = refusal {
                    // As the body of the 409 has it.
                    print(&format!("{size}\n"))?;
                }
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

/// The one place that writes results.
fn print(text: &str) -> Result<ExitCode, Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CosignError::Output)?;
    Ok(ExitCode::SUCCESS)
}

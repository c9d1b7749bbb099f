//! The commands: words of the command line, and the text of the answers.

mod audit;
mod bundle;
mod claims;
mod device;
mod explain;
mod network;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use secai_verifier::files::Fault;
use secai_verifier::refusal::{Named, REFUSALS_OF_ONE_NAME_MAX, cut_names};

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Judge a bundle: one release, as a directory of files
    #[command(after_help = "Example:\n  verify-release bundle out/minimal/6-bundle --trust out/minimal/trust")]
    Bundle(bundle::Arguments),
    /// Judge an audit chain, as a directory of files, or proofs from one
    #[command(
        after_help = "Examples:\n  verify-release audit /var/lib/secure-ai/audit --trust /etc/secure-ai/trust\n  verify-release audit chain --trust trust --from checkpoint.of-yesterday\n  verify-release audit chain --trust trust --from cosigned --witness ada.vkey\n  verify-release audit --proof 7.tlog-proof --trust trust\n  verify-release audit audit.jsonl --as python-hmac-chain --key-file audit.key"
    )]
    Audit(audit::Arguments),
    /// Prove that a live ruleset lets out what a profile promises and nothing else
    #[command(
        after_help = "Example:\n  nft list ruleset > ruleset; ip -j link > links\n  verify-release network ruleset --links links --profile offline_private"
    )]
    Network(network::Arguments),
    /// Judge a device by what it gathered about itself, and by its files
    #[command(
        after_help = "Examples:\n  secaictl collect --output evidence\n  verify-release device --evidence evidence --root / --release /sysroot/secure-ai/release/COMMIT --trust trust\n  verify-release device --evidence evidence --root /mnt/deployment --boot /mnt/boot --release bundle --trust trust"
    )]
    Device(device::Arguments),
    /// Say of each claim whether this device keeps it
    #[command(
        after_help = "Example:\n  verify-release claims --evidence evidence --root / --trust trust\n\nExit code 0: every claim that can be judged by now is met; the others wait for the services that the page names."
    )]
    Claims(claims::Arguments),
    /// Say what a refusal means and what to do about it
    #[command(after_help = "Example:\n  verify-release explain SbomOmitsFile")]
    Explain(explain::Arguments),
}

/// Why a command could not answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What lies outside the input.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The name of no refusal.
    #[error("no refusal is named `{0}`")]
    UnknownName(String),
    /// Nobody said what is claimed.
    #[error("there is no page of claims")]
    NoClaims,
    /// Standard output does not take the result.
    #[error("cannot write the result")]
    Output(#[from] io::Error),
    /// The result could not be put into JSON.
    #[error("cannot write the result as JSON")]
    Json(#[from] serde_json::Error),
}

impl Failure {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Fault(fault) => fault.hint(),
            Self::UnknownName(_) => Some("`verify-release explain` lists every name"),
            Self::NoClaims => Some("give the device's files with --root, or the page with --claims"),
            Self::Output(_) | Self::Json(_) => None,
        }
    }
}

impl Command {
    /// Runs it; the exit code is the answer.
    pub fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Audit(arguments) => arguments.run(),
            Self::Bundle(arguments) => arguments.run(),
            Self::Claims(arguments) => arguments.run(),
            Self::Device(arguments) => arguments.run(),
            Self::Explain(arguments) => arguments.run(),
            Self::Network(arguments) => arguments.run(),
        }
    }
}

/// How to print a result.
#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Lines for people
    Human,
    /// One JSON object
    Json,
}

/// A word in a colour, where the terminal and its owner want some.
fn paint(text: &str, colour: &str) -> String {
    let wanted = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if wanted { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Every refusal, and of which there may be more.
fn refused<R: Named>(refusals: &[R]) -> String {
    let mut text = format!("{}\n", paint("refused", "1;31"));
    for refusal in refusals {
        text.push_str(&format!("{}: {}\n", paint(refusal.name(), "1"), plain(&refusal.to_string())));
    }
    for name in cut_names(refusals) {
        text.push_str(&format!("{name}: only the first {REFUSALS_OF_ONE_NAME_MAX} are listed\n"));
    }
    text
}

/// The one place that writes results.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// A name from a bundle without control characters, which could forge lines on a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

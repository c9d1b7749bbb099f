//! `secaictl audit VERB`: reads the chain from the daemon's own directory or a copy, and asks the daemon for the rest.

pub mod ask;
mod chain;
mod checkpoint;
mod export;
mod follow;
mod prove;
mod show;

use crate::failure::Failure;
use crate::output::Output;
use clap::{Args, Subcommand};
use secai_api::audit::SOCKET;
use std::path::PathBuf;
use std::process::ExitCode;

/// Words of the command line.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// Where the audit daemon listens
    #[arg(long, global = true, display_order = 100, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
}

/// What to do.
#[derive(Subcommand)]
enum Verb {
    /// Show entries, after the whole chain was checked
    #[command(
        after_help = "Examples:\n  secaictl audit show --from 100 --kind svc.state\n  secaictl audit show --dir copy-of-chain --trust trust --payloads"
    )]
    Show(show::Arguments),
    /// Show entries as they come, each once it is signed (a second later at most), until Ctrl-C
    #[command(after_help = "Example:\n  secaictl audit follow --kind svc.state")]
    Follow(follow::Arguments),
    /// Write a proof that an entry is in the chain, for somebody who has only the device's key
    #[command(
        after_help = "Example:\n  secaictl audit prove 7\n  verify-release audit --proof 7.tlog-proof --trust trust"
    )]
    Prove(prove::Arguments),
    /// Write the chain as a static tree of files that other people's programs read
    #[command(after_help = "Example:\n  secaictl audit export --tlog tree")]
    Export(export::Arguments),
    /// Have everything that is written signed now, and print the checkpoint: something to keep elsewhere
    #[command(
        after_help = "Examples:\n  secaictl audit checkpoint --qr\n  secaictl audit checkpoint -o checkpoint.of-today\n  secaictl audit checkpoint --for-witness cosigned.of-yesterday -o request"
    )]
    Checkpoint(checkpoint::Checkpoint),
    /// Put what a witness answered under the checkpoint that it was asked about
    #[command(
        after_help = "Example:\n  secaictl audit cosigned request answer --witness ada.vkey -o cosigned.of-today\n  verify-release audit chain --trust trust --from cosigned.of-today --witness ada.vkey"
    )]
    Cosigned(checkpoint::Cosigned),
    /// Print the device's key, for a trust directory
    #[command(after_help = "Example:\n  secaictl audit key > trust/device.vkey")]
    Key,
    /// Say how the writer of the chain stands
    #[command(after_help = "Example:\n  secaictl audit status --json")]
    Status,
    /// Write a remark into the chain; its text can be forgotten later
    #[command(
        after_help = "Examples:\n  secaictl audit note 'lent the laptop to Ada'\n  echo something | secaictl audit note -"
    )]
    Note(ask::Note),
    /// Erase payloads for ever: what people did and wrote; the entries stay, and one more says that it was done
    #[command(after_help = "Example:\n  secaictl audit forget --from 100 --until 200")]
    Forget(ask::Forget),
    /// Remove the oldest entries for ever: their hashes stay, and one more entry says that it was done
    #[command(after_help = "Example:\n  secaictl audit prune --until 65536")]
    Prune(ask::Prune),
    /// Say that you know that this chain begins with a gap, after it was shown
    #[command(after_help = "Example:\n  secaictl audit acknowledge")]
    Acknowledge(ask::Acknowledge),
}

impl Arguments {
    /// Does it; the exit code is the answer.
    pub fn run(self, output: &mut Output) -> Result<ExitCode, Failure> {
        let socket = &self.socket;
        match self.verb {
            Verb::Show(arguments) => arguments.run(socket, output),
            Verb::Follow(arguments) => arguments.run(socket, output),
            Verb::Prove(arguments) => arguments.run(socket, output),
            Verb::Export(arguments) => arguments.run(socket, output),
            Verb::Checkpoint(arguments) => arguments.run(socket, output),
            Verb::Cosigned(arguments) => arguments.run(output),
            Verb::Key => ask::key(socket, output),
            Verb::Status => ask::status(socket, output),
            Verb::Note(arguments) => arguments.run(socket, output),
            Verb::Forget(arguments) => arguments.run(socket, output),
            Verb::Prune(arguments) => arguments.run(socket, output),
            Verb::Acknowledge(arguments) => arguments.run(socket, output),
        }
    }
}

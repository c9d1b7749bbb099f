//! `verify-release`: judges a release's files, offline, and says why.
//!
//! Standard output carries the result and nothing else. Exit codes: 0 accepted, 1 refused (whatever is
//! wrong in the input), 2 what lies outside the input: a path, trust, usage.

mod cmd;
mod confine;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

/// Judges a release's files, offline, and says why.
#[derive(Parser)]
#[command(name = "verify-release", version, about, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 accepted, 1 refused, 2 could not look (path, trust, usage).\nNothing is fetched and nothing is written: no network, no other program. Where the kernel has Landlock and seccomp it holds this program to that."
)]
struct Arguments {
    #[command(subcommand)]
    command: cmd::Command,
}

/// Nothing could be judged.
const COULD_NOT_LOOK: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    confine::give_up_all_but_reading();
    match arguments.command.run() {
        Ok(code) => code,
        Err(failure) => {
            let mut text = format!("verify-release: {failure}\n");
            let mut cause = failure.source();
            while let Some(error) = cause {
                text.push_str(&format!("  because: {error}\n"));
                cause = error.source();
            }
            if let Some(hint) = failure.hint() {
                text.push_str(&format!("hint: {hint}\n"));
            }
            // Where even standard error is closed there is nobody left to tell.
            let _ = std::io::stderr().write_all(text.as_bytes());
            ExitCode::from(COULD_NOT_LOOK)
        }
    }
}

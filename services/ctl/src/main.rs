//! `secaictl`: asks the services of this device for a person, and shows what they answer.
//!
//! Standard output carries the result and nothing else. Exit codes: 0 done, 1 a negative answer (a service refused,
//! a chain or proof is refused), 2 could not look (no service, a path, usage).
//!
//! This program never changes a file of a service: it asks the service, which decides. [`collect`] alone starts others.

mod audit;
mod collect;
mod failure;
mod files;
mod leak;
mod output;
mod profile;
mod qr;

use clap::{Parser, Subcommand};
use output::Output;
use secai_daemon::report::{Priority, say, told};
use std::process::ExitCode;

/// Asks the services of this device, and shows what they answer.
#[derive(Parser)]
#[command(name = "secaictl", version, about, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 no (a service refused, or what was read is refused), 2 could not look (no service, path, signer unknown, usage)."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Print the result as JSON, one object per line
    #[arg(long, global = true, display_order = 101)]
    json: bool,
}

/// Which part of the device.
#[derive(Subcommand)]
enum Command {
    /// The audit chain: what the device remembers about itself
    #[command(after_help = "Example:\n  secaictl audit show --kind svc.state")]
    Audit(audit::Arguments),
    /// The profile: what may leave this device, and what runs
    #[command(after_help = "Example:\n  secaictl profile preview research")]
    Profile(profile::Arguments),
    /// Gather what this device says about itself into a folder, for `verify-release device` and `claims`
    #[command(
        after_help = "Example:\n  sudo secaictl collect --output evidence\n\nThe folder holds the audit chain with its payloads: what people did. Keep it to yourself."
    )]
    Collect(collect::Arguments),
    /// Try every way out of a machine by real packets against the rules of a profile, in namespaces of its own
    #[command(after_help = "Example:\n  sudo secaictl leak-test --profile research")]
    LeakTest(leak::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut output = Output::new(arguments.json);
    let done = match arguments.command {
        Command::Audit(audit) => audit.run(&mut output),
        Command::Collect(collect) => collect.run(&mut output),
        Command::Profile(profile) => profile.run(&mut output),
        Command::LeakTest(leak) => leak.run(&mut output),
    };
    match done.and_then(|code| Ok(output.flush().map(|()| code)?)) {
        Ok(code) => code,
        Err(failure) if failure.nobody_reads() => ExitCode::SUCCESS,
        Err(failure) => {
            // What was said before belongs in front of the error.
            let _ = output.flush();
            say(Priority::Error, &told(&failure));
            ExitCode::from(failure.code())
        }
    }
}

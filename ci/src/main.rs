//! `cargo ci STEP`: what a change must pass, one file per step.
//!
//! `ci/test` runs `all`, `ci/build` runs `compose`; each step also stands alone, so that
//! `cargo ci clippy` on a laptop is the same as in CI.

mod bench;
mod clippy;
mod compose;
mod deny;
mod fmt;
mod golden;
mod pack;
mod peers;
mod step;
mod surroundings;
mod test;
mod vm;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::step::{Report, Step};
use crate::surroundings::Surroundings;

/// Runs the checks of this repository.
#[derive(Parser)]
#[command(name = "cargo ci", bin_name = "cargo ci")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Every step of a tier, with the minutes of each
    All {
        /// `vm` adds the long tests on booted machines
        #[arg(long, value_enum, default_value_t = Tier::Test)]
        tier: Tier,
    },
    /// Are the sources formatted?
    Fmt,
    /// No lint, in programs and tests
    Clippy,
    /// Licences, sources and known faults of the crates we use
    Deny,
    /// Compile for release, compose recipes/minimal.yml, verify the bundle
    Compose {
        /// Passed on to `secai-build build`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Fill a folder with our programs and manifests, as `secai-build build RECIPE --pack DIR` takes them
    Pack {
        /// The folder, from the top of the repository
        #[arg(default_value = pack::FOLDER)]
        folder: PathBuf,
    },
    /// Make the programs under tests/peers, other readers of our formats
    Peers,
    /// Unit, integration, interop tests and one boot
    Test,
    /// The long tests on booted machines
    Vm,
    /// Write tests/golden anew from what the programs print now
    Golden,
    /// Whole commands against their peers: ratios, measured in one run
    Bench,
}

/// How much is run.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tier {
    /// Everything that is quick, and one boot
    Test,
    /// That, and the long tests on booted machines
    Vm,
}

fn main() -> ExitCode {
    let here = match Surroundings::find() {
        Ok(here) => here,
        Err(why) => {
            eprintln!("cargo ci: {why}");
            return ExitCode::from(2);
        }
    };
    let steps: Vec<(&str, Step)> = match Arguments::parse().verb {
        Verb::All { tier } => {
            let mut steps: Vec<(&str, Step)> = vec![
                ("fmt", Box::new(fmt::run)),
                ("clippy", Box::new(clippy::run)),
                ("deny", Box::new(deny::run)),
                ("compose", Box::new(compose::for_tests)),
                ("peers", Box::new(peers::run)),
                ("test", Box::new(test::run)),
            ];
            if tier == Tier::Vm {
                steps.push(("vm", Box::new(vm::run)));
            }
            steps
        }
        Verb::Fmt => vec![("fmt", Box::new(fmt::run))],
        Verb::Clippy => vec![("clippy", Box::new(clippy::run))],
        Verb::Deny => vec![("deny", Box::new(deny::run))],
        Verb::Compose { arguments } => {
            vec![("compose", Box::new(move |here: &Surroundings| compose::for_people(here, &arguments)))]
        }
        Verb::Pack { folder } => {
            vec![("pack", Box::new(move |here: &Surroundings| pack::run(here, &folder)))]
        }
        Verb::Peers => vec![("peers", Box::new(peers::run))],
        Verb::Test => vec![
            ("compose", Box::new(compose::for_tests)),
            ("peers", Box::new(peers::run)),
            ("test", Box::new(test::run)),
        ],
        Verb::Vm => vec![("compose", Box::new(compose::for_tests)), ("vm", Box::new(vm::run))],
        Verb::Golden => vec![("golden", Box::new(golden::run))],
        Verb::Bench => vec![("compose", Box::new(compose::for_tests)), ("bench", Box::new(bench::run))],
    };
    let mut report = Report::default();
    for (name, step) in steps {
        report.take(name, &here, step);
    }
    report.close(&here)
}

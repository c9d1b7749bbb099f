//! No lint, in programs and tests.

use std::process::Command;

use crate::step::{self, Outcome};
use crate::surroundings::{Surroundings, cargo};
use crate::test::TPM;

/// Warnings are errors here and not in the sources, so that unfinished work compiles. A toolchain other than
/// `rust-version` has lints that we have not met: a newcomer sees those, CI counts them.
pub fn run(here: &Surroundings) -> Outcome {
    // What a feature leaves out is linted too.
    let mut commands = [&[][..], &["--features", TPM]].map(|features| {
        let mut command = Command::new(cargo());
        command.args(["clippy", "--workspace", "--all-targets", "--locked", "--quiet"]).current_dir(&here.top);
        command.args(features);
        command
    });
    let version = Command::new("rustc").arg("--version").output().map(|it| it.stdout).unwrap_or_default();
    let version = String::from_utf8_lossy(&version).into_owned();
    if here.in_ci || version.starts_with(concat!("rustc ", env!("CARGO_PKG_RUST_VERSION"), ".")) {
        for command in &mut commands {
            command.args(["--", "-D", "warnings"]);
        }
    } else {
        let ours = env!("CARGO_PKG_RUST_VERSION");
        eprintln!("clippy: this is {}; warnings count with {ours} and in CI", version.trim());
    }
    step::run_all(commands)
}

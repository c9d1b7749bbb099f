//! Unit, integration and interop tests, one boot among them.

use std::process::Command;

use crate::peers;
use crate::step::{self, Outcome};
use crate::surroundings::{Surroundings, cargo, on_path};

/// The one feature that the workspace is not compiled with, because it links a library that not everybody has.
pub const TPM: &str = "secai-audit/tpm";

/// By cargo-nextest where it is, else by `cargo test`; then the examples in the documentation, and what a feature
/// leaves out.
pub fn run(here: &Surroundings) -> Outcome {
    let tests = if on_path("cargo-nextest").is_some() {
        let mut command = Command::new(cargo());
        command.args(["nextest", "run", "--config-file", "ci/nextest.toml", "--no-fail-fast"]);
        command
    } else {
        let mut command = Command::new(cargo());
        command.args(["test", "--no-fail-fast", "--lib", "--bins", "--tests"]);
        command
    };
    let mut examples = Command::new(cargo());
    examples.args(["test", "--doc"]);
    let mut tpm = Command::new(cargo());
    tpm.args(["test", "--no-fail-fast", "--features", TPM, "--test", "anchor"]);
    step::run_all([tests, examples, tpm].map(|mut command| {
        command.args(["--workspace", "--locked"]);
        for_tests(&mut command, here, "test");
        command
    }))
}

/// What `secai_tests` reads: which tier this is, where our programs, the bundle and its other readers lie, where skips go.
pub fn for_tests(command: &mut Command, here: &Surroundings, tier: &str) {
    command
        .current_dir(&here.top)
        .env("SECAI_TIER", tier)
        .env("SECAI_PROGRAMS", here.programs())
        .env("SECAI_OUT", &here.out)
        .env("SECAI_PEERS", peers::folder(here))
        .env("SECAI_SKIPS", &here.skips);
}

//! The long tests: those in `tests/tests/vm*.rs`, on booted machines, and tests of services that take minutes.

use std::fs;
use std::process::Command;

use crate::step::{self, Outcome};
use crate::surroundings::{Surroundings, cargo, on_path};
use crate::test::for_tests;

/// Others in `tests/` that do more in this tier.
const LONGER: [&str; 2] = ["--test", "switches"];
/// Tests outside of `tests/` that do.
const OF_SERVICES: [&str; 6] = ["--package", "secai-audit", "--test", "faults", "--test", "busy"];

/// One after the other: each guest wants the whole machine.
pub fn run(here: &Surroundings) -> Outcome {
    let files = fs::read_dir(here.top.join("tests/tests")).into_iter().flatten().flatten();
    if !files.map(|file| file.file_name()).any(|name| name.to_string_lossy().starts_with("vm")) {
        eprintln!("vm: there are no tests of this tier");
        return Outcome::Passed;
    }
    let mut command = Command::new(cargo());
    if on_path("cargo-nextest").is_some() {
        command.args(["nextest", "run", "--config-file", "ci/nextest.toml", "--no-fail-fast", "--test-threads=1"]);
        command.args(["--locked", "--package", "secai-tests", "--test", "vm*"]).args(LONGER).args(OF_SERVICES);
    } else {
        command.args(["test", "--no-fail-fast", "--locked", "--package", "secai-tests", "--test", "vm*"]);
        command.args(LONGER).args(OF_SERVICES);
        command.args(["--", "--test-threads=1"]);
    }
    for_tests(&mut command, here, "vm");
    step::run(&mut command)
}

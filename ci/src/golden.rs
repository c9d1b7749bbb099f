//! Writes `tests/golden` anew from what the programs print now; `git diff` shows what changed.

use std::process::Command;

use crate::compose::compile_programs;
use crate::pack;
use crate::step::{self, Outcome};
use crate::surroundings::{Surroundings, cargo};
use crate::test::for_tests;

/// Without this step the same test compares.
pub fn run(here: &Surroundings) -> Outcome {
    let compile = match compile_programs(here) {
        Ok(compile) => compile,
        Err(why) => return Outcome::Failed(why),
    };
    match pack::run(here, &here.out.join("pack")) {
        Outcome::Passed => {}
        other => return other,
    }
    let mut write = Command::new(cargo());
    write.args(["test", "--locked", "--package", "secai-tests", "--test", "golden"]).env("SECAI_GOLDEN", "write");
    for_tests(&mut write, here, "test");
    step::run_all([compile, write])
}

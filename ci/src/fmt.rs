//! Are the sources formatted?

use std::process::Command;

use crate::step::{self, Outcome};
use crate::surroundings::{Surroundings, cargo};

/// Changes nothing: says which files differ.
pub fn run(here: &Surroundings) -> Outcome {
    step::run(Command::new(cargo()).args(["fmt", "--all", "--check"]).current_dir(&here.top))
}

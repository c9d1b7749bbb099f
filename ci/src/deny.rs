//! Licences, sources and known faults of the crates we use, by cargo-deny.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::step::{self, Outcome};
use crate::surroundings::{Surroundings, cargo, on_path};

/// CI fetches cargo-deny once into its cache (three minutes on two cores); elsewhere it is used when present.
pub fn run(here: &Surroundings) -> Outcome {
    let Some(deny) = find(here).or_else(|| install(here)) else {
        return Outcome::Skipped("cargo-deny is not here: cargo install --locked cargo-deny".to_owned());
    };
    let check = |what: &[&str]| {
        let mut command = Command::new(&deny);
        command.args(["--locked", "--log-level", "error", "check"]).args(what).current_dir(&here.top);
        command.env("CARGO", cargo());
        command
    };
    match step::run(&mut check(&["bans", "licenses", "sources"])) {
        Outcome::Passed => {}
        other => return other,
    }
    let mut fetch = Command::new(&deny);
    fetch
        .args(["--log-level", "off", "fetch", "db"])
        .current_dir(&here.top)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if !matches!(step::run(&mut fetch), Outcome::Passed) {
        // The list lives outside the registry; a machine may have the one and not the other.
        eprintln!("deny: advisories not judged: their list cannot be had here");
        return Outcome::Passed;
    }
    step::run(&mut check(&["--disable-fetch", "advisories"]))
}

fn find(here: &Surroundings) -> Option<PathBuf> {
    Some(installed(here)).filter(|at| at.is_file()).or_else(|| on_path("cargo-deny"))
}

fn installed(here: &Surroundings) -> PathBuf {
    here.tools.join("bin/cargo-deny")
}

fn install(here: &Surroundings) -> Option<PathBuf> {
    if !here.in_ci {
        return None;
    }
    let mut command = Command::new(cargo());
    command.args(["install", "--locked", "--quiet", "cargo-deny", "--root"]).arg(&here.tools);
    // Its hundreds of crates are compiled once: not beside ours.
    command.env_remove("CARGO_TARGET_DIR");
    step::run(&mut command);
    Some(installed(here)).filter(|at| at.is_file())
}

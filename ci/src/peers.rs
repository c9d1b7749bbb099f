//! Readers of our formats that Debian does not carry: fetched and built once, kept in the target folder.
//!
//! A peer that cannot be had is not a failure of this step: the tests that need it say so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{self, Outcome};
use crate::surroundings::{Surroundings, cargo};

/// Where tests find them, by name: `ostree-ext`, `cyclonedx`.
pub fn folder(here: &Surroundings) -> PathBuf {
    here.target.join("secai-ci/peers")
}

/// Makes what is not there yet, or is not what `tests/peers` says.
pub fn run(here: &Surroundings) -> Outcome {
    let folder = folder(here);
    if let Err(why) = fs::create_dir_all(&folder) {
        return Outcome::Failed(format!("{}: {why}", folder.display()));
    }
    let made = ostree_ext(here, &folder).and_then(|()| cyclonedx(here, &folder));
    made.map_or_else(Outcome::Failed, |()| Outcome::Passed)
}

fn ostree_ext(here: &Surroundings, folder: &Path) -> Result<(), String> {
    let target = here.target.join("peers");
    let mut build = Command::new(cargo());
    build.args(["build", "--locked", "--quiet", "--manifest-path"]);
    build.arg(here.top.join("tests/peers/ostree-ext/Cargo.toml")).arg("--target-dir").arg(&target);
    if let Outcome::Failed(why) = step::run(&mut build) {
        eprintln!("peers: ostree-ext: {why}");
        return Ok(());
    }
    let to = folder.join("ostree-ext");
    fs::copy(target.join("debug/ostree-ext-peer"), &to).map_err(|why| format!("{}: {why}", to.display()))?;
    Ok(())
}

fn cyclonedx(here: &Surroundings, folder: &Path) -> Result<(), String> {
    let source = here.top.join("tests/peers/cyclonedx");
    let (program, venv) = (folder.join("cyclonedx"), folder.join("cyclonedx.venv"));
    let pins = source.join("requirements.txt");
    let read = |path: &Path| fs::read(path).unwrap_or_default();
    let stamp = venv.join("requirements.txt");
    if read(&stamp) != read(&pins) || !program.is_file() {
        let script = r#"rm -rf "$1" && python3 -m venv "$1" && "$1/bin/pip" install --quiet --requirement "$2""#;
        let mut make = Command::new("sh");
        make.args(["-c", script, "sh"]).args([&venv, &pins]);
        // Debian's Python, which python3-venv belongs to; not one that a user put before it.
        make.env("PATH", "/usr/bin:/bin");
        if let Outcome::Failed(why) = step::run(&mut make) {
            eprintln!("peers: cyclonedx: {why}");
            return Ok(());
        }
        let whole = |why| format!("{}: {why}", venv.display());
        fs::write(&stamp, read(&pins)).map_err(whole)?;
    }
    let text = format!(
        "#!/bin/sh\nexec '{}' '{}' \"$@\"\n",
        venv.join("bin/python").display(),
        source.join("validate.py").display()
    );
    let written =
        fs::write(&program, text).and_then(|()| fs::set_permissions(&program, fs::Permissions::from_mode(0o755)));
    written.map_err(|why| format!("{}: {why}", program.display()))
}

//! Decides whether a test runs, and makes sure that one that did not is seen.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::panic::Location;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// When a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// `ci/test`: quick, and one boot.
    Test,
    /// `ci/test --vm`.
    Vm,
}

/// What a test needs of the machine.
#[derive(Clone, Copy, Debug)]
pub enum Need<'a> {
    /// Root, or a `sudo` that asks nothing: see [`crate::as_root`].
    Root,
    /// A program on PATH.
    Program(&'a str),
    /// The composed and signed `recipes/minimal.yml`: see [`crate::release`].
    Release,
}

/// Does this test run? If not it has to return at once. Prints why not, and adds the reason to the skips
/// that the last line of `ci/test` counts. A tier that was not asked for is no skip.
///
/// # Panics
/// In CI, when the machine lacks what the test needs.
#[must_use]
#[track_caller]
pub fn require(tier: Tier, needs: &[Need]) -> bool {
    let place = Location::caller();
    let asked = match env::var("SECAI_TIER").as_deref() {
        Ok("vm") => Tier::Vm,
        Ok("test") => Tier::Test,
        _ => {
            eprintln!("left out ({place}): `ci/test` runs it");
            return false;
        }
    };
    if tier > asked {
        eprintln!("left out ({place}): `ci/test --vm` runs it");
        return false;
    }
    let Some(reason) = needs.iter().find_map(lacking) else {
        return true;
    };
    eprintln!("SKIPPED: {place}: {reason}");
    if let Some(file) = env::var_os("SECAI_SKIPS").map(PathBuf::from) {
        let line = format!("{}:{}\t{reason}\n", place.file(), place.line());
        let written = file
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| {
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(&file)?
                    .write_all(line.as_bytes())
            });
        assert!(
            written.is_ok(),
            "a skip must be counted: {}: {written:?}",
            file.display()
        );
    }
    let in_ci = env::var("CI").is_ok_and(|it| !matches!(it.as_str(), "" | "0" | "false"));
    assert!(!in_ci, "in CI every test runs: {reason}");
    false
}

fn lacking(need: &Need) -> Option<String> {
    match need {
        Need::Root => (!is_root() && !sudo_is_silent())
            .then(|| "needs root, or a sudo that asks nothing (`sudo -v` first)".to_owned()),
        Need::Program(name) => {
            (!on_path(name)).then(|| format!("{name} is not installed: ci/setup"))
        }
        Need::Release => {
            let bundle = crate::release().join("6-bundle");
            (!bundle.join("release.json").is_file())
                .then(|| format!("{} is not composed: cargo ci test", bundle.display()))
        }
    }
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn sudo_is_silent() -> bool {
    let mut ask = Command::new("sudo");
    ask.args(["-n", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    ask.status().is_ok_and(|status| status.success())
}

fn on_path(name: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(name).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named() {
        assert_eq!(lacking(&Need::Program("sh")), None);
        let reason = lacking(&Need::Program("no-such-program")).unwrap();
        assert!(reason.contains("no-such-program"), "{reason}");
    }
}

//! Decides whether a test runs, and makes sure that one that did not is seen.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::panic::Location;
use std::path::{Path, PathBuf};
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
    /// A program under `tests/peers`: see [`crate::peer`].
    Peer(&'a str),
    /// The composed and signed `recipes/minimal.yml`: see [`crate::release`].
    Release,
    /// The composed and signed `recipes/secai.yml`, and its pack: see [`crate::device`].
    Device,
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
        Ok("vm") => Some(Tier::Vm),
        Ok("test") => Some(Tier::Test),
        _ => None,
    };
    let in_ci = env::var("CI").is_ok_and(|it| !matches!(it.as_str(), "" | "0" | "false"));
    let decision = decide(tier, asked, in_ci, || needs.iter().find_map(lacking));
    match &decision {
        Decision::Run => {}
        Decision::LeftOut(by) => eprintln!("left out ({place}): {by} runs it"),
        Decision::Skip { reason, fails } => {
            eprintln!("SKIPPED: {place}: {reason}");
            if let Some(file) = env::var_os("SECAI_SKIPS").map(PathBuf::from) {
                let line = format!("{}:{}\t{reason}\n", place.file(), place.line());
                let written = append(&file, &line);
                assert!(written.is_ok(), "a skip has to be counted: {}: {written:?}", file.display());
            }
            assert!(!fails, "in CI every test runs: {reason}");
        }
    }
    decision == Decision::Run
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Run,
    /// By this command it would run.
    LeftOut(&'static str),
    Skip {
        reason: String,
        fails: bool,
    },
}

/// The machine is asked last: a test that is left out needs nothing.
fn decide(tier: Tier, asked: Option<Tier>, in_ci: bool, lacking: impl FnOnce() -> Option<String>) -> Decision {
    match asked {
        None => return Decision::LeftOut("ci/test"),
        Some(asked) if tier > asked => return Decision::LeftOut("ci/test --vm"),
        Some(_) => {}
    }
    match lacking() {
        None => Decision::Run,
        Some(reason) => Decision::Skip { reason, fails: in_ci },
    }
}

/// One write: tests of several processes append to this file.
fn append(file: &Path, line: &str) -> io::Result<()> {
    file.parent().map_or(Ok(()), fs::create_dir_all)?;
    OpenOptions::new().create(true).append(true).open(file)?.write_all(line.as_bytes())
}

fn lacking(need: &Need) -> Option<String> {
    match need {
        Need::Root => (!is_root() && !sudo_is_silent())
            .then(|| "needs root, or a sudo that asks nothing (`sudo -v` first)".to_owned()),
        Need::Program(name) => (!on_path(name)).then(|| format!("{name} is not installed: ci/setup")),
        Need::Peer(name) => {
            (!crate::peer(name).is_file()).then(|| format!("tests/peers/{name} could not be made: cargo ci test"))
        }
        Need::Device => {
            let bundle = crate::device().join("6-bundle");
            (!bundle.join("release.json").is_file())
                .then(|| format!("{} is not composed: cargo ci test", bundle.display()))
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
    ask.args(["-n", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    ask.status().is_ok_and(|status| status.success())
}

fn on_path(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_cannot_run_is_a_skip_and_in_ci_a_failure() {
        use Tier::{Test, Vm};
        let lacks = || Some("no qemu".to_owned());
        let skip = |fails| Decision::Skip { reason: "no qemu".to_owned(), fails };
        for (tier, asked, in_ci, expected) in [
            (Test, None, true, Decision::LeftOut("ci/test")),
            (Vm, Some(Test), true, Decision::LeftOut("ci/test --vm")),
            (Test, Some(Test), false, skip(false)),
            (Test, Some(Test), true, skip(true)),
            (Test, Some(Vm), true, skip(true)),
            (Vm, Some(Vm), true, skip(true)),
        ] {
            assert_eq!(decide(tier, asked, in_ci, lacks), expected, "{tier:?} {asked:?} {in_ci}");
        }
        assert_eq!(decide(Test, Some(Test), true, || None), Decision::Run);
        assert_eq!(decide(Vm, Some(Vm), true, || None), Decision::Run);
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert_eq!(lacking(&Need::Program("sh")), None);
        let reason = lacking(&Need::Program("no-such-program")).unwrap();
        assert!(reason.contains("no-such-program"), "{reason}");
    }
}

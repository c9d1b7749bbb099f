//! What the tests share: what a test may ask of the machine, and where it finds our programs.
//!
//! A test that needs more than a compiler says so in its first lines:
//!
//! ```no_run
//! use secai_tests::{Need, Tier, program, release, require};
//!
//! fn a_bundle_is_accepted() {
//!     if !require(Tier::Test, &[Need::Release, Need::Program("skopeo")]) {
//!         return;
//!     }
//!     let verdict = std::process::Command::new(program("verify-release"))
//!         .arg("bundle").arg(release().join("6-bundle"))
//!         .arg("--trust").arg(release().join("trust"))
//!         .status();
//!     assert!(verdict.unwrap().success());
//! }
//! ```
//!
//! `cargo ci test` and `cargo ci vm` set the variables below; under a bare `cargo test` such tests
//! say that they were left out, and the others run.
//!
//! | variable | meaning |
//! |---|---|
//! | `SECAI_TIER` | `test` or `vm`: which tests run |
//! | `SECAI_PROGRAMS` | folder of our programs, compiled for release |
//! | `SECAI_OUT` | where `recipes/minimal.yml` and `recipes/secai.yml` were composed, and the pack |
//! | `SECAI_PEERS` | folder of the programs under `tests/peers`, made |
//! | `SECAI_SKIPS` | file that takes a line for each test that could not run |
//! | `CI` | a test that cannot run is a failure |

pub mod at_boot;
pub mod composing;
pub mod console;
pub mod disk;
pub mod lab;
pub mod lan;
pub mod machine;
mod ran;
mod require;
pub mod tiny;

use std::env;
use std::path::PathBuf;
use std::process::Command;

pub use ran::{Ran, Scratch, ran};
pub use require::{Need, Tier, require};

/// One of our programs: the release build that `cargo ci` made, else what lies beside this test.
pub fn program(name: &str) -> PathBuf {
    if let Some(folder) = env::var_os("SECAI_PROGRAMS") {
        return PathBuf::from(folder).join(name);
    }
    let mut beside = env::current_exe().unwrap_or_default();
    beside.pop();
    if beside.ends_with("deps") {
        beside.pop();
    }
    beside.join(name)
}

/// The output folder of `recipes/minimal.yml` (`1-plan.json` to `6-bundle/`, `trust/`), which all tests
/// read and none changes.
pub fn release() -> PathBuf {
    PathBuf::from(env::var_os("SECAI_OUT").unwrap_or_default()).join("minimal")
}

/// The output folder of `recipes/secai.yml`. Only after [`Need::Device`].
pub fn device() -> PathBuf {
    PathBuf::from(env::var_os("SECAI_OUT").unwrap_or_default()).join("secai")
}

/// The service pack that it was composed with. Only after [`Need::Device`].
pub fn pack() -> PathBuf {
    PathBuf::from(env::var_os("SECAI_OUT").unwrap_or_default()).join("pack")
}

/// A reader of our formats that Debian does not carry: `ostree-ext`, `cyclonedx`. Only after [`Need::Peer`].
pub fn peer(name: &str) -> PathBuf {
    PathBuf::from(env::var_os("SECAI_PEERS").unwrap_or_default()).join(name)
}

/// A command that runs as root: directly when we are, else through a `sudo` that asks nothing.
/// Only after [`Need::Root`].
pub fn as_root(program: impl AsRef<std::ffi::OsStr>) -> Command {
    if require::is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", "--"]).arg(program);
    command
}

/// Kills a process, as root; what is gone already stays so. By the shell: a small Debian has no `kill` besides.
pub fn kill(pid: u32) {
    ran(as_root("sh").args(["-c", "kill -KILL \"$1\" 2>/dev/null || :", "sh", &pid.to_string()])).good();
}

/// The repository.
pub fn top() -> PathBuf {
    let mut top = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    top.pop();
    top
}

//! Where things lie and what the machine is: found once, handed to every step.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What every step is given.
pub struct Surroundings {
    /// The checkout.
    pub top: PathBuf,
    /// Cargo's target folder.
    pub target: PathBuf,
    /// Tools that CI installs for itself and keeps between runs.
    pub tools: PathBuf,
    /// Where tests write why they did not run: `PLACE<TAB>REASON` a line.
    pub skips: PathBuf,
    /// What the tests compose: `OUT/minimal/6-bundle` and its neighbours.
    pub out: PathBuf,
    /// A skipped check is a failure.
    pub in_ci: bool,
}

impl Surroundings {
    /// Reads the environment and asks cargo.
    pub fn find() -> Result<Self, String> {
        let metadata = Command::new(cargo())
            .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
            .output()
            .map_err(|why| format!("cargo metadata: {why}"))?;
        if !metadata.status.success() {
            return Err(String::from_utf8_lossy(&metadata.stderr).trim().to_owned());
        }
        let metadata: serde_json::Value =
            serde_json::from_slice(&metadata.stdout).map_err(|why| format!("cargo metadata: {why}"))?;
        let path =
            |key: &str| metadata[key].as_str().map(PathBuf::from).ok_or_else(|| format!("cargo metadata has no {key}"));
        let target = path("target_directory")?;
        let cache = env::var_os("XDG_CACHE_HOME")
            .filter(|at| !at.is_empty())
            .map(PathBuf::from)
            .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
            .ok_or("neither XDG_CACHE_HOME nor HOME is set")?;
        Ok(Self {
            top: path("workspace_root")?,
            tools: cache.join("secai/tools"),
            skips: target.join("secai-ci/skips"),
            out: target.join("secai-ci/out"),
            target,
            in_ci: env::var("CI").is_ok_and(|it| !matches!(it.as_str(), "" | "0" | "false")),
        })
    }

    /// Where everything is compiled that a device or a test runs: with other flags than cargo's own, hence in a folder of
    /// its own.
    pub fn compiled(&self) -> PathBuf {
        self.target.join("secai-ci/pack")
    }

    /// The programs among it.
    pub fn programs(&self) -> PathBuf {
        self.compiled().join("release")
    }

    /// One of our programs, compiled for release: tests run what people run.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs().join(name)
    }
}

/// The cargo that runs us.
pub fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// Where PATH has a program of this name.
pub fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|at| at.is_file())
}

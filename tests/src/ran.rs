//! Other programs in tests: what they printed is seen where a test fails, and their folders go away.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::as_root;

/// A program that has ended.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
    /// How long it took.
    pub took: Duration,
    line: String,
}

/// Runs a command to its end, with nothing on its standard input.
///
/// # Panics
/// When it cannot be started.
pub fn ran(command: &mut Command) -> Ran {
    let line = format!("{command:?}");
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|why| panic!("{line}: {why}"));
    Ran {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: start.elapsed(),
        line,
    }
}

impl Ran {
    /// # Panics
    /// When it did not end with 0.
    #[track_caller]
    pub fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    /// # Panics
    /// When it ended with 0, or by a signal.
    #[track_caller]
    pub fn bad(self) -> Self {
        assert!(self.code.is_some_and(|code| code != 0), "{self}");
        self
    }

    /// Both streams.
    pub fn text(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}\nended with {:?} after {:.1} s\n", self.line, self.code, self.took.as_secs_f64())?;
        write!(f, "-- stdout\n{}\n-- stderr\n{}", self.out, self.err)
    }
}

/// A folder of one test, with files of any owner in it; removed when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// An empty one on the disk that cargo's target folder lies on: `env!("CARGO_TARGET_TMPDIR")`, and a name.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new(parent: &str, name: &str) -> Self {
        let scratch = Self(Path::new(parent).join(name));
        scratch.clear();
        std::fs::create_dir_all(&scratch.0).unwrap_or_else(|why| panic!("{}: {why}", scratch.0.display()));
        scratch
    }

    /// Its place.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path inside it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    fn clear(&self) {
        if self.0.symlink_metadata().is_ok() && std::fs::remove_dir_all(&self.0).is_err() {
            let _ = as_root("rm").args(["-rf", "--one-file-system"]).arg(&self.0).status();
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.clear();
    }
}

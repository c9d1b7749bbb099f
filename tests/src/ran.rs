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

/// What a guest leaves to look at when its test fails: its console, its frames, its journal.
const KEPT: [&str; 3] = ["log", "pcap", "journal"];

impl Scratch {
    /// Copies what explains a failure beside the folders of tests, where the next failure of this test replaces it.
    fn keep(&self) {
        let (Some(parent), Some(name)) = (self.0.parent(), self.0.file_name()) else { return };
        let to = parent.join("kept").join(name);
        let _ = std::fs::remove_dir_all(&to);
        for entry in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|it| KEPT.iter().any(|kept| it == *kept)) {
                let _ = std::fs::create_dir_all(&to);
                match std::fs::copy(&path, to.join(entry.file_name())) {
                    Ok(_) => eprintln!("kept: {}", to.join(entry.file_name()).display()),
                    Err(why) => eprintln!("not kept: {}: {why}", path.display()),
                }
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep();
        }
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_explains_a_failure_is_kept_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let place = parent.path().to_str().unwrap();
        let ends = |fails: bool| {
            std::thread::scope(|scope| {
                let test = scope.spawn(|| {
                    let scratch = Scratch::new(place, "guest");
                    for name in ["serial.log", "frames.pcap", "disk.raw"] {
                        std::fs::write(scratch.join(name), name).unwrap();
                    }
                    assert!(!fails, "as a test fails");
                });
                let _ = test.join();
            });
            let kept = std::fs::read_dir(parent.path().join("kept/guest")).into_iter().flatten().count();
            (kept, parent.path().join("guest").exists())
        };
        assert_eq!(ends(false), (0, false));
        assert_eq!(ends(true), (2, false));
    }
}

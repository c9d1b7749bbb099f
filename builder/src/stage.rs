//! Stages and their stamps: what a stage was made from, so that a build resumes where an input changed
//! and a killed stage is never taken for a finished one.
//!
//! A stage's *inputs* are named values; its *key* is their digest. Its output is written beside its place as
//! `NAME.partial`, moved there, and only then stamped with the inputs. No stamp or another key: not done.

use crate::error::{At, Error};
use secai_verifier::digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The stages in their order, with the name of each output in `out/NAME`.
pub const STAGES: [(&str, &str); 6] = [
    ("plan", "1-plan.json"),
    ("rootfs", "2-rootfs"),
    ("commit", "3-commit.json"),
    ("image", "4-image"),
    ("attest", "5-attest"),
    ("bundle", "6-bundle"),
];

/// What a stage is made from: name → value (a digest or a short text).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs(BTreeMap<String, String>);

impl Inputs {
    /// None yet.
    pub fn new() -> Inputs {
        Inputs::default()
    }

    /// Adds one.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl ToString) -> Inputs {
        self.0.insert(name.into(), value.to_string());
        self
    }

    /// The digest of them all.
    pub fn key(&self) -> Digest {
        let mut text = String::new();
        for (name, value) in &self.0 {
            // Lengths first, so that no two lists of inputs read the same.
            text.push_str(&format!("{} {} {name}{value}", name.len(), value.len()));
        }
        Digest::of(text.as_bytes())
    }

    /// The names whose values differ from `old`, sorted.
    pub fn changed_since(&self, old: &Inputs) -> Vec<String> {
        let names = self.0.keys().chain(old.0.keys()).collect::<std::collections::BTreeSet<_>>();
        names.into_iter().filter(|n| self.0.get(*n) != old.0.get(*n)).cloned().collect()
    }
}

/// What is written when a stage is done.
#[derive(Serialize, Deserialize)]
struct Stamp {
    boot: String,
    inputs: Inputs,
}

/// Changes whenever this machine starts.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Is a stage's output there, and made from these inputs?
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state", content = "why")]
pub enum State {
    /// Yes.
    Cached,
    /// No, and why.
    Rebuilt(String),
}

/// An output folder `out/NAME`, held by one build at a time.
#[derive(Debug)]
pub struct Workspace {
    root: PathBuf,
    _lock: fs::File,
}

impl Workspace {
    /// Makes and locks it; clears what an earlier, killed build left half done.
    ///
    /// # Errors
    /// [`Error::Locked`]; I/O.
    pub fn open(out: &Path, name: &str) -> Result<Workspace, Error> {
        let root = out.join(name);
        fs::create_dir_all(root.join(".stamps")).at("create", &root)?;
        let root = root.canonicalize().at("read", &root)?;
        let lock = fs::File::create(root.join(".lock")).at("create", root.join(".lock"))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| Error::Locked { path: root.clone() })?;
        let workspace = Workspace { root, _lock: lock };
        workspace.clear()?;
        Ok(workspace)
    }

    /// Removes what is half done.
    fn clear(&self) -> Result<(), Error> {
        for entry in fs::read_dir(&self.root).at("read", &self.root)? {
            let path = entry.at("read", &self.root)?.path();
            if path.extension().is_some_and(|e| e == "partial") {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// `out/NAME`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a stage's output lies.
    pub fn output(&self, stage: &str) -> PathBuf {
        let name = STAGES.iter().find(|(s, _)| *s == stage).map_or(stage, |(_, o)| *o);
        self.root.join(name)
    }

    /// Where a stage writes before it is done.
    pub fn partial(&self, stage: &str) -> PathBuf {
        let mut path = self.output(stage).into_os_string();
        path.push(".partial");
        PathBuf::from(path)
    }

    fn stamp(&self, stage: &str) -> PathBuf {
        self.root.join(".stamps").join(format!("{stage}.json"))
    }

    /// Whether a stage is done for these inputs.
    ///
    /// What was made before this machine last started counts as not made: a power cut may have kept the stamp and
    /// lost the output.
    pub fn state(&self, stage: &str, inputs: &Inputs) -> State {
        let old = fs::read(self.stamp(stage)).ok().and_then(|b| serde_json::from_slice::<Stamp>(&b).ok());
        let old = match old {
            Some(stamp) if stamp.boot != boot_id() => {
                return State::Rebuilt("made before this machine last started".into());
            }
            other => other.map(|stamp| stamp.inputs),
        };
        match old {
            None => State::Rebuilt("not made yet".into()),
            Some(_) if !self.output(stage).exists() => State::Rebuilt("its output is gone".into()),
            Some(old) if old.key() != inputs.key() => {
                State::Rebuilt(format!("changed: {}", inputs.changed_since(&old).join(", ")))
            }
            Some(_) => State::Cached,
        }
    }

    /// Removes what a stage made before, its stamp first; returns the path to write to.
    ///
    /// # Errors
    /// I/O.
    pub fn begin(&self, stage: &str) -> Result<PathBuf, Error> {
        remove(&self.stamp(stage))?;
        let partial = self.partial(stage);
        remove(&partial)?;
        Ok(partial)
    }

    /// Puts a finished output in its place and stamps it.
    ///
    /// # Errors
    /// I/O.
    pub fn finish(&self, stage: &str, inputs: &Inputs) -> Result<(), Error> {
        let (partial, output) = (self.partial(stage), self.output(stage));
        if output.symlink_metadata().is_ok() {
            // In one step: whoever looks finds the old output or the new one, never none.
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(rustix::fs::CWD, &partial, rustix::fs::CWD, &output, flags)
                .at("move", &partial)?;
        } else {
            fs::rename(&partial, &output).at("move", &partial)?;
        }
        let stamp = Stamp { boot: boot_id(), inputs: inputs.clone() };
        let text = serde_json::to_vec(&stamp).map_err(std::io::Error::from).at("write", self.stamp(stage))?;
        write_atomically(&self.stamp(stage), &text)?;
        remove(&partial)
    }
}

impl Drop for Workspace {
    /// A build that stops leaves no half: on a full disk, that is where the room went.
    fn drop(&mut self) {
        // Whatever cannot be removed now, the next build removes or names.
        let _ = self.clear();
    }
}

/// Removes a file or a folder with all it holds; absence is fine.
///
/// # Errors
/// I/O.
pub fn remove(path: &Path) -> Result<(), Error> {
    let result = match path.symlink_metadata() {
        Ok(m) if m.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match result {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", path),
    }
}

/// Writes a file so that it is there whole or not at all.
///
/// # Errors
/// I/O.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir).at("create", path)?;
    file.write_all(bytes).at("write", path)?;
    file.as_file().sync_all().at("write", path)?;
    let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
    file.as_file().set_permissions(mode).at("write", path)?;
    file.persist(path).map_err(|e| e.error).at("write", path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_names_and_values() {
        let a = Inputs::new().with("a", "bc");
        assert_ne!(a.key(), Inputs::new().with("ab", "c").key());
        assert_eq!(a.changed_since(&Inputs::new().with("b", "x")), ["a", "b"]);
    }

    #[test]
    fn only_a_finished_stage_with_the_same_key_is_cached() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = Inputs::new().with("x", 1);
        {
            let w = Workspace::open(dir.path(), "n").unwrap();
            assert!(matches!(w.state("commit", &inputs), State::Rebuilt(_)));
            let partial = w.begin("commit").unwrap();
            fs::write(&partial, "half").unwrap();
            assert!(Workspace::open(dir.path(), "n").is_err(), "the folder is held");
        }
        assert!(!dir.path().join("n/3-commit.json.partial").exists(), "a build that stops takes its half away");
        // Killed instead: the next run finds nothing and clears the half.
        fs::write(dir.path().join("n/3-commit.json.partial"), "half").unwrap();
        let w = Workspace::open(dir.path(), "n").unwrap();
        assert!(!w.partial("commit").exists());
        assert!(matches!(w.state("commit", &inputs), State::Rebuilt(_)));
        fs::write(w.begin("commit").unwrap(), "whole").unwrap();
        w.finish("commit", &inputs).unwrap();
        assert_eq!(w.state("commit", &inputs), State::Cached);
        assert_eq!(w.state("commit", &Inputs::new().with("x", 2)), State::Rebuilt("changed: x".into()));
        // A stage that began again and was killed is not done, though its old output is still there.
        w.begin("commit").unwrap();
        assert!(matches!(w.state("commit", &inputs), State::Rebuilt(_)));
    }
}

//! What can be made again: fetched packages, bases, initramfs, layers, by content; and scratch folders that do not
//! outlive the step that uses them.

use crate::error::{At, Error};
use crate::stage::{remove, write_atomically};
use crate::tree::each_piece;
use rustix::fs::FlockOperation;
use secai_verifier::digest::Digest;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where the machine keeps what can be made again.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `$XDG_CACHE_HOME/secai`, else `~/.cache/secai`.
    ///
    /// # Errors
    /// [`Error::Usage`] without a home; I/O.
    pub fn of_user() -> Result<Cache, Error> {
        Cache::at(crate::keys::xdg("XDG_CACHE_HOME", ".cache")?.join("secai"))
    }

    /// A cache in this folder.
    ///
    /// # Errors
    /// I/O.
    pub fn at(root: PathBuf) -> Result<Cache, Error> {
        fs::create_dir_all(&root).at("create", &root)?;
        let root = root.canonicalize().at("read", &root)?;
        Ok(Cache { root })
    }

    /// A folder of it, made when absent.
    ///
    /// # Errors
    /// I/O.
    pub fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let dir = self.root.join(name);
        fs::create_dir_all(&dir).at("create", &dir)?;
        Ok(dir)
    }

    /// Its own folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file kept under `key`, if it is there and its bytes are still those that were kept.
    ///
    /// # Errors
    /// I/O other than absence.
    pub fn kept(&self, kind: &str, key: Digest) -> Result<Option<PathBuf>, Error> {
        let folder = self.folder(kind)?;
        let (file, sum) = (folder.join(key.to_string()), folder.join(format!("{key}.sha256")));
        let Ok(expected) = fs::read_to_string(&sum) else { return Ok(None) };
        let whole = file.is_file() && sha256(&file)?.to_string() == expected.trim();
        Ok(whole.then_some(file))
    }

    /// Moves a finished file into the cache; its digest is written last, so that half a file is never taken for one.
    ///
    /// # Errors
    /// I/O.
    pub fn keep(&self, kind: &str, key: Digest, made: &Path) -> Result<PathBuf, Error> {
        let folder = self.folder(kind)?;
        let (file, sum) = (folder.join(key.to_string()), folder.join(format!("{key}.sha256")));
        remove(&sum)?;
        let digest = sha256(made)?;
        fs::rename(made, &file).at("move", made)?;
        write_atomically(&sum, digest.to_string().as_bytes())?;
        Ok(file)
    }

    /// An empty scratch folder for one step; what a killed step left is cleared.
    ///
    /// # Errors
    /// I/O.
    pub fn scratch(&self) -> Result<Scratch, Error> {
        let dir = self.folder("scratch")?;
        // Making and locking a folder must look like one act to others who clear.
        let turn = lock(&dir.join(".turn"), FlockOperation::LockExclusive)?;
        for entry in fs::read_dir(&dir).at("read", &dir)?.filter_map(Result::ok) {
            let path = entry.path();
            // A step that still runs holds the lock of its folder.
            if path.is_dir() && lock(&path.join(".lock"), FlockOperation::NonBlockingLockExclusive).is_ok() {
                // What a user's namespace left has owners that he cannot remove; it is in nobody's way.
                let _ = remove(&path);
            }
        }
        let made = tempfile::Builder::new().prefix("step-").tempdir_in(&dir).at("create", &dir)?;
        // What runs inside may have given up root's rights: it must be able to pass through.
        fs::set_permissions(made.path(), fs::Permissions::from_mode(0o755)).at("change", made.path())?;
        let held = lock(&made.path().join(".lock"), FlockOperation::NonBlockingLockExclusive)?;
        drop(turn);
        Ok(Scratch { dir: made, _held: held })
    }
}

/// A scratch folder, gone with its owner.
#[derive(Debug)]
pub struct Scratch {
    dir: tempfile::TempDir,
    _held: fs::File,
}

impl Scratch {
    /// Its folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Opens (makes) a lock file and locks it; the lock goes with the file.
pub(crate) fn lock(path: &Path, how: FlockOperation) -> Result<fs::File, Error> {
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path).at("create", path)?;
    rustix::fs::flock(&file, how).at("lock", path)?;
    Ok(file)
}

/// SHA-256 of a file.
///
/// # Errors
/// I/O.
pub fn sha256(path: &Path) -> Result<Digest, Error> {
    let mut hasher = Sha256::new();
    each_piece(path, |piece| hasher.update(piece))?;
    Ok(hasher.into())
}

//! What was begun, kept where it outlives the machine: a file in `/etc/secure-ai`, on the disk before anything is done.

use crate::config::read;
use crate::etc::{EtcError, put, sync_folder};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Its folder, below `/etc`.
pub const FOLDER: &str = "secure-ai";
/// Its name there.
pub const BEGUN: &str = "begun";
/// The name of the mark that the owner was asked for.
pub const OWNER: &str = "owner";
/// One word.
const BYTES_MAX: usize = 16;

/// What was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Making `/var`.
    Var,
    /// Erasing everything.
    Reset,
}

impl Begun {
    const fn word(self) -> &'static str {
        match self {
            Self::Var => "var\n",
            Self::Reset => "reset\n",
        }
    }

    /// What was begun and not finished.
    ///
    /// # Errors
    /// [`EtcError`]; what is no word of ours is an error: nobody knows what to go on with.
    pub fn of(etc: &Path) -> Result<Option<Self>, EtcError> {
        let path = place(etc, BEGUN);
        let bytes = match read(&path, BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|source| EtcError::Act("read", path.clone(), source))?,
        };
        match bytes.as_deref() {
            Some(it) if it == Self::Var.word().as_bytes() => Ok(Some(Self::Var)),
            Some(it) if it == Self::Reset.word().as_bytes() => Ok(Some(Self::Reset)),
            _ => Err(EtcError::Unknown(path)),
        }
    }

    /// Has it marked, on the disk.
    ///
    /// # Errors
    /// [`EtcError`].
    pub fn mark(self, etc: &Path) -> Result<(), EtcError> {
        lay(etc, BEGUN, self.word())
    }

    /// It is finished.
    ///
    /// # Errors
    /// [`EtcError`].
    pub fn finished(etc: &Path) -> Result<(), EtcError> {
        let path = place(etc, BEGUN);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(EtcError::Act("remove", path, error)),
            _ => sync_folder(&etc.join(FOLDER)),
        }
    }

    /// The same where perhaps nothing was begun.
    ///
    /// # Errors
    /// [`EtcError`].
    pub fn finished_if_any(etc: &Path) -> Result<(), EtcError> {
        match Self::of(etc)? {
            Some(_) => Self::finished(etc),
            None => Ok(()),
        }
    }
}

/// Was the owner asked for, and answered?
pub fn has_owner(etc: &Path) -> bool {
    place(etc, OWNER).symlink_metadata().is_ok()
}

/// It was: nobody is asked again.
///
/// # Errors
/// [`EtcError`].
pub fn owner(etc: &Path, name: &str) -> Result<(), EtcError> {
    lay(etc, OWNER, &format!("{name}\n"))
}

fn place(etc: &Path, name: &str) -> PathBuf {
    etc.join(FOLDER).join(name)
}

fn lay(etc: &Path, name: &str, text: &str) -> Result<(), EtcError> {
    let folder = etc.join(FOLDER);
    match fs::create_dir(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(EtcError::Act("create", folder, error));
        }
        Err(_) => {}
        Ok(()) => sync_folder(etc)?,
    }
    put(&folder.join(name), text.as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_one_of_two_words_or_nobody_goes_on() {
        let etc = tempfile::tempdir().unwrap();
        assert_eq!(Begun::of(etc.path()).unwrap(), None);
        Begun::finished(etc.path()).unwrap_err();
        for begun in [Begun::Var, Begun::Reset, Begun::Var] {
            begun.mark(etc.path()).unwrap();
            assert_eq!(Begun::of(etc.path()).unwrap(), Some(begun));
        }
        for text in ["", "var", "reset\nvar\n", "a long word that is none of ours"] {
            fs::write(etc.path().join("secure-ai/begun"), text).unwrap();
            assert!(matches!(Begun::of(etc.path()), Err(EtcError::Unknown(_))), "{text}");
        }
        Begun::finished(etc.path()).unwrap();
        Begun::finished(etc.path()).unwrap();
        assert_eq!(Begun::of(etc.path()).unwrap(), None);
        assert!(!has_owner(etc.path()));
        owner(etc.path(), "ada").unwrap();
        assert!(has_owner(etc.path()));
    }
}

//! The word of the owner that everything is to be erased. It is marked, and done at the next boot, before anything is open.

use crate::config::{ConfigError, partition};
use crate::etc::EtcError;
use crate::mark::Begun;
use crate::terminal::{Ask, Echo, TerminalError};
use secai_daemon::report::Hint;
use std::fs;
use std::path::Path;

/// So much of the machine's number is asked for: not what a person types by habit.
const WORD_CHARACTERS: usize = 6;

/// Why nothing will be erased.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// Not root.
    #[error("only root erases everything")]
    NotRoot,
    /// Not what he was asked for.
    #[error("that was not the word: nothing is erased")]
    NotTheWord,
    /// A guest that was given its kernel, or a disk without our `/var`.
    #[error("this system has no partition for /var that it made itself")]
    NoPartition,
    /// The table.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The mark.
    #[error(transparent)]
    Etc(#[from] EtcError),
    /// Nobody to ask.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
}

impl Hint for ResetError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotRoot => Some("sudo".to_owned()),
            Self::Terminal(_) => Some("sit at a terminal, or say --yes".to_owned()),
            Self::Config(error) => error.hint(),
            Self::Etc(error) => error.hint(),
            Self::NotTheWord | Self::NoPartition => None,
        }
    }
}

/// Has it marked. `person`: none where he said so before.
///
/// # Errors
/// [`ResetError`]; nothing is erased then.
pub fn run<A: Ask>(etc: &Path, is_root: bool, person: Option<Result<A, TerminalError>>) -> Result<(), ResetError> {
    if !is_root {
        return Err(ResetError::NotRoot);
    }
    if partition(&etc.join("fstab"))?.is_none() {
        return Err(ResetError::NoPartition);
    }
    if let Some(person) = person {
        let mut person = person?;
        let number = fs::read_to_string(etc.join("machine-id")).unwrap_or_default();
        let word: String = number.chars().filter(char::is_ascii_hexdigit).take(WORD_CHARACTERS).collect();
        let word = if word.is_empty() { "erase".to_owned() } else { word };
        person.tell(
            "At the next boot everything that was done on this device is erased: /var with all homes, the audit chain and its key, \
             every account and every setting of /etc. There is no way back.",
        );
        if *person.ask(&format!("To have it so, type {word}:"), Echo::Shown)? != word {
            return Err(ResetError::NotTheWord);
        }
    }
    Ok(Begun::Reset.mark(etc)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::tests::Scripted;

    #[test]
    fn everything_is_erased_by_roots_word_and_by_no_other() {
        let etc = tempfile::tempdir().unwrap();
        let path = |name: &str| etc.path().join(name);
        let erase = |answer: Option<&'static str>| run(etc.path(), true, answer.map(|it| Ok(Scripted::of(&[it]))));
        assert!(matches!(erase(None), Err(ResetError::NoPartition)));
        let uuid = "0f1e2d3c-0000-4000-8000-0123456789ab";
        fs::write(path("fstab"), format!("/dev/mapper/var /var ext4 x-secai.partition={uuid} 0 2\n")).unwrap();
        fs::write(path("machine-id"), "0123456789abcdef\n").unwrap();
        assert!(matches!(run::<Scripted>(etc.path(), false, None), Err(ResetError::NotRoot)));
        for other in ["", "yes", "012345 ", "0123456"] {
            assert!(matches!(erase(Some(other)), Err(ResetError::NotTheWord)), "{other}");
        }
        assert!(matches!(
            run::<Scripted>(etc.path(), true, Some(Err(TerminalError::None))),
            Err(ResetError::Terminal(_))
        ));
        assert_eq!(Begun::of(etc.path()).unwrap(), None);
        erase(Some("012345")).unwrap();
        assert_eq!(Begun::of(etc.path()).unwrap(), Some(Begun::Reset));
        erase(None).unwrap();
    }
}

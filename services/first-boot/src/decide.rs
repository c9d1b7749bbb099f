//! What becomes of the partition of `/var`: from what was begun, what lies on it, what was said and what the machine has, to one step.
//! Nothing is read and nothing is done here.

use crate::config::VarSaid;
use crate::mark::Begun;
use zeroize::Zeroizing;

/// Until all of it is made. Whoever sees it without a mark does not know what it is.
pub const UNFINISHED: &str = "secai-new";
/// The last thing that is written: from then on nothing formats it but its owner's word.
pub const FINISHED: &str = "secai-var";

/// Of a LUKS2 header: how it begins, its version, and where its label stands.
const LUKS_MAGIC: &[u8] = b"LUKS\xba\xbe\x00\x02";
const LUKS_LABEL: std::ops::Range<usize> = 24..72;
/// Of ext4: two bytes of its superblock, and its label.
const EXT4_MAGIC: (std::ops::Range<usize>, &[u8]) = (1080..1082, &[0x53, 0xef]);
const EXT4_LABEL: std::ops::Range<usize> = 1144..1160;

/// What lies on the partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing: no sign of anything, and zeros where it would begin.
    Nothing,
    /// Ours, encrypted.
    Encrypted {
        /// All of it?
        finished: bool,
    },
    /// Ours, as it is.
    Plain {
        /// All of it?
        finished: bool,
    },
    /// Somebody else's: of what kind.
    Foreign(String),
}

/// What lies there, by the bytes that it begins with, and the name that libblkid has for it, if it has one.
pub fn found(head: &[u8], known: Option<&str>) -> Found {
    let label = |at| head.get(at).map(|it: &[u8]| it.split(|byte| *byte == 0).next().unwrap_or_default());
    let is_finished = |at| match label(at) {
        Some(it) if it == FINISHED.as_bytes() => Some(true),
        Some(it) if it == UNFINISHED.as_bytes() => Some(false),
        _ => None,
    };
    if head.starts_with(LUKS_MAGIC) {
        return is_finished(LUKS_LABEL)
            .map_or(Found::Foreign("LUKS of somebody else".to_owned()), |finished| Found::Encrypted { finished });
    }
    if head.get(EXT4_MAGIC.0) == Some(EXT4_MAGIC.1) {
        return is_finished(EXT4_LABEL)
            .map_or(Found::Foreign("a file system of somebody else".to_owned()), |finished| Found::Plain { finished });
    }
    match known {
        Some(kind) => Found::Foreign(kind.to_owned()),
        None if head.iter().all(|byte| *byte == 0) => Found::Nothing,
        None => Found::Foreign("data of no known kind".to_owned()),
    }
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Erase it, lay `/etc` as it was, and start again: its owner said so.
    Erase,
    /// Make it.
    Make,
    /// Open what is encrypted.
    Open,
    /// Give what lies there as it is the name that `/etc/fstab` has for it.
    Map,
    /// Leave it as it is.
    Refuse(String),
}

/// The next step.
pub fn step(begun: Option<Begun>, found: &Found) -> Step {
    match (begun, found) {
        (Some(Begun::Reset), _) => Step::Erase,
        (_, Found::Encrypted { finished: true }) => Step::Open,
        (_, Found::Plain { finished: true }) => Step::Map,
        // Whatever lies there was written after the mark, which is laid on an empty partition only.
        (Some(Begun::Var), _) | (None, Found::Nothing) => Step::Make,
        (None, Found::Encrypted { .. } | Found::Plain { .. }) => {
            Step::Refuse("a /var that was begun and not finished, by another system than this one".to_owned())
        }
        (None, Found::Foreign(kind)) => Step::Refuse(kind.clone()),
    }
}

/// How `/var` is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Nobody said: ask.
    Ask {
        /// Shall the TPM open it?
        tpm: bool,
    },
    /// Encrypted.
    Encrypt {
        /// What opens it.
        passphrase: Zeroizing<Vec<u8>>,
        /// Shall the TPM open it?
        tpm: bool,
    },
    /// As it is.
    Plain,
}

/// How to make it.
///
/// # Errors
/// In words: the TPM was asked for, and there is none.
pub fn way(said: &VarSaid, has_tpm: bool) -> Result<Way, &'static str> {
    match said {
        VarSaid { tpm: true, .. } if !has_tpm => Err("secai.tpm asks for a TPM, and this machine has none"),
        VarSaid { unencrypted: true, .. } => Ok(Way::Plain),
        VarSaid { passphrase: Some(passphrase), tpm, .. } => {
            Ok(Way::Encrypt { passphrase: passphrase.clone(), tpm: *tpm })
        }
        VarSaid { tpm, .. } => Ok(Way::Ask { tpm: *tpm }),
    }
}

/// What opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The TPM, if it was told.
    Tpm,
    /// The credential.
    Credential,
    /// A person.
    Person,
}

/// What is tried, in this order.
pub fn keys(said: &VarSaid, has_tpm: bool) -> Vec<Key> {
    let tpm = has_tpm.then_some(Key::Tpm);
    let credential = said.passphrase.as_ref().map(|_| Key::Credential);
    tpm.into_iter().chain(credential).chain([Key::Person]).collect()
}

//! What a check of a chain found, beside refusals.

use std::collections::BTreeMap;
use std::fmt;

use super::checkpoint::{Checkpoint, Note, VerifierKey};
use super::cosignature::Cosignature;
use super::entry::Moment;

/// Something that a person should know, and that is no reason to refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// The clock was set back.
    TimeSteppedBack {
        /// How often.
        times: u64,
        /// The first entry whose time is before that of its predecessor.
        first: u64,
    },
    /// Bytes of a line that is not finished.
    TornTail {
        /// How many.
        bytes: u64,
    },
    /// Entries of a kind that this program does not know.
    UnknownKind {
        /// The kind.
        kind: String,
        /// How many.
        entries: u64,
    },
    /// Payloads are still there though an entry says that they were forgotten.
    ForgottenButThere {
        /// How many.
        payloads: u64,
        /// The first.
        first: u64,
    },
    /// Payloads are gone by an entry that is not signed yet.
    ForgottenUnsigned {
        /// How many.
        payloads: u64,
        /// The first.
        first: u64,
    },
    /// Segments were removed by order.
    Pruned {
        /// The first entry that is there.
        until: u64,
        /// Is the entry that says so signed?
        signed: bool,
    },
    /// The writer appended faster than this program read.
    NotReadFurther {
        /// The first entry that was not looked at.
        from: u64,
    },
    /// Everything was read although a kept checkpoint was given.
    ReadInFull {
        /// Why.
        because: &'static str,
    },
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimeSteppedBack { times, first } => {
                write!(f, "the clock stepped back {times} times, first at entry {first}")
            }
            Self::TornTail { bytes } => {
                write!(f, "{bytes} bytes after the last entry are none yet: being written, or torn by a crash")
            }
            Self::UnknownKind { kind, entries } => {
                write!(f, "{entries} entries of the kind `{kind}`, which is unknown")
            }
            Self::ForgottenButThere { payloads, first } => {
                write!(
                    f,
                    "{payloads} payloads are there although they were to be forgotten, first that of entry {first}"
                )
            }
            Self::ForgottenUnsigned { payloads, first } => write!(
                f,
                "{payloads} payloads were forgotten by an entry that is not signed yet, first that of entry {first}"
            ),
            Self::Pruned { until, signed } => {
                let how = if *signed { "by order" } else { "by an entry that is not signed yet" };
                write!(f, "the entries before {until} were removed {how}; their hashes are there")
            }
            Self::NotReadFurther { from } => {
                write!(f, "the writer is faster than this check: entry {from} and what follows it was not read")
            }
            Self::ReadInFull { because } => write!(f, "every entry was read: {because}"),
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The signed head.
    pub head: Checkpoint,
    /// It, with its signature: what somebody else may keep.
    pub note: Note,
    /// The key that signed it; none where it is not known.
    pub signer: Option<VerifierKey>,
    /// Epochs so far.
    pub epochs: u64,
    /// The first entry that was read.
    pub read_from: u64,
    /// Entries that are linked, the signed ones included.
    pub entries: u64,
    /// When the last of them was written.
    pub last: Option<Moment>,
    /// Entries that the kept checkpoint covers; none without one.
    pub witnessed: Option<u64>,
    /// Epochs that ended between that checkpoint and the head; 0 without one.
    pub ended_since: u64,
    /// What the witnesses that were asked for say of that checkpoint.
    pub cosigned: Vec<Cosignature>,
    /// Payloads that are what was written.
    pub payloads: u64,
    /// Payloads that were forgotten.
    pub forgotten: u64,
    /// What else a person should know.
    pub remarks: Vec<Remark>,
}

impl Report {
    /// Entries that were read and that a signature covers.
    pub fn verified(&self) -> u64 {
        self.head.size.saturating_sub(self.read_from)
    }

    /// Entries after the newest checkpoint.
    pub fn unsigned(&self) -> u64 {
        self.entries.saturating_sub(self.head.size)
    }

    /// The level in one word.
    pub fn level(&self) -> &'static str {
        match (self.witnessed, self.cosigned.as_slice()) {
            (None, _) => "L0",
            (Some(_), []) => "kept head",
            (Some(_), _) => "L3",
        }
    }

    /// What this answer vouches for, in words.
    pub fn vouches(&self) -> Vec<String> {
        let mut words = Vec::new();
        match self.witnessed {
            None => {
                words.push("L0: the head was read from the same disk as the entries".to_owned());
                words.push(
                    "edits, insertions, removals, reordering and re-sealing with a later key would have been found"
                        .to_owned(),
                );
                words.push(format!(
                    "an older whole copy of the chain would not: compare the head, or give a kept checkpoint with --from; entries after {} may have existed",
                    self.entries
                ));
            }
            Some(size) => {
                let after = self.entries.saturating_sub(size);
                let saw = |by: &Cosignature| {
                    let (witness, time) = (&by.witness, by.time());
                    format!("L3: {witness} saw {size} entries at {time} by its clock; {after} entries after that")
                };
                words.extend(self.cosigned.iter().map(saw));
                let mut who = "whoever gave the checkpoint";
                match self.cosigned.as_slice() {
                    [] => words.push(format!("kept head: somebody else remembered the first {size} entries")),
                    [by] => who = &by.witness,
                    _ => who = "these witnesses",
                }
                words.push(format!("none of the first {size} entries was replaced or cut since {who} saw them"));
                words.push(format!(
                    "L0 after that: an older copy that still has {size} entries would not have been found"
                ));
                if self.read_from > 0 {
                    words.push(format!(
                        "the files of the entries before {} were not read: only hashes stand for them; --full reads them",
                        self.read_from
                    ));
                }
            }
        }
        words
    }
}

pub(super) fn unknown_kinds(kinds: BTreeMap<String, u64>) -> impl Iterator<Item = Remark> {
    kinds.into_iter().map(|(kind, entries)| Remark::UnknownKind { kind, entries })
}

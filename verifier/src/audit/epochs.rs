//! Who may sign what: keys follow from the trusted one through the entries that end epochs, and each epoch's end is
//! signed by the key that ends with it (`spec/audit-chain.md` §7). Pure: everything it judges is handed in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::{Note, NoteError, VerifierKey, origin};
use super::refusal::ChainRefusal;
use super::{CHECKPOINT, CHECKPOINTS_LOG};
use crate::refusal::Findings;

/// `checkpoints.log`: eight years of an epoch each quarter of an hour, 230 bytes each.
pub(super) const LOG_BYTES_MAX: u64 = 64 << 20;

/// An entry `audit.epoch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub seq: u64,
    /// Number of the next epoch.
    pub number: u64,
    /// Base64 of its key.
    pub key: String,
}

/// The epochs of a chain and their keys.
#[derive(Debug, Clone)]
pub(super) struct Epochs {
    origin: String,
    /// Ends with the tree of so many entries; ascending.
    ends: Vec<u64>,
    /// One more than ends; none where it is not known.
    keys: Vec<Option<VerifierKey>>,
}

impl Epochs {
    /// Epoch 0 alone.
    pub fn new(origin: &str, first: Option<&VerifierKey>) -> Self {
        Self { origin: origin.to_owned(), ends: Vec::new(), keys: vec![first.cloned()] }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.keys.len() as u64
    }

    /// The epoch that the last entry of a tree of this size lies in; an entry that ends an epoch lies in that one.
    pub fn of(&self, size: u64) -> usize {
        self.ends.partition_point(|end| *end < size)
    }

    /// The key of that epoch.
    pub fn key(&self, size: u64) -> Option<&VerifierKey> {
        self.keys.get(self.of(size)).and_then(Option::as_ref)
    }

    /// The next epoch begins.
    pub fn push(&mut self, ending: &Ending, findings: &mut Findings<ChainRefusal>) {
        let expected = self.count();
        if ending.number != expected {
            let (seq, number) = (ending.seq, ending.number);
            findings.add(ChainRefusal::EpochOutOfOrder { seq, number, expected });
        }
        let bytes = STANDARD.decode(&ending.key).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let key = bytes.and_then(|public| VerifierKey::new(&self.origin, &public).ok());
        if key.is_none() || self.keys.contains(&key) {
            findings.add(ChainRefusal::EpochKeyUnusable { seq: ending.seq });
        }
        self.ends.push(ending.seq + 1);
        self.keys.push(key);
    }

    /// Is this checkpoint signed by the key of its epoch? An unknown key of epoch 0 is passed over: without trust
    /// nobody can say.
    pub fn judge(&self, note: &Note, findings: &mut Findings<ChainRefusal>) {
        let size = note.checkpoint.size;
        let epoch = self.of(size) as u64;
        if let Some(key) = self.key(size) {
            match note.verify(key) {
                Ok(()) => {}
                Err(NoteError::BadSignature(_)) => {
                    findings.add(ChainRefusal::CheckpointSignatureInvalid { size, epoch });
                }
                Err(_) => findings.add(ChainRefusal::CheckpointSignedByAnotherKey { size, epoch }),
            }
        }
    }

    /// Are the closing checkpoints those of the epochs, in order, and is each signed by the key that it ends?
    /// Of `entries` entries epochs are known; more may be there when `cut_short`.
    pub fn judge_closings(
        &self,
        closings: &[Note],
        head: u64,
        entries: u64,
        cut_short: bool,
        findings: &mut Findings<ChainRefusal>,
    ) {
        let mut notes = closings.iter().peekable();
        for (epoch, end) in self.ends.iter().enumerate() {
            while let Some(early) = notes.next_if(|note| note.checkpoint.size < *end) {
                findings.add(ChainRefusal::CheckpointOfNoEpoch { size: early.checkpoint.size });
            }
            match notes.next_if(|note| note.checkpoint.size == *end) {
                Some(note) => self.judge(note, findings),
                // The newest checkpoint may be the closing one, on its way into the log.
                None if *end >= head => {}
                None => findings.add(ChainRefusal::EpochNotClosed { epoch: epoch as u64, size: *end }),
            }
        }
        for note in notes {
            let size = note.checkpoint.size;
            if size <= entries {
                findings.add(ChainRefusal::CheckpointOfNoEpoch { size });
            } else if !cut_short {
                findings.add(ChainRefusal::ChainShorterThanCheckpoint { entries, size });
            }
        }
    }
}

/// The key of epoch 0 among the trusted ones.
pub(super) enum First<'a> {
    Trusted(&'a VerifierKey),
    /// No key of epoch 0 of any chain is trusted.
    Unknown,
    /// Those of other chains are.
    Another,
}

/// The trusted key whose chain this is: names of chains are made of their first keys.
pub(super) fn first<'a>(trusted: &'a [VerifierKey], name: &str) -> First<'a> {
    let mut firsts = trusted.iter().filter(|key| key.name() == origin(key.public()));
    match firsts.clone().find(|key| key.name() == name) {
        Some(key) => First::Trusted(key),
        None if firsts.next().is_none() => First::Unknown,
        None => First::Another,
    }
}

/// Reads the newest checkpoint.
pub(super) fn read_head(bytes: &[u8]) -> Result<Note, ChainRefusal> {
    let malformed = |reason: String| ChainRefusal::CheckpointMalformed { path: CHECKPOINT.to_owned(), reason };
    let note = Note::parse(bytes).map_err(|error| malformed(error.to_string()))?;
    match note.signatures() {
        1 => Ok(note),
        count => Err(malformed(format!("it has {count} signatures"))),
    }
}

/// Reads `checkpoints.log`: five lines each, one after the other. What follows the last newline is still being written.
pub(super) fn read_log(bytes: &[u8], chain: &str, findings: &mut Findings<ChainRefusal>) -> Vec<Note> {
    const LINES: usize = 5;
    let mut notes: Vec<Note> = Vec::new();
    let malformed = |reason: String| ChainRefusal::CheckpointMalformed { path: CHECKPOINTS_LOG.to_owned(), reason };
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some(end) = memchr::memchr_iter(b'\n', rest).nth(LINES - 1) else { break };
        let (record, after) = rest.split_at(end + 1);
        rest = after;
        match Note::parse(record) {
            Ok(note) if note.signatures() != 1 => findings.add(malformed("it has several signatures".to_owned())),
            Ok(note) if note.checkpoint.origin != chain => findings.add(ChainRefusal::CheckpointOfAnotherChain {
                path: CHECKPOINTS_LOG.to_owned(),
                origin: note.checkpoint.origin,
            }),
            Ok(note) if notes.last().is_some_and(|last| last.checkpoint.size >= note.checkpoint.size) => {
                findings.add(ChainRefusal::CheckpointOfNoEpoch { size: note.checkpoint.size });
            }
            Ok(note) => notes.push(note),
            Err(error) => {
                // The records after it cannot be told apart any more.
                findings.add(malformed(error.to_string()));
                break;
            }
        }
    }
    notes
}

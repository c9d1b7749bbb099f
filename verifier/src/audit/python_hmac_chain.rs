//! Logs of another program that call their format `python-hmac-chain`, for a device that moves over: are they what was
//! written?
//!
//! ```text
//! {"timestamp":"2026-11-22T19:20:01+00:00","event":"start","data":{},"prev_hash":"","entry_hash":"<64 hex>","algorithm":"hmac-sha256"}
//! ```
//!
//! `entry_hash` is the HMAC-SHA256 (or, without a key, the SHA-256) of what Python's
//! `json.dumps({"data", "event", "prev_hash", "timestamp"}, sort_keys=True, separators=(",", ":"))` gives; the first
//! `prev_hash` is empty. Archives `STEM.YYYYmmdd-HHMMSS-ffffff.jsonl` come before the log, ascending by name.
//! `LOG.checkpoint` is `{"entries":N,"last_hash":HEX,"hmac":HEX}`.

mod json;

use std::fs::File;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use json::{Text, Value};
use sha2::Sha256;

use super::lines::{Lines, Piece};
use super::refusal::ChainRefusal;
use crate::digest::Digest;
use crate::files::Fault;
use crate::refusal::Findings;

/// A line: what the other program wrote for one event; its own logs begin anew at 50 MB.
const LINE_BYTES_MAX: usize = 4 << 20;
/// A checkpoint: three members.
const CHECKPOINT_BYTES_MAX: u64 = 4096;
/// A key file.
pub const KEY_BYTES: std::ops::RangeInclusive<usize> = 32..=4096;
/// `YYYYmmdd-HHMMSS-ffffff` of an archive.
const ARCHIVE_TIME: &[u8] = b"00000000-000000-000000";

/// The key, as the other program reads it from its file: printable ones without the space around them.
#[derive(Clone)]
pub struct Key(Vec<u8>);

impl Key {
    /// From the bytes of a key file; none when there are too few or too many.
    pub fn of_file(bytes: &[u8]) -> Option<Self> {
        if !KEY_BYTES.contains(&bytes.len()) {
            return None;
        }
        let printable = bytes.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
        Some(Self(if printable { bytes.trim_ascii() } else { bytes }.to_vec()))
    }

    fn hmac(&self, message: &[u8]) -> Option<Digest> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(message);
        Digest::from_slice(&mac.finalize().into_bytes())
    }
}

/// What such a log shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Entries in all files.
    pub entries: u64,
    /// Files, archives among them.
    pub files: usize,
    /// Was every hash made with the key that was given?
    pub keyed: bool,
    /// Entries whose hash could not be computed, for lack of the key.
    pub not_computed: u64,
    /// Entries that the checkpoint covers; none without one.
    pub checkpointed: Option<u64>,
    /// Bytes of a line that is not finished.
    pub torn: u64,
}

impl Found {
    /// What this answer vouches for, in words.
    pub fn vouches(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.keyed {
            words.push("nobody without the key changed, added, removed or moved an entry between others".to_owned());
            words.push(
                "whoever has the key (the writer has it on the same disk) could have written all of it anew".to_owned(),
            );
        } else if self.not_computed > 0 {
            words.push(
                "each entry names the hash of the one before it; without the key no hash was computed".to_owned(),
            );
        } else {
            words.push(
                "the hashes have no key: whoever could write the log could have computed all of them anew".to_owned(),
            );
        }
        words.push(match self.checkpointed {
            Some(entries) => format!("the checkpoint beside it covers {entries} entries; cut off together with it, or deleted as a whole, the log looks as good"),
            None => "there is no checkpoint: entries cut off at the end would not be found".to_owned(),
        });
        words.push("entries have no numbers and nobody outside the device signed them".to_owned());
        words
    }
}

/// The answer.
pub type Verdict = Result<Found, Vec<ChainRefusal>>;

/// Checks a log, the archives before it and its checkpoint.
///
/// # Errors
/// [`Fault`] where a file cannot be read.
pub fn check(log: &Path, key: Option<&Key>) -> Result<Verdict, Fault> {
    let mut chain = Chain {
        key,
        previous: String::new(),
        findings: Findings::default(),
        found: Found { entries: 0, files: 0, keyed: key.is_some(), not_computed: 0, checkpointed: None, torn: 0 },
        hash_at: None,
    };
    let checkpoint = read_checkpoint(log, key, &mut chain.findings)?;
    chain.hash_at = checkpoint.as_ref().map(|(entries, _)| (*entries, String::new()));
    let mut files = archives(log)?;
    files.push(log.to_owned());
    for (at, path) in files.iter().enumerate() {
        let file = File::open(path).map_err(Fault::unreadable(path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut lines = Lines::new(&file, 0, LINE_BYTES_MAX);
        let mut number = 0;
        loop {
            number += 1;
            let malformed = |reason: &str| ChainRefusal::HmacLogLineMalformed {
                file: name.clone(),
                line: number,
                reason: reason.to_owned(),
            };
            match lines.next().map_err(Fault::unreadable(path))? {
                Piece::Line(line) => chain.line(&name, number, line),
                Piece::TooLong => {
                    chain.findings.add(malformed("it is too long"));
                    break;
                }
                Piece::End(tail) => {
                    if tail.room || (tail.torn > 0 && at + 1 < files.len()) {
                        chain.findings.add(malformed("the file does not end with a line"));
                    }
                    chain.found.torn = tail.torn;
                    break;
                }
            }
        }
        chain.found.files += 1;
    }
    if let Some((entries, last_hash)) = checkpoint {
        let found = chain.found.entries;
        if found < entries {
            chain.findings.add(ChainRefusal::HmacLogShorterThanCheckpoint { entries: found, covered: entries });
        } else if chain.hash_at.is_some_and(|(_, hash)| hash != last_hash) {
            chain.findings.add(ChainRefusal::HmacLogCheckpointDiffers { entries });
        }
        chain.found.checkpointed = Some(entries);
    }
    let refusals = chain.findings.into_vec();
    Ok(if refusals.is_empty() { Ok(chain.found) } else { Err(refusals) })
}

struct Chain<'a> {
    key: Option<&'a Key>,
    previous: String,
    findings: Findings<ChainRefusal>,
    found: Found,
    /// The number of entries that the checkpoint covers, and the hash of the last of them.
    hash_at: Option<(u64, String)>,
}

impl Chain<'_> {
    fn line(&mut self, file: &str, line: u64, bytes: &[u8]) {
        let file = file.to_owned();
        let entry = match Line::parse(bytes) {
            Ok(entry) => entry,
            Err(reason) => {
                let reason = reason.to_owned();
                self.findings.add(ChainRefusal::HmacLogLineMalformed { file, line, reason });
                return;
            }
        };
        self.found.entries += 1;
        if entry.prev_hash != self.previous {
            self.findings.add(ChainRefusal::HmacLogLinkBroken { file: file.clone(), line });
        }
        let computed = match (entry.keyed, self.key) {
            (true, Some(key)) => key.hmac(entry.hashed.as_bytes()),
            (false, None) => Some(Digest::of(entry.hashed.as_bytes())),
            (true, None) => {
                self.found.not_computed += 1;
                None
            }
            (false, Some(_)) => {
                self.findings.add(ChainRefusal::HmacLogUnkeyedEntry { file: file.clone(), line });
                None
            }
        };
        if computed.is_some_and(|computed| computed.to_string() != entry.entry_hash) {
            self.findings.add(ChainRefusal::HmacLogHashDiffers { file, line });
        }
        self.previous = entry.entry_hash;
        if let Some((at, hash)) = &mut self.hash_at
            && *at == self.found.entries
        {
            hash.clone_from(&self.previous);
        }
    }
}

struct Line {
    prev_hash: String,
    entry_hash: String,
    keyed: bool,
    /// What the hash is computed over.
    hashed: String,
}

impl Line {
    fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        const KEYS: [&str; 6] = ["timestamp", "event", "data", "prev_hash", "entry_hash", "algorithm"];
        let Value::Map(members) = Value::parse(bytes)? else { return Err("it is no object") };
        if members.len() != KEYS.len() || !members.iter().zip(KEYS).all(|((key, _), name)| key.is(name)) {
            return Err("it does not have the six keys in their order");
        }
        let text = |at: usize| match members.get(at) {
            Some((_, Value::Text(text))) => text.string().ok_or("a hash is none"),
            _ => Err("a member that must be a text is none"),
        };
        let algorithm = text(5)?;
        let keyed = match algorithm.as_str() {
            "hmac-sha256" => true,
            "sha256" => false,
            _ => return Err("its algorithm is none of this format"),
        };
        let (prev_hash, entry_hash) = (text(3)?, text(4)?);
        if entry_hash.parse::<Digest>().is_err() {
            return Err("its hash is none");
        }
        let mut hashed = String::new();
        Value::Map(members.into_iter().take(4).collect()).render(&mut hashed);
        Ok(Self { prev_hash, entry_hash, keyed, hashed })
    }
}

/// Entries and hash that the checkpoint names.
fn read_checkpoint(
    log: &Path,
    key: Option<&Key>,
    findings: &mut Findings<ChainRefusal>,
) -> Result<Option<(u64, String)>, Fault> {
    let mut path = log.as_os_str().to_owned();
    path.push(".checkpoint");
    let path = PathBuf::from(path);
    let bytes = match crate::files::load(&path, CHECKPOINT_BYTES_MAX) {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(Fault::Unreadable { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(fault) => return Err(fault),
    };
    match parse_checkpoint(&bytes, key) {
        Ok(found) => Ok(Some(found)),
        Err(reason) => {
            findings.add(ChainRefusal::HmacLogCheckpointMalformed { reason: reason.to_owned() });
            Ok(None)
        }
    }
}

fn parse_checkpoint(bytes: &[u8], key: Option<&Key>) -> Result<(u64, String), &'static str> {
    let read: serde_json::Value = serde_json::from_slice(bytes).map_err(|_| "it is no JSON")?;
    let entries = read.get("entries").and_then(serde_json::Value::as_u64).ok_or("it does not count entries")?;
    let last = read.get("last_hash").and_then(serde_json::Value::as_str).ok_or("it names no hash")?;
    if let Some(key) = key {
        let mut hashed = format!(r#"{{"entries":{entries},"last_hash":"#);
        Value::Text(Text::of(last)).render(&mut hashed);
        hashed.push('}');
        let hmac = key.hmac(hashed.as_bytes()).map(|digest| digest.to_string());
        if hmac.as_deref() != read.get("hmac").and_then(serde_json::Value::as_str) {
            return Err("it was not made with the key");
        }
    }
    Ok((entries, last.to_owned()))
}

/// The archives of a log, oldest first.
fn archives(log: &Path) -> Result<Vec<PathBuf>, Fault> {
    let parent = log.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = name.strip_suffix(".jsonl").unwrap_or(&name).to_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(parent).map_err(Fault::unreadable(parent))? {
        let entry = entry.map_err(Fault::unreadable(parent))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let time = name.strip_prefix(&stem).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".jsonl"));
        let fits = time.is_some_and(|time| {
            time.len() == ARCHIVE_TIME.len()
                && time
                    .bytes()
                    .zip(ARCHIVE_TIME)
                    .all(|(byte, like)| if *like == b'0' { byte.is_ascii_digit() } else { byte == *like })
        });
        if fits {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Bytes that might be a line; for tests that throw anything at parsers.
#[doc(hidden)]
pub fn line_is_read(bytes: &[u8]) -> bool {
    Line::parse(bytes).is_ok()
}

//! Appending: a batch of requests becomes lines, links and leaves, goes to the disk with one sync, and is signed in time.

use crate::disk::{self, Keep, LineReader, Lines, replace};
use crate::keys::{EpochKey, Floor, KeyStore};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secai_daemon::report::Hint;
use secai_verifier::audit::checkpoint::{Checkpoint, Note};
use secai_verifier::audit::entry::{ENTRY_BYTES_MAX, Entry, Moment, WORD_BYTES_MAX};
use secai_verifier::audit::kind::{self, Data};
use secai_verifier::audit::payload::{PAYLOAD_LINE_BYTES_MAX, Payload, SALT_BYTES};
use secai_verifier::audit::tree::{Frontier, TILE_HEIGHT, TILE_WIDTH};
use secai_verifier::audit::{
    CHECKPOINT, CHECKPOINTS_LOG, SEGMENT_ENTRIES, SEGMENTS_DIR, TILES_DIR, payload_path, segment_path, tile_path,
};
use secai_verifier::canonical::to_canonical;
use secai_verifier::digest::Digest;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Entries that may be on the disk unsigned before a checkpoint is due (`spec/audit-chain.md` §6).
pub const UNSIGNED_ENTRIES_MAX: u64 = 256;
/// An epoch ends after so many entries.
pub const EPOCH_ENTRIES_MAX: u64 = 65_536;
/// An epoch ends with the first entry after so long.
pub const EPOCH_MICROS_MAX: u64 = 15 * 60 * 1_000_000;

/// One call writes no more entries than fit in here: what a crash can tear is bounded.
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// An entry without its data: digests, numbers of 20 digits, names of [`WORD_BYTES_MAX`], and what is between.
const HEAD_BYTES_MAX: usize = 350 + 2 * WORD_BYTES_MAX;
/// What the end of an epoch needs at most: an entry's room, three small files.
const EPOCH_ROOM_BYTES: u64 = 4 << 20;

/// Why nothing more can be written. Each ends the service but [`WriteError::Full`].
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A call failed.
    #[error("cannot {doing} {}", path.display())]
    Disk {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// No room; nothing was written.
    #[error("the disk is full")]
    Full,
    /// A file that should be small.
    #[error("{} has more than {limit} bytes", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The bound.
        limit: u64,
    },
    /// A key file that is none.
    #[error("{} does not hold a key of the chain", path.display())]
    KeyUnusable {
        /// Which.
        path: PathBuf,
    },
    /// The kernel gave no random bytes.
    #[error("there are no random bytes for a key or a salt")]
    NoRandomness,
    /// Another process writes here.
    #[error("another secai-audit writes to {}", path.display())]
    Locked {
        /// Where.
        path: PathBuf,
    },
    /// A value of our own that cannot be written: a defect.
    #[error("an entry of kind {0} cannot be written")]
    OwnEntry(&'static str),
}

impl Hint for WriteError {
    fn hint(&self) -> Option<String> {
        let words = match self {
            Self::Disk { .. } => {
                "nothing unacknowledged counts; look at the disk (dmesg), then start the service again"
            }
            Self::Full => "free some space on the disk of the chain",
            Self::KeyUnusable { .. } => "put it back from a copy; without it a new chain begins, and says so",
            Self::Locked { .. } => "one is enough: systemctl status secure-ai-audit",
            _ => return None,
        };
        Some(words.to_owned())
    }
}

/// What the clocks say: taken once per batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Microseconds since 1970.
    pub wall: u64,
    /// Microseconds of `CLOCK_BOOTTIME`.
    pub mono: u64,
    /// First 32 bits of the boot id.
    pub boot: u32,
}

impl Now {
    /// This machine's.
    pub fn read(boot: u32) -> Self {
        let micros = |clock| {
            let time = rustix::time::clock_gettime(clock);
            let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
            seconds * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1000
        };
        Self { wall: micros(rustix::time::ClockId::Realtime), mono: micros(rustix::time::ClockId::Boottime), boot }
    }
}

/// The first 32 bits of the kernel's boot id.
///
/// # Errors
/// [`WriteError::Disk`] where there is none.
pub fn boot_id() -> Result<u32, WriteError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = disk::at("read", path, std::fs::read_to_string(path))?;
    let id = text.get(..8).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    disk::at("read", path, id.ok_or_else(|| std::io::ErrorKind::InvalidData.into()))
}

/// An entry to be: who asked for it and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The service or person that asked.
    pub writer: String,
    /// The user that asked.
    pub uid: u32,
    /// The kind.
    pub kind: &'static str,
    /// Canonical data of the kind.
    pub data: String,
    /// The payload.
    pub payload: Option<Vec<u8>>,
}

/// The writer and its own name in `w`.
pub const OWN_NAME: &str = "audit";

impl Pending {
    /// An entry of the writer's own.
    ///
    /// # Errors
    /// [`WriteError::OwnEntry`].
    pub fn own<T: Data>(data: &T) -> Result<Self, WriteError> {
        let fault = WriteError::OwnEntry(T::KIND);
        let Ok(Ok(data)) = to_canonical(data).map(String::from_utf8) else { return Err(fault) };
        let uid = rustix::process::geteuid().as_raw();
        Ok(Self { writer: OWN_NAME.to_owned(), uid, kind: T::KIND, data, payload: None })
    }

    /// Could the entry be too long for a line?
    pub fn is_too_long(&self) -> bool {
        self.data.len() + HEAD_BYTES_MAX > ENTRY_BYTES_MAX
    }
}

/// The chain, as far as appending needs to know it.
#[derive(Debug)]
pub struct Writer {
    pub(crate) folder: PathBuf,
    pub(crate) keys: KeyStore,
    pub(crate) key: EpochKey,
    pub(crate) frontier: Frontier,
    /// Hashes of tiles that are not full yet: level of the tile → nodes.
    pub(crate) tiles: BTreeMap<u32, Vec<Digest>>,
    /// SHA-256 of the last line, or the genesis.
    pub(crate) last: Digest,
    pub(crate) last_time: Option<Now>,
    /// First entry of the segment whose files are open.
    pub(crate) segment: u64,
    pub(crate) entries: Lines,
    pub(crate) payloads: Lines,
    /// Size of the newest checkpoint.
    pub(crate) signed: u64,
    /// Size and time at which the epoch began.
    pub(crate) epoch_from: u64,
    pub(crate) epoch_since: u64,
    pub(crate) boot: u32,
    /// A second instance finds it locked.
    pub(crate) _lock: std::fs::File,
    /// Root of the chain before, when this one begins with a gap that nobody acknowledged.
    pub(crate) gap: Option<Digest>,
}

impl Writer {
    /// Entries on the disk.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Entries that the newest checkpoint covers.
    pub fn signed(&self) -> u64 {
        self.signed
    }

    /// The key of the current epoch.
    pub fn key(&self) -> &EpochKey {
        &self.key
    }

    /// Where the chain lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Does the chain begin with a gap that nobody acknowledged?
    pub fn gap(&self) -> Option<Digest> {
        self.gap
    }

    /// Appends a batch; the place of its first entry. When this returns, all of it is on the disk. Before its first
    /// entry others may have been written: a step of the clock, the end of an epoch.
    ///
    /// # Errors
    /// [`WriteError::Full`]: nothing was written. Anything else: nobody knows, the service must end.
    pub fn append(&mut self, batch: &[Pending]) -> Result<u64, WriteError> {
        let now = self.now();
        if let Some(back) = self.last_time.filter(|last| last.boot == now.boot && last.wall > now.wall) {
            self.write(&[Pending::own(&kind::ClockStepped { back_us: back.wall - now.wall })?], now)?;
        }
        // On a full disk it lasts longer.
        if self.is_epoch_over(now) && self.free_bytes()? >= EPOCH_ROOM_BYTES {
            self.end_epoch()?;
        }
        let mut first = None;
        let mut rest = batch;
        while !rest.is_empty() {
            let room = SEGMENT_ENTRIES - self.size() % SEGMENT_ENTRIES;
            let count = within(rest, BATCH_BYTES_MAX).min(usize::try_from(room).unwrap_or(usize::MAX));
            let (part, after) = rest.split_at(count);
            // Full after a part of it was written is no refusal any more.
            let written = self.write(part, self.now());
            let at = if first.is_some() { self.midway("append to", written) } else { written }?;
            first.get_or_insert(at);
            rest = after;
        }
        if self.size() - self.signed >= UNSIGNED_ENTRIES_MAX {
            self.sign_if_there_is_room()?;
        }
        Ok(first.unwrap_or(self.size()))
    }

    fn is_epoch_over(&self, now: Now) -> bool {
        let entries = self.size() - self.epoch_from;
        entries >= EPOCH_ENTRIES_MAX || entries > 0 && now.mono.saturating_sub(self.epoch_since) >= EPOCH_MICROS_MAX
    }

    /// Room on the disk of the chain, for users without privilege.
    ///
    /// # Errors
    /// [`WriteError::Disk`].
    pub fn free_bytes(&self) -> Result<u64, WriteError> {
        let stat = rustix::fs::statvfs(&self.folder).map_err(std::io::Error::from);
        disk::at("look at", &self.folder, stat).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Signs what is on the disk, unless the disk is too full for that: then later.
    ///
    /// # Errors
    /// [`WriteError::Disk`].
    pub fn sign_if_there_is_room(&mut self) -> Result<(), WriteError> {
        match self.checkpoint(Keep::Whole) {
            Ok(_) | Err(WriteError::Full) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// The clocks; `mono` rises from batch to batch, whatever the resolution of the clock.
    fn now(&self) -> Now {
        let mut now = Now::read(self.boot);
        if let Some(last) = self.last_time.filter(|last| last.boot == now.boot) {
            now.mono = now.mono.max(last.mono + 1);
        }
        now
    }

    /// Writes entries that fit into the segment, with one sync, or two where there are payloads.
    fn write(&mut self, batch: &[Pending], now: Now) -> Result<u64, WriteError> {
        let first = self.size();
        if first.is_multiple_of(SEGMENT_ENTRIES) && first != self.segment {
            self.begin_segment()?;
        }
        let (mut lines, mut payload_lines) = (Vec::with_capacity(batch.len() * 400), Vec::new());
        let mut links = Vec::with_capacity(batch.len());
        let (mut prev, time) = (self.last, Moment::from_micros(now.wall));
        let mut salts = salts(batch)?.into_iter();
        for (seq, pending) in (first..).zip(batch) {
            let payload = pending.payload.clone().zip(salts.next()).map(|(bytes, salt)| {
                let payload = Payload { seq, salt, bytes };
                payload.render(&mut payload_lines);
                payload_lines.push(b'\n');
                payload.digest()
            });
            let begin = lines.len();
            let entry = Entry {
                seq,
                prev,
                time,
                boot: now.boot,
                mono: now.mono,
                writer: &pending.writer,
                uid: pending.uid,
                kind: pending.kind,
                data: &pending.data,
                payload,
            };
            entry.render(&mut lines);
            let line = lines.get(begin..).unwrap_or_default();
            prev = Digest::of(line);
            links.push(secai_verifier::audit::tree::leaf(line));
            lines.push(b'\n');
        }
        self.entries.reserve(lines.len() as u64)?;
        if !payload_lines.is_empty() {
            self.payloads.reserve(payload_lines.len() as u64)?;
            self.payloads.append(&payload_lines)?;
        }
        self.entries.append(&lines)?;
        self.last = prev;
        self.last_time = Some(now);
        for leaf in links {
            self.take_leaf(leaf);
        }
        self.write_tiles()?;
        Ok(first)
    }

    /// Adds a leaf to the tree, and to the tiles what it completes.
    pub(crate) fn take_leaf(&mut self, leaf: Digest) {
        let tiles = &mut self.tiles;
        tiles.entry(0).or_default().push(leaf);
        self.frontier.push_with(leaf, |level, _, hash| {
            if level % TILE_HEIGHT == 0 {
                tiles.entry(level / TILE_HEIGHT).or_default().push(hash);
            }
        });
    }

    /// Writes the tiles that are full. They can be made again: no sync, and on a full disk later.
    pub(crate) fn write_tiles(&mut self) -> Result<(), WriteError> {
        for (level, nodes) in &mut self.tiles {
            // Nodes of this level so far, less those that wait.
            let made = (self.frontier.size() >> (level * TILE_HEIGHT)) - nodes.len() as u64;
            let mut number = made / TILE_WIDTH;
            while let Some(full) = nodes.get(..TILE_WIDTH as usize) {
                let bytes: Vec<u8> = full.iter().flat_map(|hash| *hash.as_bytes()).collect();
                match write_tile(&self.folder, &tile_path(*level, number), &bytes) {
                    Err(WriteError::Full) => return Ok(()),
                    other => other?,
                }
                nodes.drain(..TILE_WIDTH as usize);
                number += 1;
            }
        }
        Ok(())
    }

    /// Keeps the newest head apart from the chain: from now on a chain without it is another one.
    pub(crate) fn remember(&self) -> Result<(), WriteError> {
        self.keys.keep_floor(&Floor { gap: self.gap, root: self.frontier.root(), size: self.size() })
    }

    /// The owner knows of the gap; the place of the entry that says so. None when there is no gap.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn acknowledge(&mut self, asker: (String, u32)) -> Result<Option<u64>, WriteError> {
        let Some(root) = self.gap else { return Ok(None) };
        let mut entry = Pending::own(&kind::Acknowledged { root })?;
        (entry.writer, entry.uid) = asker;
        let seq = self.append(&[entry])?;
        self.gap = None;
        let kept = self.remember();
        self.midway("keep the head of", kept)?;
        Ok(Some(seq))
    }

    /// Ends a full segment and begins the next: in this order, for a reader takes zeros in the last segment only.
    fn begin_segment(&mut self) -> Result<(), WriteError> {
        self.entries.cut()?;
        self.payloads.cut()?;
        (self.entries, self.payloads) = open_segment(&self.folder, self.size(), 0, 0)?;
        self.segment = self.size();
        Ok(())
    }

    /// Signs what is on the disk.
    ///
    /// # Errors
    /// [`WriteError::Disk`].
    pub fn checkpoint(&mut self, keep: Keep) -> Result<Note, WriteError> {
        let note = self.sign()?;
        self.replace(CHECKPOINT, note.render().as_bytes(), keep)?;
        self.signed = self.size();
        Ok(note)
    }

    fn replace(&self, name: &str, bytes: &[u8], keep: Keep) -> Result<(), WriteError> {
        replace(&self.folder.join(name), &unfinished(&self.folder), bytes, 0o644, keep)
    }

    fn sign(&self) -> Result<Note, WriteError> {
        let origin = self.key.device().name().to_owned();
        self.key.sign(Checkpoint { origin, size: self.size(), root: self.frontier.root() })
    }

    /// Ends the epoch: its last entry names the next key, its closing checkpoint is the last that its key signs.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn end_epoch(&mut self) -> Result<(), WriteError> {
        let next = self.key.successor()?;
        let entry = Pending::own(&kind::Epoch { key: STANDARD.encode(next.public()), number: next.epoch() })?;
        self.keys.prepare(&next)?;
        self.write(&[entry], self.now())?;
        // From here on there is no way back: nothing may follow that entry under the old key.
        let closed = self.close_epoch(next);
        self.midway("end the epoch in", closed)
    }

    /// A full disk in the middle of something is as bad as any other fault.
    pub(crate) fn midway<T>(&self, doing: &'static str, result: Result<T, WriteError>) -> Result<T, WriteError> {
        result.map_err(|error| match error {
            WriteError::Full => {
                WriteError::Disk { doing, path: self.folder.clone(), cause: std::io::ErrorKind::StorageFull.into() }
            }
            other => other,
        })
    }

    /// The rest of it, once the entry is on the disk: also what a crash in between left to do.
    pub(crate) fn close_epoch(&mut self, next: EpochKey) -> Result<(), WriteError> {
        let note = self.sign()?.render();
        disk::append_once(&self.folder.join(CHECKPOINTS_LOG), note.as_bytes())?;
        self.replace(CHECKPOINT, note.as_bytes(), Keep::OnDisk)?;
        self.remember()?;
        self.keys.advance()?;
        self.key = next;
        (self.signed, self.epoch_from) = (self.size(), self.size());
        self.epoch_since = self.now().mono;
        Ok(())
    }

    /// Erases the payloads of the entries `from..until`, after an entry that says so; the place of that entry. None
    /// when there are none to erase.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn forget(&mut self, from: u64, until: u64, asker: (String, u32)) -> Result<Option<u64>, WriteError> {
        let until = until.min(self.size());
        let mut count = 0;
        self.for_payloads(from, until, |_, _, _| {
            count += 1;
            Ok(())
        })?;
        if count == 0 {
            return Ok(None);
        }
        let mut entry = Pending::own(&kind::Forgotten { count, from, until })?;
        (entry.writer, entry.uid) = asker;
        let seq = self.append(&[entry])?;
        self.erase(from, until)?;
        Ok(Some(seq))
    }

    /// Overwrites these payloads; those that are gone already stay so.
    pub(crate) fn erase(&self, from: u64, until: u64) -> Result<(), WriteError> {
        self.for_payloads(from, until, |lines, at, bytes| lines.blank(at, bytes))
    }

    /// Calls `act` with file, offset and length of every payload line of the entries `from..until`.
    fn for_payloads(
        &self,
        from: u64,
        until: u64,
        mut act: impl FnMut(&Lines, u64, usize) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        let mut segment = from - from % SEGMENT_ENTRIES;
        while segment < until {
            let other;
            let lines = if segment == self.segment {
                &self.payloads
            } else {
                let path = self.folder.join(payload_path(segment));
                let Ok(metadata) = path.metadata() else {
                    segment += SEGMENT_ENTRIES;
                    continue;
                };
                other = Lines::open(&path, metadata.len())?;
                &other
            };
            if let Some(mut reader) = LineReader::open(lines.path())? {
                let mut at = 0;
                while let Some(text) = reader.next_line(PAYLOAD_LINE_BYTES_MAX)? {
                    let bytes = text.len();
                    if Payload::parse(text).is_some_and(|payload| (from..until).contains(&payload.seq)) {
                        act(lines, at, bytes)?;
                    }
                    at = reader.offset();
                }
            }
            segment += SEGMENT_ENTRIES;
        }
        Ok(())
    }

    /// Ends in order: the last entry says so, and all of it is signed.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn stop(mut self, refused: u64) -> Result<(), WriteError> {
        self.append(&[Pending::own(&kind::Stopped { refused })?])?;
        self.checkpoint(Keep::OnDisk)?;
        Ok(())
    }
}

/// A salt for each of these, whether it has a payload or not: one call for all of them.
fn salts(batch: &[Pending]) -> Result<Vec<[u8; SALT_BYTES]>, WriteError> {
    let mut salts = vec![[0; SALT_BYTES]; batch.len()];
    getrandom::fill(salts.as_flattened_mut()).map_err(|_| WriteError::NoRandomness)?;
    Ok(salts)
}

/// How many of these, one at least, are written by one call.
fn within(batch: &[Pending], limit: usize) -> usize {
    let mut bytes = 0;
    let fits = batch.iter().take_while(|pending| {
        // A payload is written as base64.
        bytes += pending.data.len() + HEAD_BYTES_MAX + pending.payload.as_ref().map_or(0, |bytes| bytes.len() * 2);
        bytes <= limit
    });
    fits.count().max(1)
}

/// Opens or makes the files of a segment whose lines are so long.
pub(crate) fn open_segment(
    folder: &Path,
    first: u64,
    entries: u64,
    payloads: u64,
) -> Result<(Lines, Lines), WriteError> {
    let pair = (
        Lines::open(&folder.join(segment_path(first)), entries)?,
        Lines::open(&folder.join(payload_path(first)), payloads)?,
    );
    disk::sync_folder(&folder.join(SEGMENTS_DIR))?;
    Ok(pair)
}

pub(crate) fn write_tile(chain: &Path, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
    let path = chain.join(name);
    if let Some(folder) = path.parent() {
        disk::at("create", folder, std::fs::create_dir_all(folder))?;
    }
    replace(&path, &unfinished(chain), bytes, 0o644, Keep::Whole)
}

/// What is being written, beside the chain.
fn unfinished(chain: &Path) -> PathBuf {
    chain.with_extension("new")
}

/// The folders of a chain.
pub(crate) fn make_folders(folder: &Path) -> Result<(), WriteError> {
    for name in [SEGMENTS_DIR, TILES_DIR] {
        let path = folder.join(name);
        disk::at("create", &path, std::fs::create_dir_all(&path))?;
    }
    disk::sync_folder(folder)
}

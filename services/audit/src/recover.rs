//! Opening a chain: what a crash left is put in order and recorded; what no crash leaves is called tampering.
//!
//! Only the last batch can be torn, for the one before it was on the disk before it began; and where the disk did not
//! take a part of it there are zeros, for room is allocated ahead. So a break without zeros, or one that an entry of
//! a later batch follows, was made by somebody.

use crate::disk::{self, Keep, LineReader, Lines, read_file};
use crate::keys::{EpochKey, Floor, KeyStore};
use crate::prune::{remove_before, segments};
use crate::writer::{BATCH_BYTES_MAX, Now, Pending, WriteError, Writer, boot_id, make_folders, open_segment};
use secai_verifier::audit::checkpoint::{NOTE_BYTES_MAX, Note};
use secai_verifier::audit::entry::{ENTRY_BYTES_MAX, Entry, genesis};
use secai_verifier::audit::kind::{self, Data};
use secai_verifier::audit::payload::{PAYLOAD_LINE_BYTES_MAX, Payload};
use secai_verifier::audit::tree::{Frontier, TILE_WIDTH, leaf};
use secai_verifier::audit::{
    CHECKPOINT, CHECKPOINTS_LOG, SEGMENT_ENTRIES, SEGMENTS_DIR, payload_path, segment_path, tile_path,
};
use secai_verifier::digest::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a crash can have torn: a batch, less than a line before it, a line after it.
const TORN_BYTES_MAX: usize = BATCH_BYTES_MAX + 2 * (ENTRY_BYTES_MAX + 1);
/// A full tile.
const TILE_BYTES: u64 = TILE_WIDTH * 32;
/// Lines of a record in the log of closing checkpoints.
pub(crate) const NOTE_LINES: usize = 5;

/// Where a device keeps its chain.
#[derive(Debug, Clone)]
pub struct Places {
    /// The folder that holds the chain (`chain/`), and after a break what was there before (`broken-N/`).
    pub state: PathBuf,
    /// The folder of keys.
    pub keys: PathBuf,
}

impl Places {
    /// The chain.
    pub fn chain(&self) -> PathBuf {
        self.state.join("chain")
    }
}

/// What was found on opening.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// A torn tail: bytes that were cut and their digest.
    pub torn: Option<(u64, Digest)>,
    /// Why what was there was put aside.
    pub gap: Option<String>,
}

/// The good part of a segment.
#[derive(Debug)]
struct Scan {
    leaves: Vec<Digest>,
    /// SHA-256 of its last line, or what its first must link to.
    last: Digest,
    /// Boot, batch and clock of the last good entry.
    stamp: Option<(u32, u64)>,
    bytes: u64,
    forgotten: Vec<kind::Forgotten>,
    /// The entries before this one were to be removed.
    pruned: Option<u64>,
    /// The next key, when the last good entry ends an epoch.
    ends: Option<String>,
}

/// Opens the chain, or begins one; appends what has to be said about that.
///
/// # Errors
/// [`WriteError`].
pub fn open(places: &Places) -> Result<(Writer, Found), WriteError> {
    let chain = places.chain();
    disk::at("create", &chain, std::fs::create_dir_all(&chain))?;
    let lock = lock(&places.state)?;
    let keys = KeyStore::at(&places.keys);
    let key = match keys.load()? {
        Some(key) => Some(key),
        // A crash came between erasing the old key and moving the new one into its place.
        None => keys.load_next()?.map(|next| keys.adopt().map(|()| next)).transpose()?,
    };
    let mut found = Found::default();
    let (mut writer, before) = match key {
        None if is_empty(&chain)? => (begin(&chain, keys, lock)?, None),
        None => {
            let reason = "the key of the chain is gone".to_owned();
            (after_a_gap(places, keys, lock, &reason, &mut found)?, None)
        }
        Some(key) => match read(&chain, &key, keys.floor()?)? {
            Ok(state) => resume(&chain, keys, key, state, lock, &mut found)?,
            Err(reason) => (after_a_gap(places, keys, lock, &reason, &mut found)?, None),
        },
    };
    if let Some((bytes, sha256)) = found.torn {
        writer.append(&[Pending::own(&kind::Recovered { bytes, sha256 })?])?;
    }
    if before.is_some_and(|(boot, _)| boot != writer.boot) && writer.size() > writer.epoch_from {
        writer.end_epoch()?;
    }
    writer.append(&[Pending::own(&kind::Started { version: env!("CARGO_PKG_VERSION").to_owned() })?])?;
    writer.checkpoint(Keep::OnDisk)?;
    // From now on a chain that is gone or shorter is not taken for a new one.
    writer.remember()?;
    Ok((writer, found))
}

fn lock(state: &Path) -> Result<std::fs::File, WriteError> {
    let file = disk::at("open", state, std::fs::File::open(state))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| WriteError::Locked { path: state.to_owned() })?;
    Ok(file)
}

fn is_empty(chain: &Path) -> Result<bool, WriteError> {
    if !chain.join(SEGMENTS_DIR).exists() {
        let empty = std::fs::read_dir(chain).map(|mut entries| entries.next().is_none());
        return disk::at("read", chain, empty);
    }
    // A first start that was cut short: names, but not one line.
    Ok(match segments(chain)?.last() {
        None => true,
        Some(0) => disk::length_without_zeros(&chain.join(segment_path(0)))? == 0,
        Some(_) => false,
    })
}

fn begin(chain: &Path, keys: KeyStore, lock: std::fs::File) -> Result<Writer, WriteError> {
    let key = EpochKey::of_new_device()?;
    keys.keep(&key)?;
    make_folders(chain)?;
    let (entries, payloads) = open_segment(chain, 0, 0, 0)?;
    let (boot, last) = (boot_id()?, genesis(key.device().name()));
    Ok(Writer {
        folder: chain.to_owned(),
        keys,
        key,
        frontier: Frontier::new(),
        tiles: BTreeMap::new(),
        last,
        last_time: None,
        segment: 0,
        entries,
        payloads,
        signed: 0,
        epoch_from: 0,
        epoch_since: Now::read(boot).mono,
        boot,
        _lock: lock,
        gap: None,
    })
}

/// Puts aside what is there and begins another chain, whose first entry says so.
fn after_a_gap(
    places: &Places,
    keys: KeyStore,
    lock: std::fs::File,
    reason: &str,
    found: &mut Found,
) -> Result<Writer, WriteError> {
    let chain = places.chain();
    // What the old chain said last about itself: words only, for it is broken.
    let claimed = read_file(&chain.join(CHECKPOINT), NOTE_BYTES_MAX as u64)?.and_then(|bytes| Note::parse(&bytes).ok());
    let (size, root) = claimed.map_or((0, Digest::of(b"")), |note| (note.checkpoint.size, note.checkpoint.root));
    let aside = (1..).map(|n: u32| places.state.join(format!("broken-{n}"))).find(|path| !path.exists());
    let aside = aside.unwrap_or_else(|| places.state.join("broken"));
    disk::at("move", &chain, std::fs::rename(&chain, &aside))?;
    disk::at("create", &chain, std::fs::create_dir(&chain))?;
    disk::sync_folder(&places.state)?;
    let mut writer = begin(&chain, keys, lock)?;
    writer.append(&[Pending::own(&kind::Gap { reason: reason.to_owned(), size, root })?])?;
    writer.gap = Some(root);
    writer.remember()?;
    found.gap = Some(reason.to_owned());
    Ok(writer)
}

/// A chain that was read.
struct State {
    segment: u64,
    frontier: Frontier,
    /// One node per earlier segment.
    segments: Vec<Digest>,
    scan: Scan,
    payload_bytes: u64,
    torn: Option<(u64, Digest)>,
    signed: u64,
}

/// Where the nodes of earlier segments are taken from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Earlier {
    /// Tiles: quick, and good when a signed root follows from them.
    FromTiles,
    /// The entries.
    FromEntries,
}

/// Reads the last segment, and of the others what the root needs. `Ok(Err(reason))`: somebody changed it.
fn read(chain: &Path, key: &EpochKey, floor: Floor) -> Result<Result<State, String>, WriteError> {
    match read_with(chain, key, floor, Earlier::FromTiles)? {
        Ok(state) => Ok(Ok(state)),
        Err(_) => read_with(chain, key, floor, Earlier::FromEntries),
    }
}

fn read_with(
    chain: &Path,
    key: &EpochKey,
    floor: Floor,
    earlier: Earlier,
) -> Result<Result<State, String>, WriteError> {
    let there = if chain.join(SEGMENTS_DIR).exists() { segments(chain)? } else { Vec::new() };
    let Some(segment) = there.last().copied() else {
        return Ok(Err("the entries are gone".to_owned()));
    };
    // Two heads were signed or kept under lock; the chain must still have them.
    let signed = read_file(&chain.join(CHECKPOINT), NOTE_BYTES_MAX as u64)?
        .and_then(|bytes| Note::parse(&bytes).ok())
        .filter(|note| key.verifier().is_ok_and(|key| note.verify(&key).is_ok()))
        .map(|note| (note.checkpoint.size, note.checkpoint.root));
    let floors: Vec<(u64, Digest)> = [Some((floor.size, floor.root)), signed].into_iter().flatten().collect();
    let mut seen = Vec::new();
    let mut frontier = Frontier::new();
    let mut push = |frontier: &mut Frontier, leaf: Digest| {
        frontier.push(leaf);
        seen.extend(floors.iter().filter(|floor| floor.0 == frontier.size() && floor.1 != frontier.root()));
    };
    // What the next entry must link to; where its predecessor was removed, the tree alone tells.
    let mut prev = Some(genesis(key.device().name()));
    let (mut segments, mut at, mut from_tiles) = (Vec::new(), 0, 0);
    while at < segment {
        let path = chain.join(segment_path(at));
        let last = at + SEGMENT_ENTRIES == segment;
        let is_there = there.contains(&at);
        if earlier == Earlier::FromEntries && is_there {
            let Some(mut reader) = LineReader::open(&path)? else {
                return Ok(Err(format!("the segment of entry {at} is gone")));
            };
            let scan = scan(&mut reader, at, prev)?;
            if scan.leaves.len() as u64 != SEGMENT_ENTRIES {
                return Ok(Err(format!("entry {} is broken", at + scan.leaves.len() as u64)));
            }
            prev = Some(scan.last);
            let mut own = Frontier::new();
            for leaf in scan.leaves {
                own.push(leaf);
                push(&mut frontier, leaf);
            }
            segments.push(own.root());
        } else {
            let Some(node) = segment_node(chain, at)? else { return Ok(Err("a tile is missing".to_owned())) };
            let joined = Frontier::from_peaks(SEGMENT_ENTRIES, vec![node]).is_some_and(|part| frontier.append(&part));
            match is_there {
                false => prev = None,
                true if last && joined => prev = last_line(&path)?.or(prev),
                true => {}
            }
            from_tiles = at + SEGMENT_ENTRIES;
            segments.push(node);
        }
        at += SEGMENT_ENTRIES;
    }
    let Some(mut reader) = LineReader::open(&chain.join(segment_path(segment)))? else {
        return Ok(Err(format!("the segment of entry {segment} is gone")));
    };
    let scan = scan(&mut reader, segment, prev)?;
    if prev.is_none() && scan.leaves.is_empty() {
        return Ok(Err(format!("entry {segment} is gone, and those before it")));
    }
    let before = frontier.clone();
    scan.leaves.iter().for_each(|leaf| push(&mut frontier, *leaf));
    let size = frontier.size();
    if let Some((floor, _)) = seen.first() {
        return Ok(Err(format!("the first {floor} entries are not those that were signed")));
    }
    if let Some((floor, _)) = floors.iter().find(|floor| floor.0 > size) {
        return Ok(Err(format!("{} entries are gone that were signed", floor - size)));
    }
    if from_tiles > 0 && floors.iter().all(|floor| floor.0 <= from_tiles) {
        return Ok(Err("no signed root follows from the tiles".to_owned()));
    }
    let tail = reader.tail(scan.bytes, TORN_BYTES_MAX)?;
    let torn = match judge_tail(&tail) {
        Tail::Room => None,
        Tail::Torn(tail) => Some((tail.len() as u64, Digest::of(tail))),
        Tail::Changed(what) => return Ok(Err(format!("entry {size}: {what}"))),
    };
    let payload_bytes = payload_bytes(chain, segment, size)?;
    let signed = signed.map_or(0, |(size, _)| size).max(floor.size);
    Ok(Ok(State { segment, frontier: before, segments, scan, payload_bytes, torn, signed }))
}

/// The node over the segment that begins with entry `first`, from its tile of level 1.
fn segment_node(chain: &Path, first: u64) -> Result<Option<Digest>, WriteError> {
    let path = chain.join(tile_path(1, first / SEGMENT_ENTRIES));
    let bytes = read_file(&path, TILE_BYTES)?.filter(|bytes| bytes.len() as u64 == TILE_BYTES);
    let nodes = bytes.iter().flat_map(|bytes| bytes.chunks_exact(32)).filter_map(Digest::from_slice);
    let mut frontier = Frontier::new();
    nodes.for_each(|node| frontier.push(node));
    Ok((frontier.size() == TILE_WIDTH).then(|| frontier.root()))
}

/// SHA-256 of the last line of a segment.
fn last_line(path: &Path) -> Result<Option<Digest>, WriteError> {
    let Some(reader) = LineReader::open(path)? else { return Ok(None) };
    let length = disk::length_without_zeros(path)?;
    let bytes = reader.tail(length.saturating_sub(2 * (ENTRY_BYTES_MAX as u64 + 1)), TORN_BYTES_MAX)?;
    let lines = bytes.strip_suffix(b"\n").unwrap_or_default();
    let begin = memchr::memrchr(b'\n', lines).map_or(0, |at| at + 1);
    Ok(lines.get(begin..).filter(|line| !line.is_empty()).map(Digest::of))
}

/// Reads entries as long as they follow each other; the first one follows anything where nothing is said.
fn scan(reader: &mut LineReader, first: u64, prev: Option<Digest>) -> Result<Scan, WriteError> {
    let mut scan = Scan {
        leaves: Vec::new(),
        last: prev.unwrap_or_else(|| Digest::of(b"")),
        stamp: None,
        bytes: 0,
        forgotten: Vec::new(),
        pruned: None,
        ends: None,
    };
    let mut seq = first;
    while let Some(line) = reader.next_line(ENTRY_BYTES_MAX)? {
        let Ok(entry) = Entry::parse(line) else { break };
        let follows = entry.prev == scan.last || prev.is_none() && scan.leaves.is_empty();
        if entry.seq != seq || !follows || scan.leaves.len() as u64 == SEGMENT_ENTRIES {
            break;
        }
        scan.last = Digest::of(line);
        scan.leaves.push(leaf(line));
        scan.stamp = Some((entry.boot, entry.mono));
        scan.bytes += line.len() as u64 + 1;
        scan.ends = None;
        let data = entry.data.as_bytes();
        match entry.kind {
            kind::Forgotten::KIND => scan.forgotten.extend(serde_json::from_slice::<kind::Forgotten>(data)),
            kind::Pruned::KIND => {
                let until = serde_json::from_slice(data).ok().map(|pruned: kind::Pruned| pruned.until);
                scan.pruned = scan.pruned.max(until.filter(|until| *until <= first));
            }
            kind::Epoch::KIND => scan.ends = serde_json::from_slice(data).map(|epoch: kind::Epoch| epoch.key).ok(),
            _ => {}
        }
        seq += 1;
    }
    Ok(scan)
}

/// What follows the last good entry.
#[derive(Debug, PartialEq, Eq)]
enum Tail<'a> {
    /// Nothing, or zeros.
    Room,
    /// What a crash can leave.
    Torn(&'a [u8]),
    /// What no crash leaves.
    Changed(&'static str),
}

fn judge_tail(tail: &[u8]) -> Tail<'_> {
    let end = tail.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    let tail = tail.get(..end).unwrap_or_default();
    if tail.is_empty() {
        return Tail::Room;
    }
    if tail.len() > TORN_BYTES_MAX {
        return Tail::Changed("it is broken, and more follows than is ever written at once");
    }
    let broken = tail.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
    if broken.ends_with(b"\n") && !broken.contains(&0) {
        return Tail::Changed("it is whole, but does not follow the one before it");
    }
    let batches: BTreeSet<(u32, u64)> = tail.split(|byte| matches!(byte, b'\n' | 0)).filter_map(Entry::batch).collect();
    if batches.len() > 1 {
        return Tail::Changed("it is broken, but entries written after it are there");
    }
    Tail::Torn(tail)
}

/// Bytes of the payload lines that belong to the first `size` entries.
fn payload_bytes(chain: &Path, segment: u64, size: u64) -> Result<u64, WriteError> {
    let Some(mut reader) = LineReader::open(&chain.join(payload_path(segment)))? else { return Ok(0) };
    let mut good = 0;
    while let Some(text) = reader.next_line(PAYLOAD_LINE_BYTES_MAX)? {
        let stays = match Payload::parse(text) {
            Some(payload) => payload.seq < size,
            None => !text.is_empty() && text.iter().all(|byte| *byte == b' '),
        };
        if !stays {
            break;
        }
        good = reader.offset();
    }
    Ok(good)
}

/// Goes on with a chain that was read: cuts what is torn, finishes what was under way.
fn resume(
    chain: &Path,
    keys: KeyStore,
    key: EpochKey,
    state: State,
    lock: std::fs::File,
    found: &mut Found,
) -> Result<(Writer, Option<(u32, u64)>), WriteError> {
    make_folders(chain)?;
    let State { segment, frontier, segments, scan, payload_bytes, torn, signed } = state;
    let (mut entries, mut payloads) = open_segment(chain, segment, scan.bytes, payload_bytes)?;
    entries.cut()?;
    payloads.cut()?;
    found.torn = torn;
    close_earlier(chain, segment)?;
    cut_log(chain)?;
    let (boot, floor) = (boot_id()?, keys.floor()?);
    let now = Now::read(boot);
    // Batches rise within a boot, also across two runs of this service.
    let last_time = scan.stamp.map(|(boot, mono)| Now { wall: 0, mono, boot });
    let mut writer = Writer {
        folder: chain.to_owned(),
        keys,
        epoch_from: floor.size,
        gap: floor.gap,
        key,
        frontier,
        tiles: unfinished_tiles(&segments),
        last: scan.last,
        last_time,
        segment,
        entries,
        payloads,
        signed,
        epoch_since: now.mono,
        boot,
        _lock: lock,
    };
    for leaf in scan.leaves {
        writer.take_leaf(leaf);
    }
    writer.write_tiles()?;
    for act in scan.forgotten {
        writer.erase(act.from, act.until)?;
    }
    if let Some(until) = scan.pruned {
        remove_before(chain, until)?;
    }
    if let Some(public) = scan.ends {
        let next = writer.keys.load_next()?;
        if let Some(next) = next.filter(|next| next.public_base64() == public) {
            writer.close_epoch(next)?;
        }
    }
    Ok((writer, scan.stamp))
}

/// What waits to become tiles when all segments are full: levels below 2 are, level 2 has a node per segment.
fn unfinished_tiles(segments: &[Digest]) -> BTreeMap<u32, Vec<Digest>> {
    let (mut tiles, mut nodes, mut level) = (BTreeMap::new(), segments.to_vec(), 2);
    while !nodes.is_empty() {
        let tiles_of_level = nodes.chunks_exact(TILE_WIDTH as usize);
        tiles.insert(level, tiles_of_level.remainder().to_vec());
        let above = tiles_of_level.map(|full| {
            let mut frontier = Frontier::new();
            full.iter().for_each(|node| frontier.push(*node));
            frontier.root()
        });
        nodes = above.collect();
        level += 1;
    }
    tiles
}

/// A crash may have come before a full segment was ended.
fn close_earlier(chain: &Path, segment: u64) -> Result<(), WriteError> {
    let Some(previous) = segment.checked_sub(SEGMENT_ENTRIES) else { return Ok(()) };
    for path in [segment_path(previous), payload_path(previous)].map(|path| chain.join(path)) {
        if !path.exists() {
            continue;
        }
        let length = disk::length_without_zeros(&path)?;
        let mut lines = Lines::open(&path, length)?;
        if lines.room() > length {
            lines.cut()?;
        }
    }
    Ok(())
}

/// A crash may have left a part of a closing checkpoint at the end of the log.
fn cut_log(chain: &Path) -> Result<(), WriteError> {
    let path = chain.join(CHECKPOINTS_LOG);
    let Some(mut reader) = LineReader::open(&path)? else { return Ok(()) };
    let (mut count, mut whole) = (0, 0);
    while reader.next_line(NOTE_BYTES_MAX)?.is_some() {
        count += 1;
        if count % NOTE_LINES == 0 {
            whole = reader.offset();
        }
    }
    let mut lines = Lines::open(&path, whole)?;
    if lines.room() > whole {
        lines.cut()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use secai_verifier::audit::entry::Moment;

    fn line(seq: u64, mono: u64) -> Vec<u8> {
        let (time, prev) = (Moment::from_micros(0), Digest::of(b""));
        let entry = Entry { seq, prev, time, boot: 1, mono, writer: "a", uid: 0, kind: "k", data: "{}", payload: None };
        let mut line = Vec::new();
        entry.render(&mut line);
        line.push(b'\n');
        line
    }

    #[test]
    fn what_a_crash_leaves_is_told_from_what_somebody_did() {
        let (one, two) = (line(1, 5), line(2, 5));
        let later = line(3, 6);
        let holed = |line: &[u8]| {
            let mut line = line.to_vec();
            line[20..60].fill(0);
            line
        };
        assert_eq!(judge_tail(b""), Tail::Room);
        assert_eq!(judge_tail(&[0; 4096]), Tail::Room);
        assert_eq!(judge_tail(&one[..30]), Tail::Torn(&one[..30]), "the file ends within a line");
        let same_batch = [holed(&one), two.clone()].concat();
        assert_eq!(judge_tail(&same_batch), Tail::Torn(&same_batch), "a hole within the last batch");
        assert!(matches!(judge_tail(&one), Tail::Changed(_)), "whole, but not the next");
        let acknowledged = [holed(&one), two, later].concat();
        assert!(matches!(judge_tail(&acknowledged), Tail::Changed(_)), "the batch before the last was on the disk");
    }
}

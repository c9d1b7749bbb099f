//! One segment: every line read, linked and hashed once, beside the payloads of its entries.
//!
//! Segments are read independently of each other, so that several can be read at once; what a segment cannot know
//! (what lies before and after it) it hands on in a [`Scan`] of bounded size.

use std::collections::BTreeMap;
use std::io;

use super::SEGMENT_ENTRIES;
use super::entry::{ENTRY_BYTES_MAX, Entry, EntryError, Moment};
use super::kind::{Acknowledged, Data, Epoch, Forgotten, Gap, Kind, Pruned, Traces, find};
use super::lines::{Lines, Piece, Source, Tail};
use super::locate::payloads_from;
use super::payload::{PAYLOAD_LINE_BYTES_MAX, Payload};
use super::refusal::ChainRefusal;
use super::tree::{Frontier, leaf};
use crate::canonical::from_canonical;
use crate::digest::Digest;
use crate::refusal::Findings;

/// Unknown kinds that are told by name; the others are only counted.
pub(super) const UNKNOWN_KINDS_MAX: usize = 64;
/// Name under which unknown kinds above [`UNKNOWN_KINDS_MAX`] are counted.
pub(super) const OTHER_KINDS: &str = "other";

/// What is to be read.
#[derive(Debug, Clone)]
pub(super) struct Task<'a> {
    /// First entry of the segment.
    pub first: u64,
    /// Where reading begins: at the segment's beginning, or at a line whose predecessors are known by their hashes.
    pub start: Start,
    /// Entries from this one on are not read.
    pub until: u64,
    /// Is it the newest one that was there?
    pub last: bool,
    /// Payloads of entries from this one on may not be there yet.
    pub signed: u64,
    /// Sizes of trees that are to be kept, ascending.
    pub stops: &'a [u64],
}

/// Where reading begins.
#[derive(Debug, Clone)]
pub(super) struct Start {
    pub offset: u64,
    pub seq: u64,
    /// The entries of the segment in front of it.
    pub tree: Frontier,
}

/// What links entries, of the first or the last one that was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    pub prev: Digest,
    /// SHA-256 of the line.
    pub digest: Digest,
    pub time: Moment,
    pub boot: u32,
    pub mono: u64,
}

/// Entries that say something about the chain itself.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Epoch { seq: u64, number: u64, key: String },
    Forget { seq: u64, from: u64, until: u64 },
    Prune { seq: u64, until: u64 },
    Gap { seq: u64, root: Digest },
    Acknowledged { seq: u64, root: Digest },
}

/// A set of entries of one segment.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks(Vec<u64>);

impl Marks {
    fn insert(&mut self, at: u64) {
        if self.0.is_empty() {
            self.0 = vec![0; (SEGMENT_ENTRIES / 64) as usize];
        }
        if let Some(word) = usize::try_from(at / 64).ok().and_then(|word| self.0.get_mut(word)) {
            *word |= 1 << (at % 64);
        }
    }

    /// Places within the segment, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        let words = self.0.iter().enumerate().filter(|(_, word)| **word != 0);
        words
            .flat_map(|(at, word)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at as u64 * 64 + bit))
    }
}

/// What was found in a segment.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub first: u64,
    /// Entries, those before the start included.
    pub count: u64,
    pub head: Option<Edge>,
    pub tail: Option<Edge>,
    /// The segment's tree.
    pub tree: Frontier,
    /// The segment's tree at the sizes that were asked for.
    pub stops: Vec<(u64, Frontier)>,
    pub events: Vec<Event>,
    pub refusals: Vec<ChainRefusal>,
    pub unknown: BTreeMap<String, u64>,
    /// Entries whose time is before that of their predecessor, and the first of them.
    pub stepped_back: (u64, Option<u64>),
    /// Entries whose payload is not there.
    pub missing: Marks,
    /// Entries whose payload is there.
    pub present: Marks,
    pub payloads: u64,
    /// Bytes that are no entry yet.
    pub torn: u64,
    /// Reading ended before the segment did.
    pub cut_short: bool,
}

/// Reads a segment and its payloads.
///
/// # Errors
/// Those of the medium.
pub(super) fn scan<S: Source>(
    source: &S,
    payloads: Option<&S>,
    path: &str,
    payload_path: &str,
    task: &Task<'_>,
) -> io::Result<Scan> {
    let mut reader = Reader {
        task,
        scan: Scan { first: task.first, tree: task.start.tree.clone(), ..Scan::default() },
        findings: Findings::default(),
        payloads: payloads.map(|source| Payloads::new(source, payload_path, task.start.seq)).transpose()?,
        place: task.start.seq,
        shift: 0,
        stops: task.stops.iter().copied().skip_while(|stop| *stop <= task.start.seq).peekable(),
        kind: None,
    };
    let mut lines = Lines::new(source, task.start.offset, ENTRY_BYTES_MAX);
    loop {
        if reader.place >= task.until {
            reader.scan.cut_short = true;
            break;
        }
        match lines.next()? {
            Piece::Line(line) if reader.place - task.first < SEGMENT_ENTRIES => reader.line(line)?,
            Piece::Line(_) => {
                // One more than there may be: how many more does not matter.
                reader.place += 1;
                break;
            }
            Piece::TooLong => {
                reader.findings.add(ChainRefusal::EntryTooLong { seq: reader.place });
                break;
            }
            Piece::End(tail) => {
                reader.end(tail, path);
                break;
            }
        }
    }
    let (count, cut_short) = (reader.place - task.first, reader.scan.cut_short);
    let full = count == SEGMENT_ENTRIES;
    if count > SEGMENT_ENTRIES || !(full || task.last || cut_short) {
        reader.findings.add(ChainRefusal::SegmentSizeWrong { path: path.to_owned(), entries: count });
    }
    if let Some(payloads) = &mut reader.payloads {
        let refusal = payloads.rest(reader.place, full && !cut_short)?;
        reader.findings.extend(refusal);
    }
    Ok(Scan { count, refusals: reader.findings.into_vec(), ..reader.scan })
}

struct Reader<'a, S, I: Iterator<Item = u64>> {
    task: &'a Task<'a>,
    scan: Scan,
    findings: Findings<ChainRefusal>,
    payloads: Option<Payloads<'a, S>>,
    /// Which entry the next line should be.
    place: u64,
    /// How far the numbers of entries are from their places, so that one break is told once.
    shift: u64,
    stops: std::iter::Peekable<I>,
    /// That of the last entry: the next one often has the same.
    kind: Option<&'static Kind>,
}

impl<S: Source, I: Iterator<Item = u64>> Reader<'_, S, I> {
    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        let seq = self.place;
        self.place += 1;
        let digest = Digest::of(line);
        self.scan.tree.push(leaf(line));
        while self.stops.peek().is_some_and(|stop| *stop <= self.place) {
            self.stops.next();
            self.scan.stops.push((self.place, self.scan.tree.clone()));
        }
        match Entry::parse(line) {
            Ok(entry) => {
                self.link(seq, &entry, digest);
                self.data(seq, &entry);
                self.payload(seq, &entry)?;
            }
            Err(error) => {
                self.findings.add(match error {
                    EntryError::TooLong(_) => ChainRefusal::EntryTooLong { seq },
                    EntryError::UnknownVersion(version) => ChainRefusal::EntryOfUnknownVersion { seq, version },
                    EntryError::Malformed(byte) => ChainRefusal::EntryMalformed { seq, byte },
                    EntryError::Data => ChainRefusal::EntryMalformed { seq, byte: 0 },
                });
                // What follows is linked to this line all the same.
                if let Some(edge) = &mut self.scan.tail {
                    edge.digest = digest;
                }
            }
        }
        Ok(())
    }

    fn link(&mut self, seq: u64, entry: &Entry<'_>, digest: Digest) {
        let shift = entry.seq.wrapping_sub(seq);
        if shift != self.shift {
            self.findings.add(ChainRefusal::EntryOutOfPlace { seq: seq.wrapping_add(self.shift), found: entry.seq });
            self.shift = shift;
        }
        let edge = Edge { prev: entry.prev, digest, time: entry.time, boot: entry.boot, mono: entry.mono };
        match &self.scan.tail {
            Some(before) => {
                let stepped = join(before, &edge, seq, &mut self.findings);
                self.scan.step_back(stepped, seq);
            }
            None => self.scan.head = Some(edge),
        }
        self.scan.tail = Some(edge);
    }

    fn data(&mut self, seq: u64, entry: &Entry<'_>) {
        let malformed = |reason: String| ChainRefusal::EntryDataMalformed { seq, kind: entry.kind.to_owned(), reason };
        if self.kind.is_none_or(|kind| kind.name != entry.kind) {
            self.kind = find(entry.kind);
        }
        let Some(kind) = self.kind else {
            self.scan.count_unknown(entry.kind, 1);
            if entry.check_data().is_err() {
                self.findings.add(malformed("it is no canonical JSON object".to_owned()));
            }
            return;
        };
        if let Err(error) = kind.check(entry.data.as_bytes()) {
            self.findings.add(malformed(error.to_string()));
            return;
        }
        if (kind.traces == Traces::OfAPerson) != entry.payload.is_some() {
            self.findings.add(ChainRefusal::EntryTracesWrong { seq, kind: entry.kind.to_owned() });
        }
        if let Some(event) = event(seq, entry) {
            self.scan.events.push(event);
        }
    }

    fn payload(&mut self, seq: u64, entry: &Entry<'_>) -> io::Result<()> {
        let Some(digest) = entry.payload else { return Ok(()) };
        let found = match &mut self.payloads {
            Some(payloads) => payloads.of(seq)?,
            None => Found::Missing,
        };
        match found {
            Found::Payload(found) if found == digest => {
                self.scan.payloads += 1;
                self.scan.present.insert(seq - self.task.first);
            }
            Found::Payload(_) => self.findings.add(ChainRefusal::PayloadDiffers { seq }),
            Found::Foreign(refusal) => self.findings.add(refusal),
            Found::Missing if seq < self.task.signed => self.scan.missing.insert(seq - self.task.first),
            Found::Missing => {}
        }
        Ok(())
    }

    fn end(&mut self, tail: Tail, path: &str) {
        if tail.dirty || (!self.task.last && tail != Tail::default()) {
            self.findings.add(ChainRefusal::SegmentTailWrong { path: path.to_owned() });
        }
        self.scan.torn = tail.torn;
    }
}

impl Scan {
    pub fn count_unknown(&mut self, kind: &str, entries: u64) {
        count_unknown(&mut self.unknown, kind, entries);
    }

    fn step_back(&mut self, stepped: bool, seq: u64) {
        if stepped {
            self.stepped_back.0 += 1;
            self.stepped_back.1.get_or_insert(seq);
        }
    }
}

/// Counts an unknown kind by name, as long as there are few.
pub(super) fn count_unknown(unknown: &mut BTreeMap<String, u64>, kind: &str, entries: u64) {
    let known = unknown.contains_key(kind) || unknown.len() < UNKNOWN_KINDS_MAX;
    let name = if known { kind } else { OTHER_KINDS };
    *unknown.entry(name.to_owned()).or_default() += entries;
}

/// Does an entry follow from the one before it? True when its time does not: that is only noted.
pub(super) fn join(before: &Edge, edge: &Edge, seq: u64, findings: &mut Findings<ChainRefusal>) -> bool {
    if edge.prev != before.digest {
        findings.add(ChainRefusal::LinkBroken { seq });
    }
    if edge.boot == before.boot && edge.mono < before.mono {
        findings.add(ChainRefusal::MonotonicClockSteppedBack { seq });
    }
    edge.time < before.time
}

fn event(seq: u64, entry: &Entry<'_>) -> Option<Event> {
    fn data<T: Data>(entry: &Entry<'_>) -> Option<T> {
        from_canonical(entry.data.as_bytes()).ok()
    }
    match entry.kind {
        Epoch::KIND => data(entry).map(|Epoch { key, number }| Event::Epoch { seq, number, key }),
        Forgotten::KIND => data(entry).map(|Forgotten { from, until, .. }| Event::Forget { seq, from, until }),
        Pruned::KIND => data(entry).map(|Pruned { until }| Event::Prune { seq, until }),
        Gap::KIND => data(entry).map(|Gap { root, .. }| Event::Gap { seq, root }),
        Acknowledged::KIND => data(entry).map(|Acknowledged { root }| Event::Acknowledged { seq, root }),
        _ => None,
    }
}

/// What stands where an entry's payload belongs.
enum Found {
    /// A payload with this digest.
    Payload(Digest),
    /// None, or a blank line.
    Missing,
    /// That of another entry.
    Foreign(ChainRefusal),
}

/// The payloads of a segment, in step with its entries.
struct Payloads<'a, S> {
    lines: Lines<'a, S>,
    path: &'a str,
    /// Read, and of a later entry than was asked for.
    ahead: Option<Payload>,
    over: bool,
}

impl<'a, S: Source> Payloads<'a, S> {
    /// From the first payload of entry `from` or a later one on. Blank lines before it belong to entries before or
    /// after: those after it are then missing, which they are anyway.
    fn new(source: &'a S, path: &'a str, from: u64) -> io::Result<Self> {
        let begin = if from.is_multiple_of(SEGMENT_ENTRIES) { 0 } else { payloads_from(source, from)? };
        let lines = Lines::new(source, begin, PAYLOAD_LINE_BYTES_MAX);
        let mut payloads = Self { lines, path, ahead: None, over: false };
        while !from.is_multiple_of(SEGMENT_ENTRIES)
            && let Some(line) = payloads.next()?
        {
            if let Some(payload) = line.filter(|payload| payload.seq >= from) {
                payloads.ahead = Some(payload);
                break;
            }
        }
        Ok(payloads)
    }

    /// The next line: a payload, or none where something else stands; nothing at the end.
    fn next(&mut self) -> io::Result<Option<Option<Payload>>> {
        if self.over {
            return Ok(None);
        }
        match self.lines.next()? {
            Piece::Line(line) => Ok(Some(Payload::parse(line))),
            Piece::TooLong | Piece::End(_) => {
                self.over = true;
                Ok(None)
            }
        }
    }

    fn of(&mut self, seq: u64) -> io::Result<Found> {
        let line = match self.ahead.take() {
            Some(payload) => Some(payload),
            None => match self.next()? {
                Some(line) => line,
                None => return Ok(Found::Missing),
            },
        };
        Ok(match line {
            Some(payload) if payload.seq == seq => Found::Payload(payload.digest()),
            Some(payload) if payload.seq > seq => {
                self.ahead = Some(payload);
                Found::Missing
            }
            Some(payload) => {
                Found::Foreign(ChainRefusal::PayloadOfNoEntry { path: self.path.to_owned(), seq: payload.seq })
            }
            None => Found::Missing,
        })
    }

    /// After the last entry that was read: only payloads of entries that are to come may follow.
    fn rest(&mut self, place: u64, full: bool) -> io::Result<Option<ChainRefusal>> {
        let foreign = |seq| Some(ChainRefusal::PayloadOfNoEntry { path: self.path.to_owned(), seq });
        let line = match self.ahead.take() {
            Some(payload) => Some(Some(payload)),
            None => self.next()?,
        };
        Ok(match line {
            Some(Some(payload)) if full || payload.seq < place => foreign(payload.seq),
            Some(None) if full => foreign(place),
            _ => None,
        })
    }
}

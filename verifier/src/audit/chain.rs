//! Checks a chain. Only this module makes a [`VerifiedChain`].
//!
//! It may be checked while it is written: `checkpoint` is read first, so that whatever it covers is on the disk when
//! the rest is read; what lies beyond is linked, and only noted.

mod absences;
mod scanning;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use absences::Absences;
use scanning::{Plan, scan_all};

use super::checkpoint::{Note, NoteError, VerifierKey};
use super::cosignature::{Cosignature, CosignerKey};
use super::entry::genesis;
use super::epochs::{self, Ending, Epochs, First};
use super::prefix::{Prefix, leaves_of, place_of};
use super::refusal::ChainRefusal;
use super::report::{Remark, Report, unknown_kinds};
use super::segment::{Event, Scan, Start, count_unknown, join};
use super::store::{Listing, Store};
use super::tiles::{TileError, Tiles};
use super::tree::{Frontier, TILE_WIDTH};
use super::{
    CHECKPOINT, CHECKPOINTS_LOG, SEGMENT_ENTRIES, UNSIGNED_ENTRIES_MAX, checkpoint, payload_path, segment_path,
};
use crate::digest::Digest;
use crate::files::Fault;
use crate::refusal::Findings;

/// How often a chain is looked at again from the beginning when a segment was removed meanwhile.
const LOOKS_MAX: usize = 4;

/// How to check.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    /// Keys of epochs 0.
    pub trusted: &'a [VerifierKey],
    /// A checkpoint that somebody else kept.
    pub witnessed: Option<&'a Note>,
    /// Witnesses each of which must have cosigned it.
    pub cosigners: &'a [CosignerKey],
    /// Read everything, a kept checkpoint or not.
    pub full: bool,
    /// Threads that read segments.
    pub threads: NonZeroUsize,
}

/// A chain that holds, signed by keys that follow from a trusted one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedChain(Report);

impl VerifiedChain {
    /// What was found.
    pub fn report(&self) -> &Report {
        &self.0
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Accepted(Box<VerifiedChain>),
    /// It is consistent in itself; no trusted key says whose it is.
    SignerUnknown(Box<Report>),
    /// It does not hold.
    Refused(Vec<ChainRefusal>),
}

/// Checks the chain in this directory.
///
/// # Errors
/// [`Fault`]: something could not be read. Whatever is wrong in what was read is a [`Verdict::Refused`].
pub fn check(store: &Store, options: &Options<'_>) -> Result<Verdict, Fault> {
    for look in 1.. {
        match look_at(store, options, look == LOOKS_MAX)? {
            Some(verdict) => return Ok(verdict),
            None => continue,
        }
    }
    Ok(Verdict::Refused(Vec::new()))
}

/// What is read before any segment, in this order.
struct Inputs {
    head: Note,
    listing: Listing,
    closings: Vec<Note>,
}

impl Inputs {
    fn read(store: &Store, tiles: bool, findings: &mut Findings<ChainRefusal>) -> Result<Option<Self>, Fault> {
        let head = match store.read(CHECKPOINT, checkpoint::NOTE_BYTES_MAX as u64)? {
            Ok(Some(bytes)) => epochs::read_head(&bytes),
            Ok(None) => Err(ChainRefusal::CheckpointMissing {}),
            Err(refusal) => Err(refusal),
        };
        let listing = store.list(tiles)?;
        findings.extend(listing.refusals.iter().cloned());
        let head = match head {
            Ok(head) => head,
            Err(refusal) => {
                findings.add(refusal);
                return Ok(None);
            }
        };
        let log = match store.read(CHECKPOINTS_LOG, epochs::LOG_BYTES_MAX)? {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(refusal) => {
                findings.add(refusal);
                return Ok(None);
            }
        };
        let closings = epochs::read_log(&log, &head.checkpoint.origin, findings);
        Ok(Some(Self { head, listing, closings }))
    }
}

/// One look; nothing when a segment vanished meanwhile, unless this is the last look.
fn look_at(store: &Store, options: &Options<'_>, last_look: bool) -> Result<Option<Verdict>, Fault> {
    let mut findings = Findings::default();
    let incremental = options.witnessed.is_some() && !options.full;
    let Some(inputs) = Inputs::read(store, !incremental, &mut findings)? else {
        return Ok(Some(Verdict::Refused(findings.into_vec())));
    };
    let origin = &inputs.head.checkpoint.origin;
    let trusted = match epochs::first(options.trusted, origin) {
        First::Trusted(key) => Some(key),
        First::Unknown => None,
        First::Another => {
            findings.add(ChainRefusal::ChainOfAnotherKey { origin: origin.clone() });
            return Ok(Some(Verdict::Refused(findings.into_vec())));
        }
    };
    if let Some(kept) = options.witnessed.map(|note| &note.checkpoint).filter(|kept| kept.origin != *origin) {
        let (origin, kept) = (origin.clone(), kept.origin.clone());
        findings.add(ChainRefusal::WitnessedChainIsAnother { origin, kept });
        return Ok(Some(Verdict::Refused(findings.into_vec())));
    }
    let cosigned = cosigned(options, &mut findings);
    if cosigned.len() < options.cosigners.len() {
        return Ok(Some(Verdict::Refused(findings.into_vec())));
    }
    let check = Check { store, options, inputs, trusted, cosigned };
    let mut because = None;
    if let Some(kept) = options.witnessed.filter(|_| incremental) {
        match check.plan_from(kept)? {
            Ok(plan) => {
                let mut findings = Findings::default();
                findings.extend(check.inputs.listing.refusals.iter().cloned());
                match check.follow(plan, findings)? {
                    Some((refusals, report)) if refusals.is_empty() => return Ok(Some(check.verdict(report))),
                    Some(_) => because = Some("what is new since the kept checkpoint does not fit to it"),
                    None if last_look => {}
                    None => return Ok(None),
                }
            }
            Err(reason) => because = Some(reason),
        }
    }
    let plan = check.plan_whole(&mut findings)?;
    let Some((refusals, mut report)) = check.follow(plan, findings)? else {
        let path = segment_path(0);
        return Ok(last_look.then(|| Verdict::Refused(vec![ChainRefusal::SegmentMissing { path }])));
    };
    report.remarks.extend(because.map(|because| Remark::ReadInFull { because }));
    Ok(Some(if refusals.is_empty() { check.verdict(report) } else { Verdict::Refused(refusals) }))
}

/// What the witnesses that are asked for say of the kept checkpoint; a finding for each that does not.
fn cosigned(options: &Options<'_>, findings: &mut Findings<ChainRefusal>) -> Vec<Cosignature> {
    let size = options.witnessed.map_or(0, |note| note.checkpoint.size);
    let said = |by: &CosignerKey| {
        let witness = by.name().to_owned();
        match options.witnessed.map(|note| note.cosigned(by)) {
            Some(Ok(cosignature)) => Ok(cosignature),
            Some(Err(NoteError::BadSignature(_))) => Err(ChainRefusal::CosignatureInvalid { witness, size }),
            Some(Err(_)) | None => Err(ChainRefusal::WitnessDidNotCosign { witness, size }),
        }
    };
    options.cosigners.iter().filter_map(|by| said(by).map_err(|refusal| findings.add(refusal)).ok()).collect()
}

struct Check<'a> {
    store: &'a Store,
    options: &'a Options<'a>,
    inputs: Inputs,
    trusted: Option<&'a VerifierKey>,
    cosigned: Vec<Cosignature>,
}

impl Check<'_> {
    fn verdict(&self, report: Report) -> Verdict {
        match self.trusted {
            Some(_) => Verdict::Accepted(Box::new(VerifiedChain(report))),
            // A key that the chain itself names says nothing about whose it is.
            None => Verdict::SignerUnknown(Box::new(Report { signer: None, ..report })),
        }
    }

    /// Reads everything; what was removed is represented by its tiles.
    fn plan_whole(&self, findings: &mut Findings<ChainRefusal>) -> Result<Plan, Fault> {
        let base = self.inputs.listing.segments.first().copied().unwrap_or(0);
        let mut plan = Plan { base, tree: Some(Frontier::new()), start: None, endings: Vec::new() };
        if base == 0 {
            return Ok(plan);
        }
        let tiles = Tiles::of(self.store);
        let known = tiles.frontier(base).and_then(|tree| {
            let prefix = Prefix { size: base, root: tree.root() };
            let endings = prefix.endings(self.store, &tiles, &self.inputs.closings, findings)?;
            Ok((tree, endings))
        });
        match known {
            Ok((tree, endings)) => (plan.tree, plan.endings) = (Some(tree), endings),
            Err(TileError::Missing { .. }) => plan.tree = None,
            Err(TileError::Fault(fault)) => return Err(fault),
        }
        Ok(plan)
    }

    /// Reads what is new since a kept checkpoint; a reason where that cannot be.
    fn plan_from(&self, kept: &Note) -> Result<Result<Plan, &'static str>, Fault> {
        const TILES: &str = "the tiles that would stand for the older ones are missing or wrong";
        let size = kept.checkpoint.size;
        if size == 0 || size > self.inputs.head.checkpoint.size {
            return Ok(Err("the kept checkpoint covers no entry, or more than are signed"));
        }
        // The last tile that it reaches into is read from the entries: it may not be full, and the link needs a line.
        let from = (size - 1) / TILE_WIDTH * TILE_WIDTH;
        let base = from / SEGMENT_ENTRIES * SEGMENT_ENTRIES;
        let Some(leaves) = leaves_of(self.store, from, size)? else {
            return Ok(Err("the last entries of the kept checkpoint are not where they belong"));
        };
        let Some((_, offset)) = place_of(self.store, from)? else { return Ok(Err(TILES)) };
        let tiles = Tiles::of(self.store).with_leaves(from, leaves);
        let plan = || -> Result<Option<Plan>, TileError> {
            if tiles.frontier(size)?.root() != kept.checkpoint.root {
                return Ok(None);
            }
            let prefix = Prefix { size, root: kept.checkpoint.root };
            let mut findings = Findings::default();
            let mut endings = prefix.endings(self.store, &tiles, &self.inputs.closings, &mut findings)?;
            if !findings.into_vec().is_empty() {
                return Ok(None);
            }
            // Those that are read again are met again.
            endings.retain(|ending| ending.seq < from);
            let inside = Frontier::nodes_of(from - base)
                .map(|(level, index)| super::tree::Nodes::node(&tiles, level, (base >> level) + index))
                .collect::<Result<_, _>>()?;
            let tree = Frontier::from_peaks(from - base, inside).unwrap_or_default();
            let start = Some(Start { offset, seq: from, tree });
            Ok(Some(Plan { base, tree: Some(tiles.frontier(base)?), start, endings }))
        };
        match plan() {
            Ok(Some(_)) if self.begins_with_a_gap()? => {
                Ok(Err("the chain begins with a gap, and whether a person was shown is said in its entries"))
            }
            Ok(Some(plan)) => Ok(Ok(plan)),
            Ok(None) | Err(TileError::Missing { .. }) => Ok(Err(TILES)),
            Err(TileError::Fault(fault)) => Err(fault),
        }
    }

    fn begins_with_a_gap(&self) -> Result<bool, Fault> {
        use super::entry::Entry;
        use super::kind::{Data, Gap};
        let first = super::prefix::line_of(self.store, 0)?;
        Ok(first.is_some_and(|line| Entry::parse(&line).is_ok_and(|entry| entry.kind == Gap::KIND)))
    }

    /// Follows a plan; nothing when a segment vanished meanwhile.
    fn follow(
        &self,
        plan: Plan,
        mut findings: Findings<ChainRefusal>,
    ) -> Result<Option<(Vec<ChainRefusal>, Report)>, Fault> {
        let Inputs { head, listing, closings } = &self.inputs;
        let size = head.checkpoint.size;
        let until = size.saturating_add(UNSIGNED_ENTRIES_MAX + 1);
        let firsts = self.contiguous(plan.base, &mut findings);
        for first in listing.payloads.iter().filter(|first| !listing.segments.contains(first)) {
            findings.add(ChainRefusal::ChainFileForeign { path: payload_path(*first) });
        }
        let from = plan.start.as_ref().map_or(plan.base, |start| start.seq);
        let kept = self.options.witnessed.map(|note| note.checkpoint.size);
        let stops: BTreeSet<u64> = closings
            .iter()
            .map(|note| note.checkpoint.size)
            .chain([size])
            .chain(kept)
            .filter(|stop| *stop > from)
            .collect();
        let stops: Vec<u64> = stops.into_iter().collect();
        let Some(scans) = scan_all(self.store, &plan, &firsts, until, size, &stops, self.options.threads)? else {
            return Ok(None);
        };
        let mut fold = Fold::new(plan, &head.checkpoint.origin);
        let mut absences = Absences::default();
        for mut scan in scans {
            absences.take(&mut scan);
            fold.add(scan, &mut findings);
        }
        absences.settle_late(self.store, &fold, until)?;

        let mut remarks = Vec::new();
        absences.judge_pruned(&fold, size, &mut findings, &mut remarks);
        let forgotten = absences.judge_payloads(size, &mut findings, &mut remarks);
        absences.judge_gaps(&mut findings);
        let epochs = self.judge_signatures(&fold, &mut findings);
        self.judge_roots(&fold, from, &mut findings);
        self.judge_witnessed(&fold, &epochs, from, &mut findings);
        if fold.entries > size + UNSIGNED_ENTRIES_MAX {
            // The writer signs as it goes: while it does, the newest checkpoint has moved on since.
            let moved = match store_head(self.store)? {
                Some(now) => now.checkpoint.origin == head.checkpoint.origin && now.checkpoint.size > size,
                None => false,
            };
            if moved {
                remarks.push(Remark::NotReadFurther { from: fold.entries });
            } else {
                findings.add(ChainRefusal::TooManyUnsignedEntries { size, limit: UNSIGNED_ENTRIES_MAX });
            }
        }
        if let (times, Some(first)) = fold.stepped_back {
            remarks.push(Remark::TimeSteppedBack { times, first });
        }
        if fold.torn > 0 {
            remarks.push(Remark::TornTail { bytes: fold.torn });
        }
        remarks.extend(unknown_kinds(fold.unknown));
        let report = Report {
            head: head.checkpoint.clone(),
            note: head.clone(),
            signer: epochs.key(size).cloned(),
            epochs: epochs.count(),
            read_from: from,
            entries: fold.entries,
            last: fold.edge.map(|edge| edge.time),
            witnessed: kept,
            ended_since: kept.map_or(0, |kept| epochs.of(size).saturating_sub(epochs.of(kept)) as u64),
            cosigned: self.cosigned.clone(),
            payloads: fold.payloads,
            forgotten,
            remarks,
        };
        Ok(Some((findings.into_vec(), report)))
    }

    /// The segments from `base` on up to the first that is absent.
    fn contiguous(&self, base: u64, findings: &mut Findings<ChainRefusal>) -> Vec<u64> {
        let mut firsts = Vec::new();
        for first in self.inputs.listing.segments.range(base..) {
            let expected = base + firsts.len() as u64 * SEGMENT_ENTRIES;
            if *first != expected {
                findings.add(ChainRefusal::SegmentMissing { path: segment_path(expected) });
                break;
            }
            firsts.push(*first);
        }
        firsts
    }

    fn judge_signatures(&self, fold: &Fold, findings: &mut Findings<ChainRefusal>) -> Epochs {
        let Inputs { head, closings, .. } = &self.inputs;
        let mut epochs = Epochs::new(&head.checkpoint.origin, self.trusted);
        fold.endings.iter().for_each(|ending| epochs.push(ending, findings));
        epochs.judge_closings(closings, head.checkpoint.size, fold.entries, fold.cut_short, findings);
        epochs.judge(head, findings);
        epochs
    }

    fn judge_roots(&self, fold: &Fold, from: u64, findings: &mut Findings<ChainRefusal>) {
        let Inputs { head, closings, .. } = &self.inputs;
        let size = head.checkpoint.size;
        if fold.entries < size {
            findings.add(ChainRefusal::ChainShorterThanCheckpoint { entries: fold.entries, size });
        }
        // What the beginning covers was compared when its hashes were taken from tiles.
        let read = closings.iter().chain([head]).filter(|note| note.checkpoint.size > from || from == 0);
        for note in read.filter(|note| note.checkpoint.size <= fold.entries) {
            if fold.root(note.checkpoint.size) != Some(note.checkpoint.root) {
                findings.add(ChainRefusal::RootDiffers { size: note.checkpoint.size });
            }
        }
    }

    fn judge_witnessed(&self, fold: &Fold, epochs: &Epochs, from: u64, findings: &mut Findings<ChainRefusal>) {
        let (Some(kept), head) = (self.options.witnessed, &self.inputs.head.checkpoint) else { return };
        let size = kept.checkpoint.size;
        if size > head.size {
            findings.add(ChainRefusal::HeadOlderThanWitnessed { head: head.size, size });
            return;
        }
        if epochs.key(size).is_some_and(|key| kept.verify(key).is_err()) {
            findings.add(ChainRefusal::WitnessedByUnknownKey { size });
        }
        let root = if size < from { self.root_before(size) } else { fold.root(size) };
        if root != Some(kept.checkpoint.root) {
            findings.add(ChainRefusal::WitnessedRootDiffers { size });
        }
    }

    /// A root within what was removed; the tiles were compared with a signed root before.
    fn root_before(&self, size: u64) -> Option<Digest> {
        Tiles::of(self.store).frontier(size).ok().map(|tree| tree.root())
    }
}

fn store_head(store: &Store) -> Result<Option<Note>, Fault> {
    let bytes = store.read(CHECKPOINT, checkpoint::NOTE_BYTES_MAX as u64)?;
    Ok(bytes.ok().flatten().and_then(|bytes| epochs::read_head(&bytes).ok()))
}

/// Segments put together, in order.
struct Fold {
    origin: String,
    base: u64,
    tree: Option<Frontier>,
    roots: BTreeMap<u64, Digest>,
    entries: u64,
    edge: Option<super::segment::Edge>,
    endings: Vec<Ending>,
    unknown: BTreeMap<String, u64>,
    stepped_back: (u64, Option<u64>),
    payloads: u64,
    torn: u64,
    cut_short: bool,
    last_segment: u64,
    /// Are older entries there and not read?
    skips: bool,
    /// Is the first entry's link one that can be checked?
    whole: bool,
}

impl Fold {
    fn new(plan: Plan, origin: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            base: plan.base,
            whole: plan.base == 0 && plan.start.as_ref().is_none_or(|start| start.seq == 0),
            tree: plan.tree,
            roots: BTreeMap::new(),
            entries: plan.base,
            edge: None,
            endings: plan.endings,
            unknown: BTreeMap::new(),
            stepped_back: (0, None),
            payloads: 0,
            torn: 0,
            cut_short: false,
            last_segment: plan.base,
            skips: plan.start.is_some(),
        }
    }

    fn root(&self, size: u64) -> Option<Digest> {
        if size == 0 { Some(Frontier::new().root()) } else { self.roots.get(&size).copied() }
    }

    fn add(&mut self, scan: Scan, findings: &mut Findings<ChainRefusal>) {
        findings.extend(scan.refusals);
        if let Some(head) = &scan.head {
            let first = scan.first;
            match &self.edge {
                Some(before) => {
                    let stepped = join(before, head, first, findings);
                    if stepped {
                        self.stepped_back = (self.stepped_back.0 + 1, self.stepped_back.1.or(Some(first)));
                    }
                }
                None if self.whole && first == 0 && head.prev != genesis(&self.origin) => {
                    findings.add(ChainRefusal::GenesisDiffers { origin: self.origin.clone() });
                }
                None => {}
            }
        }
        for (size, part) in scan.stops {
            if let Some(mut whole) = self.tree.clone().filter(|tree| tree.size() == scan.first)
                && whole.append(&part)
            {
                self.roots.insert(size, whole.root());
            }
        }
        self.tree = self.tree.take().filter(|tree| tree.size() == scan.first).and_then(|mut tree| {
            let fits = tree.append(&scan.tree);
            fits.then_some(tree)
        });
        self.edge = scan.tail.or(self.edge);
        self.entries = scan.first.saturating_add(scan.count);
        self.stepped_back.0 += scan.stepped_back.0;
        self.stepped_back.1 = self.stepped_back.1.or(scan.stepped_back.1);
        self.payloads += scan.payloads;
        self.torn = scan.torn;
        self.cut_short = scan.cut_short;
        self.last_segment = scan.first;
        scan.unknown.iter().for_each(|(kind, entries)| count_unknown(&mut self.unknown, kind, *entries));
        self.endings.extend(scan.events.into_iter().filter_map(|event| match event {
            Event::Epoch { seq, number, key } => Some(Ending { seq, number, key }),
            _ => None,
        }));
    }
}

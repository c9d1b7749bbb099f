//! What is missing of a chain, and the entries that explain it: payloads that were forgotten, segments that were removed,
//! another chain before this one.

use std::num::NonZeroUsize;

use super::Fold;
use super::scanning::{Plan, scan_all};
use crate::audit::refusal::ChainRefusal;
use crate::audit::report::Remark;
use crate::audit::segment::{Event, Marks, Scan};
use crate::audit::store::Store;
use crate::audit::{SEGMENT_ENTRIES, UNSIGNED_ENTRIES_MAX, segment_path};
use crate::digest::Digest;
use crate::files::Fault;
use crate::refusal::Findings;

/// What is not there, and what the chain says about it.
#[derive(Default)]
pub(super) struct Absences {
    /// Ranges of entries whose payloads were forgotten, and the entry that says so.
    forgets: Vec<(u64, u64, u64)>,
    prunes: Vec<(u64, u64)>,
    gaps: Vec<(u64, Digest)>,
    acknowledged: Vec<(u64, Digest)>,
    missing: Vec<(u64, Marks)>,
    present: Vec<(u64, Marks)>,
}

impl Absences {
    pub(super) fn take(&mut self, scan: &mut Scan) {
        self.events(&scan.events);
        self.missing.push((scan.first, std::mem::take(&mut scan.missing)));
        self.present.push((scan.first, std::mem::take(&mut scan.present)));
    }

    fn events(&mut self, events: &[Event]) {
        for event in events {
            match event {
                // Only what lies before it can have been forgotten by it.
                Event::Forget { seq, from, until } => self.forgets.push((*from, (*until).min(*seq), *seq)),
                Event::Prune { seq, until } => {
                    self.prunes.push((*seq, *until));
                    // The payloads of a segment go before it does.
                    self.forgets.push((0, (*until).min(*seq), *seq));
                }
                Event::Gap { seq, root } => self.gaps.push((*seq, *root)),
                Event::Acknowledged { seq, root } => self.acknowledged.push((*seq, *root)),
                Event::Epoch { .. } => {}
            }
        }
    }

    fn uncovered(&self) -> bool {
        let covered = Covered::of(&self.forgets, u64::MAX);
        entries(&self.missing).any(|seq| !covered.holds(seq))
    }

    fn pruned(&self, base: u64) -> Option<u64> {
        let fits = |(seq, until): &&(u64, u64)| *until >= base && until <= seq && until.is_multiple_of(SEGMENT_ENTRIES);
        self.prunes.iter().filter(fits).map(|(seq, _)| *seq).min()
    }

    /// What was erased or removed while the rest was read is explained by entries that were appended meanwhile.
    pub(super) fn settle_late(&mut self, store: &Store, fold: &Fold, until: u64) -> Result<(), Fault> {
        if !self.uncovered() && (fold.base == 0 || fold.skips || self.pruned(fold.base).is_some()) {
            return Ok(());
        }
        let listing = store.list(false)?;
        let firsts: Vec<u64> = listing.segments.range(fold.last_segment..).copied().collect();
        let plan = Plan { base: fold.last_segment, tree: None, start: None, endings: Vec::new() };
        // As far again as the first reading went at most.
        let until = until.saturating_add(UNSIGNED_ENTRIES_MAX);
        let one = NonZeroUsize::MIN;
        for scan in scan_all(store, &plan, &firsts, until, 0, &[], one)?.unwrap_or_default() {
            let late = |event: &&Event| match event {
                Event::Forget { seq, .. } | Event::Prune { seq, .. } => *seq >= fold.entries,
                _ => false,
            };
            let late: Vec<Event> = scan.events.iter().filter(late).cloned().collect();
            self.events(&late);
        }
        Ok(())
    }

    pub(super) fn judge_pruned(
        &self,
        fold: &Fold,
        signed: u64,
        findings: &mut Findings<ChainRefusal>,
        remarks: &mut Vec<Remark>,
    ) {
        for (seq, until) in &self.prunes {
            if !until.is_multiple_of(SEGMENT_ENTRIES) || until > seq {
                let reason = "it ends within a segment, or after itself".to_owned();
                findings.add(ChainRefusal::EntryDataMalformed { seq: *seq, kind: "audit.prune".to_owned(), reason });
            }
        }
        if fold.base == 0 || fold.skips {
            return;
        }
        match self.pruned(fold.base) {
            None => findings.add(ChainRefusal::SegmentMissing { path: segment_path(0) }),
            Some(_) if fold.tree.is_none() => findings.add(ChainRefusal::PrunedTilesMissing { until: fold.base }),
            Some(seq) => remarks.push(Remark::Pruned { until: fold.base, signed: seq < signed }),
        }
    }

    pub(super) fn judge_payloads(
        &self,
        signed: u64,
        findings: &mut Findings<ChainRefusal>,
        remarks: &mut Vec<Remark>,
    ) -> u64 {
        let all = Covered::of(&self.forgets, u64::MAX);
        let sure = Covered::of(&self.forgets, signed);
        let (mut forgotten, mut unsigned, mut there) = (0, (0, None), (0, None));
        for seq in entries(&self.missing) {
            if !all.holds(seq) {
                findings.add(ChainRefusal::PayloadMissing { seq });
                continue;
            }
            forgotten += 1;
            if !sure.holds(seq) {
                unsigned = (unsigned.0 + 1, unsigned.1.or(Some(seq)));
            }
        }
        for seq in entries(&self.present).filter(|seq| all.holds(*seq)) {
            there = (there.0 + 1, there.1.or(Some(seq)));
        }
        if let (payloads, Some(first)) = unsigned {
            remarks.push(Remark::ForgottenUnsigned { payloads, first });
        }
        if let (payloads, Some(first)) = there {
            remarks.push(Remark::ForgottenButThere { payloads, first });
        }
        forgotten
    }

    pub(super) fn judge_gaps(&self, findings: &mut Findings<ChainRefusal>) {
        for (seq, root) in &self.gaps {
            if !self.acknowledged.iter().any(|(later, shown)| later > seq && shown == root) {
                findings.add(ChainRefusal::GapNotAcknowledged { seq: *seq });
            }
        }
    }
}

/// The entries of several segments, ascending.
fn entries(marks: &[(u64, Marks)]) -> impl Iterator<Item = u64> {
    marks.iter().flat_map(|(first, marks)| marks.iter().map(move |at| first + at))
}

/// Ranges that do not touch, ascending.
struct Covered(Vec<(u64, u64)>);

impl Covered {
    /// Those that entries before `signed` say.
    fn of(forgets: &[(u64, u64, u64)], signed: u64) -> Self {
        let mut ranges: Vec<(u64, u64)> =
            forgets.iter().filter(|(_, _, seq)| *seq < signed).map(|(from, until, _)| (*from, *until)).collect();
        ranges.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (from, until) in ranges {
            match joined.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(until),
                _ => joined.push((from, until)),
            }
        }
        Self(joined)
    }

    fn holds(&self, seq: u64) -> bool {
        let at = self.0.partition_point(|(from, _)| *from <= seq);
        at.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(_, until)| seq < *until)
    }
}

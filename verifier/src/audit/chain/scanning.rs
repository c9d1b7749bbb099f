//! Reads segments, several at once.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::audit::epochs::Ending;
use crate::audit::segment::{Scan, Start, Task, scan};
use crate::audit::store::{Opened, Store};
use crate::audit::tree::Frontier;
use crate::audit::{SEGMENT_ENTRIES, payload_path, segment_path};
use crate::files::Fault;

/// Where reading begins and what is known of the entries in front of it.
pub(super) struct Plan {
    /// First entry of the first segment that is read.
    pub base: u64,
    /// The tree in front of that segment; none where its hashes are not there.
    pub tree: Option<Frontier>,
    /// Where reading begins in that segment.
    pub start: Option<Start>,
    /// Entries that ended epochs and are not read.
    pub endings: Vec<Ending>,
}

/// What reading a segment gives; nothing when it is not there.
type Answer = Result<Option<Scan>, Fault>;

/// Reads the segments `firsts`; nothing when one of them is not there any more.
pub(super) fn scan_all(
    store: &Store,
    plan: &Plan,
    firsts: &[u64],
    until: u64,
    signed: u64,
    stops: &[u64],
    threads: NonZeroUsize,
) -> Result<Option<Vec<Scan>>, Fault> {
    let wanted: Vec<u64> = firsts.iter().copied().filter(|first| *first < until).collect();
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Answer)>> = Mutex::new(Vec::new());
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(first) = wanted.get(at).copied() else { break };
            let fresh = Start { offset: 0, seq: first, tree: Frontier::new() };
            let start = plan.start.clone().filter(|_| first == plan.base).unwrap_or(fresh);
            let stops = within(stops, first);
            let last = firsts.last() == Some(&first);
            let task = Task { first, start, until, last, signed, stops };
            let read = read(store, &task);
            let failed = !matches!(read, Ok(Some(_)));
            if let Ok(mut done) = done.lock() {
                done.push((at, read));
            }
            if failed {
                next.store(wanted.len(), Ordering::Relaxed);
            }
        }
    };
    let count = threads.get().min(wanted.len());
    thread::scope(|scope| {
        for _ in 1..count {
            scope.spawn(work);
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, read)| read).collect()
}

/// Stops in one segment: its end is the next one's beginning and belongs to it.
fn within(stops: &[u64], first: u64) -> &[u64] {
    let from = stops.partition_point(|stop| *stop <= first);
    let until = stops.partition_point(|stop| *stop <= first.saturating_add(SEGMENT_ENTRIES));
    stops.get(from..until).unwrap_or_default()
}

fn read(store: &Store, task: &Task<'_>) -> Answer {
    let (path, payload_path) = (segment_path(task.first), payload_path(task.first));
    // Payloads are written before their entries and erased after the entry that says so.
    let payloads = match store.file(&payload_path)? {
        Opened::File(file) => Some(file),
        Opened::Absent | Opened::NotRegular => None,
    };
    match store.file(&path)? {
        Opened::File(file) => {
            let read = scan(&file, payloads.as_ref(), &path, &payload_path, task);
            read.map(Some).map_err(store.unreadable(&path))
        }
        Opened::Absent | Opened::NotRegular => Ok(None),
    }
}

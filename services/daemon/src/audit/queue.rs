//! The bounded queue of `async` entries, and the thread that sends them, one after the other.

use super::link::{Wire, locked};
use super::{AuditError, QUEUE_ENTRIES_MAX, Waits};
use crate::report::{self, Priority};
use secai_api::audit::{Append, Reply, Request};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Queue {
    shared: Arc<Shared>,
    waits: Waits,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Any change of `state`.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Request>,
    /// One has left `entries` and its answer is not there.
    under_way: bool,
    /// Entries that are not known to be kept.
    lost: u64,
    /// Nothing more comes in; the thread ends once all are sent.
    ending: bool,
    /// The thread ends now.
    giving_up: bool,
}

impl State {
    fn idle(&self) -> bool {
        self.entries.is_empty() && !self.under_way
    }
}

impl Queue {
    pub(super) fn start(wire: Arc<Wire>, waits: Waits) -> Result<Self, AuditError> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("audit-queue".into())
            .spawn(move || of_thread.send_all(&wire, waits.again))
            .map_err(|_| AuditError::NoThread)?;
        Ok(Self { shared, waits, thread: Some(thread) })
    }

    /// Waits for room, then queues.
    pub(super) fn push(&self, append: Append) -> Result<(), AuditError> {
        let full = |state: &mut State| state.entries.len() >= QUEUE_ENTRIES_MAX && !state.ending;
        let state = locked(&self.shared.state);
        let (mut state, _) = self
            .shared
            .changed
            .wait_timeout_while(state, self.waits.queue, full)
            .unwrap_or_else(PoisonError::into_inner);
        if state.ending {
            return Err(AuditError::NoThread);
        }
        if full(&mut state) {
            return Err(AuditError::QueueFull);
        }
        state.entries.push_back(Request::Append(append));
        self.shared.changed.notify_all();
        Ok(())
    }

    pub(super) fn lost(&self) -> u64 {
        locked(&self.shared.state).lost
    }

    pub(super) fn wait_until_empty(&self, within: Duration) -> bool {
        let state = locked(&self.shared.state);
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(state, within, |state| !state.idle())
            .unwrap_or_else(PoisonError::into_inner);
        state.idle()
    }

    /// Ends the thread, after it has sent what it could within the bound; `interrupt` ends the wait for an answer.
    pub(super) fn end(&mut self, interrupt: impl FnOnce()) {
        let Some(thread) = self.thread.take() else { return };
        locked(&self.shared.state).ending = true;
        self.shared.changed.notify_all();
        if !self.wait_until_empty(self.waits.flush) {
            locked(&self.shared.state).giving_up = true;
            self.shared.changed.notify_all();
            interrupt();
        }
        // A thread that panicked has nothing more to send.
        let _ = thread.join();
        let mut state = locked(&self.shared.state);
        let left = state.entries.len();
        state.entries.clear();
        if left > 0 {
            state.lost += left as u64;
            report::say(Priority::Warning, &format!("{left} audit entries were not sent before the end"));
        }
    }
}

impl Shared {
    fn send_all(&self, wire: &Wire, again: Duration) {
        loop {
            let state = locked(&self.state);
            let nothing_to_do = |state: &mut State| state.entries.is_empty() && !state.ending && !state.giving_up;
            let mut state = self.changed.wait_while(state, nothing_to_do).unwrap_or_else(PoisonError::into_inner);
            if state.giving_up {
                return;
            }
            let Some(request) = state.entries.pop_front() else { return };
            state.under_way = true;
            drop(state);

            let asked = wire.ask(&request);

            let mut state = locked(&self.state);
            state.under_way = false;
            match asked {
                Ok((Reply::Appended { .. }, _)) => {}
                // It is certain that the daemon did not take it: no second sending.
                Err(error) if error.is_for_now() => {
                    state.entries.push_front(request);
                    let _ = self.changed.wait_timeout_while(state, again, |state| !state.giving_up);
                    continue;
                }
                other => {
                    state.lost += 1;
                    drop(state);
                    let why = match other {
                        Err(error) => report::told(&error),
                        Ok(_) => report::told(&wire.distrust()),
                    };
                    report::say(Priority::Warning, &format!("an audit entry is not known to be kept\n{why}"));
                }
            }
            self.changed.notify_all();
        }
    }
}

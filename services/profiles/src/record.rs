//! Entries of the audit chain: those that must be there before something happens, and those about what has happened.

use secai_daemon::audit::{AuditClient, AuditError, Receipt, Waits};
use secai_daemon::report::{Priority, say};
use secai_verifier::audit::kind::Data;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

/// Entries that wait for an audit daemon that is away: days of a person's changes.
const WAITING_MAX: usize = 256;
/// Between two tries to reach it.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

type Entry = Box<dyn Fn(&AuditClient) -> Result<Receipt, AuditError> + Send>;

/// Writes entries.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    socket: PathBuf,
    waits: Waits,
    client: Mutex<Option<AuditClient>>,
    waiting: Mutex<VecDeque<Entry>>,
    woken: Condvar,
}

impl Recorder {
    /// For the daemon at this socket, with a thread for what waits.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn start(socket: &Path, waits: Waits) -> std::io::Result<Self> {
        let inner = Inner {
            socket: socket.to_owned(),
            waits,
            client: Mutex::new(None),
            waiting: Mutex::new(VecDeque::new()),
            woken: Condvar::new(),
        };
        let recorder = Self(Arc::new(inner));
        let thread = recorder.clone();
        thread::Builder::new().name("recorder".to_owned()).spawn(move || thread.forever())?;
        Ok(recorder)
    }

    /// Returns when the entry is on the disk, and everything that waited before it.
    ///
    /// # Errors
    /// [`AuditError`]: what was to be recorded must not happen.
    pub fn before<D: Data>(&self, data: &D) -> Result<(), AuditError> {
        let mut client = locked(&self.0.client);
        self.drain(&mut client)?;
        self.with(&mut client, |client| client.record(data, None)).map(drop)
    }

    /// Of a request that was refused: where many entries wait already, what was done is worth more.
    pub fn after_if_room<D: Data + Send + 'static>(&self, data: D) {
        if self.waiting() < WAITING_MAX / 2 {
            self.after(data);
        }
    }

    /// Of what has happened, or must happen in any case: recorded as soon as it can be.
    pub fn after<D: Data + Send + 'static>(&self, data: D) {
        let mut waiting = locked(&self.0.waiting);
        if waiting.len() >= WAITING_MAX {
            waiting.pop_front();
            say(Priority::Error, "an entry was lost: too many wait for the audit daemon");
        }
        waiting.push_back(Box::new(move |client| client.record(&data, None)));
        self.0.woken.notify_one();
    }

    /// How many entries wait.
    pub fn waiting(&self) -> usize {
        locked(&self.0.waiting).len()
    }

    /// Waits until none does and none is on its way, for as long as this.
    pub fn flush(&self, within: Duration) {
        let until = Instant::now() + within;
        while Instant::now() < until {
            // Whoever sends an entry holds the client.
            let client = match self.0.client.try_lock() {
                Ok(client) => Some(client),
                Err(TryLockError::Poisoned(client)) => Some(client.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            };
            if let Some(client) = client.filter(|_| self.waiting() == 0) {
                let left = until.saturating_duration_since(Instant::now());
                if let Some(Err(error)) = client.as_ref().map(|client| client.flush(left)) {
                    say(Priority::Error, &format!("entries may be lost: {error}"));
                }
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn forever(&self) {
        loop {
            let waiting = locked(&self.0.waiting);
            let waiting = self.0.woken.wait_while(waiting, |waiting| waiting.is_empty());
            drop(waiting.unwrap_or_else(PoisonError::into_inner));
            let drained = self.drain(&mut locked(&self.0.client));
            if drained.is_err() {
                thread::sleep(AGAIN_AFTER);
            }
        }
    }

    /// Writes what waits, in its order. Nothing is sent twice: what may be there already is not tried again.
    fn drain(&self, client: &mut Option<AuditClient>) -> Result<(), AuditError> {
        loop {
            let Some(entry) = locked(&self.0.waiting).pop_front() else { return Ok(()) };
            match self.with(client, &entry) {
                Ok(_) => {}
                Err(error @ (AuditError::Unreachable { .. } | AuditError::Refused { .. })) if !is_final(&error) => {
                    locked(&self.0.waiting).push_front(entry);
                    return Err(error);
                }
                Err(error) => {
                    say(Priority::Error, &format!("an entry may be lost: {error}"));
                    // A daemon that hangs would cost its whole time for each of the others as well.
                    if matches!(error, AuditError::Lost | AuditError::TimedOut(_)) {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn with<T>(
        &self,
        client: &mut Option<AuditClient>,
        act: impl FnOnce(&AuditClient) -> Result<T, AuditError>,
    ) -> Result<T, AuditError> {
        let connected = match client.take() {
            Some(connected) => connected,
            None => AuditClient::connect_waiting(&self.0.socket, self.0.waits)?,
        };
        act(client.insert(connected))
    }
}

/// Would the daemon say the same another time?
fn is_final(error: &AuditError) -> bool {
    use secai_api::audit::Why;
    matches!(
        error,
        AuditError::Refused { why: Why::Malformed | Why::UnknownKind | Why::WrongData | Why::NotAllowed, .. }
    )
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked with it left it whole: nothing here is changed in two steps.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

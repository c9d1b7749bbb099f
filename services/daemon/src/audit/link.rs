//! One connection at a time to the audit daemon, requests and answers matched by number.

use super::{AuditError, Waits};
use crate::packet::{Buffer, Connection, PacketError, Received};
use secai_api::audit::{Answered, Reply, Request};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Connects.
pub(super) fn reach(path: &Path, wait: Duration) -> Result<Connection, AuditError> {
    Connection::connect(path, wait).map_err(|source| AuditError::Unreachable { path: path.into(), source })
}

/// What is behind the mutex holds between any two statements.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A reply and what lay beside it, or why there is none.
type Outcome = Result<(Reply, Option<OwnedFd>), Broken>;

#[derive(Debug, Clone, Copy)]
enum Broken {
    Lost,
    Garbled,
}

impl From<Broken> for AuditError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Lost => Self::Lost,
            Broken::Garbled => Self::Garbled,
        }
    }
}

/// The way to the daemon, whichever connection it is at the moment.
#[derive(Debug)]
pub(super) struct Wire {
    path: PathBuf,
    waits: Waits,
    /// The number of the next request, on whichever connection; 0 is the daemon's, for what it could not read.
    next: Arc<AtomicU64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    link: Arc<Link>,
    /// No more connections: the client is being dropped.
    ended: bool,
}

#[derive(Debug)]
struct Link {
    connection: Connection,
    /// Who waits for which number; none once the connection has ended.
    waiting: Mutex<Option<HashMap<u64, SyncSender<Outcome>>>>,
}

impl Wire {
    pub(super) fn new(path: &Path, waits: Waits, connection: Connection) -> Result<Self, AuditError> {
        let next = Arc::new(AtomicU64::new(1));
        let link = Link::start(connection, &next, waits)?;
        Ok(Self { path: path.into(), waits, next, state: Mutex::new(State { link, ended: false }) })
    }

    /// Sends a request and waits for its answer.
    pub(super) fn ask(&self, request: &Request) -> Result<(Reply, Option<OwnedFd>), AuditError> {
        let link = self.link()?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let packet = packet(id, request).map_err(AuditError::NoPacket)?;
        let (answer, answered) = sync_channel(1);
        let unreachable = |source| AuditError::Unreachable { path: self.path.clone(), source };
        match &mut *locked(&link.waiting) {
            Some(waiting) => waiting.insert(id, answer),
            None => return Err(unreachable(PacketError::Ended)),
        };
        if let Err(source) = link.connection.send(&packet, None) {
            link.forget(id);
            return Err(unreachable(source));
        }
        match answered.recv_timeout(self.waits.answer) {
            Ok(Ok((Reply::Refused { why, message }, _))) => Err(AuditError::Refused { why, message }),
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(broken)) => Err(broken.into()),
            Err(RecvTimeoutError::Timeout) => {
                // An answer that comes after all finds nobody.
                link.forget(id);
                Err(AuditError::TimedOut(self.waits.answer))
            }
            Err(RecvTimeoutError::Disconnected) => Err(AuditError::Lost),
        }
    }

    /// The connection, made anew where the last one has ended.
    fn link(&self) -> Result<Arc<Link>, AuditError> {
        let mut state = locked(&self.state);
        if locked(&state.link.waiting).is_none() {
            if state.ended {
                return Err(AuditError::NoThread);
            }
            // Others wait behind this, and would only try the same.
            state.link = Link::start(reach(&self.path, self.waits.connect)?, &self.next, self.waits)?;
        }
        Ok(Arc::clone(&state.link))
    }

    /// Ends a connection on which an answer came that fits no request of its kind.
    pub(super) fn distrust(&self) -> AuditError {
        locked(&self.state).link.break_off(Broken::Garbled);
        AuditError::Garbled
    }

    /// Ends the connection for good.
    pub(super) fn end(&self) {
        let mut state = locked(&self.state);
        state.ended = true;
        state.link.break_off(Broken::Lost);
    }
}

/// As [`secai_api::audit::Asked`], which owns its request.
fn packet(id: u64, request: &Request) -> Result<Vec<u8>, secai_api::audit::PacketError> {
    #[derive(serde::Serialize)]
    struct Asking<'a> {
        id: u64,
        ask: &'a Request,
    }
    secai_api::audit::to_packet(&Asking { id, ask: request })
}

impl Link {
    fn start(connection: Connection, next: &Arc<AtomicU64>, waits: Waits) -> Result<Arc<Self>, AuditError> {
        // The bound of a connection that somebody else made.
        let _ = connection.limit_sends(waits.connect);
        let link = Arc::new(Self { connection, waiting: Mutex::new(Some(HashMap::new())) });
        let (reader, next) = (Arc::clone(&link), Arc::clone(next));
        std::thread::Builder::new()
            .name("audit-answers".into())
            .spawn(move || {
                let broken = reader.read(&next);
                reader.break_off(broken);
            })
            .map_err(|_| AuditError::NoThread)?;
        Ok(link)
    }

    /// Hands out answers until the connection ends.
    fn read(&self, next: &AtomicU64) -> Broken {
        let mut buffer = Buffer::new();
        loop {
            let (bytes, descriptor) = match self.connection.receive_with_descriptor(&mut buffer) {
                Ok(Received::Packet(bytes)) => (bytes, None),
                Ok(Received::PacketWith(bytes, descriptor)) => (bytes, Some(descriptor)),
                Ok(Received::End | Received::NotYet) | Err(PacketError::Ended | PacketError::Io(_)) => {
                    return Broken::Lost;
                }
                Err(_) => return Broken::Garbled,
            };
            let Ok(Answered { id, answer }) = secai_api::audit::from_packet(bytes) else { return Broken::Garbled };
            if matches!(answer, Reply::Opened {}) != descriptor.is_some() {
                return Broken::Garbled;
            }
            let Some(waiting) = self.forget(id) else {
                // Too late: whoever asked has given up. Anything else was never asked.
                if (1..next.load(Ordering::Relaxed)).contains(&id) {
                    continue;
                }
                return Broken::Garbled;
            };
            // There is room for one, and only one is sent; who does not wait any more needs none.
            let _ = waiting.try_send(Ok((answer, descriptor)));
        }
    }

    fn forget(&self, id: u64) -> Option<SyncSender<Outcome>> {
        locked(&self.waiting).as_mut()?.remove(&id)
    }

    /// Ends the connection, and tells all who wait.
    fn break_off(&self, broken: Broken) {
        self.connection.end();
        for waiting in locked(&self.waiting).take().into_iter().flatten() {
            let _ = waiting.1.try_send(Err(broken));
        }
    }
}

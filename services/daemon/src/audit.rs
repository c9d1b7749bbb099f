//! The client of `secai-audit`. No entry, no act: after any error of [`AuditClient::record`] the caller must not do
//! what it wanted recorded.
//!
//! **At most once.** No request is ever sent a second time. A connection that ends takes the requests under way with
//! it ([`AuditError::Lost`]: the entry may be there or not); the next call connects anew.
//!
//! Kinds of class `sync` block until the entry is on the disk. Kinds of class `async` are about what has happened
//! anyway: they go into a bounded queue and come in their own order, not in that of `sync` entries. What of them could
//! not be recorded is counted ([`AuditClient::lost`]) and said in the journal.

mod link;
mod queue;

use crate::packet::{Connection, PacketError};
use crate::report::Hint;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use link::Wire;
use queue::Queue;
use secai_api::audit::kind::{self, Class, Data};
use secai_api::audit::{Append, Reply, Request, Why};
use serde_json::value::RawValue;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// `async` entries that wait to be sent: a second of a busy service's, some hundred KiB.
pub const QUEUE_ENTRIES_MAX: usize = 1024;

/// How long a caller waits, at most.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// For the daemon to take a connection, or a packet.
    pub connect: Duration,
    /// For an answer: the daemon waits for its disk.
    pub answer: Duration,
    /// For room in the queue of `async` entries.
    pub queue: Duration,
    /// For that queue to empty when the client is dropped.
    pub flush: Duration,
    /// Before the queue tries a daemon again that is gone or busy.
    pub again: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            // A disk that takes longer for one write is as good as broken, and a person waits behind this.
            answer: Duration::from_secs(10),
            queue: Duration::from_secs(2),
            // Well below the 90 seconds after which systemd kills.
            flush: Duration::from_secs(2),
            again: Duration::from_millis(200),
        }
    }
}

/// Why an entry is not known to be there. The caller must not act.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// No connection. Nothing was sent.
    #[error("the audit daemon cannot be reached at {path}")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: PacketError,
    },
    /// The connection ended before the answer. The entry may be there or not.
    #[error("the audit daemon went away before it answered")]
    Lost,
    /// No answer in time. The entry may be there or not.
    #[error("the audit daemon did not answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The daemon said no. Nothing was written.
    #[error("the audit daemon refused ({why:?}): {message}")]
    Refused {
        /// For programs.
        why: Why,
        /// For people.
        message: String,
    },
    /// The daemon's answer is none to this request. The connection was ended.
    #[error("the audit daemon answered something else than it was asked")]
    Garbled,
    /// Data or payload do not make a packet. Nothing was sent.
    #[error("the entry does not fit into a packet")]
    NoPacket(#[source] secai_api::audit::PacketError),
    /// The queue stayed full. Nothing was sent.
    #[error("{QUEUE_ENTRIES_MAX} entries wait for the audit daemon")]
    QueueFull,
    /// The client is being dropped, or its thread could not be started. Nothing was sent.
    #[error("the audit client has no thread to send with")]
    NoThread,
}

impl AuditError {
    /// Is it certain that nothing was written, and may the daemon take it later?
    fn is_for_now(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Refused { why: Why::Busy, .. })
    }
}

impl Hint for AuditError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Refused { why: Why::Gap, .. } => "see `secaictl audit show`, then `secaictl audit acknowledge`",
            Self::Refused { why: Why::DiskFull, .. } => "make room below /var, then try again",
            Self::Refused { why: Why::NotAllowed, .. } => {
                "the page of this service below manifests/services says what it may write"
            }
            Self::Refused { .. } | Self::NoPacket(_) => return None,
            _ => "see `systemctl status secure-ai-audit`",
        };
        Some(hint.into())
    }
}

/// The daemon's word that an entry is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Its place; none for kinds of class `async`, which are queued here and may still be lost.
    pub seq: Option<u64>,
}

/// A client; any number of threads may share one. It has threads of its own: enter the sandbox before making one.
#[derive(Debug)]
pub struct AuditClient {
    wire: Arc<Wire>,
    queue: Queue,
}

impl AuditClient {
    /// Connects to the daemon at `path` ([`secai_api::audit::SOCKET`] on a device).
    ///
    /// # Errors
    /// [`AuditError::Unreachable`].
    pub fn connect(path: &Path) -> Result<Self, AuditError> {
        Self::connect_waiting(path, Waits::default())
    }

    /// As [`Self::connect`], with other bounds.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_waiting(path: &Path, waits: Waits) -> Result<Self, AuditError> {
        let connection = link::reach(path, waits.connect)?;
        Self::over(connection, path, waits)
    }

    /// Takes a connection that was made before the sandbox was entered; `path` is where to connect after a loss.
    ///
    /// # Errors
    /// [`AuditError::NoThread`].
    pub fn over(connection: Connection, path: &Path, waits: Waits) -> Result<Self, AuditError> {
        let wire = Arc::new(Wire::new(path, waits, connection)?);
        let queue = Queue::start(Arc::clone(&wire), waits)?;
        Ok(Self { wire, queue })
    }

    /// Records an entry; `payload` for the kinds that have one. Returns when it is as safe as its kind's class says.
    ///
    /// # Errors
    /// [`AuditError`]; the caller must not do what it wanted recorded.
    pub fn record<D: Data>(&self, data: &D, payload: Option<&[u8]>) -> Result<Receipt, AuditError> {
        let append = append(data, payload).map_err(AuditError::NoPacket)?;
        // A kind that is in no table is refused by the daemon; until then the caller waits.
        match kind::find(D::KIND).map(|kind| kind.class) {
            Some(Class::Async) => {
                self.queue.push(append)?;
                Ok(Receipt { seq: None })
            }
            Some(Class::Sync) | None => match self.ask(&Request::Append(append))? {
                (Reply::Appended { seq: Some(seq) }, None) => Ok(Receipt { seq: Some(seq) }),
                // Without a place it is only queued.
                _ => Err(self.wire.distrust()),
            },
        }
    }

    /// Asks anything; the descriptor is that of [`Reply::Opened`]. A refusal is an error.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn ask(&self, request: &Request) -> Result<(Reply, Option<OwnedFd>), AuditError> {
        self.wire.ask(request)
    }

    /// `async` entries that were queued and are not known to be kept, since the client was made.
    pub fn lost(&self) -> u64 {
        self.queue.lost()
    }

    /// Waits until no `async` entry is queued, at most for `within`.
    ///
    /// # Errors
    /// [`AuditError::TimedOut`].
    pub fn flush(&self, within: Duration) -> Result<(), AuditError> {
        if self.queue.wait_until_empty(within) { Ok(()) } else { Err(AuditError::TimedOut(within)) }
    }
}

impl Drop for AuditClient {
    /// Sends what is queued, for as long as [`Waits::flush`]; the rest is lost, and said.
    fn drop(&mut self) {
        self.queue.end(|| self.wire.end());
        self.wire.end();
    }
}

fn append<D: Data>(data: &D, payload: Option<&[u8]>) -> Result<Append, secai_api::audit::PacketError> {
    // By way of a value, whose keys are sorted: the canonical rendering where there are only integers, which the
    // daemon checks.
    let text = serde_json::to_string(&serde_json::to_value(data)?)?;
    let data = RawValue::from_string(text)?;
    let append = Append { kind: D::KIND.into(), data, payload: payload.map(|payload| STANDARD.encode(payload)) };
    // Known here, so that it is not queued first. The number has no more digits than this.
    secai_api::audit::to_packet(&(u64::MAX, &append)).and_then(|packet| {
        let room = secai_api::PACKET_BYTES_MAX - ENVELOPE_BYTES;
        if packet.len() > room { Err(secai_api::audit::PacketError::TooLong) } else { Ok(()) }
    })?;
    Ok(append)
}

/// What a request has around an entry: `{"id":…,"ask":{"append":…}}`, less than this.
const ENVELOPE_BYTES: usize = 64;

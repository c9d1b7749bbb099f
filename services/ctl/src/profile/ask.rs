//! One connection to the profiles service: a request, and its answer within a time.

use crate::output::plain;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use secai_api::packet::{from_packet, to_packet};
use secai_api::profiles::{Answered, Evidence, Reply, Request, Why};
use secai_daemon::packet::{Buffer, Connection, PacketError, Received};
use secai_daemon::report::Hint;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// For the service to take a connection, or a packet.
const CONNECT_WAIT: Duration = Duration::from_secs(2);

/// Why the profiles service did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ProfilesError {
    /// No connection. Nothing was sent.
    #[error("the profiles service cannot be reached at {}", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: PacketError,
    },
    /// What was asked does not fit into a packet. Nothing was sent.
    #[error("that is longer than any name of a profile, or token")]
    NoPacket(#[source] secai_api::packet::PacketError),
    /// The connection ended before the answer.
    #[error("the profiles service went away before it answered")]
    Lost,
    /// No answer in time.
    #[error("the profiles service did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// It answered what cannot be.
    #[error("the profiles service answered something else than it was asked")]
    Garbled,
    /// It said no.
    #[error("the profiles service refused ({}): {message}", why.word())]
    Refused {
        /// For programs.
        why: Why,
        /// For people; harmless to print.
        message: String,
    },
}

/// What came of asking.
pub type Asked<T> = Result<T, ProfilesError>;

impl Hint for ProfilesError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unreachable { .. } => "see `systemctl status secure-ai-profiles.socket`",
            Self::Lost | Self::TimedOut(_) => {
                "it may have been done or not: `secaictl profile show` says which profile holds"
            }
            Self::Garbled => "is another version of the service running? See `systemctl status secure-ai-profiles`",
            Self::NoPacket(_) => "`secaictl profile show` lists the profiles",
            Self::Refused { why, .. } => of(*why),
        };
        Some(hint.to_owned())
    }
}

/// What to do about a refusal.
const fn of(why: Why) -> &'static str {
    match why {
        Why::Malformed => "is another version of the service running? See `systemctl status secure-ai-profiles`",
        Why::NotAllowed => "manifests/services/profiles.yml says which users may ask for what",
        Why::UnknownProfile => "`secaictl profile show` lists the profiles of this image",
        Why::UnitsMissing => "this image cannot have that profile: take one whose recipe names those services",
        Why::TokenUnknown | Why::TokenExpired | Why::TokenOfAnother | Why::TokenForAnother | Why::TokenOutdated => {
            "nothing was changed; `secaictl profile apply NAME` without --token shows what it means now, and asks anew"
        }
        Why::NotAPerson => {
            "nothing was changed; do it at the device's own terminal, in the foreground, not over ssh and not with sudo, which has a terminal of its own; the operator can allow it without a person in /etc/secure-ai/operator.yml"
        }
        Why::NotConfirmed => "nothing was changed; the profile's name is to be typed at the terminal within 60 seconds",
        Why::NotRecorded => "what loosens is recorded first or not done; see `secaictl audit status`",
        Why::Busy => "another change is under way: try again once `secaictl profile show` answers",
        Why::Failed => "see `secaictl profile show`, and `journalctl -u secure-ai-profiles`",
    }
}

/// The service, connected.
pub struct Service {
    connection: Connection,
    path: PathBuf,
    /// Of the next request; 0 is the service's, for what it could not read.
    next: u64,
}

impl Service {
    /// Connects.
    pub fn reach(path: &Path) -> Asked<Self> {
        let unreachable = |source| ProfilesError::Unreachable { path: path.to_owned(), source };
        let connection = Connection::connect(path, CONNECT_WAIT).map_err(unreachable)?;
        Ok(Self { connection, path: path.to_owned(), next: 1 })
    }

    /// Asks, with a terminal beside it where one is given. A refusal is an error.
    pub fn ask(&mut self, ask: Request, terminal: Option<&OwnedFd>, wait: Duration) -> Asked<Reply> {
        let id = self.next;
        self.next += 1;
        let packet = to_packet(&secai_api::profiles::Asked { id, ask }).map_err(ProfilesError::NoPacket)?;
        self.connection.send(&packet, terminal.map(AsFd::as_fd)).map_err(|error| match error {
            PacketError::Ended => ProfilesError::Lost,
            source => ProfilesError::Unreachable { path: self.path.clone(), source },
        })?;
        let mut buffer = Buffer::new();
        let Answered { id: of, answer } = self.answer(&mut buffer, wait)?;
        match answer {
            // What it could not read has no number.
            Reply::Refused { why, message } if of == id || of == 0 => {
                Err(ProfilesError::Refused { why, message: plain(&message) })
            }
            answer if of == id => Ok(answer),
            _ => Err(ProfilesError::Garbled),
        }
    }

    /// The profile in force, rules and links, which come in a file beside the answer.
    pub fn evidence(&mut self, wait: Duration) -> Asked<Evidence> {
        let id = self.next;
        self.next += 1;
        let ask = secai_api::profiles::Asked { id, ask: Request::Evidence {} };
        let packet = to_packet(&ask).map_err(ProfilesError::NoPacket)?;
        self.connection.send(&packet, None).map_err(|_| ProfilesError::Lost)?;
        self.wait(Instant::now().checked_add(wait), wait)?;
        let mut buffer = Buffer::new();
        let (packet, beside) = match self.connection.receive_with_descriptor(&mut buffer) {
            Ok(Received::Packet(packet)) => (packet, None),
            Ok(Received::PacketWith(packet, beside)) => (packet, Some(beside)),
            Ok(Received::NotYet | Received::End) | Err(_) => return Err(ProfilesError::Lost),
        };
        let Answered { id: of, answer } = from_packet(packet).map_err(|_| ProfilesError::Garbled)?;
        match (answer, beside) {
            (Reply::Refused { why, message }, _) => Err(ProfilesError::Refused { why, message: plain(&message) }),
            (Reply::Evidence {}, Some(beside)) if of == id => read(beside),
            _ => Err(ProfilesError::Garbled),
        }
    }

    /// Until there is something to read.
    fn wait(&self, until: Option<Instant>, wait: Duration) -> Asked<()> {
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let left =
                left.map(|left| Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() });
            match poll(&mut [PollFd::new(&self.connection, PollFlags::IN)], left.as_ref()) {
                Ok(0) => return Err(ProfilesError::TimedOut(wait)),
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Err(ProfilesError::Lost),
            }
        }
    }

    fn answer(&self, buffer: &mut Buffer, wait: Duration) -> Asked<Answered> {
        let until = Instant::now().checked_add(wait);
        loop {
            self.wait(until, wait)?;
            match self.connection.try_receive(buffer) {
                Ok(Received::NotYet) => {}
                Ok(Received::Packet(packet)) => return from_packet(packet).map_err(|_| ProfilesError::Garbled),
                Ok(Received::PacketWith(..)) | Err(PacketError::TooLong | PacketError::Descriptors) => {
                    return Err(ProfilesError::Garbled);
                }
                Ok(Received::End) | Err(_) => return Err(ProfilesError::Lost),
            }
        }
    }
}

/// Rules and links as long as they may be, and what JSON adds to them.
const EVIDENCE_BYTES_MAX: u64 = 64 << 20;

/// From its beginning, wherever its writer stopped; a pipe, which could keep us waiting, is none.
fn read(beside: OwnedFd) -> Asked<Evidence> {
    let file = File::from(beside);
    let found = file.metadata().ok().filter(|found| found.is_file() && found.len() <= EVIDENCE_BYTES_MAX);
    let length = found.and_then(|found| usize::try_from(found.len()).ok()).ok_or(ProfilesError::Garbled)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0).map_err(|_| ProfilesError::Garbled)?;
    serde_json::from_slice(&bytes).map_err(|_| ProfilesError::Garbled)
}

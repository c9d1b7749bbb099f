//! Asks the profiles service which rules and links there are: this one has no right to list them.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use secai_api::packet::{from_packet, to_packet};
use secai_api::profiles::{Answered, Asked, Evidence, Reply, Request};
use secai_daemon::packet::{Buffer, Connection, PacketError, Received};
use secai_verifier::network::links::LINKS_BYTES_MAX;
use secai_verifier::network::parse::TEXT_BYTES_MAX;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// For the service to take a connection or a packet: it waits for nothing while it does.
const TAKEN_WITHIN: Duration = Duration::from_secs(1);
/// For its answer: it runs nft and ip, and may be in the middle of a change.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// Both texts as JSON, in which a character has at most six bytes; and what is around them.
const EVIDENCE_BYTES_MAX: usize = 6 * (TEXT_BYTES_MAX + LINKS_BYTES_MAX) + 4096;

/// Why it is not known which rules there are.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// No connection.
    #[error("the profiles service cannot be reached at {}", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: PacketError,
    },
    /// The connection failed.
    #[error("the profiles service went away before it answered")]
    Lost(#[from] PacketError),
    /// It ended.
    #[error("the profiles service ended the connection")]
    Ended,
    /// No answer.
    #[error("the profiles service did not answer within {} s", ANSWERED_WITHIN.as_secs())]
    TimedOut,
    /// It said no.
    #[error("the profiles service refused ({why}): {message}")]
    Refused {
        /// For programs.
        why: String,
        /// For people.
        message: String,
    },
    /// Its answer is none to this request.
    #[error("the profiles service answered something else than it was asked")]
    Garbled,
    /// What lies beside the answer cannot be read.
    #[error("what the profiles service handed over cannot be read")]
    Unreadable(#[source] io::Error),
    /// It is too long, or not of the form.
    #[error("what the profiles service handed over is no list of rules and links")]
    NoEvidence,
}

/// A connection to the service.
#[derive(Debug)]
pub struct Source {
    connection: Connection,
    asked: u64,
}

impl Source {
    /// Connects.
    ///
    /// # Errors
    /// [`EvidenceError::Unreachable`].
    pub fn connect(path: &Path) -> Result<Self, EvidenceError> {
        let unreachable = |source| EvidenceError::Unreachable { path: path.to_owned(), source };
        Ok(Self { connection: Connection::connect(path, TAKEN_WITHIN).map_err(unreachable)?, asked: 0 })
    }

    /// What there is now.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn ask(&mut self) -> Result<Evidence, EvidenceError> {
        self.asked += 1;
        let asked = Asked { id: self.asked, ask: Request::Evidence {} };
        self.connection.send(&to_packet(&asked).map_err(|_| EvidenceError::Garbled)?, None)?;
        self.wait()?;
        let mut buffer = Buffer::new();
        let (packet, beside) = match self.connection.receive_with_descriptor(&mut buffer)? {
            Received::Packet(packet) => (packet, None),
            Received::PacketWith(packet, beside) => (packet, Some(beside)),
            Received::NotYet | Received::End => return Err(EvidenceError::Ended),
        };
        let Answered { id, answer } = from_packet(packet).map_err(|_| EvidenceError::Garbled)?;
        match (answer, beside) {
            (Reply::Refused { why, message }, _) => Err(EvidenceError::Refused { why: why.word(), message }),
            (Reply::Evidence {}, Some(beside)) if id == self.asked => read(beside),
            _ => Err(EvidenceError::Garbled),
        }
    }

    fn wait(&self) -> Result<(), EvidenceError> {
        let until = Instant::now() + ANSWERED_WITHIN;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.connection, PollFlags::IN)], Some(&left)) {
                Ok(0) => return Err(EvidenceError::TimedOut),
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(EvidenceError::Unreadable(errno.into())),
            }
        }
    }
}

/// From its beginning, wherever its writer stopped; a pipe, which could keep us waiting, is none.
fn read(beside: OwnedFd) -> Result<Evidence, EvidenceError> {
    let file = File::from(beside);
    let found = file.metadata().map_err(EvidenceError::Unreadable)?;
    let length = usize::try_from(found.len()).ok().filter(|length| *length <= EVIDENCE_BYTES_MAX && found.is_file());
    let mut bytes = vec![0; length.ok_or(EvidenceError::NoEvidence)?];
    file.read_exact_at(&mut bytes, 0).map_err(EvidenceError::Unreadable)?;
    serde_json::from_slice(&bytes).map_err(|_| EvidenceError::NoEvidence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn file(bytes: &[u8]) -> OwnedFd {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.into()
    }

    #[test]
    fn evidence_is_read_whole_from_its_beginning() {
        let told = r#"{"profile":"research","ruleset":"table x","links":"[]"}"#;
        assert_eq!(read(file(told.as_bytes())).unwrap().ruleset, "table x");
        for bad in ["", "{}", "[]", &told[1..], &format!("{told}x")] {
            assert!(matches!(read(file(bad.as_bytes())), Err(EvidenceError::NoEvidence)), "{bad}");
        }
        let (pipe, _writer) = io::pipe().unwrap();
        assert!(matches!(read(pipe.into()), Err(EvidenceError::NoEvidence)), "nobody waits for a pipe");
        let sparse = tempfile::tempfile().unwrap();
        sparse.set_len(EVIDENCE_BYTES_MAX as u64 + 1).unwrap();
        assert!(matches!(read(sparse.into()), Err(EvidenceError::NoEvidence)));
    }

    #[test]
    fn an_answer_to_something_else_is_none() {
        let reply = |text: &str, beside: bool| {
            let (one, other) = Connection::pair().unwrap();
            let told = file(br#"{"profile":"research","ruleset":"","links":"[]"}"#);
            other.send(text.as_bytes(), beside.then_some(std::os::fd::AsFd::as_fd(&told))).unwrap();
            Source { connection: one, asked: 0 }.ask()
        };
        assert!(reply(r#"{"id":1,"answer":{"evidence":{}}}"#, true).is_ok());
        for (text, beside) in [
            (r#"{"id":1,"answer":{"evidence":{}}}"#, false),
            (r#"{"id":2,"answer":{"evidence":{}}}"#, true),
            (r#"{"id":1,"answer":{"applied":{"profile":"x","digest":"x","ends_after_s":null}}}"#, true),
            ("{}", true),
        ] {
            assert!(matches!(reply(text, beside), Err(EvidenceError::Garbled)), "{text}");
        }
        let no = reply(r#"{"id":1,"answer":{"refused":{"why":"not_allowed","message":"no"}}}"#, false);
        assert!(matches!(no, Err(EvidenceError::Refused { why, .. }) if why == "not_allowed"));
        let (one, other) = Connection::pair().unwrap();
        let mut source = Source { connection: one, asked: 0 };
        let ends = std::thread::spawn(move || {
            let _ = other.receive(&mut Buffer::new());
        });
        assert!(matches!(source.ask(), Err(EvidenceError::Ended)));
        ends.join().unwrap();
    }
}

//! The loop: what came in while the last batch went to the disk is the next batch.
//!
//! One thread, no timer between batches, no queue but the sockets' own: who writes faster than the disk waits in
//! `send`. A reply that its asker does not take costs it the connection, never the others their time.

use crate::decide::{Allowed, Standing, decide};
use crate::disk::Keep;
use crate::states::States;
use crate::systemd::{Heard, Systemd};
use crate::writer::{Pending, WriteError, Writer};
use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};
use secai_api::audit::{Answered, Asked, Reply, Status, Why, from_packet, to_packet};
use secai_daemon::listen::Listener;
use secai_daemon::packet::{Buffer, Connection, PacketError, Received};
use secai_daemon::peer::Peer;
use secai_daemon::readiness::Readiness;
use secai_daemon::report::{Priority, say};
use secai_daemon::shutdown::Shutdown;
use secai_verifier::audit::kind::Class;
use secai_verifier::service::Services;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Connections at once: services have one each, and people a few.
const CONNECTIONS_MAX: usize = 1024;
/// Connections of one user, so that nobody keeps the others out.
const CONNECTIONS_OF_USER_MAX: usize = 256;
/// Packets taken from one connection before the next one's turn.
const PACKETS_PER_TURN_MAX: usize = 64;
/// Entries of one batch: what a verifier takes as not yet signed (`spec/audit-chain.md` §6), halved.
const BATCH_ENTRIES_MAX: usize = 4096;
/// What is on the disk is signed at the latest after so long.
const UNSIGNED_TIME_MAX: Duration = Duration::from_secs(1);
/// Room that only the most important kinds may use.
const RESERVED_BYTES: u64 = 64 << 20;

/// Why the service ended other than asked.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The chain cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The kernel refused what the loop needs.
    #[error("cannot wait for requests")]
    Wait(#[source] std::io::Error),
}

const LISTENER: u64 = 0;
const SHUTDOWN: u64 = 1;
const SYSTEMD: u64 = 2;
const FIRST_CONNECTION: u64 = 3;

struct Client {
    connection: Connection,
    uid: u32,
}

struct Server<'a> {
    writer: Writer,
    services: &'a Services,
    poll: OwnedFd,
    clients: HashMap<u64, Client>,
    next: u64,
    /// The batch: entries, and who waits for which.
    batch: Vec<Pending>,
    waiting: Vec<(u64, u64, usize)>,
    written: BTreeMap<String, u64>,
    refused: BTreeMap<String, u64>,
    low: bool,
    states: States,
    hears_systemd: bool,
    unsigned_since: Option<Instant>,
}

/// Serves until asked to end; then everything that was acknowledged is on the disk and signed.
///
/// # Errors
/// [`ServeError`].
pub fn run(
    writer: Writer,
    services: &Services,
    listener: &Listener,
    shutdown: &Shutdown,
    readiness: &Readiness,
    systemd: Option<&Systemd>,
) -> Result<(), ServeError> {
    let wait = |errno: rustix::io::Errno| ServeError::Wait(errno.into());
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(wait)?;
    let own = [(listener.as_fd(), LISTENER), (shutdown.as_fd(), SHUTDOWN)];
    for (descriptor, token) in own.into_iter().chain(systemd.map(|systemd| (systemd.as_fd(), SYSTEMD))) {
        epoll::add(&poll, descriptor, epoll::EventData::new_u64(token), epoll::EventFlags::IN).map_err(wait)?;
    }
    let mut server = Server {
        writer,
        services,
        poll,
        clients: HashMap::new(),
        next: FIRST_CONNECTION,
        batch: Vec::new(),
        waiting: Vec::new(),
        written: BTreeMap::new(),
        refused: BTreeMap::new(),
        low: false,
        states: States::default(),
        hears_systemd: false,
        unsigned_since: None,
    };
    let mut buffer = Buffer::new();
    let mut events = Vec::with_capacity(256);
    let mut alive = Instant::now();
    readiness.ready();
    loop {
        let idle = readiness.interval().unwrap_or(Duration::from_secs(60));
        let until_signed = server.unsigned_since.map(|since| UNSIGNED_TIME_MAX.saturating_sub(since.elapsed()));
        let timeout = until_signed.unwrap_or(idle).min(idle);
        let timeout = rustix::event::Timespec::try_from(timeout).ok();
        events.clear();
        match epoll::wait(&server.poll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(wait(errno)),
        }
        server.low = server.writer.free_bytes()? < RESERVED_BYTES;
        let mut asked = false;
        for event in &events {
            match event.data.u64() {
                LISTENER => server.accept(listener)?,
                SHUTDOWN => asked = true,
                SYSTEMD => systemd.into_iter().flat_map(Systemd::take).try_for_each(|heard| server.hear(heard))?,
                token => server.take(token, &mut buffer)?,
            }
        }
        server.commit()?;
        if server.unsigned_since.is_some_and(|since| since.elapsed() >= UNSIGNED_TIME_MAX) {
            server.writer.sign_if_there_is_room()?;
            server.unsigned_since = None;
        }
        if readiness.interval().is_some_and(|interval| alive.elapsed() >= interval / 2) {
            readiness.alive();
            alive = Instant::now();
        }
        if asked {
            readiness.stopping();
            let refused = server.refused.values().sum();
            return Ok(server.writer.stop(refused)?);
        }
    }
}

impl Server<'_> {
    fn accept(&mut self, listener: &Listener) -> Result<(), ServeError> {
        while let Ok(Some(connection)) = listener.accept() {
            // Who cannot be named, or has too many already, is let go.
            let Ok(peer) = Peer::of(&connection) else { continue };
            let own = self.clients.values().filter(|client| client.uid == peer.uid).count();
            if self.clients.len() >= CONNECTIONS_MAX || own >= CONNECTIONS_OF_USER_MAX {
                self.count(Why::Busy);
                continue;
            }
            let token = self.next;
            self.next += 1;
            let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
            let added = epoll::add(&self.poll, &connection, epoll::EventData::new_u64(token), flags);
            added.map_err(|errno| ServeError::Wait(errno.into()))?;
            self.clients.insert(token, Client { connection, uid: peer.uid });
        }
        Ok(())
    }

    /// Records what systemd says, with the next batch.
    fn hear(&mut self, heard: Heard) -> Result<(), ServeError> {
        match heard {
            Heard::Listening => {
                self.hears_systemd = true;
                say(Priority::Info, "systemd says which services start and stop");
            }
            Heard::Nothing(why) => {
                self.hears_systemd = false;
                say(Priority::Error, &format!("which services start and stop is not recorded now: {why}"));
            }
            Heard::Unit(unit, seen) => {
                for state in self.states.take(&unit, seen) {
                    self.batch.push(Pending::own(&state)?);
                }
            }
        }
        Ok(())
    }

    /// Takes what a connection has, as much as its turn allows.
    fn take(&mut self, token: u64, buffer: &mut Buffer) -> Result<(), ServeError> {
        for _ in 0..PACKETS_PER_TURN_MAX {
            if self.batch.len() >= BATCH_ENTRIES_MAX {
                return self.commit();
            }
            let Some(client) = self.clients.get(&token) else { return Ok(()) };
            let uid = client.uid;
            match client.connection.try_receive(buffer) {
                Ok(Received::Packet(packet)) => match from_packet::<Asked>(packet) {
                    Ok(asked) => self.answer(token, uid, &asked)?,
                    Err(error) => self.refuse(token, 0, Why::Malformed, &error.to_string()),
                },
                Ok(Received::NotYet) => return Ok(()),
                Ok(Received::End) => {
                    self.clients.remove(&token);
                }
                Err(error @ (PacketError::TooLong | PacketError::Descriptors)) => {
                    self.refuse(token, 0, Why::Malformed, &error.to_string());
                }
                Ok(Received::PacketWith(..)) | Err(_) => {
                    self.clients.remove(&token);
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self, token: u64, uid: u32, asked: &Asked) -> Result<(), ServeError> {
        let standing = Standing { gap: self.writer.gap().is_some(), low: self.low };
        let id = asked.id;
        let allowed = match decide(self.services, uid, &asked.ask, standing) {
            Ok(allowed) => allowed,
            Err((why, message)) => {
                self.refuse(token, id, why, &message);
                return Ok(());
            }
        };
        if let Allowed::Append(pending, class) = allowed {
            match class {
                Class::Sync => self.waiting.push((token, id, self.batch.len())),
                Class::Async => self.reply(token, id, Reply::Appended { seq: None }),
            }
            self.batch.push(pending);
            return Ok(());
        }
        // In order: what was asked before is on the disk before.
        self.commit()?;
        match self.act(token, id, allowed) {
            // Nothing was written.
            Err(error @ WriteError::Full) => {
                self.refuse(token, id, Why::DiskFull, &error.to_string());
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// Does what is not appending from a batch, and answers.
    fn act(&mut self, token: u64, id: u64, allowed: Allowed) -> Result<(), WriteError> {
        let seq = match allowed {
            Allowed::Append(..) => return Ok(()),
            Allowed::Forget(range, asker) => self.writer.forget(range.from, range.until, asker)?,
            Allowed::Prune(until, asker) => match self.writer.prune(until, asker)? {
                Ok(seq) => Some(seq),
                Err(no) => {
                    self.refuse(token, id, no.why(), &no.to_string());
                    return Ok(());
                }
            },
            Allowed::Acknowledge(asker) => self.writer.acknowledge(asker)?,
            Allowed::Checkpoint => {
                let note = self.writer.checkpoint(Keep::OnDisk)?.render();
                let key = self.writer.key().verifier()?.to_string();
                self.unsigned_since = None;
                self.reply(token, id, Reply::Checkpoint { note, key });
                return Ok(());
            }
            Allowed::Open => {
                self.hand_out(token, id);
                return Ok(());
            }
            Allowed::Status => {
                let status = self.status();
                self.reply(token, id, Reply::Status(status));
                return Ok(());
            }
        };
        match seq {
            None => self.refuse(token, id, Why::Nothing, "there is nothing to be forgotten there"),
            seq => {
                self.unsigned_since.get_or_insert_with(Instant::now);
                self.reply(token, id, Reply::Appended { seq });
            }
        }
        Ok(())
    }

    /// Writes the batch, then says so to everybody who waits for a part of it.
    fn commit(&mut self) -> Result<(), ServeError> {
        let (batch, waiting) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.waiting));
        if batch.is_empty() {
            return Ok(());
        }
        match self.writer.append(&batch) {
            Ok(first) => {
                for pending in &batch {
                    *self.written.entry(pending.kind.to_owned()).or_default() += 1;
                }
                for (token, id, at) in waiting {
                    self.reply(token, id, Reply::Appended { seq: Some(first + at as u64) });
                }
                self.unsigned_since = match self.writer.signed() == self.writer.size() {
                    true => None,
                    false => self.unsigned_since.or_else(|| Some(Instant::now())),
                };
                Ok(())
            }
            Err(error @ WriteError::Full) => {
                // The others were acknowledged as queued, and are lost: that is what `async` means.
                (waiting.len()..batch.len()).for_each(|_| self.count(Why::DiskFull));
                for (token, id, _) in waiting {
                    self.refuse(token, id, Why::DiskFull, &error.to_string());
                }
                Ok(())
            }
            Err(other) => Err(other.into()),
        }
    }

    fn hand_out(&mut self, token: u64, id: u64) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(self.writer.folder(), flags, Mode::empty()) {
            Ok(folder) => self.reply_with(token, id, Reply::Opened {}, Some(&folder)),
            Err(errno) => self.refuse(token, id, Why::Busy, &format!("the chain cannot be opened now: {errno}")),
        }
    }

    fn status(&self) -> Status {
        Status {
            size: self.writer.size(),
            signed: self.writer.signed(),
            epoch: self.writer.key().epoch(),
            device_key: self.writer.key().device().to_string(),
            written: self.written.clone(),
            refused: self.refused.clone(),
            gap: self.writer.gap().is_some(),
            disk_full: self.low,
            hears_systemd: self.hears_systemd,
        }
    }

    fn count(&mut self, why: Why) {
        let name = serde_json::to_value(why).ok().and_then(|name| name.as_str().map(str::to_owned));
        *self.refused.entry(name.unwrap_or_default()).or_default() += 1;
    }

    fn refuse(&mut self, token: u64, id: u64, why: Why, message: &str) {
        self.count(why);
        self.reply(token, id, Reply::Refused { why, message: message.to_owned() });
    }

    fn reply(&mut self, token: u64, id: u64, answer: Reply) {
        self.reply_with(token, id, answer, None);
    }

    fn reply_with(&mut self, token: u64, id: u64, answer: Reply, beside: Option<&OwnedFd>) {
        let Some(client) = self.clients.get(&token) else { return };
        let taken = to_packet(&Answered { id, answer })
            .is_ok_and(|packet| client.connection.try_send(&packet, beside.map(AsFd::as_fd)).is_ok_and(|sent| sent));
        if !taken {
            // It asks and does not listen.
            self.clients.remove(&token);
        }
    }
}

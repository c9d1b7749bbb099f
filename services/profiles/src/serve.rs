//! The loop: requests, the person at the terminal, the kernel's word that something changed, and the time.
//!
//! One thread does everything; a process of its own waits for a person. A change takes as long as its units take; whoever
//! asks meanwhile waits.

mod changes;
mod requests;

use crate::config::{Meant, Operator, Policy};
use crate::decide::Tokens;
use crate::firewall::Checked;
use crate::question::Question;
use crate::record::Recorder;
use crate::switch::{Machine, NoRules, UnderWay};
use crate::watch::Watch;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use secai_api::packet::from_packet;
use secai_api::profiles::{Asked, Why};
use secai_daemon::listen::Listener;
use secai_daemon::packet::{Buffer, Connection, Received};
use secai_daemon::peer::Peer;
use secai_daemon::readiness::Readiness;
use secai_daemon::shutdown::Shutdown;
use secai_verifier::network::profile::STRICTEST;
use secai_verifier::service::Service;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// What is waited for besides the clients.
const FIXED: usize = 5;
/// Connections at once, and of one user: a person has one. Whoever comes then takes the place of one that is silent.
const CONNECTIONS_MAX: usize = 64;
const CONNECTIONS_OF_USER_MAX: usize = 8;
/// After the last word of a change it is looked at: transactions come in bursts.
const LOOK_AFTER: Duration = Duration::from_millis(30);
/// The kernel may have had no room for its word.
const LOOK_ANYWAY_AFTER: Duration = Duration::from_secs(60);

/// What this service asks of the device.
pub trait World: Machine {
    /// The name of his terminal, where whoever asks is a person at this device's own.
    ///
    /// # Errors
    /// Why not, in words.
    fn person(&mut self, peer: &Peer, terminal: Option<&OwnedFd>) -> Result<String, String>;
    /// The same for a change that opens nothing, which must be had without logind as well.
    ///
    /// # Errors
    /// Why not, in words.
    fn in_front(&mut self, peer: &Peer, terminal: Option<&OwnedFd>) -> Result<String, String>;
    /// Asks at the terminal for a word, as long as `asker` is connected.
    ///
    /// # Errors
    /// The kernel gives no process.
    fn question(&mut self, terminal: OwnedFd, asker: BorrowedFd<'_>, text: &str, word: &str) -> io::Result<Question>;
    /// Is there such a unit?
    ///
    /// # Errors
    /// systemd does not say.
    fn has(&mut self, unit: &str) -> Result<bool, String>;
    /// Which rules hold.
    ///
    /// # Errors
    /// It cannot be seen.
    fn check(&mut self) -> Result<Checked, String>;
    /// Gives each link its chain.
    ///
    /// # Errors
    /// They have none.
    fn link(&mut self) -> Result<(), NoRules>;
    /// What was under way when the service ended last.
    fn interrupted(&mut self) -> Option<UnderWay>;
    /// What the operator allows; read again each time.
    ///
    /// # Errors
    /// What is wrong with it: nothing is allowed then.
    fn operator(&mut self, policy: &Policy) -> Result<Operator, String>;
    /// Time since some moment; it goes on while the device sleeps.
    fn now(&self) -> Duration;
}

/// Why the service ended other than asked.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The kernel refused what the loop needs.
    #[error("cannot wait for requests")]
    Wait(#[source] io::Error),
    /// Not even the strictest profile can be said to hold.
    #[error("cannot close: {0}")]
    NotClosed(String),
    /// The image has no strictest profile.
    #[error("there is no profile {STRICTEST}")]
    NoStrictest,
}

struct Client {
    connection: Connection,
    peer: Peer,
    /// The number of the last thing that was heard of it.
    heard: u64,
}

/// Somebody is asked at a terminal.
struct Asking {
    client: u64,
    id: u64,
    from: String,
    to: String,
    uid: u32,
    /// Does the change let out more?
    opens: bool,
    /// The terminal's name.
    name: String,
    question: Question,
    /// Nobody waits for the answer any longer than this.
    until: Duration,
}

/// Who asked for a change, and how it was confirmed.
struct By {
    word: &'static str,
    uid: u32,
    terminal: String,
}

struct Server<'a> {
    world: &'a mut dyn World,
    policy: &'a Policy,
    page: &'a Service,
    recorder: &'a Recorder,
    clients: HashMap<u64, Client>,
    /// Numbers clients, and what is heard of them.
    next: u64,
    tokens: Tokens,
    asking: Option<Asking>,
    holds: String,
    ends_at: Option<Duration>,
    look_at: Duration,
    /// While rules are fought over there is no look before this.
    no_look_before: Duration,
    changed_by: Vec<String>,
    /// The links that had their chains at the last look.
    guarded: BTreeSet<String>,
    restored: u64,
    lately: (u32, Duration),
    refused: HashMap<u32, (u32, Duration, u64)>,
    /// How often each user had a look taken lately, and since when that is counted.
    evidence: HashMap<u32, (u32, Duration)>,
    trouble: Option<String>,
    /// Units that may not run, and would not stop.
    running: Vec<String>,
    /// Nobody says which rules hold: why.
    lost: Option<String>,
}

/// Serves until asked to end. It begins with the strictest profile, whatever held before.
///
/// # Errors
/// [`ServeError`].
#[expect(clippy::too_many_arguments, reason = "each is another part of the device")]
pub fn run(
    world: &mut dyn World,
    policy: &Policy,
    page: &Service,
    recorder: &Recorder,
    watch: &Watch,
    listener: &Listener,
    shutdown: &Shutdown,
    readiness: &Readiness,
) -> Result<(), ServeError> {
    // Time goes on while the device sleeps, and a profile ends on waking.
    let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC).map_err(wait)?;
    let look_at = world.now();
    let mut server = Server {
        world,
        policy,
        page,
        recorder,
        clients: HashMap::new(),
        next: 0,
        tokens: Tokens::default(),
        asking: None,
        holds: STRICTEST.to_owned(),
        ends_at: None,
        look_at,
        no_look_before: Duration::ZERO,
        changed_by: Vec::new(),
        guarded: BTreeSet::new(),
        restored: 0,
        lately: (0, Duration::ZERO),
        refused: HashMap::new(),
        evidence: HashMap::new(),
        trouble: None,
        running: Vec::new(),
        lost: None,
    };
    server.begin()?;
    server.known()?;
    readiness.ready();
    server.tell(readiness);
    let mut buffer = Buffer::new();
    loop {
        ring(&timer, server.until_next(readiness)).map_err(wait)?;
        let tokens: Vec<u64> = server.clients.keys().copied().collect();
        let [of_rules, of_links] = watch.descriptors();
        let ready: Vec<bool> = {
            let fixed: [_; FIXED] = [listener.as_fd(), shutdown.as_fd(), of_rules, of_links, timer.as_fd()];
            let clients = tokens.iter().filter_map(|token| server.clients.get(token));
            let all = fixed.into_iter().chain(clients.map(|client| client.connection.as_fd()));
            let all = all.chain(server.asking.as_ref().map(|asking| asking.question.as_fd()));
            let mut descriptors: Vec<PollFd<'_>> =
                all.map(|it| PollFd::from_borrowed_fd(it, PollFlags::IN | PollFlags::RDHUP)).collect();
            match poll(&mut descriptors, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(wait(errno)),
            }
            descriptors.iter().map(|it| !it.revents().is_empty()).collect()
        };
        let is_ready = |at: usize| ready.get(at).copied().unwrap_or(false);
        readiness.alive();
        if is_ready(1) {
            readiness.stopping();
            server.end();
            return server.known();
        }
        if let Some(names) = watch.take() {
            server.changed_by.extend(names);
            // Our own restoring is said too: while rules are fought over that does not make looks any closer.
            server.look_at = server.look_at.min(server.now() + LOOK_AFTER).max(server.no_look_before);
        }
        server.answered();
        if server.ends_at.is_some_and(|at| at <= server.now()) {
            server.expire();
        }
        if server.look_at <= server.now() {
            server.look();
        }
        if is_ready(0) {
            server.accept(listener);
        }
        let asking = tokens.into_iter().enumerate().filter(|(at, _)| is_ready(at + FIXED));
        for (_, token) in asking {
            server.take(token, &mut buffer);
        }
        server.known()?;
        server.tell(readiness);
    }
}

fn wait(errno: rustix::io::Errno) -> ServeError {
    ServeError::Wait(errno.into())
}

/// Has the timer be readable after this.
fn ring(timer: &OwnedFd, after: Duration) -> rustix::io::Result<()> {
    // Zero would mean never.
    let after = after.max(Duration::from_nanos(1));
    let it_value = Timespec { tv_sec: after.as_secs().cast_signed(), tv_nsec: after.subsec_nanos().into() };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &once).map(drop)
}

impl Server<'_> {
    fn meant(&self, name: &str) -> Option<&Meant> {
        self.policy.get(name)
    }

    fn now(&self) -> Duration {
        self.world.now()
    }

    /// However this service ends, the strictest profile is loaded by somebody else: so it ends where it cannot.
    fn known(&mut self) -> Result<(), ServeError> {
        self.lost.take().map_or(Ok(()), |why| Err(ServeError::NotClosed(why)))
    }

    fn until_next(&self, readiness: &Readiness) -> Duration {
        let asked_until = self.asking.as_ref().map(|asking| asking.until);
        let times = [Some(self.look_at), self.ends_at, asked_until].into_iter().flatten();
        let next = times.min().map_or(LOOK_ANYWAY_AFTER, |at| at.saturating_sub(self.now()));
        readiness.interval().map_or(next, |interval| next.min(interval / 2))
    }

    fn tell(&self, readiness: &Readiness) {
        readiness.status(&format!("{} holds", self.holds));
    }

    fn accept(&mut self, listener: &Listener) {
        // Who connects all the time does not keep this thread: the others wait for the next round.
        for _ in 0..CONNECTIONS_MAX {
            let Ok(Some(connection)) = listener.accept() else { return };
            // Who cannot be named is let go.
            let Ok(peer) = Peer::of(&connection) else { continue };
            self.make_room(peer.uid);
            self.clients.insert(self.next, Client { connection, peer, heard: self.next });
            self.next += 1;
        }
    }

    /// Nobody is locked out by who holds connections: of the user with too many, the one goes that was silent for longest.
    fn make_room(&mut self, uid: u32) {
        let mut of_users: HashMap<u32, usize> = HashMap::new();
        for client in self.clients.values() {
            *of_users.entry(client.peer.uid).or_default() += 1;
        }
        let too_many = of_users.get(&uid).is_some_and(|own| *own >= CONNECTIONS_OF_USER_MAX);
        let most = of_users.iter().max_by_key(|(_, count)| **count).map(|(uid, _)| *uid);
        let full = self.clients.len() >= CONNECTIONS_MAX;
        let Some(of) = too_many.then_some(uid).or(most.filter(|_| full)) else { return };
        let asked = self.asking.as_ref().map(|asking| asking.client);
        let own = self.clients.iter().filter(|(token, it)| it.peer.uid == of && Some(**token) != asked);
        if let Some(token) = own.min_by_key(|(_, it)| it.heard).map(|(token, _)| *token) {
            self.clients.remove(&token);
        }
    }

    fn take(&mut self, token: u64, buffer: &mut Buffer) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        client.heard = self.next;
        self.next += 1;
        let uid = client.peer.uid;
        let (asked, terminal) = match client.connection.try_receive_with_descriptor(buffer) {
            Ok(Received::Packet(packet)) => (from_packet::<Asked>(packet), None),
            Ok(Received::PacketWith(packet, terminal)) => (from_packet::<Asked>(packet), Some(terminal)),
            Ok(Received::NotYet) => return,
            Ok(Received::End) | Err(_) => {
                self.clients.remove(&token);
                return;
            }
        };
        match asked {
            Ok(Asked { id, ask }) => self.answer(token, id, uid, ask, terminal),
            Err(error) => self.refuse(token, 0, Why::Malformed, &error.to_string()),
        }
    }
}

/// What an entry says of a reason: entries are short.
const REASON_CHARS_MAX: usize = 300;

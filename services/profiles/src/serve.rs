//! The loop: requests, the person at the terminal, the kernel's word that something changed, and the time.
//!
//! One thread does everything but wait for a person. A change takes as long as its units take; whoever asks meanwhile
//! waits.

use crate::config::{Meant, Operator, Policy};
use crate::decide::{Grant, TOKEN_BYTES, Tokens, loosens};
use crate::firewall::Checked;
use crate::person::{Typed, ask};
use crate::record::Recorder;
use crate::switch::{Machine, UnderWay, close, run as switch};
use crate::watch::Watch;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::time::{ClockId, clock_gettime};
use secai_api::packet::{from_packet, to_packet};
use secai_api::profiles::{Answered, Asked, Evidence, Listed, Preview, Reply, Request, Shown, TYPING_LASTS, Why};
use secai_daemon::listen::Listener;
use secai_daemon::packet::{Buffer, Connection, Received};
use secai_daemon::peer::Peer;
use secai_daemon::readiness::Readiness;
use secai_daemon::report::{Priority, say};
use secai_daemon::shutdown::Shutdown;
use secai_verifier::audit::kind::{
    ProfileApplied, ProfileFailed, ProfileInterrupted, ProfileRefused, ProfileRequested, ProfileRestored,
};
use secai_verifier::network::profile::STRICTEST;
use secai_verifier::service::Service;
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Connections at once, and of one user: a person has one.
const CONNECTIONS_MAX: usize = 64;
const CONNECTIONS_OF_USER_MAX: usize = 8;
/// After the last word of a change it is looked at: transactions come in bursts.
const LOOK_AFTER: Duration = Duration::from_millis(30);
/// The kernel may have had no room for its word.
const LOOK_ANYWAY_AFTER: Duration = Duration::from_secs(60);
/// Rules that are changed so often by others are fought over: then nothing may leave.
const RESTORED_MAX: u32 = 10;
/// Within so long.
const RESTORED_WITHIN: Duration = Duration::from_secs(60);
/// Refusals of one user that have an entry each; then one in [`REFUSED_EVERY`].
const REFUSED_AT_ONCE: u32 = 32;
const REFUSED_EVERY: Duration = Duration::from_secs(10);
/// Users whose refusals are counted one by one.
const REFUSED_USERS_MAX: usize = 256;

/// What this service asks of the device.
pub trait World: Machine {
    /// The name of his terminal, where whoever asks is a person at this device's own.
    ///
    /// # Errors
    /// Why not, in words.
    fn person(&mut self, peer: &Peer, terminal: Option<&OwnedFd>) -> Result<String, String>;
    /// Is there such a unit?
    fn has(&mut self, unit: &str) -> bool;
    /// Which rules hold.
    ///
    /// # Errors
    /// It cannot be seen.
    fn check(&mut self) -> Result<Checked, String>;
    /// Gives each link its chain.
    ///
    /// # Errors
    /// They have none; the rules of the strictest profile hold, or none at all.
    fn link(&mut self) -> Result<(), String>;
    /// What was under way when the service ended last.
    fn interrupted(&mut self) -> Option<UnderWay>;
    /// What the operator allows; read again each time.
    ///
    /// # Errors
    /// What is wrong with it: nothing is allowed then.
    fn operator(&mut self, policy: &Policy) -> Result<Operator, String>;
}

/// Why the service ended other than asked.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The kernel refused what the loop needs.
    #[error("cannot wait for requests")]
    Wait(#[source] std::io::Error),
    /// The image has no strictest profile.
    #[error("there is no profile {STRICTEST}")]
    NoStrictest,
}

struct Client {
    connection: Connection,
    peer: Peer,
}

/// Somebody is asked at a terminal.
struct Asking {
    client: u64,
    id: u64,
    to: String,
    uid: u32,
    terminal: String,
    number: u64,
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
    next: u64,
    tokens: Tokens,
    asking: Option<Asking>,
    asked: u64,
    answers: (Sender<(u64, Typed)>, Receiver<(u64, Typed)>),
    wake: OwnedFd,
    holds: String,
    ends_at: Option<Duration>,
    look_at: Duration,
    changed_by: Vec<String>,
    restored: u64,
    lately: (u32, Duration),
    refused: HashMap<u32, (u32, Duration, u64)>,
    trouble: Option<String>,
}

/// Since the device began, sleep included.
fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
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
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(wait)?;
    let mut server = Server {
        world,
        policy,
        page,
        recorder,
        clients: HashMap::new(),
        next: 0,
        tokens: Tokens::default(),
        asking: None,
        asked: 0,
        answers: channel(),
        wake,
        holds: STRICTEST.to_owned(),
        ends_at: None,
        look_at: now() + LOOK_ANYWAY_AFTER,
        changed_by: Vec::new(),
        restored: 0,
        lately: (0, Duration::ZERO),
        refused: HashMap::new(),
        trouble: None,
    };
    server.begin()?;
    readiness.ready();
    server.tell(readiness);
    let mut buffer = Buffer::new();
    loop {
        let timeout = server.until_next(readiness);
        let timeout = Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
        let tokens: Vec<u64> = server.clients.keys().copied().collect();
        let [of_rules, of_links] = watch.descriptors();
        let ready: Vec<bool> = {
            let fixed = [listener.as_fd(), shutdown.as_fd(), of_rules, of_links, server.wake.as_fd()];
            let clients = tokens.iter().filter_map(|token| server.clients.get(token));
            let all = fixed.into_iter().chain(clients.map(|client| client.connection.as_fd()));
            let mut descriptors: Vec<PollFd<'_>> =
                all.map(|it| PollFd::from_borrowed_fd(it, PollFlags::IN | PollFlags::RDHUP)).collect();
            match poll(&mut descriptors, Some(&timeout)) {
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
            return Ok(());
        }
        if let Some(names) = watch.take() {
            server.changed_by.extend(names);
            server.look_at = server.look_at.min(now() + LOOK_AFTER);
        }
        server.answered();
        if server.ends_at.is_some_and(|at| at <= now()) {
            server.expire();
        }
        if server.look_at <= now() {
            server.look();
        }
        if is_ready(0) {
            server.accept(listener);
        }
        for (at, token) in tokens.into_iter().enumerate().filter(|(at, _)| is_ready(at + 5)) {
            let _ = at;
            server.take(token, &mut buffer);
        }
        server.tell(readiness);
    }
}

fn wait(errno: rustix::io::Errno) -> ServeError {
    ServeError::Wait(errno.into())
}

impl Server<'_> {
    fn meant(&self, name: &str) -> Option<&Meant> {
        self.policy.get(name)
    }

    fn begin(&mut self) -> Result<(), ServeError> {
        let interrupted = self.world.interrupted();
        let strictest = self.meant(STRICTEST).ok_or(ServeError::NoStrictest)?.clone();
        if let Some(UnderWay { from, step, to }) = interrupted {
            self.recorder.after(ProfileInterrupted { from, step, to });
        }
        self.holds = close(self.world, &strictest.page);
        self.applied("boot", STRICTEST);
        Ok(())
    }

    /// The next profile is the strictest in any case; units that may not run then stop here, while there is time.
    fn end(&mut self) {
        if self.holds != STRICTEST {
            let by = By { word: "shutdown", uid: 0, terminal: String::new() };
            let _ = self.change(STRICTEST, &by);
        }
    }

    fn until_next(&self, readiness: &Readiness) -> Duration {
        let times = [Some(self.look_at), self.ends_at].into_iter().flatten();
        let next = times.min().map_or(LOOK_ANYWAY_AFTER, |at| at.saturating_sub(now()));
        readiness.interval().map_or(next, |interval| next.min(interval / 2))
    }

    fn tell(&self, readiness: &Readiness) {
        readiness.status(&format!("{} holds", self.holds));
    }

    fn accept(&mut self, listener: &Listener) {
        while let Ok(Some(connection)) = listener.accept() {
            // Who cannot be named, or has too many already, is let go.
            let Ok(peer) = Peer::of(&connection) else { continue };
            let own = self.clients.values().filter(|client| client.peer.uid == peer.uid).count();
            if self.clients.len() >= CONNECTIONS_MAX || own >= CONNECTIONS_OF_USER_MAX {
                continue;
            }
            self.clients.insert(self.next, Client { connection, peer });
            self.next += 1;
        }
    }

    fn take(&mut self, token: u64, buffer: &mut Buffer) {
        let Some(client) = self.clients.get(&token) else { return };
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

    fn answer(&mut self, token: u64, id: u64, uid: u32, ask: Request, terminal: Option<OwnedFd>) {
        let word = match &ask {
            Request::Show {} => "show",
            Request::Preview { .. } => "preview",
            Request::Apply { .. } => "apply",
            Request::Evidence {} => "evidence",
        };
        if !self.page.may(word, uid) {
            if let Request::Apply { profile, .. } = &ask {
                self.refused(uid, Why::NotAllowed, profile);
            }
            return self.refuse(token, id, Why::NotAllowed, &format!("user {uid} may not ask for this"));
        }
        match ask {
            Request::Show {} => {
                let shown = self.shown();
                self.reply(token, id, Reply::Shown(shown));
            }
            Request::Evidence {} => self.evidence(token, id),
            Request::Preview { profile } => match self.previewed(uid, &profile) {
                Ok(preview) => self.reply(token, id, Reply::Previewed(preview)),
                Err((why, message)) => self.refuse(token, id, why, &message),
            },
            Request::Apply { profile, token: secret } => {
                if let Err((why, message)) = self.confirm(token, id, uid, &profile, &secret, terminal) {
                    self.refused(uid, why, &profile);
                    self.refuse(token, id, why, &message);
                }
            }
        }
    }

    fn shown(&mut self) -> Shown {
        let mut profiles = Vec::new();
        let policy = self.policy;
        for meant in policy.iter() {
            let lacks = self.lacks(meant);
            profiles.push(Listed { name: meant.page.name.clone(), about: meant.page.about.clone(), lacks });
        }
        let mut troubles: Vec<String> = self.trouble.iter().cloned().collect();
        match self.recorder.waiting() {
            0 => {}
            waiting => troubles.push(format!("{waiting} entries wait for the audit daemon")),
        }
        troubles.extend(self.world.operator(policy).err());
        Shown {
            profile: self.holds.clone(),
            digest: self.digest_of(&self.holds),
            ends_after_s: self.ends_at.map(|at| at.saturating_sub(now()).as_secs()),
            restored: self.restored,
            troubles,
            profiles,
        }
    }

    fn digest_of(&self, name: &str) -> String {
        self.meant(name).map(|meant| meant.digest.to_string()).unwrap_or_default()
    }

    /// Units that a profile needs, and the image has not.
    fn lacks(&mut self, meant: &Meant) -> Vec<String> {
        meant.page.units.on.iter().filter(|unit| !self.world.has(unit)).cloned().collect()
    }

    fn previewed(&mut self, uid: u32, to: &str) -> Result<Preview, (Why, String)> {
        let unknown = || (Why::UnknownProfile, format!("there is no profile `{}`", to.escape_default()));
        let meant = self.meant(to).ok_or_else(unknown)?.clone();
        let from = self.meant(&self.holds).ok_or_else(unknown)?.clone();
        let mut secret = [0; TOKEN_BYTES];
        getrandom::fill(&mut secret).map_err(|error| (Why::Failed, format!("no token can be made: {error}")))?;
        let grant = self.grant(uid, &meant);
        Ok(Preview {
            token: self.tokens.give(secret, grant, now()),
            from: from.page.name.clone(),
            to: meant.page.name.clone(),
            digest: meant.digest.to_string(),
            loosens: loosens(&from.page, &meant.page),
            ends: from.leaves.iter().filter(|it| !meant.leaves.contains(it)).cloned().collect(),
            starts: meant.page.units.on.difference(&from.page.units.on).cloned().collect(),
            stops: meant.page.units.off.intersection(&from.page.units.on).cloned().collect(),
            expires_after_minutes: meant.page.expires_after_minutes,
            told: meant.page.told.clone(),
            leaves: meant.leaves,
        })
    }

    fn grant(&self, uid: u32, meant: &Meant) -> Grant {
        Grant { uid, from: self.holds.clone(), to: meant.page.name.clone(), digest: meant.digest }
    }

    /// Begins to ask the person at the terminal; or changes at once where the operator allows it.
    fn confirm(
        &mut self,
        client: u64,
        id: u64,
        uid: u32,
        to: &str,
        secret: &str,
        terminal: Option<OwnedFd>,
    ) -> Result<(), (Why, String)> {
        let unknown = || (Why::UnknownProfile, format!("there is no profile `{}`", to.escape_default()));
        let meant = self.meant(to).ok_or_else(unknown)?.clone();
        let wanted = self.grant(uid, &meant);
        self.tokens.take(secret, &wanted, now()).map_err(|why| (why, told_of_token(why).to_owned()))?;
        let lacks = self.lacks(&meant);
        if !lacks.is_empty() {
            return Err((Why::UnitsMissing, format!("this image lacks what {to} needs: {}", lacks.join(", "))));
        }
        let policy = self.policy;
        if self.world.operator(policy).is_ok_and(|operator| operator.allows(uid, to)) {
            let by = By { word: "operator", uid, terminal: String::new() };
            self.finish(client, id, to, &by);
            return Ok(());
        }
        if self.asking.is_some() {
            return Err((Why::Busy, "somebody is being asked about another change already".to_owned()));
        }
        let Some(of) = self.clients.get(&client) else { return Ok(()) };
        let name = self.world.person(&of.peer, terminal.as_ref()).map_err(|why| (Why::NotAPerson, why))?;
        let Some(terminal) = terminal else { return Ok(()) };
        self.asked += 1;
        let number = self.asked;
        let text = self.question(&meant);
        let (word, tell) = (to.to_owned(), self.answers.0.clone());
        let wake = self.wake.try_clone().map_err(|error| (Why::Failed, error.to_string()))?;
        let waiting = std::thread::Builder::new().name("terminal".to_owned()).spawn(move || {
            let typed = ask(&terminal, &text, &word, TYPING_LASTS);
            let _ = tell.send((number, typed));
            let _ = rustix::io::write(&wake, &1_u64.to_ne_bytes());
        });
        waiting.map_err(|error| (Why::Failed, error.to_string()))?;
        self.asking = Some(Asking { client, id, to: to.to_owned(), uid, terminal: name, number });
        Ok(())
    }

    /// What the person reads before typing: from the model, whatever the caller showed.
    fn question(&self, meant: &Meant) -> String {
        let page = &meant.page;
        let mut text = format!("\n{} -> {}: {}\n", self.holds, page.name, page.about);
        match meant.leaves.as_slice() {
            [] => text.push_str("  nothing leaves this machine\n"),
            leaves => leaves.iter().for_each(|it| text.push_str(&format!("  may leave: {it}\n"))),
        }
        page.told.iter().for_each(|it| text.push_str(&format!("  {it}\n")));
        if let Some(minutes) = page.expires_after_minutes {
            text.push_str(&format!("  Ends by itself after {minutes} minutes.\n"));
        }
        text.push_str(&format!("Type {} to confirm: ", page.name));
        text
    }

    /// What came of asking.
    fn answered(&mut self) {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        while let Ok((number, typed)) = self.answers.1.try_recv() {
            let Some(asking) = self.asking.take_if(|asking| asking.number == number) else { continue };
            let Asking { client, id, to, uid, terminal, .. } = asking;
            // Who has gone away does not want it any more.
            let gone = !self.clients.contains_key(&client);
            if typed == Typed::TheWord && !gone {
                self.finish(client, id, &to, &By { word: "person", uid, terminal });
                continue;
            }
            let message = match typed {
                Typed::Nothing => "nothing was typed at the terminal",
                Typed::Another => "another word was typed than the profile's name",
                Typed::TheWord => "whoever asked has gone",
            };
            self.refused(uid, Why::NotConfirmed, &to);
            self.refuse(client, id, Why::NotConfirmed, message);
        }
    }

    fn finish(&mut self, client: u64, id: u64, to: &str, by: &By) {
        match self.change(to, by) {
            Ok(()) => {
                let reply = Reply::Applied {
                    profile: self.holds.clone(),
                    digest: self.digest_of(&self.holds),
                    ends_after_s: self.ends_at.map(|at| at.saturating_sub(now()).as_secs()),
                };
                self.reply(client, id, reply);
            }
            Err((why, message)) => {
                if why == Why::NotRecorded {
                    self.refused(by.uid, why, to);
                }
                self.refuse(client, id, why, &message);
            }
        }
    }

    /// Changes, and records it: what loosens only after its entry is on the disk, what tightens at once.
    fn change(&mut self, to: &str, by: &By) -> Result<(), (Why, String)> {
        let unknown = |name: &str| (Why::UnknownProfile, format!("there is no profile `{name}`"));
        let meant = |name: &str| self.meant(name).ok_or_else(|| unknown(name)).cloned();
        let (from, to, strictest) = (meant(&self.holds)?, meant(to)?, meant(STRICTEST)?);
        let requested = ProfileRequested {
            by: by.word.to_owned(),
            digest: to.digest,
            from: from.page.name.clone(),
            terminal: by.terminal.clone(),
            to: to.page.name.clone(),
            uid: by.uid.into(),
        };
        if loosens(&from.page, &to.page) {
            let recorded = self.recorder.before(&requested);
            recorded.map_err(|error| (Why::NotRecorded, format!("it cannot be recorded first: {error}")))?;
        } else {
            self.recorder.after(requested);
        }
        let ended = switch(self.world, &from.page, &to.page, &strictest.page);
        self.holds = ended.holds;
        // Tokens were for a change from what held before.
        self.tokens = Tokens::default();
        let minutes = to.page.expires_after_minutes.filter(|_| self.holds == to.page.name);
        self.ends_at = minutes.map(|minutes| now() + Duration::from_secs(60 * u64::from(minutes)));
        self.trouble = ended.failed.as_ref().map(|(step, why)| format!("{step}: {why}"));
        if let Some((step, why)) = &ended.failed {
            self.failed(&from.page.name, &to.page.name, step, why);
        }
        if self.holds == to.page.name {
            self.applied(by.word, &from.page.name);
            return Ok(());
        }
        let why = ended.failed.map_or_else(String::new, |(step, why)| format!(" ({step}: {why})"));
        Err((Why::Failed, format!("{} could not be had{why}; {} holds", to.page.name, self.holds)))
    }

    fn applied(&self, by: &str, from: &str) {
        let Some(meant) = self.meant(&self.holds) else { return };
        say(Priority::Info, &format!("{} holds", self.holds));
        self.recorder.after(ProfileApplied {
            by: by.to_owned(),
            digest: meant.digest,
            from: from.to_owned(),
            to: self.holds.clone(),
        });
    }

    fn failed(&self, from: &str, to: &str, step: &str, why: &str) {
        say(Priority::Error, &format!("{from} to {to}: {step}: {why}; {} holds", self.holds));
        self.recorder.after(ProfileFailed {
            from: from.to_owned(),
            holds: self.holds.clone(),
            step: step.to_owned(),
            to: to.to_owned(),
            why: why.chars().take(REASON_CHARS_MAX).collect(),
        });
    }

    fn expire(&mut self) {
        self.ends_at = None;
        let by = By { word: "expiry", uid: 0, terminal: String::new() };
        let _ = self.change(STRICTEST, &by);
    }

    /// Looks whether the rules are those of the profile that holds, and has them be.
    fn look(&mut self) {
        self.look_at = now() + LOOK_ANYWAY_AFTER;
        let mut names = std::mem::take(&mut self.changed_by);
        names.retain(|name| !name.is_empty());
        let closed = self.meant(&self.holds).is_none_or(|meant| meant.page.is_closed());
        let found = match self.world.check() {
            Ok(checked) if checked.is(&self.holds) => match closed && any_up(&checked.links) {
                false => return,
                true => "a link is up".to_owned(),
            },
            Ok(checked) => match checked.refusals.first() {
                Some(refusal) => format!("{}: {}", refusal.name, refusal.detail),
                None => format!("the rules are those of {}", checked.profile.unwrap_or_default()),
            },
            Err(why) => why,
        };
        self.restored += 1;
        let (times, since) = self.lately;
        self.lately = if now().saturating_sub(since) > RESTORED_WITHIN { (1, now()) } else { (times + 1, since) };
        let of_links_only = found.starts_with("Link") || found == "a link is up";
        say(Priority::Warning, &format!("rules were not those of {}, and are loaded again: {found}", self.holds));
        let holds = self.holds.clone();
        self.recorder.after(ProfileRestored {
            by: names.last().cloned().unwrap_or_default(),
            found: found.chars().take(REASON_CHARS_MAX).collect(),
            profile: holds.clone(),
        });
        if self.lately.0 > RESTORED_MAX {
            // Once in a while is enough then.
            self.look_at = now() + Duration::from_secs(1);
            if self.holds != STRICTEST {
                let by = By { word: "fault", uid: 0, terminal: String::new() };
                let _ = self.change(STRICTEST, &by);
                return;
            }
        }
        let done = if of_links_only { self.world.link() } else { self.world.rules(&holds) };
        if let Err(why) = done {
            if let Some(strictest) = self.meant(STRICTEST).cloned() {
                self.holds = close(self.world, &strictest.page);
                self.ends_at = None;
            }
            self.trouble = Some(format!("rules of {holds}: {why}"));
            self.failed(&holds, &holds, "rules", &why);
        }
    }

    fn evidence(&mut self, token: u64, id: u64) {
        let made = self.world.check().and_then(|checked| {
            let evidence =
                Evidence { profile: self.holds.clone(), ruleset: unmarked(&checked.ruleset), links: checked.links };
            let bytes = serde_json::to_vec(&evidence).map_err(|error| error.to_string())?;
            in_memory(&bytes).map_err(|error| error.to_string())
        });
        match made {
            Ok(file) => self.reply_with(token, id, Reply::Evidence {}, Some(&file)),
            Err(why) => self.refuse(token, id, Why::Failed, &why),
        }
    }

    /// Records a refusal; of somebody who asks all the time only some, with how many there were.
    fn refused(&mut self, uid: u32, why: Why, to: &str) {
        if self.refused.len() >= REFUSED_USERS_MAX {
            self.refused.retain(|_, (_, since, _)| now().saturating_sub(*since) < REFUSED_EVERY);
        }
        let (count, since, unnamed) = self.refused.entry(uid).or_insert((0, now(), 0));
        if now().saturating_sub(*since) >= REFUSED_EVERY {
            (*count, *since) = (count.saturating_sub(1), now());
        }
        if *count >= REFUSED_AT_ONCE {
            *unnamed += 1;
            return;
        }
        *count += 1;
        let to: String = to.chars().filter(|it| !it.is_control()).take(REASON_CHARS_MAX).collect();
        let entry = ProfileRefused { reason: why.word(), to, uid: uid.into(), unnamed: std::mem::take(unnamed) };
        self.recorder.after(entry);
    }

    fn refuse(&mut self, token: u64, id: u64, why: Why, message: &str) {
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

/// What an entry says of a reason: entries are short.
const REASON_CHARS_MAX: usize = 300;

fn told_of_token(why: Why) -> &'static str {
    match why {
        Why::TokenExpired => "the token was given too long ago: ask for a preview again",
        Why::TokenOfAnother => "the token was given to another user, and is void now",
        Why::TokenForAnother => "the token was given for another profile, and is void now",
        Why::TokenOutdated => "another profile holds, or its rules are others, than when the token was given",
        _ => "there is no such token: each is for one use, after a preview",
    }
}

/// Is any link but loopback up?
fn any_up(links: &str) -> bool {
    secai_verifier::network::links::Links::parse(links.as_bytes()).is_ok_and(|links| links.0.values().any(|up| *up))
}

/// Rules without the mark by which flows are known: whoever may see them may not know it. Another one stands for it.
fn unmarked(ruleset: &str) -> String {
    use secai_verifier::network::parse::parse;
    use secai_verifier::network::rules::{EPOCH, Elements};
    let Ok(rules) = parse(ruleset.as_bytes()) else { return ruleset.to_owned() };
    match rules.inet.sets.get(EPOCH) {
        Some(Elements::Marks(marks)) => marks
            .iter()
            .fold(ruleset.to_owned(), |text, mark| text.replace(&format!("{mark:#010x}"), &format!("{:#010x}", 1))),
        _ => ruleset.to_owned(),
    }
}

/// A file that lies in memory, to be read by whoever gets it.
fn in_memory(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let mut file = File::from(memfd_create("evidence", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(bytes)?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    Ok(file.into())
}

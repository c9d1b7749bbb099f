//! A device on which everything but the loop is made up: rules, units, logind, the audit daemon, and the time. One log has
//! what was done to it and what was recorded, in the order in which it came.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic, as tests may")]
#![allow(dead_code, reason = "each test file uses a part of it")]

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use secai_api::audit;
use secai_api::profiles::{Answered, Asked, Preview, Reply, Request, Shown, Why};
use secai_daemon::audit::Waits;
use secai_daemon::listen::bind_without_systemd;
use secai_daemon::packet::{Buffer, Connection, Received};
use secai_daemon::peer::Peer;
use secai_daemon::readiness::Readiness;
use secai_daemon::shutdown::Shutdown;
use secai_profiles::config::{Operator, Policy, page};
use secai_profiles::firewall::{Checked, Refused};
use secai_profiles::question::Question;
use secai_profiles::record::Recorder;
use secai_profiles::serve::{ServeError, World, run};
use secai_profiles::switch::{Machine, NoRules, UnderWay};
use secai_profiles::watch::Watch;
use secai_verifier::files::load_profiles;
use secai_verifier::network::bind::{bind, shipped};
use secai_verifier::network::profile::STRICTEST;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/policy");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/services/profiles.yml");
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The mark of flows, which nobody may see.
pub const MARK: u32 = 0x5ec4_e7aa;
/// What a disk takes, so that a step that does not wait for it is seen before it.
const DISK: Duration = Duration::from_millis(40);

/// What the audit daemon does with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    All,
    Refuses,
    Hangs,
}

/// The device.
pub struct State {
    pub log: Vec<String>,
    pub entries: Vec<(String, Value)>,
    pub keeps: Keeps,
    /// The profile whose rules the kernel has.
    pub rules: String,
    /// What a check says is wrong besides.
    pub refusals: Vec<Refused>,
    pub links: String,
    /// The firewall does not answer, and does nothing.
    pub silent: bool,
    pub running: BTreeSet<String>,
    /// Steps that fail.
    pub fails: BTreeSet<String>,
    pub person: Result<String, String>,
    /// On the kernel's word alone.
    pub in_front: Result<String, String>,
    /// D-Bus is away.
    pub mute: bool,
    pub lacks: BTreeSet<String>,
    pub note: Option<UnderWay>,
    pub operator: String,
    /// Text that the kernel is said to have instead of our rules.
    pub foreign: Option<String>,
    pub ahead: Duration,
    pub looks: usize,
}

#[derive(Clone)]
pub struct Shared(Arc<Mutex<State>>);

impl Shared {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            log: Vec::new(),
            entries: Vec::new(),
            keeps: Keeps::All,
            rules: "nobody's".into(),
            refusals: Vec::new(),
            links: r#"[{"ifname":"lo","flags":["LOOPBACK","UP"]}]"#.into(),
            running: BTreeSet::new(),
            fails: BTreeSet::new(),
            person: Ok("tty1".into()),
            in_front: Ok("tty1".into()),
            mute: false,
            lacks: BTreeSet::new(),
            note: None,
            operator: "{}".into(),
            foreign: None,
            ahead: Duration::ZERO,
            looks: 0,
            silent: false,
        })))
    }

    pub fn get(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn step(&self, step: String, done: impl FnOnce(&mut State)) -> Result<(), String> {
        let mut state = self.get();
        state.log.push(step.clone());
        if state.fails.contains(&step) {
            return Err("broken".into());
        }
        done(&mut state);
        Ok(())
    }

    /// Data of the entries of a kind.
    pub fn of(&self, kind: &str) -> Vec<Value> {
        self.get().entries.iter().filter(|it| it.0 == kind).map(|it| it.1.clone()).collect()
    }

    /// Waits until it is so.
    pub fn until(&self, what: &str, is: impl Fn(&State) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is(&self.get()) {
            assert!(Instant::now() < end, "{what}: {:#?}", self.get().log);
            sleep(Duration::from_millis(5));
        }
    }

    pub fn until_entries(&self, kind: &str, count: usize) -> Vec<Value> {
        self.until(&format!("{count} {kind}"), |it| it.entries.iter().filter(|it| it.0 == kind).count() >= count);
        self.of(kind)
    }

    /// What was done since, without entries.
    pub fn done_since(&self, at: usize) -> Vec<String> {
        self.get().log[at..]
            .iter()
            .filter(|it| !it.starts_with("entry ") && !it.starts_with("kept "))
            .cloned()
            .collect()
    }

    pub fn length(&self) -> usize {
        self.get().log.len()
    }
}

struct Fake {
    state: Shared,
    began: Instant,
}

impl Machine for Fake {
    fn rules(&mut self, profile: &str) -> Result<(), NoRules> {
        if self.state.get().silent {
            return Err(NoRules::Unknown("no answer".into()));
        }
        let name = profile.to_owned();
        let done = self.state.step(format!("rules {profile}"), |it| {
            it.rules = name;
            it.refusals.clear();
            it.foreign = None;
        });
        if done.is_err() {
            self.state.get().rules = STRICTEST.into();
        }
        done.map_err(NoRules::Stricter)
    }

    fn stop(&mut self, unit: &str) -> Result<(), String> {
        self.state.step(format!("stop {unit}"), |it| drop(it.running.take(unit)))
    }

    fn start(&mut self, unit: &str) -> Result<(), String> {
        self.state.step(format!("start {unit}"), |it| drop(it.running.replace(unit.to_owned())))
    }

    fn remember(&mut self, under_way: Option<&UnderWay>) -> Result<(), String> {
        self.state.get().note = under_way.cloned();
        Ok(())
    }
}

impl World for Fake {
    fn person(&mut self, _: &Peer, terminal: Option<&OwnedFd>) -> Result<String, String> {
        terminal.ok_or("no terminal came beside the request")?;
        self.state.get().person.clone()
    }

    fn in_front(&mut self, _: &Peer, terminal: Option<&OwnedFd>) -> Result<String, String> {
        terminal.ok_or("no terminal came beside the request")?;
        self.state.get().in_front.clone()
    }

    fn question(&mut self, terminal: OwnedFd, asker: BorrowedFd<'_>, text: &str, word: &str) -> io::Result<Question> {
        Question::begin(Path::new(env!("CARGO_BIN_EXE_secai-profiles")), terminal, asker, text, word)
    }

    fn has(&mut self, unit: &str) -> Result<bool, String> {
        if self.state.get().mute {
            return Err("no bus".into());
        }
        Ok(!self.state.get().lacks.contains(unit))
    }

    fn check(&mut self) -> Result<Checked, String> {
        let mut state = self.state.get();
        state.looks += 1;
        let (profiles, loopback) = load_profiles(Path::new(POLICY)).unwrap();
        let profile = profiles.iter().find(|page| page.name == state.rules).cloned();
        let ruleset = profile.as_ref().map(|page| bind(&shipped(page, &loopback), MARK, ["eth0"]).to_string());
        let proven = profile.is_some() && state.refusals.is_empty() && state.foreign.is_none();
        Ok(Checked {
            verdict: if proven { "proven" } else { "refused" }.into(),
            profile: profile.map(|page| page.name),
            refusals: state.refusals.clone(),
            ruleset: ruleset.unwrap_or_default() + state.foreign.as_deref().unwrap_or_default(),
            links: state.links.clone(),
        })
    }

    fn link(&mut self) -> Result<(), NoRules> {
        self.state.step("link".into(), |it| it.refusals.clear()).map_err(NoRules::Stricter)
    }

    fn interrupted(&mut self) -> Option<UnderWay> {
        self.state.get().note.clone()
    }

    fn operator(&mut self, policy: &Policy) -> Result<Operator, String> {
        let text = self.state.get().operator.clone();
        Operator::parse(text.as_bytes(), policy).map_err(|error| error.to_string())
    }

    fn now(&self) -> Duration {
        self.began.elapsed() + self.state.get().ahead
    }
}

/// The service, running.
pub struct Device {
    pub folder: TempDir,
    pub state: Shared,
    pub recorder: Recorder,
    server: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Device {
    /// Over a state, in a network of its own. None where this is not root: CI is.
    pub fn start(state: Shared) -> Option<Self> {
        let device = Self::begin(state, true)?;
        device.state.until_entries("profile.applied", 1);
        Some(device)
    }

    /// The same while the audit daemon is away.
    pub fn without_audit(state: Shared) -> Option<Self> {
        Self::begin(state, false)
    }

    fn begin(state: Shared, audit: bool) -> Option<Self> {
        if !in_own_network() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let listener = bind_without_systemd(&folder.path().join("profiles.sock")).unwrap();
        if audit {
            start_audit(folder.path(), &state);
        }
        let waits = Waits {
            connect: Duration::from_millis(200),
            answer: Duration::from_millis(600),
            again: Duration::from_millis(50),
            ..Waits::default()
        };
        let recorder = Recorder::start(&folder.path().join("audit.sock"), waits).unwrap();
        // Before anything else here may end the process.
        let shutdown = Shutdown::on_signals().unwrap();
        let (shared, of_server) = (state.clone(), recorder.clone());
        let server = spawn(move || {
            let mut world = Fake { state: shared, began: Instant::now() };
            let (policy, page) = (Policy::read(Path::new(POLICY)).unwrap(), page(Path::new(PAGE)).unwrap());
            let (watch, readiness) = (Watch::begin().unwrap(), Readiness::from_environment());
            run(&mut world, &policy, &page, &of_server, &watch, &listener, &shutdown, &readiness)
        });
        let device = Self { folder, state, recorder, server: Some(server) };
        device.state.until("it begins", |it| it.looks > 0);
        Some(device)
    }

    pub fn start_audit(&self) {
        start_audit(self.folder.path(), &self.state);
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("profiles.sock")
    }

    pub fn connect(&self) -> Connection {
        Connection::connect(&self.socket(), PATIENCE).unwrap()
    }

    /// As another user, whom the kernel names.
    pub fn connect_as(&self, uid: u32) -> Connection {
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                let uid = rustix::process::Uid::from_raw(uid);
                rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
                self.connect()
            });
            there.join().unwrap()
        })
    }

    pub fn shown(&self) -> Shown {
        match ask(&self.connect(), Request::Show {}) {
            Reply::Shown(shown) => shown,
            other => panic!("{other:?}"),
        }
    }

    /// Lets time pass, and the loop notice.
    pub fn later(&self, by: Duration) {
        self.state.get().ahead += by;
        self.shown();
    }

    /// Has a program called `nft` change something, of which the kernel tells.
    pub fn stir(&self) {
        // What is there already is no change, of which nothing would be said.
        let words = "add table inet stirred; delete table inet stirred";
        let done = Command::new("/usr/sbin/nft").arg(words).status().unwrap();
        assert!(done.success());
    }

    /// A person has it changed, typing.
    pub fn change(&self, profile: &str) -> Reply {
        let (connection, pty) = (self.connect(), Pty::new());
        let preview = preview(&connection, profile);
        send(&connection, 2, apply(profile, &preview.token), Some(&pty.terminal));
        pty.answer(profile, profile);
        receive(&connection).0.answer
    }

    /// Waits until it ends by itself.
    pub fn ended(&mut self) -> Result<(), ServeError> {
        self.server.take().unwrap().join().unwrap()
    }

    /// Asks it to end.
    pub fn end(&mut self) -> Result<(), ServeError> {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
        let ended = self.server.take().unwrap().join().unwrap();
        self.recorder.flush(PATIENCE);
        ended
    }
}

/// Moves this thread, and those that it starts, into a network where nobody else is. Only root can, and hears from the
/// kernel what changes; that a test was left out is counted, as `require` of the crate `secai-tests` does, on which nothing
/// can depend.
pub fn in_own_network() -> bool {
    if !rustix::process::geteuid().is_root() {
        let reason = "only root hears from the kernel what changes";
        eprintln!("SKIPPED: {reason}");
        if let Some(file) = std::env::var_os("SECAI_SKIPS") {
            let mut skips = File::options().append(true).create(true).open(file).unwrap();
            skips.write_all(format!("{}\t{reason}\n", file!()).as_bytes()).unwrap();
        }
        let in_ci = std::env::var("CI").is_ok_and(|it| !matches!(it.as_str(), "" | "0" | "false"));
        assert!(!in_ci, "in CI every test runs: {reason}");
        return false;
    }
    let mut there = Command::new("/usr/bin/unshare").args(["--net", "/bin/sleep", "60"]).spawn().unwrap();
    let network = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net")).unwrap();
    let of = there.id().to_string();
    while network(&of) == network("thread-self") {
        sleep(Duration::from_millis(1));
    }
    let file = File::open(format!("/proc/{of}/ns/net")).unwrap();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    there.kill().unwrap();
    there.wait().unwrap();
    true
}

fn start_audit(folder: &Path, state: &Shared) {
    let (listener, state) = (bind_without_systemd(&folder.join("audit.sock")).unwrap(), state.clone());
    spawn(move || {
        loop {
            let _ = poll(&mut [PollFd::new(&listener, PollFlags::IN)], None);
            if let Ok(Some(connection)) = listener.accept() {
                let state = state.clone();
                spawn(move || keep(&connection, &state));
            }
        }
    });
}

/// The audit daemon's side of a connection.
fn keep(connection: &Connection, state: &Shared) {
    let mut buffer = Buffer::new();
    while let Ok(Received::Packet(packet)) = connection.receive(&mut buffer) {
        let asked: audit::Asked = audit::from_packet(packet).unwrap();
        let audit::Request::Append(append) = asked.ask else { panic!("{:?}", asked.ask) };
        let kind = audit::kind::find(&append.kind).unwrap();
        kind.check(append.data.get().as_bytes()).unwrap();
        let keeps = state.get().keeps;
        state.get().log.push(format!("entry {}", kind.name));
        let answer = match keeps {
            Keeps::Hangs => continue,
            Keeps::Refuses => audit::Reply::Refused { why: audit::Why::DiskFull, message: "the disk is full".into() },
            Keeps::All => {
                sleep(DISK);
                let mut state = state.get();
                state.log.push(format!("kept {}", kind.name));
                state.entries.push((kind.name.into(), serde_json::from_str(append.data.get()).unwrap()));
                let seq = (kind.class == audit::kind::Class::Sync).then_some(state.entries.len() as u64);
                audit::Reply::Appended { seq }
            }
        };
        let _ = connection.send(&audit::to_packet(&audit::Answered { id: asked.id, answer }).unwrap(), None);
    }
}

/// A terminal, and the keyboard and screen at its other end.
pub struct Pty {
    pub keyboard: OwnedFd,
    pub terminal: OwnedFd,
}

impl Pty {
    pub fn new() -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let keyboard = openpt(flags).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let terminal = ioctl_tiocgptpeer(&keyboard, flags).unwrap();
        Self { keyboard, terminal }
    }

    /// What stands on the screen, once this stands there.
    pub fn read_until(&self, text: &str) -> String {
        let mut screen = String::new();
        while !screen.contains(text) {
            let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(&self.keyboard, PollFlags::IN)], Some(&patience)).unwrap();
            assert!(ready > 0, "only this came: {screen}");
            let mut part = [0; 512];
            let read = rustix::io::read(&self.keyboard, &mut part).unwrap();
            screen.push_str(&String::from_utf8_lossy(&part[..read]));
        }
        screen
    }

    pub fn type_in(&self, text: &str) {
        rustix::io::write(&self.keyboard, text.as_bytes()).unwrap();
    }

    /// As the shell at the terminal would.
    pub fn read_line(&self) -> String {
        let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&self.terminal, PollFlags::IN)], Some(&patience)).unwrap();
        assert!(ready > 0, "somebody else reads at the terminal");
        let mut line = [0; 64];
        let read = rustix::io::read(&self.terminal, &mut line).unwrap();
        String::from_utf8_lossy(&line[..read]).into_owned()
    }

    /// Waits for the question about a profile, and types something; what stood on the screen.
    pub fn answer(&self, profile: &str, typed: &str) -> String {
        let screen = self.read_until(&format!("Type {profile} to confirm: "));
        self.type_in(&format!("{typed}\n"));
        screen
    }
}

pub fn apply(profile: &str, token: &str) -> Request {
    Request::Apply { profile: profile.into(), token: token.into() }
}

pub fn send(connection: &Connection, id: u64, ask: Request, beside: Option<&OwnedFd>) {
    let packet = secai_api::packet::to_packet(&Asked { id, ask }).unwrap();
    connection.send(&packet, beside.map(AsFd::as_fd)).unwrap();
}

/// The next answer; none where the connection has ended.
pub fn try_receive(connection: &Connection) -> Option<(Answered, Option<OwnedFd>)> {
    let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(connection, PollFlags::IN)], Some(&patience)).unwrap();
    assert!(ready > 0, "no answer came");
    let mut buffer = Buffer::new();
    match connection.receive_with_descriptor(&mut buffer).unwrap() {
        Received::Packet(packet) => Some((secai_api::packet::from_packet(packet).unwrap(), None)),
        Received::PacketWith(packet, beside) => Some((secai_api::packet::from_packet(packet).unwrap(), Some(beside))),
        Received::End | Received::NotYet => None,
    }
}

pub fn receive(connection: &Connection) -> (Answered, Option<OwnedFd>) {
    try_receive(connection).unwrap()
}

pub fn ask(connection: &Connection, request: Request) -> Reply {
    send(connection, 1, request, None);
    receive(connection).0.answer
}

pub fn ask_at(connection: &Connection, request: Request, terminal: &OwnedFd) -> Reply {
    send(connection, 1, request, Some(terminal));
    receive(connection).0.answer
}

pub fn preview(connection: &Connection, profile: &str) -> Preview {
    match ask(connection, Request::Preview { profile: profile.into() }) {
        Reply::Previewed(preview) => preview,
        other => panic!("{other:?}"),
    }
}

pub fn refused(reply: &Reply) -> Option<Why> {
    match reply {
        Reply::Refused { why, .. } => Some(*why),
        _ => None,
    }
}

/// Did it come to this profile?
pub fn holds(reply: &Reply, name: &str) -> bool {
    matches!(reply, Reply::Applied { profile, .. } if profile == name)
}

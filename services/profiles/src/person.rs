//! Who asks, on the word of the kernel and of logind; and the name of the profile, typed at the terminal that is his.

use crate::decide::{Process, Session, Terminal, person};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, major, minor};
use rustix::termios::{QueueSelector, isatty, tcflush};
use secai_daemon::peer::Peer;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use zbus::{Connection, OwnedObjectPath, OwnedVariant};

const LOGIND: &str = "org.freedesktop.login1";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const SESSION: &str = "org.freedesktop.login1.Session";
/// logind answers at once.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// What a terminal that can take anything takes without waiting.
const AT_ONCE_BYTES: usize = 128;
/// Longer than any name of a profile that somebody types, with corrections.
const LINE_BYTES_MAX: usize = 256;

/// The name of his terminal, where whoever asks is a person at this device's own.
///
/// # Errors
/// Why he is not, in words.
pub fn at_the_device(peer: &Peer, terminal: Option<&OwnedFd>) -> Result<String, String> {
    let terminal = terminal.ok_or("no terminal came beside the request")?;
    let pidfd = peer.pidfd.as_ref().ok_or("the process that asks has ended")?;
    let pid = pid_of(pidfd).ok_or("the process that asks has ended")?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|_| "the process that asks has ended")?;
    let process = Process::parse(&stat).ok_or("the kernel says nothing of the process that asks")?;
    let session = zbus::block_on(session(pid)).map_err(|error| format!("logind knows no session of it: {error}"))?;
    // The number may have become another process's meanwhile: not while this one lives.
    if has_ended(pidfd) {
        return Err("the process that asks has ended".to_owned());
    }
    let named = number_of(&session.terminal).ok_or("the session has no terminal")?;
    Ok(person(peer.uid, &process, &session, described(terminal), named)?)
}

fn pid_of(pidfd: &OwnedFd) -> Option<u32> {
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = about.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    pid.trim().parse().ok().filter(|pid| *pid > 0)
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    !matches!(poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&now)), Ok(0))
}

/// The number of a terminal by its name, as `/proc/PID/stat` has it.
fn number_of(name: &str) -> Option<u64> {
    if name.is_empty() || name.contains(['/', '.']) {
        return None;
    }
    let stat = rustix::fs::lstat(format!("/dev/{name}")).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice).then(|| number(stat.st_rdev))
}

/// As the kernel packs it: the low byte of the minor number, the major number, the rest of the minor number.
fn number(device: u64) -> u64 {
    let (major, minor) = (u64::from(major(device)), u64::from(minor(device)));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

fn described(terminal: &OwnedFd) -> Terminal {
    let stat = fstat(terminal).ok().filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice);
    let both = fcntl_getfl(terminal).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDWR);
    Terminal { number: stat.map_or(0, |stat| number(stat.st_rdev)), usable: both && isatty(terminal) }
}

async fn session(pid: u32) -> zbus::Result<Session> {
    let bus = zbus::connection::Builder::system().method_timeout(ANSWER_TIME_MAX).build().await?;
    let manager = ("/org/freedesktop/login1", Some("org.freedesktop.login1.Manager"));
    let reply = bus.call_method(Some(LOGIND), manager.0, manager.1, "GetSessionByPID", &pid).await?;
    let path: OwnedObjectPath = reply.body().deserialize()?;
    let text =
        async |name: &str| -> zbus::Result<String> { get(&bus, path.as_str(), name).await?.downcast_ref::<String>() };
    let is = async |name: &str| -> zbus::Result<bool> { get(&bus, path.as_str(), name).await?.downcast_ref() };
    let user: (u32, OwnedObjectPath) = get(&bus, path.as_str(), "User").await?.try_into()?;
    Ok(Session {
        uid: user.0,
        remote: is("Remote").await?,
        active: is("Active").await?,
        kind: text("Type").await?,
        class: text("Class").await?,
        terminal: text("TTY").await?,
    })
}

async fn get(bus: &Connection, path: &str, name: &str) -> zbus::Result<OwnedVariant> {
    bus.call_method(Some(LOGIND), path, Some(PROPERTIES), "Get", &(SESSION, name)).await?.body().deserialize()
}

/// What somebody typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed {
    /// The word that was asked for.
    TheWord,
    /// Something else.
    Another,
    /// Nothing, for too long; or the terminal went away.
    Nothing,
    /// Whoever asked went away first.
    Gone,
}

/// Says something at a terminal, and waits for a word to be typed there, as long as whoever asks is connected. What was
/// typed before counts for nothing.
pub fn ask(terminal: impl AsFd, asker: impl AsFd, text: &str, word: &str, within: Duration) -> Typed {
    let typed = asked(&terminal, asker, text, word, within).unwrap_or(Typed::Nothing);
    let told = match typed {
        Typed::TheWord => return typed,
        Typed::Another => "",
        Typed::Nothing => "\nNothing was typed; nothing is changed.\n",
        Typed::Gone => "\nWhoever asked has gone; nothing is changed.\n",
    };
    let _ = write_all(&terminal, told.as_bytes(), Instant::now());
    // What is left of the line is no command for whoever reads here next.
    let _ = tcflush(&terminal, QueueSelector::IFlush);
    typed
}

fn asked(terminal: impl AsFd, asker: impl AsFd, text: &str, word: &str, within: Duration) -> io::Result<Typed> {
    let until = Instant::now() + within;
    tcflush(&terminal, QueueSelector::IFlush)?;
    write_all(&terminal, text.as_bytes(), until)?;
    let mut line = Vec::new();
    loop {
        let mut both = [PollFd::new(&asker, PollFlags::RDHUP), PollFd::new(&terminal, PollFlags::IN)];
        match poll(&mut both, Some(&left_until(until))) {
            Ok(0) => return Ok(Typed::Nothing),
            Ok(_) if both.first().is_some_and(|asker| !asker.revents().is_empty()) => return Ok(Typed::Gone),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let mut part = [0; LINE_BYTES_MAX];
        let read = rustix::io::read(&terminal, &mut part)?;
        let part = part.get(..read).unwrap_or_default();
        if part.is_empty() {
            return Ok(Typed::Nothing);
        }
        line.extend_from_slice(part);
        let end = line.iter().position(|byte| [b'\n', b'\r'].contains(byte));
        if let Some(typed) = end.and_then(|end| line.get(..end)) {
            return Ok(if typed.trim_ascii() == word.as_bytes() { Typed::TheWord } else { Typed::Another });
        }
        if line.len() > LINE_BYTES_MAX {
            return Ok(Typed::Another);
        }
    }
}

fn left_until(until: Instant) -> Timespec {
    let left = until.saturating_duration_since(Instant::now());
    Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
}

/// A terminal that was halted (Ctrl-S) takes nothing: who asks there may not keep this thread for ever.
fn write_all(terminal: impl AsFd, mut text: &[u8], until: Instant) -> io::Result<()> {
    while !text.is_empty() {
        if poll(&mut [PollFd::new(&terminal, PollFlags::OUT)], Some(&left_until(until)))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match rustix::io::write(&terminal, text.get(..AT_ONCE_BYTES).unwrap_or(text)) {
            Ok(written) => text = text.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

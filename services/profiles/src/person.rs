//! Who asks, on the word of the kernel and of logind; and the name of the profile, typed at the terminal that is his.

use crate::decide::{Process, Session, Terminal, person};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, major, makedev, minor};
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
    // 0 is no terminal, and none that anybody sits at.
    let named = number_of(&session.terminal).unwrap_or(0);
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

/// The number of a terminal of the device by its name, as `/proc/PID/stat` has it. From the kernel's own list: in this
/// service's `/dev` there are none.
fn number_of(name: &str) -> Option<u64> {
    if name.is_empty() || name.contains(['/', '.']) {
        return None;
    }
    let text = std::fs::read_to_string(format!("/sys/class/tty/{name}/dev")).ok()?;
    let (major, minor) = text.trim_end().split_once(':')?;
    Some(number(makedev(major.parse().ok()?, minor.parse().ok()?)))
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
    // What is left of the line is no command for whoever reads here next; what is typed once this is told is.
    let _ = tcflush(&terminal, QueueSelector::IFlush);
    let _ = write_all(&terminal, told.as_bytes(), Instant::now());
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::{Action, LocalModes, OptionalActions, tcflow, tcgetattr, tcsetattr};
    use secai_daemon::packet::Connection;
    use std::thread::{scope, sleep};

    /// The keyboard and screen, and the terminal.
    fn pty() -> (OwnedFd, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let keyboard = openpt(flags).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let terminal = ioctl_tiocgptpeer(&keyboard, flags).unwrap();
        (keyboard, terminal)
    }

    const LONG: Duration = Duration::from_secs(20);
    const QUESTION: &str = "Type research to confirm: ";

    fn until_question(keyboard: &OwnedFd) {
        let mut screen = Vec::new();
        while !String::from_utf8_lossy(&screen).contains(QUESTION) {
            let mut part = [0; 512];
            let read = rustix::io::read(keyboard, &mut part).unwrap();
            screen.extend_from_slice(&part[..read]);
        }
    }

    fn typed(before: &str, raw: bool, keys: &[&str]) -> Typed {
        let (keyboard, terminal) = pty();
        let (asker, _caller) = Connection::pair().unwrap();
        if raw {
            let mut modes = tcgetattr(&terminal).unwrap();
            modes.make_raw();
            tcsetattr(&terminal, OptionalActions::Now, &modes).unwrap();
        }
        rustix::io::write(&keyboard, before.as_bytes()).unwrap();
        scope(|scope| {
            let asked = scope.spawn(|| ask(&terminal, &asker, QUESTION, "research", LONG));
            until_question(&keyboard);
            for part in keys {
                rustix::io::write(&keyboard, part.as_bytes()).unwrap();
                sleep(Duration::from_millis(5));
            }
            asked.join().unwrap()
        })
    }

    #[test]
    fn only_the_word_typed_after_the_question_counts() {
        let long = "x".repeat(300) + "\n";
        let padded = " ".repeat(600) + "research\n";
        let cases: [(&str, bool, &[&str], Typed); 14] = [
            ("", false, &["research\n"], Typed::TheWord),
            ("", false, &["rese", "arch", "\n"], Typed::TheWord),
            ("", false, &["  research \n"], Typed::TheWord),
            // The terminal itself corrects.
            ("", false, &["resx\u{7f}earch\n"], Typed::TheWord),
            ("", false, &["no\u{15}research\n"], Typed::TheWord),
            // Somebody who has made it raw ends the line himself.
            ("", true, &["rese", "arch", "\r"], Typed::TheWord),
            ("", true, &["resx\u{7f}earch\r"], Typed::Another),
            ("", false, &["research x\n"], Typed::Another),
            ("", false, &["\n", "research\n"], Typed::Another),
            ("", false, &["full_lab\n"], Typed::Another),
            ("", false, &[&long], Typed::Another),
            ("", false, &[&padded], Typed::Another),
            // Typed before: nothing. The half of it before, neither.
            ("research\n", false, &["\n"], Typed::Another),
            ("rese", false, &["arch\n"], Typed::Another),
        ];
        for (before, raw, keys, expected) in cases {
            assert_eq!(typed(before, raw, keys), expected, "{before:?} {raw} {keys:?}");
        }
    }

    fn reads_next(terminal: &OwnedFd) -> bool {
        let soon = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        poll(&mut [PollFd::new(terminal, PollFlags::IN)], Some(&soon)).unwrap() > 0
    }

    #[test]
    fn time_ends_it_on_a_halted_terminal_too_and_nothing_is_left_for_the_shell() {
        let (asker, _caller) = Connection::pair().unwrap();
        let short = Duration::from_millis(150);
        let (_keyboard, terminal) = pty();
        let began = Instant::now();
        assert_eq!(ask(&terminal, &asker, QUESTION, "research", short), Typed::Nothing);
        assert!(began.elapsed() >= short && began.elapsed() < LONG);
        // Ctrl-S.
        tcflow(&terminal, Action::OOff).unwrap();
        let began = Instant::now();
        assert_eq!(ask(&terminal, &asker, QUESTION, "research", short), Typed::Nothing);
        assert!(began.elapsed() < LONG, "a halted terminal");
        tcflow(&terminal, Action::OOn).unwrap();
        // What was left of a line is not the shell's.
        let (keyboard, terminal) = pty();
        let mut modes = tcgetattr(&terminal).unwrap();
        modes.local_modes.remove(LocalModes::ICANON);
        tcsetattr(&terminal, OptionalActions::Now, &modes).unwrap();
        scope(|scope| {
            let asked = scope.spawn(|| ask(&terminal, &asker, QUESTION, "research", LONG));
            until_question(&keyboard);
            rustix::io::write(&keyboard, &[b'x'; 600]).unwrap();
            assert_eq!(asked.join().unwrap(), Typed::Another);
        });
        assert!(!reads_next(&terminal));
        rustix::io::write(&keyboard, b"x").unwrap();
        assert!(reads_next(&terminal), "the control");
    }

    #[test]
    fn it_ends_when_the_terminal_or_whoever_asks_goes_away() {
        let (keyboard, terminal) = pty();
        let (asker, caller) = Connection::pair().unwrap();
        scope(|scope| {
            let asked = scope.spawn(|| ask(&terminal, &asker, QUESTION, "research", LONG));
            until_question(&keyboard);
            drop(caller);
            assert_eq!(asked.join().unwrap(), Typed::Gone);
        });
        // Even where the word is there already.
        let raced = scope(|scope| {
            let asked = scope.spawn(|| ask(&terminal, &asker, QUESTION, "research", LONG));
            rustix::io::write(&keyboard, b"research\n").unwrap();
            asked.join().unwrap()
        });
        assert_eq!(raced, Typed::Gone);
        let (asker, _caller) = Connection::pair().unwrap();
        scope(|scope| {
            let asked = scope.spawn(|| ask(&terminal, &asker, QUESTION, "research", LONG));
            until_question(&keyboard);
            drop(keyboard);
            assert_eq!(asked.join().unwrap(), Typed::Nothing);
        });
    }

    #[test]
    fn a_terminal_is_known_by_its_number() {
        let (keyboard, terminal) = pty();
        let stat = fstat(&terminal).unwrap();
        let name = rustix::pty::ptsname(&keyboard, Vec::new()).unwrap().into_string().unwrap();
        assert_eq!(described(&terminal), Terminal { number: number(stat.st_rdev), usable: true });
        assert_ne!(described(&keyboard).number, described(&terminal).number, "the other end is another device");
        let flags = OFlags::RDONLY | OFlags::NOCTTY;
        let reads = rustix::fs::open(&name, flags, rustix::fs::Mode::empty()).unwrap();
        assert_eq!(described(&reads), Terminal { usable: false, ..described(&terminal) }, "to read only");
        let null = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap().into();
        assert_eq!(described(&null), Terminal { number: 0x103, usable: false }, "no terminal");
        let file: OwnedFd = tempfile::tempfile().unwrap().into();
        assert_eq!(described(&file), Terminal { number: 0, usable: false });
        // As the kernel packs it.
        for (major, minor, expected) in [(4, 1, 0x401), (136, 5, 0x8805), (5, 300, 0x10_052c)] {
            assert_eq!(number(rustix::fs::makedev(major, minor)), expected);
        }
        assert_eq!(number_of("tty"), Some(0x500), "as the kernel names it");
        let slash = name.strip_prefix("/dev/").unwrap();
        for bad in ["", slash, "..", "../tty", "null", "no-such-terminal"] {
            assert_eq!(number_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_process_is_whom_the_kernel_names_and_without_logind_nobody_is_a_person() {
        let (one, _other) = Connection::pair().unwrap();
        let mut peer = Peer::of(&one).unwrap();
        let pidfd = peer.pidfd.as_ref().unwrap();
        assert_eq!((pid_of(pidfd), has_ended(pidfd)), (Some(std::process::id()), false));
        let (_keyboard, terminal) = pty();
        let why = at_the_device(&peer, Some(&terminal)).unwrap_err();
        assert!(why.contains("logind") || why.contains("session"), "{why}");
        assert_eq!(at_the_device(&peer, None).unwrap_err(), "no terminal came beside the request");
        // One that has ended is none, whoever has its number now.
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        child.wait().unwrap();
        assert!(has_ended(&pidfd));
        assert_eq!(pid_of(&pidfd), None);
        peer.pidfd = Some(pidfd);
        assert_eq!(at_the_device(&peer, Some(&terminal)).unwrap_err(), "the process that asks has ended");
        peer.pidfd = None;
        assert_eq!(at_the_device(&peer, Some(&terminal)).unwrap_err(), "the process that asks has ended");
    }
}

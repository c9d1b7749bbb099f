//! The question at a terminal, and what was typed. A process of its own asks: whatever holds up a terminal (whoever else
//! reads there, a line that takes nothing) holds up nobody else, and ends with that process.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::termios::{QueueSelector, tcflush};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// What a terminal that can take anything takes without waiting.
const AT_ONCE_BYTES: usize = 128;
/// Longer than any name of a profile that somebody types, with corrections.
const LINE_BYTES_MAX: usize = 256;
/// The verb by which this program asks.
pub const VERB: &str = "ask";

/// What somebody typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl Typed {
    /// As the process that asks says it: by numbers that no program ends with by chance.
    const CODES: [(Self, u8); 4] = [(Self::TheWord, 94), (Self::Another, 95), (Self::Nothing, 96), (Self::Gone, 97)];

    /// What the process ends with.
    pub fn code(self) -> ExitCode {
        Self::CODES.iter().find(|(typed, _)| *typed == self).map_or(ExitCode::FAILURE, |(_, code)| (*code).into())
    }

    /// One that ended otherwise has heard nothing.
    fn of(code: Option<i32>) -> Self {
        let known = Self::CODES.iter().find(|(_, it)| code == Some(i32::from(*it)));
        known.map_or(Self::Nothing, |(typed, _)| *typed)
    }
}

/// A question that stands at a terminal. Dropped, it stands there no more.
#[derive(Debug)]
pub struct Question {
    child: Child,
    end: OwnedFd,
    terminal: OwnedFd,
}

impl Question {
    /// Has this program, by its [`VERB`], ask at the terminal for a word, as long as `asker` is connected.
    ///
    /// # Errors
    /// The kernel gives no process.
    pub fn begin(program: &Path, terminal: OwnedFd, asker: BorrowedFd<'_>, text: &str, word: &str) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args([VERB, "--word", word, "--", text]).env_clear().current_dir("/");
        command.stdin(terminal.try_clone()?).stdout(asker.try_clone_to_owned()?).stderr(Stdio::inherit());
        let mut child = command.spawn()?;
        match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(end) => Ok(Self { child, end, terminal }),
            Err(errno) => {
                child.kill()?;
                child.wait()?;
                Err(errno.into())
            }
        }
    }

    /// The terminal at which it stands.
    pub fn terminal(&self) -> &OwnedFd {
        &self.terminal
    }

    /// What was typed, once it is over.
    pub fn typed(&mut self) -> Option<Typed> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(Typed::of(status.code())),
            Err(_) => Some(Typed::Nothing),
        }
    }
}

impl AsFd for Question {
    /// Readable once it is over.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if self.typed().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
            // Half a word is no command for whoever reads there next.
            let _ = tcflush(&self.terminal, QueueSelector::IFlush);
        }
    }
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

/// A terminal that was halted (Ctrl-S) takes nothing: the time for typing ends that as well.
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
pub(crate) mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::{Action, LocalModes, OptionalActions, tcflow, tcgetattr, tcsetattr};
    use secai_daemon::packet::Connection;
    use std::thread::{scope, sleep};

    /// The keyboard and screen, and the terminal.
    pub(crate) fn pty() -> (OwnedFd, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
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
}

//! Who sits at the machine: a question on every console that the kernel writes to, and the first line that comes back from one.
//! Nobody knows which of them has a keyboard.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::termios::{InputModes, LocalModes, OptionalActions, OutputModes, Termios, tcgetattr, tcsetattr};
use secai_daemon::report::{Hint, Priority, say};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use zeroize::Zeroizing;

/// What the kernel writes to, the last one first among equals.
const CONSOLES: &str = "/sys/class/tty/console/active";
/// The terminal of whoever started a program.
const OWN: &str = "/dev/tty";
/// Of a line, above any answer.
const LINE_BYTES_MAX: usize = 1024;
/// A console that takes nothing for so long has nobody at it.
const WRITE_TIME_MAX: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// There is no terminal.
    #[error("there is no terminal to ask at")]
    None,
    /// It cannot be waited for.
    #[error("the terminals cannot be waited for")]
    Wait(#[source] io::Error),
}

impl Hint for TerminalError {
    fn hint(&self) -> Option<String> {
        Some("sit at the machine, or give credentials: secai.luks or secai.unencrypted, and secai.owner".to_owned())
    }
}

/// Does what is typed appear?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// Yes.
    Shown,
    /// No: it is a secret.
    Hidden,
}

/// Somebody who can be asked.
pub trait Ask {
    /// Tells lines.
    fn tell(&mut self, text: &str);
    /// Asks, and waits for a line.
    ///
    /// # Errors
    /// [`TerminalError`].
    fn ask(&mut self, question: &str, echo: Echo) -> Result<Zeroizing<String>, TerminalError>;
}

/// Terminals, and how they were before.
#[derive(Debug)]
pub struct Terminal(Vec<End>);

#[derive(Debug)]
struct End {
    device: OwnedFd,
    before: Termios,
    /// Of the line that is not whole yet.
    typed: Zeroizing<Vec<u8>>,
}

impl Terminal {
    /// All that the kernel writes to.
    ///
    /// # Errors
    /// [`TerminalError::None`].
    pub fn of_the_machine() -> Result<Self, TerminalError> {
        let names = std::fs::read_to_string(CONSOLES).unwrap_or_default();
        Self::of(names.split_whitespace().map(|name| format!("/dev/{name}")))
    }

    /// That of whoever started this program.
    ///
    /// # Errors
    /// [`TerminalError::None`].
    pub fn own() -> Result<Self, TerminalError> {
        Self::of([OWN.to_owned()])
    }

    fn of(paths: impl IntoIterator<Item = String>) -> Result<Self, TerminalError> {
        let ends: Vec<End> = paths.into_iter().filter_map(|path| End::open(Path::new(&path))).collect();
        if ends.is_empty() { Err(TerminalError::None) } else { Ok(Self(ends)) }
    }

    fn write(&mut self, text: &str) {
        let text = text.replace('\n', "\r\n");
        self.0.iter().for_each(|end| end.write(text.as_bytes()));
    }

    /// The first whole line of any.
    fn line(&mut self) -> Result<Zeroizing<Vec<u8>>, TerminalError> {
        loop {
            if self.0.is_empty() {
                return Err(TerminalError::None);
            }
            let mut waits: Vec<PollFd> = self.0.iter().map(|end| PollFd::new(&end.device, PollFlags::IN)).collect();
            match poll(&mut waits, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(TerminalError::Wait(errno.into())),
            }
            let ready: Vec<bool> = waits.iter().map(|it| !it.revents().is_empty()).collect();
            drop(waits);
            let mut ready = ready.into_iter();
            let mut whole = None;
            // Nobody is at one that hung up.
            self.0.retain_mut(|end| match ready.next() {
                Some(true) if whole.is_none() => match end.read() {
                    Ok(line) => {
                        whole = line;
                        true
                    }
                    Err(Errno::AGAIN | Errno::INTR) => true,
                    Err(_) => false,
                },
                _ => true,
            });
            if let Some(line) = whole {
                return Ok(line);
            }
        }
    }
}

impl Ask for Terminal {
    fn tell(&mut self, text: &str) {
        self.write(&format!("{text}\n"));
    }

    fn ask(&mut self, question: &str, echo: Echo) -> Result<Zeroizing<String>, TerminalError> {
        loop {
            self.0.iter_mut().for_each(|end| end.listen(echo));
            self.write(&format!("{question} "));
            let line = self.line()?;
            if echo == Echo::Hidden {
                self.write("\n");
            }
            match std::str::from_utf8(&line) {
                Ok(text) => return Ok(Zeroizing::new(text.to_owned())),
                Err(_) => self.tell("That was no text."),
            }
        }
    }
}

impl End {
    fn open(path: &Path) -> Option<Self> {
        // A line without a carrier would be waited for.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let device = open(path, flags, Mode::empty()).ok()?;
        let before = tcgetattr(&device).ok()?;
        Some(Self { device, before, typed: Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX)) })
    }

    /// By whole lines; what was typed before it was asked for is thrown away.
    fn listen(&mut self, echo: Echo) {
        let mut now = self.before.clone();
        now.input_modes |= InputModes::ICRNL;
        now.output_modes |= OutputModes::OPOST;
        now.local_modes |= LocalModes::ICANON | LocalModes::ECHOE;
        now.local_modes -= LocalModes::ISIG;
        now.local_modes.set(LocalModes::ECHO | LocalModes::ECHONL, echo == Echo::Shown);
        let _ = tcsetattr(&self.device, OptionalActions::Flush, &now);
        self.typed = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX));
    }

    fn write(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match rustix::io::write(&self.device, bytes) {
                Ok(length @ 1..) => bytes = bytes.get(length..).unwrap_or_default(),
                Err(Errno::AGAIN) => {
                    let mut wait = [PollFd::new(&self.device, PollFlags::OUT)];
                    if !matches!(poll(&mut wait, Some(&WRITE_TIME_MAX)), Ok(1..)) {
                        return;
                    }
                }
                Err(Errno::INTR) => {}
                _ => return,
            }
        }
    }

    /// A line, without its end; none while it is not whole.
    fn read(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, Errno> {
        let mut piece = Zeroizing::new([0; LINE_BYTES_MAX]);
        let length = rustix::io::read(&self.device, piece.as_mut_slice())?;
        let piece = piece.get(..length).filter(|it| !it.is_empty()).ok_or(Errno::IO)?;
        let room = LINE_BYTES_MAX.saturating_sub(self.typed.len());
        self.typed.extend_from_slice(piece.get(..room.min(length)).unwrap_or_default());
        if !piece.ends_with(b"\n") && room > length {
            return Ok(None);
        }
        let line = self.typed.strip_suffix(b"\n").unwrap_or(&self.typed).to_vec();
        self.typed = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX));
        Ok(Some(Zeroizing::new(line)))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        for end in &self.0 {
            let _ = tcsetattr(&end.device, OptionalActions::Flush, &end.before);
        }
    }
}

/// For the journal, and for whoever sits at the machine.
pub fn announce(priority: Priority, text: &str) {
    say(priority, text);
    if let Ok(mut terminal) = Terminal::of_the_machine() {
        let text: String = text.chars().map(|it| if it.is_control() && it != '\n' { '\u{fffd}' } else { it }).collect();
        terminal.write("\n");
        terminal.tell(text.trim_end());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    /// Somebody whose answers are known before; what he was told and asked.
    #[derive(Debug, Default)]
    pub struct Scripted {
        pub answers: Vec<&'static str>,
        pub heard: String,
    }

    impl Scripted {
        pub fn of(answers: &[&'static str]) -> Self {
            Self { answers: answers.iter().rev().copied().collect(), heard: String::new() }
        }
    }

    impl Ask for Scripted {
        fn tell(&mut self, text: &str) {
            self.heard.push_str(&format!("{text}\n"));
        }

        fn ask(&mut self, question: &str, echo: Echo) -> Result<Zeroizing<String>, TerminalError> {
            self.heard.push_str(&format!("{question} {echo:?}\n"));
            self.answers.pop().map(|it| Zeroizing::new(it.to_owned())).ok_or(TerminalError::None)
        }
    }

    fn pty() -> (OwnedFd, String) {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap().into_string().unwrap();
        (keyboard, name)
    }

    fn shown(keyboard: &OwnedFd, until: &str) -> String {
        let mut text = String::new();
        while !text.contains(until) {
            let mut piece = [0; 256];
            let length = rustix::io::read(keyboard, &mut piece).unwrap();
            text.push_str(std::str::from_utf8(&piece[..length]).unwrap());
        }
        text
    }

    #[test]
    fn every_console_is_asked_and_the_first_line_counts() {
        let ((one, first), (other, second)) = (pty(), pty());
        let before = tcgetattr(&one).unwrap();
        let mut terminal = Terminal::of([first, "/no/such/terminal".to_owned(), second]).unwrap();
        let person = std::thread::spawn(move || {
            let questions = [&one, &other].map(|it| shown(it, "Name?"));
            rustix::io::write(&other, b"ad").unwrap();
            rustix::io::write(&other, b"ax\x7f\n").unwrap();
            let echoed = shown(&other, "Secret?");
            rustix::io::write(&one, "gr\u{fc}n\n".as_bytes()).unwrap();
            let hidden = shown(&one, "end");
            (questions, echoed, hidden, one, other)
        });
        assert_eq!(terminal.ask("Name?", Echo::Shown).unwrap().as_str(), "ada");
        assert_eq!(terminal.ask("Secret?", Echo::Hidden).unwrap().as_str(), "gr\u{fc}n");
        terminal.tell("end");
        let (questions, echoed, hidden, one, other) = person.join().unwrap();
        assert!(questions.iter().all(|it| it == "Name? "), "{questions:?}");
        assert!(echoed.contains("ada"), "{echoed:?}");
        assert!(!hidden.contains('\u{fc}'), "{hidden:?}");
        // One hangs up; the other is still heard.
        drop(other);
        rustix::io::write(&one, b"thrown away\n").unwrap();
        poll(&mut [PollFd::new(&terminal.0[0].device, PollFlags::IN)], None).unwrap();
        let person = std::thread::spawn(move || {
            shown(&one, "More?");
            rustix::io::write(&one, b"still here\n").unwrap();
            one
        });
        assert_eq!(terminal.ask("More?", Echo::Hidden).unwrap().as_str(), "still here");
        let one = person.join().unwrap();
        drop(terminal);
        assert_eq!(tcgetattr(&one).unwrap().local_modes, before.local_modes, "it is as it was");
    }

    #[test]
    fn without_a_terminal_nobody_is_asked() {
        assert!(matches!(Terminal::of(["/dev/null".to_owned()]), Err(TerminalError::None)));
        let (keyboard, name) = pty();
        let mut terminal = Terminal::of([name]).unwrap();
        drop(keyboard);
        assert!(matches!(terminal.ask("Name?", Echo::Shown), Err(TerminalError::None)));
    }
}

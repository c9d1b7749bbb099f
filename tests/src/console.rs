//! Somebody at the serial console of a guest: a test types there, and hears what is said.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What a guest may take to boot, under software emulation on a machine with other work.
pub const BOOTS_WITHIN: Duration = Duration::from_secs(600);
/// And for one command.
const ANSWERS_WITHIN: Duration = Duration::from_secs(300);

/// QEMU's own prompt.
const QEMU: &str = "(qemu) ";
/// Turns the console from the guest to QEMU and back.
const TURN: &[u8] = b"\x01c";

/// A guest's console.
#[derive(Debug)]
pub struct Console {
    child: Child,
    keyboard: ChildStdin,
    heard: Arc<Mutex<String>>,
    at: usize,
    asked: u32,
}

/// What a command in the guest came to.
#[derive(Debug)]
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// Both of its streams.
    pub text: String,
}

impl Said {
    /// # Panics
    /// When it ended with another code.
    #[track_caller]
    pub fn ended(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}", self.text);
        self.text
    }
}

impl Console {
    /// Starts what has the console as its standard input and output.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn begin(mut boot: Command) -> Self {
        let mut child = boot.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let keyboard = child.stdin.take().unwrap();
        let mut said = child.stdout.take().unwrap();
        let heard = Arc::new(Mutex::new(String::new()));
        let ears = Arc::clone(&heard);
        thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(length @ 1..) = said.read(&mut part) {
                ears.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&part[..length]));
            }
        });
        Self { child, keyboard, heard, at: 0, asked: 0 }
    }

    /// Whoever logged in here speaks plainly from now on: no colours, no echo, no prompt, no line that is cut.
    ///
    /// # Panics
    /// When the guest is gone.
    pub fn settle(&mut self) {
        self.say("bind 'set enable-bracketed-paste off'; stty -echo cols 500; PS1= PS2= SYSTEMD_COLORS=0 SYSTEMD_PAGER=cat; export SYSTEMD_COLORS SYSTEMD_PAGER; set -m");
        self.run("dmesg --console-off 2>/dev/null");
    }

    /// Types a line.
    ///
    /// # Panics
    /// When the guest is gone.
    pub fn say(&mut self, line: &str) {
        self.keyboard.write_all(format!("{line}\r").as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// Waits for these words; everything up to them.
    ///
    /// # Panics
    /// When they do not come.
    #[track_caller]
    pub fn hear(&mut self, words: &str) -> String {
        self.hear_within(words, ANSWERS_WITHIN)
    }

    /// The same, for so long.
    ///
    /// # Panics
    /// When they do not come.
    #[track_caller]
    pub fn hear_within(&mut self, words: &str, within: Duration) -> String {
        let end = Instant::now() + within;
        loop {
            let heard = self.heard();
            let rest = &heard[self.at..];
            if let Some(found) = rest.find(words) {
                self.at += found + words.len();
                return rest[..found].to_owned();
            }
            let is_over = Instant::now() > end || self.child.try_wait().unwrap().is_some();
            assert!(!is_over, "`{words}` was not heard; {rest}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// All that was said so far.
    pub fn heard(&self) -> String {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hears a question, and answers.
    ///
    /// # Panics
    /// When nobody asks.
    #[track_caller]
    pub fn answer(&mut self, question: &str, answer: &str) -> String {
        let before = self.hear_within(question, BOOTS_WITHIN);
        self.say(answer);
        before
    }

    /// Runs a command as whoever is logged in.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn run(&mut self, command: &str) -> Said {
        self.begin_command(command);
        self.end_command()
    }

    /// Types a command and does not wait: it asks back.
    ///
    /// # Panics
    /// When the guest is gone.
    pub fn begin_command(&mut self, command: &str) {
        self.asked += 1;
        // In two words: what is typed may be heard as well.
        self.say(&format!("{command}; echo SECAI-\"\"END-{} $?", self.asked));
    }

    /// Waits for the end of what was begun.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn end_command(&mut self) -> Said {
        let text = self.hear(&format!("SECAI-END-{} ", self.asked)).replace('\r', "");
        let code = self.hear("\n").trim().parse().unwrap();
        Said { code, text }
    }

    /// Says something to QEMU itself; what it answers.
    ///
    /// # Panics
    /// When it is gone.
    #[track_caller]
    pub fn qemu(&mut self, command: &str) -> String {
        self.turn();
        self.hear(QEMU);
        self.say(command);
        let said = self.hear(QEMU);
        self.turn();
        said
    }

    fn turn(&mut self) {
        self.keyboard.write_all(TURN).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// So many commands were begun: each has its number.
    pub fn asked(&self) -> u32 {
        self.asked
    }

    /// Of a guest that was taken back: it knows of so many.
    pub fn set_asked(&mut self, asked: u32) {
        self.asked = asked;
    }

    /// Waits until the guest is off.
    ///
    /// # Panics
    /// When it does not end well.
    pub fn is_off(&mut self) {
        assert!(self.child.wait().unwrap().success(), "it powers off: {}", &self.heard()[self.at..]);
    }

    /// Takes its power away. What starts it takes the guest along.
    ///
    /// # Panics
    /// When it is gone already.
    pub fn cut(mut self) -> String {
        self.child.kill().unwrap();
        let _ = self.child.wait();
        self.heard()
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

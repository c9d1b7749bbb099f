//! A booted guest, with somebody at its console: a test types there, and hears what is said; and every frame that came out.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::composing::Composing;
use crate::lan::Lan;
use crate::{as_root, program};

/// What a guest may take to boot, under software emulation on a machine with other work.
const BOOTS_WITHIN: Duration = Duration::from_secs(600);
/// And for one command.
const ANSWERS_WITHIN: Duration = Duration::from_secs(300);
/// As long as a test of a whole device may take.
const ENDS_WITHIN_S: &str = "3600";

/// A person of the device, logged in at its serial console. Her number is 1000.
pub const PERSON: &str = "ada";

/// Runs what is put down for it, as root and without a terminal: what a service could do.
const ROOT: &str = "mkdir -p -m 1777 /run/test
n=1
while :; do
  if [ -e /run/test/ask.$n ]; then
    sh /run/test/ask.$n >/run/test/out 2>&1; echo \"SECAI-ENDED $?\" >>/run/test/out
    mv /run/test/out /run/test/answer.$n
    n=$((n + 1))
  fi
  sleep 0.1
done
";
const ROOT_UNIT: &str = "[Service]
ExecStart=/bin/sh /usr/lib/secai-root.sh
[Install]
WantedBy=multi-user.target
";
const LOGIN: &str = "[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin ada --noclear --keep-baud 115200,57600,38400,9600 - ${TERM}
";

/// Has the device of this recipe log a person in by itself, and run commands as root.
///
/// # Panics
/// When its folder cannot be written to.
pub fn with_person(composing: &Composing, files: &[(&str, &str, &str)], users: &str) {
    let own = [
        ("login.conf", "/usr/lib/systemd/system/serial-getty@.service.d/login.conf", LOGIN),
        ("root.service", "/usr/lib/systemd/system/secai-root.service", ROOT_UNIT),
        ("root.sh", "/usr/lib/secai-root.sh", ROOT),
    ];
    let mut lines = String::new();
    for (name, to, text) in own.iter().chain(files) {
        fs::write(composing.scratch.join(name), text).unwrap();
        lines.push_str(&format!("  - {{path: {to}, source: {name}}}\n"));
    }
    composing.add(&[("\nfiles:\n", lines), ("\nunits:\n", "  enable: [secai-root.service]\n".to_owned())]);
    let recipe = composing.scratch.join("recipe.yml");
    let text = fs::read_to_string(&recipe).unwrap();
    let person = format!("  - {{name: {PERSON}, uid: 1000, home: /run, shell: /bin/bash}}\n");
    fs::write(recipe, format!("{text}\nusers:\n{person}{users}")).unwrap();
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

/// A guest that runs.
#[derive(Debug)]
pub struct Machine {
    child: Child,
    console: ChildStdin,
    heard: Arc<Mutex<String>>,
    at: usize,
    asked: u32,
    scripts: u32,
    frames: PathBuf,
    /// As long as it runs.
    _lan: Lan,
}

impl Machine {
    /// Boots what was composed, and waits for the person's shell.
    ///
    /// # Panics
    /// When it does not come so far.
    pub fn boot(composing: &Composing) -> Self {
        let frames = composing.scratch.join("frames.pcap");
        let mut boot = as_root("env");
        boot.args(composing.surroundings())
            .arg(program("secai-build"))
            .arg("boot")
            .arg(composing.out().join("6-bundle"));
        // The person is in its image.
        boot.args(["--credential", "secai.owner=none"]);
        boot.args(["--console", "--timeout", ENDS_WITHIN_S, "--append", "quiet", "--network"]).arg(&frames);
        let lan = Lan::begin(&composing.scratch.join("wire"));
        boot.arg("--wire").arg(lan.wire());
        boot.arg("--log").arg(composing.scratch.join("serial.log"));
        let mut child = boot.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let console = child.stdin.take().unwrap();
        let mut said = child.stdout.take().unwrap();
        let heard = Arc::new(Mutex::new(String::new()));
        let ears = Arc::clone(&heard);
        thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(length @ 1..) = said.read(&mut part) {
                ears.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&part[..length]));
            }
        });
        let mut machine = Self { child, console, heard, at: 0, asked: 0, scripts: 0, frames, _lan: lan };
        machine.hear_within(&format!("{PERSON}@"), BOOTS_WITHIN);
        // No colours, no echo, no prompt, no line that is cut.
        machine.say("bind 'set enable-bracketed-paste off'; stty -echo cols 500; PS1= PS2= SYSTEMD_COLORS=0 SYSTEMD_PAGER=cat; export SYSTEMD_COLORS SYSTEMD_PAGER; set -m");
        machine.person("dmesg --console-off 2>/dev/null");
        machine
    }

    /// Types a line.
    ///
    /// # Panics
    /// When the guest is gone.
    pub fn say(&mut self, line: &str) {
        self.console.write_all(format!("{line}\r").as_bytes()).unwrap();
        self.console.flush().unwrap();
    }

    /// Waits for these words; everything up to them.
    ///
    /// # Panics
    /// When they do not come.
    #[track_caller]
    pub fn hear(&mut self, words: &str) -> String {
        self.hear_within(words, ANSWERS_WITHIN)
    }

    #[track_caller]
    fn hear_within(&mut self, words: &str, within: Duration) -> String {
        let end = Instant::now() + within;
        loop {
            let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
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

    /// Runs a command at the console, as the person there.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn person(&mut self, command: &str) -> Said {
        self.begin(command);
        self.end()
    }

    /// Types a command and does not wait: it asks back.
    ///
    /// # Panics
    /// When the guest is gone.
    pub fn begin(&mut self, command: &str) {
        self.asked += 1;
        // In two words: what is typed may be heard as well.
        self.say(&format!("{command}; echo SECAI-\"\"END-{} $?", self.asked));
    }

    /// Waits for the end of what was begun.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn end(&mut self) -> Said {
        let text = self.hear(&format!("SECAI-END-{} ", self.asked)).replace('\r', "");
        let code = self.hear("\n").trim().parse().unwrap();
        Said { code, text }
    }

    /// Runs a script as root, beside the person and without a terminal.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn root(&mut self, script: &str) -> Said {
        self.begin_root(script);
        self.end_root()
    }

    /// Waits for the end of what was begun.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn end_root(&mut self) -> Said {
        let answer = format!("/run/test/answer.{}", self.scripts);
        let said = self.person(&format!("until [ -e {answer} ]; do sleep 0.1; done; cat {answer}")).ended(0);
        let (text, code) = said.rsplit_once("SECAI-ENDED ").unwrap_or_else(|| panic!("{said}"));
        Said { code: code.trim().parse().unwrap(), text: text.to_owned() }
    }

    /// Has a script run while the person does something else.
    ///
    /// # Panics
    /// When the guest is gone.
    pub fn begin_root(&mut self, script: &str) {
        self.scripts += 1;
        self.say("cat >/run/test/new <<'SECAI-SCRIPT'");
        script.lines().for_each(|line| self.say(line));
        self.say("SECAI-SCRIPT");
        self.say(&format!("mv /run/test/new /run/test/ask.{}", self.scripts));
    }

    /// Every frame that came out of its network card so far.
    ///
    /// # Panics
    /// When QEMU did not write them down.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        sent(&self.frames)
    }

    /// Powers it off, and waits.
    ///
    /// # Panics
    /// When it does not end well.
    pub fn power_off(mut self) -> Vec<Vec<u8>> {
        self.begin_root("systemctl poweroff");
        assert!(self.child.wait().unwrap().success(), "it powers off");
        sent(&self.frames)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Of the guest's network card, as `secai-build boot` makes it.
const CARD: [u8; 6] = [0x02, 0x5e, 0xca, 0x10, 0x05, 0x01];
/// A header of pcap, and of each packet in it.
const HEADER: usize = 24;
const PACKET_HEADER: usize = 16;

fn sent(pcap: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(pcap).unwrap();
    let mut rest = &bytes[HEADER.min(bytes.len())..];
    let mut frames = Vec::new();
    while rest.len() >= PACKET_HEADER {
        let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        let Some(frame) = rest.get(PACKET_HEADER..PACKET_HEADER + length) else { break };
        if frame.get(6..12) == Some(&CARD) {
            frames.push(frame.to_vec());
        }
        rest = &rest[PACKET_HEADER + length..];
    }
    frames
}

//! A booted guest, with somebody at its console: a test types there, and hears what is said; and every frame that came out.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use crate::composing::Composing;
pub use crate::console::Said;
use crate::console::{BOOTS_WITHIN, Console};
use crate::lan::{Lan, ROUTER_CARD};
use crate::{as_root, program};

mod snapshot;

pub use snapshot::Kept;

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

/// A guest that runs.
#[derive(Debug)]
pub struct Machine {
    console: Console,
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
        Self::start(composing, &composing.out().join("6-bundle"), &["--append", "quiet"])
    }

    /// Starts a disk of what was composed, as a machine does, and waits for the person's shell. What the guest writes stays there.
    ///
    /// # Panics
    /// When it does not come so far.
    pub fn boot_disk(composing: &Composing, disk: &Path) -> Self {
        Self::start(composing, disk, &["--keep"])
    }

    fn start(composing: &Composing, from: &Path, more: &[&str]) -> Self {
        let frames = composing.scratch.join("frames.pcap");
        let mut boot = as_root("env");
        boot.args(composing.surroundings()).arg(program("secai-build")).arg("boot").arg(from).args(more);
        // The person is in its image; what she writes is nobody's.
        boot.args(["--credential", "secai.owner=none", "--credential", "secai.unencrypted=yes"]);
        boot.args(["--console", "--timeout", ENDS_WITHIN_S, "--network"]).arg(&frames);
        let lan = Lan::begin(&composing.scratch.join("wire"));
        boot.arg("--wire").arg(lan.wire());
        boot.arg("--log").arg(composing.scratch.join("serial.log"));
        let mut machine = Self { console: Console::begin(boot), scripts: 0, frames, _lan: lan };
        machine.hear_login();
        machine
    }

    /// Waits until it is up, and the person is logged in.
    ///
    /// # Panics
    /// When it does not come so far.
    pub fn hear_login(&mut self) {
        self.console.hear_within(&format!("{PERSON}@"), BOOTS_WITHIN);
        self.scripts = 0;
        self.console.settle();
    }

    /// How much was heard so far; see [`Self::heard_since`].
    pub fn ears(&self) -> usize {
        self.console.heard().len()
    }

    /// What was heard since, whoever waited for it.
    pub fn heard_since(&self, ears: usize) -> String {
        self.console.heard()[ears..].to_owned()
    }

    /// Types a line.
    ///
    /// # Panics
    /// When the guest is gone.
    pub fn say(&mut self, line: &str) {
        self.console.say(line);
    }

    /// Waits for these words; everything up to them.
    ///
    /// # Panics
    /// When they do not come.
    #[track_caller]
    pub fn hear(&mut self, words: &str) -> String {
        self.console.hear(words)
    }

    /// Runs a command at the console, as the person there.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn person(&mut self, command: &str) -> Said {
        self.console.run(command)
    }

    /// Types a command and does not wait: it asks back.
    ///
    /// # Panics
    /// When the guest is gone.
    pub fn begin(&mut self, command: &str) {
        self.console.begin_command(command);
    }

    /// Waits for the end of what was begun.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn end(&mut self) -> Said {
        self.console.end_command()
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
        self.console.is_off();
        sent(&self.frames)
    }
}

/// The end of the journal, as much as explains a failure.
const JOURNAL: &str = "journalctl --boot --no-pager --lines=3000";
/// Leaves whatever the person's shell is in the middle of.
const INTERRUPT: &str = "\u{3}";

impl Drop for Machine {
    /// Of a test that fails the journal is kept, where the guest still answers.
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        let to = self.frames.with_file_name("guest.journal");
        // In a thread of its own: what panics there is no second panic here.
        let said = thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.say(INTERRUPT);
                    self.root(JOURNAL).text
                })
                .join()
        });
        match said {
            Ok(journal) => drop(fs::write(to, journal)),
            Err(_) => eprintln!("the guest gives no journal any more"),
        }
    }
}

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
        // Whatever address the guest gave as its own.
        if frame.get(6..12) != Some(&ROUTER_CARD) {
            frames.push(frame.to_vec());
        }
        rest = &rest[PACKET_HEADER + length..];
    }
    frames
}

//! A guest taken back to how it was: what a fault leaves costs seconds to undo, where a boot costs a minute.

use std::io::Write;
use std::path::Path;

use super::Machine;

/// The guest as it was once: memory, devices and disk.
#[derive(Debug)]
pub struct Kept {
    name: String,
    asked: u32,
    scripts: u32,
}

/// QEMU's own prompt.
const PROMPT: &str = "(qemu) ";
/// Turns the console from the guest to QEMU and back.
const TURN: &[u8] = b"\x01c";

impl Machine {
    /// Says something to QEMU itself; what it answers.
    ///
    /// # Panics
    /// When it is gone.
    #[track_caller]
    pub fn qemu(&mut self, command: &str) -> String {
        self.turn();
        self.hear(PROMPT);
        self.say(command);
        let said = self.hear(PROMPT);
        self.turn();
        said
    }

    fn turn(&mut self) {
        self.console.write_all(TURN).unwrap();
        self.console.flush().unwrap();
    }

    /// Keeps it as it is now; nothing may be running at its console.
    ///
    /// # Panics
    /// When QEMU cannot: its disk is qcow2.
    pub fn keep(&mut self, name: &str) -> Kept {
        let said = self.qemu(&format!("savevm {name}"));
        assert!(!said.contains("Error"), "{said}");
        Kept { name: name.to_owned(), asked: self.asked, scripts: self.scripts }
    }

    /// As it was.
    ///
    /// # Panics
    /// When QEMU cannot.
    pub fn back_to(&mut self, kept: &Kept) {
        let said = self.qemu(&format!("loadvm {}", kept.name));
        assert!(!said.contains("Error"), "{said}");
        (self.asked, self.scripts) = (kept.asked, kept.scripts);
        // What came over the console after the moment that is gone.
        self.person("true").ended(0);
    }

    /// Keeps what lies on its disk at this instant, as if power failed now: what the guest's kernel has not written is not there.
    ///
    /// # Panics
    /// When QEMU cannot.
    pub fn keep_disk(&mut self, name: &str) {
        self.qemu("stop");
        let said = self.qemu(&format!("snapshot_blkdev_internal root {name}"));
        assert!(!said.contains("Error"), "{said}");
        self.qemu("cont");
    }

    /// Takes its power away; what was kept of its disk stays in `disk`.
    ///
    /// # Panics
    /// When it does not end.
    pub fn cut(mut self, disk: &Path) {
        self.turn();
        self.hear(PROMPT);
        self.say("quit");
        self.child.wait().unwrap();
        assert!(disk.is_file());
    }
}

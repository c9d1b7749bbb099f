//! A guest taken back to how it was: what a fault leaves costs seconds to undo, where a boot costs a minute.

use super::Machine;

/// The guest as it was once: memory, devices and disk.
#[derive(Debug)]
pub struct Kept {
    name: String,
    asked: u32,
    scripts: u32,
}

impl Machine {
    /// Keeps it as it is now; nothing may be running at its console.
    ///
    /// # Panics
    /// When QEMU cannot: its disk is qcow2.
    pub fn keep(&mut self, name: &str) -> Kept {
        let said = self.console.qemu(&format!("savevm {name}"));
        assert!(!said.contains("Error"), "{said}");
        Kept { name: name.to_owned(), asked: self.console.asked(), scripts: self.scripts }
    }

    /// As it was.
    ///
    /// # Panics
    /// When QEMU cannot.
    pub fn back_to(&mut self, kept: &Kept) {
        let said = self.console.qemu(&format!("loadvm {}", kept.name));
        assert!(!said.contains("Error"), "{said}");
        self.console.set_asked(kept.asked);
        self.scripts = kept.scripts;
        // What came over the console after the moment that is gone.
        self.person("true").ended(0);
    }

    /// Keeps what lies on its disk at this instant, as if power failed now: what the guest's kernel has not written is not there.
    ///
    /// # Panics
    /// When QEMU cannot.
    pub fn keep_disk(&mut self, name: &str) {
        self.console.qemu("stop");
        let said = self.console.qemu(&format!("snapshot_blkdev_internal root {name}"));
        assert!(!said.contains("Error"), "{said}");
        self.console.qemu("cont");
    }
}

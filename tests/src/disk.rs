//! A disk of the device, as `secai-build disk` made it, and where its partitions lie.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::ran;

/// The file, in a folder of its own.
#[derive(Debug)]
pub struct Disk {
    /// Itself.
    pub path: PathBuf,
    partitions: Vec<Value>,
}

impl Disk {
    /// Runs `secai-build --json disk … --output PATH`, as whoever may.
    ///
    /// # Panics
    /// When it is not made.
    pub fn made(make: &mut Command, path: &Path) -> Self {
        let made: Value = serde_json::from_str(&ran(make).good().out).unwrap();
        // QEMU and others write to it as whoever runs this test.
        ran(crate::as_root("chmod").arg("666").arg(path)).good();
        Self { path: path.to_owned(), partitions: made["partitions"].as_array().unwrap().clone() }
    }

    /// Where a partition begins, and how many bytes it has.
    ///
    /// # Panics
    /// When there is none of this name.
    #[track_caller]
    pub fn partition(&self, name: &str) -> (u64, u64) {
        let partition = self.partitions.iter().find(|it| it["name"] == name).unwrap();
        let [offset, bytes] = ["offset", "bytes"].map(|key| partition[key].as_u64().unwrap());
        (offset, bytes)
    }

    /// All of them, as they were told.
    pub fn partitions(&self) -> &[Value] {
        &self.partitions
    }
}

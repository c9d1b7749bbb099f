//! The numbers of a disk. All of them follow from its commit, so that the same release gives the same disk; two disks
//! of one release in one machine cannot be told apart by them.

use secai_verifier::digest::Digest;
use sha2::{Digest as _, Sha256};
use std::fmt;

/// What every number is made with, besides its own word.
const DOMAIN: &str = "secai disk 1";

/// The partitions, in their order on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What the firmware reads.
    Esp,
    /// Kernels, and the entries that start them.
    Boot,
    /// The OSTree system.
    Root,
    /// What the device writes.
    Var,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 4] = [Part::Esp, Part::Boot, Part::Root, Part::Var];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Part::Esp => "esp",
            Part::Boot => "boot",
            Part::Root => "root",
            Part::Var => "var",
        }
    }

    /// Its place in the table, from 1.
    pub fn number(self) -> u32 {
        match self {
            Part::Esp => 1,
            Part::Boot => 2,
            Part::Root => 3,
            Part::Var => 4,
        }
    }

    /// What it is for, in the numbers of UEFI and of the Discoverable Partitions Specification.
    pub fn kind(self) -> Uuid {
        Uuid(match self {
            Part::Esp => 0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b,
            Part::Boot => 0xbc13c2ff_59e6_4262_a352_b275fd6f7172,
            Part::Root => 0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709,
            Part::Var => 0x4d21b016_b534_45c2_a9fb_5c16e091fd2d,
        })
    }
}

/// A number of 128 bits, written as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uuid(u128);

impl Uuid {
    /// As a partition table has it: its first three groups with their last byte first.
    pub fn in_table(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.0.to_be_bytes();
        let [i, j, k, l, m, n, o, p] = rest;
        [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let group = |from: u32, bits: u32| (self.0 >> from) & ((1 << bits) - 1);
        let groups = [group(96, 32), group(80, 16), group(64, 16), group(48, 16), group(0, 48)];
        let [a, b, c, d, e] = groups;
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
    }
}

/// The numbers of one commit's disk.
#[derive(Debug, Clone, Copy)]
pub struct Ids(Digest);

impl Ids {
    /// Those of this commit.
    pub fn of(commit: Digest) -> Self {
        Self(commit)
    }

    fn hash(&self, word: &str) -> [u8; 16] {
        let digest: [u8; 32] = Sha256::digest(format!("{DOMAIN}\n{word}\n{}\n", self.0)).into();
        let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = digest;
        first
    }

    fn uuid(&self, word: &str) -> Uuid {
        const VERSION: u128 = 0xf << 76;
        const VARIANT: u128 = 0b11 << 62;
        // RFC 9562: version 8, whose bits are the maker's.
        Uuid((u128::from_be_bytes(self.hash(word)) & !VERSION & !VARIANT) | (8 << 76) | (0b10 << 62))
    }

    /// Of the table itself.
    pub fn disk(&self) -> Uuid {
        self.uuid("disk")
    }

    /// Of a partition.
    pub fn partition(&self, part: Part) -> Uuid {
        self.uuid(&format!("partition {}", part.name()))
    }

    /// Of the file system on it.
    pub fn file_system(&self, part: Part) -> Uuid {
        self.uuid(&format!("file system {}", part.name()))
    }

    /// What names in its folders are hashed with.
    pub fn hash_seed(&self, part: Part) -> Uuid {
        self.uuid(&format!("hash seed {}", part.name()))
    }

    /// Of the EFI system partition, which has room for 32 bits.
    pub fn volume(&self) -> u32 {
        let [a, b, c, d, ..] = self.hash("volume esp");
        u32::from_be_bytes([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_follow_from_the_commit_and_differ_by_their_word() {
        let [one, other] = [b"one", b"two"].map(|it| Ids::of(Digest::of(it)));
        let all = |ids: Ids| {
            let of = |part| [ids.partition(part), ids.file_system(part), ids.hash_seed(part)].map(|it| it.to_string());
            let mut all: Vec<String> = Part::ALL.into_iter().flat_map(of).collect();
            all.push(ids.disk().to_string());
            all
        };
        assert_eq!(all(one), all(one));
        let different: BTreeSet<String> = all(one).into_iter().chain(all(other)).collect();
        assert_eq!(different.len(), 26);
        assert!(different.iter().all(|it| it.len() == 36 && &it[14..15] == "8" && "89ab".contains(&it[19..20])));
        assert_ne!(one.volume(), other.volume());
    }

    #[test]
    fn a_table_has_the_first_groups_reversed() {
        // UEFI 2.10, 5.3.3: the EFI System Partition.
        let bytes = [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
        assert_eq!(Part::Esp.kind().in_table(), bytes);
        assert_eq!(Part::Esp.kind().to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    }
}

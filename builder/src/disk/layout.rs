//! How large each partition is, where it lies, and the table that says so.

use crate::disk::esp::ESP_BYTES;
use crate::disk::ids::{Ids, Part};
use crate::error::{At, Error};
use crate::tools::ext4::Content;
use gptman::{GPT, GPTPartitionEntry};
use serde::Serialize;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

/// Partitions begin and end at whole MiB, as every tool lays them: no disk has larger blocks or erases more at once.
const MIB: u64 = 1 << 20;
/// What disks count in.
const SECTOR_BYTES: u64 = 512;
/// Before the first partition and behind the last: the table, twice.
const TABLE_BYTES: u64 = MIB;
/// Kernels are there up to three times: what runs, what it replaced, and what is being deployed.
const KERNELS: u64 = 3;
/// Beside them on /boot, for its file system.
const BOOT_SPARE_BYTES: u64 = 64 * MIB;
/// Beside a second deployment as large as the first, which is how an update comes: what it brings is there before what it
/// replaces may go.
const ROOT_SPARE_BYTES: u64 = 512 * MIB;
/// For /var where no size is asked for.
const VAR_BYTES: u64 = 1 << 30;
/// The least that a device's own state wants: its journal may grow to a tenth of it.
const VAR_BYTES_MIN: u64 = 256 * MIB;

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Its name in the table.
    pub name: &'static str,
    /// Its number, as `PARTUUID=` has it.
    pub uuid: String,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    #[serde(skip)]
    part: Part,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// In their order on the disk.
    pub partitions: Vec<Partition>,
    /// Of the whole disk.
    pub bytes: u64,
}

impl Layout {
    /// For this content of /boot and of the root; what of `size` they leave is for /var.
    ///
    /// # Errors
    /// [`Error::DoesNotFit`].
    pub fn of(ids: &Ids, boot: Content, root: Content, size: Option<u64>) -> Result<Self, Error> {
        let boot = whole(boot.on_ext4() * KERNELS + BOOT_SPARE_BYTES);
        let root = whole(root.on_ext4() * 2 + ROOT_SPARE_BYTES);
        let fixed = 2 * TABLE_BYTES + ESP_BYTES + boot + root;
        let bytes = size.map_or(fixed + VAR_BYTES, |size| size / MIB * MIB);
        let var = bytes.checked_sub(fixed).filter(|var| *var >= VAR_BYTES_MIN);
        let var = var.ok_or(Error::DoesNotFit { given: bytes, needed: fixed + VAR_BYTES_MIN, boot, root })?;
        let mut offset = TABLE_BYTES;
        let partitions = [(Part::Esp, ESP_BYTES), (Part::Boot, boot), (Part::Root, root), (Part::Var, var)];
        let partitions = partitions.map(|(part, bytes)| {
            let here = offset;
            offset += bytes;
            Partition { name: part.name(), uuid: ids.partition(part).to_string(), offset: here, bytes, part }
        });
        Ok(Self { partitions: partitions.into(), bytes })
    }

    /// A partition.
    pub fn part(&self, part: Part) -> Option<&Partition> {
        self.partitions.iter().find(|it| it.part == part)
    }

    /// Writes the table at both ends of a disk that is as long as this layout.
    ///
    /// # Errors
    /// I/O.
    pub fn write(&self, ids: &Ids, disk: &mut fs::File, path: &Path) -> Result<(), Error> {
        let io = |e: gptman::Error| match e {
            gptman::Error::Io(e) => e,
            other => std::io::Error::other(other),
        };
        let mut table = GPT::new_from(disk, SECTOR_BYTES, ids.disk().in_table()).map_err(io).at("write", path)?;
        for Partition { part, offset, bytes, .. } in &self.partitions {
            table[part.number()] = GPTPartitionEntry {
                partition_type_guid: part.kind().in_table(),
                unique_partition_guid: ids.partition(*part).in_table(),
                starting_lba: offset / SECTOR_BYTES,
                ending_lba: (offset + bytes) / SECTOR_BYTES - 1,
                attribute_bits: 0,
                partition_name: part.name().into(),
            };
        }
        GPT::write_protective_mbr_into(disk, SECTOR_BYTES).map_err(io).at("write", path)?;
        table.write_into(disk).map_err(io).at("write", path)?;
        disk.seek(SeekFrom::Start(0)).and_then(|_| disk.write_all(&without_uefi())).at("write", path)
    }
}

fn whole(bytes: u64) -> u64 {
    bytes.div_ceil(MIB) * MIB
}

/// What a firmware without UEFI is told: it starts the first sector, whose program ends where the protective table begins.
///
/// `cli; xor ax,ax; mov ds,ax; mov si,0x7c00+TEXT; cld; next: lodsb; test al,al; jz end; mov ah,0x0e; mov bx,7; int 0x10;
/// jmp next; end: hlt; jmp end`
fn without_uefi() -> Vec<u8> {
    const PROGRAM: [u8; 26] = [
        0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0xbe, 26, 0x7c, 0xfc, 0xac, 0x84, 0xc0, 0x74, 0x09, 0xb4, 0x0e, 0xbb, 0x07, 0x00,
        0xcd, 0x10, 0xeb, 0xf2, 0xf4, 0xeb, 0xfd,
    ];
    const TEXT: &[u8] = b"\r\nThis disk starts by UEFI. Choose it in the settings of this machine's firmware.\r\n\0";
    [&PROGRAM, TEXT].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use secai_verifier::digest::Digest;
    use std::io::Read;

    const BOOT: Content = Content { bytes: 50 * MIB, inodes: 20 };
    const ROOT: Content = Content { bytes: 400 * MIB, inodes: 20_000 };

    #[test]
    fn what_does_not_fit_says_how_much_is_needed() {
        let ids = Ids::of(Digest::of(b"commit"));
        let usual = Layout::of(&ids, BOOT, ROOT, None).unwrap();
        let end = usual.partitions.iter().fold(TABLE_BYTES, |at, it| {
            assert_eq!((it.offset, it.bytes % MIB), (at, 0), "{it:?}");
            at + it.bytes
        });
        assert_eq!(end + TABLE_BYTES, usual.bytes);
        let Err(Error::DoesNotFit { needed, given, .. }) = Layout::of(&ids, BOOT, ROOT, Some(MIB)) else { panic!() };
        assert_eq!((given, needed), (MIB, usual.bytes - VAR_BYTES + VAR_BYTES_MIN));
        assert_eq!(Layout::of(&ids, BOOT, ROOT, Some(needed)).unwrap().bytes, needed);
        let error = Layout::of(&ids, BOOT, ROOT, Some(needed - 1)).unwrap_err();
        assert!(error.hint().unwrap().contains(&format!("--size {}M", needed / MIB)), "{:?}", error.hint());
        let large = Layout::of(&ids, BOOT, ROOT, Some(100 << 30)).unwrap();
        assert_eq!(large.part(Part::Root), usual.part(Part::Root), "what is left is for /var");
    }

    #[test]
    fn the_table_stands_at_both_ends_and_a_program_before_it() {
        let ids = Ids::of(Digest::of(b"commit"));
        let layout = Layout::of(&ids, BOOT, ROOT, None).unwrap();
        let mut disk = tempfile::tempfile().unwrap();
        disk.set_len(layout.bytes).unwrap();
        layout.write(&ids, &mut disk, Path::new("disk")).unwrap();
        let mut sector = [0; 512];
        for at in [512, layout.bytes - 512] {
            disk.seek(SeekFrom::Start(at)).unwrap();
            disk.read_exact(&mut sector).unwrap();
            assert_eq!(&sector[..8], b"EFI PART");
        }
        let read = GPT::read_from(&mut disk, SECTOR_BYTES).unwrap();
        for (part, wanted) in Part::ALL.into_iter().zip(&layout.partitions) {
            let found = &read[part.number()];
            assert_eq!(found.partition_name.as_str(), wanted.name);
            assert_eq!(found.starting_lba * SECTOR_BYTES, wanted.offset);
            assert_eq!(found.size().unwrap() * SECTOR_BYTES, wanted.bytes);
        }
        disk.seek(SeekFrom::Start(0)).unwrap();
        disk.read_exact(&mut sector).unwrap();
        assert_eq!((sector[450], &sector[510..]), (0xee, &[0x55, 0xaa][..]), "the protective entry stays");
        assert!(without_uefi().len() <= 446);
    }
}

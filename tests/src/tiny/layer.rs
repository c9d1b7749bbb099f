//! Operations on a layer: on its entries, its archive, its frame.

use std::io::Write as _;

use secai_verifier::layout::{ObjectKind, layer_path, object_path, parse_object_path};
use secai_verifier::ostree::Xattrs;
use secai_verifier::tar::{self, BLOCK, Entry, Kind};

use super::change::{Op, octal, owner};

/// zstd's magic number of a skippable frame, and its length: none.
const SKIPPABLE: [u8; 8] = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];

/// The name in a PAX header's own block.
const PAX_NAME: &[u8] = b"././@PaxHeader";

/// An entry with its data; `head` replaces the blocks that would be rendered for it.
#[derive(Clone)]
struct Item {
    entry: Entry,
    data: Vec<u8>,
    head: Option<Vec<u8>>,
}

/// The archive in a frame.
pub fn decompress(blob: &[u8]) -> Vec<u8> {
    zstd::decode_all(blob).unwrap()
}

/// The archive in one frame with its checksum.
pub fn compress(archive: &[u8], checksum: bool) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(checksum).unwrap();
    encoder.write_all(archive).unwrap();
    encoder.finish().unwrap()
}

/// Whether an archive has an entry for a path of the commit.
pub fn holds(archive: &[u8], path: &str) -> bool {
    let path = layer_path(path);
    items(archive).iter().any(|item| item.entry.path.trim_end_matches('/') == path)
}

/// Applies an operation on a frame; the blob comes back unless it is none.
pub fn frame(op: &Op, blob: &[u8]) -> Option<Vec<u8>> {
    match op {
        Op::SecondFrame => Some([blob, &compress(b"", true)].concat()),
        Op::SkippableFrame => Some([&SKIPPABLE, blob].concat()),
        Op::NoChecksum => Some(compress(&decompress(blob), false)),
        _ => None,
    }
}

/// Applies an operation on an archive's entries; the archive comes back unless it is none.
pub fn entries(op: &Op, archive: &[u8]) -> Option<Vec<u8>> {
    let mut items = items(archive);
    match op {
        Op::Content { path, to } => {
            let object = object_of(&items, path);
            let item = &mut items[object];
            match to {
                Some(text) => item.data = text.clone().into_bytes(),
                None => item.data[0] ^= 1,
            }
            item.entry.kind = Kind::Regular(item.data.len() as u64);
        }
        Op::Mode { path, to, alone } => {
            let mode = octal(to);
            each(&mut items, path, *alone, |entry| entry.mode = mode);
        }
        Op::Owner { path, to, alone } => {
            let (uid, gid) = owner(to);
            each(&mut items, path, *alone, |entry| (entry.uid, entry.gid) = (uid, gid));
        }
        Op::Xattr { path, name, to, alone } => {
            let object = object_of(&items, path);
            let kept = items[object].entry.xattrs.pairs().iter().filter(|(known, _)| known != name.as_bytes()).cloned();
            let added = to.iter().map(|value| (name.clone().into_bytes(), value.clone().into_bytes()));
            let xattrs = Xattrs::new(kept.chain(added)).unwrap();
            if !alone {
                let set = set_of(&items, object);
                items[set].data = xattrs.render();
                items[set].entry.kind = Kind::Regular(items[set].data.len() as u64);
            }
            items[object].entry.xattrs = xattrs;
        }
        Op::Target { path, to } => {
            let object = object_of(&items, path);
            items[object].entry.kind = Kind::Symlink(to.clone());
        }
        Op::Create { path, to } => {
            let entry = Entry::object(layer_path(path), to.len() as u64);
            items.push(Item { entry, data: to.clone().into_bytes(), head: None });
        }
        Op::Drop { path } => drop(items.remove(at(&items, path))),
        Op::Swap { path } => {
            let at = at(&items, path);
            items.swap(at, at + 1);
        }
        Op::Twice { path } => {
            let at = at(&items, path);
            items.insert(at, items[at].clone());
        }
        Op::Copy { path } => {
            let (at, object) = (at(&items, path), object_of(&items, path));
            let path = items[at].entry.path.clone();
            items[at] = Item { entry: Entry { path, ..items[object].entry.clone() }, ..items[object].clone() };
        }
        Op::Link { path } => {
            let at = at(&items, path);
            let before = items[..at]
                .iter()
                .rfind(|item| matches!(parse_object_path(&item.entry.path), Some((_, ObjectKind::File))));
            let target = before.unwrap().entry.path.clone();
            items[at].entry = Entry { kind: Kind::HardLink(target), xattrs: Xattrs::EMPTY, ..items[at].entry.clone() };
        }
        Op::Pax { path, key, value } => {
            let at = at(&items, path);
            let own = items[at].entry.render().unwrap();
            items[at].head = Some([pax(key, value), own].concat());
        }
        Op::Header { path, at: offset, to } => {
            let at = at(&items, path);
            let mut head = items[at].entry.render().unwrap();
            let block = head.len() - BLOCK;
            head[block + offset..][..to.len()].copy_from_slice(to.as_bytes());
            let checksum = head[block..]
                .iter()
                .enumerate()
                .map(|(at, &byte)| if (148..156).contains(&at) { 32 } else { u32::from(byte) });
            let checksum = format!("{:07o}\0", checksum.sum::<u32>());
            head[block + 148..block + 156].copy_from_slice(checksum.as_bytes());
            items[at].head = Some(head);
        }
        _ => return None,
    }
    Some(write(&items))
}

fn items(archive: &[u8]) -> Vec<Item> {
    let mut reader = tar::Reader::new(archive);
    let mut items = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut data = Vec::new();
        reader.data(|piece| data.extend_from_slice(piece)).unwrap();
        items.push(Item { entry, data, head: None });
    }
    items
}

fn write(items: &[Item]) -> Vec<u8> {
    let mut archive = Vec::new();
    for Item { entry, data, head } in items {
        archive.extend(head.clone().unwrap_or_else(|| entry.render().unwrap()));
        archive.extend(data);
        archive.resize(archive.len() + entry.padding(), 0);
    }
    archive.extend(tar::END);
    archive
}

fn at(items: &[Item], path: &str) -> usize {
    let path = layer_path(path);
    let found = items.iter().position(|item| item.entry.path.trim_end_matches('/') == path.trim_end_matches('/'));
    found.unwrap_or_else(|| panic!("{path} is not in the layer"))
}

/// The file object that a path is a link to; of what is no link, itself.
fn object_of(items: &[Item], path: &str) -> usize {
    let own = at(items, path);
    match &items[own].entry.kind {
        Kind::HardLink(target) => at(items, &format!("/{target}")),
        _ => own,
    }
}

/// The set of extended attributes of a file object.
fn set_of(items: &[Item], object: usize) -> usize {
    let (checksum, _) = parse_object_path(&items[object].entry.path).unwrap();
    object_of(items, &format!("/{}", object_path(&checksum, ObjectKind::FileXattrsLink)))
}

/// Changes an entry's header, and unless alone its object's and that of every link to the object.
fn each(items: &mut [Item], path: &str, alone: bool, change: impl Fn(&mut Entry)) {
    let (own, object) = (at(items, path), object_of(items, path));
    change(&mut items[own].entry);
    if alone || own == object {
        return;
    }
    let name = items[object].entry.path.clone();
    let group = items
        .iter_mut()
        .enumerate()
        .filter(|(at, item)| *at != own && (*at == object || item.entry.kind == Kind::HardLink(name.clone())));
    group.for_each(|(_, item)| change(&mut item.entry));
}

/// A PAX header with one record, as any tar program would write it.
fn pax(key: &str, value: &str) -> Vec<u8> {
    let body = format!(" {key}={value}\n");
    let length = (body.len()..).find(|length| length.to_string().len() + body.len() == *length).unwrap();
    let record = format!("{length}{body}");
    let mut block = Entry::object("x", record.len() as u64).render().unwrap();
    block[..PAX_NAME.len()].copy_from_slice(PAX_NAME);
    block[156] = b'x';
    block[148..156].fill(b' ');
    let checksum = format!("{:07o}\0", block.iter().map(|&byte| u32::from(byte)).sum::<u32>());
    block[148..156].copy_from_slice(checksum.as_bytes());
    block.extend(record.bytes());
    block.resize(block.len().next_multiple_of(BLOCK), 0);
    block
}

//! The objects themselves: commit, dirtree, dirmeta, and the framed header of a file.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use super::gvariant::{
    Shape, read_array, read_text, read_tuple, read_variant, write_array, write_text, write_tuple, write_variant,
};
use super::{ObjectError, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Xattrs};
use crate::digest::Digest;
use crate::layout::{LABEL_BOOTABLE, LABEL_LINUX, LABEL_VERSION};
use crate::limits::{METADATA_BYTES_MAX, NAME_BYTES_MAX};
use crate::time::Time;

const BYTES: Shape = Shape::Variable(1);
const NUMBER: Shape = Shape::Fixed(4);

/// Text, array of bytes, array of texts: all are aligned to one byte.
fn bounded(bytes: &[u8]) -> Result<&[u8], ObjectError> {
    if bytes.len() as u64 > METADATA_BYTES_MAX { Err(ObjectError::TooLarge(bytes.len() as u64)) } else { Ok(bytes) }
}

fn checksum(bytes: &[u8]) -> Result<Digest, ObjectError> {
    Digest::from_slice(bytes).ok_or(ObjectError::Checksum)
}

fn number(bytes: &[u8]) -> Result<u32, ObjectError> {
    Ok(u32::from_be_bytes(bytes.try_into().map_err(|_| super::gvariant::GvariantError::Short)?))
}

/// A value of a commit's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataValue {
    /// `b`
    Bool(bool),
    /// `s`
    Text(String),
    /// `as`
    Texts(Vec<String>),
    /// `t`, as its eight bytes lie (OSTree's own values are big-endian).
    Number([u8; 8]),
}

impl MetadataValue {
    fn parse(key: &str, bytes: &[u8]) -> Result<Self, ObjectError> {
        let (value, kind) = read_variant(bytes)?;
        match (kind, value) {
            ("b", [0]) => Ok(Self::Bool(false)),
            ("b", [1]) => Ok(Self::Bool(true)),
            ("s", _) => Ok(Self::Text(read_text(value)?.to_owned())),
            ("as", _) => {
                let texts = read_array(value, 1)?.into_iter().map(|text| read_text(text).map(str::to_owned));
                Ok(Self::Texts(texts.collect::<Result<_, _>>()?))
            }
            ("t", _) => value.try_into().map(Self::Number).map_err(|_| ObjectError::NotNormal),
            _ => Err(ObjectError::MetadataType(key.to_owned())),
        }
    }

    fn render(&self) -> Vec<u8> {
        match self {
            Self::Bool(value) => write_variant(&[u8::from(*value)], "b"),
            Self::Text(text) => write_variant(&write_text(text), "s"),
            Self::Texts(texts) => write_variant(&write_array(1, texts.iter().map(|text| write_text(text))), "as"),
            Self::Number(bytes) => write_variant(bytes, "t"),
        }
    }
}

/// A commit without parent, related objects and body: `(a{sv}aya(say)sstayay)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Metadata in the order in which it stands, keys unique.
    pub metadata: Vec<(String, MetadataValue)>,
    /// One line about it.
    pub subject: String,
    /// Its date.
    pub timestamp: Time,
    /// The root's dirtree.
    pub tree: Digest,
    /// The root's dirmeta.
    pub meta: Digest,
}

const COMMIT: [Shape; 8] = [Shape::Variable(8), BYTES, BYTES, BYTES, BYTES, Shape::Fixed(8), BYTES, BYTES];
const METADATA_ENTRY: [Shape; 2] = [BYTES, Shape::Variable(8)];

impl Commit {
    /// Reads a commit object.
    pub fn parse(bytes: &[u8]) -> Result<Self, ObjectError> {
        let [metadata, parent, related, subject, body, timestamp, tree, meta] = read_tuple(bounded(bytes)?, COMMIT)?;
        if !parent.is_empty() {
            return Err(ObjectError::Commit("a parent"));
        }
        if !related.is_empty() {
            return Err(ObjectError::Commit("related objects"));
        }
        if !read_text(body)?.is_empty() {
            return Err(ObjectError::Commit("a body"));
        }
        let mut entries = Vec::new();
        for entry in read_array(metadata, 8)? {
            let [key, value] = read_tuple(entry, METADATA_ENTRY)?;
            let key = read_text(key)?;
            entries.push((key.to_owned(), MetadataValue::parse(key, value)?));
        }
        let timestamp = timestamp.try_into().map(u64::from_be_bytes).map_err(|_| ObjectError::Timestamp)?;
        let commit = Self {
            metadata: entries,
            subject: read_text(subject)?.to_owned(),
            timestamp: Time::from_seconds(timestamp).map_err(|_| ObjectError::Timestamp)?,
            tree: checksum(tree)?,
            meta: checksum(meta)?,
        };
        commit.validate()?;
        if commit.render()? != bytes {
            return Err(ObjectError::NotNormal);
        }
        Ok(commit)
    }

    /// The object's bytes; their SHA-256 is its name.
    pub fn render(&self) -> Result<Vec<u8>, ObjectError> {
        self.validate()?;
        let entries = self.metadata.iter().map(|(key, value)| {
            write_tuple([(BYTES, write_text(key).as_slice()), (Shape::Variable(8), value.render().as_slice())])
        });
        let [metadata, parent, related, subject, body, timestamp, tree, meta] = COMMIT;
        Ok(write_tuple([
            (metadata, &write_array(8, entries)),
            (parent, b""),
            (related, b""),
            (subject, &write_text(&self.subject)),
            (body, b"\0"),
            (timestamp, &self.timestamp.seconds().to_be_bytes()),
            (tree, self.tree.as_bytes()),
            (meta, self.meta.as_bytes()),
        ]))
    }

    /// The metadata that stands under a key.
    pub fn get(&self, key: &str) -> Option<&MetadataValue> {
        self.metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// `ostree.bootable`, when it is there and true.
    pub fn bootable(&self) -> bool {
        self.get(LABEL_BOOTABLE) == Some(&MetadataValue::Bool(true))
    }

    /// `ostree.linux`: the kernel's release.
    pub fn linux(&self) -> Option<&str> {
        self.text(LABEL_LINUX)
    }

    /// `version`.
    pub fn version(&self) -> Option<&str> {
        self.text(LABEL_VERSION)
    }

    fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(MetadataValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn validate(&self) -> Result<(), ObjectError> {
        let mut seen = BTreeSet::new();
        match self.metadata.iter().find(|(key, _)| !seen.insert(key)) {
            Some((key, _)) => Err(ObjectError::KeyTwice(key.clone())),
            None => Ok(()),
        }
    }
}

/// A name in a directory that is a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Its name.
    pub name: String,
    /// The file object.
    pub file: Digest,
}

/// A name in a directory that is a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name.
    pub name: String,
    /// Its dirtree.
    pub tree: Digest,
    /// Its dirmeta.
    pub meta: Digest,
}

/// What a directory holds: `(a(say)a(sayay))`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirTree {
    /// Files and symbolic links, strictly ascending by name.
    pub files: Vec<FileEntry>,
    /// Directories, strictly ascending by name, none named as a file.
    pub dirs: Vec<DirEntry>,
}

impl DirTree {
    /// Reads a dirtree object.
    pub fn parse(bytes: &[u8]) -> Result<Self, ObjectError> {
        let [files, dirs] = read_tuple(bounded(bytes)?, [BYTES, BYTES])?;
        let mut tree = Self::default();
        for entry in read_array(files, 1)? {
            let [name, file] = read_tuple(entry, [BYTES, BYTES])?;
            tree.files.push(FileEntry { name: read_text(name)?.to_owned(), file: checksum(file)? });
        }
        for entry in read_array(dirs, 1)? {
            let [name, subtree, meta] = read_tuple(entry, [BYTES, BYTES, BYTES])?;
            tree.dirs.push(DirEntry {
                name: read_text(name)?.to_owned(),
                tree: checksum(subtree)?,
                meta: checksum(meta)?,
            });
        }
        if tree.render()? != bytes {
            return Err(ObjectError::NotNormal);
        }
        Ok(tree)
    }

    /// The object's bytes; their SHA-256 is its name.
    pub fn render(&self) -> Result<Vec<u8>, ObjectError> {
        self.validate()?;
        let files = self.files.iter().map(|entry| {
            write_tuple([(BYTES, write_text(&entry.name).as_slice()), (BYTES, entry.file.as_bytes().as_slice())])
        });
        let dirs = self.dirs.iter().map(|entry| {
            write_tuple([
                (BYTES, write_text(&entry.name).as_slice()),
                (BYTES, entry.tree.as_bytes().as_slice()),
                (BYTES, entry.meta.as_bytes().as_slice()),
            ])
        });
        Ok(write_tuple([(BYTES, write_array(1, files).as_slice()), (BYTES, write_array(1, dirs).as_slice())]))
    }

    fn validate(&self) -> Result<(), ObjectError> {
        let files = || self.files.iter().map(|entry| entry.name.as_str());
        let dirs = || self.dirs.iter().map(|entry| entry.name.as_str());
        if let Some(name) = files().chain(dirs()).find(|name| !is_file_name(name)) {
            return Err(ObjectError::Name(name.to_owned()));
        }
        let disorder = |(before, after): (&str, &str)| (before >= after).then(|| after.to_owned());
        let twice =
            || self.dirs.iter().find(|dir| self.files.binary_search_by(|file| file.name.cmp(&dir.name)).is_ok());
        let fault = files()
            .zip(files().skip(1))
            .chain(dirs().zip(dirs().skip(1)))
            .find_map(disorder)
            .or_else(|| twice().map(|dir| dir.name.clone()));
        fault.map_or(Ok(()), |name| Err(ObjectError::NameOrder(name)))
    }
}

/// Whether a directory can hold a file of this name.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(['/', '\0']) && name != "." && name != ".."
}

/// Mode, owner and extended attributes of a directory: `(uuua(ayay))`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DirMeta {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// `S_IFDIR` with permission bits.
    pub mode: u32,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

impl DirMeta {
    /// Reads a dirmeta object.
    pub fn parse(bytes: &[u8]) -> Result<Self, ObjectError> {
        let [uid, gid, mode, xattrs] = read_tuple(bounded(bytes)?, [NUMBER, NUMBER, NUMBER, BYTES])?;
        let meta = Self { uid: number(uid)?, gid: number(gid)?, mode: number(mode)?, xattrs: Xattrs::parse(xattrs)? };
        if meta.render()? != bytes {
            return Err(ObjectError::NotNormal);
        }
        Ok(meta)
    }

    /// The object's bytes; their SHA-256 is its name.
    pub fn render(&self) -> Result<Vec<u8>, ObjectError> {
        if self.mode & !0o7777 != S_IFDIR {
            return Err(ObjectError::Mode(self.mode));
        }
        Ok(write_tuple([
            (NUMBER, &self.uid.to_be_bytes()),
            (NUMBER, &self.gid.to_be_bytes()),
            (NUMBER, &self.mode.to_be_bytes()),
            (BYTES, &self.xattrs.render()),
        ]))
    }
}

/// What comes before a file's content in its checksum: `(uuuusa(ayay))`, framed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHeader {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// `S_IFREG` or `S_IFLNK` with permission bits; a symbolic link's are 0777.
    pub mode: u32,
    /// The target of a symbolic link; a regular file has none.
    pub target: Option<String>,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

const FILE_HEADER: [Shape; 6] = [NUMBER, NUMBER, NUMBER, NUMBER, BYTES, BYTES];

impl FileHeader {
    /// Reads the framed header: big-endian length, four NUL bytes, the variant; nothing after it.
    pub fn parse(bytes: &[u8]) -> Result<Self, ObjectError> {
        let (frame, variant) = bounded(bytes)?.split_first_chunk::<8>().ok_or(super::gvariant::GvariantError::Short)?;
        let [uid, gid, mode, device, target, xattrs] = read_tuple(variant, FILE_HEADER)?;
        if number(device)? != 0 {
            return Err(ObjectError::Device);
        }
        let target = read_text(target)?;
        let header = Self {
            uid: number(uid)?,
            gid: number(gid)?,
            mode: number(mode)?,
            target: (!target.is_empty()).then(|| target.to_owned()),
            xattrs: Xattrs::parse(xattrs)?,
        };
        if !header.render()?.starts_with(frame) || header.render()? != bytes {
            return Err(ObjectError::NotNormal);
        }
        Ok(header)
    }

    /// The framed header.
    pub fn render(&self) -> Result<Vec<u8>, ObjectError> {
        let target = match (self.mode & S_IFMT, &self.target) {
            (S_IFREG, None) if self.mode & !(S_IFMT | 0o7777) == 0 => "",
            (S_IFLNK, Some(target)) if self.mode == S_IFLNK | 0o777 && !target.is_empty() && !target.contains('\0') => {
                target
            }
            (S_IFREG, Some(_)) | (S_IFLNK, _) if self.mode & !(S_IFMT | 0o7777) == 0 => {
                let bits_fit = self.mode & S_IFMT == S_IFREG || self.mode == S_IFLNK | 0o777;
                return Err(if bits_fit { ObjectError::Target } else { ObjectError::Mode(self.mode) });
            }
            _ => return Err(ObjectError::Mode(self.mode)),
        };
        let [uid, gid, mode, device, text, xattrs] = FILE_HEADER;
        let variant = write_tuple([
            (uid, &self.uid.to_be_bytes()),
            (gid, &self.gid.to_be_bytes()),
            (mode, &self.mode.to_be_bytes()),
            (device, &[0; 4]),
            (text, &write_text(target)),
            (xattrs, &self.xattrs.render()),
        ]);
        let length = u32::try_from(variant.len()).map_err(|_| ObjectError::TooLarge(variant.len() as u64))?;
        Ok([&length.to_be_bytes(), &[0; 4], variant.as_slice()].concat())
    }
}

/// Computes a file object's checksum while its content streams by.
#[derive(Debug, Clone)]
pub struct FileHasher(Sha256);

impl FileHasher {
    /// Begins with the header; a symbolic link has no content and is done.
    pub fn new(header: &FileHeader) -> Result<Self, ObjectError> {
        Ok(Self(Sha256::new_with_prefix(header.render()?)))
    }

    /// The next piece of content.
    pub fn update(&mut self, content: &[u8]) {
        self.0.update(content);
    }

    /// The checksum.
    pub fn finish(self) -> Digest {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn commit() -> Commit {
        Commit {
            metadata: vec![
                ("ostree.bootable".into(), MetadataValue::Bool(true)),
                ("ostree.linux".into(), MetadataValue::Text("6.12.0".into())),
                ("x".into(), MetadataValue::Texts(vec!["a".into(), String::new()])),
                ("y".into(), MetadataValue::Number([0, 0, 0, 0, 0, 0, 0, 9])),
            ],
            subject: "minimal 0.1.0".into(),
            timestamp: "2026-11-22T21:00:00Z".parse().unwrap(),
            tree: Digest::of(b"tree"),
            meta: Digest::of(b"meta"),
        }
    }

    fn tree() -> DirTree {
        DirTree {
            files: vec![
                FileEntry { name: "a".into(), file: Digest::of(b"1") },
                FileEntry { name: "é".into(), file: Digest::of(b"1") },
            ],
            dirs: vec![DirEntry { name: "b".into(), tree: Digest::of(b"2"), meta: Digest::of(b"3") }],
        }
    }

    fn header(mode: u32, target: Option<&str>) -> FileHeader {
        let xattrs = Xattrs::new([(b"user.a".to_vec(), b"1".to_vec())]).unwrap();
        FileHeader { uid: 1, gid: 2, mode, target: target.map(str::to_owned), xattrs }
    }

    /// Whatever still parses after a change must be spelled exactly so.
    fn shake<T>(bytes: &[u8], parse: impl Fn(&[u8]) -> Result<T, ObjectError>, render: impl Fn(&T) -> Vec<u8>) {
        for position in 0..bytes.len() {
            assert!(parse(&bytes[..position]).is_err(), "cut at {position}");
            for flip in [1, 0x80, 0xff] {
                let mut bad = bytes.to_vec();
                bad[position] ^= flip;
                if let Ok(other) = parse(&bad) {
                    assert_eq!(render(&other), bad);
                }
            }
        }
    }

    #[test]
    fn each_object_reads_what_it_writes() {
        let bytes = commit().render().unwrap();
        assert_eq!(Commit::parse(&bytes).unwrap(), commit());
        shake(&bytes, Commit::parse, |commit| commit.render().unwrap());
        let bytes = tree().render().unwrap();
        assert_eq!(DirTree::parse(&bytes).unwrap(), tree());
        shake(&bytes, DirTree::parse, |tree| tree.render().unwrap());
        let empty = DirTree::default().render().unwrap();
        assert_eq!(DirTree::parse(&empty).unwrap(), DirTree::default());
        let meta = DirMeta { uid: 0, gid: 0, mode: 0o40755, xattrs: Xattrs::EMPTY };
        let bytes = meta.render().unwrap();
        assert_eq!(DirMeta::parse(&bytes).unwrap(), meta);
        for header in [header(0o104_755, None), header(0o120_777, Some("../x"))] {
            let bytes = header.render().unwrap();
            assert_eq!(FileHeader::parse(&bytes).unwrap(), header);
            shake(&bytes, FileHeader::parse, |header| header.render().unwrap());
        }
    }

    #[test]
    fn each_rule_refuses() {
        for (mode, target) in [
            (0o40755, None),
            (0o100_644, Some("x")),
            (0o120_777, None),
            (0o120_755, Some("x")),
            (0o120_777, Some("")),
            (0o1_100_644, None),
        ] {
            assert!(header(mode, target).render().is_err(), "{mode:o} {target:?}");
        }
        let refuse = |change: &dyn Fn(&mut DirTree)| {
            let mut tree = tree();
            change(&mut tree);
            assert!(tree.render().is_err());
        };
        refuse(&|tree| tree.files.reverse());
        refuse(&|tree| tree.dirs[0].name = "a".into());
        refuse(&|tree| tree.dirs[0].name = "..".into());
        refuse(&|tree| tree.dirs[0].name = "a/b".into());
        refuse(&|tree| tree.files[1].name = "a".into());
        let mut twice = commit();
        twice.metadata[1].0 = "x".into();
        assert_eq!(twice.render(), Err(ObjectError::KeyTwice("x".into())));
    }
}

//! The one tar that layers are written in: ustar headers, PAX records only when needed, nothing twice.
//!
//! [`Entry::render`] gives the exact header blocks of an entry; [`Reader`] reads an archive, renders each
//! header again and compares. An archive that two readers could take for two trees does not pass.

mod reader;

pub use reader::Reader;

use crate::layout::{OSTREE_OBJECTS_PREFIX, OSTREE_REPO_CONFIG, OSTREE_REPO_CONFIG_BYTES, OSTREE_REPO_PREFIX};
use crate::limits::{FILE_BYTES_MAX, ID_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, XATTRS_BYTES_MAX};
use crate::ostree::Xattrs;

/// Bytes of a block.
pub const BLOCK: usize = 512;
/// What an archive ends with.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// The name in a PAX record's own header.
const PAX_NAME: &str = "././@PaxHeader";
const FIELD: usize = 100;

/// One entry, without its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative path; a directory's ends in `/`, the root directory's is `./`.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Permission bits (12).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes, `security.selinux` never among them.
    pub xattrs: Xattrs,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of so many bytes, which follow.
    Regular(u64),
    /// A hard link to the entry of this path.
    HardLink(String),
    /// A symbolic link to this target.
    Symlink(String),
    /// A directory.
    Directory,
}

/// Why an archive, or an entry of it, is not taken.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The archive could not be read on.
    #[error("the archive cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// It ends within an entry, or without its two zero blocks.
    #[error("the archive ends too early")]
    Short,
    /// Something follows its end.
    #[error("something follows the archive's end")]
    Trailing,
    /// A field of a header is not spelled as it must be.
    #[error("a header's field `{0}` is malformed")]
    Field(&'static str),
    /// Type letters but `0`, `1`, `2`, `5`, and `x` before one of them.
    #[error("an entry has the type {0:?}, which layers never hold")]
    Type(char),
    /// PAX records that are malformed or unknown.
    #[error("an entry's PAX records are malformed or unknown")]
    Pax,
    /// A path that is no relative path in the one spelling.
    #[error("`{0}` is no relative path without empty, `.` or `..` parts")]
    Path(String),
    /// A link without target, or with one that no link can have.
    #[error("`{0}` links to nothing, or to more than 4095 bytes")]
    Link(String),
    /// A value is above what a header can say.
    #[error("`{0}` has a mode, owner, size or extended attributes beyond what layers hold")]
    Range(String),
    /// Read, but spelled in another way than it would be written.
    #[error("the header of `{0}` is not its own rendering")]
    NotCanonical(String),
    /// Data is padded with something other than NUL.
    #[error("the data of `{0}` is padded with something other than NUL")]
    Padding(String),
}

/// Refuses what is no relative path in its one spelling (a directory's final `/` is allowed).
pub fn check_path(path: &str) -> Result<(), TarError> {
    let bare = path.strip_suffix('/').unwrap_or(path);
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.len() <= NAME_BYTES_MAX;
    if path.len() > PATH_BYTES_MAX || path.contains('\0') || !bare.split('/').all(part) {
        return Err(TarError::Path(path.to_owned()));
    }
    Ok(())
}

impl Entry {
    /// A directory of this path (with its final `/`).
    pub fn directory(path: impl Into<String>, mode: u32, uid: u32, gid: u32) -> Self {
        Self { path: path.into(), kind: Kind::Directory, mode, uid, gid, xattrs: Xattrs::EMPTY }
    }

    /// A metadata object or file of the repository: 0644 0:0.
    pub fn object(path: impl Into<String>, size: u64) -> Self {
        Self { path: path.into(), kind: Kind::Regular(size), mode: 0o644, uid: 0, gid: 0, xattrs: Xattrs::EMPTY }
    }

    /// Bytes of data that follow the header, padding not counted.
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::Regular(size) => size,
            _ => 0,
        }
    }

    /// Zero bytes that follow the data.
    pub fn padding(&self) -> usize {
        padding(self.size())
    }

    /// The header blocks: the PAX header with its records when needed, then the entry's own.
    pub fn render(&self) -> Result<Vec<u8>, TarError> {
        self.validate()?;
        let (type_flag, link) = match &self.kind {
            Kind::Regular(_) => (b'0', ""),
            Kind::HardLink(target) => (b'1', target.as_str()),
            Kind::Symlink(target) => (b'2', target.as_str()),
            Kind::Directory => (b'5', ""),
        };
        let records = self.pax_records(link);
        let mut out = Vec::with_capacity(BLOCK);
        if !records.is_empty() {
            let header = Header {
                name: PAX_NAME,
                mode: 0o644,
                uid: 0,
                gid: 0,
                size: records.len() as u64,
                type_flag: b'x',
                link: "",
            };
            out.extend_from_slice(&header.render());
            out.extend_from_slice(&records);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
        }
        let Self { path, mode, uid, gid, .. } = self;
        let header = Header { name: path, mode: *mode, uid: *uid, gid: *gid, size: self.size(), type_flag, link };
        out.extend_from_slice(&header.render());
        Ok(out)
    }

    fn pax_records(&self, link: &str) -> Vec<u8> {
        let mut records = Vec::new();
        for (name, value) in self.xattrs.pairs() {
            push_record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        for (key, value) in [("linkpath", link), ("path", &self.path)] {
            if !fits(value) {
                push_record(&mut records, key.as_bytes(), value.as_bytes());
            }
        }
        records
    }

    fn validate(&self) -> Result<(), TarError> {
        let directory = matches!(self.kind, Kind::Directory);
        if !(directory && self.path == "./") {
            check_path(&self.path)?;
        }
        if self.path.ends_with('/') != directory {
            return Err(TarError::Path(self.path.clone()));
        }
        match &self.kind {
            Kind::HardLink(target) => {
                check_path(target)?;
                if target.ends_with('/') {
                    return Err(TarError::Path(target.clone()));
                }
            }
            Kind::Symlink(target) if target.is_empty() || target.len() > PATH_BYTES_MAX || target.contains('\0') => {
                return Err(TarError::Link(self.path.clone()));
            }
            _ => {}
        }
        // A key of a PAX record ends at its first `=`.
        let unsayable = self.xattrs.has_selinux() || self.xattrs.pairs().iter().any(|(name, _)| name.contains(&b'='));
        if self.mode > 0o7777 || self.uid > ID_MAX || self.gid > ID_MAX || self.size() > FILE_BYTES_MAX || unsayable {
            return Err(TarError::Range(self.path.clone()));
        }
        if !self.xattrs.is_empty() && self.pax_records("").len() as u64 > XATTRS_BYTES_MAX {
            return Err(TarError::Range(self.path.clone()));
        }
        Ok(())
    }
}

/// Zero bytes after so many bytes of data.
fn padding(size: u64) -> usize {
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

/// Whether a header's field can hold a name as it is.
fn fits(name: &str) -> bool {
    name.len() <= FIELD && name.is_ascii()
}

/// `LENGTH KEY=VALUE\n`, where LENGTH counts its own digits.
fn push_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let digits = |number: usize| number.checked_ilog10().unwrap_or(0) as usize + 1;
    let mut length = rest + digits(rest);
    if digits(length) > digits(rest) {
        length = rest + digits(length);
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The fields of a header block that are not fixed.
struct Header<'a> {
    name: &'a str,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    type_flag: u8,
    link: &'a str,
}

impl Header<'_> {
    /// The block. Values are in range: [`Entry::validate`] saw to it.
    fn render(&self) -> [u8; BLOCK] {
        let mut text = Vec::with_capacity(BLOCK);
        push_name(&mut text, self.name);
        for number in [self.mode, self.uid, self.gid] {
            push_octal(&mut text, u64::from(number), 7);
        }
        push_octal(&mut text, self.size, 11);
        push_octal(&mut text, 0, 11);
        let checksum_at = text.len();
        text.extend_from_slice(b"        ");
        text.push(self.type_flag);
        push_name(&mut text, self.link);
        text.extend_from_slice(b"ustar\x0000");
        text.resize(text.len() + 64, 0);
        push_octal(&mut text, 0, 7);
        push_octal(&mut text, 0, 7);
        let mut block = [0; BLOCK];
        for (to, from) in block.iter_mut().zip(&text) {
            *to = *from;
        }
        let mut checksum = Vec::with_capacity(8);
        push_octal(&mut checksum, block.iter().map(|&byte| u64::from(byte)).sum(), 7);
        for (to, from) in block.iter_mut().skip(checksum_at).zip(&checksum) {
            *to = *from;
        }
        block
    }
}

fn push_octal(out: &mut Vec<u8>, number: u64, digits: u32) {
    out.extend((0..digits).rev().map(|digit| b'0' + (number >> (3 * digit) & 7) as u8));
    out.push(0);
}

/// A name, or its first bytes up to a character's boundary, padded with NUL.
fn push_name(out: &mut Vec<u8>, name: &str) {
    let cut = (0..=FIELD.min(name.len())).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
    let end = out.len() + FIELD;
    out.extend_from_slice(name.as_bytes().get(..cut).unwrap_or_default());
    out.resize(end, 0);
}

/// The entries that every layer begins with, and the data that follows each (only the config has any).
///
/// Mode and owner of the root are those of the commit's root.
pub fn preamble(root_mode: u32, root_uid: u32, root_gid: u32) -> Vec<(Entry, &'static [u8])> {
    let root = Entry::directory("./", root_mode & 0o7777, root_uid, root_gid);
    let directory = |path: String| (Entry::directory(path, 0o755, 0, 0), &b""[..]);
    let in_repo = |names: &[&str]| -> Vec<_> {
        names.iter().map(|name| directory(format!("{OSTREE_REPO_PREFIX}{name}/"))).collect()
    };
    let mut entries = vec![(root, &b""[..])];
    entries.extend(["sysroot/", "sysroot/ostree/", OSTREE_REPO_PREFIX].map(|path| directory(path.to_owned())));
    entries.push((Entry::object(OSTREE_REPO_CONFIG, OSTREE_REPO_CONFIG_BYTES.len() as u64), OSTREE_REPO_CONFIG_BYTES));
    entries.extend(in_repo(&["extensions", "objects"]));
    entries.extend((0..=0xff).map(|head| directory(format!("{OSTREE_OBJECTS_PREFIX}{head:02x}/"))));
    entries.extend(in_repo(&["refs", "refs/heads", "refs/mirrors", "refs/remotes", "state", "tmp", "tmp/cache"]));
    entries
}

//! Reads an archive as a stream, and takes only what [`Entry::render`] would have written.

use std::io::BufRead;

use super::{BLOCK, END, Entry, FIELD, Kind, PAX_NAME, TarError, padding};
use crate::limits::XATTRS_BYTES_MAX;
use crate::ostree::Xattrs;

/// Entries of an archive, one after another.
///
/// Memory is that of one header and its PAX records, whatever the archive holds.
pub struct Reader<R> {
    inner: R,
    /// Data of the last entry that was not read yet, and padding after it.
    remaining: u64,
    padding: usize,
    path: String,
    ended: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads from here on.
    pub fn new(inner: R) -> Self {
        Self { inner, remaining: 0, padding: 0, path: String::new(), ended: false }
    }

    /// The reader below, at whatever place it has come to.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry, or `None` after the two zero blocks when nothing follows them.
    ///
    /// Data of the entry before that was not read is skipped.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.data(|_| {})?;
        if self.ended {
            return Ok(None);
        }
        let mut raw = vec![0; BLOCK];
        self.fill(&mut raw)?;
        if raw.iter().all(|&byte| byte == 0) {
            return self.end().map(|()| None);
        }
        let mut fields = Fields::parse(&raw)?;
        let mut pax = Pax::default();
        if fields.type_flag == b'x' {
            if fields.name != PAX_NAME.as_bytes() || fields.size > XATTRS_BYTES_MAX {
                return Err(TarError::Pax);
            }
            let size = usize::try_from(fields.size).map_err(|_| TarError::Pax)?;
            let start = raw.len();
            raw.resize(start + size + padding(fields.size), 0);
            self.fill(raw.get_mut(start..).unwrap_or_default())?;
            pax = Pax::parse(raw.get(start..start + size).unwrap_or_default())?;
            let start = raw.len();
            raw.resize(start + BLOCK, 0);
            self.fill(raw.get_mut(start..).unwrap_or_default())?;
            fields = Fields::parse(raw.get(start..).unwrap_or_default())?;
        }
        let entry = fields.entry(pax)?;
        if entry.render()? != raw {
            return Err(TarError::NotCanonical(entry.path));
        }
        self.remaining = entry.size();
        self.padding = entry.padding();
        self.path.clone_from(&entry.path);
        Ok(Some(entry))
    }

    /// Gives the last entry's data piece by piece, and checks its padding.
    pub fn data(&mut self, mut piece: impl FnMut(&[u8])) -> Result<(), TarError> {
        while self.remaining > 0 {
            let buffer = self.inner.fill_buf()?;
            let length = buffer.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
            if length == 0 {
                return Err(TarError::Short);
            }
            piece(buffer.get(..length).unwrap_or_default());
            self.inner.consume(length);
            self.remaining -= length as u64;
        }
        let mut block = [0; BLOCK];
        let tail = block.get_mut(..self.padding).unwrap_or_default();
        self.padding = 0;
        fill(&mut self.inner, tail)?;
        if tail.iter().any(|&byte| byte != 0) {
            return Err(TarError::Padding(self.path.clone()));
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), TarError> {
        let mut second = [0; END.len() - BLOCK];
        self.fill(&mut second)?;
        if second.iter().any(|&byte| byte != 0) || !self.inner.fill_buf()?.is_empty() {
            return Err(TarError::Trailing);
        }
        self.ended = true;
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        fill(&mut self.inner, buffer)
    }
}

fn fill(reader: &mut impl BufRead, buffer: &mut [u8]) -> Result<(), TarError> {
    reader.read_exact(buffer).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => TarError::Short,
        _ => TarError::Read(error),
    })
}

/// What a header block says; fixed fields are left to the comparison with the rendering.
struct Fields<'a> {
    name: &'a [u8],
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    type_flag: u8,
    link: &'a [u8],
}

impl<'a> Fields<'a> {
    fn parse(block: &'a [u8]) -> Result<Self, TarError> {
        let mut rest = block;
        let mut take = |length: usize, field: &'static str| {
            let (taken, after) = rest.split_at_checked(length).ok_or(TarError::Field(field))?;
            rest = after;
            Ok::<_, TarError>(taken)
        };
        let name = until_nul(take(FIELD, "name")?);
        let mode = number(take(8, "mode")?, "mode")?;
        let uid = number(take(8, "uid")?, "uid")?;
        let gid = number(take(8, "gid")?, "gid")?;
        let size = octal(take(12, "size")?, "size")?;
        take(12 + 8, "mtime")?;
        let type_flag = take(1, "typeflag")?.first().copied().unwrap_or_default();
        let link = until_nul(take(FIELD, "linkname")?);
        Ok(Self { name, mode, uid, gid, size, type_flag, link })
    }

    fn entry(self, pax: Pax) -> Result<Entry, TarError> {
        let text = |bytes: &[u8], field| String::from_utf8(bytes.to_vec()).map_err(|_| TarError::Field(field));
        let link = match pax.link {
            Some(link) => link,
            None => text(self.link, "linkname")?,
        };
        let path = match pax.path {
            Some(path) => path,
            None => text(self.name, "name")?,
        };
        let kind = match self.type_flag {
            b'0' => Kind::Regular(self.size),
            b'1' => Kind::HardLink(link),
            b'2' => Kind::Symlink(link),
            b'5' => Kind::Directory,
            other => return Err(TarError::Type(char::from(other))),
        };
        Ok(Entry { path, kind, mode: self.mode, uid: self.uid, gid: self.gid, xattrs: pax.xattrs })
    }
}

#[derive(Default)]
struct Pax {
    xattrs: Xattrs,
    path: Option<String>,
    link: Option<String>,
}

impl Pax {
    /// Order and length of records are left to the comparison with the rendering.
    fn parse(mut records: &[u8]) -> Result<Self, TarError> {
        let mut pax = Self::default();
        let mut pairs = Vec::new();
        while !records.is_empty() {
            let space = records.iter().position(|&byte| byte == b' ').ok_or(TarError::Pax)?;
            let length = records.get(..space).and_then(|digits| str::from_utf8(digits).ok()?.parse::<usize>().ok());
            let (record, rest) = records.split_at_checked(length.ok_or(TarError::Pax)?).ok_or(TarError::Pax)?;
            let record = record.get(space + 1..).and_then(|record| record.strip_suffix(b"\n")).ok_or(TarError::Pax)?;
            let equals = record.iter().position(|&byte| byte == b'=').ok_or(TarError::Pax)?;
            let (key, value) = record.split_at(equals);
            let value = value.get(1..).unwrap_or_default();
            let text = || String::from_utf8(value.to_vec()).map_err(|_| TarError::Pax);
            match key {
                b"path" if pax.path.is_none() => pax.path = Some(text()?),
                b"linkpath" if pax.link.is_none() => pax.link = Some(text()?),
                _ => {
                    let name = key.strip_prefix(b"SCHILY.xattr.").ok_or(TarError::Pax)?;
                    pairs.push((name.to_vec(), value.to_vec()));
                }
            }
            records = rest;
        }
        pax.xattrs = Xattrs::new(pairs).map_err(|_| TarError::Pax)?;
        Ok(pax)
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Octal digits and one NUL.
fn octal(field: &[u8], name: &'static str) -> Result<u64, TarError> {
    let digits = field.strip_suffix(&[0]).ok_or(TarError::Field(name))?;
    digits.iter().try_fold(0_u64, |number, &digit| match digit {
        b'0'..=b'7' => Ok(number << 3 | u64::from(digit - b'0')),
        _ => Err(TarError::Field(name)),
    })
}

fn number(field: &[u8], name: &'static str) -> Result<u32, TarError> {
    u32::try_from(octal(field, name)?).map_err(|_| TarError::Field(name))
}

#[cfg(test)]
mod tests {
    use super::super::preamble;
    use super::*;

    fn entries() -> Vec<(Entry, Vec<u8>)> {
        let xattrs = Xattrs::new([(b"user.x".to_vec(), vec![0, b'\n', b'=', 0xff])]).unwrap();
        let mut entries: Vec<_> =
            preamble(0o755, 0, 0).into_iter().map(|(entry, data)| (entry, data.to_vec())).collect();
        let long = format!("usr/{}/{}", "a".repeat(90), "b".repeat(90));
        entries.push((Entry { xattrs, ..Entry::object("usr/é", 513) }, vec![7; 513]));
        entries.push((Entry::object(long.clone(), 0), vec![]));
        entries.push((Entry { kind: Kind::HardLink(long), ..Entry::object("usr/hard", 0) }, vec![]));
        entries
            .push((Entry { kind: Kind::Symlink("é".repeat(60)), mode: 0o777, ..Entry::object("usr/soft", 0) }, vec![]));
        entries
    }

    fn archive(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (entry, data) in entries {
            out.extend(entry.render().unwrap());
            out.extend(data);
            out.resize(out.len() + entry.padding(), 0);
        }
        out.extend(END);
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
        let mut reader = Reader::new(std::io::BufReader::with_capacity(100, bytes));
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            let mut data = Vec::new();
            reader.data(|piece| data.extend_from_slice(piece))?;
            entries.push((entry, data));
        }
        Ok(entries)
    }

    #[test]
    fn reads_what_it_writes() {
        assert_eq!(read(&archive(&entries())).unwrap(), entries());
        assert_eq!(read(&END).unwrap(), vec![]);
    }

    #[test]
    fn skipped_data_is_checked_all_the_same() {
        let mut bytes = archive(&[(Entry::object("a", 1), vec![1])]);
        let mut reader = Reader::new(bytes.as_slice());
        reader.next_entry().unwrap();
        assert!(reader.next_entry().unwrap().is_none());
        assert!(reader.next_entry().unwrap().is_none());
        bytes[BLOCK + 1] = 1;
        assert!(matches!(read(&bytes), Err(TarError::Padding(path)) if path == "a"));
    }

    #[test]
    fn every_changed_header_byte_is_refused_or_meant() {
        let all = entries();
        let bytes = archive(&all[270..]);
        for position in 0..bytes.len() {
            for flip in [1, 0x20, 0x80] {
                let mut bad = bytes.clone();
                bad[position] ^= flip;
                if let Ok(other) = read(&bad) {
                    assert_eq!(archive(&other), bad, "two spellings at {position}");
                }
            }
        }
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err());
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(matches!(read(&longer), Err(TarError::Trailing)));
    }

    #[test]
    fn paths_and_values_out_of_range_are_not_written() {
        for path in ["/a", "a//b", "./a", "a/../b", "", "a\0b", "a/", &"a".repeat(256), &"a/".repeat(2048)] {
            assert!(Entry::object(path, 0).render().is_err(), "{path:?}");
        }
        assert!(Entry::directory("a", 0o755, 0, 0).render().is_err());
        assert!(Entry { uid: 0o10_000_000, ..Entry::object("a", 0) }.render().is_err());
        assert!(Entry { mode: 0o100_644, ..Entry::object("a", 0) }.render().is_err());
        assert!(Entry::object("a", 8 << 30).render().is_err());
        let xattrs = Xattrs::new([(b"security.selinux".to_vec(), vec![])]).unwrap();
        assert!(Entry { xattrs, ..Entry::object("a", 0) }.render().is_err());
    }
}

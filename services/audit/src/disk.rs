//! Files of the chain: appending into room that was allocated ahead, so that a sync has no size to write down.

use crate::writer::WriteError;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Room is allocated in steps of this: some thousands of entries, some milliseconds.
const ROOM_BYTES: u64 = 1 << 20;
/// Zeros are written in pieces of this.
const ZEROS: &[u8] = &[0; 64 << 10];

/// Names what failed before anything of a chain was changed.
///
/// # Errors
/// [`WriteError::Full`]; [`WriteError::Disk`].
pub fn at<T>(doing: &'static str, path: &Path, result: std::io::Result<T>) -> Result<T, WriteError> {
    result.map_err(|cause| match cause.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => WriteError::Full,
        _ => WriteError::Disk { doing, path: path.to_owned(), cause },
    })
}

/// Names what failed while a chain was changed: nobody knows how far that came.
fn midway(doing: &'static str, path: &Path, result: std::io::Result<()>) -> Result<(), WriteError> {
    result.map_err(|cause| WriteError::Disk { doing, path: path.to_owned(), cause })
}

/// A file that only grows, in lines, with zeros after the last one.
#[derive(Debug)]
pub struct Lines {
    file: File,
    path: PathBuf,
    /// Bytes of lines.
    length: u64,
    /// Bytes of the file.
    room: u64,
}

impl Lines {
    /// Opens or makes it; its lines are `length` bytes long. A new name is on the disk only after [`sync_folder`].
    ///
    /// # Errors
    /// [`WriteError::Disk`].
    pub fn open(path: &Path, length: u64) -> Result<Self, WriteError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let opened = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644)).map_err(std::io::Error::from);
        let file = File::from(at("open", path, opened)?);
        let room = at("read", path, file.metadata())?.len();
        Ok(Self { file, path: path.to_owned(), length, room })
    }

    /// Bytes of lines.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of the file.
    pub fn room(&self) -> u64 {
        self.room
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes room for `bytes` more. On a full disk nothing that counts has changed.
    ///
    /// # Errors
    /// [`WriteError::Full`]; [`WriteError::Disk`].
    pub fn reserve(&mut self, bytes: u64) -> Result<(), WriteError> {
        let wanted = self.length + bytes;
        if wanted <= self.room {
            return Ok(());
        }
        let room = wanted.next_multiple_of(ROOM_BYTES);
        let mut end = self.room;
        while end < room {
            let piece = usize::try_from(room - end).unwrap_or(usize::MAX).min(ZEROS.len());
            at("make room in", &self.path, self.file.write_all_at(ZEROS.get(..piece).unwrap_or(ZEROS), end))?;
            end += piece as u64;
        }
        at("make room in", &self.path, self.file.sync_data())?;
        self.room = room;
        Ok(())
    }

    /// Writes whole lines into room that was reserved, and waits until they are on the disk.
    ///
    /// # Errors
    /// [`WriteError::Disk`]: nobody knows then what is on the disk, and nothing may be acknowledged or tried again.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), WriteError> {
        midway("write", &self.path, self.file.write_all_at(lines, self.length))?;
        midway("sync", &self.path, self.file.sync_data())?;
        self.length += lines.len() as u64;
        Ok(())
    }

    /// Overwrites a part of the lines with spaces, and waits until that is on the disk.
    ///
    /// # Errors
    /// [`WriteError::Disk`].
    pub fn blank(&self, from: u64, bytes: usize) -> Result<(), WriteError> {
        midway("erase in", &self.path, self.file.write_all_at(&vec![b' '; bytes], from))?;
        midway("sync", &self.path, self.file.sync_data())
    }

    /// Ends the file with its last line, for now or for good.
    ///
    /// # Errors
    /// [`WriteError::Disk`].
    pub fn cut(&mut self) -> Result<(), WriteError> {
        midway("cut", &self.path, self.file.set_len(self.length))?;
        midway("sync", &self.path, self.file.sync_all())?;
        self.room = self.length;
        Ok(())
    }
}

/// Reads a file line by line: a segment may be larger than what this service may use of memory.
#[derive(Debug)]
pub struct LineReader {
    file: BufReader<File>,
    path: PathBuf,
    line: Vec<u8>,
    offset: u64,
}

impl LineReader {
    /// Opens it; none when it is not there.
    ///
    /// # Errors
    /// [`WriteError::Disk`].
    pub fn open(path: &Path) -> Result<Option<Self>, WriteError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => BufReader::with_capacity(ZEROS.len(), File::from(file)),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(other) => return at("open", path, Err(other.into())),
        };
        Ok(Some(Self { file, path: path.to_owned(), line: Vec::new(), offset: 0 }))
    }

    /// Where the next line begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next line without its end; none where there is no end within `limit` bytes.
    ///
    /// # Errors
    /// [`WriteError::Disk`].
    pub fn next_line(&mut self, limit: usize) -> Result<Option<&[u8]>, WriteError> {
        self.line.clear();
        let read = (&mut self.file).take(limit as u64 + 1).read_until(b'\n', &mut self.line);
        let read = at("read", &self.path, read)?;
        let Some(line) = self.line.strip_suffix(b"\n") else { return Ok(None) };
        self.offset += read as u64;
        Ok(Some(line))
    }

    /// What the file has from `from` on, without the zeros at its end; `limit` and one more bytes of it at most.
    ///
    /// # Errors
    /// [`WriteError::Disk`].
    pub fn tail(mut self, from: u64, limit: usize) -> Result<Vec<u8>, WriteError> {
        at("read", &self.path, self.file.seek(SeekFrom::Start(from)))?;
        let (mut tail, mut zeros, mut piece) = (Vec::new(), 0usize, vec![0; ZEROS.len()]);
        loop {
            let read = at("read", &self.path, self.file.read(&mut piece))?;
            let piece = piece.get(..read).unwrap_or_default();
            if piece.is_empty() {
                return Ok(tail);
            }
            let end = piece.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            if end == 0 {
                zeros += read;
                continue;
            }
            if tail.len() + zeros + end > limit {
                tail.resize(limit + 1, 0);
                return Ok(tail);
            }
            tail.resize(tail.len() + zeros, 0);
            tail.extend(piece.get(..end).unwrap_or_default());
            zeros = read - end;
        }
    }
}

/// Bytes of a file up to the last one that is not zero.
///
/// # Errors
/// [`WriteError::Disk`].
pub fn length_without_zeros(path: &Path) -> Result<u64, WriteError> {
    let file = at("open", path, File::open(path))?;
    let mut end = at("read", path, file.metadata())?.len();
    let mut piece = vec![0; ZEROS.len()];
    while end > 0 {
        let begin = end.saturating_sub(ZEROS.len() as u64);
        let bytes = piece.get_mut(..usize::try_from(end - begin).unwrap_or(0)).unwrap_or_default();
        at("read", path, file.read_exact_at(bytes, begin))?;
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            return Ok(begin + last as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

/// Reads a file whole, when it is not above `limit`; none when it is not there.
///
/// # Errors
/// [`WriteError::Disk`].
pub fn read_file(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, WriteError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(other) => return at("open", path, Err(other.into())),
    };
    let mut bytes = Vec::new();
    at("read", path, file.take(limit + 1).read_to_end(&mut bytes))?;
    if bytes.len() as u64 > limit {
        return Err(WriteError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(Some(bytes))
}

/// Puts a file in its place in one step, by way of `new`, which lies on the same disk: nothing unfinished ever lies in
/// a chain. With `Keep::OnDisk` it is there for good when this returns.
///
/// # Errors
/// [`WriteError::Full`]; [`WriteError::Disk`].
pub fn replace(path: &Path, new: &Path, bytes: &[u8], mode: u32, keep: Keep) -> Result<(), WriteError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = rustix::fs::open(new, flags, Mode::from_raw_mode(mode)).map_err(std::io::Error::from);
    let file = File::from(at("create", new, opened)?);
    at("write", new, file.write_all_at(bytes, 0))?;
    // Else the name may come to the disk before what it stands for: power that fails leaves an empty file.
    at("sync", new, file.sync_all())?;
    at("move", new, std::fs::rename(new, path))?;
    match path.parent() {
        Some(folder) if keep == Keep::OnDisk => sync_folder(folder),
        _ => Ok(()),
    }
}

/// Appends to a file, unless it ends with that already; it is on the disk when this returns.
///
/// # Errors
/// [`WriteError::Full`]; [`WriteError::Disk`].
pub fn append_once(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644)).map_err(std::io::Error::from);
    let file = File::from(at("open", path, opened)?);
    let length = at("read", path, file.metadata())?.len();
    let mut end = vec![0; bytes.len()];
    let ends = length.checked_sub(bytes.len() as u64).is_some_and(|at| file.read_exact_at(&mut end, at).is_ok());
    if ends && end == bytes {
        return Ok(());
    }
    if let Err(cause) = file.write_all_at(bytes, length).and_then(|()| file.sync_all()) {
        // On a full disk a part of it may be there.
        midway("cut", path, file.set_len(length))?;
        return at("write", path, Err(cause));
    }
    Ok(())
}

/// Until this is dropped nobody else compares and remembers in this folder.
///
/// # Errors
/// [`WriteError::Disk`].
pub fn lock(folder: &Path) -> Result<File, WriteError> {
    let opened = at("open", folder, File::open(folder))?;
    let locked = rustix::fs::flock(&opened, FlockOperation::LockExclusive).map_err(std::io::Error::from);
    at("lock", folder, locked)?;
    Ok(opened)
}

/// How surely a file is put in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// After a crash it is this one or the one before, and whole: which does not matter.
    Whole,
    /// It is on the disk before anything else happens.
    OnDisk,
}

/// Waits until the names in a folder are on the disk.
///
/// # Errors
/// [`WriteError::Disk`].
pub fn sync_folder(folder: &Path) -> Result<(), WriteError> {
    at("sync", folder, File::open(folder).and_then(|opened| opened.sync_all()))
}

//! Opens the files of a chain: by name below one directory, following no link. Nothing else in `audit` does.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;

use super::lines::Source;
use super::refusal::ChainRefusal;
use super::{
    CHECKPOINT, CHECKPOINTS_LOG, EPOCHS_KEPT, SEGMENT_ENTRIES, SEGMENTS_DIR, TILES_DIR, payload_path, segment_path,
    tile_path,
};
use crate::files::Fault;

/// Levels of tiles: 256^8 is 2^64.
const TILE_LEVELS: u32 = 8;
/// Foreign files that are listed: enough to see what somebody left there.
const FOREIGN_FILES_MAX: usize = 100;

/// A chain's directory.
#[derive(Debug)]
pub struct Store {
    root: OwnedFd,
    path: PathBuf,
}

/// What a name leads to.
#[derive(Debug)]
pub enum Opened {
    /// A regular file.
    File(File),
    /// Nothing.
    Absent,
    /// A link, a directory, a device.
    NotRegular,
}

/// What lies in a chain's directory.
#[derive(Debug, Default)]
pub struct Listing {
    /// First entries of the segments.
    pub segments: BTreeSet<u64>,
    /// First entries of the segments that have payloads.
    pub payloads: BTreeSet<u64>,
    /// What does not belong there.
    pub refusals: Vec<ChainRefusal>,
}

impl Listing {
    fn foreign(&mut self, path: String) {
        if self.refusals.len() < FOREIGN_FILES_MAX {
            self.refusals.push(ChainRefusal::ChainFileForeign { path });
        }
    }

    /// A name of the right form that leads to something of the wrong type.
    fn admit(&mut self, found: FileType, expected: FileType, path: &str) -> bool {
        if found == expected {
            return true;
        }
        if self.refusals.len() < FOREIGN_FILES_MAX {
            self.refusals.push(ChainRefusal::ChainFileNotRegular { path: path.to_owned() });
        }
        false
    }
}

impl Store {
    /// The chain in this directory; only the last part of the path may be a link to it.
    ///
    /// # Errors
    /// [`Fault`] when there is no directory that can be read.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        if !std::fs::metadata(path).map_err(Fault::unreadable(path))?.is_dir() {
            return Err(Fault::NotADirectory { path: path.to_owned() });
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from);
        Ok(Self { root: root.map_err(Fault::unreadable(path))?, path: path.to_owned() })
    }

    /// The chain in an open directory (the writer hands one out); `path` is what faults call it.
    pub fn from_directory(root: OwnedFd, path: &Path) -> Self {
        Self { root, path: path.to_owned() }
    }

    fn fault(&self, path: &str) -> impl Fn(io::Error) -> Fault {
        let path = self.path.join(path);
        move |source| Fault::Unreadable { path: path.clone(), source }
    }

    /// Why a file that was opened cannot be read.
    pub(super) fn unreadable(&self, path: &str) -> impl Fn(io::Error) -> Fault {
        self.fault(path)
    }

    fn open_below(&self, path: &str) -> Result<Option<Result<OwnedFd, ()>>, Fault> {
        let mut parts = path.split('/').peekable();
        let mut at: Option<OwnedFd> = None;
        while let Some(part) = parts.next() {
            // Not to hang on a pipe that somebody put there.
            let mut flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            if parts.peek().is_some() {
                flags |= OFlags::DIRECTORY;
            }
            let below = at.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
            at = Some(match openat(below, part, flags, Mode::empty()) {
                Ok(opened) => opened,
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => return Ok(Some(Err(()))),
                Err(error) => return Err(self.fault(path)(error.into())),
            });
        }
        Ok(at.map(Ok))
    }

    /// Opens a file.
    ///
    /// # Errors
    /// [`Fault`] where it is there and cannot be read.
    pub fn file(&self, path: &str) -> Result<Opened, Fault> {
        let Some(opened) = self.open_below(path)? else { return Ok(Opened::Absent) };
        let Ok(opened) = opened else { return Ok(Opened::NotRegular) };
        let found = fstat(&opened).map_err(|error| self.fault(path)(error.into()))?;
        Ok(match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => Opened::File(File::from(opened)),
            _ => Opened::NotRegular,
        })
    }

    /// Reads a whole file; nothing when it is absent.
    ///
    /// # Errors
    /// [`Fault`] where it is there and cannot be read. A refusal within, when it is no file or above the limit.
    pub fn read(&self, path: &str, limit: u64) -> Result<Result<Option<Vec<u8>>, ChainRefusal>, Fault> {
        let file = match self.file(path)? {
            Opened::File(file) => file,
            Opened::Absent => return Ok(Ok(None)),
            Opened::NotRegular => return Ok(Err(ChainRefusal::ChainFileNotRegular { path: path.to_owned() })),
        };
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, limit + 1), &mut bytes).map_err(self.fault(path))?;
        if bytes.len() as u64 > limit {
            return Ok(Err(ChainRefusal::ChainFileTooLarge { path: path.to_owned(), limit }));
        }
        Ok(Ok(Some(bytes)))
    }

    /// The 256 hashes of a full tile; nothing when it is absent or of another size.
    pub(super) fn tile(&self, level: u32, number: u64) -> Result<Option<Vec<u8>>, Fault> {
        const BYTES: usize = 256 * 32;
        let path = tile_path(level, number);
        let Opened::File(file) = self.file(&path)? else { return Ok(None) };
        let mut bytes = vec![0; BYTES + 1];
        let mut have = 0;
        while let Some(room) = bytes.get_mut(have..).filter(|room| !room.is_empty()) {
            match Source::read_at(&file, room, have as u64).map_err(self.fault(&path))? {
                0 => break,
                more => have += more,
            }
        }
        bytes.truncate(have);
        Ok((have == BYTES).then_some(bytes))
    }

    /// Lists what there is; the names of tiles too, where `tiles` says so.
    ///
    /// # Errors
    /// [`Fault`] where a directory cannot be read.
    pub fn list(&self, tiles: bool) -> Result<Listing, Fault> {
        let mut listing = Listing::default();
        for (name, found) in self.names("")? {
            match name.as_str() {
                CHECKPOINT | CHECKPOINTS_LOG | EPOCHS_KEPT => drop(listing.admit(found, FileType::RegularFile, &name)),
                SEGMENTS_DIR => {
                    if listing.admit(found, FileType::Directory, &name) {
                        self.list_segments(&mut listing)?;
                    }
                }
                TILES_DIR => {
                    if listing.admit(found, FileType::Directory, &name) && tiles {
                        self.list_tiles(TILES_DIR, &mut listing)?;
                    }
                }
                _ => listing.foreign(name),
            }
        }
        Ok(listing)
    }

    fn list_segments(&self, listing: &mut Listing) -> Result<(), Fault> {
        for (name, found) in self.names(SEGMENTS_DIR)? {
            let path = format!("{SEGMENTS_DIR}/{name}");
            let first = name.split('.').next().and_then(|digits| digits.parse::<u64>().ok());
            let first = first.filter(|first| first.is_multiple_of(SEGMENT_ENTRIES));
            match first {
                Some(first) if path == segment_path(first) => {
                    if listing.admit(found, FileType::RegularFile, &path) {
                        listing.segments.insert(first);
                    }
                }
                Some(first) if path == payload_path(first) => {
                    if listing.admit(found, FileType::RegularFile, &path) {
                        listing.payloads.insert(first);
                    }
                }
                _ => listing.foreign(path),
            }
        }
        Ok(())
    }

    /// Below `tile`: levels, groups of three digits with `x` before them, and tiles.
    fn list_tiles(&self, path: &str, listing: &mut Listing) -> Result<(), Fault> {
        for (name, found) in self.names(path)? {
            let below = format!("{path}/{name}");
            let digits = |text: &str| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            let level = path == TILES_DIR && (0..TILE_LEVELS).any(|level| name == level.to_string());
            let group = path != TILES_DIR && name.strip_prefix('x').is_some_and(digits);
            if level || group {
                if listing.admit(found, FileType::Directory, &below) {
                    self.list_tiles(&below, listing)?;
                }
            } else if path != TILES_DIR && digits(&name) {
                listing.admit(found, FileType::RegularFile, &below);
            } else {
                listing.foreign(below);
            }
        }
        Ok(())
    }

    /// Names in a directory and what they lead to, ascending; one that vanishes meanwhile is none.
    fn names(&self, path: &str) -> Result<Vec<(String, FileType)>, Fault> {
        let directory = match path {
            "" => self.root.try_clone().map_err(self.fault(path))?,
            _ => match self.open_below(path)? {
                Some(Ok(directory)) => directory,
                _ => return Ok(Vec::new()),
            },
        };
        let fault = |error: Errno| self.fault(path)(error.into());
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let found = match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => FileType::from_raw_mode(found.st_mode),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(fault(error)),
            };
            names.push((name.to_string_lossy().into_owned(), found));
        }
        names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        Ok(names)
    }
}

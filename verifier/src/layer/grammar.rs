//! What stands where in a layer (`spec/bundle.md` §7), read by descent with one entry of lookahead.

use std::collections::{BTreeSet, HashMap};
use std::io::BufRead;

use sha2::{Digest as _, Sha256};

use super::{Contents, Dir, FileContent, FileObject};
use crate::digest::Digest;
use crate::layout::{ObjectKind, object_path, parse_object_path};
use crate::limits::{FILES_MAX, METADATA_BYTES_MAX, XATTRS_BYTES_MAX};
use crate::ostree::{DirMeta, DirTree, FileHasher, FileHeader, ObjectError, S_IFLNK, S_IFREG, Xattrs};
use crate::refusal::Refusal;
use crate::tar::{self, Entry, Kind, TarError};

/// Reads a layer: its contents unless the grammar is broken, and the archive wherever reading stopped.
pub(super) fn read<R: BufRead>(number: usize, archive: R, refusals: &mut Vec<Refusal>) -> (Option<Contents>, R) {
    let mut layer = Layer {
        number,
        reader: tar::Reader::new(archive),
        ahead: None,
        contents: Contents::default(),
        xattrs: HashMap::new(),
        refusals,
    };
    let contents = match layer.read() {
        Ok(()) => Some(std::mem::take(&mut layer.contents)),
        Err(stop) => {
            // Failures to read are told by whoever decompresses.
            layer.refusals.extend(stop);
            None
        }
    };
    (contents, layer.reader.into_inner())
}

/// What ends the reading of a layer; nothing when the archive itself cannot be read on.
type Stop = Option<Refusal>;

struct Layer<'a, R> {
    number: usize,
    reader: tar::Reader<R>,
    ahead: Option<Entry>,
    contents: Contents,
    /// Sets of extended attributes seen in this layer: as stored, and as PAX records carry them.
    xattrs: HashMap<Digest, (Xattrs, Xattrs)>,
    refusals: &'a mut Vec<Refusal>,
}

impl<R: BufRead> Layer<'_, R> {
    fn read(&mut self) -> Result<(), Stop> {
        self.preamble()?;
        if self.number == 0 {
            self.commit()?;
            self.metadata()?;
            self.directories()?;
        } else {
            self.directories()?;
            while self.peek()?.is_some() {
                self.file()?;
            }
            self.parents()?;
        }
        match self.ahead.take() {
            Some(entry) => Err(self.broken(&entry.path, "nothing may follow here")),
            None => Ok(()),
        }
    }

    fn broken(&self, path: &str, reason: &str) -> Stop {
        Some(Refusal::LayerGrammarBroken { layer: self.number, path: path.to_owned(), reason: reason.to_owned() })
    }

    fn disorder(&self, path: &str) -> Stop {
        Some(Refusal::LayerOrderWrong { layer: self.number, path: path.to_owned() })
    }

    fn tar(number: usize) -> impl Fn(TarError) -> Stop {
        move |error| match error {
            TarError::Read(_) => None,
            other => Some(Refusal::TarNotCanonical { layer: number, reason: other.to_string() }),
        }
    }

    fn peek(&mut self) -> Result<Option<&Entry>, Stop> {
        if self.ahead.is_none() {
            self.ahead = self.reader.next_entry().map_err(Self::tar(self.number))?;
        }
        Ok(self.ahead.as_ref())
    }

    fn next(&mut self, expected: &str) -> Result<Entry, Stop> {
        self.peek()?;
        self.ahead.take().ok_or_else(|| self.broken(expected, "the layer ends before it"))
    }

    /// The data of the entry that was taken last, within a bound.
    fn data(&mut self, entry: &Entry, limit: u64) -> Result<Vec<u8>, Stop> {
        if entry.size() > limit {
            return Err(self.broken(&entry.path, "it is larger than such an object may be"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(entry.size()).unwrap_or(0));
        self.reader.data(|piece| bytes.extend_from_slice(piece)).map_err(Self::tar(self.number))?;
        Ok(bytes)
    }

    fn preamble(&mut self) -> Result<(), Stop> {
        let root = self.next("./")?;
        self.contents.root = (root.mode, root.uid, root.gid);
        let mut expected = tar::preamble(root.mode, root.uid, root.gid).into_iter();
        let mut entry = root;
        while let Some((wanted, bytes)) = expected.next() {
            if entry != wanted || self.data(&entry, bytes.len() as u64)? != bytes {
                return Err(self.broken(&entry.path, &format!("the preamble has `{}` here", wanted.path)));
            }
            match expected.as_slice().first() {
                Some((following, _)) => entry = self.next(&following.path)?,
                None => break,
            }
        }
        Ok(())
    }

    /// Takes a repository object of plain mode and owner, and compares its bytes with its name.
    fn object(&mut self, entry: &Entry, checksum: Digest, limit: u64) -> Result<Vec<u8>, Stop> {
        if *entry != Entry::object(entry.path.clone(), entry.size()) {
            return Err(
                self.broken(&entry.path, "an object here is a regular file, 0644 0:0, without extended attributes")
            );
        }
        let bytes = self.data(entry, limit)?;
        self.compare(entry, checksum, Digest::of(&bytes));
        Ok(bytes)
    }

    fn compare(&mut self, entry: &Entry, named: Digest, found: Digest) {
        if named != found {
            let path = entry.path.clone();
            self.refusals.push(Refusal::ObjectDiffersFromName { layer: self.number, path, found: found.to_string() });
        }
    }

    fn commit(&mut self) -> Result<(), Stop> {
        let entry = self.next("the commit object")?;
        let Some((checksum, ObjectKind::Commit)) = parse_object_path(&entry.path) else {
            return Err(self.broken(&entry.path, "the first layer goes on with the commit object"));
        };
        let bytes = self.object(&entry, checksum, METADATA_BYTES_MAX)?;
        self.contents.commit = Some((checksum, bytes));
        Ok(())
    }

    fn metadata(&mut self) -> Result<(), Stop> {
        let mut before = String::new();
        while let Some((checksum, kind @ (ObjectKind::DirTree | ObjectKind::DirMeta))) =
            self.peek()?.and_then(|entry| parse_object_path(&entry.path))
        {
            let entry = self.next("")?;
            if entry.path <= before {
                return Err(self.disorder(&entry.path));
            }
            let bytes = self.object(&entry, checksum, METADATA_BYTES_MAX)?;
            let parsed: Result<(), ObjectError> = match kind {
                ObjectKind::DirTree => {
                    DirTree::parse(&bytes).map(|tree| drop(self.contents.trees.insert(checksum, tree)))
                }
                _ => DirMeta::parse(&bytes).map(|meta| drop(self.contents.metas.insert(checksum, meta))),
            };
            if let Err(error) = parsed {
                self.refusals.push(Refusal::CommitMalformed { path: entry.path.clone(), reason: error.to_string() });
            }
            before = entry.path;
        }
        Ok(())
    }

    fn directories(&mut self) -> Result<(), Stop> {
        let mut before = String::new();
        while self.peek()?.is_some_and(|entry| entry.kind == Kind::Directory) {
            let entry = self.next("")?;
            if entry.path <= before {
                return Err(self.disorder(&entry.path));
            }
            self.outside_repository(&entry.path)?;
            before.clone_from(&entry.path);
            let Entry { path, mode, uid, gid, xattrs, .. } = entry;
            self.contents.dirs.push(Dir { path: path.into(), mode, uid, gid, xattrs });
            self.bounded(self.contents.dirs.len())?;
        }
        Ok(())
    }

    fn bounded(&self, count: usize) -> Result<(), Stop> {
        if count > FILES_MAX { Err(self.broken("", "there are more entries than an image may have")) } else { Ok(()) }
    }

    /// A path of the commit is never in `/sysroot`, and `/usr/etc` is spelled `etc`.
    fn outside_repository(&self, path: &str) -> Result<(), Stop> {
        let spelled = format!("{}/", path.trim_end_matches('/'));
        if spelled.starts_with("sysroot/") || spelled.starts_with("usr/etc/") {
            return Err(self.broken(path, "no path of a commit is spelled so in a layer"));
        }
        Ok(())
    }

    /// One file object: its extended attributes when new, the link to them, itself, its paths.
    fn file(&mut self) -> Result<(), Stop> {
        let mut entry = self.next("a file object")?;
        let mut fresh = None;
        if let Some((checksum, ObjectKind::FileXattrs)) = parse_object_path(&entry.path) {
            let bytes = self.object(&entry, checksum, XATTRS_BYTES_MAX)?;
            let set = Xattrs::parse(&bytes).map_err(|error| self.broken(&entry.path, &error.to_string()))?;
            let in_pax = set.in_pax();
            if self.xattrs.insert(checksum, (set, in_pax)).is_some() {
                return Err(self.broken(&entry.path, "this layer has it already"));
            }
            fresh = Some(checksum);
            entry = self.next("a link to the extended attributes")?;
        }
        let (checksum, set) = self.xattrs_link(&entry, fresh)?;
        if self.contents.files.last().is_some_and(|before| before.checksum >= checksum) {
            return Err(self.disorder(&entry.path));
        }
        let object = self.next(&object_path(&checksum, ObjectKind::File))?;
        self.content(&object, checksum, set)?;
        self.paths(&object)
    }

    fn xattrs_link(&mut self, entry: &Entry, fresh: Option<Digest>) -> Result<(Digest, Digest), Stop> {
        let (Some((checksum, ObjectKind::FileXattrsLink)), Kind::HardLink(target)) =
            (parse_object_path(&entry.path), &entry.kind)
        else {
            return Err(self.broken(&entry.path, "a file object begins with the hard link to its extended attributes"));
        };
        let plain = Entry { kind: Kind::HardLink(target.clone()), ..Entry::object(entry.path.clone(), 0) };
        let set = match parse_object_path(target) {
            Some((set, ObjectKind::FileXattrs)) if self.xattrs.contains_key(&set) && *entry == plain => set,
            _ => return Err(self.broken(&entry.path, "it is no plain hard link to extended attributes of this layer")),
        };
        if fresh.is_some_and(|fresh| fresh != set) {
            return Err(self.broken(&entry.path, "the extended attributes before it are not its own"));
        }
        Ok((checksum, set))
    }

    fn content(&mut self, entry: &Entry, checksum: Digest, set: Digest) -> Result<(), Stop> {
        if parse_object_path(&entry.path) != Some((checksum, ObjectKind::File)) {
            return Err(self.broken(&entry.path, "the file object of the link before belongs here"));
        }
        let Some((stored, _)) = self.xattrs.get(&set).filter(|(_, in_pax)| *in_pax == entry.xattrs) else {
            return Err(self.broken(&entry.path, "its PAX records are not its extended attributes"));
        };
        let (kind, target) = match &entry.kind {
            Kind::Regular(_) => (S_IFREG, None),
            Kind::Symlink(target) => (S_IFLNK, Some(target.clone())),
            _ => return Err(self.broken(&entry.path, "a file object is a regular file or a symbolic link")),
        };
        let header =
            FileHeader { uid: entry.uid, gid: entry.gid, mode: kind | entry.mode, target, xattrs: stored.clone() };
        let mut object = FileHasher::new(&header).map_err(|error| self.broken(&entry.path, &error.to_string()))?;
        let mut plain = Sha256::new();
        self.reader
            .data(|piece| {
                object.update(piece);
                plain.update(piece);
            })
            .map_err(Self::tar(self.number))?;
        self.compare(entry, checksum, object.finish());
        let content = match header.target {
            Some(target) => FileContent::Symlink(target.into()),
            None => FileContent::Regular(plain.into()),
        };
        self.contents.files.push(FileObject { checksum, mode: header.mode, uid: header.uid, gid: header.gid, content });
        Ok(())
    }

    /// The paths that hold the object just read: at least one, ascending.
    fn paths(&mut self, object: &Entry) -> Result<(), Stop> {
        let position =
            u32::try_from(self.contents.files.len() - 1).map_err(|_| self.broken(&object.path, "too many objects"))?;
        let link = Entry { kind: Kind::HardLink(object.path.clone()), xattrs: Xattrs::EMPTY, ..object.clone() };
        let wanted = if object.kind == Kind::Regular(0) { object.clone() } else { link };
        let mut before = String::new();
        while self.peek()?.is_some_and(|entry| parse_object_path(&entry.path).is_none()) {
            let entry = self.next("")?;
            if entry.path <= before {
                return Err(self.disorder(&entry.path));
            }
            self.outside_repository(&entry.path)?;
            if entry != (Entry { path: entry.path.clone(), ..wanted.clone() }) {
                return Err(self.broken(&entry.path, "a path is a hard link to the object before it, of the same mode and owner (an empty file: the same empty file)"));
            }
            before.clone_from(&entry.path);
            self.contents.paths.push((entry.path.into(), position));
            self.bounded(self.contents.paths.len())?;
        }
        if before.is_empty() { Err(self.broken(&object.path, "no path holds it")) } else { Ok(()) }
    }

    /// The layer's directories are exactly those that its paths lie in.
    fn parents(&mut self) -> Result<(), Stop> {
        let mut wanted = BTreeSet::new();
        for (path, _) in &self.contents.paths {
            for (at, _) in path.rmatch_indices('/') {
                if !wanted.insert(path.get(..=at).unwrap_or_default()) {
                    break;
                }
            }
        }
        let mut dirs = self.contents.dirs.iter().map(|dir| dir.path.as_ref());
        let mut wanted = wanted.into_iter();
        loop {
            match (dirs.next(), wanted.next()) {
                (None, None) => return Ok(()),
                (Some(dir), Some(parent)) if dir == parent => {}
                (Some(dir), Some(parent)) if dir > parent => {
                    return Err(self.broken(parent, "a path lies in it, but it has no entry"));
                }
                (None, Some(parent)) => return Err(self.broken(parent, "a path lies in it, but it has no entry")),
                (Some(dir), _) => return Err(self.broken(dir, "no path of this layer lies in it")),
            }
        }
    }
}

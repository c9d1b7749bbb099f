//! Opens a device's files: below its root, as if that were the root of everything; what is hashed is never reached by a
//! link. Folders are walked by one thread, files hashed on every core.

use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, fgetxattr, flistxattr, flistxattr_query, fstat, openat2,
    readlinkat, statat,
};
use rustix::io::Errno;

use super::Fault;
use super::committed::load_committed;
use crate::claims;
use crate::device::accounts::is_of_the_commit;
use crate::device::{Content, ENTRIES, KARGS, Node, POLICY, RULESETS, Root, SYSCTL};
use crate::digest::{Digest, HashingReader};
use crate::evidence::{Unseen, settings};
use crate::limits::{DEPTH_MAX, FILES_MAX};
use crate::network::parse::TEXT_BYTES_MAX;
use crate::network::profile::PAGE_BYTES_MAX;
use crate::ostree::{DirMeta, FileHasher, FileHeader, Xattrs};

/// Folders and texts that cannot be read are named up to this many.
const UNSEEN_MAX: usize = 100;
/// Texts of one folder: profiles, boot entries, files of arguments. More are none of ours.
const TEXTS_MAX: usize = 64;
/// What is read of a file at once.
const CHUNK_BYTES: usize = 128 << 10;
/// Names of a file's attributes, and the value of one: the kernel's own limits (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const ATTRIBUTE_BYTES_MAX: usize = 64 << 10;

/// Reads the files of a device: `root` is its root (`/`, or where its deployment is mounted), `boot` its `/boot`. With the root
/// of a commit, what that says of them is read from the device's repository.
pub fn load_root(root: &Path, boot: &Path, commit: Option<Digest>) -> Result<Root, Fault> {
    let (at, at_boot) = (open(root)?, open(boot)?);
    let mut found = Root::default();
    let mut walk = Walk::new(&at, "", &mut found.unseen);
    walk.folder("", &|path| is_of_the_commit(path) || path == "/etc" || path.starts_with("/etc/"), 0)?;
    let (nodes, folders) = (walk.nodes, walk.folders);
    let (nodes, objects) = hashed(&at, "", nodes, commit.is_some());
    found.folders = folders.into_iter().filter(|(path, _)| is_of_the_commit(path)).collect();
    found.objects = objects.into_iter().filter(|(path, _)| is_of_the_commit(path)).collect();
    found.committed = commit.map(|tree| {
        load_committed(&at, tree).map_err(|why| Unseen { what: "folders and attributes of the commit".to_owned(), why })
    });
    let mut walk = Walk::new(&at_boot, "/boot", &mut found.unseen);
    walk.folder("/ostree", &|_| true, 0)?;
    let boot_nodes = walk.nodes;
    (found.boot, _) = hashed(&at_boot, "/boot", boot_nodes, false);
    (found.etc, found.files) = nodes.into_iter().partition(|node| node.path.starts_with("/etc/"));
    for nodes in [&mut found.files, &mut found.etc, &mut found.boot] {
        nodes.sort_by(|a, b| a.path.cmp(&b.path));
    }
    let page = PAGE_BYTES_MAX.max(claims::PAGE_BYTES_MAX) as u64;
    for (folder, limit) in [
        (POLICY.to_owned(), page),
        (format!("{POLICY}/profiles"), page),
        (RULESETS.to_owned(), TEXT_BYTES_MAX as u64),
        (KARGS.to_owned(), page),
    ] {
        texts(&at, "", &folder, limit, &mut found);
    }
    text(&at, "", SYSCTL, settings::FILE_BYTES_MAX, &mut found);
    texts(&at_boot, "/boot", &format!("/boot/{ENTRIES}"), page, &mut found);
    Ok(found)
}

fn open(path: &Path) -> Result<OwnedFd, Fault> {
    if !std::fs::metadata(path).map_err(Fault::unreadable(path))?.is_dir() {
        return Err(Fault::NotADirectory { path: path.to_owned() });
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from);
    opened.map_err(Fault::unreadable(path))
}

/// Opens what a path below the root leads to; links are followed inside the root alone.
fn inside(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = path.trim_start_matches('/');
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, if path.is_empty() { "." } else { path }, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Without links at all.
fn itself(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = path.trim_start_matches('/');
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(root, if path.is_empty() { "." } else { path }, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

struct Walk<'a> {
    root: &'a OwnedFd,
    /// What stands before the paths of this root.
    prefix: &'static str,
    nodes: Vec<Node>,
    folders: Vec<(String, DirMeta)>,
    unseen: &'a mut Vec<Unseen>,
}

impl<'a> Walk<'a> {
    fn new(root: &'a OwnedFd, prefix: &'static str, unseen: &'a mut Vec<Unseen>) -> Self {
        Self { root, prefix, nodes: Vec::new(), folders: Vec::new(), unseen }
    }

    fn could_not(&mut self, path: &str, why: impl ToString) {
        if self.unseen.len() < UNSEEN_MAX {
            let what = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
            self.unseen.push(Unseen { what, why: why.to_string() });
        }
    }

    /// Everything below `path`, of which `wanted` says what; regular files are not read yet.
    fn folder(&mut self, path: &str, wanted: &dyn Fn(&str) -> bool, depth: usize) -> Result<(), Fault> {
        let whole = format!("{}{path}", self.prefix);
        if depth > DEPTH_MAX {
            self.could_not(&whole, "folders are nested too deep");
            return Ok(());
        }
        let folder = match itself(self.root, path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(folder) => folder,
            Err(error) => {
                self.could_not(&whole, io::Error::from(error));
                return Ok(());
            }
        };
        let looked = Dir::read_from(&folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let looked = looked.and_then(|names| Ok((names, fstat(&folder)?, attributes(&folder)?)));
        let names = match looked {
            Ok((names, stat, xattrs)) => {
                let meta = DirMeta { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode, xattrs };
                self.folders.push((whole.clone(), meta));
                names
            }
            Err(error) => {
                self.could_not(&whole, io::Error::from(error));
                return Ok(());
            }
        };
        for entry in names {
            let raw = entry.file_name();
            if [&b"."[..], b".."].contains(&raw.to_bytes()) {
                continue;
            }
            let name = raw.to_string_lossy();
            let below = format!("{path}/{name}");
            if !wanted(&below) {
                continue;
            }
            if self.nodes.len() >= FILES_MAX {
                self.could_not(&whole, "there are more files than any release has");
                return Ok(());
            }
            let Ok(found) = statat(&folder, raw, AtFlags::SYMLINK_NOFOLLOW) else {
                self.could_not(&format!("{whole}/{name}"), "it cannot be looked at");
                continue;
            };
            let is_text = raw.to_str().is_ok();
            let content = match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory if is_text => {
                    self.folder(&below, wanted, depth + 1)?;
                    continue;
                }
                // Filled in when it is hashed.
                FileType::RegularFile if is_text => Content::Unread("it was not read".to_owned()),
                FileType::Symlink if is_text => match readlinkat(&folder, raw, Vec::new()) {
                    Ok(target) => target.into_string().map_or(Content::Other, Content::Symlink),
                    Err(error) => Content::Unread(io::Error::from(error).to_string()),
                },
                _ => Content::Other,
            };
            let (mode, uid, gid) = (found.st_mode, found.st_uid, found.st_gid);
            self.nodes.push(Node { path: format!("{}{below}", self.prefix), mode, uid, gid, content });
        }
        Ok(())
    }
}

/// Hashes every regular file, on every core. With `as_objects` the digest is given as well that OSTree has for each file.
fn hashed(root: &OwnedFd, prefix: &str, mut nodes: Vec<Node>, as_objects: bool) -> (Vec<Node>, Vec<(String, Digest)>) {
    let is_read = |node: &&mut Node| match &node.content {
        Content::Symlink(_) => as_objects,
        Content::Unread(_) => FileType::from_raw_mode(node.mode) == FileType::RegularFile,
        Content::Regular(_) | Content::Other => false,
    };
    let wanted: Vec<&mut Node> = nodes.iter_mut().filter(is_read).collect();
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get).min(wanted.len());
    let queue = Mutex::new(wanted.into_iter());
    let objects = Mutex::new(Vec::new());
    let work = || loop {
        // What they guard is whole after each step: a thread that died cannot have left it half changed.
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some(node) = next else { return };
        let path = node.path.strip_prefix(prefix).unwrap_or(&node.path).to_owned();
        let object = match &node.content {
            Content::Symlink(target) => link_object(node, target),
            _ => match read(root, &path, as_objects.then_some(&*node)) {
                Ok((digest, object)) => {
                    node.content = Content::Regular(digest);
                    object
                }
                Err(error) => {
                    node.content = Content::Unread(error.to_string());
                    None
                }
            },
        };
        objects.lock().unwrap_or_else(PoisonError::into_inner).extend(object.map(|object| (path, object)));
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    (nodes, objects.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// A link has no attributes that give anybody anything.
fn link_object(node: &Node, target: &str) -> Option<Digest> {
    let (uid, gid, mode) = (node.uid, node.gid, node.mode);
    let header = FileHeader { uid, gid, mode, target: Some(target.to_owned()), xattrs: Xattrs::EMPTY };
    FileHasher::new(&header).ok().map(FileHasher::finish)
}

/// The digest of a file, read once; and that of the object of this node which it would be.
fn read(root: &OwnedFd, path: &str, node: Option<&Node>) -> io::Result<(Digest, Option<Digest>)> {
    // Not to hang on a pipe that takes the file's place.
    let file = itself(root, path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let header = match node {
        None => None,
        Some(node) => {
            let (uid, gid, mode) = (node.uid, node.gid, node.mode);
            Some(FileHeader { uid, gid, mode, target: None, xattrs: attributes(&file)? })
        }
    };
    let mut object = header.map(|header| FileHasher::new(&header)).transpose().map_err(io::Error::other)?;
    let mut reader = HashingReader::new(File::from(file));
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = io::Read::read(&mut reader, &mut chunk)?;
        if count == 0 {
            return Ok((reader.finish().0, object.map(FileHasher::finish)));
        }
        if let Some(object) = &mut object {
            object.update(chunk.get(..count).unwrap_or_default());
        }
    }
}

/// Extended attributes; a file system that has none for anybody has none here.
fn attributes(file: &OwnedFd) -> Result<Xattrs, Errno> {
    match flistxattr_query(file) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Xattrs::EMPTY),
        Ok(_) => {}
        Err(error) => return Err(error),
    }
    let mut names = Vec::with_capacity(ATTRIBUTE_BYTES_MAX);
    flistxattr(file, spare_capacity(&mut names))?;
    let mut pairs = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = Vec::with_capacity(ATTRIBUTE_BYTES_MAX);
        fgetxattr(file, name, spare_capacity(&mut value))?;
        pairs.push((name.to_vec(), value));
    }
    Xattrs::new(pairs).map_err(|_| Errno::TOOBIG)
}

/// Every text directly in a folder. One that is not there has none: what is wanted of it is told where it is judged.
fn texts(root: &OwnedFd, prefix: &str, folder: &str, limit: u64, found: &mut Root) {
    let path = folder.strip_prefix(prefix).unwrap_or(folder);
    let names = inside(root, path, OFlags::RDONLY | OFlags::DIRECTORY)
        .and_then(|opened| Dir::read_from(&opened)?.collect::<Result<Vec<_>, _>>());
    let mut names: Vec<String> = match names {
        Ok(names) => names.iter().filter_map(|it| it.file_name().to_str().ok().map(str::to_owned)).collect(),
        Err(Errno::NOENT) => return,
        Err(error) => {
            found.unseen.push(Unseen { what: folder.to_owned(), why: io::Error::from(error).to_string() });
            return;
        }
    };
    names.retain(|name| ![".", ".."].contains(&name.as_str()));
    names.sort();
    if names.len() > TEXTS_MAX {
        let why = format!("it holds more than {TEXTS_MAX} files");
        found.unseen.push(Unseen { what: folder.to_owned(), why });
        return;
    }
    for name in names {
        text(root, prefix, &format!("{folder}/{name}"), limit, found);
    }
}

fn text(root: &OwnedFd, prefix: &str, path: &str, limit: u64, found: &mut Root) {
    let below = path.strip_prefix(prefix).unwrap_or(path);
    let read = inside(root, below, OFlags::RDONLY | OFlags::NONBLOCK).map_err(io::Error::from).and_then(|opened| {
        let file = File::from(opened);
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, limit + 1), &mut bytes)?;
        Ok(Some(bytes))
    });
    let why = match read {
        Ok(None) => return,
        Ok(Some(bytes)) if bytes.len() as u64 <= limit => {
            found.texts.insert(path.to_owned(), bytes);
            return;
        }
        Ok(Some(_)) => format!("it has more than {limit} bytes"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => error.to_string(),
    };
    found.unseen.push(Unseen { what: path.to_owned(), why });
}

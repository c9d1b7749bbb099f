//! Opens a device's files: below its root, as if that were the root of everything; what is hashed is never reached by a
//! link. Folders are walked by one thread, files hashed on every core.

use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, readlinkat, statat};
use rustix::io::Errno;

use super::Fault;
use crate::claims;
use crate::device::accounts::is_of_the_commit;
use crate::device::{Content, ENTRIES, KARGS, Node, POLICY, RULESETS, Root, SYSCTL};
use crate::digest::HashingReader;
use crate::evidence::{Unseen, settings};
use crate::limits::{DEPTH_MAX, FILES_MAX};
use crate::network::parse::TEXT_BYTES_MAX;
use crate::network::profile::PAGE_BYTES_MAX;

/// Folders and texts that cannot be read are named up to this many.
const UNSEEN_MAX: usize = 100;
/// Texts of one folder: profiles, boot entries, files of arguments. More are none of ours.
const TEXTS_MAX: usize = 64;
/// What is read of a file at once.
const CHUNK_BYTES: usize = 128 << 10;

/// Reads the files of a device: `root` is its root (`/`, or where its deployment is mounted), `boot` its `/boot`.
pub fn load_root(root: &Path, boot: &Path) -> Result<Root, Fault> {
    let (at, at_boot) = (open(root)?, open(boot)?);
    let mut found = Root::default();
    let mut walk = Walk { root: &at, prefix: "", nodes: Vec::new(), unseen: &mut found.unseen };
    walk.folder("", &|path| is_of_the_commit(path) || path == "/etc" || path.starts_with("/etc/"), 0)?;
    let nodes = hashed(&at, "", walk.nodes);
    let mut walk = Walk { root: &at_boot, prefix: "/boot", nodes: Vec::new(), unseen: &mut found.unseen };
    walk.folder("/ostree", &|_| true, 0)?;
    let boot_nodes = walk.nodes;
    found.boot = hashed(&at_boot, "/boot", boot_nodes);
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
    unseen: &'a mut Vec<Unseen>,
}

impl Walk<'_> {
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
        let names = Dir::read_from(&folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let names = match names {
            Ok(names) => names,
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

/// Hashes every regular file, on every core.
fn hashed(root: &OwnedFd, prefix: &str, mut nodes: Vec<Node>) -> Vec<Node> {
    const REGULAR: u32 = crate::ostree::S_IFREG;
    let regular: Vec<&mut Node> = nodes
        .iter_mut()
        .filter(|node| node.mode & crate::ostree::S_IFMT == REGULAR && !matches!(node.content, Content::Other))
        .collect();
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get).min(regular.len());
    let queue = Mutex::new(regular.into_iter());
    let work = || loop {
        // The queue is only popped: a thread that died cannot have left it half changed.
        let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
        let Some(node) = next else { return };
        let path = node.path.strip_prefix(prefix).unwrap_or(&node.path);
        node.content = match digest_of(root, path) {
            Ok(digest) => Content::Regular(digest),
            Err(error) => Content::Unread(error.to_string()),
        };
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    nodes
}

fn digest_of(root: &OwnedFd, path: &str) -> io::Result<crate::digest::Digest> {
    // Not to hang on a pipe that takes the file's place.
    let file = itself(root, path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let mut reader = HashingReader::new(File::from(file));
    let mut chunk = vec![0; CHUNK_BYTES];
    while io::Read::read(&mut reader, &mut chunk)? > 0 {}
    Ok(reader.finish().0)
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

//! `/etc`: a file of it replaced at once, and all of it laid as the image has it.

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid, chownat, fchmod, fchown, open};
use secai_daemon::report::Hint;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirEntry, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// What is being written beside what it is to replace.
const NEW: &str = ".secai-new";
/// Folders lie in folders, but not so deep.
const DEPTH_MAX: usize = 32;
/// Below `/etc`, and not the image's: the disk's own table, and the mark by which an erasure goes on.
const KEPT: [&str; 2] = ["fstab", "secure-ai/begun"];
/// What is read at once.
const PIECE_BYTES: usize = 64 << 10;

/// Why `/etc` is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum EtcError {
    /// The kernel said no.
    #[error("cannot {0} {path}", path = .1.display())]
    Act(&'static str, PathBuf, #[source] io::Error),
    /// A mark that is none.
    #[error("{} holds none of the words that this program writes there", .0.display())]
    Unknown(PathBuf),
    /// Folders in folders without end.
    #[error("{} lies too deep", .0.display())]
    Deep(PathBuf),
}

impl Hint for EtcError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown(_) => Some("remove it from other media, once you know who wrote it".to_owned()),
            _ => None,
        }
    }
}

trait At<T> {
    fn at(self, verb: &'static str, path: &Path) -> Result<T, EtcError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, verb: &'static str, path: &Path) -> Result<T, EtcError> {
        self.map_err(|error| EtcError::Act(verb, path.to_owned(), error.into()))
    }
}

/// Replaces a file at once: its owner is root, or who owned it before; its mode is the one given, or the one it had.
///
/// # Errors
/// [`EtcError`].
pub fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), EtcError> {
    let before = path.symlink_metadata().ok().filter(Metadata::is_file);
    let new = beside(path);
    let mut file = fresh(&new)?;
    file.write_all(bytes).at("write", &new)?;
    if let Some(before) = &before {
        give(&file, &new, before)?;
    } else {
        fchmod(&file, Mode::from_raw_mode(mode)).at("change", &new)?;
    }
    file.sync_all().at("write", &new)?;
    fs::rename(&new, path).at("replace", path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Has what was renamed or removed in it stay so.
///
/// # Errors
/// [`EtcError`].
pub fn sync_folder(path: &Path) -> Result<(), EtcError> {
    File::open(path).and_then(|folder| folder.sync_all()).at("write", path)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(NEW);
    path.with_file_name(name)
}

/// A new file that nobody else reads yet; one that a cut left there goes.
fn fresh(path: &Path) -> Result<File, EtcError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).at("remove", path),
        _ => {}
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    open(path, flags, Mode::RUSR | Mode::WUSR).map(File::from).at("create", path)
}

fn give(file: &File, path: &Path, as_of: &Metadata) -> Result<(), EtcError> {
    let (uid, gid) = (Uid::from_raw(as_of.uid()), Gid::from_raw(as_of.gid()));
    fchown(file, Some(uid), Some(gid)).at("change", path)?;
    fchmod(file, Mode::from_raw_mode(as_of.mode() & 0o7777)).at("change", path)
}

/// Lays a folder as another one is, but for what is [`KEPT`]. First what is to be there, each file at once, and only then goes what
/// is not: cut at any moment it is whole enough to start with, and to go on.
///
/// # Errors
/// [`EtcError`].
pub fn restore(etc: &Path, as_shipped: &Path) -> Result<(), EtcError> {
    lay(as_shipped, etc, 0)?;
    prune(etc, as_shipped, Path::new(""), 0)?;
    sync_folder(etc)
}

fn entries(folder: &Path) -> Result<Vec<DirEntry>, EtcError> {
    fs::read_dir(folder).and_then(Iterator::collect).at("read", folder)
}

fn lay(from: &Path, to: &Path, depth: usize) -> Result<(), EtcError> {
    if depth > DEPTH_MAX {
        return Err(EtcError::Deep(from.to_owned()));
    }
    for entry in entries(from)? {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let meta = source.symlink_metadata().at("read", &source)?;
        let there = target.symlink_metadata().ok();
        if there.as_ref().is_some_and(|it| it.is_dir() != meta.is_dir()) {
            remove(&target)?;
        }
        if meta.is_dir() {
            match fs::create_dir(&target) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error).at("create", &target),
                _ => {}
            }
            give(&File::open(&target).at("read", &target)?, &target, &meta)?;
            lay(&source, &target, depth + 1)?;
            sync_folder(&target)?;
        } else if meta.is_symlink() {
            link(&source, &target, &meta)?;
        } else if meta.is_file() {
            copy(&source, &target, &meta)?;
        }
    }
    Ok(())
}

fn copy(source: &Path, target: &Path, meta: &Metadata) -> Result<(), EtcError> {
    let new = beside(target);
    let (mut from, mut to) = (File::open(source).at("read", source)?, fresh(&new)?);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = from.read(&mut piece).at("read", source)?;
        let Some(read @ [_, ..]) = piece.get(..length) else { break };
        to.write_all(read).at("write", &new)?;
    }
    give(&to, &new, meta)?;
    to.sync_all().at("write", &new)?;
    fs::rename(&new, target).at("replace", target)
}

fn link(source: &Path, target: &Path, meta: &Metadata) -> Result<(), EtcError> {
    let (new, to) = (beside(target), fs::read_link(source).at("read", source)?);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).at("remove", &new),
        _ => {}
    }
    symlink(to, &new).at("create", &new)?;
    let (uid, gid) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    chownat(CWD, &new, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).at("change", &new)?;
    fs::rename(&new, target).at("replace", target)
}

fn remove(path: &Path) -> Result<(), EtcError> {
    let is_folder = path.symlink_metadata().at("read", path)?.is_dir();
    if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }.at("remove", path)
}

/// `below`: where we are, from the top.
fn prune(etc: &Path, as_shipped: &Path, below: &Path, depth: usize) -> Result<(), EtcError> {
    if depth > DEPTH_MAX {
        return Err(EtcError::Deep(etc.to_owned()));
    }
    let shipped: BTreeSet<OsString> = match as_shipped.is_dir() {
        true => entries(as_shipped)?.iter().map(DirEntry::file_name).collect(),
        false => BTreeSet::new(),
    };
    for entry in entries(etc)? {
        let (name, path) = (entry.file_name(), entry.path());
        let place = below.join(&name);
        let keeps = |kept: &&str| Path::new(kept).starts_with(&place);
        if KEPT.iter().any(|kept| OsStr::new(kept) == place.as_os_str()) {
            continue;
        }
        let is_folder = path.symlink_metadata().at("read", &path)?.is_dir();
        match is_folder && (shipped.contains(&name) || KEPT.iter().any(keeps)) {
            true => prune(&path, &as_shipped.join(&name), &place, depth + 1)?,
            false if shipped.contains(&name) => {}
            false => remove(&path)?,
        }
    }
    sync_folder(etc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn tree(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn listed(root: &Path, below: &Path) -> Vec<String> {
        let mut all = Vec::new();
        for entry in fs::read_dir(root.join(below)).unwrap().flatten() {
            let place = below.join(entry.file_name());
            match entry.file_type().unwrap() {
                it if it.is_dir() => all.extend(listed(root, &place)),
                it if it.is_symlink() => {
                    all.push(format!("{} -> {}", place.display(), fs::read_link(entry.path()).unwrap().display()));
                }
                _ => all.push(format!("{}: {}", place.display(), fs::read_to_string(entry.path()).unwrap())),
            }
        }
        all.sort();
        all
    }

    #[test]
    fn etc_is_laid_as_the_image_has_it_whatever_it_was_and_however_often_it_is_begun() {
        let root = tempfile::tempdir().unwrap();
        let (etc, shipped) = (root.path().join("etc"), root.path().join("usr-etc"));
        tree(&shipped, &[("passwd", "root"), ("a/b/c", "deep"), ("was-folder", "file"), ("was-file/x", "in")]);
        symlink("/usr/lib/os-release", shipped.join("os-release")).unwrap();
        symlink("elsewhere", shipped.join("was-link-to-folder")).unwrap();
        fs::set_permissions(shipped.join("passwd"), fs::Permissions::from_mode(0o640)).unwrap();
        tree(
            &etc,
            &[
                ("passwd", "root ada"),
                ("shadow", "secret"),
                ("a/b/c", "changed"),
                ("a/more", "mine"),
                ("mine/too", "mine"),
                ("was-folder/x", "x"),
                ("was-file", "x"),
                ("outside/kept", "kept"),
                ("fstab", "the disk's"),
                ("secure-ai/begun", "reset\n"),
                ("secure-ai/owner", "ada\n"),
                ("a/fstab", "no fstab of the disk"),
            ],
        );
        let outside = root.path().join("outside");
        tree(&outside, &[("kept", "not ours")]);
        symlink(&outside, etc.join("link")).unwrap();
        symlink(&outside, etc.join("was-link-to-folder")).unwrap();
        // As a cut leaves it.
        tree(&etc, &[("passwd.secai-new", "half")]);
        let wanted = [
            "a/b/c: deep",
            "fstab: the disk's",
            "os-release -> /usr/lib/os-release",
            "passwd: root",
            "secure-ai/begun: reset\n",
            "was-file/x: in",
            "was-folder: file",
            "was-link-to-folder -> elsewhere",
        ];
        for _ in 0..2 {
            restore(&etc, &shipped).unwrap();
            assert_eq!(listed(&etc, Path::new("")), wanted);
            assert_eq!(fs::metadata(etc.join("passwd")).unwrap().permissions().mode() & 0o7777, 0o640);
        }
        assert_eq!(listed(&outside, Path::new("")), ["kept: not ours"], "nothing behind a link is touched");
    }

    #[test]
    fn a_file_is_replaced_with_the_mode_it_had() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("shadow");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        put(&path, b"new", 0o644).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        put(&root.path().join("other"), b"new", 0o644).unwrap();
        assert_eq!(fs::metadata(root.path().join("other")).unwrap().permissions().mode() & 0o7777, 0o644);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2);
    }
}

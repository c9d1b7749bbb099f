//! The composed tree as a table: every folder, file and link with what a commit records of it.
//!
//! One pass reads each file once and takes both its digests: of its bytes (for the SBOM) and as an OSTree
//! object. Files are hashed in parallel.

use crate::error::{At, Error};
use rayon::prelude::*;
use secai_verifier::digest::Digest;
use secai_verifier::ostree::{FileHasher, FileHeader, S_IFLNK, S_IFMT, S_IFREG, Xattrs};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Read at once: large enough that system calls do not count.
pub const READ_BYTES: usize = 256 * 1024;

/// Name and value of an extended attribute.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// A folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    /// `/` or an absolute path.
    pub path: String,
    /// Permission bits with the type.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub xattrs: Vec<Xattr>,
}

/// A regular file or symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeFile {
    /// Absolute path.
    pub path: String,
    /// Checksum of its file object.
    pub object: Digest,
    /// SHA-256 of its bytes; of a link, of nothing.
    pub sha256: Digest,
    /// Size in bytes; 0 for a link.
    pub size: u64,
    /// Permission bits with the type.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Target of a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Extended attributes, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub xattrs: Vec<Xattr>,
}

impl TreeFile {
    /// What its object's checksum begins with.
    ///
    /// # Errors
    /// [`Error::Tree`] for attributes that no commit can hold.
    pub fn header(&self) -> Result<FileHeader, Error> {
        let xattrs =
            Xattrs::new(self.xattrs.iter().cloned()).map_err(|e| Error::Tree(format!("{}: {e}", self.path)))?;
        Ok(FileHeader { uid: self.uid, gid: self.gid, mode: self.mode, target: self.target.clone(), xattrs })
    }

    /// Is it a regular file?
    pub fn is_regular(&self) -> bool {
        self.mode & S_IFMT == S_IFREG
    }
}

/// Everything in a tree, each list sorted bytewise by path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Folders, the root first.
    pub folders: Vec<Folder>,
    /// Files and links.
    pub files: Vec<TreeFile>,
}

impl Tree {
    /// Reads the tree at `root`.
    ///
    /// # Errors
    /// [`Error::Tree`] for a device, socket, FIFO or a name that is not UTF-8; I/O.
    pub fn read(root: &Path) -> Result<Tree, Error> {
        let mut tree = Tree { folders: Vec::new(), files: Vec::new() };
        collect(root, "/", &mut tree)?;
        tree.folders.sort_by(|a, b| a.path.cmp(&b.path));
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        tree.files.par_iter_mut().try_for_each(|file| -> Result<(), Error> {
            let mut object =
                FileHasher::new(&file.header()?).map_err(|e| Error::Tree(format!("{}: {e}", file.path)))?;
            let mut content = Sha256::new();
            if file.is_regular() {
                let path = on_disk(root, &file.path);
                let read = each_piece(&path, |piece| {
                    object.update(piece);
                    content.update(piece);
                })?;
                if read != file.size {
                    return Err(Error::ChangedUnderneath { path });
                }
            }
            file.object = object.finish();
            file.sha256 = content.into();
            Ok(())
        })?;
        Ok(tree)
    }
}

/// Where a path of the image lies under `root`.
pub fn on_disk(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Reads a file in pieces; returns how many bytes there were.
///
/// # Errors
/// I/O.
pub fn each_piece(path: &Path, mut take: impl FnMut(&[u8])) -> Result<u64, Error> {
    let mut file = fs::File::open(path).at("read", path)?;
    let mut buffer = vec![0; READ_BYTES];
    let mut total = 0;
    loop {
        let n = file.read(&mut buffer).at("read", path)?;
        let piece = buffer.get(..n).unwrap_or_default();
        if piece.is_empty() {
            return Ok(total);
        }
        total += n as u64;
        take(piece);
    }
}

fn collect(root: &Path, path: &str, tree: &mut Tree) -> Result<(), Error> {
    let real = on_disk(root, path);
    let meta = real.symlink_metadata().at("read", &real)?;
    tree.folders.push(Folder {
        path: path.to_owned(),
        mode: meta.mode(),
        uid: meta.uid(),
        gid: meta.gid(),
        xattrs: xattrs(&real)?,
    });
    for entry in fs::read_dir(&real).at("read", &real)? {
        let entry = entry.at("read", &real)?;
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| Error::Tree(format!("{} is not UTF-8", entry.path().display())))?;
        let inside = format!("{}/{name}", path.trim_end_matches('/'));
        let meta = entry.path().symlink_metadata().at("read", entry.path())?;
        if meta.is_dir() {
            collect(root, &inside, tree)?;
            continue;
        }
        let target = if meta.is_symlink() {
            let target = fs::read_link(entry.path()).at("read", entry.path())?;
            let text = target.to_str().ok_or_else(|| Error::Tree(format!("the target of {inside} is not UTF-8")))?;
            Some(text.to_owned())
        } else if meta.is_file() {
            None
        } else {
            return Err(Error::Tree(format!("{inside} is a device, socket or FIFO; tmpfiles.d can make it at boot")));
        };
        tree.files.push(TreeFile {
            object: Digest::of(b""),
            sha256: Digest::of(b""),
            size: if target.is_none() { meta.len() } else { 0 },
            mode: if target.is_some() { S_IFLNK | 0o777 } else { meta.mode() },
            uid: meta.uid(),
            gid: meta.gid(),
            xattrs: xattrs(&entry.path())?,
            path: inside,
            target,
        });
    }
    Ok(())
}

/// Names and values are at most this long together (Linux: XATTR_LIST_MAX, XATTR_SIZE_MAX).
const XATTR_BYTES_MAX: usize = 64 * 1024;

/// Does an attribute belong to the file, and not to the machine it lies on? An access list inherited from the output
/// folder, a label of this machine's policy or of an overlay must not reach an image.
fn of_the_image(name: &[u8]) -> bool {
    name == b"security.capability" || name.starts_with(b"user.")
}

/// Extended attributes of a file itself, sorted by name.
pub(crate) fn xattrs(path: &Path) -> Result<Vec<Xattr>, Error> {
    let mut buffer = vec![0u8; XATTR_BYTES_MAX];
    let length = rustix::fs::llistxattr(path, &mut buffer[..]).at("read attributes of", path)?;
    let names: Vec<Vec<u8>> = buffer
        .get(..length)
        .unwrap_or_default()
        .split(|b| *b == 0)
        .filter(|n| of_the_image(n))
        .map(<[u8]>::to_vec)
        .collect();
    let mut pairs = Vec::new();
    for name in names {
        let key = std::ffi::OsStr::from_bytes(&name);
        let length = rustix::fs::lgetxattr(path, key, &mut buffer[..]).at("read attributes of", path)?;
        let value = buffer.get(..length).unwrap_or_default().to_vec();
        // libostree keeps none without a value; a commit of ours must be the one it would make.
        if !value.is_empty() {
            pairs.push((name, value));
        }
    }
    pairs.sort();
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_the_image_are_kept_and_those_of_the_machine_are_not() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "x").unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        for (name, value) in [("user.b", "2"), ("user.a", "1"), ("user.empty", ""), ("trusted.x", "t")] {
            if let Err(e) = rustix::fs::setxattr(&file, name, value.as_bytes(), flags) {
                // `trusted.*` needs root; user attributes are what the test is about.
                assert!(name.starts_with("trusted"), "{name}: {e}");
            }
        }
        let tree = Tree::read(dir.path()).unwrap();
        let found: Vec<_> = tree.files[0].xattrs.iter().map(|(n, v)| (n.as_slice(), v.as_slice())).collect();
        assert_eq!(found, [(&b"user.a"[..], &b"1"[..]), (b"user.b", b"2")]);
    }
}

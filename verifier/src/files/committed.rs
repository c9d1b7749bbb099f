//! Opens the repository of a device for what its commit says of folders and files: dirtrees and dirmetas alone, each with the bytes
//! that its name is the digest of.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat};

use crate::device::accounts::is_of_the_commit;
use crate::device::committed::Committed;
use crate::digest::Digest;
use crate::layout::{OSTREE_OBJECTS_PREFIX, ObjectKind, object_path};
use crate::limits::{DEPTH_MAX, FILES_MAX, METADATA_BYTES_MAX};
use crate::ostree::{DirMeta, DirTree};

/// Where the repository lies: as a booted deployment sees it, and from a deployment's own folder, below
/// `ostree/deploy/NAME/deploy/`.
const OBJECTS: [&str; 2] = [OSTREE_OBJECTS_PREFIX, "../../../../repo/objects/"];

/// Reads what the commit with this root says; why it cannot be, in words.
pub fn load_committed(root: &OwnedFd, tree: Digest) -> Result<Committed, String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = |path: &str| openat(root, path, flags, Mode::empty()).ok();
    let Some(objects) = OBJECTS.iter().find_map(|path| folder(path)) else {
        return Err(
            "there is no repository at sysroot/ostree/repo, nor where the deployment's own folder has one".to_owned()
        );
    };
    let mut found = Committed::default();
    Walk { objects: &objects, found: &mut found }.below("", tree, 0)?;
    Ok(found)
}

struct Walk<'a> {
    objects: &'a OwnedFd,
    found: &'a mut Committed,
}

impl Walk<'_> {
    fn below(&mut self, path: &str, tree: Digest, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err("its folders are nested too deep".to_owned());
        }
        let tree = self.object(tree, ObjectKind::DirTree, DirTree::parse)?;
        for entry in tree.files {
            let path = format!("{path}/{}", entry.name);
            if is_of_the_commit(&path) {
                self.found.files.insert(path, entry.file);
            }
        }
        for entry in tree.dirs {
            let path = format!("{path}/{}", entry.name);
            if !is_of_the_commit(&path) {
                continue;
            }
            if self.found.files.len() + self.found.folders.len() > FILES_MAX {
                return Err("it has more files than any release".to_owned());
            }
            self.below(&path, entry.tree, depth + 1)?;
            let meta = self.object(entry.meta, ObjectKind::DirMeta, DirMeta::parse)?;
            self.found.folders.insert(path, meta);
        }
        Ok(())
    }

    fn object<T, E: ToString>(
        &self,
        digest: Digest,
        kind: ObjectKind,
        parse: fn(&[u8]) -> Result<T, E>,
    ) -> Result<T, String> {
        let path = object_path(&digest, kind);
        let name = path.strip_prefix(OSTREE_OBJECTS_PREFIX).unwrap_or(&path);
        let could_not = |error: io::Error| format!("{name} of the repository: {error}");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = openat(self.objects, name, flags, Mode::empty()).map_err(|errno| could_not(errno.into()))?;
        let mut bytes = Vec::new();
        File::from(file).take(METADATA_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(could_not)?;
        if Digest::of(&bytes) != digest {
            return Err(format!("{name} of the repository has other bytes than its name says"));
        }
        parse(&bytes).map_err(|error| format!("{name} of the repository: {}", error.to_string()))
    }
}

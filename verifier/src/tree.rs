//! Commit ⇔ layers: the tree that the commit describes is the tree that the layers unpack to.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::digest::Digest;
use crate::layer::{Contents, Dir, FileObject};
use crate::layout::layer_path;
use crate::limits::DEPTH_MAX;
use crate::ostree::{Commit, DirMeta, S_IFDIR, Xattrs};
use crate::refusal::Refusal;

/// Directories that a commit may have only empty: what is in them belongs to the machine.
const EMPTY_DIRS: [&str; 8] = ["/var", "/sysroot", "/boot", "/run", "/tmp", "/proc", "/sys", "/dev"];
/// Where kernels lie, as `KVER/vmlinuz`.
const MODULES: &str = "/usr/lib/modules/";
const SYSROOT: &str = "/sysroot";
/// Differences after which the walk ends: objects that refer to each other could multiply them without end.
const WALK_REFUSALS_MAX: usize = 10_000;

/// Walks the tree from the commit; the first of the layers is the metadata layer.
pub(crate) fn compare(commit: &Commit, layers: &[Contents]) -> Vec<Refusal> {
    let mut walk = Walk::default();
    let Some((metadata, rest)) = layers.split_first() else { return walk.refusals };
    walk.metadata = Some(metadata);
    walk.index(metadata, rest);
    walk.root(commit, layers);
    walk.leftovers(metadata);
    walk.rules(commit);
    walk.refusals
}

#[derive(Default)]
struct Walk<'a> {
    metadata: Option<&'a Contents>,
    /// Directories of the first layer, by their names there.
    dirs: HashMap<&'a str, &'a Dir>,
    /// Paths of the other layers, with their objects.
    paths: HashMap<&'a str, &'a FileObject>,
    trees: HashSet<Digest>,
    metas: HashSet<Digest>,
    kernels: BTreeSet<String>,
    sysroot: Option<&'a DirMeta>,
    /// The metadata of each directory walked, by its name in a layer.
    walked: HashMap<String, &'a DirMeta>,
    refusals: Vec<Refusal>,
}

impl<'a> Walk<'a> {
    fn differs(&mut self, path: &str, reason: &str) {
        self.refusals.push(Refusal::CommitDiffersFromLayers { path: path.to_owned(), reason: reason.to_owned() });
    }

    fn unfit(&mut self, reason: String) {
        self.refusals.push(Refusal::CommitUnfitToBoot { reason });
    }

    fn index(&mut self, metadata: &'a Contents, rest: &'a [Contents]) {
        self.dirs = metadata.dirs.iter().map(|dir| (dir.path.as_ref(), dir)).collect();
        let mut objects = HashSet::new();
        for contents in rest {
            for object in &contents.files {
                if !objects.insert(object.checksum) {
                    self.differs(&object.checksum.to_string(), "the object lies in two layers");
                }
            }
            for (path, position) in &contents.paths {
                let Some(object) = contents.files.get(*position as usize) else { continue };
                if self.paths.insert(path, object).is_some() {
                    self.differs(path, "the path has two entries");
                }
            }
        }
    }

    fn root(&mut self, commit: &Commit, layers: &'a [Contents]) {
        let Some(meta) = self.meta("/", commit.meta) else { return };
        if !meta.xattrs.in_pax().is_empty() {
            self.differs("/", "the root has extended attributes");
        }
        if layers.iter().any(|contents| contents.root != (meta.mode & 0o7777, meta.uid, meta.gid)) {
            self.differs("/", "mode or owner of the root differ in a layer");
        }
        let mut path = String::new();
        self.directory(&mut path, commit.tree, 0);
        for contents in layers.iter().skip(1) {
            for dir in &contents.dirs {
                match self.walked.get(dir.path.as_ref()).copied() {
                    Some(meta) => self.same_directory(dir, meta),
                    None => self.differs(&dir.path, "a layer has a directory that the commit does not"),
                }
            }
        }
    }

    fn meta(&mut self, path: &str, checksum: Digest) -> Option<&'a DirMeta> {
        self.metas.insert(checksum);
        let meta = self.metadata.and_then(|metadata| metadata.metas.get(&checksum));
        if meta.is_none() {
            self.differs(path, "its dirmeta object is missing");
        }
        meta
    }

    fn same_directory(&mut self, dir: &Dir, meta: &DirMeta) {
        if (dir.mode, dir.uid, dir.gid) != (meta.mode & 0o7777, meta.uid, meta.gid) {
            self.differs(&dir.path, "mode or owner of the directory differ");
        }
        if dir.xattrs != meta.xattrs.in_pax() {
            self.differs(&dir.path, "extended attributes of the directory differ");
        }
    }

    /// Walks below `path` (no final `/`). A directory without entry ends the descent: so the walk is
    /// bounded by the entries, however often objects refer to each other.
    fn directory(&mut self, path: &mut String, tree: Digest, depth: usize) {
        self.trees.insert(tree);
        if self.refusals.len() >= WALK_REFUSALS_MAX {
            return;
        }
        if depth > DEPTH_MAX {
            return self.differs(path, "directories are nested too deep");
        }
        let Some(tree) = self.metadata.and_then(|metadata| metadata.trees.get(&tree)) else {
            return self.differs(path, "its dirtree object is missing");
        };
        if EMPTY_DIRS.contains(&path.as_str()) && !(tree.files.is_empty() && tree.dirs.is_empty()) {
            self.unfit(format!("{path} is not empty"));
        }
        let length = path.len();
        for entry in &tree.files {
            path.push('/');
            path.push_str(&entry.name);
            self.file(path, entry.file);
            path.truncate(length);
        }
        for entry in &tree.dirs {
            path.push('/');
            path.push_str(&entry.name);
            if self.subdirectory(path, entry.meta) {
                self.directory(path, entry.tree, depth + 1);
            }
            path.truncate(length);
        }
    }

    fn file(&mut self, path: &str, checksum: Digest) {
        if path == "/etc" || EMPTY_DIRS.contains(&path) {
            self.unfit(format!("{path} is not an empty directory"));
        }
        if let Some(kernel) = path.strip_prefix(MODULES).and_then(|rest| rest.strip_suffix("/vmlinuz")) {
            self.kernels.insert(kernel.to_owned());
        }
        match self.paths.remove(layer_path(path)) {
            Some(object) if object.checksum == checksum => {}
            Some(_) => self.differs(path, "the layers hold another object there"),
            None => self.differs(path, "the layers do not hold it"),
        }
    }

    /// Compares a directory with its entry; whether to descend.
    fn subdirectory(&mut self, path: &str, meta: Digest) -> bool {
        let Some(meta) = self.meta(path, meta) else { return false };
        if path == "/etc" {
            self.unfit("it has /etc beside /usr/etc".to_owned());
            return false;
        }
        if path == SYSROOT {
            self.sysroot = Some(meta);
            return true;
        }
        let name = format!("{}/", layer_path(path));
        let Some(dir) = self.dirs.remove(name.as_str()) else {
            self.differs(path, "the first layer has no entry for the directory");
            return false;
        };
        self.same_directory(dir, meta);
        self.walked.insert(name, meta);
        true
    }

    /// Whatever the walk did not come to.
    fn leftovers(&mut self, metadata: &Contents) {
        let mut left: Vec<_> =
            self.paths.keys().map(|path| (path.to_string(), "the commit does not hold it")).collect();
        left.extend(self.dirs.keys().map(|path| (path.to_string(), "the commit does not hold the directory")));
        let trees = metadata.trees.keys().filter(|checksum| !self.trees.contains(checksum));
        let metas = metadata.metas.keys().filter(|checksum| !self.metas.contains(checksum));
        left.extend(
            trees.chain(metas).map(|checksum| (checksum.to_string(), "the commit does not lead to the object")),
        );
        left.sort_unstable();
        for (path, reason) in left {
            self.differs(&path, reason);
        }
    }

    fn rules(&mut self, commit: &Commit) {
        match self.sysroot {
            Some(DirMeta { uid: 0, gid: 0, mode, xattrs }) if *mode == S_IFDIR | 0o755 && *xattrs == Xattrs::EMPTY => {}
            Some(_) => self.unfit("/sysroot is not a directory 0755 0:0 without extended attributes".to_owned()),
            None => self.unfit("there is no /sysroot".to_owned()),
        }
        let kernels: Vec<&str> = self.kernels.iter().map(String::as_str).collect();
        if commit.linux().is_none_or(|linux| kernels != [linux]) {
            let found = if kernels.is_empty() { "none".to_owned() } else { kernels.join(", ") };
            self.unfit(format!(
                "the kernels in it are {found}, its metadata says {}",
                commit.linux().unwrap_or("nothing")
            ));
        }
        if !commit.bootable() {
            self.unfit("its metadata does not say `ostree.bootable`".to_owned());
        }
    }
}

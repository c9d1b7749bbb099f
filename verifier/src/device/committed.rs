//! The commit ⇔ folders of the device, and attributes of its files: what a bill of materials does not say.

use super::accounts::is_of_the_commit;
use super::refusal::DeviceRefusal;
use super::{Case, Found, Root};
use crate::digest::Digest;
use crate::ostree::DirMeta;
use std::collections::{BTreeMap, BTreeSet};

/// What a commit says of each path, `/etc` and what else is the device's own left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Committed {
    /// Mode, owner and attributes of each folder.
    pub folders: BTreeMap<String, DirMeta>,
    /// The object of each file: mode, owner, target, attributes and content in one digest.
    pub files: BTreeMap<String, Digest>,
}

/// Compares them. `told` are files that something is said of already.
pub fn judge(case: &Case<'_>, told: &BTreeSet<String>) -> Found {
    match case.root.map(|root| (root, &root.committed)) {
        // Told with the files.
        None | Some((_, None)) => Found::default(),
        Some((_, Some(Err(unseen)))) => Found { unseen: vec![unseen.clone()], ..Found::default() },
        Some((root, Some(Ok(committed)))) => Found { refusals: compare(committed, root, told), ..Found::default() },
    }
}

fn compare(committed: &Committed, root: &Root, told: &BTreeSet<String>) -> Vec<DeviceRefusal> {
    let mut refusals = Vec::new();
    for (path, meta) in &root.folders {
        match committed.folders.get(path) {
            None => refusals.push(DeviceRefusal::FolderNotAccounted { path: path.clone() }),
            Some(named) => refusals
                .extend(difference(meta, named).map(|how| DeviceRefusal::FolderChanged { path: path.clone(), how })),
        }
    }
    let gone = committed.folders.keys().filter(|path| is_of_the_commit(path) && !root.folders.contains_key(*path));
    refusals.extend(gone.map(|path| DeviceRefusal::FolderGone { path: path.clone() }));
    let others = root.objects.iter().filter(|(path, object)| committed.files.get(*path) != Some(object));
    let others = others.filter(|(path, _)| !told.contains(*path));
    refusals.extend(others.map(|(path, _)| DeviceRefusal::FileAttributesChanged { path: path.clone() }));
    refusals
}

fn difference(meta: &DirMeta, named: &DirMeta) -> Option<String> {
    if meta.mode != named.mode {
        return Some(format!("its mode is {:o} instead of {:o}", meta.mode, named.mode));
    }
    if (meta.uid, meta.gid) != (named.uid, named.gid) {
        return Some(format!("it belongs to {}:{} instead of {}:{}", meta.uid, meta.gid, named.uid, named.gid));
    }
    (meta.xattrs != named.xattrs).then(|| "it has other extended attributes".to_owned())
}

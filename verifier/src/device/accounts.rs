//! Bill of materials ⇔ files of the device, both ways.

use super::refusal::DeviceRefusal;
use super::{Case, Content, Found, Node, committed, no_root};
use crate::evidence::Unseen;
use crate::sbom::{self, File, Sbom};
use std::collections::BTreeSet;

/// Of more files than these that cannot be read, the first are named.
const UNREAD_NAMED_MAX: usize = 20;

/// Compares the files with the release's bill of materials.
pub fn judge(case: &Case<'_>) -> Found {
    let Some(root) = case.root else { return no_root("files") };
    let mut found = match case.release {
        None => return Found::unseen("files", "give the release with --release: it says which files there are"),
        // Told with the release.
        Some(Err(_)) => Found::unseen("files", "the release is refused"),
        Some(Ok(installed)) => compare(installed.sbom(), &root.files),
    };
    let told: BTreeSet<String> = found.refusals.iter().filter_map(file_of).map(str::to_owned).collect();
    found = found.and(committed::judge(case, &told));
    // A boot that cannot be read is told where it is judged, and so is /etc.
    found.unseen.extend(root.unseen.iter().filter(|it| is_of_the_commit(&it.what)).cloned());
    found
}

/// Which file it is of.
fn file_of(refusal: &DeviceRefusal) -> Option<&str> {
    match refusal {
        DeviceRefusal::FileNotAccounted { path }
        | DeviceRefusal::FileGone { path }
        | DeviceRefusal::FileChanged { path }
        | DeviceRefusal::FileModeChanged { path, .. }
        | DeviceRefusal::FileOwnerChanged { path, .. }
        | DeviceRefusal::LinkTurned { path } => Some(path),
        _ => None,
    }
}

/// What lies in the root of a deployment and is not of its commit: mounted there, or the device's own.
pub const NOT_OF_THE_COMMIT: [&str; 11] =
    ["/boot", "/dev", "/etc", "/media", "/mnt", "/proc", "/run", "/sys", "/sysroot", "/tmp", "/var"];

/// Is it a path of the commit?
pub fn is_of_the_commit(path: &str) -> bool {
    let below = |top: &&str| path.strip_prefix(*top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    path.starts_with('/') && !NOT_OF_THE_COMMIT.iter().any(below)
}

/// Both ascend by path.
fn compare(sbom: &Sbom, files: &[Node]) -> Found {
    let mut found = Found::default();
    let listed = match sbom.by_path() {
        Ok(listed) => listed,
        Err(error) => {
            let (name, detail) = ("SbomMalformed".to_owned(), error.to_string());
            return Found::refused(DeviceRefusal::ReleaseRefused { name, detail });
        }
    };
    let mut unread = 0;
    let mut seen = vec![false; listed.len()];
    for node in files {
        let Ok(at) = listed.binary_search_by(|(file, _)| file.path.as_str().cmp(&node.path)) else {
            found.refusals.push(DeviceRefusal::FileNotAccounted { path: node.path.clone() });
            continue;
        };
        if let (Some((file, _)), Some(seen)) = (listed.get(at), seen.get_mut(at)) {
            *seen = true;
            compare_file(file, node, &mut found);
        }
        if let Content::Unread(why) = &node.content {
            unread += 1;
            if unread <= UNREAD_NAMED_MAX {
                found.unseen.push(Unseen { what: node.path.clone(), why: why.clone() });
            }
        }
    }
    if unread > UNREAD_NAMED_MAX {
        let what = format!("{} files more", unread - UNREAD_NAMED_MAX);
        found.unseen.push(Unseen { what, why: "likewise".to_owned() });
    }
    let gone = listed.iter().zip(seen).filter(|((file, _), seen)| !seen && is_of_the_commit(&file.path));
    found.refusals.extend(gone.map(|((file, _), _)| DeviceRefusal::FileGone { path: file.path.clone() }));
    found
}

fn compare_file(file: &File, node: &Node, found: &mut Found) {
    let path = || file.path.clone();
    match (&file.content, &node.content) {
        (_, Content::Unread(_)) => {}
        (sbom::Content::Regular(listed), Content::Regular(found)) if listed == found => {}
        (sbom::Content::Symlink(listed), Content::Symlink(found)) if listed == found => {}
        (sbom::Content::Symlink(_), Content::Symlink(_)) => {
            found.refusals.push(DeviceRefusal::LinkTurned { path: path() });
        }
        _ => found.refusals.push(DeviceRefusal::FileChanged { path: path() }),
    }
    if file.mode != node.mode {
        let (is, named) = (format!("{:o}", node.mode), format!("{:o}", file.mode));
        found.refusals.push(DeviceRefusal::FileModeChanged { path: path(), found: is, named });
    }
    if (file.uid, file.gid) != (node.uid, node.gid) {
        let (is, named) = (format!("{}:{}", node.uid, node.gid), format!("{}:{}", file.uid, file.gid));
        found.refusals.push(DeviceRefusal::FileOwnerChanged { path: path(), found: is, named });
    }
}

//! Programs that run with more rights than who starts them. Those that the recipe names keep what makes them so; every
//! other file loses it.
//!
//! Of regular files: a folder's set-gid bit gives nobody rights. What lies in the initramfs is not touched: there is root
//! alone.

use crate::error::{At, Error};
use crate::plan::Plan;
use crate::tree::on_disk;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
/// Where the kernel keeps what a file may.
const CAPABILITY: &str = "security.capability";
/// The longest that it takes for one (VFS_CAP_REVISION_3).
const CAPABILITY_BYTES_MAX: usize = 24;

/// A file that may more than who starts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// Its path in the image, `/etc/…` as the recipe writes it.
    pub path: String,
    /// Runs as its owner.
    pub set_uid: bool,
    /// Runs with its group.
    pub set_gid: bool,
    /// Has capabilities of its own.
    pub capabilities: bool,
}

/// What became of all of them, for `2-rootfs/set-id.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetId {
    /// Those that the recipe names.
    pub kept: Vec<Raised>,
    /// Those that lost it.
    pub taken: Vec<Raised>,
}

/// A raised file, and which file it is: one file may have several names.
type Found = (Raised, (u64, u64));

/// Why a list cannot be.
#[derive(Debug, PartialEq, Eq)]
enum Wrong<'a> {
    /// A path of the list where no raised file is.
    Absent(&'a str),
    /// A path of the list whose file has another name, which the list lacks.
    Shared(&'a str, String),
}

/// Takes them away from all files of the tree but those that the recipe names; none when it has no such list.
///
/// # Errors
/// [`Error::Recipe`] for a name of the list where no such file is; [`Error::Tree`] for a name that is not UTF-8; I/O.
pub(super) fn apply(plan: &Plan, tree: &Path) -> Result<Option<SetId>, Error> {
    let Some(named) = &plan.recipe.set_id else { return Ok(None) };
    let mut found = Vec::new();
    find(tree, "", &mut found)?;
    found.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
    let have = found.iter().map(|(it, _)| it.path.as_str()).collect::<Vec<_>>().join(", ");
    let set_id = decide(found, named).map_err(|wrong| match wrong {
        Wrong::Absent(path) => plan.recipe.complain(
            &format!("set_id/{path}"),
            format!("`{path}` has no set-id bit and no capabilities in the image"),
            if have.is_empty() { "no file of the image has".into() } else { format!("these have: {have}") },
        ),
        Wrong::Shared(path, other) => plan.recipe.complain(
            &format!("set_id/{path}"),
            format!("`{path}` and `{other}` are one file, and `set_id` names only one of them"),
            "name both",
        ),
    })?;
    for it in &set_id.taken {
        take(&on_disk(tree, &it.path), it)?;
    }
    Ok(Some(set_id))
}

/// Which keep it.
fn decide(found: Vec<Found>, named: &[String]) -> Result<SetId, Wrong<'_>> {
    let mut of_kept = BTreeMap::new();
    for path in named {
        let (_, file) = found.iter().find(|(it, _)| it.path == *path).ok_or(Wrong::Absent(path))?;
        of_kept.insert(*file, path.as_str());
    }
    let mut set_id = SetId { kept: Vec::new(), taken: Vec::new() };
    for (it, file) in found {
        match of_kept.get(&file) {
            Some(_) if named.contains(&it.path) => set_id.kept.push(it),
            Some(path) => return Err(Wrong::Shared(path, it.path)),
            None => set_id.taken.push(it),
        }
    }
    Ok(set_id)
}

fn find(tree: &Path, folder: &str, found: &mut Vec<Found>) -> Result<(), Error> {
    let dir = on_disk(tree, folder);
    for entry in fs::read_dir(&dir).at("read", &dir)? {
        let real = entry.at("read", &dir)?.path();
        let name = real.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Error::Tree(format!("{} is not UTF-8", real.display())))?;
        let path = format!("{folder}/{name}");
        let meta = real.symlink_metadata().at("read", &real)?;
        if meta.is_dir() {
            find(tree, &path, found)?;
        } else if meta.is_file() {
            let has = |bit| meta.mode() & bit != 0;
            let it =
                Raised { path, set_uid: has(SET_UID), set_gid: has(SET_GID), capabilities: has_capability(&real)? };
            if it.set_uid || it.set_gid || it.capabilities {
                found.push((it, (meta.dev(), meta.ino())));
            }
        }
    }
    Ok(())
}

fn has_capability(path: &Path) -> Result<bool, Error> {
    let mut value = [0u8; CAPABILITY_BYTES_MAX];
    match rustix::fs::lgetxattr(path, CAPABILITY, &mut value[..]) {
        Ok(_) => Ok(true),
        // A file system that has no attributes holds none either.
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP) => Ok(false),
        Err(e) => Err(e).at("read attributes of", path),
    }
}

fn take(path: &Path, it: &Raised) -> Result<(), Error> {
    if it.capabilities {
        match rustix::fs::lremovexattr(path, CAPABILITY) {
            // Under another of its names it lost them already.
            Ok(()) | Err(rustix::io::Errno::NODATA) => {}
            Err(e) => return Err(e).at("change", path),
        }
    }
    let mode = path.symlink_metadata().at("read", path)?.mode() & 0o7777 & !(SET_UID | SET_GID);
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).at("change", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raised(path: &str, inode: u64) -> Found {
        (Raised { path: path.into(), set_uid: true, set_gid: false, capabilities: false }, (1, inode))
    }

    fn paths(list: &[Raised]) -> Vec<&str> {
        list.iter().map(|it| it.path.as_str()).collect()
    }

    #[test]
    fn what_is_named_keeps_it_and_nothing_else() {
        let found = || vec![raised("/usr/bin/mount", 1), raised("/usr/bin/su", 2), raised("/usr/bin/sudo", 3)];
        let sudo = ["/usr/bin/sudo".to_owned()];
        let set_id = decide(found(), &sudo).unwrap();
        assert_eq!(paths(&set_id.kept), sudo);
        assert_eq!(paths(&set_id.taken), ["/usr/bin/mount", "/usr/bin/su"]);
        // An empty list is a list.
        assert_eq!(decide(found(), &[]).unwrap().taken.len(), 3);
        let slip = ["/usr/bin/sudp".to_owned()];
        assert_eq!(decide(found(), &slip), Err(Wrong::Absent("/usr/bin/sudp")));
        // Its bits are the inode's: taken from one name they would be gone from the other.
        let twice = vec![raised("/usr/bin/sudo", 3), raised("/usr/bin/sudoedit", 3)];
        assert_eq!(decide(twice.clone(), &sudo), Err(Wrong::Shared("/usr/bin/sudo", "/usr/bin/sudoedit".into())));
        let both = ["/usr/bin/sudo".to_owned(), "/usr/bin/sudoedit".to_owned()];
        assert_eq!(decide(twice, &both).unwrap().taken, []);
    }

    #[test]
    fn bits_and_capabilities_are_found_and_taken() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let bin = dir.path().join("usr/bin");
        fs::create_dir_all(&bin).unwrap();
        let modes = [("uid", 0o4755), ("gid", 0o2755), ("plain", 0o755), ("cap", 0o750)];
        for (name, mode) in modes {
            fs::write(bin.join(name), "x").unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        // No program: its bit is for what is made in it.
        fs::set_permissions(&bin, fs::Permissions::from_mode(0o2755)).unwrap();
        std::os::unix::fs::symlink("uid", bin.join("link")).unwrap();
        let root = rustix::process::geteuid().is_root();
        if root {
            // VFS_CAP_REVISION_2, effective, cap_net_raw; only root may give one.
            let mut capability = vec![1, 0, 0, 2, 0, 0x20];
            capability.resize(20, 0);
            rustix::fs::setxattr(bin.join("cap"), CAPABILITY, &capability, rustix::fs::XattrFlags::empty()).unwrap();
        }
        let all = || {
            let mut found = Vec::new();
            find(dir.path(), "", &mut found).unwrap();
            found.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
            found
        };
        let before = all();
        let mut expected = vec!["/usr/bin/gid", "/usr/bin/uid"];
        if root {
            expected.insert(0, "/usr/bin/cap");
        }
        assert_eq!(before.iter().map(|(it, _)| it.path.as_str()).collect::<Vec<_>>(), expected);
        for (it, _) in &before {
            take(&on_disk(dir.path(), &it.path), it).unwrap();
        }
        assert_eq!(all(), []);
        let mode = |name: &str| bin.join(name).metadata().unwrap().mode() & 0o7777;
        assert_eq!(["uid", "gid", "plain", "cap"].map(mode), [0o755, 0o755, 0o755, 0o750]);
        assert_eq!(dir.path().join("usr/bin").metadata().unwrap().mode() & 0o7777, 0o2755, "a folder's stays");
    }

    #[test]
    fn a_tree_keeps_what_its_recipe_names() {
        let plan = |list: &str| {
            let text = format!("name: device\nversion: '1'\n{}{list}", crate::plan::tests::BASE);
            crate::plan::tests::planned(&[("r.yml", text)])
        };
        let dir = tempfile::tempdir_in(".").unwrap();
        let bin = dir.path().join("usr/bin");
        fs::create_dir_all(&bin).unwrap();
        let mode = |name: &str| bin.join(name).metadata().unwrap().mode() & 0o7777;
        for name in ["su", "sudo", "cat"] {
            fs::write(bin.join(name), "x").unwrap();
            let bits = if name == "cat" { 0o755 } else { 0o4755 };
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(bits)).unwrap();
        }
        assert_eq!(apply(&plan(""), dir.path()).unwrap(), None);
        assert_eq!(mode("su"), 0o4755, "without a list all keep them");
        let refused = apply(&plan("set_id: [/usr/bin/sudo, /usr/bin/cat]\n"), dir.path()).unwrap_err();
        assert!(refused.to_string().contains("r.yml:6:25: `/usr/bin/cat` has no set-id bit"), "{refused}");
        assert_eq!(refused.hint().unwrap(), "these have: /usr/bin/su, /usr/bin/sudo");
        assert_eq!(mode("su"), 0o4755, "nothing is taken before all is known");
        let set_id = apply(&plan("set_id: [/usr/bin/sudo]\n"), dir.path()).unwrap().unwrap();
        assert_eq!((paths(&set_id.kept), paths(&set_id.taken)), (vec!["/usr/bin/sudo"], vec!["/usr/bin/su"]));
        assert_eq!(["su", "sudo", "cat"].map(mode), [0o755, 0o4755, 0o755]);
    }
}

//! From a Debian tree to the layout of an OSTree system.
//!
//! `/etc` becomes `/usr/etc`; the kernel and what belongs to it lie in `/usr/lib/modules/RELEASE`; dpkg's database in
//! `/usr/lib/dpkg`; `/var` is empty and made at boot by tmpfiles.d; `/home`, `/root`, `/opt`, `/srv`, `/mnt` are
//! links into it.

use super::lay::{make_folders, resolve, write};
use crate::error::{At, Error};
use crate::stage::remove;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

/// Top-level names that become links, and the folders that they lead to, with mode.
const LINKS: &[(&str, &str, u32)] = &[
    ("home", "var/home", 0o755),
    ("mnt", "var/mnt", 0o755),
    ("opt", "var/opt", 0o755),
    ("root", "var/roothome", 0o700),
    ("srv", "var/srv", 0o755),
    ("media", "run/media", 0o755),
];
/// Folders that must be there, empty, with their mode.
const EMPTY: &[(&str, u32)] = &[
    ("boot", 0o755),
    ("dev", 0o755),
    ("proc", 0o755),
    ("run", 0o755),
    ("sys", 0o755),
    ("sysroot", 0o755),
    ("tmp", 0o1777),
    ("var", 0o755),
];
/// Where dpkg's database lies in an image.
const DPKG: &str = "usr/lib/dpkg";
/// Where a file that a package ships under `/var` waits to be copied at boot.
const FACTORY: &str = "usr/share/factory";
/// Files of the kernel package in `/boot`, and their names beside the modules.
const KERNEL_FILES: &[(&str, &str)] = &[("vmlinuz-", "vmlinuz"), ("config-", "config"), ("System.map-", "System.map")];
/// What makes `/var`, at each boot.
const TMPFILES: &str = "/usr/lib/tmpfiles.d/secai-var.conf";

/// Where a file that its package's archive calls `path` lies in the image; none where the image does not keep it.
pub fn image_path(path: &str, kernel: &str) -> Option<String> {
    for (prefix, name) in KERNEL_FILES {
        if path.strip_prefix("/boot/") == Some(&format!("{prefix}{kernel}")) {
            return Some(format!("/usr/lib/modules/{kernel}/{name}"));
        }
    }
    // Packages may still name the folders that are links since the merge of /usr.
    for merged in ["bin", "sbin", "lib", "lib64"] {
        if path.strip_prefix('/').and_then(|p| p.strip_prefix(merged)).is_some_and(|rest| rest.starts_with('/')) {
            return Some(format!("/usr{path}"));
        }
    }
    if let Some(rest) = path.strip_prefix("/etc/") {
        return Some(format!("/usr/etc/{rest}"));
    }
    if path.starts_with("/var/lib/dpkg/") {
        return path.strip_prefix("/var/lib/dpkg").map(|rest| format!("/{DPKG}{rest}"));
    }
    if path.starts_with("/var/") {
        return Some(format!("/{FACTORY}{path}"));
    }
    Some(path.to_owned())
}

/// Applies the layout to a cleaned tree.
///
/// # Errors
/// [`Error::Tree`] when the kernel is not where its package puts it; I/O.
pub fn apply(tree: &Path, kernel: &str) -> Result<(), Error> {
    let modules = tree.join("usr/lib/modules").join(kernel);
    for (prefix, name) in KERNEL_FILES {
        let from = tree.join("boot").join(format!("{prefix}{kernel}"));
        if from.is_file() {
            fs::rename(&from, modules.join(name)).at("move", &from)?;
        }
    }
    if !modules.join("vmlinuz").is_file() {
        return Err(Error::Tree(format!("its kernel is not at /boot/vmlinuz-{kernel}")));
    }
    remove(&tree.join("boot"))?;
    // Name by name: packages have files of their own in /usr/lib/dpkg.
    let dpkg = tree.join("var/lib/dpkg");
    for entry in fs::read_dir(&dpkg).at("read", &dpkg)? {
        let entry = entry.at("read", &dpkg)?;
        let to = resolve(tree, &format!("/{DPKG}/{}", entry.file_name().to_string_lossy()))?;
        if to.symlink_metadata().is_ok() {
            return Err(Error::Tree(format!("dpkg's database and a package both have {}", to.display())));
        }
        if let Some(parent) = to.parent() {
            make_folders(tree, parent)?;
        }
        fs::rename(entry.path(), &to).at("move", entry.path())?;
    }
    remove(&dpkg)?;
    var_by_tmpfiles(tree)?;
    for (name, target, _) in LINKS {
        let path = tree.join(name);
        let held = fs::read_dir(&path).ok().and_then(|mut d| d.next()).and_then(Result::ok);
        if let Some(held) = held.filter(|_| !path.is_symlink()) {
            return Err(Error::Tree(format!(
                "a package has {}, and /{name} leads into /var, which a commit does not keep",
                held.path().display()
            )));
        }
        remove(&path)?;
        symlink(target, tree.join(name)).at("create", tree.join(name))?;
    }
    remove(&tree.join("ostree"))?;
    symlink("sysroot/ostree", tree.join("ostree")).at("create", tree.join("ostree"))?;
    for (name, mode) in EMPTY {
        let path = tree.join(name);
        if !path.is_dir() {
            fs::create_dir(&path).at("create", &path)?;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).at("change", &path)?;
    }
    remove(&tree.join("usr/etc"))?;
    fs::rename(tree.join("etc"), tree.join("usr/etc")).at("move", tree.join("etc"))
}

/// Turns what packages put under `/var` into tmpfiles.d lines, and empties it.
fn var_by_tmpfiles(tree: &Path) -> Result<(), Error> {
    let known = known_lines(tree)?;
    let mut lines = vec![
        "# Made by the compose from what packages put under /var: a commit keeps nothing of it.".to_owned(),
        format!("L /var/lib/dpkg - - - - ../../{DPKG}"),
    ];
    for (_, target, mode) in LINKS {
        if !known.contains(&format!("/{target}")) {
            lines.push(format!("d /{target} {mode:04o} root root -"));
        }
    }
    let mut todo = vec!["var".to_owned()];
    let mut found = Vec::new();
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(tree.join(&dir)).at("read", tree.join(&dir))? {
            let entry = entry.at("read", tree.join(&dir))?;
            let path = format!("{dir}/{}", entry.file_name().to_string_lossy());
            let meta = entry.path().symlink_metadata().at("read", entry.path())?;
            if meta.is_dir() {
                todo.push(path.clone());
            }
            found.push((path, meta));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    for (path, meta) in found {
        let (uid, gid, mode) = (meta.uid(), meta.gid(), meta.mode() & 0o7777);
        if meta.is_symlink() {
            let target = fs::read_link(tree.join(&path)).at("read", tree.join(&path))?;
            if !known.contains(&format!("/{path}")) {
                lines.push(format!("L /{path} - - - - {}", target.display()));
            }
        } else if meta.is_dir() {
            if !known.contains(&format!("/{path}"))
                && !lines.iter().any(|l| l.split(' ').nth(1) == Some(&format!("/{path}")))
            {
                lines.push(format!("d /{path} {mode:04o} {uid} {gid} -"));
            }
        } else if meta.is_file() {
            let kept = resolve(tree, &format!("/{FACTORY}/{path}"))?;
            if let Some(parent) = kept.parent() {
                make_folders(tree, parent)?;
            }
            fs::rename(tree.join(&path), &kept).at("move", tree.join(&path))?;
            lines.push(format!("C /{path} {mode:04o} {uid} {gid} - /{FACTORY}/{path}"));
        }
    }
    remove(&tree.join("var"))?;
    write(tree, TMPFILES, (lines.join("\n") + "\n").as_bytes())
}

/// Paths that packages' own tmpfiles.d entries make already.
fn known_lines(tree: &Path) -> Result<BTreeSet<String>, Error> {
    let dir = resolve(tree, "/usr/lib/tmpfiles.d")?;
    let mut known = BTreeSet::new();
    if !dir.is_dir() {
        return Ok(known);
    }
    for entry in fs::read_dir(&dir).at("read", &dir)? {
        let entry = entry.at("read", &dir)?;
        let path = entry.path();
        // A link is somebody's way of saying "not this one", or leads who knows where.
        if entry.file_type().is_ok_and(|t| t.is_file()) && path.extension().is_some_and(|e| e == "conf") {
            let text = fs::read_to_string(&path).at("read", &path)?;
            let makes = |l: &&str| l.starts_with(['d', 'D', 'q', 'Q', 'L', 'v']);
            known.extend(text.lines().filter(makes).filter_map(|l| l.split_whitespace().nth(1)).map(str::to_owned));
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_paths_have_their_place() {
        let at = |p| image_path(p, "6.1");
        assert_eq!(at("/boot/vmlinuz-6.1").as_deref(), Some("/usr/lib/modules/6.1/vmlinuz"));
        assert_eq!(at("/etc/passwd").as_deref(), Some("/usr/etc/passwd"));
        assert_eq!(at("/lib64/ld.so").as_deref(), Some("/usr/lib64/ld.so"));
        assert_eq!(at("/library/x").as_deref(), Some("/library/x"));
        assert_eq!(at("/var/lib/x/y").as_deref(), Some("/usr/share/factory/var/lib/x/y"));
        assert_eq!(at("/usr/bin/a").as_deref(), Some("/usr/bin/a"));
    }
}

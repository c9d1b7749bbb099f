//! Stage 2: the tree of the image, exactly as the commit will hold it.
//!
//! Base (bootstrapped, cached) → files that dracut reads → initramfs (cached) → services, users, units → cleaning
//! by a named list → the other files → set-id bits → layout of an OSTree system.
//!
//! A recipe is not trusted: its links are never followed out of the tree ([`lay::inside`]), and what it lays is
//! executed only inside the tree's own namespaces.

mod clean;
mod lay;
mod layout;
mod set_id;

use crate::cache::Cache;
use crate::error::{At, Error};
use crate::plan::{Plan, PlannedContent, read_by_dracut};
use crate::stage::{State, Workspace, remove};
use crate::tools::chroot::{Access, run_inside};
use crate::tools::mmdebstrap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub use layout::image_path;
pub use set_id::{Raised, SetId};

/// Read by ostree-prepare-root in the initramfs: /sysroot is mounted read-only.
const PREPARE_ROOT: &str = "[sysroot]\nreadonly = true\n";

/// Makes an initramfs for the kernel `$1` and prints it.
const DRACUT: &str = "dracut --quiet --force --reproducible --no-hostonly --no-early-microcode --add ostree --zstd \
    --tmpdir /tmp --kver \"$1\" /tmp/initramfs.img >&2 && cat /tmp/initramfs.img";

/// What an initramfs is made from besides the base and the recipe's files.
pub(crate) fn initramfs_recipe() -> String {
    format!("{PREPARE_ROOT}{DRACUT}")
}

/// The tree, in the output of its stage. That folder is root's alone: in the tree are programs with set-id bits, which
/// no update of this machine reaches, and which whoever is here must not run.
const TREE: &str = "tree";
/// Beside it: which files kept set-id bits and capabilities, and which lost them.
const SET_ID: &str = "set-id.json";

/// A finished tree.
#[derive(Debug, Clone)]
pub struct Rootfs {
    /// Its folder.
    pub path: PathBuf,
    /// Release of its kernel.
    pub kernel: String,
    /// What became of set-id bits and capabilities, where the recipe has a list of them.
    pub set_id: Option<SetId>,
}

/// Makes the tree, or finds it made. `say` is told each step.
///
/// # Errors
/// [`Error::NeedsRoot`], [`Error::ToolFailed`], [`Error::Tree`], [`Error::Recipe`] for units and owners that the tree
/// does not know, I/O.
pub fn build(plan: &Plan, workspace: &Workspace, cache: &Cache, say: &dyn Fn(&str)) -> Result<Rootfs, Error> {
    let inputs = plan.rootfs_inputs();
    let path = workspace.output("rootfs").join(TREE);
    if workspace.state("rootfs", &inputs) == State::Cached {
        let kernel = kernel_release(&path)?;
        let set_id = recorded(plan, &path.with_file_name(SET_ID))?;
        return Ok(Rootfs { path, kernel, set_id });
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NeedsRoot { what: "composing a tree with its real owners" });
    }
    let partial = workspace.begin("rootfs")?;
    fs::DirBuilder::new().mode(0o700).create(&partial).at("create", &partial)?;
    let tree = partial.join(TREE);
    base(plan, cache, &tree, say)?;
    check_packages(plan, &tree)?;
    let (early, late): (Vec<_>, Vec<_>) = plan.files.iter().partition(|f| read_by_dracut(&f.path));
    let services = plan.services.iter().flat_map(|s| s.files());
    let (early_services, late_services): (Vec<_>, Vec<_>) = services.partition(|f| read_by_dracut(&f.path));
    let accounts = lay::Accounts::of(&tree)?;
    lay::write(&tree, "/usr/lib/ostree/prepare-root.conf", PREPARE_ROOT.as_bytes())?;
    for file in early_services.into_iter().chain(early) {
        lay::lay(plan, &tree, file, &accounts)?;
    }
    let kernel = kernel_release(&tree)?;
    initramfs(plan, cache, &tree, &kernel, say)?;
    say("users, units, files");
    // Before users and units: they are made from these.
    for file in late_services {
        lay::lay(plan, &tree, file, &accounts)?;
    }
    lay::users(plan, &tree)?;
    lay::service_users(plan, &tree)?;
    lay::units(plan, &tree)?;
    lay::kernel_args(plan, &tree)?;
    lay::identity(plan, &tree)?;
    // Before the recipe's own files: what it lays stays.
    clean::clean(&tree)?;
    let accounts = lay::Accounts::of(&tree)?;
    for file in late {
        lay::lay(plan, &tree, file, &accounts)?;
    }
    say("set-id bits");
    let set_id = set_id::apply(plan, &tree)?;
    if let Some(set_id) = &set_id {
        let to = partial.join(SET_ID);
        let text = serde_json::to_vec_pretty(set_id).map_err(std::io::Error::from).at("write", &to)?;
        fs::write(&to, text).at("write", &to)?;
    }
    say("layout");
    layout::apply(&tree, &kernel)?;
    check_files(plan, &tree, &kernel)?;
    workspace.finish("rootfs", &inputs)?;
    Ok(Rootfs { path, kernel, set_id })
}

/// What an earlier compose of the same inputs wrote of set-id bits.
fn recorded(plan: &Plan, path: &Path) -> Result<Option<SetId>, Error> {
    if plan.recipe.set_id.is_none() {
        return Ok(None);
    }
    let text = fs::read(path).at("read", path)?;
    let unusable = |e: serde_json::Error| Error::Unusable { path: path.to_owned(), reason: e.to_string() };
    serde_json::from_slice(&text).map(Some).map_err(unusable)
}

/// Unpacks the bootstrapped base into `tree`, from the cache where it is there and whole.
fn base(plan: &Plan, cache: &Cache, tree: &Path, say: &dyn Fn(&str)) -> Result<(), Error> {
    let key = plan.base_inputs().key();
    let kept = match cache.kept("base", key)? {
        Some(kept) => kept,
        None => {
            say("bootstrapping the base");
            let scratch = cache.scratch()?;
            let target = scratch.path().join("base.tar");
            mmdebstrap::bootstrap(
                &plan.recipe.suite,
                &plan.packages,
                &plan.recipe.packages,
                &plan.pinned(),
                &cache.folder("debs")?,
                plan.date,
                scratch.path(),
                &target,
            )?;
            cache.keep("base", key, &target)?
        }
    };
    say("unpacking the base");
    unpack(&kept, tree)
}

/// The tree's own package database must hold exactly what the plan pinned: the SBOM is made from the plan.
fn check_packages(plan: &Plan, tree: &Path) -> Result<(), Error> {
    let path = tree.join("var/lib/dpkg/status");
    let text = fs::read_to_string(&path).at("read", &path)?;
    let mut installed = std::collections::BTreeSet::new();
    for record in text.split("\n\n") {
        let field = |name: &str| record.lines().find_map(|l| l.strip_prefix(name)).map(str::trim).unwrap_or_default();
        if field("Status:") == "install ok installed" {
            installed.insert((field("Package:"), field("Version:")));
        }
    }
    let planned: std::collections::BTreeSet<_> =
        plan.packages.iter().map(|p| (p.name.as_str(), p.version.as_str())).collect();
    match planned.symmetric_difference(&installed).next() {
        Some((name, version)) => {
            Err(Error::Tree(format!("{name} {version} is in the plan or installed, but not both")))
        }
        None => Ok(()),
    }
}

/// Every file of the recipe and of its services must have reached the image.
fn check_files(plan: &Plan, tree: &Path, kernel: &str) -> Result<(), Error> {
    for file in plan.laid().filter(|f| f.content != PlannedContent::Folder) {
        let there = image_path(&file.path, kernel)
            .and_then(|path| lay::inside(tree, &path))
            .is_some_and(|real| real.symlink_metadata().is_ok());
        if !there {
            let message = format!("`{}` did not reach the image", file.path);
            return Err(plan.recipe.complain(&format!("files/{}", file.path), message, "lay it elsewhere"));
        }
    }
    Ok(())
}

fn unpack(base: &Path, tree: &Path) -> Result<(), Error> {
    fs::create_dir(tree).at("create", tree)?;
    fs::set_permissions(tree, fs::Permissions::from_mode(0o755)).at("change", tree)?;
    let file = fs::File::open(base).at("read", base)?;
    let mut archive = tar::Archive::new(std::io::BufReader::with_capacity(1 << 20, file));
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_unpack_xattrs(true);
    archive.set_overwrite(false);
    for entry in archive.entries().at("read", base)? {
        let mut entry = entry.at("read", base)?;
        // Device nodes belong to the running kernel; an image has none.
        if matches!(entry.header().entry_type(), tar::EntryType::Block | tar::EntryType::Char | tar::EntryType::Fifo) {
            continue;
        }
        entry.unpack_in(tree).at("unpack", tree)?;
    }
    Ok(())
}

/// The one kernel of the tree.
fn kernel_release(tree: &Path) -> Result<String, Error> {
    let dir = tree.join("usr/lib/modules");
    let mut found: Vec<String> = fs::read_dir(&dir)
        .map_err(|_| {
            Error::Tree("it has no kernel: /usr/lib/modules is missing; base.debian.kernel names the package".into())
        })?
        .filter_map(|e| e.ok().map(|e| e.file_name().to_string_lossy().into_owned()))
        .collect();
    found.sort();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        several => Err(Error::Tree(format!(
            "it must have exactly one kernel and has {}: {}",
            several.len(),
            several.join(", ")
        ))),
    }
}

/// Makes the initramfs in the tree, from the cache where its inputs are the same.
fn initramfs(plan: &Plan, cache: &Cache, tree: &Path, kernel: &str, say: &dyn Fn(&str)) -> Result<(), Error> {
    let key = plan.initramfs_inputs().key();
    let kept = match cache.kept("initramfs", key)? {
        Some(kept) => kept,
        None => {
            say("making the initramfs");
            let there = |path: &str| lay::inside(tree, path).is_some_and(|p| p.exists());
            if !there("/usr/bin/dracut") || !there("/usr/lib/dracut/modules.d/98ostree") {
                return Err(plan.recipe.complain(
                    "base.debian.packages",
                    "the base has no dracut with the ostree module",
                    "add dracut and ostree-boot to base.debian.packages",
                ));
            }
            // The tree is read-only to dracut: with or without the cache it is the same afterwards.
            let bytes = run_inside(tree, Access::ReadOnly, &["/bin/sh", "-eu", "-c", DRACUT, "sh", kernel], plan.date)?;
            let scratch = cache.scratch()?;
            let target = scratch.path().join("initramfs.img");
            fs::write(&target, bytes).at("write", &target)?;
            cache.keep("initramfs", key, &target)?
        }
    };
    let path = tree.join("usr/lib/modules").join(kernel).join("initramfs.img");
    remove(&path)?;
    fs::copy(&kept, &path).at("copy", &kept)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).at("change", &path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    #[test]
    fn unpacking_keeps_owners_set_id_bits_and_capabilities() {
        if !rustix::process::geteuid().is_root() {
            // Only root may give files away; CI is root.
            return;
        }
        // VFS_CAP_REVISION_2, effective, cap_net_raw.
        let mut capability = vec![1, 0, 0, 2, 0, 0x20];
        capability.resize(20, 0);
        let dir = tempfile::tempdir_in(".").unwrap();
        let archive = dir.path().join("base.tar");
        let mut builder = tar::Builder::new(fs::File::create(&archive).unwrap());
        builder.append_pax_extensions([("SCHILY.xattr.security.capability", capability.as_slice())]).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_size(1);
        builder.append_data(&mut header, "ping", &b"x"[..]).unwrap();
        header.set_entry_type(tar::EntryType::Char);
        header.set_size(0);
        builder.append_data(&mut header, "null", &b""[..]).unwrap();
        builder.into_inner().unwrap();
        let tree = dir.path().join("tree");
        unpack(&archive, &tree).unwrap();
        let read = Tree::read(&tree).unwrap();
        assert_eq!(read.files.len(), 1, "device nodes stay out");
        let ping = &read.files[0];
        assert_eq!((ping.mode & 0o7777, ping.uid, ping.gid), (0o4755, 7, 8));
        assert_eq!(ping.xattrs, [(b"security.capability".to_vec(), capability)]);
    }

    #[test]
    fn links_of_a_recipe_never_lead_out_of_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, host) = (dir.path().join("tree"), dir.path().join("host"));
        fs::create_dir_all(tree.join("usr")).unwrap();
        fs::create_dir_all(&host).unwrap();
        for (link, target) in [("usr/out", host.to_str().unwrap()), ("up", "../host"), ("loop", "loop")] {
            std::os::unix::fs::symlink(target, tree.join(link)).unwrap();
        }
        assert!(lay::inside(&tree, "/loop/x").is_none());
        assert!(lay::inside(&tree, "/up/x").is_none_or(|p| p.starts_with(&tree)));
        let reached = lay::resolve(&tree, "/usr/out/x").unwrap();
        assert!(reached.starts_with(&tree) && !reached.starts_with(&host), "{}", reached.display());
    }
}

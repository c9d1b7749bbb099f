//! Stage 2: the tree of the image, exactly as the commit will hold it.
//!
//! Base (bootstrapped, cached) → the recipe's files that dracut reads → initramfs (cached) → the other
//! files, users, units → layout of an OSTree system → cleaning by a named list.

mod clean;
mod lay;
mod layout;

use crate::cache::Cache;
use crate::error::{At, Error};
use crate::plan::{Plan, read_by_dracut};
use crate::stage::{State, Workspace, remove};
use crate::tools::chroot::{Access, run_inside};
use crate::tools::mmdebstrap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub use layout::image_path;

/// Where the initramfs is written before the kernel's release is its folder.
const INITRAMFS: &str = "initramfs.img";
/// Read by ostree-prepare-root in the initramfs: /sysroot is mounted read-only.
const PREPARE_ROOT: &str = "[sysroot]\nreadonly = true\n";

/// A finished tree.
#[derive(Debug, Clone)]
pub struct Rootfs {
    /// Its folder.
    pub path: PathBuf,
    /// Release of its kernel.
    pub kernel: String,
}

/// Makes the tree, or finds it made. `say` is told each step.
///
/// # Errors
/// [`Error::NeedsRoot`], [`Error::ToolFailed`], [`Error::Tree`], [`Error::Recipe`] for units and owners that the tree
/// does not know, I/O.
pub fn build(plan: &Plan, workspace: &Workspace, cache: &Cache, say: &dyn Fn(&str)) -> Result<Rootfs, Error> {
    let inputs = plan.rootfs_inputs();
    let output = workspace.output("rootfs");
    if workspace.state("rootfs", &inputs) == State::Cached {
        let kernel = kernel_release(&output)?;
        return Ok(Rootfs { path: output, kernel });
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NeedsRoot { what: "composing a tree with its real owners" });
    }
    let base = base(plan, cache, say)?;
    let tree = workspace.begin("rootfs")?;
    say("unpacking the base");
    unpack(&base, &tree)?;
    let (early, late): (Vec<_>, Vec<_>) = plan.files.iter().partition(|f| read_by_dracut(&f.path));
    let owners = lay::Owners::of(&tree)?;
    lay::write(&tree.join("usr/lib/ostree/prepare-root.conf"), PREPARE_ROOT.as_bytes())?;
    for file in early {
        lay::lay(plan, &tree, file, &owners)?;
    }
    let kernel = kernel_release(&tree)?;
    initramfs(plan, cache, &tree, &kernel, say)?;
    say("files, users, units");
    lay::users(plan, &tree)?;
    let owners = lay::Owners::of(&tree)?;
    for file in late {
        lay::lay(plan, &tree, file, &owners)?;
    }
    lay::units(plan, &tree)?;
    lay::kernel_args(plan, &tree)?;
    lay::identity(plan, &tree)?;
    say("layout and cleaning");
    clean::clean(&tree)?;
    layout::apply(&tree, &kernel)?;
    workspace.finish("rootfs", &inputs)?;
    Ok(Rootfs { path: output, kernel })
}

/// The bootstrapped base as a tar archive in the cache.
fn base(plan: &Plan, cache: &Cache, say: &dyn Fn(&str)) -> Result<PathBuf, Error> {
    let folder = cache.folder("base")?;
    let kept = folder.join(format!("{}.tar", plan.base_inputs().key()));
    if kept.is_file() {
        return Ok(kept);
    }
    say("bootstrapping the base");
    let scratch = cache.scratch()?;
    let target = scratch.path().join("base.tar");
    mmdebstrap::bootstrap(
        &plan.recipe.suite,
        &plan.packages,
        &plan.recipe.packages,
        &cache.folder("debs")?,
        plan.date,
        scratch.path(),
        &target,
    )?;
    fs::rename(&target, &kept).at("move", &target)?;
    Ok(kept)
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
    let kept = cache.folder("initramfs")?.join(format!("{}.img", plan.initramfs_inputs().key()));
    let inside = tree.join("usr/lib/modules").join(kernel).join(INITRAMFS);
    if !kept.is_file() {
        say("making the initramfs");
        if !tree.join("usr/bin/dracut").exists() || !tree.join("usr/lib/dracut/modules.d/98ostree").exists() {
            return Err(plan.recipe.complain(
                "base.debian.packages",
                "the base has no dracut with the ostree module",
                "add dracut and ostree-boot to base.debian.packages",
            ));
        }
        // The tree is read-only to dracut: with or without the cache it is the same afterwards.
        let script = format!(
            "dracut --quiet --force --reproducible --no-hostonly --no-early-microcode --add ostree --zstd --tmpdir /tmp --kver {kernel} /tmp/{INITRAMFS} >&2 && cat /tmp/{INITRAMFS}"
        );
        let bytes = run_inside(tree, Access::ReadOnly, &["/bin/sh", "-eu", "-c", &script], plan.date)?;
        crate::stage::write_atomically(&kept, &bytes)?;
    }
    remove(&inside)?;
    fs::copy(&kept, &inside).at("copy", &kept)?;
    fs::set_permissions(&inside, fs::Permissions::from_mode(0o600)).at("change", &inside)?;
    Ok(())
}

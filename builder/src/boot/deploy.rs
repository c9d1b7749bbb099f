//! A sysroot with one deployment, made by libostree from a bundle.

use super::import::import;
use crate::error::{Asked, At, Error};
use ostree::gio;
use std::fs;
use std::path::{Path, PathBuf};

/// Name of the operating system in the sysroot.
const OSNAME: &str = "secai";
/// Where the guest finds its root.
const ROOT: [&str; 2] = ["root=/dev/vda", "rw"];
/// Folders that a sysroot has besides `ostree`.
const FOLDERS: [&str; 7] = ["boot", "dev", "home", "proc", "run", "sys", "tmp"];

/// A deployment, ready to be booted.
#[derive(Debug)]
pub struct Deployed {
    /// Its commit.
    pub commit: String,
    /// Its kernel, in the sysroot's `/boot`.
    pub kernel: PathBuf,
    /// Its initramfs.
    pub initramfs: PathBuf,
    /// Its kernel arguments, as its boot entry has them.
    pub arguments: String,
    /// Bytes of content.
    pub bytes: u64,
}

/// Imports a bundle into a new sysroot and deploys it, with the image's own kernel arguments and `append`.
///
/// # Errors
/// Those of the import; [`Error::Ostree`]; [`Error::Unusable`] for kernel arguments that cannot be read.
pub fn deploy(bundle: &Path, path: &Path, append: &[String], say: &dyn Fn(&str)) -> Result<Deployed, Error> {
    let none = gio::Cancellable::NONE;
    for name in FOLDERS {
        fs::create_dir_all(path.join(name)).at("create", path.join(name))?;
    }
    let sysroot = ostree::Sysroot::new(Some(&gio::File::for_path(path)));
    sysroot.ensure_initialized(none).asked("make a sysroot")?;
    sysroot.init_osname(OSNAME, none).asked("make a sysroot")?;
    sysroot.load(none).asked("load the sysroot")?;
    let repo = sysroot.repo();
    repo.set_disable_fsync(true);
    let config = repo.copy_config();
    config.set_string("sysroot", "bootloader", "none");
    config.set_boolean("sysroot", "readonly", true);
    repo.write_config(&config).asked("write the repository's settings")?;
    repo.reload_config(none).asked("read the repository's settings")?;
    let commit = import(bundle, &repo, say)?;
    say("deploying");
    let own = kernel_arguments(&repo, &commit)?;
    let arguments: Vec<&str> =
        ROOT.into_iter().chain(own.iter().map(String::as_str)).chain(append.iter().map(String::as_str)).collect();
    let origin = sysroot.origin_new_from_refspec(&commit);
    let deployment =
        sysroot.deploy_tree(Some(OSNAME), &commit, Some(&origin), None, &arguments, none).asked("deploy the commit")?;
    sysroot
        .simple_write_deployment(
            Some(OSNAME),
            &deployment,
            None,
            ostree::SysrootSimpleWriteDeploymentFlags::NO_CLEAN,
            none,
        )
        .asked("write the deployment")?;
    // The immutable bit would outlive this folder; mke2fs does not carry it into the image anyway.
    sysroot.deployment_set_mutable(&deployment, true, none).asked("change the deployment")?;
    let entries = path.join("boot/loader/entries");
    let entry = fs::read_dir(&entries).at("read", &entries)?.filter_map(Result::ok).map(|e| e.path()).next();
    let entry = entry
        .ok_or_else(|| Error::Unusable { path: entries.clone(), reason: "libostree wrote no boot entry".into() })?;
    let text = fs::read_to_string(&entry).at("read", &entry)?;
    let field = |name: &str| {
        let found = text.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned());
        found.ok_or_else(|| Error::Unusable { path: entry.clone(), reason: format!("it has no {name}") })
    };
    let in_boot = |value: String| path.join("boot").join(value.trim_start_matches("/boot").trim_start_matches('/'));
    Ok(Deployed {
        commit,
        kernel: in_boot(field("linux ")?),
        initramfs: in_boot(field("initrd ")?),
        arguments: field("options ")?,
        bytes: folder_bytes(path)?,
    })
}

#[derive(serde::Deserialize)]
struct KernelArguments {
    kargs: Vec<String>,
}

/// `kargs` of every file in the commit's `/usr/lib/bootc/kargs.d`, in the order of their names.
fn kernel_arguments(repo: &ostree::Repo, commit: &str) -> Result<Vec<String>, Error> {
    use ostree::gio::prelude::*;
    let none = gio::Cancellable::NONE;
    let (root, _) = repo.read_commit(commit, none).asked("read the commit")?;
    let dir = root.resolve_relative_path("usr/lib/bootc/kargs.d");
    if !dir.query_exists(none) {
        return Ok(Vec::new());
    }
    let children =
        dir.enumerate_children("standard::name", gio::FileQueryInfoFlags::NONE, none).asked("list kernel arguments")?;
    let mut names = Vec::new();
    while let Some(info) = children.next_file(none).asked("list kernel arguments")? {
        names.push(info.name());
    }
    names.sort();
    let mut all = Vec::new();
    for name in names.iter().filter(|n| n.extension().is_some_and(|e| e == "toml")) {
        let file = dir.child(name).downcast::<ostree::RepoFile>().ok();
        let checksum = file.map(|f| f.checksum().to_string()).unwrap_or_default();
        let mut bytes = Vec::new();
        if let (Some(stream), _, _) = repo.load_file(&checksum, none).asked("read kernel arguments")? {
            std::io::Read::read_to_end(&mut stream.into_read(), &mut bytes).at("read", name)?;
        }
        let unusable = |reason: String| Error::Unusable { path: name.clone(), reason };
        let text = std::str::from_utf8(&bytes).map_err(|e| unusable(e.to_string()))?;
        let read: KernelArguments = toml::from_str(text).map_err(|e| unusable(e.to_string()))?;
        all.extend(read.kargs);
    }
    Ok(all)
}

fn folder_bytes(dir: &Path) -> Result<u64, Error> {
    use std::os::unix::fs::MetadataExt;
    let mut seen = std::collections::HashSet::new();
    let (mut todo, mut sum) = (vec![dir.to_owned()], 0);
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).at("read", &dir)? {
            let entry = entry.at("read", &dir)?;
            let meta = entry.metadata().at("read", entry.path())?;
            if meta.is_dir() {
                todo.push(entry.path());
            } else if seen.insert(meta.ino()) {
                sum += meta.blocks() * 512;
            }
        }
    }
    Ok(sum)
}

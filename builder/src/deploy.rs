//! A sysroot with one deployment, made by libostree from a bundle.

mod entry;
mod import;

use crate::error::{Asked, At, Error};
use ostree::gio;
use std::fs;
use std::path::{Path, PathBuf};

pub use entry::Entry;
pub use import::manifest;

/// Name of the operating system in the sysroot.
pub const OSNAME: &str = "secai";
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
    /// Its boot entry.
    pub entry: Entry,
    /// Its root, in the sysroot.
    pub root: PathBuf,
    /// The commit's date, in seconds since 1970.
    pub date: u64,
}

/// Imports a bundle into a new sysroot and deploys it, with the kernel arguments `first`, those of the image, and `last`.
///
/// # Errors
/// Those of the import; [`Error::Ostree`]; [`Error::Unusable`] for kernel arguments that cannot be read.
pub fn deploy(
    bundle: &Path,
    path: &Path,
    [first, last]: [&[String]; 2],
    say: &dyn Fn(&str),
) -> Result<Deployed, Error> {
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
    let commit = import::import(bundle, &repo, say)?;
    say("deploying");
    let own = kernel_arguments(&repo, &commit)?;
    let arguments: Vec<&str> = first.iter().chain(&own).chain(last).map(String::as_str).collect();
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
    let written = fs::read_dir(&entries).at("read", &entries)?.filter_map(Result::ok).map(|e| e.path()).next();
    let written = written
        .ok_or_else(|| Error::Unusable { path: entries.clone(), reason: "libostree wrote no boot entry".into() })?;
    let text = fs::read_to_string(&written).at("read", &written)?;
    let entry = Entry::parse(&text).map_err(|reason| Error::Unusable { path: written, reason })?;
    let in_boot = |value: &str| path.join("boot").join(value.trim_start_matches("/boot").trim_start_matches('/'));
    let (variant, _) = repo.load_commit(&commit).asked("read the commit")?;
    let root = path.join(format!("ostree/deploy/{OSNAME}/deploy/{commit}.{}", deployment.deployserial()));
    Ok(Deployed {
        date: ostree::commit_get_timestamp(&variant),
        root,
        commit,
        kernel: in_boot(entry.get("linux")),
        initramfs: in_boot(entry.get("initrd")),
        entry,
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
        all.extend(kargs(&bytes).map_err(|reason| Error::Unusable { path: name.clone(), reason })?);
    }
    Ok(all)
}

/// What one file has: one argument in each string. libostree writes them into a line as they are.
fn kargs(bytes: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let read: KernelArguments = toml::from_str(text).map_err(|e| e.to_string())?;
    let is_none = |it: &&String| it.is_empty() || it.chars().any(|c| c.is_whitespace() || c.is_control());
    match read.kargs.iter().find(is_none) {
        Some(none) => Err(format!("{none:?} is not one kernel argument")),
        None => Ok(read.kargs),
    }
}

#[cfg(test)]
mod tests {
    use super::kargs;

    #[test]
    fn a_string_of_kargs_is_one_argument() {
        assert_eq!(kargs(b"kargs = [\"quiet\", \"a.b=c\"]").unwrap(), ["quiet", "a.b=c"]);
        for bad in ["", " ", "a b", "a\\nlinux /evil", "a\\tb", "a\\rb", "a\\u007fb", "a\\u2028b", "a\\u0000"] {
            let said = kargs(format!("kargs = [\"quiet\", \"{bad}\"]").as_bytes()).unwrap_err();
            assert!(said.contains("is not one kernel argument"), "{bad}: {said}");
        }
    }
}

//! What the recipe says, laid into the tree: files, users, units, kernel arguments, the image's identity.

use crate::error::{At, Error};
use crate::plan::{Plan, PlannedContent, PlannedFile};
use crate::recipe::not_in_an_image;
use crate::stage::remove;
use crate::tools::chroot::{Access, run_inside};
use secai_verifier::digest::Digest;
use secai_verifier::limits::ID_MAX;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

/// Which system this is.
const OS_RELEASE: &str = "/usr/lib/os-release";

/// Users and groups that the tree knows.
#[derive(Debug)]
pub struct Accounts {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

impl Accounts {
    /// Reads the tree's own `/etc/passwd` and `/etc/group`.
    ///
    /// # Errors
    /// I/O.
    pub fn of(tree: &Path) -> Result<Accounts, Error> {
        let read = |name: &str| -> Result<BTreeMap<String, u32>, Error> {
            let path = tree.join("etc").join(name);
            let text = fs::read_to_string(&path).at("read", &path)?;
            Ok(text
                .lines()
                .filter_map(|l| {
                    let mut fields = l.split(':');
                    Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
                })
                .collect())
        };
        Ok(Accounts { users: read("passwd")?, groups: read("group")? })
    }

    /// A name's number, or a number that a tar header can hold.
    fn number(table: &BTreeMap<String, u32>, name: &str) -> Option<u32> {
        match name.parse() {
            Ok(number) => (number <= ID_MAX).then_some(number),
            Err(_) => table.get(name).copied(),
        }
    }
}

/// Lays one file over what the packages brought.
///
/// # Errors
/// [`Error::ChangedUnderneath`] when its source is no longer what the plan saw; [`Error::Recipe`] for an unknown owner; I/O.
pub fn lay(plan: &Plan, tree: &Path, file: &PlannedFile, accounts: &Accounts) -> Result<(), Error> {
    let key = format!("files/{}", file.path);
    let unknown = |what: &str, name: &str| {
        plan.recipe.complain(
            &key,
            format!("`{}`: the image has no {what} `{name}`", file.path),
            "use a number, or add it under users",
        )
    };
    let uid = Accounts::number(&accounts.users, &file.user).ok_or_else(|| unknown("user", &file.user))?;
    let gid = Accounts::number(&accounts.groups, &file.group).ok_or_else(|| unknown("group", &file.group))?;
    let target = inside(tree, &file.path).ok_or_else(|| {
        plan.recipe.complain(
            &key,
            format!("`{}` leads through a link out of the image", file.path),
            "name the real path",
        )
    })?;
    let reached = target.strip_prefix(tree).map(|p| format!("/{}", p.display())).unwrap_or_default();
    if let Some(why) = not_in_an_image(&reached) {
        return Err(plan.recipe.complain(
            &key,
            format!("`{}` leads to {reached}, which cannot be in an image", file.path),
            why,
        ));
    }
    if let Some(parent) = target.parent() {
        make_folders(tree, parent)?;
    }
    let is_folder = target.symlink_metadata().is_ok_and(|m| m.is_dir());
    if is_folder && file.content != PlannedContent::Folder {
        return Err(plan.recipe.complain(
            &key,
            format!("`{}` is a folder in the packages", file.path),
            "name a file inside it",
        ));
    }
    match &file.content {
        PlannedContent::Folder => {
            if !is_folder {
                remove(&target)?;
                fs::create_dir(&target).at("create", &target)?;
                set(&target, file.mode, uid, gid)?;
            }
        }
        PlannedContent::Link(to) => {
            remove(&target)?;
            symlink(to, &target).at("create", &target)?;
            lchown(&target, Some(uid), Some(gid)).at("change", &target)?;
        }
        PlannedContent::Inline(text) => {
            remove(&target)?;
            fs::write(&target, text).at("write", &target)?;
            set(&target, file.mode, uid, gid)?;
        }
        PlannedContent::Copied { sha256, source } => {
            let bytes = fs::read(source).at("read", source)?;
            if Digest::of(&bytes) != *sha256 {
                return Err(Error::ChangedUnderneath { path: source.clone() });
            }
            remove(&target)?;
            fs::write(&target, bytes).at("write", &target)?;
            set(&target, file.mode, uid, gid)?;
        }
    }
    Ok(())
}

/// The real place of an image path in the tree: links of the tree among its folders (`/lib` → `usr/lib`) are
/// followed inside the tree, never out of it. None when they lead nowhere sensible.
pub fn inside(tree: &Path, path: &str) -> Option<PathBuf> {
    let mut real = PathBuf::new();
    let mut rest: Vec<String> = path.split('/').rev().filter(|p| !p.is_empty()).map(str::to_owned).collect();
    // A chain of links longer than this is a loop.
    let mut links_left = 40;
    while let Some(part) = rest.pop() {
        match part.as_str() {
            "." => continue,
            ".." => {
                if !real.pop() {
                    return None;
                }
                continue;
            }
            name => real.push(name),
        }
        let here = tree.join(&real);
        if rest.is_empty() {
            break;
        }
        if let Ok(target) = fs::read_link(&here) {
            links_left -= 1;
            if links_left == 0 {
                return None;
            }
            real.pop();
            if target.is_absolute() {
                real = PathBuf::new();
            }
            rest.extend(target.to_str()?.split('/').rev().filter(|p| !p.is_empty()).map(str::to_owned));
        }
    }
    Some(tree.join(real))
}

fn set(path: &Path, mode: u32, uid: u32, gid: u32) -> Result<(), Error> {
    // Owner first: changing it clears set-id bits.
    chown(path, Some(uid), Some(gid)).at("change", path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).at("change", path)
}

/// Makes a folder of the tree and those it lies in, 0755 root:root where they are missing.
///
/// # Errors
/// I/O.
pub fn make_folders(tree: &Path, dir: &Path) -> Result<(), Error> {
    let Ok(relative) = dir.strip_prefix(tree) else { return Ok(()) };
    let mut path = tree.to_owned();
    for part in relative.components() {
        path.push(part);
        if !path.is_dir() {
            fs::create_dir(&path).at("create", &path)?;
            set(&path, 0o755, 0, 0)?;
        }
    }
    Ok(())
}

/// Writes a file of the compose's own at a path of the image, 0644 root:root, with its folders.
///
/// # Errors
/// [`Error::Tree`] when links lead nowhere; I/O.
pub fn write(tree: &Path, path: &str, bytes: &[u8]) -> Result<(), Error> {
    let target = resolve(tree, path)?;
    if let Some(parent) = target.parent() {
        make_folders(tree, parent)?;
    }
    remove(&target)?;
    fs::write(&target, bytes).at("write", &target)?;
    set(&target, 0o644, 0, 0)
}

/// [`inside`], where not to arrive is an error.
///
/// # Errors
/// [`Error::Tree`].
pub fn resolve(tree: &Path, path: &str) -> Result<PathBuf, Error> {
    inside(tree, path).ok_or_else(|| Error::Tree(format!("the links at {path} lead nowhere")))
}

/// Users of the recipe, declared to sysusers and made.
///
/// # Errors
/// [`Error::ToolFailed`] when a name or number is taken.
pub fn users(plan: &Plan, tree: &Path) -> Result<(), Error> {
    if plan.recipe.users.is_empty() {
        return Ok(());
    }
    let dash = |s: &Option<String>| s.clone().unwrap_or_else(|| "-".into());
    let mut text = String::new();
    for u in &plan.recipe.users {
        text.push_str(&format!("u {} {} \"{}\" {} {}\n", u.name, u.uid, u.comment, dash(&u.home), dash(&u.shell)));
        for group in &u.groups {
            text.push_str(&format!("m {} {group}\n", u.name));
        }
    }
    let name = format!("/usr/lib/sysusers.d/secai-{}.conf", plan.recipe.name);
    write(tree, &name, text.as_bytes())?;
    run_inside(tree, Access::ReadWrite, &["/usr/bin/systemd-sysusers", &name], plan.date)?;
    // sysusers takes another number when one is taken; a recipe's numbers are meant.
    let made = Accounts::of(tree)?;
    for user in &plan.recipe.users {
        if made.users.get(&user.name) != Some(&user.uid) {
            return Err(plan.recipe.complain(
                &format!("users/{}", user.name),
                format!("user `{}` cannot have the number {}", user.name, user.uid),
                "the packages use this name or number; choose another",
            ));
        }
    }
    Ok(())
}

/// Users of the services, as their files in sysusers.d declare them.
///
/// # Errors
/// [`Error::ToolFailed`]; [`Error::Recipe`] when a name or number is taken.
pub fn service_users(plan: &Plan, tree: &Path) -> Result<(), Error> {
    let Some(services) = &plan.services else { return Ok(()) };
    let declared: Vec<&str> = services.sysusers().collect();
    if declared.is_empty() {
        // Without a file it would read those of the packages.
        return Ok(());
    }
    run_inside(tree, Access::ReadWrite, &[&["/usr/bin/systemd-sysusers"], declared.as_slice()].concat(), plan.date)?;
    let made = Accounts::of(tree)?;
    for user in &services.users {
        if made.users.get(&user.name) != Some(&user.uid) {
            return Err(plan.recipe.complain(
                &format!("services/{}", user.service),
                format!("user `{}` of {} cannot have the number {}", user.name, user.service, user.uid),
                "a package uses this name or number",
            ));
        }
    }
    Ok(())
}

/// Enables and masks units with the tree's own systemctl.
///
/// # Errors
/// [`Error::Recipe`] for a unit that the tree does not have.
pub fn units(plan: &Plan, tree: &Path) -> Result<(), Error> {
    let of_services = plan.services.iter().flat_map(|s| &s.enable);
    let enable: Vec<&String> = of_services.chain(&plan.recipe.enable).collect();
    for (verb, names) in [("enable", enable), ("mask", plan.recipe.mask.iter().collect())] {
        for name in names {
            let complain = |why: String| {
                plan.recipe.complain(
                    &format!("units/{name}"),
                    format!("cannot {verb} unit `{name}`: {why}"),
                    "name a unit that a package or a file of the recipe brings",
                )
            };
            // systemctl masks what does not exist: a slip of the pen would mask nothing.
            if !unit_exists(tree, name) {
                return Err(complain("the image has no such unit".into()));
            }
            match run_inside(tree, Access::ReadWrite, &["/usr/bin/systemctl", "--quiet", verb, name], plan.date) {
                Err(Error::ToolFailed { tail, .. }) => return Err(complain(tail)),
                other => drop(other?),
            }
        }
    }
    Ok(())
}

/// Is there a unit file of this name, or the template of this instance?
fn unit_exists(tree: &Path, name: &str) -> bool {
    let template = name.split_once('@').and_then(|(stem, rest)| Some(format!("{stem}@.{}", rest.rsplit_once('.')?.1)));
    ["/etc/systemd/system", "/usr/lib/systemd/system"].iter().any(|dir| {
        std::iter::once(name)
            .chain(template.as_deref())
            .any(|unit| inside(tree, &format!("{dir}/{unit}")).is_some_and(|path| path.symlink_metadata().is_ok()))
    })
}

/// Kernel arguments, where bootc and our own deployments read them.
///
/// # Errors
/// I/O.
pub fn kernel_args(plan: &Plan, tree: &Path) -> Result<(), Error> {
    // The recipe admits neither quotes nor backslashes, so that these are TOML strings as they stand.
    let list: Vec<String> = plan.recipe.kernel_args.iter().map(|a| format!("\"{a}\"")).collect();
    write(
        tree,
        &format!("/usr/lib/bootc/kargs.d/10-{}.toml", plan.recipe.name),
        format!("kargs = [{}]\n", list.join(", ")).as_bytes(),
    )
}

/// Which image this is, in os-release.
///
/// # Errors
/// [`Error::Tree`] without an os-release.
pub fn identity(plan: &Plan, tree: &Path) -> Result<(), Error> {
    let path = resolve(tree, OS_RELEASE)?;
    let regular = path.symlink_metadata().is_ok_and(|m| m.is_file());
    let text = fs::read_to_string(&path).ok().filter(|_| regular);
    let mut text = text.ok_or_else(|| Error::Tree(format!("it has no {OS_RELEASE}")))?;
    text.push_str(&format!("IMAGE_ID={}\nIMAGE_VERSION={}\n", plan.recipe.name, plan.recipe.version));
    write(tree, OS_RELEASE, text.as_bytes())
}

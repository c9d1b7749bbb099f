//! Stage 1: everything that will go in, by digest, before anything is made.
//!
//! The plan pins packages to exact versions and digests, fetches them into the cache, reads the recipe's
//! files, fixes the date, and derives each later stage's inputs.

pub use crate::cache::Cache;
use crate::error::{At, Error};
use crate::recipe::{FileContent, Recipe, not_in_an_image};
use crate::services::PlannedServices;
use crate::stage::Inputs;
use crate::tools::apt::{Apt, Package, Unresolved};
use crate::tools::mmdebstrap::{self, Pinned};
use secai_verifier::digest::Digest;
use secai_verifier::layout;
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Changes when the way a base is bootstrapped changes.
const BASE_FORMAT: u32 = 1;
/// Changes when the way an initramfs is made changes.
const INITRAMFS_FORMAT: u32 = 2;

/// Folders whose files an initramfs may hold or be steered by. Of the recipe's files these alone are laid before
/// dracut runs, so that the initramfs is a function of them and the base, and of nothing else.
const READ_BY_DRACUT: &[&str] = &[
    "/etc/crypttab",
    "/etc/dracut.conf",
    "/etc/dracut.conf.d",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/modprobe.d",
    "/etc/modules-load.d",
    "/etc/ostree",
    "/etc/sysctl.d",
    "/etc/systemd",
    "/etc/udev",
    "/etc/vconsole.conf",
    "/usr/lib/dracut",
    "/usr/lib/firmware",
    "/usr/lib/modprobe.d",
    "/usr/lib/modules",
    "/usr/lib/modules-load.d",
    "/usr/lib/ostree",
    "/usr/lib/sysctl.d",
    "/usr/lib/systemd",
    "/usr/lib/tmpfiles.d",
    "/usr/lib/udev",
];

/// One file, folder or link of the recipe, as it will be laid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFile {
    /// Absolute path in the image, as the recipe writes it (`/etc/…`).
    pub path: String,
    /// Permission bits; none for a link.
    pub mode: u32,
    /// Owner, name or number.
    pub user: String,
    /// Group, name or number.
    pub group: String,
    /// What lies there.
    pub content: PlannedContent,
}

/// The bytes of a planned file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlannedContent {
    /// A file of this machine, and its SHA-256.
    Copied {
        /// Its digest when the plan was made.
        sha256: Digest,
        /// Where it lies; not a part of the plan's text, which must not depend on the machine.
        #[serde(skip)]
        source: PathBuf,
    },
    /// Text from the recipe.
    Inline(String),
    /// A symbolic link.
    Link(String),
    /// An empty folder.
    Folder,
}

/// What the first stage hands to the second.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The recipe.
    pub recipe: Recipe,
    /// The date of commit, image and SBOM, in seconds since 1970.
    pub date: i64,
    /// Packages, sorted by name.
    pub packages: Vec<Package>,
    /// The recipe's files, folders expanded.
    pub files: Vec<PlannedFile>,
    /// What the recipe's services bring, from the pack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<PlannedServices>,
    /// The bootstrapping program.
    pub mmdebstrap: String,
    /// The digest of the trust directory that the recipe or `--trust` names.
    pub trust: Option<Digest>,
    /// The program that builds: its version and the digest of its own file.
    pub builder: String,
}

/// What a plan may be told besides the recipe.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// `--mirror`.
    pub mirror: Option<String>,
    /// `--trust`, when the recipe names none.
    pub trust: Option<PathBuf>,
    /// `--refresh`: ask the mirror even when the cached index is young.
    pub refresh: bool,
}

impl Plan {
    /// Resolves and fetches. `say` is told remarks; `progress` bytes fetched and their sum.
    ///
    /// # Errors
    /// [`Error::Recipe`] for a package that cannot be, [`Error::PackageUnreachable`], [`Error::IndexUnreachable`],
    /// [`Error::NoMirror`], I/O.
    pub fn make(
        recipe: Recipe,
        services: Option<PlannedServices>,
        cache: &Cache,
        options: &PlanOptions,
        say: &dyn Fn(&str),
        progress: &dyn Fn(u64, u64),
    ) -> Result<Plan, Error> {
        let files = planned_files(&recipe)?;
        if let Some(services) = &services {
            services.check(&recipe, &files)?;
        }
        let trust = recipe.trust.as_deref().or(options.trust.as_deref()).map(digest_of_trust).transpose()?;
        let apt = Apt::open(cache.root(), &recipe.suite, options.mirror.as_deref())?;
        let note = apt.refresh(options.refresh).map_err(|e| match e {
            Error::IndexUnreachable { reason, .. } if reason.contains("does not have a Release file") => recipe
                .complain(
                    "suite",
                    format!("the mirror has no suite `{}`", recipe.suite),
                    "use the code name of a Debian release, such as trixie",
                ),
            other => other,
        })?;
        if let Some(note) = note {
            say(&note);
        }
        let date = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(text) => text.parse::<i64>().ok().filter(|d| (0..=253_402_300_799).contains(d)).ok_or(Error::Usage {
                option: "SOURCE_DATE_EPOCH",
                value: text,
                reason: "is not a number of seconds since 1970".into(),
            })?,
            Err(_) => apt.date()?.as_second(),
        };
        let packages = apt.resolve(&recipe.packages).map_err(|e| match e {
            Unresolved::Unknown(name) => recipe.complain(
                &format!("packages/{name}"),
                format!("package `{name}` is not in {}", recipe.suite),
                format!("look it up with `apt-cache search`; {} has only the component main", recipe.suite),
            ),
            Unresolved::Conflict(said) => recipe.complain(
                "base.debian.packages",
                format!("these packages cannot be installed together:\n  {said}"),
                "remove one of those that apt names",
            ),
            Unresolved::Stopped(e) => e,
        })?;
        let total = packages.iter().map(|p| p.size).sum();
        apt.fetch(&packages, &cache.folder("debs")?, &|n| progress(n, total))?;
        let (mmdebstrap, builder) = (mmdebstrap::version()?, builder_id()?);
        Ok(Plan { date, packages, files, services, trust, mmdebstrap, builder, recipe })
    }

    /// What the bootstrapped base is made from.
    pub fn base_inputs(&self) -> Inputs {
        let mut inputs = Inputs::new()
            .with("format", BASE_FORMAT)
            .with("suite", &self.recipe.suite)
            .with("date", self.date)
            .with("mmdebstrap", &self.mmdebstrap)
            .with("arguments", mmdebstrap::ARGUMENTS.join(" "))
            .with("named packages", self.recipe.packages.join(","));
        for p in &self.packages {
            inputs = inputs.with(format!("package {}", p.name), p.sha256);
        }
        for user in self.pinned() {
            inputs = inputs.with(format!("user {}", user.0), user.hook());
        }
        inputs
    }

    /// Users that packages make, with the number that a service of ours gives them.
    pub fn pinned(&self) -> Vec<Pinned<'_>> {
        let users = self.services.iter().flat_map(|it| &it.users);
        users.filter(|user| !user.is_ours()).map(|user| Pinned(&user.name, user.uid)).collect()
    }

    /// What the initramfs is made from.
    pub fn initramfs_inputs(&self) -> Inputs {
        let mut inputs = Inputs::new()
            .with("format", INITRAMFS_FORMAT)
            .with("recipe", crate::rootfs::initramfs_recipe())
            .with("base", self.base_inputs().key());
        for file in self.laid().filter(|f| read_by_dracut(&f.path)) {
            inputs = inputs.with(format!("file {}", file.path), json(file));
        }
        inputs
    }

    /// What the tree is made from.
    pub fn rootfs_inputs(&self) -> Inputs {
        let r = &self.recipe;
        let mut inputs = Inputs::new()
            .with("builder", &self.builder)
            .with("base", self.base_inputs().key())
            .with("initramfs", self.initramfs_inputs().key())
            .with("name", &r.name)
            .with("version", &r.version)
            .with("units", json(&(&r.enable, &r.mask)))
            .with("users", json(&r.users))
            .with("kernel_args", json(&r.kernel_args));
        if let Some(set_id) = &r.set_id {
            inputs = inputs.with("set_id", json(set_id));
        }
        for file in self.laid() {
            inputs = inputs.with(format!("file {}", file.path), json(file));
        }
        inputs
    }

    /// Everything that is laid over the packages: what the services bring, then the recipe's files.
    pub fn laid(&self) -> impl Iterator<Item = &PlannedFile> {
        self.services.iter().flat_map(PlannedServices::files).chain(&self.files)
    }
}

/// Would dracut see this file?
pub fn read_by_dracut(path: &str) -> bool {
    READ_BY_DRACUT.iter().any(|p| path.strip_prefix(p).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Version of this program and the digest of its file: other code may make other bytes.
fn builder_id() -> Result<String, Error> {
    let path = Path::new("/proc/self/exe");
    let bytes = fs::read(path).at("read", path)?;
    Ok(format!("{} {}", env!("CARGO_PKG_VERSION"), Digest::of(&bytes)))
}

/// The files that a trust directory is made of, sorted; links are none of them.
///
/// # Errors
/// I/O.
pub fn trust_files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).at("read", dir)? {
        let entry = entry.at("read", dir)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let named = name == layout::ROLES
            || name.ends_with(layout::PUBLIC_KEY_ENDING)
            || name.ends_with(layout::CERTIFICATE_ENDING);
        if named && entry.file_type().at("read", entry.path())?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// A digest over names and bytes of a trust directory.
fn digest_of_trust(dir: &Path) -> Result<Digest, Error> {
    let mut inputs = Inputs::new();
    for path in trust_files(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        inputs = inputs.with(name, Digest::of(&fs::read(&path).at("read", &path)?));
    }
    Ok(inputs.key())
}

/// The recipe's files with folders walked and digests taken, sorted by path.
fn planned_files(recipe: &Recipe) -> Result<Vec<PlannedFile>, Error> {
    let mut planned = Vec::new();
    for entry in &recipe.files {
        let file = |path: String, mode: u32, content: PlannedContent| PlannedFile {
            path,
            mode,
            user: entry.user.clone(),
            group: entry.group.clone(),
            content,
        };
        match &entry.content {
            FileContent::Inline(text) => {
                planned.push(file(
                    entry.path.clone(),
                    entry.mode.unwrap_or(0o644),
                    PlannedContent::Inline(text.clone()),
                ));
            }
            FileContent::Link(target) => {
                planned.push(file(entry.path.clone(), 0, PlannedContent::Link(target.clone())))
            }
            FileContent::Source(source) if source.is_dir() => {
                if entry.mode.is_some() {
                    return Err(recipe.complain(
                        &format!("files/{}", entry.path),
                        format!("`{}` is a folder and has a mode", entry.path),
                        "files keep their execute bit, folders are 0755; list the file that needs another mode by itself",
                    ));
                }
                walk(recipe, source, &entry.path, &mut |path, mode, content| planned.push(file(path, mode, content)))?;
            }
            FileContent::Source(source) => {
                let (mode, content) = copied(source)?;
                planned.push(file(entry.path.clone(), entry.mode.unwrap_or(mode), content));
            }
        }
    }
    for file in &planned {
        if let Some(why) = not_in_an_image(&file.path) {
            return Err(recipe.complain("files", format!("`{}` cannot be in an image", file.path), why));
        }
    }
    planned.sort_by(|a, b| a.path.cmp(&b.path));
    for pair in planned.windows(2) {
        if let [a, b] = pair
            && a.path == b.path
            && (a.content != PlannedContent::Folder || b.content != PlannedContent::Folder)
        {
            return Err(recipe.complain(
                &format!("files/{}", a.path),
                format!("`{}` stands twice", a.path),
                "a folder of the recipe holds it too",
            ));
        }
    }
    planned.dedup_by(|a, b| a.path == b.path);
    Ok(planned)
}

fn copied(source: &Path) -> Result<(u32, PlannedContent), Error> {
    let meta = source.symlink_metadata().at("read", source)?;
    if !meta.is_file() {
        return Err(Error::Unusable { path: source.to_owned(), reason: "it is neither a file nor a folder".into() });
    }
    // The caller's umask must not reach the image: only the execute bit counts.
    let mode = if meta.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
    let sha256 = Digest::of(&fs::read(source).at("read", source)?);
    Ok((mode, PlannedContent::Copied { sha256, source: source.to_owned() }))
}

fn walk(
    recipe: &Recipe,
    dir: &Path,
    target: &str,
    take: &mut dyn FnMut(String, u32, PlannedContent),
) -> Result<(), Error> {
    take(target.to_owned(), 0o755, PlannedContent::Folder);
    let mut entries: Vec<PathBuf> =
        fs::read_dir(dir).at("read", dir)?.filter_map(|e| e.ok().map(|e| e.path())).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().and_then(|n| n.to_str());
        let Some(name) = name else {
            return Err(recipe.complain("files", format!("the name {} is not UTF-8", path.display()), "rename it"));
        };
        let inside = format!("{target}/{name}");
        let meta = path.symlink_metadata().at("read", &path)?;
        if meta.is_dir() {
            walk(recipe, &path, &inside, take)?;
        } else if meta.is_symlink() {
            let link = fs::read_link(&path).at("read", &path)?;
            take(inside, 0, PlannedContent::Link(link.to_string_lossy().into_owned()));
        } else if meta.is_file() {
            let (mode, content) = copied(&path)?;
            take(inside, mode, content);
        } else {
            return Err(recipe.complain(
                "files",
                format!("{} is neither file, folder nor link", path.display()),
                "remove it",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::recipe::OutsideFiles;

    pub(crate) const BASE: &str =
        "base:\n  debian: {suite: trixie, kernel: linux-image-amd64, packages: [ostree]}\npackages: [login]\n";

    /// The plan of `r.yml` among these files, without packages.
    pub(crate) fn planned(files: &[(&str, String)]) -> Plan {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("motd"), "hello").unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let recipe = Recipe::load(&dir.path().join("r.yml"), OutsideFiles::Refused).unwrap();
        let files = planned_files(&recipe).unwrap();
        let (mmdebstrap, builder) = ("m".into(), "b".into());
        Plan { recipe, date: 0, packages: vec![], files, services: None, trust: None, mmdebstrap, builder }
    }

    /// A plan is of what the recipe says, not of the files that say it.
    #[test]
    fn equal_recipes_have_one_plan_however_they_are_written() {
        let head = "name: device\nversion: '1'\n";
        let rest = "kernel_args: [a, b]\nset_id: [/usr/bin/sudo]\nfiles:
  - {path: /etc/motd, source: motd}\n  - {path: /etc/issue, content: x}\n";
        let flat = |rest: &str| planned(&[("r.yml", format!("{head}{BASE}{rest}"))]);
        let chain = [
            ("r.yml", format!("{head}extends: a.yml\nkernel_args: [b]\nfiles: [{{path: /etc/issue, content: x}}]\n")),
            (
                "a.yml",
                "name: a\nversion: '7'\nextends: b.yml\npackages: [-sudo]\nkernel_args: [a]\nfiles: [{path: /etc/motd, source: motd}]\n".to_owned(),
            ),
            (
                "b.yml",
                format!("name: b\nversion: '8'\n{}set_id: [/usr/bin/sudo]\n", BASE.replace("[login]", "[sudo, login]")),
            ),
        ];
        let whole = |plan: &Plan| {
            let keys = [plan.base_inputs(), plan.initramfs_inputs(), plan.rootfs_inputs()].map(|it| it.key());
            (serde_json::to_string(plan).unwrap(), keys)
        };
        assert_eq!(whole(&planned(&chain)), whole(&flat(rest)));
        for other in
            [rest.replace("content: x", "content: y"), rest.replace("[a, b]", "[b, a]"), rest.replace("sudo", "su")]
        {
            let (other, expected) = (flat(&other), flat(rest));
            assert_ne!(other.rootfs_inputs().key(), expected.rootfs_inputs().key());
            assert_eq!(other.base_inputs().key(), expected.base_inputs().key());
        }
        let without = rest.replace("set_id: [/usr/bin/sudo]\n", "");
        assert_ne!(flat(&without).rootfs_inputs(), flat(rest).rootfs_inputs());
        assert_ne!(flat(&without.clone()).rootfs_inputs(), flat(&format!("{without}set_id: []\n")).rootfs_inputs());
    }
}

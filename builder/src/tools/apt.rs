//! apt, as resolver and fetcher: a private root of its own, the machine's mirror, no system state.
//!
//! apt checks the suite's signed index against Debian's archive keyring, and each package against the
//! index; we check each package against the digest again when it enters and when it leaves the cache.

mod mirror;

use super::{checked, mortal, run, tail};
use crate::error::{At, Error};
use crate::stage::write_atomically;
use secai_verifier::digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// How long an index counts as fresh: a day's builds see one state of the suite.
const INDEX_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// The keyring that signs Debian's suites.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The only architecture so far.
pub const ARCHITECTURE: &str = "amd64";

/// One package, pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its Debian version.
    pub version: String,
    /// Its architecture: `amd64` or `all`.
    pub arch: String,
    /// SHA-256 of the `.deb`.
    pub sha256: Digest,
    /// Size of the `.deb` in bytes.
    pub size: u64,
    /// Its record in the index, for the compose step's own index.
    #[serde(skip)]
    pub record: String,
    /// The name apt gives the file.
    #[serde(skip)]
    pub file: String,
}

/// A package with what the plan's text leaves out.
#[derive(Serialize, Deserialize)]
struct Resolved {
    package: Package,
    record: String,
    file: String,
}

impl Resolved {
    fn of(package: &Package) -> Resolved {
        Resolved { package: package.clone(), record: package.record.clone(), file: package.file.clone() }
    }

    fn into_package(self) -> Package {
        Package { record: self.record, file: self.file, ..self.package }
    }
}

/// Why apt could not resolve.
#[derive(Debug)]
pub enum Unresolved {
    /// This package is not in the suite.
    Unknown(String),
    /// It and others exclude each other; apt's words.
    Conflict(String),
    /// Something else stopped it.
    Stopped(Error),
}

impl From<Error> for Unresolved {
    fn from(e: Error) -> Self {
        Unresolved::Stopped(e)
    }
}

/// A private apt for one suite.
#[derive(Debug)]
pub struct Apt {
    root: PathBuf,
    suite: String,
    /// apt's own locks fail instead of waiting.
    _turn: fs::File,
}

impl Apt {
    /// Lays its configuration under `cache`.
    ///
    /// `mirror` is what `--mirror` said, else the machine's own configuration decides.
    ///
    /// # Errors
    /// [`Error::NoMirror`]; [`Error::ToolMissing`] without Debian's keyring; I/O.
    pub fn open(cache: &Path, suite: &str, mirror: Option<&str>) -> Result<Apt, Error> {
        let mirror = match mirror {
            Some(m) => m.to_owned(),
            None => mirror::of_this_machine(Path::new("/etc/apt"))?.ok_or(Error::NoMirror)?,
        };
        if !Path::new(KEYRING).is_file() {
            return Err(Error::ToolMissing { program: KEYRING.into(), package: "debian-archive-keyring" });
        }
        // One root per mirror: indices of two mirrors must not mix.
        let id = &Digest::of(mirror.as_bytes()).to_string()[..8];
        let root = cache.join("apt").join(format!("{suite}-{ARCHITECTURE}-{id}"));
        for dir in ["lists/partial", "archives/partial", "resolved"] {
            fs::create_dir_all(root.join(dir)).at("create", root.join(dir))?;
        }
        let turn = crate::cache::lock(&root.join(".turn"), rustix::fs::FlockOperation::LockExclusive)?;
        let r = root.display();
        let files = [
            ("status", String::new()),
            ("sources.list", format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n")),
            (
                "apt.conf",
                format!(
                    "Dir \"{r}\";\nDir::State \"{r}\";\nDir::State::status \"{r}/status\";\nDir::State::lists \"{r}/lists\";\n\
                     Dir::Cache \"{r}\";\nDir::Cache::archives \"{r}/archives\";\nDir::Etc::SourceList \"{r}/sources.list\";\n\
                     Dir::Etc::SourceParts \"/dev/null\";\nDir::Etc::Preferences \"/dev/null\";\nDir::Etc::PreferencesParts \"/dev/null\";\n\
                     Dir::Etc::Trusted \"/dev/null\";\nDir::Etc::TrustedParts \"/dev/null\";\nDir::Etc::Parts \"/dev/null\";\nDir::Etc::Main \"/dev/null\";\n\
                     Dir::Bin::Methods \"/usr/lib/apt/methods\";\nDir::Log \"/dev/null\";\n\
                     APT::Architecture \"{ARCHITECTURE}\";\nAPT::Architectures {{\"{ARCHITECTURE}\";}};\nAPT::Install-Recommends \"false\";\n\
                     APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\nAcquire::Retries \"2\";\nAcquire::http::Timeout \"30\";\n\
                     Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\nAPT::Update::Error-Mode \"any\";\nQuiet::NoUpdate \"true\";\n\
                     pkgCacheGen::ForceEssential \",\";\n"
                ),
            ),
        ];
        for (name, text) in files {
            fs::write(root.join(name), text).at("write", root.join(name))?;
        }
        Ok(Apt { root, suite: suite.into(), _turn: turn })
    }

    fn apt(&self, program: &str) -> Result<Command, Error> {
        let mut c = mortal(program, "apt")?;
        c.env("APT_CONFIG", self.root.join("apt.conf"));
        // How this machine reaches its mirror is the machine's business, like the mirror itself.
        for name in ["http_proxy", "https_proxy", "no_proxy"] {
            if let Some(value) = std::env::var_os(name) {
                c.env(name, value);
            }
        }
        Ok(c)
    }

    /// Fetches the suite's index, unless the cached one is younger than a day and `force` is not set.
    /// Returns a note when an older index had to do.
    ///
    /// # Errors
    /// [`Error::IndexUnreachable`] when there is none at all.
    pub fn refresh(&self, force: bool) -> Result<Option<String>, Error> {
        let stamp = self.root.join("refreshed");
        let cached = self.index_file("InRelease")?.is_some() && self.index_file("Packages")?.is_some();
        let age =
            stamp.metadata().and_then(|m| m.modified()).ok().and_then(|t| SystemTime::now().duration_since(t).ok());
        if cached && !force && age.is_some_and(|a| a < INDEX_AGE_MAX) {
            return Ok(None);
        }
        let output = self.apt("apt-get")?.arg("update").output().at("run", "apt-get")?;
        if output.status.success() && self.index_file("Packages")?.is_some() {
            fs::write(&stamp, "").at("write", &stamp)?;
            return Ok(None);
        }
        let reason = tail(&output.stderr);
        if cached {
            return Ok(Some(format!(
                "the index of {} could not be refreshed; the cached one of {} is used",
                self.suite,
                self.date()?
            )));
        }
        Err(Error::IndexUnreachable { suite: self.suite.clone(), reason })
    }

    fn index_file(&self, ending: &str) -> Result<Option<PathBuf>, Error> {
        let dir = self.root.join("lists");
        let mut found: Vec<PathBuf> = fs::read_dir(&dir)
            .at("read", &dir)?
            .filter_map(|e| e.ok().map(|e| e.path()))
            .filter(|p| {
                let name = p.file_name().unwrap_or_default().to_string_lossy().into_owned();
                name.ends_with(ending) || name.contains(&format!("_{ending}."))
            })
            .collect();
        found.sort();
        Ok(found.pop())
    }

    /// The `Date` of the suite's signed index.
    ///
    /// # Errors
    /// [`Error::Unusable`] when the index has none.
    pub fn date(&self) -> Result<jiff::Timestamp, Error> {
        let path = self
            .index_file("InRelease")?
            .ok_or_else(|| Error::IndexUnreachable { suite: self.suite.clone(), reason: "no InRelease".into() })?;
        let text = fs::read_to_string(&path).at("read", &path)?;
        text.lines()
            .find_map(|l| l.strip_prefix("Date: "))
            .and_then(|d| jiff::fmt::rfc2822::parse(&d.replace(" UTC", " +0000")).ok())
            .map(|z| z.timestamp())
            .ok_or_else(|| Error::Unusable { path, reason: "its Date cannot be read".into() })
    }

    /// Resolves names to exact packages: all essential ones, `names`, and what they depend on; sorted by name.
    /// The answer is a function of the signed index and the names, and is kept under their digest.
    ///
    /// # Errors
    /// [`Unresolved`].
    pub fn resolve(&self, names: &[String]) -> Result<Vec<Package>, Unresolved> {
        let index = self.index_file("InRelease")?.map(|path| fs::read(&path).at("read", &path)).transpose()?;
        let question = Digest::of(format!("2 {:?} {names:?}", index.as_deref().map(Digest::of)).as_bytes());
        let kept = self.root.join("resolved").join(format!("{question}.json"));
        if let Some(answer) = fs::read(&kept).ok().and_then(|b| serde_json::from_slice::<Vec<Resolved>>(&b).ok()) {
            return Ok(answer.into_iter().map(Resolved::into_package).collect());
        }
        let packages = self.ask(names)?;
        let answer: Vec<Resolved> = packages.iter().map(Resolved::of).collect();
        let text = serde_json::to_vec(&answer).map_err(std::io::Error::from).at("write", &kept)?;
        write_atomically(&kept, &text)?;
        Ok(packages)
    }

    fn ask(&self, names: &[String]) -> Result<Vec<Package>, Unresolved> {
        let output = self
            .apt("apt-get")?
            .args(["install", "-q", "--print-uris", "--no-install-recommends", "?essential"])
            .args(names)
            .output()
            .at("run", "apt-get")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
            let unknown = said.lines().find_map(|l| {
                l.strip_prefix("E: Unable to locate package ")
                    .or_else(|| l.strip_prefix("E: Package '").and_then(|r| r.split('\'').next()))
            });
            return Err(match unknown {
                Some(name) => Unresolved::Unknown(name.trim().to_owned()),
                None => {
                    // Indented: which package asks for what. Without such lines, whatever apt said.
                    let why: Vec<&str> = said.lines().filter(|l| l.starts_with(' ')).collect();
                    Unresolved::Conflict(if why.is_empty() {
                        tail(said.as_bytes())
                    } else {
                        tail(why.join("\n").as_bytes())
                    })
                }
            });
        }
        let mut files = BTreeMap::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let mut words = line.split_whitespace();
            let Some(file) = words.nth(1) else { continue };
            let parts: Vec<&str> = file.trim_end_matches(".deb").split('_').collect();
            if let [name, version, _arch] = parts.as_slice() {
                files.insert(format!("{name}={}", version.replace("%3a", ":")), file.to_owned());
            }
        }
        // apt takes a name it does not know for an expression, and a final + or - for an order.
        let known = |name: &String| files.keys().any(|k| k.split_once('=').is_some_and(|(n, _)| n == name));
        if let Some(name) = names.iter().find(|n| !known(n)) {
            return Err(Unresolved::Unknown(name.clone()));
        }
        let shown = run(self.apt("apt-cache")?.arg("show").args(files.keys()), "apt-cache show")?;
        let shown = String::from_utf8_lossy(&shown);
        let mut packages = Vec::new();
        for record in shown.split("\n\n").filter(|r| !r.trim().is_empty()) {
            packages.push(package_of(record, &files)?);
        }
        packages.sort_by(|a: &Package, b| a.name.cmp(&b.name));
        packages.dedup_by(|a, b| a.name == b.name);
        if packages.len() != files.len() {
            return Err(Unresolved::Stopped(Error::Unusable {
                path: self.root.clone(),
                reason: format!("apt resolved {} packages and described {}", files.len(), packages.len()),
            }));
        }
        Ok(packages)
    }

    /// Puts every package into the content-addressed store `debs` (`SHA256.deb`), fetching what is not there.
    /// `progress` is told the bytes fetched so far.
    ///
    /// # Errors
    /// [`Error::PackageUnreachable`] naming the first that cannot be had; [`Error::CacheDiffers`].
    pub fn fetch(&self, packages: &[Package], debs: &Path, progress: &dyn Fn(u64)) -> Result<(), Error> {
        fs::create_dir_all(debs).at("create", debs)?;
        let missing: Vec<&Package> = packages.iter().filter(|p| !stored(debs, p).is_file()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let archives = self.root.join("archives");
        let child = self
            .apt("apt-get")?
            .args(["download", "-q"])
            .args(missing.iter().map(|p| format!("{}={}", p.name, p.version)))
            .current_dir(&archives)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .at("run", "apt-get")?;
        let done = std::sync::atomic::AtomicBool::new(false);
        let output = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let output = child.wait_with_output();
                done.store(true, std::sync::atomic::Ordering::Release);
                output
            });
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                progress(folder_bytes(&archives));
                std::thread::sleep(Duration::from_millis(100));
            }
            watcher.join()
        });
        let failure = match output {
            Ok(output) => checked(output.at("run", "apt-get")?, "apt-get").err(),
            Err(_) => None,
        };
        for package in missing {
            let from = archives.join(&package.file);
            if !from.is_file() {
                return Err(Error::PackageUnreachable {
                    package: format!("{} {}", package.name, package.version),
                    reason: match failure {
                        Some(Error::ToolFailed { tail, .. }) => tail.lines().next().unwrap_or_default().to_owned(),
                        _ => "nothing was fetched".into(),
                    },
                });
            }
            let found = Digest::of(&fs::read(&from).at("read", &from)?);
            if found != package.sha256 {
                return Err(Error::CacheDiffers { path: from, found: found.to_string() });
            }
            fs::rename(&from, stored(debs, package)).at("move", &from)?;
        }
        Ok(())
    }
}

/// Where a package lies in the store.
pub fn stored(debs: &Path, package: &Package) -> PathBuf {
    debs.join(format!("{}.deb", package.sha256))
}

fn folder_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries.filter_map(|e| e.ok()?.metadata().ok()).filter(|m| m.is_file()).map(|m| m.len()).sum()
}

fn package_of(record: &str, files: &BTreeMap<String, String>) -> Result<Package, Error> {
    let field = |name: &str| {
        record.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": ")).map(str::trim).ok_or_else(|| {
            Error::Unusable {
                path: PathBuf::from("the package index"),
                reason: format!("a record has no {name}: {}", record.lines().next().unwrap_or_default()),
            }
        })
    };
    let unusable = |reason: &str| Error::Unusable { path: PathBuf::from("the package index"), reason: reason.into() };
    let (name, version) = (field("Package")?.to_owned(), field("Version")?.to_owned());
    let file = files
        .get(&format!("{name}={version}"))
        .cloned()
        .ok_or_else(|| unusable("it names a package nobody asked for"))?;
    Ok(Package {
        arch: field("Architecture")?.to_owned(),
        sha256: field("SHA256")?.parse().map_err(|_| unusable("a SHA256 is malformed"))?,
        size: field("Size")?.parse().map_err(|_| unusable("a Size is malformed"))?,
        record: record.trim().to_owned(),
        name,
        version,
        file,
    })
}

//! What people write: a recipe in YAML, read with positions so that every complaint names a line.
//!
//! ```yaml
//! name: minimal
//! version: 0.1.0
//! base:
//!   debian: {suite: trixie, kernel: linux-image-cloud-amd64, packages: [systemd-sysv, ostree]}
//! packages: [nftables]
//! files:
//!   - {path: /etc/motd, content: "hello\n"}
//! ```
//!
//! Reading is [`Recipe::parse`], pure; files that a recipe names are resolved in [`Recipe::load`].

use crate::error::{At, Error};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_saphyr::{Location, Spanned};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// A recipe is read whole; nobody writes a longer one by hand.
pub const RECIPE_BYTES_MAX: u64 = 1024 * 1024;

/// A file in the format people write. Unknown keys are errors.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Recipe")]
pub struct RecipeText {
    /// Name of the image: lower-case letters, digits, `-`.
    #[schemars(with = "String", regex(pattern = "^[a-z0-9][a-z0-9-]{0,63}$"))]
    name: Spanned<String>,
    /// Version of the image: letters, digits, `.+~-`.
    #[schemars(with = "String", regex(pattern = "^[0-9A-Za-z][0-9A-Za-z.+~-]{0,127}$"))]
    version: Spanned<String>,
    /// What the image is made on.
    base: BaseText,
    /// Debian packages to install, with what they depend on.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    packages: Vec<Spanned<String>>,
    /// Files to lay over the packages'.
    #[serde(default)]
    files: Vec<FileText>,
    /// systemd units to switch on or off for good.
    #[serde(default)]
    units: UnitsText,
    /// Users to make, through sysusers.
    #[serde(default)]
    users: Vec<UserText>,
    /// Arguments for the kernel.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    kernel_args: Vec<Spanned<String>>,
    /// Folder of public keys that the release is verified against, relative to the recipe.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    trust: Option<Spanned<String>>,
    /// Channel that the release is made for, unless --channel says otherwise.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    channel: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Base")]
struct BaseText {
    /// A Debian suite.
    debian: DebianText,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Debian")]
struct DebianText {
    /// Code name of the suite, such as `trixie`.
    #[schemars(with = "String")]
    suite: Spanned<String>,
    /// The package that brings the kernel.
    #[schemars(with = "String")]
    kernel: Spanned<String>,
    /// What makes the system start: init, ostree, dracut.
    #[schemars(with = "Vec<String>")]
    packages: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "File")]
struct FileText {
    /// Where it goes in the image: absolute, not under /var, /run, /tmp, /proc, /sys, /dev or /boot.
    #[schemars(with = "String")]
    path: Spanned<String>,
    /// A file or folder to copy, relative to the recipe.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    source: Option<Spanned<String>>,
    /// The content itself.
    #[serde(default)]
    content: Option<String>,
    /// Target of a symbolic link to make.
    #[serde(default)]
    link: Option<String>,
    /// Permission bits in octal, in quotes; default 0644, for folders 0755.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    mode: Option<Spanned<String>>,
    /// Owner, a name or number in the image; default root.
    #[serde(default)]
    user: Option<String>,
    /// Group, a name or number in the image; default root.
    #[serde(default)]
    group: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Units")]
struct UnitsText {
    /// Units to enable.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    enable: Vec<Spanned<String>>,
    /// Units to mask.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    mask: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "User")]
struct UserText {
    /// Name of the user and of its group.
    #[schemars(with = "String", regex(pattern = "^[a-z_][a-z0-9_-]{0,30}$"))]
    name: Spanned<String>,
    /// Number of both.
    #[schemars(with = "u32")]
    uid: Spanned<u32>,
    /// What the user is for.
    #[serde(default)]
    comment: String,
    /// Home directory; default `/`.
    #[serde(default)]
    home: Option<String>,
    /// Login shell; default none may log in.
    #[serde(default)]
    shell: Option<String>,
    /// Further groups.
    #[serde(default)]
    groups: Vec<String>,
}

/// A recipe that was read and holds together. Positions are kept for what is found out later.
#[derive(Debug, Clone, Serialize)]
pub struct Recipe {
    /// Name of the image.
    pub name: String,
    /// Version of the image.
    pub version: String,
    /// Suite of the base.
    pub suite: String,
    /// Kernel package.
    pub kernel: String,
    /// Every package that is named, the base's and the kernel's among them, sorted.
    pub packages: Vec<String>,
    /// Files, in the order of the recipe; the plan lists them with their digests.
    #[serde(skip)]
    pub files: Vec<FileEntry>,
    /// Units to enable.
    pub enable: Vec<String>,
    /// Units to mask.
    pub mask: Vec<String>,
    /// Users to make.
    pub users: Vec<User>,
    /// Kernel arguments.
    pub kernel_args: Vec<String>,
    /// Trust directory, resolved.
    #[serde(skip)]
    pub trust: Option<PathBuf>,
    /// Channel.
    pub channel: Option<String>,
    #[serde(skip)]
    positions: BTreeMap<String, (u64, u64)>,
    #[serde(skip)]
    file: String,
}

/// One entry of `files`.
#[derive(Debug, Clone)]
pub struct FileEntry {
    /// Absolute path in the image.
    pub path: String,
    /// What lies there.
    pub content: FileContent,
    /// Permission bits, if the recipe says.
    pub mode: Option<u32>,
    /// Owner.
    pub user: String,
    /// Group.
    pub group: String,
}

/// Where the bytes of a `files` entry come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileContent {
    /// A file or folder on this machine.
    Source(PathBuf),
    /// The text in the recipe.
    Inline(String),
    /// A symbolic link to this target.
    Link(String),
}

/// One entry of `users`.
#[derive(Debug, Clone, Serialize)]
pub struct User {
    /// Name.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// GECOS.
    pub comment: String,
    /// Home.
    pub home: Option<String>,
    /// Shell.
    pub shell: Option<String>,
    /// Further groups.
    pub groups: Vec<String>,
}

/// May a recipe name files outside its own folder?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutsideFiles {
    /// No: a recipe from somebody else must not read this machine.
    Refused,
    /// Yes, by `--allow-files-outside-the-recipe-folder`.
    AllowedByFlag,
}

/// Top-level folders that a commit keeps empty or that belong to the machine, and what to do instead.
const NOT_IN_AN_IMAGE: &[(&str, &str)] = &[
    (
        "/var",
        "a commit keeps nothing of /var; write a tmpfiles.d entry under /usr/lib/tmpfiles.d that makes it at boot",
    ),
    ("/run", "/run is empty at every boot; use tmpfiles.d"),
    ("/tmp", "/tmp is empty at every boot; use tmpfiles.d"),
    ("/proc", "/proc is the kernel's"),
    ("/sys", "/sys is the kernel's"),
    ("/dev", "/dev is the kernel's; use udev rules"),
    ("/boot", "/boot belongs to the deployment; the kernel lies in /usr/lib/modules"),
    ("/sysroot", "/sysroot belongs to OSTree"),
    ("/ostree", "/ostree belongs to OSTree"),
    ("/root", "/root lies in /var; use tmpfiles.d"),
    ("/home", "/home lies in /var; use tmpfiles.d"),
    ("/usr/etc", "write /etc; the build moves it to /usr/etc"),
];

impl Recipe {
    /// Reads and checks a recipe file.
    ///
    /// # Errors
    /// [`Error::Recipe`] with the position of what is wrong; [`Error::Io`] when it cannot be read.
    pub fn load(path: &Path, outside: OutsideFiles) -> Result<Recipe, Error> {
        let size = std::fs::metadata(path).at("read", path)?.len();
        if size > RECIPE_BYTES_MAX {
            return Err(Error::Unusable {
                path: path.to_owned(),
                reason: format!("a recipe is at most {RECIPE_BYTES_MAX} bytes"),
            });
        }
        let text = std::fs::read_to_string(path).at("read", path)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut recipe = Recipe::parse(&text, &path.display().to_string())?;
        recipe.resolve(folder, outside)?;
        Ok(recipe)
    }

    /// Reads a recipe from text; `file` is how complaints name it. Opens nothing.
    ///
    /// # Errors
    /// [`Error::Recipe`].
    pub fn parse(text: &str, file: &str) -> Result<Recipe, Error> {
        let raw: RecipeText = serde_saphyr::from_str(text).map_err(|e| syntax_error(&e, file))?;
        Checker { file }.check(raw)
    }

    /// A complaint about the thing at `key` (`packages/NAME`, `files/PATH`, …).
    pub fn complain(&self, key: &str, message: impl Into<String>, hint: impl Into<String>) -> Error {
        let (line, column) = self.positions.get(key).copied().unwrap_or((1, 1));
        Error::Recipe { file: self.file.clone(), line, column, message: message.into(), hint: hint.into() }
    }

    /// Turns the folders' relative paths into paths of this machine, and finds what is missing.
    fn resolve(&mut self, folder: &Path, outside: OutsideFiles) -> Result<(), Error> {
        let root = folder.canonicalize().at("read", folder)?;
        let mut files = std::mem::take(&mut self.files);
        for entry in &mut files {
            if let FileContent::Source(source) = &mut entry.content {
                let key = format!("files/{}/source", entry.path);
                *source = self.inside(&root, source, &key, outside)?;
            }
        }
        self.files = files;
        if let Some(trust) = self.trust.take() {
            let resolved = self.inside(&root, &trust, "trust", outside)?;
            if !resolved.is_dir() {
                return Err(self.complain("trust", "trust is not a folder", "name the folder that holds roles.yml"));
            }
            self.trust = Some(resolved);
        }
        Ok(())
    }

    fn inside(&self, root: &Path, named: &Path, key: &str, outside: OutsideFiles) -> Result<PathBuf, Error> {
        let found = root.join(named).canonicalize().map_err(|e| {
            self.complain(
                key,
                format!("{} cannot be read: {e}", named.display()),
                "paths in a recipe are relative to the recipe's own folder",
            )
        })?;
        if outside == OutsideFiles::Refused && !found.starts_with(root) {
            return Err(self.complain(
                key,
                format!("{} lies outside the recipe's folder", named.display()),
                "copy it beside the recipe, or pass --allow-files-outside-the-recipe-folder",
            ));
        }
        Ok(found)
    }
}

fn syntax_error(error: &serde_saphyr::Error, file: &str) -> Error {
    let (line, column) = error.location().map_or((1, 1), |l| (l.line().max(1), l.column().max(1)));
    let text = error.without_snippet().to_string();
    // The library repeats the position in its message; ours stands in front.
    let message = text.split(" at line ").next().unwrap_or(&text).trim().to_owned();
    let hint = unknown_key_hint(&text).unwrap_or_else(|| "`secai-build schema` prints every key and its type".into());
    Error::Recipe { file: file.to_owned(), line, column, message, hint }
}

/// "unknown field `pakages`, expected one of `name`, …" → the nearest name.
fn unknown_key_hint(text: &str) -> Option<String> {
    let mut names = text.split('`').skip(1).step_by(2);
    if !text.contains("unknown field") {
        return None;
    }
    let wrong = names.next()?;
    let nearest = names.min_by_key(|known| strsim::levenshtein(wrong, known))?;
    Some(if strsim::levenshtein(wrong, nearest) <= 3 {
        format!("did you mean `{nearest}`?")
    } else {
        "`secai-build schema` prints every key".into()
    })
}

fn position(l: &Location) -> (u64, u64) {
    (l.line().max(1), l.column().max(1))
}

struct Checker<'a> {
    file: &'a str,
}

impl Checker<'_> {
    fn fail<T>(&self, at: &Location, message: String, hint: &str) -> Result<T, Error> {
        let (line, column) = position(at);
        Err(Error::Recipe { file: self.file.into(), line, column, message, hint: hint.into() })
    }

    fn check(&self, raw: RecipeText) -> Result<Recipe, Error> {
        let mut positions = BTreeMap::new();
        let debian = raw.base.debian;
        if !is_name(&raw.name.value) {
            return self.fail(
                &raw.name.referenced,
                format!("`{}` is not a name for an image", raw.name.value),
                "use lower-case letters, digits and `-`, at most 64",
            );
        }
        if !is_version(&raw.version.value) {
            return self.fail(
                &raw.version.referenced,
                format!("`{}` is not a version", raw.version.value),
                "use letters, digits and `.+~-`, at most 128; put it in quotes if YAML takes it for a number",
            );
        }
        if !is_suite(&debian.suite.value) {
            return self.fail(
                &debian.suite.referenced,
                format!("`{}` is not the name of a suite", debian.suite.value),
                "use a code name such as trixie",
            );
        }
        positions.insert("suite".into(), position(&debian.suite.referenced));
        positions.insert("base.debian.packages".into(), position(&debian.suite.referenced));
        let kernel = debian.kernel.value.clone();
        let named = debian.packages.into_iter().chain(std::iter::once(debian.kernel)).chain(raw.packages);
        let packages = self.unique(named, "packages", &mut positions, is_package, "is not the name of a package")?;
        let enable = self.unique(raw.units.enable, "units", &mut positions, is_unit, "is not the name of a unit")?;
        let mask = self.unique(raw.units.mask, "units", &mut positions, is_unit, "is not the name of a unit")?;
        let kernel_args =
            self.unique(raw.kernel_args, "kernel_args", &mut positions, is_kernel_arg, "is not one kernel argument")?;
        let mut files = Vec::new();
        for file in raw.files {
            files.push(self.file_entry(file, &mut positions)?);
        }
        let users = self.users(raw.users, &mut positions)?;
        if let Some(trust) = &raw.trust {
            positions.insert("trust".into(), position(&trust.referenced));
        }
        if let Some(channel) = &raw.channel
            && !is_name(&channel.value)
        {
            return self.fail(
                &channel.referenced,
                format!("`{}` is not the name of a channel", channel.value),
                "use lower-case letters, digits and `-`",
            );
        }
        let mut packages = packages;
        packages.sort();
        Ok(Recipe {
            name: raw.name.value,
            version: raw.version.value,
            suite: debian.suite.value,
            kernel,
            packages,
            files,
            enable,
            mask,
            users,
            kernel_args,
            trust: raw.trust.map(|t| PathBuf::from(t.value)),
            channel: raw.channel.map(|c| c.value),
            positions,
            file: self.file.into(),
        })
    }

    /// Takes each value once, records where it stands.
    fn unique(
        &self,
        values: impl IntoIterator<Item = Spanned<String>>,
        list: &str,
        positions: &mut BTreeMap<String, (u64, u64)>,
        valid: fn(&str) -> bool,
        complaint: &str,
    ) -> Result<Vec<String>, Error> {
        let mut taken = Vec::new();
        for value in values {
            let at = value.referenced;
            if !valid(&value.value) {
                return self.fail(&at, format!("`{}` {complaint}", value.value), "see `secai-build schema`");
            }
            self.once(positions, format!("{list}/{}", value.value), &value.value, &at)?;
            taken.push(value.value);
        }
        Ok(taken)
    }

    fn once(
        &self,
        positions: &mut BTreeMap<String, (u64, u64)>,
        key: String,
        shown: &str,
        at: &Location,
    ) -> Result<(), Error> {
        if let Some((line, column)) = positions.insert(key, position(at)) {
            return self.fail(
                at,
                format!("`{shown}` stands twice"),
                &format!("it stands first at {line}:{column}; remove one"),
            );
        }
        Ok(())
    }

    fn file_entry(&self, file: FileText, positions: &mut BTreeMap<String, (u64, u64)>) -> Result<FileEntry, Error> {
        let at = file.path.referenced;
        let path = file.path.value;
        let parts: Vec<_> = Path::new(&path).components().collect();
        let normal = path.starts_with('/')
            && path.len() > 1
            && !path.ends_with('/')
            && !path.contains("//")
            && !path.contains("/./")
            && parts.iter().skip(1).all(|c| matches!(c, Component::Normal(_)))
            && !path.contains('\0');
        if !normal {
            return self.fail(
                &at,
                format!("`{path}` is not a path in the image"),
                "write it absolute, without `.`, `..`, `//` or a final `/`",
            );
        }
        if let Some((_, why)) = NOT_IN_AN_IMAGE.iter().find(|(p, _)| path == *p || path.starts_with(&format!("{p}/"))) {
            return self.fail(&at, format!("`{path}` cannot be in an image"), why);
        }
        self.once(positions, format!("files/{path}"), &path, &at)?;
        if let Some(source) = &file.source {
            positions.insert(format!("files/{path}/source"), position(&source.referenced));
        }
        let content = match (file.source, file.content, file.link) {
            (Some(s), None, None) => FileContent::Source(PathBuf::from(s.value)),
            (None, Some(c), None) => FileContent::Inline(c),
            (None, None, Some(l)) if !l.is_empty() && !l.contains('\0') => FileContent::Link(l),
            _ => {
                return self.fail(
                    &at,
                    format!("`{path}` needs exactly one of source, content, link"),
                    "for example `content: \"text\\n\"`",
                );
            }
        };
        let mode = match file.mode {
            None => None,
            Some(mode) => match u32::from_str_radix(&mode.value, 8) {
                Ok(bits) if bits <= 0o7777 && !matches!(content, FileContent::Link(_)) => Some(bits),
                _ => {
                    return self.fail(
                        &mode.referenced,
                        format!("`{}` is not a mode for this file", mode.value),
                        "write permission bits in octal and in quotes, such as \"0644\"; a link has none",
                    );
                }
            },
        };
        Ok(FileEntry {
            path,
            content,
            mode,
            user: file.user.unwrap_or_else(|| "root".into()),
            group: file.group.unwrap_or_else(|| "root".into()),
        })
    }

    fn users(&self, raw: Vec<UserText>, positions: &mut BTreeMap<String, (u64, u64)>) -> Result<Vec<User>, Error> {
        let mut users = Vec::new();
        for user in raw {
            if !is_user(&user.name.value) {
                return self.fail(
                    &user.name.referenced,
                    format!("`{}` is not the name of a user", user.name.value),
                    "use lower-case letters, digits, `_` and `-`, at most 31",
                );
            }
            self.once(positions, format!("users/{}", user.name.value), &user.name.value, &user.name.referenced)?;
            self.once(
                positions,
                format!("uids/{}", user.uid.value),
                &user.uid.value.to_string(),
                &user.uid.referenced,
            )?;
            // sysusers.d is a line of quoted words.
            let words = [Some(&user.comment), user.home.as_ref(), user.shell.as_ref()];
            if words.into_iter().flatten().chain(&user.groups).any(|w| w.contains(['"', '\n', '\\', ':'])) {
                return self.fail(
                    &user.name.referenced,
                    format!("an entry of `{}` holds a quote, colon, backslash or line break", user.name.value),
                    "use plain words",
                );
            }
            users.push(User {
                name: user.name.value,
                uid: user.uid.value,
                comment: user.comment,
                home: user.home,
                shell: user.shell,
                groups: user.groups,
            });
        }
        Ok(users)
    }
}

fn is_name(s: &str) -> bool {
    s.len() <= 64
        && s.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn is_version(s: &str) -> bool {
    s.len() <= 128
        && s.starts_with(|c: char| c.is_ascii_alphanumeric())
        && s.chars().all(|c| c.is_ascii_alphanumeric() || ".+~-".contains(c))
}

fn is_suite(s: &str) -> bool {
    is_name(s)
}

fn is_package(s: &str) -> bool {
    s.len() >= 2
        && s.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
}

fn is_unit(s: &str) -> bool {
    s.contains('.')
        && !s.starts_with(['-', '.'])
        && s.chars().all(|c| c.is_ascii_alphanumeric() || "@:_.\\-".contains(c))
}

fn is_user(s: &str) -> bool {
    s.len() <= 31
        && s.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
}

fn is_kernel_arg(s: &str) -> bool {
    !s.is_empty() && s.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '\\')
}

/// The JSON Schema of a recipe, for editors and for `manifests/schema/recipe.json`.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(RecipeText).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name: minimal\nversion: '1'\nbase:\n  debian: {suite: trixie, kernel: linux-image-amd64, packages: [ostree]}\n";

    fn complaint(text: &str) -> (u64, u64, String, String) {
        match Recipe::parse(text, "r.yml") {
            Err(Error::Recipe { line, column, message, hint, .. }) => (line, column, message, hint),
            other => panic!("expected a complaint, got {other:?}"),
        }
    }

    #[test]
    fn a_good_recipe_is_read() {
        let r = Recipe::parse(GOOD, "r.yml").unwrap();
        assert_eq!(r.packages, ["linux-image-amd64", "ostree"]);
    }

    #[test]
    fn every_complaint_names_its_place() {
        let cases = [
            ("pakages: [x]\n", 5, 1, "unknown field", "packages"),
            ("packages: nftables\n", 5, 11, "", ""),
            ("packages: [ab, ab]\n", 5, 16, "twice", "5:12"),
            ("packages: [ostree]\n", 5, 12, "twice", "4:"),
            ("packages: ['-o']\n", 5, 12, "not the name of a package", ""),
            ("files:\n  - {path: /etc/x}\n", 6, 12, "exactly one", ""),
            ("files:\n  - {path: /var/x, content: a}\n", 6, 12, "cannot be in an image", "tmpfiles"),
            ("files:\n  - {path: /etc/../x, content: a}\n", 6, 12, "not a path", ""),
            ("files:\n  - {path: /etc/x, content: a, mode: '999'}\n", 6, 38, "not a mode", ""),
            ("files:\n  - {path: /etc/x, content: a}\n  - {path: /etc/x, content: b}\n", 7, 12, "twice", "6:12"),
            ("units: {enable: [a.service], mask: [a.service]}\n", 5, 37, "twice", ""),
            ("users:\n  - {name: a, uid: 1000}\n  - {name: b, uid: 1000}\n", 7, 23, "twice", ""),
            ("users:\n  - {name: a, uid: x}\n", 6, 20, "", ""),
            ("name: again\n", 5, 1, "duplicate", ""),
        ];
        for (extra, line, column, message, hint) in cases {
            let got = complaint(&format!("{GOOD}{extra}"));
            assert_eq!((got.0, got.1), (line, column), "{extra}: {got:?}");
            assert!(got.2.contains(message) && got.3.contains(hint), "{extra}: {got:?}");
        }
    }

    #[test]
    fn a_missing_key_and_an_empty_file_are_complaints() {
        assert!(complaint("name: x\n").2.contains("missing field"));
        let _ = complaint("");
        let _ = complaint("- a\n");
    }

    #[test]
    fn files_outside_need_the_flag() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        let recipe = inner.join("r.yml");
        std::fs::write(&recipe, format!("{GOOD}files:\n  - {{path: /etc/x, source: ../secret}}\n")).unwrap();
        let refused = Recipe::load(&recipe, OutsideFiles::Refused).unwrap_err();
        assert!(refused.to_string().contains("outside"), "{refused}");
        Recipe::load(&recipe, OutsideFiles::AllowedByFlag).unwrap();
        // A link inside the folder that leads out is the same thing.
        std::os::unix::fs::symlink("../secret", inner.join("link")).unwrap();
        std::fs::write(&recipe, format!("{GOOD}files:\n  - {{path: /etc/x, source: link}}\n")).unwrap();
        assert!(Recipe::load(&recipe, OutsideFiles::Refused).is_err());
        std::fs::write(&recipe, format!("{GOOD}files:\n  - {{path: /etc/x, source: absent}}\n")).unwrap();
        let missing = Recipe::load(&recipe, OutsideFiles::Refused).unwrap_err();
        assert!(missing.to_string().contains(":6:28: absent cannot be read"), "{missing}");
    }
}

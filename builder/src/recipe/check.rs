//! From a recipe as typed to one that holds together: each rule, with the position and a hint when it is broken.

use super::explain::Explained;
use super::merge::{Merged, Place, Source, Stated, complaint, twice};
use super::text::{FileText, UserText};
use super::{FileContent, FileEntry, Recipe, User};
use crate::error::Error;
use secai_verifier::release::{is_name, is_version};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

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
    ("/mnt", "/mnt lies in /var; use tmpfiles.d"),
    ("/media", "/media lies in /run; use tmpfiles.d"),
    ("/opt", "/opt lies in /var; lay programs in /usr/lib/NAME"),
    ("/srv", "/srv lies in /var; use tmpfiles.d"),
    ("/etc/machine-id", "each device makes its own"),
    ("/bin", "write /usr/bin: /bin is a link to it"),
    ("/sbin", "write /usr/sbin: /sbin is a link to it"),
    ("/lib", "write /usr/lib: /lib is a link to it"),
    ("/lib64", "write /usr/lib64: /lib64 is a link to it"),
    ("/usr/etc", "write /etc; the build moves it to /usr/etc"),
];

/// Why a path cannot be in an image, and what to do instead; none when it can.
pub(crate) fn not_in_an_image(path: &str) -> Option<&'static str> {
    let under = |p: &str| path.strip_prefix(p).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    NOT_IN_AN_IMAGE.iter().find(|(p, _)| under(p)).map(|(_, why)| *why)
}

pub(super) fn syntax_error(error: &serde_saphyr::Error, file: &str) -> Error {
    let (line, column) = error.location().map_or((1, 1), |l| (l.line().max(1), l.column().max(1)));
    let text = error.without_snippet().to_string();
    // The library repeats the position in its message; ours stands in front.
    let mut message = text.split(" at line ").next().unwrap_or(&text).trim().to_owned();
    let mut hint =
        unknown_key_hint(&text).unwrap_or_else(|| "`secai-build schema` prints every key and its type".into());
    for (term, plain) in
        [("sequence start", "a list"), ("mapping start", "keys and values"), ("string scalar", "a text")]
    {
        message = message.replace(&format!("expected {term}"), &format!("expected {plain}"));
    }
    if let Some(key) = message.strip_prefix("duplicate mapping key: ").and_then(|rest| rest.split(',').next()) {
        message = format!("`{key}` stands twice");
        hint = "a key stands once; remove one".into();
    }
    Error::Recipe { file: file.to_owned(), line, column, message, hint }
}

/// "unknown field `pakages`, expected one of name, version" → the nearest name.
fn unknown_key_hint(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("unknown field `")?;
    let (wrong, rest) = rest.split_once('`')?;
    let known = rest.trim_start_matches(", expected").trim_start_matches(" one of");
    let names = known.split([',', ' ', '`']).filter(|n| !n.is_empty() && *n != "or");
    let nearest = names.min_by_key(|known| strsim::levenshtein(wrong, known))?;
    // Farther than this it is another word, not a slip.
    const SLIP: usize = 3;
    Some(if strsim::levenshtein(wrong, nearest) <= SLIP {
        format!("did you mean `{nearest}`?")
    } else {
        "`secai-build schema` prints every key".into()
    })
}

/// Numbers a recipe may give to users; 0 is root's, above begin ranges of systemd and of containers.
const UIDS: std::ops::RangeInclusive<u32> = 1..=60_000;

/// Bits of a mode that let a program run with more rights than who starts it.
const SET_ID: u32 = 0o6000;

/// Where things stand, by their key.
type Positions = BTreeMap<String, Place>;

pub(super) struct Checker<'a> {
    /// The files that what is checked stands in.
    pub(super) sources: &'a [Source],
}

impl Checker<'_> {
    fn fail<T>(&self, at: Place, message: String, hint: &str) -> Result<T, Error> {
        Err(complaint(self.sources, at, message, hint))
    }

    pub(super) fn check(&self, merged: Merged) -> Result<Recipe, Error> {
        let explained = Explained::of(&merged, self.sources);
        let mut positions = Positions::new();
        let name = self.there(merged.name, "name")?;
        let version = self.there(merged.version, "version")?;
        let suite = self.there(merged.suite, "base.debian.suite")?;
        let kernel = self.there(merged.kernel, "base.debian.kernel")?;
        let base_packages = self.there(merged.base_packages, "base.debian.packages")?;
        if !is_name(&name.value) {
            return self.fail(
                name.at,
                format!("`{}` is not a name for an image", name.value),
                "use lower-case letters, digits and `-`, at most 64",
            );
        }
        if !is_version(&version.value) {
            return self.fail(
                version.at,
                format!("`{}` is not a version", version.value),
                "use letters, digits and `.+~-`, at most 128; put it in quotes if YAML takes it for a number",
            );
        }
        if !is_name(&suite.value) {
            return self.fail(
                suite.at,
                format!("`{}` is not the name of a suite", suite.value),
                "use a code name such as trixie",
            );
        }
        positions.insert("suite".into(), suite.at);
        positions.insert("base.debian.packages".into(), suite.at);
        let named = base_packages.into_iter().chain(std::iter::once(kernel.clone())).chain(merged.packages);
        let packages = self.unique(named, "packages", &mut positions, is_package, "is not the name of a package")?;
        let services =
            self.unique(merged.services, "services", &mut positions, is_service, "is not the name of a service")?;
        let enable = self.unique(merged.enable, "units", &mut positions, is_unit, "is not the name of a unit")?;
        let mask = self.unique(merged.mask, "units", &mut positions, is_unit, "is not the name of a unit")?;
        let kernel_args = self.unique(
            merged.kernel_args,
            "kernel_args",
            &mut positions,
            is_kernel_arg,
            "is not one kernel argument",
        )?;
        let set_id = merged.set_id.map(|(_, list)| self.set_id(list, &mut positions)).transpose()?;
        let mut files = Vec::new();
        for file in merged.files {
            files.push(self.file_entry(file, set_id.as_deref(), &mut positions)?);
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let users = self.users(merged.users, &mut positions)?;
        if let Some(trust) = &merged.trust {
            positions.insert("trust".into(), trust.at);
        }
        if let Some(channel) = &merged.channel
            && !is_name(&channel.value)
        {
            return self.fail(
                channel.at,
                format!("`{}` is not the name of a channel", channel.value),
                "use lower-case letters, digits and `-`",
            );
        }
        let mut packages = packages;
        packages.sort();
        Ok(Recipe {
            name: name.value,
            version: version.value,
            suite: suite.value,
            kernel: kernel.value,
            packages,
            services,
            files,
            enable,
            mask,
            users,
            set_id,
            kernel_args,
            trust: merged.trust.map(|t| PathBuf::from(t.value)),
            channel: merged.channel.map(|c| c.value),
            explained,
            positions,
            sources: self.sources.to_vec(),
        })
    }

    /// What no recipe can do without.
    fn there<T>(&self, stated: Option<T>, key: &str) -> Result<T, Error> {
        let Some(stated) = stated else {
            return self.fail(
                Place::BEGINNING,
                format!("missing field `{key}`"),
                "state it here, or in a recipe that this one extends",
            );
        };
        Ok(stated)
    }

    /// Takes each value once, records where it stands.
    fn unique(
        &self,
        values: impl IntoIterator<Item = Stated<String>>,
        list: &str,
        positions: &mut Positions,
        valid: fn(&str) -> bool,
        complaint: &str,
    ) -> Result<Vec<String>, Error> {
        let mut taken = Vec::new();
        for Stated { value, at } in values {
            if !valid(&value) {
                return self.fail(at, format!("`{value}` {complaint}"), "see `secai-build schema`");
            }
            self.once(positions, format!("{list}/{value}"), &value, at)?;
            taken.push(value);
        }
        Ok(taken)
    }

    fn once(&self, positions: &mut Positions, key: String, shown: &str, at: Place) -> Result<(), Error> {
        match positions.insert(key, at) {
            Some(first) => Err(twice(self.sources, shown, first, at)),
            None => Ok(()),
        }
    }

    /// A path that can be in an image.
    fn path(&self, path: &str, at: Place) -> Result<(), Error> {
        let parts: Vec<_> = Path::new(path).components().collect();
        let normal = path.starts_with('/')
            && path.len() > 1
            && !path.ends_with('/')
            && !path.contains("//")
            && !path.contains("/./")
            && parts.iter().skip(1).all(|c| matches!(c, Component::Normal(_)))
            && !path.contains('\0');
        if !normal {
            return self.fail(
                at,
                format!("`{path}` is not a path in the image"),
                "write it absolute, without `.`, `..`, `//` or a final `/`",
            );
        }
        match not_in_an_image(path) {
            Some(why) => self.fail(at, format!("`{path}` cannot be in an image"), why),
            None => Ok(()),
        }
    }

    fn set_id(&self, list: Vec<Stated<String>>, positions: &mut Positions) -> Result<Vec<String>, Error> {
        let mut paths = Vec::new();
        for Stated { value, at } in list {
            self.path(&value, at)?;
            self.once(positions, format!("set_id/{value}"), &value, at)?;
            paths.push(value);
        }
        paths.sort();
        Ok(paths)
    }

    fn file_entry(
        &self,
        stated: Stated<FileText>,
        set_id: Option<&[String]>,
        positions: &mut Positions,
    ) -> Result<FileEntry, Error> {
        let Stated { value: file, at } = stated;
        let path = file.path.value;
        self.path(&path, at)?;
        self.once(positions, format!("files/{path}"), &path, at)?;
        if let Some(source) = &file.source {
            positions.insert(format!("files/{path}/source"), Place::of(at.file, &source.referenced));
        }
        let content = match (file.source, file.content, file.link) {
            (Some(s), None, None) => FileContent::Source(PathBuf::from(s.value)),
            (None, Some(c), None) => FileContent::Inline(c),
            (None, None, Some(l)) if !l.is_empty() && !l.contains('\0') => FileContent::Link(l),
            _ => {
                return self.fail(
                    at,
                    format!("`{path}` needs exactly one of source, content, link"),
                    "for example `content: \"text\\n\"`",
                );
            }
        };
        let mode = match file.mode {
            None => None,
            Some(mode) => match u32::from_str_radix(&mode.value, 8) {
                Ok(bits) if bits & SET_ID != 0 && set_id.is_some_and(|named| !named.contains(&path)) => {
                    return self.fail(
                        Place::of(at.file, &mode.referenced),
                        format!("`{}` has a set-id bit, and `set_id` does not name `{path}`", mode.value),
                        "name it there, or leave the bit out",
                    );
                }
                Ok(bits) if bits <= 0o7777 && !matches!(content, FileContent::Link(_)) => Some(bits),
                _ => {
                    return self.fail(
                        Place::of(at.file, &mode.referenced),
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

    fn users(&self, list: Vec<Stated<UserText>>, positions: &mut Positions) -> Result<Vec<User>, Error> {
        let mut users = Vec::new();
        for Stated { value: user, at } in list {
            if !is_user(&user.name.value) {
                return self.fail(
                    at,
                    format!("`{}` is not the name of a user", user.name.value),
                    "use lower-case letters, digits, `_` and `-`, at most 31",
                );
            }
            self.once(positions, format!("users/{}", user.name.value), &user.name.value, at)?;
            let Some(uid) = user.uid else {
                return self.fail(
                    at,
                    format!("`{}` needs a `uid`", user.name.value),
                    "a number that is the same on every device: 1 to 60000",
                );
            };
            let uid = Stated { at: Place::of(at.file, &uid.referenced), value: uid.value };
            self.once(positions, format!("uids/{}", uid.value), &uid.value.to_string(), uid.at)?;
            if !UIDS.contains(&uid.value) {
                return self.fail(
                    uid.at,
                    format!("{} is not a number for a user", uid.value),
                    "use 1 to 60000: what lies above belongs to systemd and to containers",
                );
            }
            let absolute =
                |p: &Option<String>| p.as_ref().is_none_or(|p| p.starts_with('/') && !p.contains(char::is_whitespace));
            if !absolute(&user.home) || !absolute(&user.shell) {
                return self.fail(
                    at,
                    format!("home and shell of `{}` must be absolute paths without spaces", user.name.value),
                    "leave them out for a user that nobody logs in as",
                );
            }
            if let Some(group) = user.groups.iter().find(|g| !is_user(g)) {
                return self.fail(
                    at,
                    format!("`{group}` is not the name of a group"),
                    "use lower-case letters, digits, `_` and `-`",
                );
            }
            // sysusers.d is a line of quoted words.
            let words = [Some(&user.comment), user.home.as_ref(), user.shell.as_ref()];
            if words.into_iter().flatten().chain(&user.groups).any(|w| w.contains(['"', '\n', '\\', ':', '%'])) {
                return self.fail(
                    at,
                    format!("an entry of `{}` holds a quote, colon, backslash or line break", user.name.value),
                    "use plain words",
                );
            }
            users.push(User {
                name: user.name.value,
                uid: uid.value,
                comment: user.comment,
                home: user.home,
                shell: user.shell,
                groups: user.groups,
            });
        }
        Ok(users)
    }
}

fn is_package(s: &str) -> bool {
    s.len() >= 2
        && s.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
}

fn is_service(s: &str) -> bool {
    s.starts_with(|c: char| c.is_ascii_lowercase())
        && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
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

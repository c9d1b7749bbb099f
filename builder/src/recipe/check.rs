//! From a recipe as typed to one that holds together: each rule, with the position and a hint when it is broken.

use super::text::{FileText, RecipeText, UserText};
use super::{FileContent, FileEntry, Recipe, User};
use crate::error::Error;
use secai_verifier::release::{is_name, is_version};
use serde_saphyr::{Location, Spanned};
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

fn position(l: &Location) -> (u64, u64) {
    (l.line().max(1), l.column().max(1))
}

/// Numbers a recipe may give to users; 0 is root's, above begin ranges of systemd and of containers.
const UIDS: std::ops::RangeInclusive<u32> = 1..=60_000;

pub(super) struct Checker<'a> {
    pub(super) file: &'a str,
}

impl Checker<'_> {
    fn fail<T>(&self, at: &Location, message: String, hint: &str) -> Result<T, Error> {
        let (line, column) = position(at);
        Err(Error::Recipe { file: self.file.into(), line, column, message, hint: hint.into() })
    }

    pub(super) fn check(&self, raw: RecipeText) -> Result<Recipe, Error> {
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
        if !is_name(&debian.suite.value) {
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
        let services =
            self.unique(raw.services, "services", &mut positions, is_service, "is not the name of a service")?;
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
            services,
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
        if let Some(why) = not_in_an_image(&path) {
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
            if !UIDS.contains(&user.uid.value) {
                return self.fail(
                    &user.uid.referenced,
                    format!("{} is not a number for a user", user.uid.value),
                    "use 1 to 60000: what lies above belongs to systemd and to containers",
                );
            }
            let absolute =
                |p: &Option<String>| p.as_ref().is_none_or(|p| p.starts_with('/') && !p.contains(char::is_whitespace));
            if !absolute(&user.home) || !absolute(&user.shell) {
                return self.fail(
                    &user.name.referenced,
                    format!("home and shell of `{}` must be absolute paths without spaces", user.name.value),
                    "leave them out for a user that nobody logs in as",
                );
            }
            if let Some(group) = user.groups.iter().find(|g| !is_user(g)) {
                return self.fail(
                    &user.name.referenced,
                    format!("`{group}` is not the name of a group"),
                    "use lower-case letters, digits, `_` and `-`",
                );
            }
            // sysusers.d is a line of quoted words.
            let words = [Some(&user.comment), user.home.as_ref(), user.shell.as_ref()];
            if words.into_iter().flatten().chain(&user.groups).any(|w| w.contains(['"', '\n', '\\', ':', '%'])) {
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

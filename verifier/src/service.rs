//! A service's page, `manifests/services/NAME.yml`: who it is, who may ask it what, what it may have recorded, what it
//! may use up. The daemon decides by it, the units are compared with it, the firewall's rules will be rendered from it.
//!
//! [`Services`] are pages that hold together: no user, socket or name is two services'.

use crate::audit::kind;
use crate::tar;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A page is a screenful; this is far above any.
pub const PAGE_BYTES_MAX: usize = 64 << 10;
/// Users of the system that no package picks by itself (Debian gives those of packages from 100 on, downwards from 999).
pub const SERVICE_UID_MIN: u32 = 900;
/// The last user of the system; the next is a person.
pub const SERVICE_UID_MAX: u32 = 999;
/// Whom a service's users, and only they, begin with.
const USER_PREFIX: &str = "secure-ai-";
/// Whom those run as that change what only root may; the unit takes away the rest of what root may.
const ROOT: (&str, u32) = ("root", 0);
/// `sun_path`, without its end.
const SOCKET_PATH_MAX: usize = 107;
/// No service may need more than this, the inference worker aside, which has no page yet.
const MEMORY_MAX: u64 = 4 << 30;

/// Why a page, or several together, are not taken.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Above [`PAGE_BYTES_MAX`].
    #[error("the page has {0} bytes, more than {PAGE_BYTES_MAX}")]
    TooLarge(usize),
    /// Not the YAML that is expected.
    #[error("the page is not what is expected: {0}")]
    Shape(#[from] serde_yaml::Error),
    /// A value that cannot be.
    #[error("`{key}` of {service}: {reason}")]
    Value {
        /// Which service.
        service: String,
        /// Which key.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Two pages say the same of what must be one's own.
    #[error("{first} and {second} have the same `{key}`, {value}")]
    Shared {
        /// Which key.
        key: &'static str,
        /// Its value.
        value: String,
        /// One service.
        first: String,
        /// The other.
        second: String,
    },
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// `NAME` of the file, of `secai-NAME` and of `secure-ai-NAME`.
    pub name: String,
    /// What it is for, in a line.
    pub about: String,
    /// Its unit.
    pub unit: String,
    /// What starts it besides: its socket or timer unit.
    pub started_by: String,
    /// Its user and group.
    pub user: String,
    /// The number of both.
    pub uid: u32,
    /// Where it listens; none for one that only runs.
    #[serde(default)]
    pub socket: Option<Socket>,
    /// Who may ask what, by the name of the request. Who is not named may not.
    #[serde(default)]
    pub callers: BTreeMap<String, Vec<Uids>>,
    /// Who may have which kind recorded through the audit daemon without being a service: people. Only on its page.
    #[serde(default)]
    pub entries: BTreeMap<String, Vec<Uids>>,
    /// The kinds of audit entries that this service may have recorded.
    #[serde(default)]
    pub audit: BTreeSet<String>,
    /// What lies on the device for it besides files that carry its name: absolute, below `/usr`.
    #[serde(default)]
    pub files: BTreeSet<String>,
    /// What it may use (`MemoryMax=`).
    pub memory: Memory,
    /// What `systemd-analyze security` may give its unit at most.
    pub security: Exposure,
}

/// Where a service listens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Socket {
    /// Below `/run/secure-ai/`.
    pub path: String,
    /// What for.
    #[serde(rename = "type")]
    pub kind: SocketKind,
}

/// A type of socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketKind {
    /// `SOCK_SEQPACKET`.
    Packets,
}

/// Users from one to another, both among them: `957`, `1000-60000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uids {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

impl Uids {
    /// Is this user among them?
    pub fn contains(self, uid: u32) -> bool {
        (self.first..=self.last).contains(&uid)
    }
}

impl fmt::Display for Uids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl<'de> Deserialize<'de> for Uids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Uids;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a user's number, or FIRST-LAST")
            }

            fn visit_u64<E: de::Error>(self, uid: u64) -> Result<Uids, E> {
                // The last number is the kernel's word for nobody.
                match u32::try_from(uid) {
                    Ok(uid) if uid != u32::MAX => Ok(Uids { first: uid, last: uid }),
                    _ => Err(E::custom(format!("{uid} is no user"))),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Uids, E> {
                let number =
                    |text: &str| text.bytes().all(|it| it.is_ascii_digit()).then(|| text.parse().ok()).flatten();
                match text.split_once('-').map(|(first, last)| (number(first), number(last))) {
                    Some((Some(first), Some(last))) if first < last && last != u32::MAX => Ok(Uids { first, last }),
                    _ => Err(E::custom(format!("`{text}` is not FIRST-LAST"))),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Bytes of memory, written `128M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory(pub u64);

impl std::str::FromStr for Memory {
    type Err = String;

    /// As systemd writes it, in whole mebibytes or gibibytes.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not like 128M or 2G");
        let unit = match text.bytes().last() {
            Some(b'M') => 1 << 20,
            Some(b'G') => 1 << 30,
            _ => return Err(bad()),
        };
        let digits =
            text.get(..text.len() - 1).filter(|it| it.bytes().all(|it| it.is_ascii_digit())).ok_or_else(bad)?;
        let bytes = digits.parse::<u64>().ok().and_then(|it| it.checked_mul(unit)).ok_or_else(bad)?;
        if (1..=MEMORY_MAX).contains(&bytes) { Ok(Self(bytes)) } else { Err(bad()) }
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// An exposure as `systemd-analyze security` counts it, 0.0 to 10.0, in tenths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Exposure(pub u8);

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

impl<'de> Deserialize<'de> for Exposure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        (0..=100_u8)
            .find(|tenths| f64::from(*tenths) / 10.0 == number)
            .map(Self)
            .ok_or_else(|| de::Error::custom(format!("{number} is not between 0.0 and 10.0 with one decimal")))
    }
}

impl Service {
    /// Reads a page.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ServiceError> {
        if bytes.len() > PAGE_BYTES_MAX {
            return Err(ServiceError::TooLarge(bytes.len()));
        }
        let service: Self = serde_yaml::from_slice(bytes)?;
        service.validate()?;
        Ok(service)
    }

    /// Does it run as root? Then its user is no sign of it: others are root too.
    pub fn is_root(&self) -> bool {
        (self.user.as_str(), self.uid) == ROOT
    }

    /// May this user ask this? Who is not named may not.
    pub fn may(&self, request: &str, uid: u32) -> bool {
        self.callers.get(request).is_some_and(|uids| uids.iter().any(|it| it.contains(uid)))
    }

    /// Does this file of the device belong to it? Its page says so, or a part of the path is called `secure-ai-NAME`
    /// and an ending (`.service`, `@.service`, `.conf`, `.service.d`).
    pub fn owns(&self, path: &str) -> bool {
        let own = format!("{USER_PREFIX}{}", self.name);
        let is_named = |part: &str| part.strip_prefix(&own).is_some_and(|rest| rest.starts_with(['.', '@']));
        self.files.contains(path) || path.split('/').any(is_named)
    }

    fn validate(&self) -> Result<(), ServiceError> {
        let wrong = |key, reason: String| Err(ServiceError::Value { service: self.name.clone(), key, reason });
        let is_word = |text: &str| {
            text.starts_with(|it: char| it.is_ascii_lowercase())
                && text.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-' || it == b'_')
        };
        let Self { name, .. } = self;
        if !is_word(name) {
            return wrong("name", "not a lower-case word".into());
        }
        if self.about.trim().is_empty() || self.about.lines().count() != 1 {
            return wrong("about", "not one line".into());
        }
        let own = format!("{USER_PREFIX}{name}");
        let is_root = self.is_root();
        if !is_root && self.user != own {
            return wrong("user", format!("is not {own}"));
        }
        if self.unit != format!("{own}.service") {
            return wrong("unit", format!("is not {own}.service"));
        }
        // A privileged service without a socket has to have run before anything else: it is enabled itself.
        let starter = match (&self.socket, is_root) {
            (Some(_), _) => "socket",
            (None, true) => "service",
            (None, false) => "timer",
        };
        if self.started_by != format!("{own}.{starter}") {
            return wrong("started_by", format!("is not {own}.{starter}"));
        }
        if !is_root && !(SERVICE_UID_MIN..=SERVICE_UID_MAX).contains(&self.uid) {
            return wrong("uid", format!("{} is not from {SERVICE_UID_MIN} to {SERVICE_UID_MAX}", self.uid));
        }
        match &self.socket {
            Some(socket) if socket.path != format!("/run/secure-ai/{name}.sock") => {
                return wrong("socket", format!("is not /run/secure-ai/{name}.sock"));
            }
            Some(socket) if socket.path.len() > SOCKET_PATH_MAX => return wrong("socket", "is too long a path".into()),
            None if !self.callers.is_empty() => return wrong("callers", "nobody can ask without a socket".into()),
            _ => {}
        }
        for (request, uids) in &self.callers {
            if !is_word(request) || uids.is_empty() {
                return wrong("callers", format!("`{request}` is no request, or nobody may ask it"));
            }
        }
        for kind in self.entries.keys().chain(&self.audit) {
            if kind::find(kind).is_none() {
                return wrong("audit", format!("there is no kind `{kind}`"));
            }
        }
        if let Some(kind) = self.entries.keys().find(|kind| is_the_writers(kind)) {
            return wrong("entries", format!("`{kind}` is the writer's own"));
        }
        if let Some(kind) = self.audit.iter().find(|kind| is_the_writers(kind) && name != WRITER) {
            return wrong("audit", format!("`{kind}` is the writer's own"));
        }
        if !self.entries.is_empty() && name != WRITER {
            return wrong("entries", "belongs on the audit daemon's page".into());
        }
        let below_usr = |path: &str| path.strip_prefix("/usr/").is_some_and(|rest| tar::check_path(rest).is_ok());
        if let Some(path) = self.files.iter().find(|path| !below_usr(path)) {
            return wrong("files", format!("`{path}` is no path below /usr"));
        }
        Ok(())
    }
}

/// The service that writes the chain.
const WRITER: &str = "audit";

/// Kinds about the chain itself: nobody asks for them.
fn is_the_writers(kind: &str) -> bool {
    kind.starts_with("audit.")
}

/// Every page of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Services(Vec<Service>);

impl Services {
    /// Pages that hold together, by name.
    ///
    /// # Errors
    /// [`ServiceError::Shared`].
    pub fn new(mut pages: Vec<Service>) -> Result<Self, ServiceError> {
        pages.sort_by(|one, other| one.name.cmp(&other.name));
        for (at, second) in pages.iter().enumerate() {
            for first in &pages[..at] {
                let of = |page: &Service| -> [(&'static str, String); 2] {
                    // User, unit and socket follow from the name.
                    let uid = if page.is_root() { format!("root, as {}", page.name) } else { page.uid.to_string() };
                    [("name", page.name.clone()), ("uid", uid)]
                };
                if let Some((key, value)) = of(first).into_iter().zip(of(second)).find(|(a, b)| a == b).map(|it| it.0) {
                    let (first, second) = (first.name.clone(), second.name.clone());
                    return Err(ServiceError::Shared { key, value, first, second });
                }
            }
        }
        Ok(Self(pages))
    }

    /// The pages, by name.
    pub fn pages(&self) -> &[Service] {
        &self.0
    }

    /// The page of this name.
    pub fn named(&self, name: &str) -> Option<&Service> {
        self.0.iter().find(|page| page.name == name)
    }

    /// The page of the service that has this user to itself.
    pub fn of_user(&self, uid: u32) -> Option<&Service> {
        self.0.iter().find(|page| page.uid == uid && !page.is_root())
    }

    /// The service that this user is when it has this kind recorded. Root is whichever may.
    pub fn who_records(&self, uid: u32, kind: &str) -> Option<&Service> {
        let roots = || self.0.iter().find(|page| page.uid == uid && page.is_root() && page.audit.contains(kind));
        self.of_user(uid).or_else(roots)
    }

    /// May this user have this kind recorded by asking for it? What the writer notes of itself nobody may.
    pub fn may_append(&self, uid: u32, kind: &str) -> bool {
        let as_service = || self.who_records(uid, kind).is_some_and(|page| page.audit.contains(kind));
        let people = || self.named(WRITER).and_then(|page| page.entries.get(kind));
        !is_the_writers(kind) && (as_service() || people().is_some_and(|uids| uids.iter().any(|it| it.contains(uid))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUDIT: &str = "
name: audit
about: writes
unit: secure-ai-audit.service
started_by: secure-ai-audit.socket
user: secure-ai-audit
uid: 956
socket: {path: /run/secure-ai/audit.sock, type: packets}
callers: {status: [0, 957, 1000-60000]}
entries: {owner.note: [0, 1000-60000]}
audit: [audit.start, svc.state]
memory: 128M
security: 1.5
";
    const WITNESS: &str = "
name: witness
about: remembers
unit: secure-ai-witness.service
started_by: secure-ai-witness.timer
user: secure-ai-witness
uid: 960
memory: 64M
security: 1.2
";

    fn page(text: &str) -> Service {
        Service::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn who_may_what_is_only_what_is_named() {
        let audit = page(AUDIT);
        assert_eq!((audit.memory, audit.security), (Memory(128 << 20), Exposure(15)));
        for (uid, may) in
            [(0, true), (957, true), (1000, true), (60000, true), (999, false), (60001, false), (956, false)]
        {
            assert_eq!(audit.may("status", uid), may, "{uid}");
            assert!(!audit.may("forget", uid), "{uid}: nobody is named");
        }
        let services = Services::new(vec![page(WITNESS), audit]).unwrap();
        for (uid, kind, may) in [
            (0, "owner.note", true),
            (1000, "owner.note", true),
            (956, "owner.note", false),
            (960, "owner.note", false),
            (956, "svc.state", true),
            (0, "svc.state", false),
            (960, "svc.state", false),
            (1000, "svc.state", false),
            (956, "audit.start", false),
            (0, "audit.start", false),
            (0, "no.kind", false),
        ] {
            assert_eq!(services.may_append(uid, kind), may, "{uid} {kind}");
        }
        assert_eq!(services.of_user(960).unwrap().name, "witness");
        assert!(services.of_user(1000).is_none());
    }

    #[test]
    fn a_page_that_cannot_be_is_refused() {
        for (from, to, reason) in [
            ("uid: 956", "uid: 1000", "not from 900 to 999"),
            ("uid: 956", "uid: 0", "not from 900 to 999"),
            ("uid: 956", "uid: -1", "expected"),
            ("user: secure-ai-audit", "user: root", "`user`"),
            ("unit: secure-ai-audit.service", "unit: ssh.service", "`unit`"),
            ("audit.socket", "audit.timer", "`started_by`"),
            ("/run/secure-ai/audit.sock", "/run/secure-ai/other.sock", "`socket`"),
            ("type: packets", "type: stream", "unknown variant"),
            ("status: [0,", "status: [all,", "is not FIRST-LAST"),
            ("status: [0,", "status: [9-1,", "is not FIRST-LAST"),
            ("status: [0,", "status: [+1-9,", "is not FIRST-LAST"),
            ("status: [0,", "status: [0-4294967295,", "is not FIRST-LAST"),
            ("status: [0,", "status: [4294967295,", "is no user"),
            ("status: [0, 957, 1000-60000]", "status: []", "nobody may ask"),
            ("status:", "Status:", "is no request"),
            ("owner.note", "owner.nota", "there is no kind"),
            ("owner.note", "audit.stop", "the writer's own"),
            ("svc.state", "svc.stat", "there is no kind"),
            ("128M", "128", "not like 128M"),
            ("128M", "0M", "not like 128M"),
            ("128M", "99999999999G", "not like 128M"),
            ("security: 1.5", "security: 1.55", "one decimal"),
            ("security: 1.5", "security: 10.1", "one decimal"),
            ("security: 1.5", "security: .nan", "one decimal"),
            ("memory:", "memori:", "unknown field"),
            ("memory: 128M", "", "missing field"),
            ("memory: 128M", "memory: 128M\nmemory: 128M", "duplicate"),
            ("name: audit", "name: Audit", "lower-case"),
            ("about: writes", "about: ''", "one line"),
            ("memory:", "files: [/etc/x]\nmemory:", "no path below /usr"),
            ("memory:", "files: [usr/lib/x]\nmemory:", "no path below /usr"),
            ("memory:", "files: [/usr/../x]\nmemory:", "no path below /usr"),
            ("memory:", "files: [/usr/]\nmemory:", "no path below /usr"),
        ] {
            assert!(AUDIT.contains(from), "{from}");
            let error = Service::parse(AUDIT.replacen(from, to, 1).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{to}: {error}");
        }
        for (more, reason) in [
            ("audit: [audit.start]", "the writer's own"),
            ("entries: {owner.note: [0]}", "belongs on the audit"),
            ("callers: {status: [0]}", "without a socket"),
        ] {
            let error = Service::parse(format!("{WITNESS}{more}\n").as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{more}: {error}");
        }
        assert!(matches!(Service::parse(&[b' '; PAGE_BYTES_MAX + 1]), Err(ServiceError::TooLarge(_))));
        assert!(Service::parse(b"\xff").is_err());
    }

    #[test]
    fn files_belong_to_the_service_that_names_them_or_is_named_by_them() {
        let page = page(&AUDIT.replace("memory:", "files: [/usr/lib/sysctl.d/60-x.conf]\nmemory:"));
        let units = "/usr/lib/systemd/system";
        for (path, owned) in [
            (format!("{units}/secure-ai-audit.service"), true),
            (format!("{units}/secure-ai-audit@.service"), true),
            (format!("{units}/secure-ai-audit.service.d/more.conf"), true),
            ("/usr/lib/sysusers.d/secure-ai-audit.conf".into(), true),
            ("/usr/lib/sysctl.d/60-x.conf".into(), true),
            ("/usr/lib/sysctl.d/60-y.conf".into(), false),
            (format!("{units}/secure-ai-audit-more.service"), false),
            (format!("{units}/secure-ai-auditor.service"), false),
            (format!("{units}/secure-ai-witness.service"), false),
            ("/usr/lib/sysusers.d/secure-ai.conf".into(), false),
        ] {
            assert_eq!(page.owns(&path), owned, "{path}");
        }
    }

    #[test]
    fn two_services_share_nothing() {
        for (page_of_another, key) in [(WITNESS.replace("960", "956"), "uid"), (AUDIT.replace("956", "950"), "name")] {
            let error = Services::new(vec![page(AUDIT), page(&page_of_another)]).unwrap_err();
            assert!(matches!(&error, ServiceError::Shared { key: it, .. } if *it == key), "{error}");
        }
    }
}

//! Whether a device is the one that was released: what it gathered about itself, and its files where they can be read.
//!
//! Every function here is pure: from what was read to what was found. [`crate::files`] reads. A device that somebody
//! took over can forge all of its evidence; its files, read from another medium, it cannot.

pub mod accounts;
pub mod arguments;
pub mod boot;
pub mod committed;
pub mod etc;
pub mod refusal;
pub mod rules;
pub mod settings;
pub mod units;

use crate::check::Installed;
use crate::digest::Digest;
use crate::evidence::kernel::Deployment;
use crate::evidence::{Evidence, Item, Unseen};
use crate::ostree::DirMeta;
use crate::refusal::Findings;
use committed::Committed;
use refusal::DeviceRefusal;
use std::collections::BTreeMap;

/// Where an image has its policy.
pub const POLICY: &str = "/usr/lib/secure-ai/policy";
/// Where it has the rules of each profile.
pub const RULESETS: &str = "/usr/lib/secure-ai/firewall";
/// Its settings of the kernel.
pub const SYSCTL: &str = "/usr/lib/sysctl.d/60-secure-ai.conf";
/// Its kernel arguments.
pub const KARGS: &str = "/usr/lib/bootc/kargs.d";
/// Its units.
pub const UNITS: &str = "/usr/lib/systemd/system";
/// Boot entries, below `/boot`.
pub const ENTRIES: &str = "loader/entries";

/// Where a disk has the releases of its deployments, without their images: each in a folder named by its commit. Beside the commits, and not
/// in /var, which is empty on a new disk.
pub const RELEASES: &str = "/sysroot/secure-ai/release";
/// Where it has the keys that those releases were made with.
pub const TRUST: &str = "/sysroot/secure-ai/trust";

/// A file of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its absolute path.
    pub path: String,
    /// Its whole `st_mode`.
    pub mode: u32,
    /// Its owner's number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
    /// What is in it.
    pub content: Content,
}

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A regular file with bytes of this SHA-256.
    Regular(Digest),
    /// A symbolic link to this target.
    Symlink(String),
    /// A device, a pipe, a socket, or a name that is no text.
    Other,
    /// Whoever looked may not read it, or the disk does not; why.
    Unread(String),
}

/// The files of a device, read from its root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Root {
    /// What a deployment consists of, without `/etc`: ascending by path.
    pub files: Vec<Node>,
    /// `/etc`: ascending by path.
    pub etc: Vec<Node>,
    /// `/boot/ostree`: ascending by path, `/boot` in front of each.
    pub boot: Vec<Node>,
    /// Mode, owner and attributes of each folder of the deployment, by path.
    pub folders: BTreeMap<String, DirMeta>,
    /// The object that each file of the deployment would be in a repository, by path: with the commit alone.
    pub objects: BTreeMap<String, Digest>,
    /// What the commit says of them, from the device's repository; none where no commit was asked for.
    pub committed: Option<Result<Committed, Unseen>>,
    /// Texts that are judged by what they say, by path: those of [`POLICY`], [`RULESETS`], [`KARGS`], [`SYSCTL`], and boot entries.
    pub texts: BTreeMap<String, Vec<u8>>,
    /// Folders and texts that could not be read.
    pub unseen: Vec<Unseen>,
}

impl Root {
    /// A file of the deployment.
    pub fn file(&self, path: &str) -> Option<&Node> {
        self.files.binary_search_by(|node| node.path.as_str().cmp(path)).ok().and_then(|at| self.files.get(at))
    }

    /// Texts directly below a folder, by name.
    pub fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.texts.iter().filter_map(move |(path, bytes)| {
            let name = path.strip_prefix(folder)?.strip_prefix('/')?;
            (!name.contains('/')).then_some((name, bytes.as_slice()))
        })
    }

    /// What could not be read below a folder.
    pub fn unseen_below(&self, folder: &str) -> impl Iterator<Item = Unseen> {
        self.unseen.iter().filter(move |it| it.what.starts_with(folder)).cloned()
    }
}

/// What there is to judge by; what is not given is not judged, and said.
#[derive(Debug)]
pub struct Case<'a> {
    /// What the device gathered.
    pub evidence: &'a Evidence,
    /// Its files.
    pub root: Option<&'a Root>,
    /// The release that it is to be; refusals where that is not vouched for.
    pub release: Option<&'a Result<Installed, Vec<DeviceRefusal>>>,
}

/// What a part of the check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Reasons to refuse.
    pub refusals: Vec<DeviceRefusal>,
    /// What could not be looked at.
    pub unseen: Vec<Unseen>,
    /// What a person should know, and that is no reason to refuse.
    pub listed: Vec<String>,
}

impl Found {
    /// Is it as it should be, everything looked at?
    pub fn holds(&self) -> bool {
        self.refusals.is_empty() && self.unseen.is_empty()
    }

    /// One refusal.
    pub fn refused(refusal: DeviceRefusal) -> Self {
        Self { refusals: vec![refusal], ..Self::default() }
    }

    /// One thing that could not be looked at.
    pub fn unseen(what: &str, why: &str) -> Self {
        Self { unseen: vec![Unseen { what: what.to_owned(), why: why.to_owned() }], ..Self::default() }
    }

    /// Both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.refusals.extend(other.refusals);
        self.unseen.extend(other.unseen);
        self.listed.extend(other.listed);
        self
    }

    fn without(unseen: Unseen) -> Self {
        Self { unseen: vec![unseen], ..Self::default() }
    }

    /// What is made of something that was gathered: it may be missing, and it may be malformed.
    pub fn of<T>(gathered: Result<Result<T, DeviceRefusal>, Unseen>, judge: impl FnOnce(T) -> Self) -> Self {
        match gathered {
            Ok(Ok(value)) => judge(value),
            Ok(Err(refusal)) => Self::refused(refusal),
            Err(unseen) => Self::without(unseen),
        }
    }
}

/// What is found where no `--root` was given.
pub fn no_root(what: &str) -> Found {
    Found::unseen(what, "give the device's files with --root")
}

/// Every part, in the order in which it is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// The release, and that its commit is booted.
    pub release: Found,
    /// Files against the bill of materials.
    pub files: Found,
    /// Kernel and initramfs.
    pub boot: Found,
    /// Kernel arguments.
    pub arguments: Found,
    /// `/etc` against `/usr/etc`.
    pub etc: Found,
    /// Units with their drop-ins.
    pub units: Found,
    /// Rules that are loaded.
    pub rules: Found,
    /// Rules that the image ships.
    pub shipped: Found,
    /// Settings of the kernel, swap, lockdown.
    pub settings: Found,
    /// Memory of programs that die.
    pub cores: Found,
}

impl Device {
    /// Judges all of it.
    pub fn judge(case: &Case<'_>) -> Self {
        Self {
            release: release(case),
            files: accounts::judge(case),
            boot: boot::judge(case),
            arguments: arguments::judge(case),
            etc: etc::judge(case),
            units: units::judge(case),
            rules: rules::judge(case),
            shipped: rules::shipped(case),
            settings: settings::judge(case),
            cores: settings::cores(case),
        }
    }

    /// The parts, each by its name.
    pub fn parts(&self) -> [(&'static str, &Found); 10] {
        [
            ("release", &self.release),
            ("files", &self.files),
            ("boot", &self.boot),
            ("arguments", &self.arguments),
            ("etc", &self.etc),
            ("units", &self.units),
            ("rules", &self.rules),
            ("shipped rules", &self.shipped),
            ("settings", &self.settings),
            ("cores", &self.cores),
        ]
    }

    /// Every refusal once, of each name so many as a person can read.
    pub fn refusals(&self) -> Vec<DeviceRefusal> {
        let mut findings = Findings::default();
        self.parts().iter().for_each(|(_, found)| findings.extend(found.refusals.iter().cloned()));
        findings.into_vec()
    }

    /// Everything that could not be looked at, once.
    pub fn unseen(&self) -> Vec<Unseen> {
        let mut unseen: Vec<Unseen> = self.parts().iter().flat_map(|(_, found)| found.unseen.clone()).collect();
        unseen.sort();
        unseen.dedup();
        unseen
    }
}

fn release(case: &Case<'_>) -> Found {
    let booted = case
        .evidence
        .parsed(Item::Deployment, |text| serde_json::from_str::<Deployment>(text).map_err(|error| error.to_string()));
    Found::of(booted, |booted| match case.release {
        None => Found::unseen("the release", "give the release of what is booted with --release, and --trust"),
        Some(Err(refusals)) => Found { refusals: refusals.clone(), ..Found::default() },
        Some(Ok(installed)) if installed.release().commit != booted.commit => {
            let (booted, named) = (booted.commit.to_string(), installed.release().commit.to_string());
            Found::refused(DeviceRefusal::BootedCommitDiffers { booted, named })
        }
        Some(Ok(_)) => {
            let listed = booted.origin.into_iter().map(|line| format!("origin: {line}")).collect();
            Found { listed, ..Found::default() }
        }
    })
}

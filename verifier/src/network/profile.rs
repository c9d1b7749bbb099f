//! A profile's page, `manifests/policy/profiles/NAME.yml`: what may leave the machine, which units run, what the user
//! is told. The rules are composed from it, and proven against it.

use super::rules::{Limit, Span};
use crate::service::Uids;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// A page is a screenful; this is far above any.
pub const PAGE_BYTES_MAX: usize = 64 << 10;
/// Where names are asked for, over any protocol: closed in every profile, for everybody.
pub const DNS_PORTS: [u64; 4] = [53, 853, 5353, 5355];
/// The profile after every boot, and whenever another cannot be had.
pub const STRICTEST: &str = "offline_private";

/// Why a page, or several together, are not taken.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Above [`PAGE_BYTES_MAX`].
    #[error("the page has {0} bytes, more than {PAGE_BYTES_MAX}")]
    TooLarge(usize),
    /// Not the YAML that is expected.
    #[error("the page is not what is expected: {0}")]
    Shape(#[from] serde_yaml::Error),
    /// A value that cannot be.
    #[error("`{key}` of {profile}: {reason}")]
    Value {
        /// Which profile.
        profile: String,
        /// Which key.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The pages together.
    #[error("the profiles together: {0}")]
    Together(String),
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// `NAME` of the file.
    pub name: String,
    /// What it is for, in a line.
    pub about: String,
    /// Who may open connections to the outside, and where to. Nobody else may.
    pub leaves: Vec<Leave>,
    /// What links themselves need, from whoever sends it.
    pub link: BTreeSet<LinkNeed>,
    /// Units that run in this profile, and those that do not; every unit of the image that could use a network is one.
    pub units: Units,
    /// After so many minutes the device goes back to the strictest profile.
    #[serde(default)]
    pub expires_after_minutes: Option<u32>,
    /// What the user is told beside what follows from the rules.
    pub told: Vec<String>,
}

/// Who may open connections.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leave {
    /// The user, for people.
    pub user: String,
    /// The same, for the kernel.
    pub uid: u32,
    /// Ports of TCP, to public addresses only.
    pub ports: Ports,
    /// The unit that runs as this user: on where it may leave, off in the strictest profile.
    pub unit: String,
}

/// Ports of TCP; those of DNS are never among them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PortsPage")]
pub enum Ports {
    /// `only: [443]`.
    Only(BTreeSet<u16>),
    /// `all_but: [25]`.
    AllBut(BTreeSet<u16>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PortsPage {
    only: Option<BTreeSet<u16>>,
    all_but: Option<BTreeSet<u16>>,
}

impl TryFrom<PortsPage> for Ports {
    type Error = &'static str;

    fn try_from(page: PortsPage) -> Result<Self, Self::Error> {
        match (page.only, page.all_but) {
            (Some(ports), None) => Ok(Self::Only(ports)),
            (None, Some(ports)) => Ok(Self::AllBut(ports)),
            _ => Err("`ports` is either `only` or `all_but`"),
        }
    }
}

/// What a link needs to carry anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkNeed {
    /// Asking for the hardware address of a neighbour, IPv4.
    Arp,
    /// Likewise for IPv6, and for routers.
    Nd,
    /// Asking for an address: the DHCP client alone.
    Dhcp,
}

impl LinkNeed {
    /// How often at most, on each link.
    pub const fn limit(self) -> Limit {
        match self {
            // A whole neighbourhood of devices that come and go.
            Self::Arp | Self::Nd => Limit { rate: 20, seconds: 1, burst: Limit::BURST },
            // A lease lasts hours.
            Self::Dhcp => Limit { rate: 6, seconds: 60, burst: Limit::BURST },
        }
    }
}

/// systemd-networkd, whose user is fixed before the package is configured.
pub const DHCP_UID: u32 = 953;
/// Its unit.
pub const DHCP_UNIT: &str = "systemd-networkd.service";

/// Which units run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Units {
    /// These.
    pub on: BTreeSet<String>,
    /// Not these.
    pub off: BTreeSet<String>,
}

/// Who may open which port of 127.0.0.1 and ::1: `manifests/policy/loopback.yml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Loopback(pub BTreeMap<u16, Vec<Uids>>);

impl Loopback {
    /// Reads the page.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ProfileError> {
        if bytes.len() > PAGE_BYTES_MAX {
            return Err(ProfileError::TooLarge(bytes.len()));
        }
        // A port that is there twice: a map would keep the last, a value refuses it.
        let page: Self = serde_yaml::from_value(serde_yaml::from_slice(bytes)?)?;
        match page.0.iter().find(|(_, uids)| uids.is_empty()) {
            Some((port, _)) => Err(ProfileError::Together(format!("nobody may open port {port}: leave it out"))),
            None => Ok(page),
        }
    }

    /// Who may open a port.
    pub fn spans(&self, port: u16) -> Vec<Span> {
        let uids = self.0.get(&port).map_or(&[][..], Vec::as_slice);
        uids.iter().map(|it| (u64::from(it.first), u64::from(it.last))).collect()
    }
}

impl Ports {
    /// As closed spans, without those of DNS.
    pub fn spans(&self) -> Vec<Span> {
        let (listed, others) = match self {
            Self::Only(ports) => (ports, false),
            Self::AllBut(ports) => (ports, true),
        };
        let is = |port: u64| {
            u16::try_from(port).is_ok_and(|it| listed.contains(&it)) != others && !DNS_PORTS.contains(&port)
        };
        let mut spans: Vec<Span> = Vec::new();
        for port in (0..=0xffff).filter(|port| is(*port)) {
            match spans.last_mut() {
                Some((_, last)) if *last + 1 == port => *last = port,
                _ => spans.push((port, port)),
            }
        }
        spans
    }
}

impl Profile {
    /// Reads a page.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ProfileError> {
        if bytes.len() > PAGE_BYTES_MAX {
            return Err(ProfileError::TooLarge(bytes.len()));
        }
        let profile: Self = serde_yaml::from_slice(bytes)?;
        profile.validate()?;
        Ok(profile)
    }

    /// Does it let out nothing that the other does not?
    pub fn is_within(&self, other: &Self) -> bool {
        let covers = |spans: &[Span], one: &Span| spans.iter().any(|it| it.0 <= one.0 && one.1 <= it.1);
        let leave_is_within = |leave: &Leave| {
            let of_user = other.leaves.iter().filter(|it| it.uid == leave.uid);
            let theirs: Vec<Span> = of_user.flat_map(|it| it.ports.spans()).collect();
            leave.ports.spans().iter().all(|span| covers(&theirs, span))
        };
        self.link.is_subset(&other.link) && self.leaves.iter().all(leave_is_within)
    }

    /// Units that it needs so that what may leave can, and no others that could.
    fn network_units(&self) -> BTreeSet<&str> {
        let dhcp = self.link.contains(&LinkNeed::Dhcp).then_some(DHCP_UNIT);
        self.leaves.iter().map(|leave| leave.unit.as_str()).chain(dhcp).collect()
    }

    /// Does nothing at all leave?
    pub fn is_closed(&self) -> bool {
        self.leaves.is_empty() && self.link.is_empty()
    }

    fn validate(&self) -> Result<(), ProfileError> {
        let wrong = |key, reason: String| Err(ProfileError::Value { profile: self.name.clone(), key, reason });
        if !is_profile_name(&self.name) {
            return wrong("name", "not a lower-case word".into());
        }
        if self.about.trim().is_empty() || self.about.lines().count() != 1 {
            return wrong("about", "not one line".into());
        }
        if self.told.is_empty() || self.told.iter().any(|it| it.trim().is_empty() || it.lines().count() != 1) {
            return wrong("told", "not lines".into());
        }
        let mut seen = BTreeSet::new();
        for leave in &self.leaves {
            if !is_profile_name(&leave.user) || !seen.insert(leave.uid) || !seen_once(&self.leaves, &leave.user) {
                return wrong("leaves", format!("`{}` is no word, or there twice", leave.user));
            }
            if [0, DHCP_UID, u32::MAX].contains(&leave.uid) || leave.uid >= 1000 {
                return wrong("leaves", format!("user {} is no service of ours", leave.uid));
            }
            if let Ports::Only(ports) = &leave.ports
                && let Some(port) = ports.iter().find(|port| DNS_PORTS.contains(&u64::from(**port)))
            {
                return wrong("leaves", format!("port {port} is for DNS, which no profile lets out"));
            }
            if leave.ports.spans().is_empty() {
                return wrong("leaves", format!("`{}` has no port", leave.user));
            }
        }
        if !self.leaves.is_empty() && self.link.is_empty() {
            return wrong("link", "nothing can be reached without what links need".into());
        }
        if let Some(unit) = self.units.on.intersection(&self.units.off).next() {
            return wrong("units", format!("`{unit}` is on and off"));
        }
        if let Some(unit) = self.units.on.union(&self.units.off).find(|unit| !is_unit_name(unit)) {
            return wrong("units", format!("`{unit}` is no name of a unit"));
        }
        if let Some(unit) = self.network_units().into_iter().find(|unit| !self.units.on.contains(*unit)) {
            return wrong("units", format!("`{unit}` may leave, and is not on"));
        }
        if self.expires_after_minutes == Some(0) {
            return wrong("expires_after_minutes", "at once is never".into());
        }
        Ok(())
    }
}

/// A lower-case word: a name of a profile, and of its users.
pub fn is_profile_name(text: &str) -> bool {
    text.starts_with(|it: char| it.is_ascii_lowercase())
        && text.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_')
}

/// A name of a unit, as systemd has it: no path, no option.
fn is_unit_name(text: &str) -> bool {
    let known = [".service", ".socket", ".timer", ".path"];
    text.len() <= UNIT_NAME_BYTES_MAX
        && known.iter().any(|ending| text.strip_suffix(ending).is_some_and(|stem| !stem.is_empty()))
        && !text.starts_with(['-', '.'])
        && text.bytes().all(|it| it.is_ascii_alphanumeric() || b"@:_.-".contains(&it))
}

/// systemd's own bound.
const UNIT_NAME_BYTES_MAX: usize = 255;

fn seen_once(leaves: &[Leave], user: &str) -> bool {
    leaves.iter().filter(|it| it.user == user).count() == 1
}

/// Every profile of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profiles(BTreeMap<String, Profile>);

impl Profiles {
    /// Takes pages that hold together: one is the strictest, and lets nothing out; each unit has its place in all.
    ///
    /// # Errors
    /// [`ProfileError::Together`].
    pub fn new(pages: Vec<Profile>) -> Result<Self, ProfileError> {
        let together = |what: String| Err(ProfileError::Together(what));
        let mut profiles = BTreeMap::new();
        for page in pages {
            if let Some(other) = profiles.insert(page.name.clone(), page) {
                return together(format!("`{}` is there twice", other.name));
            }
        }
        match profiles.get(STRICTEST) {
            None => return together(format!("`{STRICTEST}` is missing")),
            Some(page) if !page.is_closed() => return together(format!("`{STRICTEST}` lets something out")),
            Some(page) if page.expires_after_minutes.is_some() => {
                return together(format!("`{STRICTEST}` cannot expire: there is nothing stricter"));
            }
            Some(_) => {}
        }
        let units = |page: &Profile| -> BTreeSet<String> { page.units.on.union(&page.units.off).cloned().collect() };
        let all: BTreeSet<String> = profiles.values().flat_map(units).collect();
        // Whoever may leave in one profile does not run in one where he may not.
        let capable: BTreeSet<&str> = profiles.values().flat_map(Profile::network_units).collect();
        for page in profiles.values() {
            let own = page.network_units();
            if let Some(unit) = capable.iter().find(|unit| page.units.on.contains(**unit) && !own.contains(**unit)) {
                return together(format!("`{unit}` can use a network, and is on in `{}`, where it may not", page.name));
            }
            if let Some(unit) = all.difference(&units(page)).next() {
                return together(format!("`{}` says neither on nor off of `{unit}`", page.name));
            }
        }
        Ok(Self(profiles))
    }

    /// One by its name.
    pub fn get(&self, name: &str) -> Option<&Profile> {
        self.0.get(name)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Profile> {
        self.0.values()
    }
}

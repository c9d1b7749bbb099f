//! What a device gathers about itself (`spec/evidence.md`): a folder of named files, each there with its digest or
//! missing with its reason. Written by `secaictl collect` through the same types that read it here.
//!
//! The digests find what was damaged on the way. Against whoever gathered it they prove nothing.

pub mod kernel;
pub mod settings;
pub mod sockets;
pub mod units;

use crate::canonical::{JsonError, from_canonical, to_canonical};
use crate::device::refusal::DeviceRefusal;
use crate::release::Artifact;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The number of this format.
pub const FORMAT: u32 = 1;
/// The list of what was gathered.
pub const INDEX: &str = "evidence.json";
/// Why something is missing, in words: a line.
pub const REASON_CHARS_MAX: usize = 300;
/// Files of a chain that are copied: a segment and its payloads hold 65,536 entries, tiles 256 each.
pub const CHAIN_FILES_MAX: usize = 20_000;
/// Bytes of a chain that are copied; what is longer is judged where it lies.
pub const CHAIN_BYTES_MAX: u64 = 1 << 30;

macro_rules! items {
    ($($item:ident $name:literal $limit:expr, $about:literal)*) => {
        /// What is gathered, each under a name of its own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Item {
            $(#[doc = $about] $item,)*
        }

        impl Item {
            /// Everything, in the order of the names.
            pub const ALL: &[Self] = &[$(Self::$item),*];

            /// The name in the folder.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$item => $name),* }
            }

            /// Bytes that it may have.
            pub const fn limit(self) -> u64 {
                match self { $(Self::$item => $limit),* }
            }

            /// What it is, and where from.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$item => $about),* }
            }
        }
    };
}

/// A few hundred units with eight properties each, a few thousand sockets: a hundredfold of what there is.
const LISTING_BYTES_MAX: u64 = 16 << 20;
/// A line or two of the kernel's.
const LINE_BYTES_MAX: u64 = 64 << 10;

items! {
    BootId "boot-id" LINE_BYTES_MAX, "/proc/sys/kernel/random/boot_id"
    Chain "chain" CHAIN_BYTES_MAX, "a folder: the audit chain, copied as the audit daemon hands it out"
    CommandLine "cmdline" LINE_BYTES_MAX, "/proc/cmdline"
    Deployment "deployment" LINE_BYTES_MAX, "the deployment that `ostree=` leads to, and its origin, as JSON"
    DnsJournal "dns-journal" LISTING_BYTES_MAX, "journalctl -u secure-ai-dns-leak-check --no-pager -n 5"
    Links "links" crate::network::links::LINKS_BYTES_MAX as u64, "ip -j link"
    Lockdown "lockdown" LINE_BYTES_MAX, "/sys/kernel/security/lockdown"
    Manager "manager" LINE_BYTES_MAX, "systemctl show --property=DefaultLimitCORE"
    Modules "modules" LISTING_BYTES_MAX, "/proc/modules"
    Mounts "mounts" LISTING_BYTES_MAX, "/proc/self/mountinfo"
    Packets "packet" LISTING_BYTES_MAX, "/proc/net/packet"
    Profile "profile" LINE_BYTES_MAX, "the profile in force, on the word of the profiles service"
    Raw "raw" LISTING_BYTES_MAX, "/proc/net/raw"
    Raw6 "raw6" LISTING_BYTES_MAX, "/proc/net/raw6"
    Ruleset "ruleset" crate::network::parse::TEXT_BYTES_MAX as u64, "nft list ruleset"
    Settings "settings" LISTING_BYTES_MAX, "values below /proc/sys of what the image sets, as JSON"
    Swaps "swaps" LISTING_BYTES_MAX, "/proc/swaps"
    Tcp "tcp" LISTING_BYTES_MAX, "/proc/net/tcp"
    Tcp6 "tcp6" LISTING_BYTES_MAX, "/proc/net/tcp6"
    Tpm "tpm" LINE_BYTES_MAX, "the head of the chain that the TPM remembers"
    Udp "udp" LISTING_BYTES_MAX, "/proc/net/udp"
    Udp6 "udp6" LISTING_BYTES_MAX, "/proc/net/udp6"
    Units "units" LISTING_BYTES_MAX, "systemctl show of every unit that is loaded"
}

impl Item {
    /// What has this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|item| item.name() == name)
    }
}

/// `evidence.json`: canonical, one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// When it was gathered, by the device's clock.
    pub collected: Time,
    /// What is there; the chain has no digest, it has its own.
    pub files: BTreeMap<String, Artifact>,
    /// [`FORMAT`].
    pub format: u32,
    /// What is not there, and why.
    pub missing: BTreeMap<String, String>,
    /// Who gathered it.
    pub uid: u32,
}

impl Index {
    /// Reads the list: every name once, as a file or as missing.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let index: Self = from_canonical(bytes).map_err(|error: JsonError| error.to_string())?;
        if index.format != FORMAT {
            return Err(format!("its format is {}, this program knows {FORMAT}", index.format));
        }
        for name in index.files.keys().chain(index.missing.keys()) {
            if Item::named(name).is_none() {
                return Err(format!("`{name}` is no name of evidence"));
            }
        }
        for item in Item::ALL {
            let (file, missing) = (index.files.get(item.name()), index.missing.get(item.name()));
            match (item, file, missing) {
                (_, Some(_), Some(_)) => return Err(format!("`{}` is there and missing", item.name())),
                (Item::Chain, Some(_), _) => return Err("the chain is a folder and has no digest".to_owned()),
                // It is there unless it is missing.
                (Item::Chain, None, _) | (_, Some(_), None) => {}
                (_, None, Some(why)) if !why.trim().is_empty() && why.chars().count() <= REASON_CHARS_MAX => {}
                (_, None, Some(_)) => return Err(format!("`{}` is missing without a reason", item.name())),
                (_, None, None) => return Err(format!("nothing is said of `{}`", item.name())),
            }
        }
        Ok(index)
    }

    /// The bytes of the list.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn render(&self) -> Result<Vec<u8>, JsonError> {
        to_canonical(self)
    }
}

/// What could not be looked at, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unseen {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// A folder of evidence, read and undamaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    index: Index,
    bytes: BTreeMap<Item, Vec<u8>>,
}

impl Evidence {
    /// Evidence from its files' bytes, each compared with the list.
    ///
    /// # Errors
    /// Every file that is not what the list says.
    pub fn new(index: Index, bytes: BTreeMap<Item, Vec<u8>>) -> Result<Self, Vec<DeviceRefusal>> {
        let mut refusals = Vec::new();
        for item in Item::ALL.iter().filter(|item| **item != Item::Chain) {
            let name = item.name().to_owned();
            match (index.files.get(item.name()), bytes.get(item)) {
                (Some(listed), Some(found)) if Artifact::of(found) == *listed => {}
                (None, None) => {}
                (Some(_), Some(_)) => refusals.push(DeviceRefusal::EvidenceDamaged { name }),
                (Some(_), None) => refusals.push(DeviceRefusal::EvidenceAbsent { name }),
                (None, Some(_)) => refusals.push(DeviceRefusal::EvidenceForeign { name }),
            }
        }
        if refusals.is_empty() { Ok(Self { index, bytes }) } else { Err(refusals) }
    }

    /// When it was gathered.
    pub fn collected(&self) -> Time {
        self.index.collected
    }

    /// What is missing, and why.
    pub fn missing(&self) -> impl Iterator<Item = Unseen> {
        self.index.missing.iter().map(|(what, why)| Unseen { what: what.clone(), why: why.clone() })
    }

    /// The bytes of something.
    ///
    /// # Errors
    /// It was not gathered.
    pub fn bytes(&self, item: Item) -> Result<&[u8], Unseen> {
        self.bytes.get(&item).map(Vec::as_slice).ok_or_else(|| self.unseen(item))
    }

    /// Why something is not there.
    pub fn unseen(&self, item: Item) -> Unseen {
        let why = self.index.missing.get(item.name()).cloned();
        Unseen { what: item.name().to_owned(), why: why.unwrap_or_else(|| "it is not there".to_owned()) }
    }

    /// Was the chain copied?
    pub fn has_chain(&self) -> bool {
        !self.index.missing.contains_key(Item::Chain.name())
    }

    /// The text of something.
    ///
    /// # Errors
    /// It was not gathered, or is no text.
    pub fn text(&self, item: Item) -> Result<Result<&str, DeviceRefusal>, Unseen> {
        Ok(std::str::from_utf8(self.bytes(item)?).map_err(|_| malformed(item, "it is not UTF-8")))
    }

    /// What a parser makes of something.
    ///
    /// # Errors
    /// It was not gathered.
    pub fn parsed<T, E: ToString>(
        &self,
        item: Item,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Result<T, DeviceRefusal>, Unseen> {
        Ok(self.text(item)?.and_then(|text| parse(text).map_err(|error| malformed(item, &error.to_string()))))
    }
}

/// Why something gathered cannot be read.
pub fn malformed(item: Item, reason: &str) -> DeviceRefusal {
    DeviceRefusal::EvidenceMalformed { name: item.name().to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        Index {
            collected: "2026-11-22T21:00:00Z".parse().unwrap(),
            files: BTreeMap::from([("cmdline".to_owned(), Artifact::of(b"quiet\n"))]),
            format: FORMAT,
            missing: Item::ALL
                .iter()
                .filter(|item| !matches!(item, Item::Chain | Item::CommandLine))
                .map(|item| (item.name().to_owned(), "not asked for".to_owned()))
                .collect(),
            uid: 1000,
        }
    }

    #[test]
    fn names_ascend_and_read_back() {
        assert!(Item::ALL.is_sorted_by_key(|item| item.name()));
        assert!(Item::ALL.iter().all(|item| Item::named(item.name()) == Some(*item)));
    }

    #[test]
    fn every_name_is_there_or_missing_with_its_reason() {
        let good = index();
        assert_eq!(Index::parse(&good.render().unwrap()).unwrap(), good);
        let refused = |change: &dyn Fn(&mut Index), said: &str| {
            let mut index = index();
            change(&mut index);
            let error = Index::parse(&index.render().unwrap()).unwrap_err();
            assert!(error.contains(said), "{said}: {error}");
        };
        refused(&|it| it.format = 2, "format is 2");
        refused(&|it| drop(it.missing.remove("tcp")), "nothing is said of `tcp`");
        refused(&|it| drop(it.missing.insert("tcp".into(), " ".into())), "without a reason");
        refused(&|it| drop(it.missing.insert("tcp".into(), "a".repeat(301))), "without a reason");
        refused(&|it| drop(it.missing.insert("cmdline".into(), "why".into())), "there and missing");
        refused(&|it| drop(it.missing.insert("more".into(), "why".into())), "`more` is no name");
        refused(&|it| _ = it.files.insert("../etc".into(), Artifact::of(b"")), "is no name");
        refused(&|it| _ = it.files.insert("chain".into(), Artifact::of(b"")), "is a folder");
        assert!(Index::parse(b"{}").is_err());
        let pretty = String::from_utf8(good.render().unwrap()).unwrap().replace("\":", "\": ");
        assert!(Index::parse(pretty.as_bytes()).unwrap_err().contains("canonical"));
    }

    #[test]
    fn what_is_not_as_listed_is_named() {
        let of = |bytes: &[(Item, &[u8])]| {
            let bytes = bytes.iter().map(|(item, bytes)| (*item, bytes.to_vec())).collect();
            Evidence::new(index(), bytes)
                .map_err(|refusals| refusals.iter().map(DeviceRefusal::name).collect::<Vec<_>>())
        };
        let good = of(&[(Item::CommandLine, b"quiet\n")]).unwrap();
        assert_eq!(good.text(Item::CommandLine).unwrap().unwrap(), "quiet\n");
        assert_eq!(good.bytes(Item::Tcp).unwrap_err().why, "not asked for");
        assert!(good.has_chain());
        assert_eq!(of(&[(Item::CommandLine, b"quieT\n")]).unwrap_err(), ["EvidenceDamaged"]);
        assert_eq!(of(&[]).unwrap_err(), ["EvidenceAbsent"]);
        assert_eq!(of(&[(Item::CommandLine, b"quiet\n"), (Item::Tcp, b"")]).unwrap_err(), ["EvidenceForeign"]);
    }
}

//! Reads the output of `ip -j link`: which links there are, and whether they are up.

use serde::Deserialize;
use std::collections::BTreeMap;

/// A machine has some dozens of links, of 500 bytes each.
pub const LINKS_BYTES_MAX: usize = 1 << 20;

/// Why a text is no list of links.
#[derive(Debug, thiserror::Error)]
pub enum LinksError {
    /// Above [`LINKS_BYTES_MAX`].
    #[error("the list of links has {0} bytes, more than {LINKS_BYTES_MAX}")]
    TooLarge(usize),
    /// Not what `ip -j link` prints.
    #[error("the list of links is not what `ip -j link` prints: {0}")]
    Shape(#[from] serde_json::Error),
    /// No loopback, or another link under its name.
    #[error("the list of links has no loopback named lo")]
    NoLoopback,
    /// A name twice.
    #[error("`{0}` is twice in the list of links")]
    Twice(String),
}

#[derive(Deserialize)]
struct Link {
    ifname: String,
    flags: Vec<String>,
}

/// The links but loopback, each with whether it is up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Links(pub BTreeMap<String, bool>);

impl Links {
    /// Reads the list.
    ///
    /// # Errors
    /// [`LinksError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, LinksError> {
        if bytes.len() > LINKS_BYTES_MAX {
            return Err(LinksError::TooLarge(bytes.len()));
        }
        let (mut links, mut loopback) = (BTreeMap::new(), false);
        for link in serde_json::from_slice::<Vec<Link>>(bytes)? {
            let has = |flag: &str| link.flags.iter().any(|it| it == flag);
            if has("LOOPBACK") && link.ifname == "lo" {
                loopback = true;
                continue;
            }
            if links.insert(link.ifname.clone(), has("UP")).is_some() {
                return Err(LinksError::Twice(link.ifname));
            }
        }
        if loopback && !links.contains_key("lo") { Ok(Self(links)) } else { Err(LinksError::NoLoopback) }
    }
}

//! What is to be loaded, and which profile holds: pure, from texts to texts.

use crate::config::Shipped;
use secai_verifier::digest::Digest;
use secai_verifier::network::bind::{bind, holds, with_counts_of};
use secai_verifier::network::compose::link_chain;
use secai_verifier::network::links::{Links, LinksError};
use secai_verifier::network::normal::digest;
use secai_verifier::network::parse::{ParseError, parse};
use secai_verifier::network::prove::{Proven, prove};
use secai_verifier::network::refusal::NetworkRefusal;
use secai_verifier::network::rules::{Base, Chain, EPOCH, Elements, Hook, INET_TABLE, LINK_TABLE, Ruleset, Table};
use serde::Deserialize;

/// What nft and ip said, read.
#[derive(Debug)]
pub struct Live {
    /// The rules; or why they are none of ours.
    pub rules: Result<Ruleset, ParseError>,
    /// The links.
    pub links: Links,
    /// Those of them that are set up where something may leave: Ethernet, and what looks like it.
    pub ether: Vec<String>,
}

#[derive(Deserialize)]
struct Kind {
    ifname: String,
    link_type: String,
}

impl Live {
    /// Reads both listings.
    ///
    /// # Errors
    /// [`LinksError`]: without links nothing can be said.
    pub fn read(rules: &[u8], links: &[u8]) -> Result<Self, LinksError> {
        let known = Links::parse(links)?;
        let kinds: Vec<Kind> = serde_json::from_slice(links)?;
        let ether = kinds.into_iter().filter(|it| it.link_type == "ether").map(|it| it.ifname).collect();
        Ok(Self { rules: parse(rules), links: known, ether })
    }

    /// The profile whose rules the table of packets is. Links come and go: their table does not decide.
    pub fn holds<'a>(&self, image: &'a [Shipped]) -> Option<&'a Shipped> {
        let live = self.rules.as_ref().ok()?;
        image.iter().find(|shipped| holds(live, &shipped.rules))
    }

    /// The mark of flows of the profile that holds.
    pub fn epoch(&self) -> Option<u32> {
        match self.rules.as_ref().ok()?.inet.sets.get(EPOCH)? {
            Elements::Marks(marks) => marks.first().copied(),
            _ => None,
        }
    }

    /// Are these rules what the profile promises, on every link?
    ///
    /// # Errors
    /// What they are instead.
    pub fn proven(&self, shipped: &Shipped) -> Result<Proven, Vec<NetworkRefusal>> {
        let foreign = |error: &ParseError| vec![NetworkRefusal::RulesetForeign { reason: error.to_string() }];
        prove(self.rules.as_ref().map_err(foreign)?, &self.links, &shipped.page, &shipped.loopback)
    }
}

/// Rules that were proven, ready to be loaded.
#[derive(Debug)]
pub struct Prepared {
    /// Replaces the table of packets.
    pub inet: String,
    /// Replaces the table of frames.
    pub links: String,
}

/// The rules of a profile for these links. What was counted goes on.
///
/// # Errors
/// They are not what the profile promises: never load them.
pub fn prepare(shipped: &Shipped, epoch: u32, live: &Live) -> Result<Prepared, Vec<NetworkRefusal>> {
    let names = live.links.0.keys().map(String::as_str);
    let mut rules = bind(&shipped.rules, epoch, names);
    if let Ok(before) = &live.rules {
        rules = with_counts_of(rules, before);
    }
    let text = rules.to_string();
    // Judged is the text that is loaded, not what it was made from.
    let again =
        parse(text.as_bytes()).map_err(|error| vec![NetworkRefusal::RulesetForeign { reason: error.to_string() }])?;
    prove(&again, &live.links, &shipped.page, &shipped.loopback)?;
    Ok(Prepared {
        inet: replacing("inet", INET_TABLE, again.inet),
        links: replacing("netdev", LINK_TABLE, again.links),
    })
}

/// Rules for a device that has none: nothing goes anywhere, on loopback neither.
pub fn locked(links: &Links) -> Prepared {
    let closed =
        |name: &str, hook| Chain { name: name.to_owned(), base: Some(Base { hook, drops: true }), rules: Vec::new() };
    let inet = [("input", Hook::Input), ("forward", Hook::Forward), ("output", Hook::Output)];
    let inet = Table { chains: inet.map(|(name, hook)| closed(name, hook)).into(), ..Table::default() };
    let chains = links.0.keys().map(|name| closed(&link_chain(name), Hook::Egress(Some(name.clone())))).collect();
    let links = Table { chains, ..Table::default() };
    Prepared { inet: replacing("inet", INET_TABLE, inet), links: replacing("netdev", LINK_TABLE, links) }
}

/// Text that replaces a table whether it is there or not: deleting is of one that is.
fn replacing(family: &str, name: &str, table: Table) -> String {
    let rules = match family {
        "inet" => Ruleset { inet: table, links: Table::default() },
        _ => Ruleset { inet: Table::default(), links: table },
    };
    let text = rules.to_string();
    // A machine without links has nothing to say of them.
    let text = if text.is_empty() { format!("table {family} {name} {{\n}}\n") } else { text };
    format!("table {family} {name}\ndelete table {family} {name}\n{text}")
}

#[derive(Deserialize)]
struct Tables {
    nftables: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    table: Option<Numbered>,
}

#[derive(Deserialize)]
struct Numbered {
    family: String,
    name: String,
    handle: u64,
}

/// Text that removes every table that is not ours, from nft's JSON. By their numbers: names may be anything.
///
/// # Errors
/// It is not what nft prints.
pub fn without_others(tables: &[u8]) -> Result<String, serde_json::Error> {
    let listed = serde_json::from_slice::<Tables>(tables)?.nftables.into_iter().filter_map(|it| it.table);
    let ours = |table: &Numbered| {
        [("inet", INET_TABLE), ("netdev", LINK_TABLE)].contains(&(table.family.as_str(), table.name.as_str()))
    };
    Ok(listed
        .filter(|table| !ours(table) && table.family.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit()))
        .map(|table| format!("delete table {} handle {}\n", table.family, table.handle))
        .collect())
}

/// The digest by which a profile's rules are known.
pub fn known_by(shipped: &Shipped) -> Digest {
    digest(&shipped.rules)
}

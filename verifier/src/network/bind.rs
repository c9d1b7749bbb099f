//! The rules of a profile as an image ships them, and as they are loaded: the shipped text is the same for every device
//! (it is the normal form), a device puts in its own mark and its links.

use super::compose::{link_chain, ruleset};
use super::normal::{LINK, normal};
use super::profile::{Loopback, Profile};
use super::rules::{Chain, Elements, Hook, Ruleset, Table};

/// What an image ships for a profile: `/usr/lib/secure-ai/firewall/PROFILE.nft` is its text.
pub fn shipped(profile: &Profile, loopback: &Loopback) -> Ruleset {
    // Any mark does, and any link: the normal form has neither.
    normal(&ruleset(profile, loopback, 1, [LINK]))
}

/// Is the live table of packets that of these shipped rules? Links come and go: their table does not decide.
pub fn holds(live: &Ruleset, shipped: &Ruleset) -> bool {
    normal(live).inet == shipped.inet
}

/// Shipped rules with a device's mark and a chain for each of its links.
pub fn bind<'a>(shipped: &Ruleset, epoch: u32, links: impl IntoIterator<Item = &'a str>) -> Ruleset {
    let mut bound = shipped.clone();
    for table in [&mut bound.inet, &mut bound.links] {
        mark(table, epoch);
    }
    let names: Vec<&str> = links.into_iter().collect();
    let of_link = |chain: &Chain| -> Vec<Chain> {
        let Some(base) = &chain.base else { return vec![chain.clone()] };
        let chain_of = |name: &&str| Chain {
            name: link_chain(name),
            base: Some(super::rules::Base { hook: Hook::Egress(Some((*name).to_owned())), drops: base.drops }),
            rules: chain.rules.clone(),
        };
        names.iter().map(chain_of).collect()
    };
    bound.links.chains = shipped.links.chains.iter().flat_map(of_link).collect();
    bound
}

/// Counts go on where rules are exchanged: those of counters with the same names.
pub fn with_counts_of(mut ruleset: Ruleset, before: &Ruleset) -> Ruleset {
    for (table, before) in [(&mut ruleset.inet, &before.inet), (&mut ruleset.links, &before.links)] {
        for (name, counted) in &mut table.counters {
            *counted = before.counters.get(name).copied().unwrap_or(*counted);
        }
    }
    ruleset
}

fn mark(table: &mut Table, epoch: u32) {
    for elements in table.sets.values_mut() {
        if let Elements::Marks(marks) = elements {
            marks.iter_mut().for_each(|mark| *mark = epoch);
        }
    }
    table.maps.values_mut().flat_map(|pairs| pairs.values_mut()).for_each(|mark| *mark = epoch);
}

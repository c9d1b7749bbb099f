//! The normal form of a ruleset: the same for every device, time and version of nft that mean the same rules.

use super::rules::{Elements, Field, Hook, Ruleset, Span, Table, With};
use crate::digest::Digest;

/// What stands for the mark of this profile's flows.
const MARK: u32 = 0;
/// What stands for the link.
pub const LINK: &str = "LINK";

/// Masked: what counters counted, the mark, names of links and their chains (of equal ones there is one). Sorted: what
/// the kernel keeps in no order.
pub fn normal(ruleset: &Ruleset) -> Ruleset {
    let mut normal = ruleset.clone();
    for table in [&mut normal.inet, &mut normal.links] {
        masked(table);
    }
    for chain in &mut normal.links.chains {
        if let Some(base) = &mut chain.base
            && matches!(base.hook, Hook::Egress(Some(_)))
        {
            base.hook = Hook::Egress(Some(LINK.to_owned()));
            chain.name = super::compose::link_chain(LINK);
        }
    }
    let mut kept = Vec::new();
    for chain in std::mem::take(&mut normal.links.chains) {
        if !kept.contains(&chain) {
            kept.push(chain);
        }
    }
    normal.links.chains = kept;
    // The order of chains means nothing: two that a hook enters are both asked.
    for table in [&mut normal.inet, &mut normal.links] {
        table.chains.sort_by(|a, b| a.name.cmp(&b.name));
    }
    normal
}

/// SHA-256 of the normal form's text.
pub fn digest(ruleset: &Ruleset) -> Digest {
    Digest::of(normal(ruleset).to_string().as_bytes())
}

fn masked(table: &mut Table) {
    table.counters.values_mut().for_each(|counted| *counted = (0, 0));
    for elements in table.sets.values_mut() {
        match elements {
            Elements::V4(spans) => merge(spans, |last| last.checked_add(1)),
            Elements::V6(spans) => merge(spans, |last| last.checked_add(1)),
            Elements::Marks(marks) => marks.iter_mut().for_each(|mark| *mark = MARK),
        }
    }
    for pairs in table.maps.values_mut() {
        pairs.values_mut().for_each(|mark| *mark = MARK);
    }
    for condition in table.chains.iter_mut().flat_map(|it| &mut it.rules).flat_map(|it| &mut it.conditions) {
        if let With::Values(spans) = &mut condition.with {
            // States are a list of words; neighbours among them are no range.
            if condition.field == Field::CtState {
                spans.sort_unstable();
            } else {
                merge(spans, |last: u64| last.checked_add(1));
            }
        }
    }
}

/// Sorted, and what touches is one.
fn merge<T: Copy + Ord>(spans: &mut Vec<Span<T>>, after: impl Fn(T) -> Option<T>) {
    spans.sort_unstable();
    let mut merged: Vec<Span<T>> = Vec::new();
    for (first, last) in spans.drain(..) {
        match merged.last_mut() {
            Some((_, end)) if after(*end).is_none_or(|next| first <= next) => *end = (*end).max(last),
            _ => merged.push((first, last)),
        }
    }
    *spans = merged;
}

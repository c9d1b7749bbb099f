//! Which files lie in which layer.
//!
//! Stable across releases without knowing the last one: a large owner has a layer of its own; each program of ours, and
//! what the compose, the pack and the recipe made, have one each (they change most); the rest is spread by a hash of the
//! owner's name. A package that changes moves its own layer only, and a new package disturbs one bin.

use crate::commit::Commit;
use crate::owners::short_name;
use crate::tree::TreeFile;
use secai_verifier::digest::Digest;
use secai_verifier::sbom::{Owner, OwnerKind};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// An owner with at least this much content gets its own layer.
const LARGE_BYTES: u64 = 12 * 1024 * 1024;
/// How many layers small packages share.
const SHARED_BINS: usize = 4;

/// One layer to be: objects with all the paths that hold them.
#[derive(Debug, Default)]
pub struct Bin<'a> {
    /// Names of its owners, sorted.
    pub names: Vec<String>,
    /// Object → its paths, both sorted; the file of the first path stands for the object.
    pub objects: BTreeMap<Digest, (&'a TreeFile, Vec<&'a str>)>,
}

impl Bin<'_> {
    /// Bytes of content.
    pub fn bytes(&self) -> u64 {
        self.objects.values().map(|(f, _)| f.size).sum()
    }
}

/// Spreads the commit's files over layers, in the order of the layers.
pub fn pack<'a>(owners: &[Owner], commit: &'a Commit) -> Vec<Bin<'a>> {
    let mut owner_of: BTreeMap<&str, usize> = BTreeMap::new();
    let mut sizes = vec![0u64; owners.len()];
    let size_of: BTreeMap<&str, u64> = commit.tree.files.iter().map(|f| (f.path.as_str(), f.size)).collect();
    for (i, owner) in owners.iter().enumerate() {
        for file in &owner.files {
            owner_of.insert(&file.path, i);
            if let Some(sum) = sizes.get_mut(i) {
                *sum += size_of.get(file.path.as_str()).copied().unwrap_or(0);
            }
        }
    }
    // Bin names sort the layers: shared ones first, then the large owners by name.
    let bin_of: Vec<String> = owners
        .iter()
        .zip(&sizes)
        .map(|(owner, size)| {
            let name = short_name(&owner.kind);
            match owner.kind {
                OwnerKind::Package { .. } if *size < LARGE_BYTES => {
                    let first = Digest::of(name.as_bytes()).to_string();
                    let nibble = u8::from_str_radix(first.get(..2).unwrap_or("0"), 16).unwrap_or(0);
                    format!("0-{}", usize::from(nibble) % SHARED_BINS)
                }
                OwnerKind::Package { .. } => format!("1-{name}"),
                _ => format!("2-{name}"),
            }
        })
        .collect();
    let mut bins: BTreeMap<&str, (BTreeSet<Cow<'_, str>>, Bin<'a>)> = BTreeMap::new();
    let mut home: BTreeMap<Digest, &str> = BTreeMap::new();
    for file in &commit.tree.files {
        let owner = owner_of.get(file.path.as_str()).copied().unwrap_or(0);
        let own = bin_of.get(owner).map_or("", String::as_str);
        // Equal files of two owners are one object, which lies with the first path.
        let name = *home.entry(file.object).or_insert(own);
        let (names, bin) = bins.entry(name).or_default();
        if name == own
            && let Some(owner) = owners.get(owner)
        {
            names.insert(short_name(&owner.kind));
        }
        bin.objects.entry(file.object).or_insert_with(|| (file, Vec::new())).1.push(&file.path);
    }
    bins.into_values()
        .map(|(names, mut bin)| {
            bin.names = names.into_iter().map(Cow::into_owned).collect();
            bin
        })
        .collect()
}

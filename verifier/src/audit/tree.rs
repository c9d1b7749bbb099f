//! The Merkle tree over entries (RFC 6962 §2.1; `spec/audit-chain.md` §4).
//!
//! A *node* (level, index) is the root of a complete subtree: of the 2^level leaves from index · 2^level on.

use crate::digest::Digest;
use sha2::{Digest as _, Sha256};

/// Nodes per tile, and the levels that a tile spans.
pub const TILE_WIDTH: u64 = 256;
/// log2 of [`TILE_WIDTH`].
pub const TILE_HEIGHT: u32 = 8;

/// Hash of a leaf: SHA-256(0x00 ‖ line).
pub fn leaf(line: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(line);
    hasher.into()
}

/// Hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
pub fn node(left: &Digest, right: &Digest) -> Digest {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(left.as_bytes());
    bytes[33..].copy_from_slice(right.as_bytes());
    Digest::of(&bytes)
}

/// All that is needed of a tree in order to append and to know its root: one node per bit of its size.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    /// Largest subtree first.
    peaks: Vec<Digest>,
}

impl Frontier {
    /// The tree without leaves.
    pub fn new() -> Self {
        Self::default()
    }

    /// A tree of `size` leaves from its nodes, largest first; none when their number is not that of the size.
    pub fn from_peaks(size: u64, peaks: Vec<Digest>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// The nodes that a tree of `size` leaves consists of, largest first: (level, index).
    pub fn nodes_of(size: u64) -> impl Iterator<Item = (u32, u64)> {
        (0..64).rev().filter(move |level| size >> level & 1 == 1).map(move |level| (level, (size >> level) - 1))
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf's hash; `made` is told every inner node that this completes: (level, index, hash).
    pub fn push_with(&mut self, leaf: Digest, mut made: impl FnMut(u32, u64, Digest)) {
        let mut hash = leaf;
        for level in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node(&left, &hash);
                made(level + 1, self.size >> (level + 1), hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// Appends a leaf's hash.
    pub fn push(&mut self, leaf: Digest) {
        self.push_with(leaf, |_, _, _| {});
    }

    /// Appends the leaves of another tree, whose size must not be above the largest power of two that divides ours.
    /// False, and nothing done, when it is.
    #[must_use]
    pub fn append(&mut self, other: &Self) -> bool {
        let aligned = self.size == 0 || other.size <= 1 << self.size.trailing_zeros();
        if !aligned {
            return false;
        }
        for ((level, _), peak) in Self::nodes_of(other.size).zip(&other.peaks) {
            let mut hash = *peak;
            for _ in 0..(self.size >> level).trailing_ones() {
                if let Some(left) = self.peaks.pop() {
                    hash = node(&left, &hash);
                }
            }
            self.peaks.push(hash);
            self.size += 1 << level;
        }
        true
    }

    /// The root; of no leaves it is SHA-256 of nothing.
    pub fn root(&self) -> Digest {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return Digest::of(b"") };
        peaks.fold(*last, |right, left| node(left, &right))
    }
}

/// Where nodes come from: tiles, or leaves in memory.
pub trait Nodes {
    /// Why one could not be had.
    type Error;
    /// The hash of a complete subtree.
    ///
    /// # Errors
    /// When it cannot be had.
    fn node(&self, level: u32, index: u64) -> Result<Digest, Self::Error>;
}

/// The root of the leaves `from..until`, which begin where a subtree of their size may (RFC 6962 `MTH`).
fn root_of<N: Nodes>(nodes: &N, from: u64, until: u64) -> Result<Digest, N::Error> {
    let count = until - from;
    if count.is_power_of_two() {
        let level = count.trailing_zeros();
        return nodes.node(level, from >> level);
    }
    let split = from + largest_power_below(count);
    Ok(node(&root_of(nodes, from, split)?, &root_of(nodes, split, until)?))
}

/// The largest power of two below `count`, which must be above 1.
fn largest_power_below(count: u64) -> u64 {
    1 << (63 - (count - 1).leading_zeros())
}

/// The audit path of leaf `index` in the tree of `size` leaves (RFC 6962 §2.1.1), leaf's sibling first.
///
/// # Errors
/// Those of `nodes`. `index` must be below `size`.
pub fn prove_inclusion<N: Nodes>(nodes: &N, index: u64, size: u64) -> Result<Vec<Digest>, N::Error> {
    let (mut from, mut until, mut path) = (0, size, Vec::new());
    while until - from > 1 {
        let split = from + largest_power_below(until - from);
        if index < split {
            path.push(root_of(nodes, split, until)?);
            until = split;
        } else {
            path.push(root_of(nodes, from, split)?);
            from = split;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree of `size` leaves begins with that of `old` leaves (RFC 6962 §2.1.2).
///
/// # Errors
/// Those of `nodes`. `old` must not be above `size`.
pub fn prove_consistency<N: Nodes>(nodes: &N, old: u64, size: u64) -> Result<Vec<Digest>, N::Error> {
    let (mut from, mut until, mut proof, mut complete) = (0, size, Vec::new(), true);
    if old == 0 {
        return Ok(proof);
    }
    while old != until {
        let split = from + largest_power_below(until - from);
        if old <= split {
            proof.push(root_of(nodes, split, until)?);
            until = split;
        } else {
            proof.push(root_of(nodes, from, split)?);
            from = split;
            complete = false;
        }
    }
    if !complete {
        proof.push(root_of(nodes, from, until)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The root that a path leads to from leaf `index` of `size` (RFC 9162 §2.1.3.2); none when it does not fit them.
pub fn root_of_inclusion(index: u64, size: u64, leaf: Digest, path: &[Digest]) -> Option<Digest> {
    if index >= size {
        return None;
    }
    let (mut first, mut last, mut root) = (index, size - 1, leaf);
    for step in path {
        if last == 0 {
            return None;
        }
        if first & 1 == 1 || first == last {
            root = node(step, &root);
            while first & 1 == 0 && first != 0 {
                first >>= 1;
                last >>= 1;
            }
        } else {
            root = node(&root, step);
        }
        first >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(root)
}

/// Does the proof show that the tree (`size`, `root`) begins with the tree (`old`, `old_root`)? (RFC 9162 §2.1.4.2)
pub fn is_consistent(old: u64, size: u64, old_root: Digest, root: Digest, proof: &[Digest]) -> bool {
    if old > size {
        return false;
    }
    if old == 0 {
        return proof.is_empty() && old_root == Digest::of(b"");
    }
    if old == size {
        return proof.is_empty() && old_root == root;
    }
    let mut steps = proof.iter();
    // A complete old tree is its own first node: it is not sent.
    let seed = if old.is_power_of_two() { Some(&old_root) } else { steps.next() };
    let Some(seed) = seed else { return false };
    let (mut first, mut last) = (old - 1, size - 1);
    while first & 1 == 1 {
        first >>= 1;
        last >>= 1;
    }
    let (mut left, mut right) = (*seed, *seed);
    for step in steps {
        if last == 0 {
            return false;
        }
        if first & 1 == 1 || first == last {
            left = node(step, &left);
            right = node(step, &right);
            while first & 1 == 0 && first != 0 {
                first >>= 1;
                last >>= 1;
            }
        } else {
            right = node(&right, step);
        }
        first >>= 1;
        last >>= 1;
    }
    last == 0 && left == old_root && right == root
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Leaves(Vec<Digest>);

    impl Nodes for Leaves {
        type Error = ();
        fn node(&self, level: u32, index: u64) -> Result<Digest, ()> {
            let (from, count) = ((index << level) as usize, 1usize << level);
            let mut frontier = Frontier::new();
            self.0.get(from..from + count).ok_or(())?.iter().for_each(|leaf| frontier.push(*leaf));
            Ok(frontier.root())
        }
    }

    fn leaves(count: u64) -> Leaves {
        Leaves((0..count).map(|n| leaf(&n.to_be_bytes())).collect())
    }

    fn root(of: &[Digest]) -> Digest {
        let mut frontier = Frontier::new();
        of.iter().for_each(|leaf| frontier.push(*leaf));
        frontier.root()
    }

    #[test]
    fn proofs_prove_what_they_say_and_nothing_else() {
        for size in 1..70u64 {
            let all = leaves(size);
            let head = root(&all.0);
            for index in 0..size {
                let path = prove_inclusion(&all, index, size).unwrap();
                let own = all.0[index as usize];
                assert_eq!(root_of_inclusion(index, size, own, &path), Some(head));
                assert_ne!(root_of_inclusion(index, size, leaf(b"x"), &path), Some(head));
                for other in (0..size).filter(|other| *other != index) {
                    assert_ne!(root_of_inclusion(other, size, own, &path), Some(head), "{index} as {other} of {size}");
                }
                if !path.is_empty() {
                    assert_ne!(root_of_inclusion(index, size, own, &path[1..]), Some(head));
                }
            }
            for old in 0..=size {
                let proof = prove_consistency(&all, old, size).unwrap();
                let old_head = root(&all.0[..old as usize]);
                assert!(is_consistent(old, size, old_head, head, &proof), "{old} of {size}");
                assert!(!is_consistent(old, size, leaf(b"x"), head, &proof));
                assert!(old == 0 || !is_consistent(old, size, old_head, leaf(b"x"), &proof));
                for at in 0..proof.len() {
                    let mut other = proof.clone();
                    other[at] = leaf(b"x");
                    assert!(!is_consistent(old, size, old_head, head, &other));
                    other.remove(at);
                    assert!(!is_consistent(old, size, old_head, head, &other));
                }
            }
        }
    }

    #[test]
    fn a_tree_is_the_same_however_it_was_put_together() {
        let all = leaves(700);
        for part in [1, 8, 256] {
            let mut whole = Frontier::new();
            for chunk in all.0.chunks(part) {
                let mut piece = Frontier::new();
                chunk.iter().for_each(|leaf| piece.push(*leaf));
                assert!(whole.append(&piece));
            }
            assert_eq!(whole.root(), root(&all.0), "in parts of {part}");
            let peaks = Frontier::nodes_of(700).map(|(level, index)| all.node(level, index).unwrap()).collect();
            assert_eq!(Frontier::from_peaks(700, peaks), Some(whole));
        }
        let mut odd = Frontier::new();
        odd.push(all.0[0]);
        let mut two = odd.clone();
        two.push(all.0[1]);
        assert!(!odd.append(&two), "two leaves are no subtree at place 1");
    }

    #[test]
    fn completed_nodes_are_told() {
        let all = leaves(16);
        let (mut frontier, mut told) = (Frontier::new(), Vec::new());
        for leaf in &all.0 {
            frontier.push_with(*leaf, |level, index, hash| told.push((level, index, hash)));
        }
        assert_eq!(told.len(), 15);
        assert!(told.iter().all(|(level, index, hash)| all.node(*level, *index) == Ok(*hash)));
    }
}

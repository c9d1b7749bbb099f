//! What a round means: pure.

use super::lab::Round;
use super::vectors::{May, Vector};
use secai_verifier::network::profile::Profile;

/// What is said of one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It cannot be tried on this kernel: nothing is known.
    Missing,
    /// It was not seen even without rules: the test is blind to it.
    Blind,
    /// It leaves, and may not.
    Leaks,
    /// It leaves, as the profile says.
    Leaves,
    /// It does not leave, and may not.
    Stays,
    /// It does not leave, and the profile says that it may.
    Lost,
    /// It leaves beside all rules, as is known: a capability alone stands in its way.
    Beside,
}

/// Compares a round without rules and one with those of a profile.
pub fn judge(vectors: &[Vector], profile: &Profile, without: &Round, with: &Round) -> Vec<Found> {
    (0..vectors.len())
        .map(|at| {
            let allowed = vectors.get(at).is_some_and(|vector| vector.allowed(profile));
            let beside = vectors.get(at).is_some_and(|vector| matches!(vector.may, May::Beside(_)));
            let frames = |round: &Round| round.seen.get(at).map_or(0, Vec::len);
            match (frames(without) > 0, frames(with) > 0, allowed) {
                (_, true, false) if beside => Found::Beside,
                (_, true, false) => Found::Leaks,
                (false, _, _) if without.tried.get(at).is_some_and(Option::is_some) => Found::Missing,
                (false, _, _) => Found::Blind,
                (true, true, true) => Found::Leaves,
                (true, false, false) => Found::Stays,
                (true, false, true) => Found::Lost,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leak::vectors::Through;
    use std::io;

    fn round(seen: usize, tried: bool) -> Round {
        let tried = vec![(!tried).then(|| io::Error::other("no"))];
        Round { tried, seen: vec![vec![Vec::new(); seen]], others: Vec::new() }
    }

    #[test]
    fn nothing_is_known_of_what_was_never_seen() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/policy/profiles/full_lab.yml");
        let profile = Profile::parse(&std::fs::read(path).unwrap()).unwrap();
        let by = |may, uid, without: Round, with: Round| {
            let vector = Vector { name: "x", uid, capable: false, may, by: Through::Socket, fire: |_| Ok(()) };
            judge(&[vector], &profile, &without, &with)[0]
        };
        let of = |uid, without, with| by(May::Flow(443), uid, without, with);
        let (seen, not) = (|| round(2, true), || round(0, true));
        assert_eq!(of(952, seen(), seen()), Found::Leaves);
        assert_eq!(of(952, seen(), not()), Found::Lost);
        assert_eq!(of(951, seen(), seen()), Found::Leaks);
        assert_eq!(of(951, seen(), not()), Found::Stays);
        assert_eq!(of(951, not(), not()), Found::Blind);
        assert_eq!(of(951, round(0, false), not()), Found::Missing);
        assert_eq!(of(951, round(0, false), seen()), Found::Leaks, "however it came");
        // What is known to pass is said as what it is, and stays only where it was seen to.
        let beside = |without, with| by(May::Beside("CAP_NET_RAW"), 0, without, with);
        assert_eq!(beside(seen(), seen()), Found::Beside);
        assert_eq!(beside(seen(), not()), Found::Stays);
        assert_eq!(beside(not(), not()), Found::Blind);
    }
}

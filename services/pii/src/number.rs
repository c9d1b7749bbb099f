//! A number as people write it, digits in groups, and who claims it.

use crate::finding::{Claim, Kind};
use crate::{bank, national, phone};

/// The longest of what is all digits: a card.
pub(crate) const DIGITS_MAX: usize = 19;

/// The shortest is a telephone number.
pub(crate) const DIGITS_MIN: usize = 7;

/// The French number of social security is written in seven groups.
pub(crate) const GROUPS_MAX: usize = 8;

/// What stands between the groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Between {
    /// One group.
    Nothing,
    /// The same everywhere.
    One(u8),
    /// This and that.
    Several,
}

pub(crate) struct Number<'a> {
    /// Values, 0–9: from [`DIGITS_MIN`] to [`DIGITS_MAX`].
    pub digits: &'a [u8],
    /// Digits of each group.
    pub groups: &'a [u8],
    pub between: Between,
    /// `+` stands before it.
    pub plus: bool,
    /// The first group is in brackets.
    pub bracketed: bool,
    /// What stood between the last two groups.
    pub last_between: u8,
}

impl Number<'_> {
    pub fn bare(&self) -> bool {
        self.between == Between::Nothing && !self.plus && !self.bracketed
    }

    /// In these groups, with one of `between` between them.
    pub fn grouped(&self, groups: &[u8], between: &[u8]) -> bool {
        self.groups == groups && matches!(self.between, Between::One(byte) if between.contains(&byte))
    }

    pub fn all_same(&self) -> bool {
        self.digits.windows(2).all(|pair| pair.first() == pair.last())
    }

    /// Everyone who would have it.
    pub fn claims(&self, into: &mut Vec<Claim>) {
        into.clear();
        if !self.all_same() {
            if !self.plus && !self.bracketed {
                bank::claims(self, into);
                national::claims(self, into);
            }
            phone::claims(self, into);
        }
    }
}

/// How sure a number is that a checksum passes.
///
/// One in fifty random numbers, or fewer, pass: it is reported as it stands. More pass: it needs the groups that people
/// write it in, or, where those are other numbers' too, a word beside it.
pub(crate) fn score(number: &Number, rare: bool, groups: &[u8], between: &[u8]) -> Option<u8> {
    match (rare, number.grouped(groups, between)) {
        (true, true) => Some(85),
        (true, false) if number.bare() => Some(55),
        (false, true) => Some(55),
        (false, false) if number.bare() => Some(25),
        _ => None,
    }
}

/// A claim whose checksum is right, scored by [`score`].
pub(crate) fn checked(
    kind: Kind,
    right: bool,
    number: &Number,
    rare: bool,
    groups: &[u8],
    between: &[u8],
) -> Option<Claim> {
    right.then(|| score(number, rare, groups, between)).flatten().map(|score| Claim::checksum(kind, score))
}

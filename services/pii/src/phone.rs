//! Telephone numbers. They carry no checksum: country, length, ranges and grouping are all there is to see.

use crate::checksum::value;
use crate::finding::{Claim, Kind};
use crate::number::{Between, Number};

/// Country codes of E.164 with the shortest and longest number after them.
#[rustfmt::skip]
const COUNTRIES: &[(u32, usize, usize)] = &[
    (1, 10, 10), (7, 10, 10), (20, 8, 10), (27, 9, 9), (30, 10, 10), (31, 9, 9), (32, 8, 9), (33, 9, 9), (34, 9, 9),
    (36, 8, 9), (39, 6, 11), (40, 9, 9), (41, 9, 9), (43, 7, 13), (44, 9, 10), (45, 8, 8), (46, 7, 9), (47, 8, 8), (48, 9, 9),
    (49, 7, 12), (51, 8, 9), (52, 10, 10), (53, 8, 8), (54, 10, 11), (55, 10, 11), (56, 9, 9), (57, 10, 10), (58, 10, 10),
    (60, 8, 10), (61, 9, 9), (62, 8, 12), (63, 8, 10), (64, 8, 10), (65, 8, 8), (66, 8, 9), (81, 9, 10), (82, 8, 10),
    (84, 9, 10), (86, 10, 11), (90, 10, 10), (91, 10, 10), (92, 9, 10), (93, 9, 9), (94, 9, 9), (95, 7, 10), (98, 10, 10),
    (211, 9, 9), (212, 9, 9), (213, 8, 9), (216, 8, 8), (218, 8, 9), (220, 7, 7), (221, 9, 9), (222, 8, 8), (223, 8, 8),
    (224, 8, 9), (225, 10, 10), (226, 8, 8), (227, 8, 8), (228, 8, 8), (229, 8, 10), (230, 7, 8), (231, 7, 9), (232, 8, 8),
    (233, 9, 9), (234, 8, 10), (235, 8, 8), (236, 8, 8), (237, 9, 9), (238, 7, 7), (239, 7, 7), (240, 9, 9), (241, 7, 8),
    (242, 9, 9), (243, 7, 9), (244, 9, 9), (245, 7, 9), (248, 7, 7), (249, 9, 9), (250, 9, 9), (251, 9, 9), (252, 7, 9),
    (253, 8, 8), (254, 9, 10), (255, 9, 9), (256, 9, 9), (257, 8, 8), (258, 8, 9), (260, 9, 9), (261, 9, 9), (262, 9, 9),
    (263, 7, 9), (264, 8, 9), (265, 7, 9), (266, 8, 8), (267, 7, 8), (268, 8, 8), (269, 7, 7), (297, 7, 7), (298, 6, 6),
    (299, 6, 6), (350, 8, 8), (351, 9, 9), (352, 6, 11), (353, 7, 9), (354, 7, 9), (355, 8, 9), (356, 8, 8), (357, 8, 8),
    (358, 6, 11), (359, 7, 9), (370, 8, 8), (371, 8, 8), (372, 7, 8), (373, 8, 8), (374, 8, 8), (375, 9, 9), (376, 6, 9),
    (377, 8, 9), (378, 6, 10), (380, 9, 9), (381, 8, 9), (382, 8, 8), (383, 8, 9), (385, 8, 9), (386, 8, 8), (387, 8, 8),
    (389, 8, 8), (420, 9, 9), (421, 9, 9), (423, 7, 9), (501, 7, 7), (502, 8, 8), (503, 8, 8), (504, 8, 8), (505, 8, 8),
    (506, 8, 8), (507, 7, 8), (509, 8, 8), (590, 9, 9), (591, 8, 8), (592, 7, 7), (593, 8, 9), (594, 9, 9), (595, 9, 9),
    (596, 9, 9), (597, 6, 7), (598, 8, 8), (670, 7, 8), (673, 7, 7), (675, 7, 8), (679, 7, 7), (687, 6, 6), (689, 6, 8),
    (852, 8, 8), (853, 8, 8), (855, 8, 9), (856, 8, 10), (880, 8, 10), (886, 8, 9), (960, 7, 7), (961, 7, 8), (962, 8, 9),
    (963, 8, 9), (964, 8, 10), (965, 8, 8), (966, 9, 9), (967, 7, 9), (968, 8, 8), (970, 8, 9), (971, 8, 9), (972, 8, 9),
    (973, 8, 8), (974, 8, 8), (975, 7, 8), (976, 8, 8), (977, 8, 10), (992, 9, 9), (993, 8, 8), (994, 9, 9), (995, 9, 9),
    (996, 9, 9), (998, 9, 9),
];

/// Country code, then a number of a length that the country has. `(0)`, which people write and nobody dials, is left out.
fn international(digits: &[u8]) -> bool {
    (1..=3).any(|length| {
        let Some((code, rest)) = digits.split_at_checked(length) else { return false };
        let code = value(code);
        let known = COUNTRIES.iter().find(|(known, _, _)| *known == code && known.ilog10() as usize + 1 == length);
        known.is_some_and(|(_, shortest, longest)| {
            let trunk = code != 39 && rest.first() == Some(&0);
            let count = rest.len() - usize::from(trunk);
            (*shortest..=*longest).contains(&count) && (code != 1 || american(rest))
        })
    })
}

/// Area and exchange begin with 2–9, and neither is a service such as 911; 555-01xx is for films, and people use it.
fn american(digits: &[u8]) -> bool {
    let service = |at: usize| digits.get(at + 1..at + 3) == Some(&[1, 1]);
    let begins = |at: usize| digits.get(at).is_some_and(|digit| *digit >= 2);
    digits.len() == 10 && begins(0) && begins(3) && !service(0) && !service(3) && digits.get(1) != Some(&9)
}

pub(crate) fn claims(number: &Number, into: &mut Vec<Claim>) {
    let (digits, groups) = (number.digits, number.groups);
    let mut claim = |score| into.push(Claim::form(Kind::Phone, score));
    if number.plus {
        if international(digits) {
            claim(75);
        }
        return;
    }
    if let [0, 0, rest @ ..] = digits
        && rest.first() != Some(&0)
        && international(rest)
        && groups.len() > 1
    {
        claim(60);
    }
    let digits_after_one = if let ([1, rest @ ..], [1, ..] | [11]) = (digits, groups) { rest } else { digits };
    if american(digits_after_one) {
        let tail = if groups.first() == Some(&1) { groups.get(1..).unwrap_or_default() } else { groups };
        match (tail, number.between) {
            ([3, 3, 4], _) if number.bracketed => claim(70),
            ([3, 3, 4], Between::One(b'-')) => claim(65),
            ([3, 3, 4], Between::One(b'.')) => claim(55),
            ([3, 3, 4], Between::One(b' ')) => claim(50),
            ([3, 7] | [6, 4], _) => claim(40),
            ([10 | 11], _) => claim(20),
            _ => {}
        }
    }
    // A trunk zero: most of the world at home. Dates and part numbers are grouped like that too.
    if let [0, 1..=9, ..] = digits
        && (9..=12).contains(&digits.len())
    {
        match groups {
            [_] => claim(25),
            [2, 2, 2, 2, 2] => claim(60),
            _ if number.bracketed => claim(60),
            [3..=5, ..] if groups.len() <= 4 => claim(45),
            _ => claim(30),
        }
    } else if groups == [3, 3, 3]
        || groups == [3, 2, 2, 2]
        || groups == [2, 2, 2, 2]
        || groups == [5, 5]
        || groups == [4, 4]
    {
        claim(20);
    } else if number.bare() && (DIGITS_MIN..=DIGITS_MAX).contains(&digits.len()) {
        claim(15);
    }
}

/// A number without any sign of one is it by the word beside it alone.
const DIGITS_MIN: usize = 8;
const DIGITS_MAX: usize = 12;

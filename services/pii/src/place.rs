//! Dates of birth and streets: no checksum, and forms that differ by language. What is known is English, German, French,
//! Spanish, Italian and Dutch; towns, postcodes alone and names of people are not looked for.

use crate::checksum::{is_date, value};
use crate::finding::{Claim, Evidence, Kind};
use std::ops::Range;

/// Who is alive was born after, and before this was written.
const YEARS: std::ops::RangeInclusive<u32> = 1900..=2030;

/// A street's name with its words.
const STREET_BYTES_MAX: usize = 48;
const STREET_WORDS_MAX: usize = 5;

/// First letters of months, with their numbers; marks are folded away before.
#[rustfmt::skip]
const MONTHS: &[(&[u8], u32)] = &[
    (b"jan", 1), (b"gen", 1), (b"ene", 1), (b"feb", 2), (b"fev", 2), (b"mar", 3), (b"maa", 3), (b"mae", 3), (b"apr", 4), (b"avr", 4),
    (b"abr", 4), (b"may", 5), (b"mai", 5), (b"mei", 5), (b"mag", 5), (b"jun", 6), (b"juin", 6), (b"giu", 6), (b"juil", 7),
    (b"jul", 7), (b"lug", 7), (b"aug", 8), (b"aou", 8), (b"ago", 8), (b"sep", 9), (b"set", 9), (b"oct", 10), (b"okt", 10),
    (b"ott", 10), (b"nov", 11), (b"dec", 12), (b"dez", 12), (b"dic", 12),
];

fn digits(bytes: &[u8], most: usize) -> Option<(u32, usize)> {
    let length = bytes.iter().take(most + 1).take_while(|byte| byte.is_ascii_digit()).count();
    let values: Vec<u8> = bytes.get(..length)?.iter().map(|byte| byte - b'0').collect();
    (1..=most).contains(&length).then(|| (value(&values), length))
}

fn month(bytes: &[u8]) -> Option<(u32, usize)> {
    let length = bytes.iter().take(12).take_while(|byte| byte.is_ascii_alphabetic()).count();
    let word = bytes.get(..length)?.to_ascii_lowercase();
    let (_, month) = MONTHS.iter().find(|(begins, _)| word.starts_with(begins))?;
    Some((*month, length))
}

/// A date that begins at `at` with a digit, or has its month's name before it.
pub(crate) fn birth(bytes: &[u8], at: usize) -> Option<(Claim, Range<usize>)> {
    let claim = Claim { kind: Kind::BirthDate, score: 15, evidence: Evidence::Form };
    let rest = bytes.get(at..)?;
    let (first, length) = digits(rest, 4)?;
    let sign = *rest.get(length)?;
    let year_ends = |from: usize| {
        let (year, length) = digits(rest.get(from..)?, 4)?;
        let ends = length == 4 && YEARS.contains(&year) && !rest.get(from + 4).is_some_and(u8::is_ascii_alphanumeric);
        ends.then_some((year, from + 4))
    };
    if matches!(sign, b'-' | b'/' | b'.') && digits(rest.get(length + 1..)?, 2).is_some() {
        let (second, more) = digits(rest.get(length + 1..)?, 2)?;
        let next = length + 1 + more;
        if rest.get(next) != Some(&sign) {
            return None;
        }
        if length == 4 {
            let (day, more) = digits(rest.get(next + 1..)?, 2)?;
            return (YEARS.contains(&first) && is_date(first, second, day))
                .then_some((claim, at..at + next + 1 + more));
        }
        let (year, end) = year_ends(next + 1)?;
        return (is_date(year, second, first) || is_date(year, first, second)).then_some((claim, at..at + end));
    }
    if length > 2 {
        return None;
    }
    let mut next = length;
    let skip = |next: &mut usize, word: &[u8]| {
        if rest.get(*next..).is_some_and(|rest| rest.starts_with(word)) {
            *next += word.len();
        }
    };
    for word in [b"st".as_slice(), b"nd", b"rd", b"th", b"."] {
        skip(&mut next, word);
    }
    if rest.get(next..)?.starts_with(b", ") || rest.get(next..)?.starts_with(b" ") {
        skip(&mut next, b",");
        skip(&mut next, b" ");
        if let Some((year, end)) = year_ends(next) {
            // March 12, 1985.
            let before = bytes.get(at.saturating_sub(13)..at)?.strip_suffix(b" ")?;
            let word = before.rsplit(|byte| !byte.is_ascii_alphabetic()).next()?;
            let (month, _) = month(word)?;
            return is_date(year, month, first).then_some((claim, at - 1 - word.len()..at + end));
        }
    }
    skip(&mut next, b"of ");
    skip(&mut next, b"de ");
    let (month, more) = month(rest.get(next..)?)?;
    next += more;
    for word in [b".".as_slice(), b",", b" de", b" "] {
        skip(&mut next, word);
    }
    let (year, end) = year_ends(next)?;
    is_date(year, month, first).then_some((claim, at..at + end))
}

/// After the name, and the number before it all: 10 Downing Street.
#[rustfmt::skip]
const AFTER: &[&[u8]] = &[
    b"street", b"st", b"avenue", b"ave", b"road", b"rd", b"lane", b"ln", b"drive", b"dr", b"boulevard", b"blvd", b"court", b"ct",
    b"place", b"pl", b"square", b"sq", b"terrace", b"crescent", b"highway", b"hwy", b"parkway", b"pkwy", b"circle", b"way", b"close",
];
/// Before the name, after the number: 12 rue de la Paix.
const BETWEEN: &[&[u8]] =
    &[b"rue", b"avenue", b"boulevard", b"place", b"chemin", b"allee", b"impasse", b"quai", b"route"];
/// Before the name, and the number after it all: Calle Mayor 5.
#[rustfmt::skip]
const BEFORE: &[&[u8]] = &[
    b"calle", b"avenida", b"plaza", b"paseo", b"via", b"viale", b"piazza", b"corso", b"largo", b"rua",
];
/// At the end of the name, the number after it: Hauptstrasse 12.
#[rustfmt::skip]
const ENDING: &[&[u8]] = &[
    "straße".as_bytes(), b"strasse", b"str.", b"weg", b"gasse", b"platz", b"allee", b"damm", b"ufer", b"straat", b"laan", b"gracht",
    b"plein", b"kade",
];

fn is_capital(word: &[u8]) -> bool {
    word.first().is_some_and(|byte| byte.is_ascii_uppercase() || *byte >= 0x80)
}

fn one_of(words: &[&[u8]], word: &[u8]) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// A street with the house number that begins at `at`.
pub(crate) fn street(bytes: &[u8], at: usize) -> Option<(Claim, Range<usize>)> {
    let claim = Claim::form(Kind::Street, 60);
    let (house, mut length) = digits(bytes.get(at..)?, 5)?;
    if bytes.get(at + length).is_some_and(u8::is_ascii_alphabetic) {
        length += 1;
    }
    let end = at + length;
    if house == 0 || bytes.get(end).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b':') {
        return None;
    }
    if let Some(length) = after_number(bytes.get(end..bytes.len().min(end + STREET_BYTES_MAX))?) {
        return Some((claim, at..end + length));
    }
    // The line before the number.
    let from = at.saturating_sub(STREET_BYTES_MAX);
    let before = bytes.get(from..at)?;
    let line = before.rsplit(|byte| matches!(byte, b'\n' | b';' | b':' | b'(' | b'"')).next()?;
    let name = line.strip_suffix(b", ").or_else(|| line.strip_suffix(b" "))?;
    let mut start = name.len();
    for (count, word) in name.rsplit(|byte| *byte == b' ').enumerate().take(STREET_WORDS_MAX) {
        start = start.saturating_sub(word.len() + usize::from(count > 0));
        let lower = word.to_ascii_lowercase();
        let names = count > 0
            && one_of(BEFORE, word)
            && is_capital(word)
            && is_capital(name.rsplit(|byte| *byte == b' ').next()?);
        let ends =
            count == 0 && word.len() > 5 && is_capital(word) && ENDING.iter().any(|ending| lower.ends_with(ending));
        if names || ends {
            return Some((claim, at - (line.len() - start)..end));
        }
        if word.ends_with(b",") || word.ends_with(b".") {
            break;
        }
    }
    None
}

/// How long the name after a house number is.
fn after_number(rest: &[u8]) -> Option<usize> {
    let mut words = rest.split(|byte| *byte == b' ');
    let comma = words.next()?;
    if !comma.is_empty() && comma != b"," {
        return None;
    }
    let (mut length, mut names, mut french) = (comma.len(), 0, false);
    for (count, written) in words.enumerate().take(STREET_WORDS_MAX) {
        let word_bytes =
            written.iter().take_while(|byte| byte.is_ascii_alphabetic() || **byte >= 0x80 || **byte == b'\'').count();
        let word = written.get(..word_bytes)?;
        length += 1 + word_bytes;
        if count == 0 && one_of(BETWEEN, word) && !is_capital(word) {
            french = true;
        } else if french && is_capital(word.rsplit(|byte| *byte == b'\'').next()?)
            || names > 0 && is_capital(word) && one_of(AFTER, word)
        {
            return Some(length);
        } else if is_capital(word) && word_bytes > 1 {
            names += 1;
        } else if !french {
            return None;
        }
        if word_bytes < written.len() {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    type Find = fn(&[u8], usize) -> Option<(Claim, Range<usize>)>;

    fn at_first_digit(text: &str, find: Find) -> Option<&str> {
        find(text.as_bytes(), text.find(|c: char| c.is_ascii_digit())?).map(|(_, range)| &text[range])
    }

    #[test]
    fn dates_are_read_in_the_forms_that_people_write() {
        for text in [
            "1985-03-12",
            "12.03.1985",
            "3/12/1985",
            "12 March 1985",
            "12th of March, 1985",
            "12. Maerz 1985",
            "March 12, 1985",
            "12 de marzo de 1985",
        ] {
            assert_eq!(at_first_digit(text, birth), Some(text));
        }
        for text in ["1985-02-30", "31.04.1985", "12 Marble 198", "12/1985", "1.2.3", "12 March", "2.10.19855"] {
            assert_eq!(at_first_digit(text, birth), None, "{text}");
        }
    }

    #[test]
    fn streets_are_known_by_their_words() {
        for text in [
            "10 Downing Street",
            "1600 Pennsylvania Ave",
            "221b Baker Street",
            "12 rue de la Paix",
            "Hauptstraße 12",
            "Calle Mayor 5",
            "Via Giuseppe Verdi 7a",
        ] {
            assert_eq!(at_first_digit(&format!("to {text}, x"), street), Some(text));
        }
        for text in [
            "10 street",
            "3 way handshake",
            "5 Ways",
            "Version 12",
            "via 5",
            "10 people on Main Street",
            "weg 3",
            "we go via Rome 3",
        ] {
            assert_eq!(at_first_digit(text, street), None, "{text}");
        }
    }
}

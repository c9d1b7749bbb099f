//! Numbers of states that have letters in them: one word each.

use crate::checksum::{is_date, mod97, value, weighted};
use crate::finding::{Claim, Kind};

/// Spain: the letter by the remainder.
const NIF_LETTERS: &[u8] = b"TRWAGMYFPDXBNJZSQVHLCKE";

/// Finland: likewise.
const HETU_LETTERS: &[u8] = b"0123456789ABCDEFHJKLMNPRSTUVWXY";

/// The longest of these, CURP and the Chinese number.
pub(crate) const CHARS_MAX: usize = 18;

fn digits(word: &[u8]) -> Option<Vec<u8>> {
    word.iter().map(|byte| byte.is_ascii_digit().then(|| byte - b'0')).collect()
}

fn sum(word: &[u8], weights: &[u32]) -> Option<u32> {
    Some(weighted(&digits(word)?, weights))
}

fn number(word: &[u8]) -> Option<u32> {
    Some(value(&digits(word)?))
}

/// Whether `word` has letters where `form` has `A`, and digits where it has `9`.
fn has_form(word: &[u8], form: &[u8]) -> bool {
    let fits = |(byte, form): (&u8, &u8)| if *form == b'A' { byte.is_ascii_uppercase() } else { byte.is_ascii_digit() };
    word.len() == form.len() && word.iter().zip(form).all(fits)
}

/// A word of letters and digits.
pub(crate) fn claim(word: &[u8]) -> Option<Claim> {
    if word.len() > CHARS_MAX || !word.iter().any(u8::is_ascii_digit) {
        return None;
    }
    let upper = word.to_ascii_uppercase();
    // One case: tokens mix them.
    if word.iter().any(u8::is_ascii_lowercase) && word.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let word = upper.as_slice();
    let (kind, score, right) = match word.len() {
        9 if has_form(word, b"99999999A") => (Kind::EsNif, 60, spanish(word, None)),
        9 if has_form(word, b"A99999999") || has_form(word, b"A9999999A") => {
            let nie = word.first().and_then(|letter| b"XYZ".iter().position(|known| known == letter));
            match nie {
                Some(nie) => (Kind::EsNif, 65, spanish(word, Some(nie as u32))),
                None => (Kind::SgNric, 65, singaporean(word)),
            }
        }
        8 if has_form(word, b"9999999A") => (Kind::IePps, 55, irish(word)),
        9 if has_form(word, b"9999999AA") => (Kind::IePps, 60, irish(word)),
        9 if has_form(word, b"AA999999A") => return british(word).then_some(Claim::form(Kind::UkNino, 55)),
        10 if has_form(word, b"AAAAA9999A") => {
            let holder = word.get(3).is_some_and(|holder| b"ABCFGHJLPT".contains(holder));
            let given = word.get(5..9).is_some_and(|serial| serial != b"0000");
            return (holder && given).then_some(Claim::form(Kind::InPan, 55));
        }
        15 if word.get(5) == Some(&b'2') => (Kind::FrNir, 90, corsican(word)),
        16 => (Kind::ItCodiceFiscale, 95, italian(word)),
        18 if word.first().is_some_and(u8::is_ascii_digit) => {
            (Kind::CnRic, 90, chinese(&digits(word.get(..17)?)?, *word.get(17)?))
        }
        18 => (Kind::MxCurp, 90, mexican(word)),
        _ => return None,
    };
    right.unwrap_or(false).then_some(Claim::checksum(kind, score))
}

fn spanish(word: &[u8], nie: Option<u32>) -> Option<bool> {
    let body = match nie {
        Some(first) => first * 10_000_000 + number(word.get(1..8)?)?,
        None => number(word.get(..8)?)?,
    };
    Some(NIF_LETTERS.get((body % 23) as usize) == word.last() && body != 0)
}

fn singaporean(word: &[u8]) -> Option<bool> {
    let (first, last) = (word.first()?, word.last()?);
    let rest = sum(word.get(1..8)?, &[2, 7, 6, 5, 4, 3, 2])?;
    let (more, letters): (u32, &[u8]) = match first {
        b'S' => (0, b"JZIHGFEDCBA"),
        b'T' => (4, b"JZIHGFEDCBA"),
        b'F' => (0, b"XWUTRQPNMLK"),
        b'G' => (4, b"XWUTRQPNMLK"),
        b'M' => (3, b"KLJNPQRTUWX"),
        _ => return None,
    };
    let at = ((rest + more) % 11) as usize;
    Some(letters.get(if *first == b'M' { 10 - at } else { at }) == Some(last))
}

/// A second letter A–I counts nine times; W, T and X marked spouses.
fn irish(word: &[u8]) -> Option<bool> {
    let second = match word.get(8) {
        None | Some(b'W' | b'T' | b'X') => 0,
        Some(letter @ b'A'..=b'I') => u32::from(letter - b'A') + 1,
        Some(_) => return None,
    };
    let rest = (sum(word.get(..7)?, &[8, 7, 6, 5, 4, 3, 2])? + 9 * second) % 23;
    Some(b"WABCDEFGHIJKLMNOPQRSTUV".get(rest as usize) == word.get(7))
}

/// The letters that were never given out.
fn british(word: &[u8]) -> bool {
    let [first, second, ..] = word else { return false };
    let unused: [&[u8]; 7] = [b"BG", b"GB", b"NK", b"KN", b"TN", b"NT", b"ZZ"];
    !b"DFIQUV".contains(first)
        && !b"DFIQUVO".contains(second)
        && !unused.contains(&[*first, *second].as_slice())
        && matches!(word.last(), Some(b'A'..=b'D'))
}

/// A national insurance number with blanks, `AB 12 34 56 C`: its length.
pub(crate) fn british_in_groups(bytes: &[u8]) -> Option<usize> {
    let written = bytes.get(..13)?;
    let blank = |at: usize| written.get(at) == Some(&b' ');
    let compact: Vec<u8> = written.iter().copied().filter(|byte| *byte != b' ').collect();
    let right = [2, 5, 8, 11].into_iter().all(blank) && has_form(&compact, b"AA999999A") && british(&compact);
    (right && !bytes.get(13).is_some_and(u8::is_ascii_alphanumeric)).then_some(13)
}

/// Departments 2A and 2B count as 19 and 18.
fn corsican(word: &[u8]) -> Option<bool> {
    let department = match word.get(6)? {
        b'A' => [1, 9],
        b'B' => [1, 8],
        _ => return None,
    };
    let (head, tail) = (digits(word.get(..5)?)?, digits(word.get(7..)?)?);
    let all: Vec<u8> = head.into_iter().chain(department).chain(tail).collect();
    let check = value(all.get(13..)?);
    Some(super::nir_form(&all) && mod97(all.get(..13)?) + check == 97)
}

/// In seven places a digit may stand as a letter, where two people would have the same code.
fn italian(word: &[u8]) -> Option<bool> {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    const STANDS_FOR: &[u8] = b"LMNPQRSTUV";
    for (at, byte) in word.iter().enumerate() {
        let fits = match at {
            0..=5 | 11 | 15 => byte.is_ascii_uppercase(),
            8 => b"ABCDEHLMPRST".contains(byte),
            _ => byte.is_ascii_digit() || STANDS_FOR.contains(byte),
        };
        if !fits {
            return Some(false);
        }
    }
    let (check, body) = word.split_last()?;
    let sum: u32 = body
        .iter()
        .enumerate()
        .map(|(at, byte)| {
            let value = if byte.is_ascii_digit() { byte - b'0' } else { byte - b'A' };
            if at % 2 == 0 { ODD.get(usize::from(value)).copied().unwrap_or_default() } else { u32::from(value) }
        })
        .sum();
    Some(u32::from(check - b'A') == sum % 26)
}

pub(super) fn chinese(body: &[u8], check: u8) -> Option<bool> {
    let date = is_date(value(body.get(6..10)?), value(body.get(10..12)?), value(body.get(12..14)?));
    let rest = weighted(body, &[7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]) % 11;
    let lived = matches!(value(body.get(6..10)?), 1850..=2199);
    Some(date && lived && b"10X98765432".get(rest as usize) == Some(&check))
}

fn mexican(word: &[u8]) -> Option<bool> {
    const ALPHABET: &[u8] = b"0123456789ABCDEFGHIJKLMN_OPQRSTUVWXYZ";
    let formed = has_form(word.get(..10)?, b"AAAA999999")
        && matches!(word.get(10)?, b'H' | b'M' | b'X')
        && has_form(word.get(11..16)?, b"AAAAA")
        && is_date(2000, number(word.get(6..8)?)?, number(word.get(8..10)?)?);
    let mut sum = 0;
    for (at, byte) in word.get(..17)?.iter().enumerate() {
        // The place that Ñ would have stays empty.
        let value = ALPHABET.iter().position(|known| known == byte)?;
        sum += value * (18 - at);
    }
    Some(formed && number(word.get(17..)?)? as usize == (10 - sum % 10) % 10)
}

/// The check digit of a Chilean number: 0–9 or K.
pub(crate) fn chilean_check(body: &[u8]) -> Option<u8> {
    let sum: u32 =
        body.iter().rev().zip([2, 3, 4, 5, 6, 7].iter().cycle()).map(|(&digit, by)| u32::from(digit) * by).sum();
    match 11 - sum % 11 {
        11 => Some(b'0'),
        10 => Some(b'K'),
        digit => u8::try_from(digit).ok().map(|digit| b'0' + digit),
    }
}

/// Numbers with a sign before their last letters, as they stand at the beginning of `bytes`: a Finnish number
/// (`131052-308T`), a Chilean one that ends in K (`12345670-K`), a Spanish one with a dash (`12345678-Z`).
pub(crate) fn claim_with_sign(bytes: &[u8]) -> Option<(Claim, usize)> {
    let ends = |length: usize| !bytes.get(length).is_some_and(u8::is_ascii_alphanumeric);
    let head = bytes.iter().take(9).take_while(|byte| byte.is_ascii_digit()).count();
    let sign = bytes.get(head)?;
    match head {
        6 if ends(11) && b"-+ABCDEFYXWVU".contains(sign) => {
            let (date, serial, check) = (bytes.get(..6)?, bytes.get(7..10)?, bytes.get(10)?.to_ascii_uppercase());
            let body = number(date)? * 1000 + number(serial)?;
            let is_date = is_date(2000, number(date.get(2..4)?)?, number(date.get(..2)?)?);
            let right = HETU_LETTERS.get((body % 31) as usize) == Some(&check) && is_date;
            right.then_some((Claim::checksum(Kind::FiHetu, 85), 11))
        }
        7 | 8 if *sign == b'-' && ends(head + 2) => {
            let (body, check) = (digits(bytes.get(..head)?)?, bytes.get(head + 1)?.to_ascii_uppercase());
            if check == b'K' && chilean_check(&body) == Some(check) {
                return Some((Claim::checksum(Kind::ClRut, 80), head + 2));
            }
            let spanish = head == 8 && NIF_LETTERS.get((value(&body) % 23) as usize) == Some(&check);
            spanish.then_some((Claim::checksum(Kind::EsNif, 75), head + 2))
        }
        _ => None,
    }
}

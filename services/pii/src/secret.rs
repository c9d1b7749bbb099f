//! Secrets without a form of their own: what a word before them calls so, and what looks drawn at random.

use crate::finding::{Claim, Evidence, Kind};

/// Shorter ones could be words.
pub(crate) const RANDOM_CHARS_MIN: usize = 24;

/// Longer ones are files.
pub(crate) const RANDOM_CHARS_MAX: usize = 256;

/// Bits of a character of what is random, beside a word for it and without; text in one case has 4 at the most.
const BITS_BESIDE: f64 = 3.0;
const BITS_ALONE: f64 = 4.1;

/// Shannon's entropy of its characters, in bits.
fn bits(token: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in token {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let length = token.len() as f64;
    let share = |count: &u32| f64::from(*count) / length;
    -counts.iter().filter(|count| **count > 0).map(|count| share(count) * share(count).log2()).sum::<f64>()
}

/// Digits, small and large letters.
fn classes(token: &[u8]) -> usize {
    let has = |is: fn(&u8) -> bool| usize::from(token.iter().any(is));
    has(u8::is_ascii_digit) + has(u8::is_ascii_lowercase) + has(u8::is_ascii_uppercase)
}

/// How often it changes between digits, small and large letters: names of programs do so at words, random text at each second.
fn changes(token: &[u8]) -> usize {
    let class = |byte: &u8| (byte.is_ascii_digit(), byte.is_ascii_lowercase(), byte.is_ascii_uppercase());
    token.windows(2).filter(|pair| pair.first().map(class) != pair.last().map(class)).count()
}

/// A token of base64 characters, not hexadecimal.
pub(crate) fn random(token: &[u8]) -> Option<Claim> {
    if !(RANDOM_CHARS_MIN..=RANDOM_CHARS_MAX).contains(&token.len()) || classes(token) < 2 {
        return None;
    }
    let digits = token.iter().filter(|byte| byte.is_ascii_digit()).count();
    let signs = token.iter().filter(|byte| matches!(byte, b'-' | b'_' | b'/')).count();
    let changes = changes(token) * 100 / token.len();
    let (bits, few_signs) = (bits(token), signs * 8 <= token.len());
    let alone = classes(token) == 3 && changes >= 40 && digits >= 2 && few_signs && bits >= BITS_ALONE;
    let beside = changes >= 30 && few_signs && bits >= BITS_BESIDE;
    let claim = |score| Claim { kind: Kind::Secret, score, evidence: Evidence::Entropy };
    alone.then(|| claim(55)).or_else(|| beside.then(|| claim(20)))
}

/// Hexadecimal of 32 digits and more: a digest, unless a word beside it says that it is a key.
pub(crate) fn hexadecimal(token: &[u8]) -> Option<Claim> {
    let right = matches!(token.len(), 32..=128) && bits(token) >= BITS_BESIDE;
    right.then_some(Claim::form(Kind::Secret, 20))
}

/// Words that, as the end of a name, call what is assigned to it secret.
const NAMES: &[&[u8]] = &[
    b"password",
    b"passwd",
    b"passphrase",
    b"pwd",
    b"secret",
    b"token",
    b"apikey",
    b"api_key",
    b"api-key",
    b"accesskey",
    b"access_key",
    b"secretkey",
    b"secret_key",
    b"private_key",
    b"auth_token",
    b"client_secret",
];

/// What stands for a value that comes from elsewhere.
const PLACEHOLDERS: &[&[u8]] =
    &[b"none", b"null", b"true", b"false", b"changeme", b"password", b"example", b"redacted", b"undefined"];

/// The longest value taken; a pass phrase has blanks, and is cut there.
const VALUE_BYTES_MAX: usize = 128;

/// The value of `name = value` whose name ends at `end`: its start and end.
pub(crate) fn assigned(bytes: &[u8], start: usize, end: usize) -> Option<(Claim, std::ops::Range<usize>)> {
    let name = bytes.get(start..end)?;
    let named = |known: &&&[u8]| {
        name.len() >= known.len()
            && name.get(name.len() - known.len()..).is_some_and(|tail| tail.eq_ignore_ascii_case(known))
    };
    NAMES.iter().find(named)?;
    let mut at = end;
    let skip = |at: &mut usize, which: &[u8], most: usize| {
        let count =
            bytes.get(*at..).unwrap_or_default().iter().take(most).take_while(|byte| which.contains(byte)).count();
        *at += count;
        count
    };
    skip(&mut at, b"\"'` ", 2);
    if skip(&mut at, b":=", 2) == 0 {
        return None;
    }
    skip(&mut at, b"> ", 2);
    let quoted = skip(&mut at, b"\"'`", 1) == 1;
    let ends: &[u8] = if quoted { b"\"'`\r\n" } else { b" \t\r\n\"'`,;&<>)]}" };
    let value = bytes.get(at..)?;
    let length = value
        .iter()
        .take(VALUE_BYTES_MAX)
        .position(|byte| ends.contains(byte))
        .unwrap_or(value.len().min(VALUE_BYTES_MAX));
    let value = value.get(..length)?;
    let plain = PLACEHOLDERS.iter().any(|known| known.eq_ignore_ascii_case(value));
    let stands_for = plain || value.iter().any(|byte| b"(${<[*".contains(byte));
    let digits = value.iter().any(u8::is_ascii_digit);
    let letters = value.iter().any(u8::is_ascii_alphabetic);
    let signs = value.iter().any(u8::is_ascii_punctuation);
    // Names of code have dots, underscores and colons, and no digits; a value in quotes is none.
    let mixed = digits && letters || quoted && (signs && letters || digits) || digits && signs;
    let right = length >= 6 && !stands_for && mixed && bits(value) >= 2.0;
    let claim = Claim { kind: Kind::Secret, score: if quoted { 70 } else { 60 }, evidence: Evidence::Context };
    right.then_some((claim, at..at + length))
}

/// `user:password@` of a URL, whose `://` ends at `begin` and whose `@` is at `at`: the password.
pub(crate) fn in_url(bytes: &[u8], at: usize) -> Option<(Claim, std::ops::Range<usize>)> {
    let from = at.saturating_sub(VALUE_BYTES_MAX * 2);
    let before = bytes.get(from..at)?;
    let begin = before.windows(3).rposition(|three| three == b"://")? + 3;
    let account = before.get(begin..)?;
    let colon = account.iter().position(|byte| *byte == b':')?;
    let inside = |byte: &u8| byte.is_ascii_graphic() && !b"/\"'<>?#${}".contains(byte);
    let right = account.iter().all(inside) && colon + 1 < account.len();
    let claim = Claim { kind: Kind::Secret, score: 85, evidence: Evidence::Context };
    right.then_some((claim, from + begin + colon + 1..at))
}

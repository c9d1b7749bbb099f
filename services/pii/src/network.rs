//! Addresses of mail and machines. None has a checksum.

use crate::finding::{Claim, Kind};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// RFC 5321: before the `@`, and after it.
const LOCAL_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 255;

/// Longest text form of an IPv6 address.
const IPV6_BYTES_MAX: usize = 45;

/// What follows the last dot of file and unit names that have an `@` in them.
const NOT_DOMAINS: &[&[u8]] = &[
    b"service", b"socket", b"timer", b"mount", b"target", b"slice", b"scope", b"path", b"png", b"jpg", b"jpeg", b"gif",
    b"svg", b"webp",
];

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80 || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte)
}

fn is_label(label: &[u8]) -> bool {
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte >= 0x80;
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    (1..=63).contains(&label.len()) && label.iter().all(inside) && edge(label.first()) && edge(label.last())
}

/// The address around the `@` at `at`.
pub(crate) fn email(bytes: &[u8], at: usize) -> Option<(Claim, Range<usize>)> {
    let before = bytes.get(..at)?;
    let local = before.iter().rev().take(LOCAL_BYTES_MAX + 1).take_while(|byte| is_local(**byte)).count();
    if local > LOCAL_BYTES_MAX {
        return None;
    }
    let mut start = at - local;
    // What a mailbox may begin with by the letter of the standard, but does only where a value begins there.
    while bytes.get(start).is_some_and(|byte| b"!#$%&'*+-/=?^`{|}~.".contains(byte)) {
        start += 1;
    }
    // `q=name@…`, `/name@…`: the value's name and path are not part of it.
    let cut = |byte: &u8| b"=/&?'`{|}".contains(byte);
    start += bytes.get(start..at)?.iter().rposition(cut).map_or(0, |cut| cut + 1);
    let rest = bytes.get(at + 1..)?;
    let inside = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'-' || **byte == b'.' || **byte >= 0x80;
    let mut length = rest.iter().take(DOMAIN_BYTES_MAX).take_while(inside).count();
    while length > 0 && matches!(rest.get(length - 1), Some(b'.' | b'-')) {
        length -= 1;
    }
    let domain = rest.get(..length)?;
    let top = domain.rsplit(|byte| *byte == b'.').next()?;
    let is_top = top.len() >= 2 && (top.iter().all(|byte| !byte.is_ascii_digit()) || top.starts_with(b"xn--"));
    let labels = domain.split(|byte| *byte == b'.');
    let user = bytes.get(start..at)?;
    let named = !user.is_empty() && !user.ends_with(b".") && !user.windows(2).any(|pair| pair == b"..");
    let file = NOT_DOMAINS.contains(&top.to_ascii_lowercase().as_slice());
    // How a repository is named over SSH.
    let repository = user == b"git" && rest.get(length) == Some(&b':');
    let right = named && is_top && !file && !repository && domain.contains(&b'.') && labels.into_iter().all(is_label);
    right.then_some((Claim::form(Kind::Email, 90), start..at + 1 + length))
}

/// Dotted quad at the beginning of `bytes`; none of those that every machine has.
pub(crate) fn ipv4(bytes: &[u8]) -> Option<(Claim, usize)> {
    let length = bytes.iter().take(16).take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
    let sentence_end = usize::from(length > 0 && bytes.get(length - 1) == Some(&b'.'));
    let written = bytes.get(..length - sentence_end)?;
    let address: Ipv4Addr = std::str::from_utf8(written).ok()?.parse().ok()?;
    let next = bytes.get(length).copied().unwrap_or(b' ');
    let ends = !next.is_ascii_alphanumeric() && next != b'_' && !(next == b'-' && sentence_end == 0);
    let [first, .., last] = address.octets();
    let everyones = address.is_loopback() || first == 0 || first == 255 || address.is_broadcast();
    let score = if address.is_private() || last == 0 { 55 } else { 60 };
    (ends && !everyones).then_some((Claim::form(Kind::Ipv4, score), written.len()))
}

/// An IPv6 or MAC address at the beginning of `bytes`.
pub(crate) fn colons(bytes: &[u8]) -> Option<(Claim, usize)> {
    mac(bytes).or_else(|| ipv6(bytes))
}

fn ipv6(bytes: &[u8]) -> Option<(Claim, usize)> {
    let inside = |byte: &&u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let mut length = bytes.iter().take(IPV6_BYTES_MAX + 1).take_while(inside).count();
    if length > IPV6_BYTES_MAX || bytes.get(length).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
        return None;
    }
    while length > 0
        && (bytes.get(length - 1) == Some(&b'.')
            || bytes.get(..length)?.ends_with(b":") && !bytes.get(..length)?.ends_with(b"::"))
    {
        length -= 1;
    }
    let written = bytes.get(..length)?;
    let address: Ipv6Addr = std::str::from_utf8(written).ok()?.parse().ok()?;
    let [first, ..] = address.segments();
    // Paths of languages are hexadecimal words with `::` between them at times; addresses in use are of three blocks.
    let used =
        (0x2000..0x4000).contains(&first) || (0xFC00..0xFF00).contains(&first) || address.to_ipv4_mapped().is_some();
    let digits = written.iter().any(u8::is_ascii_digit);
    (used && digits && !address.is_loopback()).then_some((Claim::form(Kind::Ipv6, 75), length))
}

fn mac(bytes: &[u8]) -> Option<(Claim, usize)> {
    let written = bytes.get(..17)?;
    let between = *written.get(2)?;
    let fits = |(at, byte): (usize, &u8)| if at % 3 == 2 { *byte == between } else { byte.is_ascii_hexdigit() };
    let next = bytes.get(17).copied().unwrap_or(b' ');
    let ends = !next.is_ascii_alphanumeric() && next != between;
    let nobodys = written.iter().all(|byte| b"0:-".contains(byte)) || written.iter().all(|byte| b"fF:-".contains(byte));
    let right = matches!(between, b':' | b'-') && written.iter().enumerate().all(fits) && ends && !nobodys;
    right.then_some((Claim::form(Kind::Mac, 75), 17))
}

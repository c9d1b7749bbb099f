//! Encodings, taken off: escapes of URLs, HTML and JSON in one go over a text, base64 and hexadecimal by the token.
//! Nothing here makes a text longer.

use crate::offsets::Offsets;
use memchr::memchr3;

/// Shorter tokens decode to less than an e-mail address has.
pub(crate) const TOKEN_CHARS_MIN: usize = 12;

/// A longer token is a file, of which no more than this is decoded.
const TOKEN_CHARS_MAX: usize = 1 << 18;

/// Longest of the entities that stand for ASCII here, with its `&` and `;`.
const ENTITY_BYTES_MAX: usize = 10;

const ENTITIES: &[(&[u8], u8)] = &[
    (b"amp", b'&'),
    (b"lt", b'<'),
    (b"gt", b'>'),
    (b"quot", b'"'),
    (b"apos", b'\''),
    (b"nbsp", b' '),
    (b"commat", b'@'),
    (b"period", b'.'),
    (b"colon", b':'),
    (b"sol", b'/'),
    (b"hyphen", b'-'),
    (b"dash", b'-'),
    (b"lowbar", b'_'),
    (b"plus", b'+'),
    (b"equals", b'='),
    (b"num", b'#'),
    (b"lpar", b'('),
    (b"rpar", b')'),
];

fn hex(byte: u8) -> Option<u32> {
    char::from(byte).to_digit(16)
}

fn hex_value(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0, |sum, &byte| Some(sum << 4 | hex(byte)?))
}

enum Decoded {
    Byte(u8),
    Char(char),
}

/// The escape that `bytes` begin with, and its length.
fn escape(bytes: &[u8]) -> Option<(Decoded, usize)> {
    match bytes {
        [b'%', high, low, ..] => Some((Decoded::Byte((hex(*high)? << 4 | hex(*low)?) as u8), 3)),
        [b'&', b'#', rest @ ..] => {
            let (radix, rest, prefix) = match rest {
                [b'x' | b'X', rest @ ..] => (16, rest, 3),
                _ => (10, rest, 2),
            };
            let digits = rest.iter().take(8).take_while(|byte| char::from(**byte).is_digit(radix)).count();
            let value = std::str::from_utf8(rest.get(..digits)?).ok()?;
            let c = char::from_u32(u32::from_str_radix(value, radix).ok()?)?;
            let semicolon = usize::from(rest.get(digits) == Some(&b';'));
            Some((Decoded::Char(c), prefix + digits + semicolon))
        }
        [b'&', rest @ ..] => {
            let length = rest.iter().take(ENTITY_BYTES_MAX - 1).position(|byte| *byte == b';')?;
            let name = rest.get(..length)?;
            let (_, byte) = ENTITIES.iter().find(|(entity, _)| *entity == name)?;
            Some((Decoded::Byte(*byte), length + 2))
        }
        [b'\\', b'u', b'{', rest @ ..] => {
            let length = rest.iter().take(7).position(|byte| *byte == b'}')?;
            Some((Decoded::Char(char::from_u32(hex_value(rest.get(..length)?)?)?), length + 4))
        }
        [b'\\', b'u', rest @ ..] => {
            let high = hex_value(rest.get(..4)?)?;
            if let Some(c) = char::from_u32(high) {
                return Some((Decoded::Char(c), 6));
            }
            let low = rest.get(4..)?.strip_prefix(b"\\u").and_then(|rest| hex_value(rest.get(..4)?))?;
            let mut pair = char::decode_utf16([high as u16, low as u16]);
            Some((Decoded::Char(pair.next()?.ok()?), 12))
        }
        [b'\\', b'x', high, low, ..] => Some((Decoded::Byte((hex(*high)? << 4 | hex(*low)?) as u8), 4)),
        [b'\\', plain @ (b'"' | b'\'' | b'/' | b'\\'), ..] => Some((Decoded::Byte(*plain), 2)),
        [b'\\', b'n' | b'r', ..] => Some((Decoded::Byte(b'\n'), 2)),
        [b'\\', b't', ..] => Some((Decoded::Byte(b'\t'), 2)),
        _ => None,
    }
}

/// The text without its escapes, or nothing where it has none.
pub(crate) fn unescape(bytes: &[u8]) -> Option<(Vec<u8>, Offsets)> {
    let (mut out, mut offsets, mut copied, mut at) = (Vec::new(), Offsets::new(), 0, 0);
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr3(b'%', b'&', b'\\', rest)) {
        at += found;
        let Some((decoded, length)) = bytes.get(at..).and_then(escape) else {
            at += 1;
            continue;
        };
        if copied < at {
            offsets.begin(out.len(), copied);
            out.extend_from_slice(bytes.get(copied..at).unwrap_or_default());
        }
        offsets.begin(out.len(), at);
        match decoded {
            Decoded::Byte(byte) => out.push(byte),
            Decoded::Char(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        at += length;
        copied = at;
    }
    if copied == 0 {
        return None;
    }
    if copied < bytes.len() {
        offsets.begin(out.len(), copied);
        out.extend_from_slice(bytes.get(copied..).unwrap_or_default());
    }
    offsets.end(out.len(), bytes.len());
    Some((out, offsets))
}

fn base64_value(byte: u8) -> Option<u32> {
    Some(u32::from(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    }))
}

/// Both alphabets, with or without `=`; white space between. The end may be missing.
pub(crate) fn base64(token: &[u8]) -> Option<(Vec<u8>, Offsets)> {
    let (mut out, mut offsets) = (Vec::with_capacity(token.len() / 4 * 3 + 3), Offsets::new());
    let (mut bits, mut held, mut end) = (0_u32, 0, 0);
    for (at, &byte) in token.iter().enumerate().take(TOKEN_CHARS_MAX) {
        match byte {
            b'\r' | b'\n' => continue,
            b'=' => break,
            _ => {}
        }
        let value = base64_value(byte)?;
        if held == 0 {
            offsets.begin(out.len(), at);
        }
        bits = bits << 6 | value;
        held += 1;
        end = at + 1;
        if held == 4 {
            out.extend(bits.to_be_bytes().into_iter().skip(1));
            (bits, held) = (0, 0);
        }
    }
    match held {
        1 => return None,
        2 => out.push((bits >> 4) as u8),
        3 => out.extend(((bits >> 2) as u16).to_be_bytes()),
        _ => {}
    }
    offsets.end(out.len(), end);
    Some((out, offsets))
}

fn hexadecimal(token: &[u8]) -> Option<(Vec<u8>, Offsets)> {
    let (mut out, mut offsets) = (Vec::with_capacity(token.len() / 2), Offsets::new());
    if !token.len().is_multiple_of(2) {
        return None;
    }
    for (at, pair) in token.chunks_exact(2).enumerate().take(TOKEN_CHARS_MAX / 2) {
        offsets.begin(at, at * 2);
        out.push(hex_value(pair)? as u8);
    }
    offsets.end(out.len(), out.len() * 2);
    Some((out, offsets))
}

/// What people write: UTF-8 without control characters. Random bytes of nine are so once in a thousand times.
fn is_text(bytes: &[u8]) -> bool {
    let control = |byte: &u8| *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r') || *byte == 0x7F;
    !bytes.is_empty() && !bytes.iter().any(control) && std::str::from_utf8(bytes).is_ok()
}

/// The text that `token` encodes, hexadecimal or base64, if any.
pub(crate) fn decode(token: &[u8]) -> Option<(Vec<u8>, Offsets)> {
    hexadecimal(token).filter(|(out, _)| is_text(out)).or_else(|| base64(token).filter(|(out, _)| is_text(out)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_taken_off_and_lead_back() {
        for (given, becomes) in [
            ("a%40b.org 100%", "a@b.org 100%"),
            ("a&#64;b &#x40;c &commat; &amp;lt; &nothing; &", "a@b @c @ &lt; &nothing; &"),
            (r#"\u0061\u{62}\x63\n\"\\ \ud83d\ude00 \ud83d \q"#, "abc\n\"\\ 😀 \\ud83d \\q"),
        ] {
            let (out, offsets) = unescape(given.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(out.clone()).unwrap(), becomes);
            assert_eq!(offsets.source(0..out.len()), 0..given.len());
        }
        let (_, offsets) = unescape(b"a%40b.org").unwrap();
        assert_eq!((offsets.source(1..2), offsets.source(2..7)), (1..4, 4..9));
        assert!(unescape(b"100% of it & \\").is_none());
    }

    #[test]
    fn tokens_that_hold_text_are_decoded_and_others_not() {
        for token in
            ["bWVAZXhhbXBsZS5vcmc=", "bWVAZXhhbXBsZS5vcmc", "6d65406578616d706c652e6f7267", "bWVAZXhh\r\nbXBsZS5vcmc="]
        {
            assert_eq!(decode(token.as_bytes()).unwrap().0, b"me@example.org", "{token}");
        }
        assert_eq!(decode(b"bWVAZXhhbXBsZS5vcmc=").unwrap().1.source(3..14), 4..19);
        for token in ["d41d8cd98f00b204e9800998ecf8427e", "getElementById", "bWVAZXhhbXBsZS5vcmc*", "aaaaa"] {
            assert!(decode(token.as_bytes()).is_none(), "{token}");
        }
    }
}

//! Characters that people and fonts take for an ASCII one become it: wide and mathematical letters, digits of other
//! scripts, homoglyphs, letters with marks, spaces and dashes; what is invisible goes. The rest stays.

use crate::offsets::Offsets;
use unicode_normalization::char::{canonical_combining_class, decompose_compatible};

/// Some ligatures stand for whole phrases; none that hides a value stands for more.
const EXPANSION_CHARS_MAX: usize = 4;

/// Letters of other scripts drawn like an ASCII one (a choice from Unicode's confusables), by code point; and Latin
/// letters with a stroke, which have no decomposition. Punctuation that stands for ASCII's.
#[rustfmt::skip]
const ALIKE: &[(char, u8)] = &[
    ('\u{85}', b'\n'), ('Ð', b'D'), ('Ø', b'O'), ('ø', b'o'), ('Đ', b'D'), ('đ', b'd'), ('ı', b'i'), ('Ł', b'L'),
    ('ł', b'l'), ('ɑ', b'a'), ('ɡ', b'g'), ('ɩ', b'i'), ('ʏ', b'y'), ('ː', b':'), ('˗', b'-'), ('ͺ', b'i'),
    ('Ϳ', b'J'), ('Α', b'A'), ('Β', b'B'), ('Ε', b'E'), ('Ζ', b'Z'), ('Η', b'H'), ('Ι', b'I'), ('Κ', b'K'),
    ('Μ', b'M'), ('Ν', b'N'), ('Ο', b'O'), ('Ρ', b'P'), ('Τ', b'T'), ('Υ', b'Y'), ('Χ', b'X'), ('α', b'a'),
    ('γ', b'y'), ('ι', b'i'), ('κ', b'k'), ('ν', b'v'), ('ο', b'o'), ('ρ', b'p'), ('τ', b't'), ('υ', b'u'),
    ('ϲ', b'c'), ('ϳ', b'j'), ('Ѕ', b'S'), ('І', b'I'), ('Ј', b'J'), ('А', b'A'), ('В', b'B'), ('Е', b'E'),
    ('К', b'K'), ('М', b'M'), ('Н', b'H'), ('О', b'O'), ('Р', b'P'), ('С', b'C'), ('Т', b'T'), ('У', b'Y'),
    ('Х', b'X'), ('а', b'a'), ('г', b'r'), ('е', b'e'), ('к', b'k'), ('о', b'o'), ('р', b'p'), ('с', b'c'),
    ('т', b't'), ('у', b'y'), ('х', b'x'), ('ѕ', b's'), ('і', b'i'), ('ј', b'j'), ('ѵ', b'v'), ('ү', b'y'),
    ('һ', b'h'), ('Ӏ', b'l'), ('ӏ', b'l'), ('ԁ', b'd'), ('ԍ', b'g'), ('ԛ', b'q'), ('ԝ', b'w'), ('Ս', b'U'),
    ('Օ', b'O'), ('հ', b'h'), ('յ', b'j'), ('ո', b'n'), ('ս', b'u'), ('ց', b'g'), ('օ', b'o'), ('֊', b'-'),
    ('׃', b':'), ('᠆', b'-'), ('ᴄ', b'c'), ('ᴏ', b'o'), ('ᴜ', b'u'), ('ᴠ', b'v'), ('ᴡ', b'w'), ('ᴢ', b'z'),
    ('‐', b'-'), ('‑', b'-'), ('‒', b'-'), ('–', b'-'), ('—', b'-'), ('―', b'-'), ('‘', b'\''), ('’', b'\''),
    ('“', b'"'), ('”', b'"'), ('\u{2028}', b'\n'), ('\u{2029}', b'\n'), ('⁃', b'-'), ('⁄', b'/'), ('−', b'-'),
    ('∕', b'/'), ('∶', b':'), ('。', b'.'), ('ꓲ', b'I'), ('ꓳ', b'O'), ('꞉', b':'),
];

/// The zero of each script that has decimal digits in a row; NFKC knows the mathematical and the wide ones.
#[rustfmt::skip]
const ZEROS: &[char] = &[
    '\u{660}', '\u{6F0}', '\u{7C0}', '\u{966}', '\u{9E6}', '\u{A66}', '\u{AE6}', '\u{B66}', '\u{BE6}', '\u{C66}',
    '\u{CE6}', '\u{D66}', '\u{DE6}', '\u{E50}', '\u{ED0}', '\u{F20}', '\u{1040}', '\u{1090}', '\u{17E0}',
    '\u{1810}', '\u{1946}', '\u{19D0}', '\u{1A80}', '\u{1A90}', '\u{1B50}', '\u{1BB0}', '\u{1C40}', '\u{1C50}',
    '\u{A620}', '\u{A8D0}', '\u{A900}', '\u{A9D0}', '\u{A9F0}', '\u{AA50}', '\u{ABF0}', '\u{104A0}', '\u{10D30}',
    '\u{11066}', '\u{110F0}', '\u{11136}', '\u{111D0}', '\u{112F0}', '\u{11450}', '\u{114D0}', '\u{11650}',
    '\u{116C0}', '\u{11730}', '\u{118E0}', '\u{11950}', '\u{11C50}', '\u{11D50}', '\u{11DA0}', '\u{16A60}',
    '\u{16AC0}', '\u{16B50}', '\u{1E140}', '\u{1E2F0}', '\u{1E950}',
];

/// Drawn as nothing.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}' | '\u{180B}'..='\u{180F}'
        | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}'
        | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFF8}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

/// What `c`, not ASCII, becomes; nothing if it stays. ASCII in `into`.
fn folded(c: char, into: &mut Vec<u8>) -> bool {
    into.clear();
    if is_invisible(c) || canonical_combining_class(c) != 0 {
        return true;
    }
    if let Ok(at) = ALIKE.binary_search_by_key(&c, |(alike, _)| *alike) {
        into.extend(ALIKE.get(at).map(|(_, byte)| *byte));
        return true;
    }
    if c.is_whitespace() {
        into.push(b' ');
        return true;
    }
    let before = ZEROS.partition_point(|zero| *zero <= c);
    if let Some(zero) = before.checked_sub(1).and_then(|at| ZEROS.get(at))
        && let Ok(digit @ 0..=9) = u8::try_from(u32::from(c) - u32::from(*zero))
    {
        into.push(b'0' + digit);
        return true;
    }
    let mut ascii = true;
    decompose_compatible(c, |part| {
        if canonical_combining_class(part) == 0 {
            match u8::try_from(part) {
                Ok(byte) if byte.is_ascii() => into.push(byte),
                _ if u32::from(part) == 0x2044 => into.push(b'/'),
                _ => ascii = false,
            }
        }
    });
    ascii && !into.is_empty() && into.len() <= EXPANSION_CHARS_MAX
}

/// The folded text, or nothing where it would be the same. What is not UTF-8 stays.
pub(crate) fn fold(bytes: &[u8]) -> Option<(Vec<u8>, Offsets)> {
    if bytes.is_ascii() {
        return None;
    }
    let (mut out, mut offsets, mut into, mut source) = (Vec::with_capacity(bytes.len()), Offsets::new(), Vec::new(), 0);
    // Whether the last unit was changed: the next one then begins here.
    let mut changed = true;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let is_changed = !c.is_ascii() && folded(c, &mut into);
            if is_changed || changed {
                offsets.begin(out.len(), source);
            }
            changed = is_changed;
            if is_changed {
                out.extend_from_slice(&into);
            } else {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            source += c.len_utf8();
        }
        if !chunk.invalid().is_empty() && changed {
            offsets.begin(out.len(), source);
            changed = false;
        }
        out.extend_from_slice(chunk.invalid());
        source += chunk.invalid().len();
    }
    offsets.end(out.len(), source);
    Some((out, offsets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(given: &str) -> String {
        fold(given.as_bytes()).map_or(given.to_owned(), |(out, _)| String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_tables_are_in_order() {
        assert!(ALIKE.is_sorted_by(|one, next| one.0 < next.0));
        assert!(ZEROS.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn what_looks_like_ascii_becomes_it() {
        for (given, becomes) in [
            ("４１１１", "4111"),
            ("𝟜𝟙", "41"),
            ("٤١١١", "4111"),
            ("४१", "41"),
            ("раураӏ", "paypal"),
            ("a\u{200B}b\u{FEFF}c\u{AD}", "abc"),
            ("José, Łódź, cafe\u{301}", "Jose, Lodz, cafe"),
            ("1\u{A0}2\u{2009}3–4", "1 2 3-4"),
            ("ａ＠ｂ．ｏｒｇ", "a@b.org"),
            ("⑽ ﬁ", "(10) fi"),
            ("日本語 ﷺ Straße", "日本語 ﷺ Straße"),
        ] {
            assert_eq!(text(given), becomes);
        }
    }

    #[test]
    fn places_lead_back_to_whole_characters() {
        let given = "é４\u{200B}１x日";
        let (out, offsets) = fold(given.as_bytes()).unwrap();
        assert_eq!(out, "e41x日".as_bytes());
        assert_eq!(&given[offsets.source(1..3)], "４\u{200B}１");
        assert_eq!(&given[offsets.source(2..4)], "１x");
        assert_eq!(&given[offsets.source(0..7)], given);
    }
}

//! Payment cards, IBAN, BIC, routing numbers.

use crate::checksum::{luhn, value, weighted};
use crate::finding::{Claim, Kind};
use crate::number::Number;

/// First and last beginning that an issuer has, of equal length; lengths of its cards.
const ISSUERS: &[(u32, u32, &[usize])] = &[
    (4, 4, &[13, 16, 19]),
    (51, 55, &[16]),
    (2221, 2720, &[16]),
    (34, 34, &[15]),
    (37, 37, &[15]),
    (6011, 6011, &[16, 19]),
    (644, 649, &[16, 19]),
    (65, 65, &[16, 19]),
    (3528, 3589, &[16, 17, 18, 19]),
    (300, 305, &[14, 16]),
    (3095, 3095, &[14, 16]),
    (36, 36, &[14, 16]),
    (38, 39, &[14, 16]),
    (62, 62, &[16, 17, 18, 19]),
    (81, 82, &[16]),
    (508, 508, &[16]),
    (60, 60, &[16]),
    (2200, 2204, &[16, 17, 18, 19]),
    (9792, 9792, &[16]),
    (5018, 5018, &[13, 14, 15, 16, 17, 18, 19]),
    (5020, 5020, &[13, 14, 15, 16, 17, 18, 19]),
    (5038, 5038, &[13, 14, 15, 16, 17, 18, 19]),
    (5893, 5893, &[13, 14, 15, 16, 17, 18, 19]),
    (6304, 6304, &[13, 14, 15, 16, 17, 18, 19]),
    (6759, 6759, &[13, 14, 15, 16, 17, 18, 19]),
    (6761, 6763, &[13, 14, 15, 16, 17, 18, 19]),
];

/// As cards are printed; the first two groups of one of 19 digits are as those of 16.
const CARD_GROUPS: &[&[u8]] =
    &[&[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4], &[4, 4, 4, 4, 3], &[6, 13], &[4, 4, 5], &[4, 3, 3, 3], &[8, 8]];

fn issued(digits: &[u8]) -> bool {
    ISSUERS.iter().any(|(first, last, lengths)| {
        let begin = digits.get(..first.ilog10() as usize + 1).map(value).unwrap_or_default();
        (*first..=*last).contains(&begin) && lengths.contains(&digits.len())
    })
}

pub(crate) fn claims(number: &Number, into: &mut Vec<Claim>) {
    let digits = number.digits;
    if digits.len() >= 13 && luhn(digits) && issued(digits) {
        if CARD_GROUPS.iter().any(|groups| number.grouped(groups, b" -.+")) {
            into.push(Claim::checksum(Kind::Card, 95));
        } else if number.bare() {
            // Thirteen digits are barcodes too, of which one in ten passes.
            into.push(Claim::checksum(Kind::Card, if digits.len() == 13 { 40 } else { 85 }));
        }
    }
    if digits.len() == 9 && number.bare() && routes(digits) {
        into.push(Claim::checksum(Kind::AbaRouting, 25));
    } else if digits.len() == 9 && number.grouped(&[4, 4, 1], b"-") && routes(digits) {
        into.push(Claim::checksum(Kind::AbaRouting, 70));
    }
}

/// Of a Federal Reserve district that exists, with its check digit.
fn routes(digits: &[u8]) -> bool {
    let district = digits.get(..2).map(value).unwrap_or_default();
    matches!(district, 1..=12 | 21..=32 | 61..=72 | 80)
        && weighted(digits, &[3, 7, 1, 3, 7, 1, 3, 7, 1]).is_multiple_of(10)
}

/// Length by country, of the registry of SWIFT.
#[rustfmt::skip]
const IBANS: &[(&[u8; 2], u8)] = &[
    (b"AD", 24), (b"AE", 23), (b"AL", 28), (b"AT", 20), (b"AZ", 28), (b"BA", 20), (b"BE", 16), (b"BG", 22), (b"BH", 22),
    (b"BI", 27), (b"BR", 29), (b"BY", 28), (b"CH", 21), (b"CR", 22), (b"CY", 28), (b"CZ", 24), (b"DE", 22), (b"DJ", 27),
    (b"DK", 18), (b"DO", 28), (b"EE", 20), (b"EG", 29), (b"ES", 24), (b"FI", 18), (b"FK", 18), (b"FO", 18), (b"FR", 27),
    (b"GB", 22), (b"GE", 22), (b"GI", 23), (b"GL", 18), (b"GR", 27), (b"GT", 28), (b"HN", 28), (b"HR", 21), (b"HU", 28),
    (b"IE", 22), (b"IL", 23), (b"IQ", 23), (b"IS", 26), (b"IT", 27), (b"JO", 30), (b"KW", 30), (b"KZ", 20), (b"LB", 28),
    (b"LC", 32), (b"LI", 21), (b"LT", 20), (b"LU", 20), (b"LV", 21), (b"LY", 25), (b"MC", 27), (b"MD", 24), (b"ME", 22),
    (b"MK", 19), (b"MN", 20), (b"MR", 27), (b"MT", 31), (b"MU", 30), (b"NI", 28), (b"NL", 18), (b"NO", 15), (b"OM", 23),
    (b"PK", 24), (b"PL", 28), (b"PS", 29), (b"PT", 25), (b"QA", 29), (b"RO", 24), (b"RS", 22), (b"RU", 33), (b"SA", 24),
    (b"SC", 31), (b"SD", 18), (b"SE", 24), (b"SI", 19), (b"SK", 24), (b"SM", 27), (b"SO", 23), (b"ST", 25), (b"SV", 28),
    (b"TL", 23), (b"TN", 24), (b"TR", 26), (b"UA", 29), (b"VA", 22), (b"VG", 24), (b"XK", 20), (b"YE", 30),
];

/// The length of the IBAN that `bytes` begin with, blanks and dashes between its groups included.
pub(crate) fn iban(bytes: &[u8]) -> Option<usize> {
    let country = [bytes.first()?.to_ascii_uppercase(), bytes.get(1)?.to_ascii_uppercase()];
    let (_, length) = IBANS.iter().find(|(known, _)| **known == country)?;
    let (mut compact, mut end) = (Vec::with_capacity(usize::from(*length)), 0);
    while compact.len() < usize::from(*length) {
        match bytes.get(end)? {
            byte if byte.is_ascii_alphanumeric() => compact.push(byte.to_ascii_uppercase()),
            b' ' | b'-' if !compact.is_empty() && bytes.get(end + 1)?.is_ascii_alphanumeric() => {}
            _ => return None,
        }
        end += 1;
    }
    if bytes.get(end).is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    let (head, account) = compact.split_at_checked(4)?;
    let rest = account.iter().chain(head).try_fold(0_u32, |rest, byte| {
        let value = char::from(*byte).to_digit(36)?;
        Some((rest * if value > 9 { 100 } else { 10 } + value) % 97)
    });
    (rest == Some(1) && head.iter().skip(2).all(u8::is_ascii_digit)).then_some(end)
}

/// Countries that have banks, ISO 3166; each pair a code.
const COUNTRIES: &[u8] = b"ADAEAFAGAIALAMAOARATAUAWAZBABBBDBEBFBGBHBIBJBMBNBOBRBSBTBWBYBZCACDCFCGCHCICKCLCMCNCOCRCUCVCWCYCZDEDJDKDMDODZECEEEGERESETFIFJFKFMFOFRGAGBGDGEGFGGGHGIGLGMGNGPGQGRGTGUGWGYHKHNHRHTHUIDIEILIMINIQIRISITJEJMJOJPKEKGKHKIKMKNKPKRKWKYKZLALBLCLILKLRLSLTLULVLYMAMCMDMEMGMHMKMLMMMNMOMPMQMRMSMTMUMVMWMXMYMZNANCNENFNGNINLNONPNRNUNZOMPAPEPFPGPHPKPLPRPSPTPWPYQARERORSRURWSASBSCSDSESGSHSISKSLSMSNSOSRSSSTSVSYSZTCTDTGTHTJTLTMTNTOTRTTTVTWTZUAUGUSUYUZVAVCVEVGVIVNVUWSXKYEYTZAZMZW";

/// Bank, country, place, branch. Words in capitals have that form too: only beside a word that says so.
pub(crate) fn bic(word: &[u8]) -> Option<Claim> {
    let letters = word.get(..6)?.iter().all(u8::is_ascii_uppercase);
    let rest = word.get(6..)?.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let known = COUNTRIES.chunks_exact(2).any(|country| Some(country) == word.get(4..6));
    (matches!(word.len(), 8 | 11) && letters && rest && known).then_some(Claim::form(Kind::Bic, 25))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iban_ends_where_its_country_says() {
        for right in [
            "GB82 WEST 1234 5698 7654 32",
            "DE89370400440532013000",
            "de89 3704 0044 0532 0130 00",
            "NO93 8601 1117 947",
        ] {
            assert_eq!(iban(format!("{right}, x").as_bytes()), Some(right.len()), "{right}");
        }
        for wrong in [
            "GB82 WEST 1234 5698 7654 33",
            "DE8937040044053201300",
            "DE893704004405320130000",
            "ZZ82123456781234",
            "GB",
        ] {
            assert_eq!(iban(wrong.as_bytes()), None, "{wrong}");
        }
    }
}

//! The checksums that numbers carry. Digits are values 0–9, not characters.

/// Cards, Canadian, Swedish and South African numbers.
pub(crate) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, &digit)| match (at % 2, u32::from(digit)) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit * 2 - 9,
            (_, digit) => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Weighted sum; as many digits as weights.
pub(crate) fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(&digit, weight)| u32::from(digit) * weight).sum()
}

/// Remainder of the number by 97.
pub(crate) fn mod97(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |rest, &digit| (rest * 10 + u32::from(digit)) % 97)
}

/// ISO 7064, MOD 11,10: the German tax number.
pub(crate) fn mod11_10(digits: &[u8]) -> bool {
    let Some((&check, body)) = digits.split_last() else { return false };
    let product = body.iter().fold(10, |product, &digit| {
        let sum = (u32::from(digit) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (11 - product) % 10 == u32::from(check)
}

/// Multiplication in the dihedral group of order ten.
const VERHOEFF_PRODUCT: [[u8; 10]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
    [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
    [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
    [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
    [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
    [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
    [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
    [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
    [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
];
const VERHOEFF_TURN: [[u8; 10]; 8] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    [1, 5, 7, 6, 2, 8, 3, 0, 9, 4],
    [5, 8, 0, 3, 7, 9, 6, 1, 4, 2],
    [8, 9, 1, 6, 0, 4, 3, 5, 2, 7],
    [9, 4, 5, 3, 1, 2, 6, 8, 7, 0],
    [4, 2, 8, 6, 5, 7, 3, 9, 0, 1],
    [2, 7, 9, 3, 8, 0, 6, 4, 1, 5],
    [7, 0, 4, 6, 9, 1, 3, 2, 5, 8],
];

/// Aadhaar.
pub(crate) fn verhoeff(digits: &[u8]) -> bool {
    let end = digits.iter().rev().zip(VERHOEFF_TURN.iter().cycle()).fold(0_u8, |sum, (&digit, turn)| {
        let turned = turn.get(usize::from(digit)).copied().unwrap_or_default();
        let row = VERHOEFF_PRODUCT.get(usize::from(sum)).copied().unwrap_or_default();
        row.get(usize::from(turned)).copied().unwrap_or_default()
    });
    end == 0
}

/// CRC-32 of ISO-HDLC, as in zip. Over thirty bytes: a table would not pay.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

/// Whether the day is in the calendar; `year` with its century, or any leap year where that is not known.
pub(crate) fn is_date(year: u32, month: u32, day: u32) -> bool {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return false,
    };
    (1..=days).contains(&day)
}

/// Digits as a number; at most nine of them.
pub(crate) fn value(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |sum, &digit| sum * 10 + u32::from(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Vec<u8> {
        text.bytes().map(|byte| byte - b'0').collect()
    }

    #[test]
    fn published_examples_hold_and_one_changed_digit_never_does() {
        type Sum = fn(&[u8]) -> bool;
        let sums: [(&str, Sum); 4] = [
            ("79927398713", luhn),
            ("2363", verhoeff),
            ("36574261809", mod11_10),
            ("3214282912345698765432161182", |digits| mod97(digits) == 1),
        ];
        for (text, holds) in sums {
            let right = digits(text);
            assert!(holds(&right), "{text}");
            for at in 0..right.len() {
                for other in (0..10).filter(|other| *other != right[at]) {
                    let mut wrong = right.clone();
                    wrong[at] = other;
                    assert!(!holds(&wrong), "{text} with {other} at {at}");
                }
            }
        }
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn february_has_29_days_in_leap_years_alone() {
        assert!(is_date(2000, 2, 29) && is_date(2024, 2, 29));
        assert!(!is_date(1900, 2, 29) && !is_date(2023, 2, 29));
        assert!(!is_date(2024, 13, 1) && !is_date(2024, 0, 1) && !is_date(2024, 1, 0) && !is_date(2024, 4, 31));
    }
}

//! Numbers that states give to people, all digits; those with letters are in [`letters`].

use crate::checksum::{is_date, luhn, mod11_10, mod97, value, verhoeff, weighted};
use crate::finding::{Claim, Kind};
use crate::number::{Number, checked};

pub(crate) mod letters;

/// Numbers from advertisements, which everyone wrote down as theirs.
const SSN_VOID: &[u32] = &[78_051_120, 219_099_999, 457_555_462];

/// First two digits of employers' numbers that no office gives out.
const EIN_VOID: &[u32] = &[0, 7, 8, 9, 17, 18, 19, 28, 29, 49, 69, 70, 78, 79, 89, 96, 97];

fn part(digits: &[u8], from: usize, to: usize) -> u32 {
    digits.get(from..to).map(value).unwrap_or_default()
}

fn digit(digits: &[u8], at: usize) -> u32 {
    digits.get(at).copied().map(u32::from).unwrap_or_default()
}

/// A sum's check digit where 10 stands for 0 too.
fn ten_is_zero(rest: u32) -> u32 {
    if rest >= 10 { 0 } else { rest }
}

pub(crate) fn claims(number: &Number, into: &mut Vec<Claim>) {
    match number.digits.len() {
        8 => into.extend(chilean(number)),
        9 => of_nine(number, into),
        10 => of_ten(number, into),
        11 => of_eleven(number, into),
        12 => into.extend(aadhaar(number)),
        13 => of_thirteen(number, into),
        15 => into.extend(nir(number)),
        18 => into.extend(chinese(number)),
        _ => {}
    }
}

fn of_nine(number: &Number, into: &mut Vec<Claim>) {
    let digits = number.digits;
    let (area, group, serial) = (part(digits, 0, 3), part(digits, 3, 5), part(digits, 5, 9));
    let grouped = if number.grouped(&[3, 2, 4], b"-") {
        Some(65)
    } else if number.grouped(&[3, 2, 4], b" .") {
        Some(50)
    } else {
        number.bare().then_some(20)
    };
    if let Some(score) = grouped {
        if !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0 && !SSN_VOID.contains(&part(digits, 0, 9)) {
            into.push(Claim::form(Kind::UsSsn, score));
        }
        if area >= 900 && matches!(group, 50..=65 | 70..=88 | 90..=92 | 94..=99) {
            into.push(Claim::form(Kind::UsItin, score));
        }
    }
    let office = part(digits, 0, 2);
    if (number.grouped(&[2, 7], b"-") || number.bare()) && !EIN_VOID.contains(&office) {
        into.push(Claim::form(Kind::UsEin, if number.bare() { 15 } else { 30 }));
    }
    // Thousands are grouped by three too: groups of three alone say nothing.
    let by_three = |kind, right: bool| {
        let written = number.bare() || number.grouped(&[3, 3, 3], b" -.");
        (right && written).then_some(Claim::checksum(kind, 25))
    };
    // 8 is not given out, 0 only in examples.
    into.extend(by_three(Kind::CaSin, luhn(digits) && digit(digits, 0) != 8));
    into.extend(by_three(Kind::AuTfn, weighted(digits, &[1, 4, 3, 7, 5, 8, 6, 9, 10]).is_multiple_of(11)));
    let bsn = weighted(digits, &[9, 8, 7, 6, 5, 4, 3, 2]) + 10 * digit(digits, 8);
    into.extend(by_three(Kind::NlBsn, bsn.is_multiple_of(11)));
    if number.grouped(&[4, 2, 3], b".") && bsn.is_multiple_of(11) {
        into.push(Claim::checksum(Kind::NlBsn, 60));
    }
    let nif = weighted(digits, &[9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    let nif = matches!(digit(digits, 0), 1..=3) && ten_is_zero(11 - nif) == digit(digits, 8);
    into.extend(by_three(Kind::PtNif, nif));
    into.extend(chilean(number));
}

/// With its dash; the check digit K is in [`letters`].
fn chilean(number: &Number) -> Option<Claim> {
    let (check, body) = number.digits.split_last()?;
    let dotted = matches!(number.groups, [1..=2, 3, 3, 1]) && number.last_between == b'-';
    let dashed = number.grouped(&[body.len() as u8, 1], b"-");
    let right = letters::chilean_check(body) == Some(b'0' + check);
    (right && (dotted || dashed)).then_some(Claim::checksum(Kind::ClRut, if dotted { 85 } else { 50 }))
}

fn of_ten(number: &Number, into: &mut Vec<Claim>) {
    let digits = number.digits;
    let check = (11 - weighted(digits, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11) % 11;
    // Telephone numbers are grouped alike.
    if check == digit(digits, 9) && (number.bare() || number.grouped(&[3, 3, 4], b" -")) {
        into.push(Claim::checksum(Kind::UkNhs, 25));
    }
    let (month, day) = (part(digits, 2, 4), part(digits, 4, 6));
    // A day above 60 is a coordination number.
    let day_swedish = if day > 60 { day - 60 } else { day };
    if luhn(digits) && is_date(2000, month, day_swedish) && part(digits, 6, 9) != 0 {
        into.extend(checked(Kind::SePersonnummer, true, number, true, &[6, 4], b"-+"));
    }
    let month = match month {
        51..=62 => month - 50,
        71..=82 => month - 70,
        21..=32 => month - 20,
        _ => month,
    };
    if number.grouped(&[6, 4], b"/") && is_date(2000, month, day) && mod11(digits) == 0 {
        into.push(Claim::checksum(Kind::CzRc, 85));
    }
}

fn mod11(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |rest, &digit| (rest * 10 + u32::from(digit)) % 11)
}

fn of_eleven(number: &Number, into: &mut Vec<Claim>) {
    let digits = number.digits;
    into.extend(checked(Kind::BrCpf, cpf(digits), number, true, &[3, 3, 3, 2], b" "));
    if cpf(digits) && number.groups == [3, 3, 3, 2] && number.last_between == b'-' {
        into.push(Claim::checksum(Kind::BrCpf, 90));
    }
    into.extend(checked(Kind::DeTaxId, tax_id(digits), number, true, &[2, 3, 3, 3], b" /"));
    into.extend(checked(Kind::TrTckn, tckn(digits), number, true, &[3, 3, 3, 2], b" "));
    // Of equals the last is taken: these have a date in them.
    into.extend(checked(Kind::PlPesel, pesel(digits), number, true, &[6, 5], b" -"));
    into.extend(checked(Kind::NoFodselsnummer, fodselsnummer(digits), number, true, &[6, 5], b" "));
    let nrn = belgian(digits);
    into.extend(checked(Kind::BeNrn, nrn, number, true, &[6, 3, 2], b" -"));
    if nrn && matches!(number.groups, [2, 2, 2, 3, 2]) {
        into.push(Claim::checksum(Kind::BeNrn, 90));
    }
    if number.grouped(&[2, 8, 1], b"-") && cuit(digits) {
        into.push(Claim::checksum(Kind::ArCuit, 80));
    }
}

fn cpf(digits: &[u8]) -> bool {
    let check = |weights: &[u32]| ten_is_zero(weighted(digits, weights) * 10 % 11);
    check(&[10, 9, 8, 7, 6, 5, 4, 3, 2]) == digit(digits, 9)
        && check(&[11, 10, 9, 8, 7, 6, 5, 4, 3, 2]) == digit(digits, 10)
}

fn pesel(digits: &[u8]) -> bool {
    let (century, month) = (part(digits, 2, 4) / 20, part(digits, 2, 4) % 20);
    let century = [1900, 2000, 2100, 2200, 1800].get(century as usize).copied().unwrap_or(1900);
    is_date(century + part(digits, 0, 2), month, part(digits, 4, 6))
        && weighted(digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]).is_multiple_of(10)
}

/// Of the first ten digits one is there twice or thrice, the others once at most.
fn tax_id(digits: &[u8]) -> bool {
    let mut counts = [0_u8; 10];
    for &digit in digits.iter().take(10) {
        if let Some(count) = counts.get_mut(usize::from(digit)) {
            *count += 1;
        }
    }
    let more = counts.iter().filter(|count| **count > 1).count();
    let thrice_in_a_row =
        digits.windows(3).take(8).any(|three| three.windows(2).all(|pair| pair.first() == pair.last()));
    digit(digits, 0) != 0 && more == 1 && counts.iter().all(|count| *count < 4) && !thrice_in_a_row && mod11_10(digits)
}

fn fodselsnummer(digits: &[u8]) -> bool {
    let day = part(digits, 0, 2);
    // D-numbers, of those who are not residents.
    let day = if day > 40 { day - 40 } else { day };
    is_date(2000, part(digits, 2, 4), day)
        && weighted(digits, &[3, 7, 6, 1, 8, 9, 4, 5, 2, 1]).is_multiple_of(11)
        && weighted(digits, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11)
}

fn tckn(digits: &[u8]) -> bool {
    let odd = weighted(digits, &[1, 0, 1, 0, 1, 0, 1, 0, 1]);
    let even = weighted(digits, &[0, 1, 0, 1, 0, 1, 0, 1]);
    let sum: u32 = digits.iter().take(10).map(|&digit| u32::from(digit)).sum();
    digit(digits, 0) != 0 && (odd * 7 + 100 - even) % 10 == digit(digits, 9) && sum % 10 == digit(digits, 10)
}

fn belgian(digits: &[u8]) -> bool {
    let month = part(digits, 2, 4);
    let body = part(digits, 0, 9);
    let check = part(digits, 9, 11);
    // From 2000 on the number is taken with a 2 before it.
    let right = 97 - body % 97 == check || 97 - ((body % 97 + 2_000_000_000 % 97) % 97) == check;
    right && is_date(2000, month, part(digits, 4, 6)) && part(digits, 6, 9) != 0
}

fn cuit(digits: &[u8]) -> bool {
    let check = (11 - weighted(digits, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11) % 11;
    matches!(part(digits, 0, 2), 20 | 23 | 24 | 25 | 26 | 27 | 30 | 33 | 34) && check == digit(digits, 10)
}

fn aadhaar(number: &Number) -> Option<Claim> {
    let right =
        digit(number.digits, 0) > 1 && verhoeff(number.digits) && !number.digits.iter().eq(number.digits.iter().rev());
    checked(Kind::InAadhaar, right, number, false, &[4, 4, 4], b" -")
}

fn of_thirteen(number: &Number, into: &mut Vec<Claim>) {
    let digits = number.digits;
    let date = is_date(2000, part(digits, 2, 4), part(digits, 4, 6));
    if date && luhn(digits) && digit(digits, 10) < 2 {
        into.extend(checked(Kind::ZaId, true, number, true, &[6, 4, 3], b" "));
    }
    let sum = weighted(digits, &[2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9]) % 11;
    let romanian =
        is_date(2000, part(digits, 3, 5), part(digits, 5, 7)) && matches!(part(digits, 7, 9), 1..=48 | 51 | 52 | 70);
    if digit(digits, 0) != 0 && romanian && (if sum == 10 { 1 } else { sum }) == digit(digits, 12) && number.bare() {
        into.push(Claim::checksum(Kind::RoCnp, 55));
    }
    if number.grouped(&[6, 7], b"-") && date {
        let check = (11 - weighted(digits, &[2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5]) % 11) % 10;
        if check == digit(digits, 12) {
            into.push(Claim::checksum(Kind::KrRrn, 85));
        }
    }
    let ean = weighted(digits, &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1]);
    if part(digits, 0, 3) == 756 && ean.is_multiple_of(10) {
        into.extend(checked(Kind::ChAhv, true, number, true, &[3, 4, 4, 2], b". "));
    }
}

/// The one in eleven that ends in X is in [`letters`].
fn chinese(number: &Number) -> Option<Claim> {
    let (check, body) = number.digits.split_last()?;
    let right = number.bare() && letters::chinese(body, b'0' + check)?;
    right.then_some(Claim::checksum(Kind::CnRic, 90))
}

/// Corsica's letters are in [`letters`].
fn nir(number: &Number) -> Option<Claim> {
    let digits = number.digits;
    let right = nir_form(digits) && mod97(digits.get(..13)?) + part(digits, 13, 15) == 97;
    let groups: &[&[u8]] = &[&[1, 2, 2, 2, 3, 3, 2], &[13, 2], &[15]];
    (right && groups.contains(&number.groups))
        .then_some(Claim::checksum(Kind::FrNir, if number.bare() { 70 } else { 90 }))
}

/// Sex, and a month; above 20 where it was not known.
fn nir_form(digits: &[u8]) -> bool {
    matches!(digit(digits, 0), 1..=4 | 7 | 8) && matches!(part(digits, 3, 5), 1..=12 | 20..=42 | 50..=99)
}

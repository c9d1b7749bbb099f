//! Addresses and keys of cryptocurrencies, by their checksums: base58check, bech32 and bech32m, EIP-55.

use crate::finding::{Claim, Kind};
use sha2::{Digest, Sha256};
use sha3::Keccak256;

/// An extended private key, the longest here: 111 characters.
pub(crate) const CHARS_MAX: usize = 112;

const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const BECH32: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// A word of letters and digits.
pub(crate) fn claim(word: &[u8]) -> Option<Claim> {
    if word.len() > CHARS_MAX {
        return None;
    }
    match word {
        [b'0', b'x' | b'X', rest @ ..] if rest.len() == 40 => ethereum(rest),
        [b'b' | b'B', b'c' | b'C', b'1', ..] | [b't', b'b', b'1', ..] | [b'l', b't', b'c', b'1', ..] => bech32(word),
        [
            b'1' | b'3' | b'5' | b'9' | b'A' | b'D' | b'K' | b'L' | b'M' | b'c' | b'm' | b'n' | b'2' | b'x' | b't',
            ..,
        ] => base58check(word),
        _ => None,
    }
}

/// Big-endian bytes with leading zeros kept; nothing for a character outside the alphabet.
fn base58(word: &[u8]) -> Option<Vec<u8>> {
    let mut bytes: Vec<u8> = Vec::with_capacity(word.len());
    for byte in word {
        let mut carry = BASE58.iter().position(|known| known == byte)?;
        for place in &mut bytes {
            carry += usize::from(*place) * 58;
            *place = carry as u8;
            carry >>= 8;
        }
        while carry > 0 {
            bytes.push(carry as u8);
            carry >>= 8;
        }
    }
    bytes.extend(word.iter().take_while(|byte| **byte == b'1').map(|_| 0));
    bytes.reverse();
    Some(bytes)
}

fn base58check(word: &[u8]) -> Option<Claim> {
    if !matches!(word.len(), 26..=35 | 51 | 52 | 111) {
        return None;
    }
    let bytes = base58(word)?;
    let (body, check) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    let hash = Sha256::digest(Sha256::digest(body));
    if hash.get(..4) != Some(check) {
        return None;
    }
    match (body.first()?, body.len()) {
        // Bitcoin, its tests, Litecoin, Dogecoin.
        (0x00 | 0x05 | 0x6F | 0xC4 | 0x30 | 0x32 | 0x1E, 21) => Some(Claim::checksum(Kind::CoinAddress, 95)),
        (0x80 | 0xEF | 0xB0 | 0x9E, 33 | 34) => Some(Claim::checksum(Kind::CoinKey, 95)),
        (0x04, 78) if matches!(body, [4, 0x88, 0xAD, 0xE4, ..] | [4, 0x35, 0x83, 0x94, ..]) => {
            Some(Claim::checksum(Kind::CoinKey, 95))
        }
        (0x04, 78) => Some(Claim::checksum(Kind::CoinAddress, 90)),
        _ => None,
    }
}

/// Whether `word` ends in the checksum of bech32 (1) or bech32m (0x2bc830a3), of BIP 173 and 350.
fn bech32(word: &[u8]) -> Option<Claim> {
    bech32_checksum(word).then_some(Claim::checksum(Kind::CoinAddress, 95))
}

pub(crate) fn bech32_checksum(word: &[u8]) -> bool {
    const GENERATOR: [u32; 5] = [0x3B6A_57B2, 0x2650_8E6D, 0x1EA1_19FA, 0x3D42_33DD, 0x2A14_62B3];
    let one_case = !word.iter().any(u8::is_ascii_lowercase) || !word.iter().any(u8::is_ascii_uppercase);
    let lower = word.to_ascii_lowercase();
    let Some(separator) = lower.iter().rposition(|byte| *byte == b'1') else { return false };
    let (human, data) = lower.split_at(separator);
    let Some(data) = data.get(1..).filter(|data| data.len() >= 6 && one_case && lower.len() <= 90) else {
        return false;
    };
    let values: Option<Vec<u8>> =
        data.iter().map(|byte| BECH32.iter().position(|known| known == byte).map(|at| at as u8)).collect();
    let Some(values) = values else { return false };
    let high = human.iter().map(|byte| byte >> 5).chain([0]);
    let sum = high.chain(human.iter().map(|byte| byte & 31)).chain(values).fold(1_u32, |sum, value| {
        let top = sum >> 25;
        let next = (sum & 0x01FF_FFFF) << 5 ^ u32::from(value);
        GENERATOR.iter().enumerate().filter(|(bit, _)| top >> bit & 1 == 1).fold(next, |sum, (_, by)| sum ^ by)
    });
    matches!(sum, 1 | 0x2BC8_30A3)
}

/// Mixed case is the checksum; one case carries none.
fn ethereum(address: &[u8]) -> Option<Claim> {
    if !address.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let upper = address.iter().any(u8::is_ascii_uppercase);
    if !upper || !address.iter().any(u8::is_ascii_lowercase) {
        // `0x` and a digest of 20 bytes look the same.
        return Some(Claim::form(Kind::CoinAddress, 45));
    }
    let hash = Keccak256::digest(address.to_ascii_lowercase());
    let nibbles = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let right = address
        .iter()
        .zip(nibbles)
        .all(|(byte, nibble)| byte.is_ascii_digit() || byte.is_ascii_uppercase() == (nibble >= 8));
    right.then_some(Claim::checksum(Kind::CoinAddress, 95))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standards_are_addresses_and_near_misses_are_not() {
        for right in [
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
            "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
            "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        ] {
            assert!(claim(right.as_bytes()).is_some_and(|claim| claim.score >= 90), "{right}");
            let (head, last) = right.split_at(right.len() - 1);
            let last = if last.ends_with(['d', 'D']) { 'b' } else { 'd' };
            assert!(claim(format!("{head}{last}").as_bytes()).is_none_or(|claim| claim.score < 50), "{right}");
        }
    }
}

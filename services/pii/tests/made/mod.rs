//! Values made for tests and the bench: random ones, encoded ones, and text without any.
#![allow(dead_code, clippy::unwrap_used, reason = "each test takes its part, and may panic")]

use secai_pii::{Detectors, Kind, OwnIdentifiers};
use std::sync::LazyLock;

pub fn detectors() -> &'static Detectors {
    static DETECTORS: LazyLock<Detectors> = LazyLock::new(|| Detectors::new(&OwnIdentifiers::default()).unwrap());
    &DETECTORS
}

pub fn of(text: &str) -> Vec<Kind> {
    detectors().find(text.as_bytes()).unwrap().into_iter().map(|finding| finding.kind).collect()
}

/// Found by their form, the words beside them, or their entropy.
pub const WITHOUT_CHECKSUM: &[Kind] = &[
    Kind::Bic,
    Kind::Phone,
    Kind::Email,
    Kind::Ipv4,
    Kind::Ipv6,
    Kind::Mac,
    Kind::UsSsn,
    Kind::UsItin,
    Kind::UsEin,
    Kind::UkNino,
    Kind::InPan,
    Kind::AwsKey,
    Kind::GitlabToken,
    Kind::SlackToken,
    Kind::GoogleKey,
    Kind::StripeKey,
    Kind::OpenaiKey,
    Kind::AnthropicKey,
    Kind::PypiToken,
    Kind::HuggingFaceToken,
    Kind::Jwt,
    Kind::PrivateKey,
    Kind::Secret,
    Kind::BirthDate,
    Kind::Street,
];

/// xorshift64: the same values in each run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, most: u64) -> u64 {
        (self.next() >> 11) % most
    }

    pub fn digits(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b'0' + self.below(10) as u8)).collect()
    }

    pub fn of(&mut self, alphabet: &str, count: usize) -> String {
        (0..count).map(|_| char::from(alphabet.as_bytes()[self.below(alphabet.len() as u64) as usize])).collect()
    }
}

const BASE62: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Thirty random characters and their CRC-32 in base62, as GitHub and npm make them.
pub fn github_token(begins: &str, random: &mut Random) -> String {
    let body = random.of(BASE62, 30);
    let mut crc = !0_u32;
    for byte in body.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    let (mut rest, mut check) = (!crc, Vec::new());
    for _ in 0..6 {
        check.insert(0, BASE62.as_bytes()[(rest % 62) as usize]);
        rest /= 62;
    }
    format!("{begins}{body}{}", String::from_utf8(check).unwrap())
}

/// By trying: the number whose last digit is right for a sum written down as its standard does.
fn with_check(body: String, weights: &[u32], modulus: u32) -> Option<String> {
    (0..10).map(|check| format!("{body}{check}")).find(|number| {
        let sum: u32 = number.bytes().zip(weights).map(|(byte, weight)| u32::from(byte - b'0') * weight).sum();
        sum.is_multiple_of(modulus)
    })
}

fn luhn(body: String) -> String {
    let holds = |number: &String| {
        let doubled = number.bytes().rev().enumerate().map(|(at, byte)| {
            let value = u32::from(byte - b'0') * (1 + at as u32 % 2);
            value / 10 + value % 10
        });
        doubled.sum::<u32>() % 10 == 0
    };
    (0..10).map(|check| format!("{body}{check}")).find(holds).unwrap()
}

/// A value of the kind with the words that people write it beside; kinds whose making is simple.
pub fn generated(random: &mut Random) -> Vec<(Kind, String)> {
    let hex = "0123456789abcdef";
    let date =
        |random: &mut Random| format!("{:02}{:02}{:02}", random.below(100), 1 + random.below(12), 1 + random.below(28));
    let grouped = |number: &str| format!("{} {} {}", &number[..3], &number[3..6], &number[6..]);
    let mut made = vec![
        (Kind::Card, format!("paid with {}", luhn(format!("4{}", random.digits(14))))),
        (Kind::Card, format!("paid with {}", luhn(format!("5{}{}", 1 + random.below(5), random.digits(13))))),
        (Kind::CaSin, format!("SIN {}", grouped(&luhn(format!("{}{}", 1 + random.below(7), random.digits(7)))))),
        (Kind::Phone, format!("+49 30 {}", random.digits(7))),
        (Kind::Phone, format!("({}{}) 555-{}", 2 + random.below(7), 20 + random.below(70), random.digits(4))),
        (
            Kind::Email,
            format!(
                "{}@{}.org",
                random.of("abcdefgh.", 6).trim_matches('.').replace("..", "a"),
                random.of("abcdefgh", 8)
            ),
        ),
        (
            Kind::Ipv4,
            format!(
                "from {}.{}.{}.{}",
                128 + random.below(90),
                random.below(256),
                random.below(256),
                1 + random.below(254)
            ),
        ),
        (Kind::Ipv6, format!("2001:db8:{}::{}", random.of(hex, 4), random.of("123456789", 3))),
        (Kind::Mac, (0..6).map(|_| random.of(hex, 2)).collect::<Vec<_>>().join(":")),
        (
            Kind::UsSsn,
            format!(
                "{}{}-{}{}-{}",
                1 + random.below(5),
                random.digits(2),
                1 + random.below(9),
                random.below(10),
                1000 + random.below(9000)
            ),
        ),
        (Kind::GithubToken, github_token("ghp_", random)),
        (Kind::NpmToken, github_token("npm_", random)),
        (Kind::AwsKey, format!("{}{}", "AKIA", random.of("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16))),
        (Kind::GoogleKey, format!("{}{}", "AIza", random.of(BASE62, 35))),
        (Kind::StripeKey, format!("{}{}", "sk_live_", random.of(BASE62, 24))),
        (Kind::Secret, format!("token {}", random.of(BASE62, 40))),
        (Kind::SePersonnummer, {
            let number = luhn(format!("{}{:03}", date(random), 1 + random.below(999)));
            format!("{}-{}", &number[..6], &number[6..])
        }),
        (
            Kind::BirthDate,
            format!("born {}.{}.19{}", 1 + random.below(28), 1 + random.below(12), 10 + random.below(90)),
        ),
        (
            Kind::Street,
            format!(
                "{} {} Street",
                1 + random.below(900),
                ["Baker", "Main", "High", "Mill Lane"][random.below(3) as usize]
            ),
        ),
    ];
    let letters = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let body = 10_000_000 + random.below(80_000_000);
    made.push((Kind::EsNif, format!("{body}{}", char::from(letters[(body % 23) as usize]))));
    type Sum = (Kind, &'static str, &'static str, usize, &'static [u32], u32);
    let sums: [Sum; 5] = [
        (Kind::UkNhs, "NHS ", "4", 8, &[10, 9, 8, 7, 6, 5, 4, 3, 2, 1], 11),
        (Kind::NlBsn, "BSN ", "1", 7, &[9, 8, 7, 6, 5, 4, 3, 2, 10], 11),
        (Kind::AuTfn, "TFN ", "1", 7, &[1, 4, 3, 7, 5, 8, 6, 9, 10], 11),
        (Kind::AbaRouting, "routing ", "02", 6, &[3, 7, 1, 3, 7, 1, 3, 7, 1], 10),
        (Kind::PlPesel, "", "850312", 4, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1], 10),
    ];
    for (kind, word, begins, more, weights, modulus) in sums {
        let number =
            std::iter::repeat_with(|| with_check(format!("{begins}{}", random.digits(more)), weights, modulus));
        made.extend(number.take(50).flatten().next().map(|number| (kind, format!("{word}{number}"))));
    }
    let account = random.digits(18);
    let check =
        98 - format!("{account}131400").bytes().fold(0_u32, |rest, byte| (rest * 10 + u32::from(byte - b'0')) % 97);
    made.push((Kind::Iban, format!("DE{check:02}{account}")));
    made
}

type Encoding = fn(&str) -> String;

pub const ENCODINGS: [Encoding; 6] = [
    |text| text.bytes().map(|byte| format!("%{byte:02X}")).collect(),
    |text| text.chars().map(|c| format!("&#{};", u32::from(c))).collect(),
    base64,
    |text| base64(text).trim_end_matches('=').replace('+', "-").replace('/', "_"),
    |text| text.bytes().map(|byte| format!("{byte:02x}")).collect(),
    |text| text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect(),
];

fn base64(text: &str) -> String {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".as_bytes();
    let mut out = String::new();
    for three in text.as_bytes().chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for at in 0..4 {
            let known = at <= three.len();
            out.push(if known { char::from(alphabet[(bits >> (18 - 6 * at) & 63) as usize]) } else { '=' });
        }
    }
    out
}

/// Prose, code, logs and lists as they are everywhere: nothing in them is anybody's.
pub const ORDINARY: &[&str] = &[
    "The quick brown fox jumps over the lazy dog, 3 times in 2024, and 1,234,567.89 people saw it at 12:30:45.",
    "Between 1998 and 2003 the population grew from 12 345 678 to 13 456 789; chapter 10, section 4.2.1, page 117.",
    "fn main() { let x: [u8; 32] = [0; 32]; assert_eq!(std::mem::size_of::<u64>(), 8); } // see RFC 2119",
    "for (int i = 0; i < 1000000; ++i) { total_sum += getElementById(i).innerHTML.length; } return total_sum;",
    "let token = parser.next_token(); let password = read_password()?; secret = os.environ['SECRET']",
    "password: ${DB_PASSWORD}, token=<your token>, \"secret\": \"changeme\", api_key = None",
    "commit 85e1110a2bd0b1a0c6a5a4e7a3a5d0d9b2c4f6e8 sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "integrity sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==",
    "d41d8cd98f00b204e9800998ecf8427e  empty\nda39a3ee5e6b4b0d3255bfef95601890afd80709  empty",
    "id 550e8400-e29b-41d4-a716-446655440000, at 2024-01-15T12:30:45.123456Z, 1705321845123 ms, pid 12345",
    "version 1.2.3.4, linux-image-6.12.48+deb13-amd64 (6.12.48-1), libc6 2.41-12, glibc-2.36-9+deb12u10",
    "listening on 127.0.0.1:8490 and 0.0.0.0:80, mask 255.255.255.0, ::1 and ::",
    "getty@tty1.service, user@1000.service, icon@2x.png, git@github.com:org/repo.git, @decorator, a @ b",
    "use std::collections::BTreeMap; impl From<dead::beef> for add::bad {} 00:00:00:00:00:00 ff:ff:ff:ff:ff:ff",
    "SECURITY DOCUMENT OVERVIEW ABSTRACT DATABASE INTERNAL and ALGORITHMIC THINGS, in CAPITALS",
    "order 4111111111111112, invoice 1234567890123456, tracking 123456789012, ISBN 978-3-16-148410-0",
    "0.4111111111111111 3.14159265358979323846 1e10 0x7fffffff 0b1010 10_000_000 1.7976931348623157e308",
    "margin: 0 auto; color: #ff00ff; transform: translate(-50%, -50%); z-index: 2147483647; width: 100%",
    "https://example.org/a/b/c/very-long-path-of-a-page/with_many_words/index.html?page=2&sort=asc#top",
    "2024-01-15 12:30:45 INFO worker-17 processed 1048576 bytes in 0.003512 s (298.6 MB/s), 42 of 4096 done",
    "InternationalizationConfigurationManagerFactoryBean AbstractSingletonProxyFactoryBean kCFStreamErrorDomainSSL",
    "The function is_valid_utf8_boundary_or_end returns true; see test_that_nothing_is_found_in_ordinary_text_1",
    "10 people on Main Street said so; 3 ways to the Road; a Street of 5 houses; act 2, scene 1",
];

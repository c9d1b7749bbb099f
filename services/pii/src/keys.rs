//! Keys and tokens that providers mark by how they begin; JSON web tokens; private keys in PEM.

use crate::checksum::crc32;
use crate::coins::bech32_checksum;
use crate::finding::{Claim, Kind};
use crate::layers::base64;
use serde::Deserialize;
use std::ops::Range;

/// What may follow a beginning.
#[derive(Clone, Copy)]
enum Of {
    Base62,
    /// Upper-case base32 of AWS.
    Base32,
    Hex,
    /// Base62 with `-` and `_`.
    Url,
    /// The same with dots.
    Dotted,
}

impl Of {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::Base62 => byte.is_ascii_alphanumeric(),
            Self::Base32 => byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte),
            Self::Hex => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            Self::Url => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
            Self::Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'),
        }
    }
}

struct Form {
    begins: &'static str,
    of: Of,
    /// Characters after the beginning, fewest and most.
    least: usize,
    most: usize,
    kind: Kind,
}

const fn form(begins: &'static str, of: Of, least: usize, most: usize, kind: Kind) -> Form {
    Form { begins, of, least, most, kind }
}

/// The longest key of the table, with room: some providers lengthen theirs.
const KEY_CHARS_MAX: usize = 400;

/// A longer beginning stands before a shorter one that it has.
#[rustfmt::skip]
const FORMS: &[Form] = &[
    form("AKIA", Of::Base32, 16, 16, Kind::AwsKey),
    form("ASIA", Of::Base32, 16, 16, Kind::AwsKey),
    form("ABIA", Of::Base32, 16, 16, Kind::AwsKey),
    form("ACCA", Of::Base32, 16, 16, Kind::AwsKey),
    form("ghp_", Of::Base62, 36, 36, Kind::GithubToken),
    form("gho_", Of::Base62, 36, 36, Kind::GithubToken),
    form("ghu_", Of::Base62, 36, 36, Kind::GithubToken),
    form("ghs_", Of::Base62, 36, 36, Kind::GithubToken),
    form("ghr_", Of::Base62, 36, 76, Kind::GithubToken),
    form("github_pat_", Of::Url, 82, 82, Kind::GithubToken),
    form("glpat-", Of::Dotted, 20, 64, Kind::GitlabToken),
    form("gldt-", Of::Url, 20, 64, Kind::GitlabToken),
    form("glrt-", Of::Dotted, 20, 64, Kind::GitlabToken),
    form("glptt-", Of::Hex, 40, 40, Kind::GitlabToken),
    form("xoxb-", Of::Url, 20, 250, Kind::SlackToken),
    form("xoxp-", Of::Url, 20, 250, Kind::SlackToken),
    form("xoxa-", Of::Url, 20, 250, Kind::SlackToken),
    form("xoxr-", Of::Url, 20, 250, Kind::SlackToken),
    form("xoxs-", Of::Url, 20, 250, Kind::SlackToken),
    form("xapp-", Of::Url, 20, 250, Kind::SlackToken),
    form("AIza", Of::Url, 35, 35, Kind::GoogleKey),
    form("GOCSPX-", Of::Url, 28, 28, Kind::GoogleKey),
    form("ya29.", Of::Dotted, 30, KEY_CHARS_MAX, Kind::GoogleKey),
    form("sk_live_", Of::Base62, 24, 128, Kind::StripeKey),
    form("sk_test_", Of::Base62, 24, 128, Kind::StripeKey),
    form("rk_live_", Of::Base62, 24, 128, Kind::StripeKey),
    form("rk_test_", Of::Base62, 24, 128, Kind::StripeKey),
    form("whsec_", Of::Base62, 32, 64, Kind::StripeKey),
    form("sk-ant-", Of::Url, 40, 140, Kind::AnthropicKey),
    form("sk-proj-", Of::Url, 40, 200, Kind::OpenaiKey),
    form("sk-svcacct-", Of::Url, 40, 200, Kind::OpenaiKey),
    form("sk-or-v1-", Of::Hex, 64, 64, Kind::ProviderKey),
    form("sk-", Of::Base62, 48, 48, Kind::OpenaiKey),
    form("npm_", Of::Base62, 36, 36, Kind::NpmToken),
    form("pypi-AgEI", Of::Url, 50, KEY_CHARS_MAX, Kind::PypiToken),
    form("hf_", Of::Base62, 34, 40, Kind::HuggingFaceToken),
    form("dop_v1_", Of::Hex, 64, 64, Kind::ProviderKey),
    form("SG.", Of::Dotted, 66, 66, Kind::ProviderKey),
    form("shpat_", Of::Hex, 32, 32, Kind::ProviderKey),
    form("shpss_", Of::Hex, 32, 32, Kind::ProviderKey),
    form("dapi", Of::Hex, 32, 32, Kind::ProviderKey),
    form("hvs.", Of::Url, 24, 200, Kind::ProviderKey),
    form("dckr_pat_", Of::Url, 27, 32, Kind::ProviderKey),
    form("lin_api_", Of::Base62, 40, 40, Kind::ProviderKey),
    form("gsk_", Of::Base62, 52, 52, Kind::ProviderKey),
    form("xai-", Of::Base62, 80, 80, Kind::ProviderKey),
    form("AGE-SECRET-KEY-1", Of::Base62, 58, 58, Kind::ProviderKey),
];

/// The key that `bytes` begin with, and its length.
pub(crate) fn key(bytes: &[u8]) -> Option<(Claim, usize)> {
    let form = FORMS.iter().find(|form| bytes.starts_with(form.begins.as_bytes()))?;
    let rest = bytes.get(form.begins.len()..)?;
    let mut length = rest.iter().take(form.most + 1).take_while(|byte| form.of.has(**byte)).count();
    // The end of a sentence, or a dash after it, is not the key's.
    while length > 0 && rest.get(length - 1).is_some_and(|byte| matches!(byte, b'.' | b'-')) {
        length -= 1;
    }
    if !(form.least..=form.most).contains(&length) || rest.get(length).is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    let body = rest.get(..length)?;
    let claim = match form.kind {
        Kind::GithubToken | Kind::NpmToken if length == 36 => {
            carries_crc(body).then_some(Claim::checksum(form.kind, 99))?
        }
        Kind::ProviderKey if form.begins.starts_with("AGE") => {
            let whole = bytes.get(..form.begins.len() + length)?;
            bech32_checksum(whole).then_some(Claim::checksum(form.kind, 99))?
        }
        _ => Claim::form(form.kind, 90),
    };
    // `AKIAAAAA…` stands in documents; what is random has more than four characters.
    let mut seen: Vec<u8> = body.to_vec();
    seen.sort_unstable();
    seen.dedup();
    (seen.len() > 4).then_some((claim, form.begins.len() + length))
}

/// Thirty random characters, then their CRC-32 in six of base62 (GitHub, npm).
fn carries_crc(body: &[u8]) -> bool {
    let Some((random, check)) = body.split_at_checked(30) else { return false };
    let value = check.iter().try_fold(0_u64, |sum, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'Z' => byte - b'A' + 10,
            b'a'..=b'z' => byte - b'a' + 36,
            _ => return None,
        };
        Some(sum * 62 + u64::from(digit))
    });
    value == Some(u64::from(crc32(random)))
}

/// A web hook of Slack's: who has it, writes there.
pub(crate) fn slack_hook(bytes: &[u8]) -> Option<(Claim, usize)> {
    const BEGINS: &[u8] = b"hooks.slack.com/services/";
    let rest = bytes.strip_prefix(BEGINS)?;
    let length = rest.iter().take(100).take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'/').count();
    let parts: Vec<_> = rest.get(..length)?.split(|byte| *byte == b'/').collect();
    let right = matches!(parts.as_slice(), [[b'T', ..], [b'B', ..], secret] if secret.len() >= 20);
    right.then_some((Claim::form(Kind::SlackToken, 90), BEGINS.len() + length))
}

/// A header has a few names in it.
const HEADER_CHARS_MAX: usize = 4096;
/// Claims are sent in a header of HTTP.
const JWT_CHARS_MAX: usize = 16 << 10;

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "alg")]
    _alg: String,
}

fn run(bytes: &[u8], most: usize) -> usize {
    bytes.iter().take(most).take_while(|byte| Of::Url.has(**byte)).count()
}

/// How far a header that begins here may go.
pub(crate) fn jwt_header_chars(bytes: &[u8]) -> usize {
    run(bytes, HEADER_CHARS_MAX)
}

/// A JSON web token at the beginning of `bytes`: two or three parts, of which the first is a header.
pub(crate) fn jwt(bytes: &[u8]) -> Option<(Claim, usize)> {
    let header = jwt_header_chars(bytes);
    if bytes.get(header) != Some(&b'.') {
        return None;
    }
    let payload = run(bytes.get(header + 1..)?, JWT_CHARS_MAX);
    let signed = header + 1 + payload;
    let (decoded, _) = base64(bytes.get(..header)?)?;
    serde_json::from_slice::<Header>(&decoded).ok()?;
    let signature = bytes.get(signed..)?.strip_prefix(b".").map_or(0, |rest| 1 + run(rest, JWT_CHARS_MAX));
    (payload > 2).then_some((Claim::form(Kind::Jwt, 95), signed + signature))
}

/// What a private key of RSA with 16,384 bits has, and as much again.
const PEM_BYTES_MAX: usize = 32 << 10;

/// The private key that `bytes` begin with, to its end line, or as far as there is key.
pub(crate) fn pem(bytes: &[u8]) -> Option<(Claim, Range<usize>)> {
    let rest = bytes.strip_prefix(b"-----BEGIN ")?;
    let close = rest.iter().take(64).position(|byte| *byte == b'-')?;
    let name = rest.get(..close)?;
    if !name.ends_with(b"PRIVATE KEY") && name != b"PGP PRIVATE KEY BLOCK" || !rest.get(close..)?.starts_with(b"-----")
    {
        return None;
    }
    let begin = bytes.len() - rest.len() + close + 5;
    let body = bytes.get(begin..bytes.len().min(begin + PEM_BYTES_MAX))?;
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/= \t\r\n:,-".contains(byte);
    let stop = body.iter().position(|byte| !inside(byte)).unwrap_or(body.len());
    let body = body.get(..stop)?;
    let end = memchr::memmem::find(body, b"-----END ").map_or(stop, |at| {
        let line = body.get(at + 9..).unwrap_or_default();
        at + 9 + memchr::memmem::find(line, b"-----").map_or(line.len().min(name.len()), |close| close + 5)
    });
    let key = body.iter().filter(|byte| byte.is_ascii_alphanumeric()).count();
    (key > 16).then_some((Claim::form(Kind::PrivateKey, 99), 0..begin + end))
}

//! One entry: a line with a fixed order of keys (`spec/audit-chain.md` §2).
//!
//! ```text
//! {"v":1,"seq":0,"prev":"…","t":"2026-11-22T19:20:01.123456Z","boot":"0a1b2c3d","mono":12,"w":"audit","uid":956,"k":"audit.start","d":{}}
//! ```
//!
//! Reading takes one spelling only, so that [`Entry::render`] of what was read is what was read.

use crate::canonical::from_canonical;
use crate::digest::Digest;
use serde_json::{Map, Value};
use std::io::Write;

/// An entry without its newline: tlog-tiles writes lengths of entries in 16 bits.
pub const ENTRY_BYTES_MAX: usize = 16_384;
/// Name of a service in `w`, and a kind in `k`: more than any of ours.
pub const WORD_BYTES_MAX: usize = 64;
/// What the link of entry 0 is the digest of, before the origin.
const GENESIS: &str = "secai-audit-genesis-v1\n";
/// Bytes of `t`.
const TIME_BYTES: usize = 27;

/// The `prev` of entry 0.
pub fn genesis(origin: &str) -> Digest {
    Digest::of(format!("{GENESIS}{origin}").as_bytes())
}

/// A point in time as an entry spells it: `2026-11-22T19:20:01.123456Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment([u8; TIME_BYTES]);

impl Moment {
    /// From microseconds since 1970-01-01T00:00:00Z; those outside of the years 1970 to 9999 become the nearest in it.
    pub fn from_micros(micros: u64) -> Self {
        /// 9999-12-31T23:59:59Z in seconds.
        const LAST: u64 = 253_402_300_799;
        let seconds = (micros / 1_000_000).min(LAST);
        // Howard Hinnant, "chrono-compatible low-level date algorithms": civil_from_days.
        let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let mut bytes = [0; TIME_BYTES];
        let (hour, minute) = (second / 3600, second / 60 % 60);
        let _ = write!(
            &mut bytes[..],
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{:06}Z",
            second % 60,
            micros % 1_000_000
        );
        Self(bytes)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let shape = b"0000-00-00T00:00:00.000000Z";
        let bytes: [u8; TIME_BYTES] = text.try_into().ok()?;
        let fits = bytes.iter().zip(shape).all(|(byte, like)| match like {
            b'0' => byte.is_ascii_digit(),
            other => byte == other,
        });
        let two = |at: usize| (bytes[at] - b'0') * 10 + bytes[at + 1] - b'0';
        let within = fits
            && (1..=12).contains(&two(5))
            && (1..=31).contains(&two(8))
            && two(11) < 24
            && two(14) < 60
            && two(17) < 60;
        within.then_some(Self(bytes))
    }
}

/// Why a line is no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Above [`ENTRY_BYTES_MAX`].
    #[error("the entry has {0} bytes, more than {ENTRY_BYTES_MAX}")]
    TooLong(usize),
    /// `v` is another number.
    #[error("the entry is of version {0}")]
    UnknownVersion(u64),
    /// Not in the one spelling.
    #[error("the entry is not spelled as entries are, from byte {0} on")]
    Malformed(usize),
    /// `d` is no canonical JSON object.
    #[error("the data of the entry is no canonical JSON object")]
    Data,
}

/// One entry; texts and data lie in the line it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its place in the chain.
    pub seq: u64,
    /// SHA-256 of the line before it, or [`genesis`].
    pub prev: Digest,
    /// The writer's clock.
    pub time: Moment,
    /// First half of the first group of the kernel's boot id.
    pub boot: u32,
    /// Microseconds of `CLOCK_BOOTTIME`.
    pub mono: u64,
    /// The service that asked.
    pub writer: &'a str,
    /// The user that asked.
    pub uid: u32,
    /// The kind.
    pub kind: &'a str,
    /// The kind's data: a canonical JSON object.
    pub data: &'a str,
    /// SHA-256 of salt and payload.
    pub payload: Option<Digest>,
}

impl<'a> Entry<'a> {
    /// Appends the line, without a newline.
    pub fn render(&self, line: &mut Vec<u8>) {
        let _ = write!(
            line,
            r#"{{"v":1,"seq":{},"prev":"{}","t":"{}","boot":"{:08x}","mono":{},"w":"{}","uid":{},"k":"{}","d":{}"#,
            self.seq,
            self.prev,
            self.time.as_str(),
            self.boot,
            self.mono,
            self.writer,
            self.uid,
            self.kind,
            self.data
        );
        if let Some(digest) = self.payload {
            let _ = write!(line, r#","p":"{digest}""#);
        }
        line.push(b'}');
    }

    /// Reads a line (without its newline). The data is only delimited: see [`Entry::check_data`].
    ///
    /// # Errors
    /// [`EntryError`], but never [`EntryError::Data`].
    pub fn parse(line: &'a [u8]) -> Result<Self, EntryError> {
        if line.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLong(line.len()));
        }
        let mut cursor = Cursor { line, at: 0 };
        let Head { seq, prev, time, boot, mono } = cursor.head()?;
        cursor.literal(br#","w":""#)?;
        let writer = cursor.word()?;
        cursor.literal(br#"","uid":"#)?;
        let at = cursor.at;
        let uid = u32::try_from(cursor.number()?).map_err(|_| EntryError::Malformed(at))?;
        cursor.literal(br#","k":""#)?;
        let kind = cursor.word()?;
        cursor.literal(br#"","d":"#)?;
        let rest = line.get(cursor.at..).unwrap_or_default();
        let (data, payload) = split_payload(rest).ok_or(EntryError::Malformed(cursor.at))?;
        // What a crash left out of a line is zeros, and JSON has no control characters either.
        if let Some(at) = data.iter().position(u8::is_ascii_control) {
            return Err(EntryError::Malformed(cursor.at + at));
        }
        let data = str::from_utf8(data).map_err(|fault| EntryError::Malformed(cursor.at + fault.valid_up_to()))?;
        Ok(Self { seq, prev, time, boot, mono, writer, uid, kind, data, payload })
    }

    /// Boot and batch of a line whose head is whole, whatever follows.
    pub fn batch(line: &[u8]) -> Option<(u32, u64)> {
        let head = Cursor { line, at: 0 }.head().ok()?;
        Some((head.boot, head.mono))
    }

    /// Is the data a canonical JSON object? Kinds that we know are checked to their keys by [`super::kind`].
    ///
    /// # Errors
    /// [`EntryError::Data`].
    pub fn check_data(&self) -> Result<(), EntryError> {
        from_canonical::<Map<String, Value>>(self.data.as_bytes()).map(drop).map_err(|_| EntryError::Data)
    }
}

/// `{…}}` or `{…},"p":"HEX"}`: the data ends in a brace, a digest in a quote, so the last two bytes tell.
fn split_payload(rest: &[u8]) -> Option<(&[u8], Option<Digest>)> {
    let body = rest.strip_suffix(b"}")?;
    let (data, payload) = match body.strip_suffix(b"\"") {
        None => (body, None),
        Some(body) => {
            let (data, hex) = body.split_at_checked(body.len().checked_sub(64)?)?;
            let data = data.strip_suffix(br#","p":""#)?;
            (data, Some(str::from_utf8(hex).ok()?.parse().ok()?))
        }
    };
    (data.first() == Some(&b'{') && data.last() == Some(&b'}')).then_some((data, payload))
}

/// What the writer says before it says who asked.
struct Head {
    seq: u64,
    prev: Digest,
    time: Moment,
    boot: u32,
    mono: u64,
}

struct Cursor<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn head(&mut self) -> Result<Head, EntryError> {
        self.literal(br#"{"v":"#)?;
        let version = self.number()?;
        if version != 1 {
            return Err(EntryError::UnknownVersion(version));
        }
        self.literal(br#","seq":"#)?;
        let seq = self.number()?;
        self.literal(br#","prev":""#)?;
        let prev = self.digest()?;
        self.literal(br#"","t":""#)?;
        let at = self.at;
        let time = Moment::parse(self.take(TIME_BYTES)?).ok_or(EntryError::Malformed(at))?;
        self.literal(br#"","boot":""#)?;
        let boot = self.hex32()?;
        self.literal(br#"","mono":"#)?;
        let mono = self.number()?;
        Ok(Head { seq, prev, time, boot, mono })
    }

    fn literal(&mut self, text: &[u8]) -> Result<(), EntryError> {
        let rest = self.line.get(self.at..).unwrap_or_default();
        if !rest.starts_with(text) {
            return Err(EntryError::Malformed(self.at));
        }
        self.at += text.len();
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], EntryError> {
        let bytes = self.line.get(self.at..self.at + count).ok_or(EntryError::Malformed(self.at))?;
        self.at += count;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u64, EntryError> {
        let (start, mut value) = (self.at, 0u64);
        while let Some(digit) = self.line.get(self.at).filter(|byte| byte.is_ascii_digit()) {
            let more = value.checked_mul(10).and_then(|tens| tens.checked_add(u64::from(digit - b'0')));
            value = more.ok_or(EntryError::Malformed(start))?;
            self.at += 1;
        }
        let leading_zero = self.line.get(start) == Some(&b'0') && self.at > start + 1;
        if self.at == start || leading_zero { Err(EntryError::Malformed(start)) } else { Ok(value) }
    }

    fn digest(&mut self) -> Result<Digest, EntryError> {
        let at = self.at;
        let hex = str::from_utf8(self.take(64)?).map_err(|_| EntryError::Malformed(at))?;
        hex.parse().map_err(|_| EntryError::Malformed(at))
    }

    fn hex32(&mut self) -> Result<u32, EntryError> {
        let at = self.at;
        let hex = self.take(8)?;
        if !hex.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(EntryError::Malformed(at));
        }
        let text = str::from_utf8(hex).map_err(|_| EntryError::Malformed(at))?;
        u32::from_str_radix(text, 16).map_err(|_| EntryError::Malformed(at))
    }

    fn word(&mut self) -> Result<&'a str, EntryError> {
        let rest = self.line.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'"').ok_or(EntryError::Malformed(self.at))?;
        let text = str::from_utf8(rest.get(..length).unwrap_or_default()).ok().filter(|text| is_word(text));
        let text = text.ok_or(EntryError::Malformed(self.at))?;
        self.at += length;
        Ok(text)
    }
}

/// Lower-case letters, digits, `-` and `.`, at most [`WORD_BYTES_MAX`]: what `w` and `k` may be.
pub fn is_word(text: &str) -> bool {
    let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    (1..=WORD_BYTES_MAX).contains(&text.len()) && text.bytes().all(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(payload: Option<Digest>) -> Vec<u8> {
        let entry = Entry {
            seq: 41,
            prev: Digest::of(b"x"),
            time: Moment::from_micros(1_795_381_200_000_001),
            boot: 0xa1b2,
            mono: 7,
            writer: "audit",
            uid: 956,
            kind: "svc.state",
            data: r#"{"a":"\"}","b":[1,{"p":"q"}]}"#,
            payload,
        };
        let mut line = Vec::new();
        entry.render(&mut line);
        assert_eq!(Entry::parse(&line), Ok(entry));
        line
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        for line in [sample(None), sample(Some(Digest::of(b"y")))] {
            let mut again = Vec::new();
            Entry::parse(&line).unwrap().render(&mut again);
            assert_eq!(again, line);
            Entry::parse(&line).unwrap().check_data().unwrap();
            // Whatever one byte becomes, it is another entry or none.
            for at in 0..line.len() {
                for bit in 0..8 {
                    let mut other = line.clone();
                    other[at] ^= 1 << bit;
                    if let Ok(entry) = Entry::parse(&other) {
                        let mut again = Vec::new();
                        entry.render(&mut again);
                        assert_eq!(again, other);
                    }
                }
                assert!(Entry::parse(&line[..at]).is_err());
            }
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_795_381_200_123_456, "2026-11-22T21:00:00.123456Z"),
            (u64::MAX, "9999-12-31T23:59:59.551615Z"),
        ] {
            let moment = Moment::from_micros(micros);
            assert_eq!(moment.as_str(), text);
            assert_eq!(Moment::parse(text.as_bytes()), Some(moment));
        }
    }

    #[test]
    fn other_spellings_are_none() {
        let line = String::from_utf8(sample(None)).unwrap();
        for (old, new) in [
            (r#""v":1"#, r#""v":2"#),
            (r#""v":1"#, r#""v":01"#),
            (r#""seq":41"#, r#""seq":041"#),
            (r#""seq":41"#, r#""seq": 41"#),
            (r#""seq":41"#, r#""seq":99999999999999999999"#),
            (r#""boot":"0000a1b2""#, r#""boot":"0000A1B2""#),
            (r#""w":"audit""#, r#""w":"Audit""#),
            (r#""uid":956"#, r#""uid":4294967296"#),
            ("T21", "T24"),
        ] {
            assert!(line.contains(old));
            let other = line.replacen(old, new, 1);
            assert!(Entry::parse(other.as_bytes()).is_err(), "{other}");
        }
        let long = line.replace(r#""b":[1"#, &format!(r#""b":["{}""#, "x".repeat(ENTRY_BYTES_MAX)));
        assert!(matches!(Entry::parse(long.as_bytes()), Err(EntryError::TooLong(_))));
        let unsorted = line.replace(r#""a":"\"}","b""#, r#""z":"\"}","b""#);
        assert_eq!(Entry::parse(unsorted.as_bytes()).unwrap().check_data(), Err(EntryError::Data));
    }
}

//! Points in time: `2026-11-22T21:00:00Z`, whole seconds in UTC and in no other spelling.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Seconds since 1970-01-01T00:00:00Z, within the years 1970 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(jiff::Timestamp);

/// Text or number that is no point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time: `YYYY-MM-DDThh:mm:ssZ`, 1970 to 9999, is expected")]
pub struct NotATime;

impl Time {
    /// The time so many seconds after 1970-01-01T00:00:00Z.
    pub fn from_seconds(seconds: u64) -> Result<Self, NotATime> {
        let seconds = i64::try_from(seconds).map_err(|_| NotATime)?;
        jiff::Timestamp::from_second(seconds).map(Self).map_err(|_| NotATime)
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    pub fn seconds(self) -> u64 {
        u64::try_from(self.0.as_second()).unwrap_or(0)
    }

    /// This machine's clock, cut to the second.
    pub fn now() -> Result<Self, NotATime> {
        let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_err(|_| NotATime)?;
        Self::from_seconds(seconds.as_secs())
    }
}

impl FromStr for Time {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        if text.len() != 20 {
            return Err(NotATime);
        }
        let timestamp: jiff::Timestamp = text.parse().map_err(|_| NotATime)?;
        let time = Self::from_seconds(u64::try_from(timestamp.as_second()).map_err(|_| NotATime)?)?;
        if time.to_string() == text { Ok(time) } else { Err(NotATime) }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_only() {
        let time: Time = "2026-11-22T21:00:00Z".parse().unwrap();
        assert_eq!(time.seconds(), 1_795_381_200);
        assert_eq!(time.to_string(), "2026-11-22T21:00:00Z");
        for bad in [
            "2026-11-22T21:00:00+00:00",
            "2026-11-22t21:00:00z",
            "2026-11-22 21:00:00Z",
            "2026-11-22T21:00:00.5Z",
            "2026-11-22T21:00:60Z",
            "2026-02-30T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "",
        ] {
            assert_eq!(bad.parse::<Time>(), Err(NotATime), "{bad}");
        }
    }
}

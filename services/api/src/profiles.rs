//! `secai-profiles`, `/run/secure-ai/profiles.sock`: which profile holds, what another would mean, and the change to it.
//!
//! ```text
//! {"id":1,"ask":{"preview":{"profile":"research"}}}
//! {"id":1,"answer":{"previewed":{"token":"…","from":"offline_private","to":"research","leaves":["user 951: tcp to public addresses, …"],…}}}
//! {"id":2,"ask":{"apply":{"profile":"research","token":"…"}}}
//! {"id":2,"answer":{"refused":{"why":"not_a_person","message":"…"}}}
//! ```
//!
//! Beside [`Request::Apply`] lies a descriptor of the terminal that the caller sits at; the service itself asks there for
//! the name of the profile, and reads it. What a caller says that somebody typed counts for nothing.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where the service listens.
pub const SOCKET: &str = "/run/secure-ai/profiles.sock";
/// How long a token lives: time to read what it means.
pub const TOKEN_LIVES: Duration = Duration::from_secs(120);
/// How long the service waits at the terminal for the name.
pub const TYPING_LASTS: Duration = Duration::from_secs(60);

/// A packet from a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Chosen by the client; the answer carries it.
    pub id: u64,
    /// The request.
    pub ask: Request,
}

/// A packet from the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// That of the request; 0 where the request could not be read.
    pub id: u64,
    /// The reply.
    pub answer: Reply,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Which profile holds, and which there are. Answer: [`Reply::Shown`].
    Show {},
    /// What a profile would mean, and a token for it. Answer: [`Reply::Previewed`].
    Preview {
        /// Its name.
        profile: String,
    },
    /// Change to it. Answer: [`Reply::Applied`], once it holds.
    Apply {
        /// Its name.
        profile: String,
        /// From [`Preview::token`].
        token: String,
    },
    /// The rules and links that there are now. Answer: [`Reply::Evidence`], beside it a descriptor of an [`Evidence`] as JSON.
    Evidence {},
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// How things stand.
    Shown(Shown),
    /// What a profile would mean.
    Previewed(Preview),
    /// It holds.
    Applied {
        /// Its name.
        profile: String,
        /// Normal form of its rules.
        digest: String,
        /// It ends by itself after so many seconds.
        ends_after_s: Option<u64>,
    },
    /// A descriptor is beside this packet.
    Evidence {},
    /// No.
    Refused {
        /// For programs.
        why: Why,
        /// For people.
        message: String,
    },
}

/// How things stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// The profile that holds.
    pub profile: String,
    /// Normal form of its rules.
    pub digest: String,
    /// Seconds until the strictest one holds again.
    pub ends_after_s: Option<u64>,
    /// How often rules were found changed by others and loaded again, since the service began.
    pub restored: u64,
    /// What is not as it should be: a unit that runs and must not, entries that wait for the audit daemon.
    pub troubles: Vec<String>,
    /// Every profile.
    pub profiles: Vec<Listed>,
}

/// A profile that there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What it is for, in a line.
    pub about: String,
    /// Units that it needs and this image lacks: it cannot be applied then.
    pub lacks: Vec<String>,
}

/// What a profile would mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preview {
    /// For one [`Request::Apply`], by the same user, for this profile and these rules, within [`TOKEN_LIVES`].
    pub token: String,
    /// The profile that holds.
    pub from: String,
    /// The profile that was asked about.
    pub to: String,
    /// Normal form of its rules.
    pub digest: String,
    /// Does it let out anything that the one before does not?
    pub loosens: bool,
    /// Who may send what where, from the model of its rules; none: nothing leaves.
    pub leaves: Vec<String>,
    /// What may leave now, and could not any more.
    pub ends: Vec<String>,
    /// Units that would start.
    pub starts: Vec<String>,
    /// Units that would stop.
    pub stops: Vec<String>,
    /// It would end by itself after so many minutes.
    pub expires_after_minutes: Option<u32>,
    /// What a person must know besides.
    pub told: Vec<String>,
}

/// What rules and links there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The profile that holds, on the service's word.
    pub profile: String,
    /// The output of `nft list ruleset`.
    pub ruleset: String,
    /// The output of `ip -j link`.
    pub links: String,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The packet is no request.
    Malformed,
    /// This user may not ask this.
    NotAllowed,
    /// There is no such profile.
    UnknownProfile,
    /// The image lacks units that the profile needs.
    UnitsMissing,
    /// No such token: never given, or used already.
    TokenUnknown,
    /// It was given too long ago.
    TokenExpired,
    /// It was given to another user.
    TokenOfAnother,
    /// It was given for another profile.
    TokenForAnother,
    /// Its rules, or the profile that holds, are others than when it was given.
    TokenOutdated,
    /// Whoever asks is not a person at this device's own terminal.
    NotAPerson,
    /// The name was not typed, or another one was.
    NotConfirmed,
    /// It could not be recorded first.
    NotRecorded,
    /// Another change is under way, or this user asks too often.
    Busy,
    /// It could not be done; the message says which profile holds now.
    Failed,
}

impl Why {
    /// As in packets and entries.
    pub fn word(self) -> String {
        serde_json::to_value(self).ok().and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{from_packet, to_packet};

    #[test]
    fn packets_are_those_of_the_page() {
        let text = r#"{"id":2,"ask":{"apply":{"profile":"research","token":"ab"}}}"#;
        let asked: Asked = from_packet(text.as_bytes()).unwrap();
        assert_eq!(to_packet(&asked).unwrap(), text.as_bytes());
        for bad in [
            r#"{"id":2,"ask":{"apply":{"profile":"research"}}}"#,
            r#"{"id":2,"ask":{"apply":{"profile":"research","token":"ab","typed":"research"}}}"#,
            r#"{"id":2,"ask":{"show":{"uid":0}}}"#,
            r#"{"id":2,"ask":{"preview":{}}}"#,
            r#"{"ask":{"show":{}}}"#,
        ] {
            assert!(from_packet::<Asked>(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(Why::NotAPerson.word(), "not_a_person");
    }
}

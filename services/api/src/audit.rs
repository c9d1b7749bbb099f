//! `secai-audit`, `/run/secure-ai/audit.sock`: appends to the chain, and hands out what is needed to read it.
//!
//! ```text
//! {"id":1,"ask":{"append":{"kind":"svc.state","data":{"from":"inactive","result":"success","to":"active","unit":"x.service"}}}}
//! {"id":1,"answer":{"appended":{}}}
//! {"id":2,"ask":{"append":{"kind":"owner.note","data":{"bytes":5},"payload":"aGVsbG8="}}}
//! {"id":2,"answer":{"refused":{"why":"disk_full","message":"…"}}}
//! ```
//!
//! Several requests may be under way on one connection: a reply carries the `id` of its request, and replies to
//! `async` kinds overtake those to `sync` kinds.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use crate::packet::{PacketError, from_packet, to_packet};
pub use secai_verifier::audit::kind;

/// Where the service listens.
pub const SOCKET: &str = "/run/secure-ai/audit.sock";

/// A packet from a client.
#[derive(Debug, Serialize, Deserialize)]
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
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Append an entry. Answer: [`Reply::Appended`], for `sync` kinds once it is on the disk.
    Append(Append),
    /// Erase the payloads of the entries `from..until`, after an entry that says so. Answer: [`Reply::Appended`], once both are done.
    Forget(Range),
    /// Remove the segments before an entry, after an entry that says so. Answer: [`Reply::Appended`], once both are done.
    Prune(Prune),
    /// Sign what is on the disk now. Answer: [`Reply::Checkpoint`].
    Checkpoint {},
    /// Hand out a descriptor of the chain's directory, read-only. Answer: [`Reply::Opened`], the descriptor beside it.
    Open {},
    /// The owner knows that this chain begins with a gap. Answer: [`Reply::Appended`].
    Acknowledge {},
    /// How things stand. Answer: [`Reply::Status`].
    Status {},
}

/// An entry to be.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Append {
    /// Its kind.
    pub kind: String,
    /// The kind's data: canonical JSON; anything else is refused.
    pub data: Box<RawValue>,
    /// Base64 of the payload, for kinds that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
}

/// Entries from one to before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The first.
    pub from: u64,
    /// The first after them.
    pub until: u64,
}

/// The oldest segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    /// The first entry that stays: a multiple of 65,536.
    pub until: u64,
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// The entry is kept as surely as its class says.
    Appended {
        /// Its place; none for `async` kinds, whose place is not known yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
    },
    /// A checkpoint: a C2SP signed note.
    Checkpoint {
        /// The note.
        note: String,
        /// The key that signed it, `NAME+HASH+BASE64`.
        key: String,
    },
    /// A descriptor is beside this packet.
    Opened {},
    /// How things stand.
    Status(Status),
    /// No, and nothing was written.
    Refused {
        /// For programs.
        why: Why,
        /// For people.
        message: String,
    },
}

/// How the writer stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Entries on the disk.
    pub size: u64,
    /// Entries that the newest checkpoint covers.
    pub signed: u64,
    /// The epoch.
    pub epoch: u64,
    /// The key of epoch 0, `NAME+HASH+BASE64`: what `--trust` names.
    pub device_key: String,
    /// Entries of each kind since the writer began.
    pub written: std::collections::BTreeMap<String, u64>,
    /// Refused requests since the writer began, by reason.
    pub refused: std::collections::BTreeMap<String, u64>,
    /// Does the chain begin with a gap that nobody acknowledged?
    pub gap: bool,
    /// Is there too little room for all but the most important kinds?
    pub disk_full: bool,
    /// Does the writer hear from systemd which services start and stop?
    pub hears_systemd: bool,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The packet is too long or no request.
    Malformed,
    /// No kind of this name.
    UnknownKind,
    /// The data is not that of the kind, or the payload is missing, superfluous or too long.
    WrongData,
    /// This user may not ask this.
    NotAllowed,
    /// Too little room on the disk.
    DiskFull,
    /// The chain begins with a gap that nobody acknowledged: nothing may happen that must be recorded first.
    Gap,
    /// There is nothing to do: no such entries, no gap.
    Nothing,
    /// Entries may not be removed: their epoch is not closed yet, or the chain does not hold.
    Needed,
    /// The queue is full, or the writer is ending: ask again later.
    Busy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_those_of_the_page() {
        let text = r#"{"id":2,"ask":{"append":{"kind":"owner.note","data":{"bytes":5},"payload":"aGVsbG8="}}}"#;
        let asked: Asked = from_packet(text.as_bytes()).unwrap();
        assert_eq!(to_packet(&asked).unwrap(), text.as_bytes());
        let Request::Append(append) = asked.ask else { panic!("{asked:?}") };
        assert_eq!(append.data.get(), r#"{"bytes":5}"#, "as it was sent");
        for bad in [
            r#"{"id":2,"ask":{"append":{"kind":"x","data":{},"uid":0}}}"#,
            r#"{"id":2,"ask":{"checkpoint":{}},"uid":0}"#,
            r#"{"id":2,"ask":{"checkpoint":{"size":1}}}"#,
            r#"{"id":2,"ask":{"prune":{"from":0,"until":65536}}}"#,
            r#"{"id":-1,"ask":{"status":{}}}"#,
            r#"{"ask":{"status":{}}}"#,
            r#"{"id":1}"#,
        ] {
            assert!(from_packet::<Asked>(bad.as_bytes()).is_err(), "{bad}");
        }
        let reply = Answered { id: 2, answer: Reply::Refused { why: Why::DiskFull, message: "full".into() } };
        let packet = to_packet(&reply).unwrap();
        assert_eq!(packet, br#"{"id":2,"answer":{"refused":{"why":"disk_full","message":"full"}}}"#);
        assert_eq!(from_packet::<Answered>(&packet).unwrap(), reply);
    }
}

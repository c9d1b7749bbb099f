//! Who may ask what: a pure function from the policy, the caller and the request to what is done, or why not.

use crate::writer::Pending;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secai_api::audit::{Append, Range, Request, Why};
use secai_verifier::audit::kind::{self, Class, Kind, Traces};
use secai_verifier::audit::payload::PAYLOAD_BYTES_MAX;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// Append an entry of a kind that is granted.
    Append,
    /// Erase payloads.
    Forget,
    /// Have a checkpoint signed.
    Checkpoint,
    /// Read the chain.
    Open,
    /// Acknowledge a gap.
    Acknowledge,
    /// Ask how things stand.
    Status,
}

/// What some users may do.
#[derive(Debug, Clone)]
pub struct Grant {
    /// How entries name them (`w`).
    pub name: String,
    /// The users.
    pub uids: RangeInclusive<u32>,
    /// What they may ask.
    pub acts: BTreeSet<Act>,
    /// Kinds of entries that they may append.
    pub kinds: BTreeSet<String>,
}

/// Every grant; a user has those that name it, and nothing else.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// The grants.
    pub grants: Vec<Grant>,
}

/// How the chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// The chain begins with a gap that nobody acknowledged.
    pub gap: bool,
    /// Less room is left on the disk than is kept for what matters most.
    pub low: bool,
}

/// What is done.
#[derive(Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Append this.
    Append(Pending, Class),
    /// Erase the payloads of these entries, in the name of this user.
    Forget(Range, (String, u32)),
    /// Sign.
    Checkpoint,
    /// Hand out the chain.
    Open,
    /// Record that this user knows of the gap.
    Acknowledge((String, u32)),
    /// Say how things stand.
    Status,
}

/// Why not: for programs and for people.
pub type Refused = (Why, String);

/// Kinds that are taken even when the disk is nearly full: what the chain says of itself, and which profile holds.
const FIRST_OF_ALL: [&str; 2] = ["audit.", "profile."];

/// Kinds that a person writes: they are taken even after a gap.
const OWNERS: &str = "owner.";

/// Decides. Reasons to refuse come first, the caller's before the request's.
///
/// # Errors
/// [`Refused`]; nothing is to be done then.
pub fn decide(policy: &Policy, uid: u32, request: &Request, standing: Standing) -> Result<Allowed, Refused> {
    let (act, kind) = match request {
        Request::Append(append) => (Act::Append, Some(append.kind.as_str())),
        Request::Forget(_) => (Act::Forget, None),
        Request::Checkpoint {} => (Act::Checkpoint, None),
        Request::Open {} => (Act::Open, None),
        Request::Acknowledge {} => (Act::Acknowledge, None),
        Request::Status {} => (Act::Status, None),
    };
    let mut own = policy.grants.iter().filter(|grant| grant.uids.contains(&uid) && grant.acts.contains(&act));
    let grant = own.find(|grant| kind.is_none_or(|kind| grant.kinds.contains(kind)));
    let Some(grant) = grant else {
        // A stranger learns nothing about kinds.
        return Err((Why::NotAllowed, format!("user {uid} may not ask for this")));
    };
    let asker = || (grant.name.clone(), uid);
    match request {
        Request::Append(append) => {
            let (pending, class) = entry(append, asker())?;
            let first = FIRST_OF_ALL.iter().any(|prefix| pending.kind.starts_with(prefix));
            if standing.low && !first {
                return Err((Why::DiskFull, "too little room is left on the disk of the chain".to_owned()));
            }
            // What waits for its entry before it happens does not happen.
            let owners = pending.kind.starts_with(OWNERS);
            if standing.gap && class == Class::Sync && !owners {
                return Err((Why::Gap, "the chain begins with a gap that its owner has not acknowledged".to_owned()));
            }
            Ok(Allowed::Append(pending, class))
        }
        Request::Forget(range) if range.from >= range.until => {
            Err((Why::Nothing, format!("there are no entries from {} to before {}", range.from, range.until)))
        }
        Request::Forget(range) => Ok(Allowed::Forget(*range, asker())),
        Request::Acknowledge {} if !standing.gap => Err((Why::Nothing, "the chain has no gap".to_owned())),
        Request::Acknowledge {} => Ok(Allowed::Acknowledge(asker())),
        Request::Checkpoint {} => Ok(Allowed::Checkpoint),
        Request::Open {} => Ok(Allowed::Open),
        Request::Status {} => Ok(Allowed::Status),
    }
}

fn entry(append: &Append, (writer, uid): (String, u32)) -> Result<(Pending, Class), Refused> {
    let wrong = |message: String| (Why::WrongData, message);
    let kind: &Kind = kind::find(&append.kind)
        .ok_or_else(|| (Why::UnknownKind, format!("there is no kind `{}`", append.kind.escape_default())))?;
    let data = append.data.get();
    kind.check(data.as_bytes()).map_err(|error| wrong(format!("the data of a `{}`: {error}", kind.name)))?;
    let payload = match (&append.payload, kind.traces) {
        (None, Traces::None) => None,
        (Some(text), Traces::OfAPerson) => {
            let bytes = STANDARD.decode(text).map_err(|_| wrong("the payload is not base64".to_owned()))?;
            if bytes.len() > PAYLOAD_BYTES_MAX {
                return Err(wrong(format!("the payload has more than {PAYLOAD_BYTES_MAX} bytes")));
            }
            Some(bytes)
        }
        (Some(_), Traces::None) => return Err(wrong(format!("a `{}` has no payload", kind.name))),
        (None, Traces::OfAPerson) => return Err(wrong(format!("a `{}` needs a payload", kind.name))),
    };
    let pending = Pending { writer, uid, kind: kind.name, data: data.to_owned(), payload };
    if pending.is_too_long() {
        return Err(wrong("the entry is too long".to_owned()));
    }
    Ok((pending, kind.class))
}

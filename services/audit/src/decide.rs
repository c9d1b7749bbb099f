//! Who may ask what: a pure function from the services' pages, the caller and the request to what is done, or why not.

use crate::writer::{OWN_NAME, Pending};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secai_api::audit::{Append, Prune, Range, Request, Why};
use secai_verifier::audit::SEGMENT_ENTRIES;
use secai_verifier::audit::kind::{self, Class, Kind, Traces};
use secai_verifier::audit::payload::PAYLOAD_BYTES_MAX;
use secai_verifier::service::{Service, Services};

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
    /// Remove the segments before this entry, in the name of this user.
    Prune(u64, (String, u32)),
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

const GAP: &str = "the chain begins with a gap that its owner has not acknowledged";

/// Decides. Reasons to refuse come first, the caller's before the request's.
///
/// # Errors
/// [`Refused`]; nothing is to be done then.
pub fn decide(services: &Services, uid: u32, request: &Request, standing: Standing) -> Result<Allowed, Refused> {
    let may = match request {
        Request::Append(append) => services.may_append(uid, &append.kind),
        Request::Forget(_) => may_ask(services, "forget", uid),
        Request::Prune(_) => may_ask(services, "prune", uid),
        Request::Checkpoint {} => may_ask(services, "checkpoint", uid),
        Request::Open {} => may_ask(services, "open", uid),
        Request::Acknowledge {} => may_ask(services, "acknowledge", uid),
        Request::Status {} => may_ask(services, "status", uid),
    };
    if !may {
        // A stranger learns nothing about kinds.
        return Err((Why::NotAllowed, format!("user {uid} may not ask for this")));
    }
    let asker = || (name_of(services.of_user(uid), uid), uid);
    match request {
        Request::Append(append) => {
            let writer = name_of(services.who_records(uid, &append.kind), uid);
            let (pending, class) = entry(append, (writer, uid))?;
            let first = FIRST_OF_ALL.iter().any(|prefix| pending.kind.starts_with(prefix));
            if standing.low && !first {
                return Err((Why::DiskFull, "too little room is left on the disk of the chain".to_owned()));
            }
            // What waits for its entry before it happens does not happen.
            let owners = pending.kind.starts_with(OWNERS);
            if standing.gap && class == Class::Sync && !owners {
                return Err((Why::Gap, GAP.to_owned()));
            }
            Ok(Allowed::Append(pending, class))
        }
        Request::Forget(range) if range.from >= range.until => {
            Err((Why::Nothing, format!("there are no entries from {} to before {}", range.from, range.until)))
        }
        Request::Forget(range) => Ok(Allowed::Forget(*range, asker())),
        Request::Prune(Prune { until }) if !until.is_multiple_of(SEGMENT_ENTRIES) => {
            let message = format!("only whole segments are removed: {until} is no multiple of {SEGMENT_ENTRIES}");
            Err((Why::WrongData, message))
        }
        // The gap is its first entry, and nobody was shown it.
        Request::Prune(_) if standing.gap => Err((Why::Gap, GAP.to_owned())),
        Request::Prune(Prune { until }) => Ok(Allowed::Prune(*until, asker())),
        Request::Acknowledge {} if !standing.gap => Err((Why::Nothing, "the chain has no gap".to_owned())),
        Request::Acknowledge {} => Ok(Allowed::Acknowledge(asker())),
        Request::Checkpoint {} => Ok(Allowed::Checkpoint),
        Request::Open {} => Ok(Allowed::Open),
        Request::Status {} => Ok(Allowed::Status),
    }
}

fn may_ask(services: &Services, request: &str, uid: u32) -> bool {
    services.named(OWN_NAME).is_some_and(|page| page.may(request, uid))
}

/// How an entry names a user.
fn name_of(service: Option<&Service>, uid: u32) -> String {
    match (service, uid) {
        (Some(page), _) => page.name.clone(),
        (None, 0) => "root".to_owned(),
        (None, _) => "person".to_owned(),
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

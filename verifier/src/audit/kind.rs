//! What an entry can be about: every kind, its data, and how surely it is kept (`spec/audit-chain.md` §3).
//!
//! A service that adds a kind adds it here, with a vector below `spec/vectors/audit/kinds.jsonl`.

use crate::audit::SEGMENT_ENTRIES;
use crate::canonical::{JsonError, from_canonical};
use crate::digest::Digest;
use serde::{Deserialize, Serialize};

/// When the one who asked is told that the entry is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// When it is on the disk: what it is about happens afterwards, or not at all.
    Sync,
    /// When it is queued: what it is about has happened anyway.
    Async,
}

/// Whether entries of a kind have a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traces {
    /// Never.
    None,
    /// Always: it is about what a person did or wrote.
    OfAPerson,
}

/// A kind.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// As in `k`.
    pub name: &'static str,
    /// How surely it is kept.
    pub class: Class,
    /// Payload or none.
    pub traces: Traces,
    /// What it is about, in words for people.
    pub about: &'static str,
    /// Keys of its data, ascending.
    pub keys: &'static [&'static str],
    check: fn(&[u8]) -> Result<(), JsonError>,
}

impl Kind {
    /// Is this canonical data of the kind?
    ///
    /// # Errors
    /// [`JsonError`] says what is wrong.
    pub fn check(&self, data: &[u8]) -> Result<(), JsonError> {
        (self.check)(data)
    }
}

/// The kind of this name.
pub fn find(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// Is this canonical data of the type? Nearly all data is, and then this says so without the detour over a map: keys are
/// declared ascending (a test sees to it), so that what the type writes is canonical.
fn check_as<T: Data>(data: &[u8]) -> Result<(), JsonError> {
    let again = serde_json::from_slice::<T>(data).and_then(|value| serde_json::to_vec(&value));
    if again.is_ok_and(|again| again == data) { Ok(()) } else { from_canonical::<T>(data).map(drop) }
}

/// Data of a kind.
pub trait Data: Serialize + for<'de> Deserialize<'de> {
    /// Name of the kind.
    const KIND: &'static str;
}

macro_rules! kinds {
    ($($type:ident $name:literal $class:ident $traces:ident $about:literal { $($(#[$attr:meta])* $field:ident: $of:ty,)* })*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $about)]
            #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub struct $type { $($(#[$attr])* pub $field: $of,)* }

            impl Data for $type {
                const KIND: &'static str = $name;
            }
        )*

        /// Every kind.
        pub const KINDS: &[Kind] = &[$(Kind {
            name: $name,
            class: Class::$class,
            traces: Traces::$traces,
            about: $about,
            keys: &[$(stringify!($field)),*],
            check: check_as::<$type>,
        },)*];
    };
}

kinds! {
    Started "audit.start" Sync None "the writer of the chain began" {
        /// Its version.
        version: String,
    }
    Stopped "audit.stop" Sync None "the writer of the chain ended in order" {
        /// Requests that were refused since it began.
        refused: u64,
    }
    Recovered "audit.recovered" Sync None "a torn tail was cut off when the writer began" {
        /// Bytes that were cut.
        bytes: u64,
        /// SHA-256 of these bytes.
        sha256: Digest,
    }
    Gap "audit.gap" Sync None "this chain begins after another one that was broken or gone" {
        /// What was found, in words.
        reason: String,
        /// Root of the entries of the other chain that were good.
        root: Digest,
        /// How many these were; 0 when it was gone.
        size: u64,
    }
    Acknowledged "audit.acknowledged" Sync None "a person was shown that the chain begins with a gap" {
        /// Root of the other chain, as in the gap.
        root: Digest,
    }
    ClockStepped "audit.clock" Sync None "the clock stepped back" {
        /// By how many microseconds.
        back_us: u64,
    }
    Epoch "audit.epoch" Sync None "the key of the chain was replaced" {
        /// The next public key: 32 bytes of base64.
        key: String,
        /// The next epoch.
        number: u64,
    }
    Forgotten "audit.forget" Sync None "payloads were erased" {
        /// How many there were.
        count: u64,
        /// The first entry whose payload is gone.
        from: u64,
        /// The first entry after them.
        until: u64,
    }
    Pruned "audit.prune" Sync None "segments were removed; their tiles stay" {
        /// The first entry that stays: a multiple of 65,536.
        until: u64,
    }
    ServiceState "svc.state" Async None "a service started, stopped or failed" {
        /// State before, as systemd names it; `unseen` where the writer had not looked yet.
        from: String,
        /// How it ended, as systemd names it (`success` while it runs).
        result: String,
        /// State after.
        to: String,
        /// The unit.
        unit: String,
    }
    ProfileRequested "profile.requested" Sync None "somebody confirmed another profile, or one ended by itself" {
        /// `person`, `operator`, `expiry`, `fault`, or `shutdown` where the service ended.
        by: String,
        /// Normal form of the rules that are to hold.
        digest: Digest,
        /// The profile before.
        from: String,
        /// Where it was confirmed; empty where nobody was asked.
        terminal: String,
        /// The profile to be.
        to: String,
        /// Who asked.
        uid: u64,
    }
    ProfileApplied "profile.applied" Sync None "a profile holds" {
        /// As in the request; `boot` where the device or the service began with it.
        by: String,
        /// Normal form of the rules that hold.
        digest: Digest,
        /// The profile before.
        from: String,
        /// The profile that holds.
        to: String,
    }
    ProfileRefused "profile.refused" Async None "another profile was refused" {
        /// As the answer names it.
        reason: String,
        /// The profile that was asked for.
        to: String,
        /// Who asked.
        uid: u64,
        /// Requests of this user that were refused since the last entry about him, without one of their own.
        unnamed: u64,
    }
    ProfileFailed "profile.failed" Sync None "a change of the profile failed on its way" {
        /// The profile before.
        from: String,
        /// The profile that holds now.
        holds: String,
        /// In which step.
        step: String,
        /// The profile that was to be.
        to: String,
        /// Why, in words.
        why: String,
    }
    ProfileInterrupted "profile.interrupted" Sync None "the service ended in the middle of a change" {
        /// The profile before.
        from: String,
        /// The last step that had begun.
        step: String,
        /// The profile that was to be.
        to: String,
    }
    ProfileRestored "profile.restored" Async None "rules were not those of the profile, and were loaded again" {
        /// Program that changed them, as the kernel names it; empty where it does not.
        by: String,
        /// What was wrong with them, in words.
        found: String,
        /// The profile that holds.
        profile: String,
    }
    DnsChecked "dns.checked" Sync None "whether names are asked for anywhere was looked at" {
        /// Findings.
        findings: u64,
        /// The profile that held.
        profile: String,
        /// Canary packets that the rules refused and counted.
        refused: u64,
        /// Canary packets that were sent.
        sent: u64,
        /// `clean`, `leak` or `unclear`.
        verdict: String,
    }
    Note "owner.note" Sync OfAPerson "a person wrote a remark" {
        /// Bytes of the remark.
        bytes: u64,
    }
}

impl Pruned {
    /// Is it at the border of a segment?
    pub fn is_aligned(&self) -> bool {
        self.until.is_multiple_of(SEGMENT_ENTRIES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::entry::is_word;

    #[test]
    fn names_are_words_and_unique() {
        let names: std::collections::BTreeSet<_> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), KINDS.len());
        assert!(names.iter().all(|name| is_word(name)));
        for kind in KINDS {
            assert!(
                kind.keys.is_sorted(),
                "{}: {:?} must ascend, or what is written is not canonical",
                kind.name,
                kind.keys
            );
        }
    }
}

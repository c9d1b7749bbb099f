//! What is promised, claim by claim (`manifests/policy/claims.yml`), and whether a device keeps it.
//!
//! The page says which checks decide each claim; [`judge`] is a pure function from what the checks found to a line for
//! each. A claim that no check can turn red is no claim: the parser wants one, or a service that it waits for.

pub mod check;
pub mod judge;
pub mod remembered;

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The page is a few screenfuls; this is far above.
pub const PAGE_BYTES_MAX: usize = 128 << 10;
/// A person reads all of them.
const CLAIMS_MAX: usize = 100;
/// More units that wake something up no device of ours has.
const WAKES_MAX: usize = 200;
/// A sentence, on two lines of a terminal.
const LINE_CHARS_MAX: usize = 200;

/// Why the page is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ClaimsError {
    /// Above [`PAGE_BYTES_MAX`].
    #[error("the page has {0} bytes, more than {PAGE_BYTES_MAX}")]
    TooLarge(usize),
    /// Not the YAML that is expected.
    #[error("the page is not what is expected: {0}")]
    Shape(#[from] serde_yaml::Error),
    /// A value that cannot be.
    #[error("`{key}` of {of}: {reason}")]
    Value {
        /// Which claim or unit, or the page.
        of: String,
        /// Which key.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// The page.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Units that may wake something up.
    pub wakes: Vec<Wakes>,
    /// What no claim covers, a sentence each.
    pub not_covered: Vec<String>,
    /// The claims, in the order in which they are told.
    pub claims: Vec<Claim>,
}

/// A timer, socket or path that may be active.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wakes {
    /// Its name.
    pub unit: String,
    /// The package or service that brings it.
    pub of: String,
    /// What it is for.
    #[serde(rename = "for")]
    pub purpose: String,
}

/// One claim.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// A letter and a number, and perhaps a letter more.
    pub id: String,
    /// What is claimed.
    pub says: String,
    /// Sentences that people are told, for which it stands.
    pub promises: Vec<String>,
    /// Whether what it denies cannot happen, or is found.
    pub holds: Holds,
    /// Against whom: a heading of the page of threats.
    pub threats: String,
    /// Checks over what the device gathers about itself.
    pub on_device: Vec<check::Check>,
    /// Tests, by the names of their functions.
    pub in_lab: Vec<String>,
    /// Services without which it is not met.
    #[serde(default)]
    pub waits_for: Vec<Waits>,
}

/// In which way a claim holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// The attack does not get through.
    Prevents,
    /// It gets through, and is found by who looks.
    Detects,
}

/// A service that is not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Waits {
    /// The way out in `full_lab`.
    Airlock,
    /// Searches.
    Mediator,
    /// Models.
    Inference,
    /// Updates.
    Update,
    /// Pages for people.
    Dashboard,
}

impl Waits {
    /// As on the page.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Airlock => "airlock",
            Self::Mediator => "mediator",
            Self::Inference => "inference",
            Self::Update => "update",
            Self::Dashboard => "dashboard",
        }
    }

    /// Its unit: where that is, nobody waits any more.
    pub fn unit(self) -> String {
        format!("secure-ai-{}.service", self.word())
    }
}

/// What a claim's link begins with.
const THREATS: &str = "threats.md#";

impl Claims {
    /// Reads the page.
    ///
    /// # Errors
    /// [`ClaimsError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ClaimsError> {
        if bytes.len() > PAGE_BYTES_MAX {
            return Err(ClaimsError::TooLarge(bytes.len()));
        }
        let page: Self = serde_yaml::from_slice(bytes)?;
        page.validate()?;
        Ok(page)
    }

    /// May this unit be active?
    pub fn may_wake(&self, unit: &str) -> bool {
        self.wakes.iter().any(|it| it.unit == unit)
    }

    fn validate(&self) -> Result<(), ClaimsError> {
        let of_page = |key, reason: &str| wrong("the page", key, reason.to_owned());
        if self.claims.is_empty() || self.claims.len() > CLAIMS_MAX {
            return of_page("claims", "there are none, or too many");
        }
        if self.wakes.len() > WAKES_MAX {
            return of_page("wakes", "there are too many");
        }
        // That there are none is for a check to say: the claim is then not met.
        if !self.not_covered.iter().all(|it| is_line(it)) {
            return of_page("not_covered", "not lines");
        }
        let mut seen = BTreeSet::new();
        for wakes in &self.wakes {
            if !wakes_something(&wakes.unit) || !seen.insert(&wakes.unit) {
                return wrong(&wakes.unit, "unit", "no timer, socket or path, or it stands twice".into());
            }
            if !is_line(&wakes.of) || !is_line(&wakes.purpose) {
                return wrong(&wakes.unit, "for", "`of` and `for` are a line each".into());
            }
        }
        let mut seen = BTreeSet::new();
        for claim in &self.claims {
            if !seen.insert(&claim.id) {
                return wrong(&claim.id, "id", "it stands twice".into());
            }
            claim.validate()?;
        }
        Ok(())
    }
}

fn wrong<T>(of: &str, key: &'static str, reason: String) -> Result<T, ClaimsError> {
    Err(ClaimsError::Value { of: of.chars().take(LINE_CHARS_MAX).collect(), key, reason })
}

impl Claim {
    fn validate(&self) -> Result<(), ClaimsError> {
        let wrong = |key, reason: &str| wrong(&self.id, key, reason.to_owned());
        if !is_id(&self.id) {
            return wrong("id", "not a capital letter, one or two digits, and perhaps a letter");
        }
        if !is_line(&self.says) {
            return wrong("says", "not one line");
        }
        if self.promises.is_empty() || !self.promises.iter().all(|it| is_line(it)) {
            return wrong("promises", "not lines, or none");
        }
        let heading = self.threats.strip_prefix(THREATS).unwrap_or_default();
        if heading.is_empty() || !heading.bytes().all(|it| it.is_ascii_lowercase() || it == b'-') {
            return wrong("threats", "not threats.md#HEADING");
        }
        let is_test = |name: &String| {
            name.starts_with(|it: char| it.is_ascii_lowercase())
                && name.len() <= LINE_CHARS_MAX
                && name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_')
        };
        if !self.in_lab.iter().all(is_test) {
            return wrong("in_lab", "not names of tests");
        }
        let distinct = |count: usize, of: usize| count == of;
        if !distinct(self.on_device.iter().collect::<BTreeSet<_>>().len(), self.on_device.len())
            || !distinct(self.in_lab.iter().collect::<BTreeSet<_>>().len(), self.in_lab.len())
            || !distinct(self.waits_for.iter().collect::<BTreeSet<_>>().len(), self.waits_for.len())
        {
            return wrong("on_device", "what judges a claim stands once");
        }
        if self.on_device.is_empty() && self.waits_for.is_empty() {
            return wrong("on_device", "nothing on the device can turn it red, and it waits for nobody");
        }
        Ok(())
    }
}

/// `T5`, `P2a`.
fn is_id(text: &str) -> bool {
    let rest = text.strip_prefix(|it: char| it.is_ascii_uppercase()).unwrap_or_default();
    let digits = rest.trim_end_matches(|it: char| it.is_ascii_lowercase());
    (1..=2).contains(&digits.len()) && rest.len() - digits.len() <= 1 && digits.bytes().all(|it| it.is_ascii_digit())
}

fn is_line(text: &str) -> bool {
    let visible = |it: char| !it.is_control() && !matches!(it, '\u{2028}' | '\u{2029}');
    !text.trim().is_empty() && text.chars().count() <= LINE_CHARS_MAX && text.chars().all(visible)
}

/// A unit that starts others by itself.
pub fn wakes_something(unit: &str) -> bool {
    let stem = [".timer", ".socket", ".path"].iter().find_map(|ending| unit.strip_suffix(ending));
    stem.is_some_and(|stem| !stem.is_empty() && !stem.starts_with(['-', '.']))
        && unit.len() <= UNIT_NAME_BYTES_MAX
        && unit.bytes().all(|it| it.is_ascii_alphanumeric() || b"@:_.\\-".contains(&it))
}

/// systemd's own bound.
const UNIT_NAME_BYTES_MAX: usize = 255;

//! A bundle of some 64 KB with throw-away keys, changed one artefact at a time, and what the verifier says.
//!
//! [`Maker`] makes bundles through the builder's own stages; [`change`] is the small language in which a test
//! says what to change; [`apply`] makes the changed bundle, *naive* (the bytes change, nothing else) or
//! *re-sealed*: every digest, size, sum and signature that points to the changed artefact is made again with
//! the valid keys, and every other artefact stays as it was.
//!
//! ```yaml
//! seal: all
//! steps:
//!   - {in: layer /usr/bin/tool, op: mode, path: /usr/bin/tool, to: "4755"}
//! ```

pub mod change;
mod edit;
mod layer;
mod maker;
mod parts;
mod seal;
mod tree;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use secai_verifier::check::{Bundle, Verdict, check};
use secai_verifier::refusal::Refusal;

pub use change::{Change, Seal, Step, steps};
pub use maker::{Content, Maker};
pub use seal::apply;

use crate::{Need, Tier, as_root, require};

/// A bundle's files, by path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A bundle after a change, ready to be laid on a disk and judged.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its files.
    pub files: Files,
    /// Symbolic links among them, with their targets.
    pub links: BTreeMap<String, String>,
    /// Empty folders among them.
    pub folders: Vec<String>,
    /// Whom the verifier is told to believe.
    pub trust: maker::TrustParts,
}

/// What the verifier says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Every check passed.
    Accepted,
    /// The names of the refusals in their order, each once.
    Refused(Vec<&'static str>),
}

impl Answer {
    /// The name that was told first; none when accepted.
    pub fn first(&self) -> Option<&'static str> {
        match self {
            Self::Accepted => None,
            Self::Refused(names) => names.first().copied(),
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Refused(names) => f.write_str(&names.join(" ")),
        }
    }
}

/// Lays a case on the disk and judges it with the verifier's own library, whole refusals.
///
/// # Panics
/// When the verifier panics, or says that it could not look: neither is an answer to a changed bundle.
pub fn verdict(maker: &Maker, case: &Case) -> Vec<Refusal> {
    let root = maker.lay(case);
    let trust = case.trust.trust();
    let judged = catch_unwind(AssertUnwindSafe(|| {
        let bundle = Bundle::list(root.path()).map_err(|fault| fault.to_string())?;
        check(&bundle, &trust, maker.now()).map_err(|fault| fault.to_string())
    }));
    match judged {
        Ok(Ok(Verdict::Accepted(_))) => Vec::new(),
        Ok(Ok(Verdict::Refused(refusals))) => {
            assert!(!refusals.is_empty(), "refused without a reason");
            refusals
        }
        Ok(Err(fault)) => panic!("the verifier could not look: {fault}"),
        Err(_) => panic!("the verifier panicked"),
    }
}

/// The answer to a case, by names.
pub fn judge(maker: &Maker, case: &Case) -> Answer {
    let refusals = verdict(maker, case);
    let mut names: Vec<&'static str> = Vec::new();
    for refusal in &refusals {
        if !names.contains(&refusal.name()) {
            names.push(refusal.name());
        }
    }
    if names.is_empty() { Answer::Accepted } else { Answer::Refused(names) }
}

/// Does the calling test run here and now? A tiny bundle has files of several owners, so only root can make
/// it; where a `sudo` helps, this runs the test of that name once more through it, and answers no here.
///
/// # Panics
/// When the test fails there; in CI when it cannot run.
#[must_use]
#[track_caller]
pub fn require_maker(test: &str) -> bool {
    if !require(Tier::Test, &[Need::Root, Need::Program("gpg"), Need::Program("gpgconf")]) {
        return false;
    }
    if crate::require::is_root() {
        return true;
    }
    let mut again = as_root("env");
    for variable in ["SECAI_TIER", "SECAI_TAMPER_TABLE", "CI", "TMPDIR", "PATH"] {
        if let Some(value) = std::env::var_os(variable) {
            let mut pair = std::ffi::OsString::from(variable);
            pair.push("=");
            pair.push(value);
            again.arg(pair);
        }
    }
    again.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]);
    let status = again.status().unwrap();
    assert!(status.success(), "as root: {status}");
    false
}

//! One look: asks, reads, sends, and asks again.

use crate::canary::{self, Fate};
use crate::config::Image;
use crate::decide::{Judged, Phase, Seen, Tried, Verdict, decide};
use crate::evidence::{EvidenceError, Source};
use crate::look::{Found, NET, sent};
use crate::rules::{Live, Rules};
use secai_daemon::audit::{AuditClient, AuditError};
use secai_daemon::report::Hint;
use secai_daemon::sandbox::{Sandbox, SandboxError};
use secai_verifier::audit::kind::DnsChecked;
use secai_verifier::files::Fault;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Places {
    /// The policy of the image.
    pub policy: PathBuf,
    /// Where the profiles service answers.
    pub profiles: PathBuf,
    /// Where the audit daemon answers.
    pub audit: PathBuf,
    /// Below it `etc` and `run` are looked at.
    pub root: PathBuf,
}

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The process is not confined.
    #[error("cannot give up what is not needed")]
    Sandbox(#[from] SandboxError),
    /// The pages of the profiles cannot be had.
    #[error(transparent)]
    Policy(#[from] Fault),
    /// The kernel does not list its links.
    #[error("the kernel does not list its links in {NET}/dev")]
    Links,
    /// The verdict is not recorded.
    #[error("the verdict is not recorded")]
    Audit(#[from] AuditError),
    /// Standard output is gone.
    #[error("cannot write the result")]
    Output(#[from] io::Error),
}

impl Hint for CheckError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Policy(fault) => fault.hint().map(str::to_owned),
            Self::Audit(error) => error.hint(),
            _ => None,
        }
    }
}

/// What was asked of the profiles service at one moment.
type Told = Result<Live, String>;

fn ask(source: &mut Result<Source, EvidenceError>, there: &BTreeMap<String, u64>) -> Told {
    let told = match source {
        Ok(source) => source.ask().map_err(|error| error.to_string())?,
        Err(error) => return Err(error.to_string()),
    };
    let names: Vec<String> = there.keys().cloned().collect();
    Live::read(&told, &names)
}

impl Places {
    /// Gives up everything that the check does not need: it reads the policy, settings, and the kernel's lists.
    ///
    /// # Errors
    /// [`CheckError::Sandbox`].
    pub fn confine(&self) -> Result<(), CheckError> {
        let etc = self.root.join("etc");
        let mut sandbox = Sandbox::new().reading(&self.policy).reading(&etc).reading(NET);
        // Often a link to a file of the program that would be asked.
        if let Ok(target) = etc.join("resolv.conf").canonicalize() {
            sandbox = sandbox.reading(target);
        }
        sandbox.with_sockets_that_can_leave_the_machine().enter()?;
        Ok(())
    }

    /// Looks.
    ///
    /// # Errors
    /// [`CheckError`]. A profiles service that does not answer is none: then the verdict is not `clean`.
    pub fn look(&self) -> Result<(Judged, Seen), CheckError> {
        let image = Image::read(&self.policy)?;
        // Before there are sockets of our own among them.
        let found = Found::look(&self.root);
        let before = sent().ok_or(CheckError::Links)?;
        let links: Vec<String> = before.keys().cloned().collect();
        let mut source = Source::connect(&self.profiles);

        let first = ask(&mut source, &before);
        let datagrams = canary::datagrams(&links);
        let fates = datagrams.iter().map(canary::send).collect();
        let second = ask(&mut source, &before);
        let connections = canary::connections();
        let begun = canary::connect(&connections);
        let third = ask(&mut source, &before);
        let after = sent().ok_or(CheckError::Links)?;

        let changed = match (&first, &second, &third) {
            (Ok(first), Ok(second), Ok(third)) => !first.is_as(second) || !second.is_as(third),
            // Whoever answered once and then no more cannot vouch for what was meanwhile.
            (Ok(_), ..) => true,
            _ => false,
        };
        let links = first.as_ref().map(|live| live.links().0.clone()).unwrap_or_default();
        let seen = Seen {
            rules: first.as_ref().map_or_else(|why| Rules::Unknown { why: why.clone() }, |live| live.judge(&image)),
            changed,
            links: before.keys().map(|name| (name.clone(), links.get(name).copied().unwrap_or(true))).collect(),
            settings: found.settings,
            sockets: found.sockets,
            datagrams: phase(datagrams, fates, rose(&first, &second)),
            connections: phase(connections, begun, rose(&second, &third)),
            left: left(&before, &after),
        };
        Ok((decide(&seen), seen))
    }
}

fn phase(canaries: Vec<canary::Canary>, fates: Vec<Fate>, counted: Option<u64>) -> Phase {
    let tried = canaries.into_iter().zip(fates).map(|(canary, fate)| Tried { canary, fate }).collect();
    Phase { tried, counted }
}

/// By how much the counter rose; one that fell was begun anew, and then nothing is known.
fn rose(before: &Told, after: &Told) -> Option<u64> {
    after.as_ref().ok()?.refused()?.checked_sub(before.as_ref().ok()?.refused()?)
}

/// Packets more; of a link that came or went nothing is known.
fn left(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Option<u64> {
    before.iter().map(|(name, sent)| after.get(name)?.checked_sub(*sent)).sum()
}

/// Records the verdict.
///
/// # Errors
/// [`CheckError::Audit`].
pub fn record(audit: &Path, judged: &Judged) -> Result<(), CheckError> {
    let entry = DnsChecked {
        findings: judged.findings.len() as u64,
        profile: judged.profile.clone().unwrap_or_default(),
        refused: judged.refused,
        sent: judged.sent,
        verdict: judged.verdict.word().to_owned(),
    };
    AuditClient::connect(audit)?.record(&entry, None)?;
    Ok(())
}

/// All of it, for programs.
pub fn as_json(judged: &Judged, seen: &Seen) -> Value {
    let all = seen.datagrams.tried.iter().chain(&seen.connections.tried);
    let canaries: Vec<Value> = all
        .map(|it| {
            let (fate, why) = match &it.fate {
                Fate::Refused => ("refused", None),
                Fate::NoWay(errno) => ("no_way", Some(errno)),
                Fate::Sent => ("sent", None),
                Fate::Silent => ("silent", None),
                Fate::Answered => ("answered", None),
                Fate::Untried(errno) => ("untried", Some(errno)),
            };
            json!({"canary": it.canary.to_string(), "fate": fate, "why": why.map(ToString::to_string)})
        })
        .collect();
    json!({
        "verdict": judged.verdict.word(), "profile": judged.profile, "reasons": judged.reasons,
        "findings": judged.findings, "sent": judged.sent, "refused": judged.refused,
        "counted": [seen.datagrams.counted, seen.connections.counted], "left": seen.left, "canaries": canaries,
    })
}

/// 0, 1, 2: as everywhere, but that what is not recorded is not done.
pub fn code(verdict: Verdict, recorded: bool) -> u8 {
    match verdict {
        // Nothing is worse than this.
        Verdict::Leak => 1,
        Verdict::Clean if recorded => 0,
        _ => secai_daemon::report::COULD_NOT,
    }
}

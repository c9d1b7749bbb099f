//! `verify-release network RULESET --links FILE --profile NAME`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use secai_verifier::files::{load, load_profile};
use secai_verifier::network::links::{LINKS_BYTES_MAX, Links, LinksError};
use secai_verifier::network::normal::digest;
use secai_verifier::network::parse::{ParseError, TEXT_BYTES_MAX, parse};
use secai_verifier::network::profile::{Loopback, Profile};
use secai_verifier::network::prove::{Proven, prove};
use secai_verifier::network::refusal::NetworkRefusal;
use secai_verifier::refusal::cut_names;
use serde_json::json;

use super::{Failure, Format, paint, plain, print, refused};

/// Where an image has its policy.
const POLICY: &str = "/usr/lib/secure-ai/policy";

/// Words of the command line.
#[derive(Args)]
pub struct Arguments {
    /// The output of `nft list ruleset`
    ruleset: PathBuf,
    /// The output of `ip -j link`, taken at the same time
    #[arg(long, value_name = "FILE")]
    links: PathBuf,
    /// The profile whose promise is to be proven
    #[arg(long, value_name = "NAME")]
    profile: String,
    /// Directory of the policy: loopback.yml and profiles/NAME.yml
    #[arg(long, value_name = "DIR", default_value = POLICY)]
    policy: PathBuf,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode, Failure> {
        let begun = Instant::now();
        let (profile, loopback) = load_profile(&self.policy, &self.profile)?;
        let verdict = judge(&self.ruleset, &self.links, &profile, &loopback)?;
        let took = begun.elapsed();
        let name = &self.profile;
        match self.format {
            Format::Human => print(&human(&verdict, name, took))?,
            Format::Json => print(&format!("{}\n", as_json(&verdict, name, took)))?,
        }
        Ok(if verdict.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// What was proven, of which normal form.
type Verdict = Result<(Proven, String), Vec<NetworkRefusal>>;

fn judge(ruleset: &Path, links: &Path, profile: &Profile, loopback: &Loopback) -> Result<Verdict, Failure> {
    let foreign = |error: ParseError| vec![NetworkRefusal::RulesetForeign { reason: error.to_string() }];
    let malformed = |error: LinksError| vec![NetworkRefusal::LinksMalformed { reason: error.to_string() }];
    let text = load(ruleset, TEXT_BYTES_MAX as u64)?;
    let list = load(links, LINKS_BYTES_MAX as u64)?;
    let ruleset = text.map_err(|_| ParseError::TooLarge(TEXT_BYTES_MAX + 1)).and_then(|bytes| parse(&bytes));
    let links = list.map_err(|_| LinksError::TooLarge(LINKS_BYTES_MAX + 1)).and_then(|bytes| Links::parse(&bytes));
    Ok(match (ruleset.map_err(foreign), links.map_err(malformed)) {
        (Ok(ruleset), Ok(links)) => {
            prove(&ruleset, &links, profile, loopback).map(|proven| (proven, digest(&ruleset).to_string()))
        }
        (ruleset, links) => Err([ruleset.err(), links.err()].into_iter().flatten().flatten().collect()),
    })
}

fn human(verdict: &Verdict, profile: &str, took: Duration) -> String {
    match verdict {
        Err(refusals) => refused(refusals),
        Ok((proven, digest)) => {
            let links = match proven.links.as_slice() {
                [] => "none but loopback".to_owned(),
                links => links.iter().map(|it| plain(it)).collect::<Vec<_>>().join(", "),
            };
            let mut lines = vec![("profile", profile.to_owned()), ("links", links), ("digest", digest.clone())];
            match proven.sends.as_slice() {
                [] => lines.push(("leaves", "nothing".to_owned())),
                sends => lines.extend(sends.iter().map(|it| ("leaves", it.to_string()))),
            }
            lines.push(("packets", format!("all, in {} parts", proven.parts)));
            lines.push(("seconds", format!("{:.3}", took.as_secs_f64())));
            let lines = lines.iter().map(|(name, value)| format!("    {name:<9} {value}\n"));
            format!("{}\n{}", paint("proven", "1;32"), lines.collect::<String>())
        }
    }
}

fn as_json(verdict: &Verdict, profile: &str, took: Duration) -> serde_json::Value {
    match verdict {
        Ok((proven, digest)) => json!({
            "verdict": "proven", "profile": profile, "refusals": [], "links": proven.links, "digest": digest,
            "leaves": proven.sends, "parts": proven.parts, "seconds": took.as_secs_f64(),
        }),
        Err(refusals) => json!({
            "verdict": "refused", "profile": profile, "more_of": cut_names(refusals),
            "refusals": refusals.iter().map(|it| json!({"name": it.name(), "detail": it.to_string()})).collect::<Vec<_>>(),
        }),
    }
}

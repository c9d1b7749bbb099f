//! `secaictl leak-test`: real packets against the rules of a profile, in namespaces of its own.
//!
//! It makes two network namespaces with a link between them, sends everything once without rules (what is not seen then
//! could not be seen at all) and once under the rules, and compares what arrives with the profile's page. Nothing
//! reaches the device's own links, but with the option that says so.

mod frames;
mod judge;
mod kernel;
mod lab;
mod links;
mod packets;
mod send;
mod vectors;
mod xdp;

use crate::failure::{Failure, NO};
use crate::output::Output;
use clap::Args;
use judge::{Found, judge};
pub use lab::LabError;
use lab::{LINK, onto_what_is_here, round};
use rustix::rand::{GetRandomFlags, getrandom};
use secai_daemon::report::COULD_NOT;
use secai_verifier::files::{load, load_profile};
use secai_verifier::network::compose::ruleset;
use secai_verifier::network::parse::TEXT_BYTES_MAX;
use secai_verifier::network::profile::STRICTEST;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use vectors::{May, Shot};

/// Words of the command line.
#[derive(Args)]
pub struct Arguments {
    /// The profile whose rules are tried
    #[arg(long, value_name = "NAME", default_value = STRICTEST)]
    profile: String,
    /// Directory of the policy: loopback.yml and profiles/NAME.yml
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/secure-ai/policy")]
    policy: PathBuf,
    /// Try these rules instead, for a link named leak0: nft's text
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Leave the namespaces out: send all of it onto the real link leak0 of this machine, for who listens at its far end
    #[arg(long, conflicts_with_all = ["profile", "policy", "rules"])]
    onto_the_real_link: bool,
}

impl Arguments {
    /// Does it; the exit code is the answer.
    pub fn run(self, output: &mut Output) -> Result<ExitCode, Failure> {
        if self.onto_the_real_link {
            return onto_the_real_link(output);
        }
        let (profile, loopback) = load_profile(&self.policy, &self.profile)?;
        let rules = match &self.rules {
            Some(path) => {
                let bytes = load(path, TEXT_BYTES_MAX as u64)?.ok().and_then(|bytes| String::from_utf8(bytes).ok());
                let what = || format!("{} is no text of rules", path.display());
                bytes.ok_or_else(|| Failure::Usage(what(), "give what `nft -f` takes, for a link named leak0"))?
            }
            None => ruleset(&profile, &loopback, epoch()?, [LINK]).to_string(),
        };
        let vectors = vectors::all();
        // Each in namespaces of its own: both at once.
        let (without, with) = thread::scope(|scope| {
            let without = scope.spawn(|| round(None, &vectors));
            let with = round(Some(&rules), &vectors);
            (without.join().unwrap_or_else(|_| Err(LabError::ended())), with)
        });
        let (without, with) = (without?, with?);
        let found = judge(&vectors, &profile, &without, &with);
        let mut counts = [0; 7];
        for (at, (vector, found)) in vectors.iter().zip(&found).enumerate() {
            let frames = with.seen.get(at).map_or(0, Vec::len);
            let why = match (found, vector.may) {
                (Found::Missing, _) => without.tried.get(at).and_then(Option::as_ref).map(ToString::to_string),
                (Found::Beside, May::Beside(needs)) => Some(format!("known to pass beside: needs {needs}")),
                _ => None,
            };
            let bytes: Vec<String> = without
                .seen
                .get(at)
                .map_or(&[][..], Vec::as_slice)
                .iter()
                .take(FRAMES_SHOWN)
                .map(|it| hex(it))
                .collect();
            counts[*found as usize] += 1;
            output.line(
                || {
                    let why = why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
                    format!("{:<8} user {:<5} {}{why}", word(*found), vector.uid, vector.name)
                },
                || json!({
                    "vector": vector.name, "way": vector.way(), "uid": vector.uid, "capable": vector.capable, "by": vector.by.word(),
                    "found": word(*found), "frames": frames, "without_rules": bytes, "why": why,
                }),
            )?;
        }
        // In the strictest profile not even the link's own words leave.
        let silent = !profile.is_closed() || with.others.is_empty();
        let count = |found: Found| counts[found as usize];
        let ways = vectors.iter().zip(&found).filter(|(_, found)| **found != Found::Missing);
        let ways = ways.map(|(vector, _)| vector.way()).collect::<BTreeSet<_>>().len();
        let blind = count(Found::Blind) > 0 || without.others.is_empty();
        let bad = count(Found::Leaks) + count(Found::Lost) > 0 || !silent;
        output.line(
            || {
                format!(
                    "{}: {} vectors, {ways} ways: {} stay, {} leave as the profile says, {} leak, {} pass beside, {} are lost, {} not seen without rules, {} not possible here\nother frames: {} without rules, {} with them",
                    if bad { "not as the profile says" } else if blind { "blind" } else { "as the profile says" },
                    found.len(), count(Found::Stays), count(Found::Leaves), count(Found::Leaks), count(Found::Beside), count(Found::Lost),
                    count(Found::Blind), count(Found::Missing), without.others.len(), with.others.len(),
                )
            },
            || {
                json!({
                    "profile": self.profile, "vectors": found.len(), "stays": count(Found::Stays), "leaves": count(Found::Leaves),
                    "ways": ways, "leaks": count(Found::Leaks), "beside": count(Found::Beside), "lost": count(Found::Lost), "blind": count(Found::Blind),
                    "missing": count(Found::Missing), "others_without_rules": without.others, "others": with.others,
                })
            },
        )?;
        Ok(match (bad, blind) {
            (true, _) => ExitCode::from(NO),
            (false, true) => ExitCode::from(COULD_NOT),
            (false, false) => ExitCode::SUCCESS,
        })
    }
}

/// Sends, and judges nothing: what arrives is not seen from here.
fn onto_the_real_link(output: &mut Output) -> Result<ExitCode, Failure> {
    let vectors = vectors::all();
    let tried = onto_what_is_here(&vectors)?;
    for ((vector, why), number) in vectors.iter().zip(&tried).zip(0..) {
        let needles: Vec<String> = Shot { number, link: 0, far: 0 }.needles().iter().map(|it| hex(it)).collect();
        let why = why.as_ref().map(ToString::to_string);
        output.line(
            || {
                let said = why.as_ref().map_or_else(|| "sent".to_owned(), |why| format!("refused: {why}"));
                format!("user {:<5} {}: {said}", vector.uid, vector.name)
            },
            || {
                json!({
                    "vector": vector.name, "way": vector.way(), "uid": vector.uid, "beside": matches!(vector.may, May::Beside(_)),
                    "needles": needles, "why": why,
                })
            },
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn word(found: Found) -> &'static str {
    match found {
        Found::Missing => "missing",
        Found::Blind => "blind",
        Found::Leaks => "LEAKS",
        Found::Leaves => "leaves",
        Found::Stays => "stays",
        Found::Lost => "LOST",
        Found::Beside => "BESIDE",
    }
}

/// So many frames of a vector are shown, with `--json`, as they were without rules.
const FRAMES_SHOWN: usize = 4;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A mark that nobody guesses.
fn epoch() -> Result<u32, Failure> {
    let mut bytes = [0; 4];
    let done = getrandom(&mut bytes, GetRandomFlags::empty());
    done.map_err(|error| LabError::Cannot("choose a mark", error.into()))?;
    Ok(u32::from_ne_bytes(bytes).max(1))
}

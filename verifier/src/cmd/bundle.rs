//! `verify-release bundle PATH --trust DIR`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use secai_verifier::check::{Verdict, VerifiedContent, check};
use secai_verifier::files::{Bundle, Fault, load_trust};
use secai_verifier::refusal::cut_names;
use secai_verifier::release::Release;
use secai_verifier::time::Time;
use serde::Serialize;

use super::{Failure, Format, paint, print, refused};

/// Words of the command line.
#[derive(Args)]
pub struct Arguments {
    /// The bundle's directory
    path: PathBuf,
    /// Directory of roles.yml, public keys (*.pub) and OpenPGP certificates (*.asc)
    #[arg(long, value_name = "DIR")]
    trust: PathBuf,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Judge as if it were this time (2026-11-22T21:00:00Z)
    #[arg(long, value_name = "RFC3339")]
    assume_now: Option<Time>,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode, Failure> {
        let begun = Instant::now();
        let now = match self.assume_now {
            Some(now) => now,
            None => Time::now().map_err(|_| Fault::Clock)?,
        };
        let trust = load_trust(&self.trust)?;
        let bundle = Bundle::list(&self.path)?;
        let verdict = check(&bundle, &trust, now)?;
        match self.format {
            Format::Human => print(&human(&verdict, begun.elapsed()))?,
            Format::Json => print(&json(&verdict, begun.elapsed())?)?,
        }
        Ok(match verdict {
            Verdict::Accepted(_) => ExitCode::SUCCESS,
            Verdict::Refused(_) => ExitCode::FAILURE,
        })
    }
}

fn human(verdict: &Verdict, took: Duration) -> String {
    match verdict {
        Verdict::Accepted(content) => format!("{}\n{}", paint("accepted", "1;32"), accepted(content, took)),
        Verdict::Refused(refusals) => refused(refusals),
    }
}

fn accepted(content: &VerifiedContent, took: Duration) -> String {
    let (statement, summary) = (content.statement(), content.summary());
    let release = statement.release();
    let keys = |keys: &mut dyn Iterator<Item = String>| keys.collect::<Vec<_>>().join(", ");
    let openpgp = match (summary.openpgp.is_empty(), summary.openpgp_not_judged) {
        (false, _) => keys(&mut summary.openpgp.iter().cloned()),
        (true, true) => "signatures not judged: the trust directory holds no certificate".to_owned(),
        (true, false) => "none".to_owned(),
    };
    let lines = [
        ("name", release.name.clone()),
        ("version", release.version.clone()),
        ("number", release.number.to_string()),
        ("channel", release.channel.clone()),
        ("commit", release.commit.to_string()),
        ("manifest", release.image.digest.oci()),
        ("signers", keys(&mut statement.signers().iter().map(ToString::to_string))),
        ("builder", keys(&mut statement.builders().iter().map(ToString::to_string))),
        ("openpgp", openpgp),
        ("created", release.created.to_string()),
        ("expires", release.expires.to_string()),
        ("files", summary.files.to_string()),
        ("packages", summary.packages.to_string()),
        ("layers", summary.layers.to_string()),
        ("seconds", format!("{:.2}", took.as_secs_f64())),
    ];
    lines.iter().map(|(word, value)| format!("{word:<9} {value}\n")).collect()
}

#[derive(Serialize)]
struct Report<'a> {
    verdict: &'static str,
    refusals: Vec<Line>,
    /// Names of which more were found than are listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    more_of: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<&'a Release>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Content<'a>>,
    seconds: f64,
}

#[derive(Serialize)]
struct Line {
    name: &'static str,
    detail: String,
}

#[derive(Serialize)]
struct Content<'a> {
    signers: Vec<String>,
    builders: Vec<String>,
    openpgp: Vec<&'a str>,
    openpgp_not_judged: bool,
    files: usize,
    packages: usize,
    layers: usize,
}

fn json(verdict: &Verdict, took: Duration) -> Result<String, Failure> {
    let seconds = took.as_secs_f64();
    let report = match verdict {
        Verdict::Accepted(content) => {
            let (statement, summary) = (content.statement(), content.summary());
            let content = Content {
                signers: statement.signers().iter().map(ToString::to_string).collect(),
                builders: statement.builders().iter().map(ToString::to_string).collect(),
                openpgp: summary.openpgp.iter().map(String::as_str).collect(),
                openpgp_not_judged: summary.openpgp_not_judged,
                files: summary.files,
                packages: summary.packages,
                layers: summary.layers,
            };
            let release = Some(statement.release());
            Report {
                verdict: "accepted",
                refusals: Vec::new(),
                more_of: Vec::new(),
                release,
                content: Some(content),
                seconds,
            }
        }
        Verdict::Refused(refusals) => {
            let lines =
                refusals.iter().map(|refusal| Line { name: refusal.name(), detail: refusal.to_string() }).collect();
            Report {
                verdict: "refused",
                refusals: lines,
                more_of: cut_names(refusals),
                release: None,
                content: None,
                seconds,
            }
        }
    };
    Ok(format!("{}\n", serde_json::to_string(&report)?))
}

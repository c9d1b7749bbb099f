//! `verify-release claims --evidence DIR`: a line for each claim.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use secai_verifier::claims::judge::{Seen, Standing, judge};
use secai_verifier::claims::remembered::{Remembered, remember};
use secai_verifier::claims::{Claim, Claims, Holds, PAGE_BYTES_MAX};
use secai_verifier::device::rules::profiles;
use secai_verifier::device::{Device, Found, POLICY};
use secai_verifier::evidence::Item;
use secai_verifier::files::{Fault, chain_of, load_chain_keys, load_claims};
use serde_json::{Value, json};

use super::device::{Gathered, Where};
use super::{Failure, Format, paint, plain, print, refused};
use crate::COULD_NOT_LOOK;

/// Words of the command line.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    by: Where,
    /// The page of claims; without it the device's own
    #[arg(long, value_name = "FILE")]
    claims: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode, Failure> {
        let gathered = match self.by.gather()? {
            Ok(gathered) => gathered,
            Err(refusals) => {
                let lines = refusals.iter().map(|it| json!({"name": it.name(), "detail": it.to_string()}));
                print(&match self.format {
                    Format::Human => refused(&refusals),
                    Format::Json => {
                        format!("{}\n", json!({"verdict": "refused", "refusals": lines.collect::<Vec<_>>()}))
                    }
                })?;
                return Ok(ExitCode::FAILURE);
            }
        };
        let page = self.page(&gathered)?;
        let case = gathered.case();
        let device = Device::judge(&case);
        let chain = self.chain(&gathered)?;
        let standings = judge(&page, &Seen { case: &case, device: &device, chain: &chain });
        let counts = Counts::of(&standings);
        print(&match self.format {
            Format::Human => human(&page, &standings, &counts),
            Format::Json => format!("{}\n", as_json(&page, &standings, &counts)),
        })?;
        Ok(match counts {
            Counts { not_met: 1.., .. } => ExitCode::FAILURE,
            Counts { not_seen: 1.., .. } => ExitCode::from(COULD_NOT_LOOK),
            _ => ExitCode::SUCCESS,
        })
    }

    fn page(&self, gathered: &Gathered) -> Result<Claims, Failure> {
        if let Some(path) = &self.claims {
            return Ok(load_claims(path)?);
        }
        let path = format!("{POLICY}/claims.yml");
        let bytes = gathered.root.as_ref().and_then(|root| root.texts.get(&path));
        let bytes = bytes.filter(|bytes| bytes.len() <= PAGE_BYTES_MAX).ok_or(Failure::NoClaims)?;
        Ok(Claims::parse(bytes).map_err(|source| Fault::Claims { path: path.into(), source })?)
    }

    /// What the chain says; what is found where there is none.
    fn chain(&self, gathered: &Gathered) -> Result<Result<Remembered, Found>, Failure> {
        if !gathered.evidence.has_chain() {
            let unseen = gathered.evidence.unseen(Item::Chain);
            return Ok(Err(Found::unseen(&unseen.what, &unseen.why)));
        }
        let Some(root) = &gathered.root else { return Ok(Err(secai_verifier::device::no_root("profiles"))) };
        let profiles = match profiles(root) {
            Ok(profiles) => profiles,
            Err(refusal) => return Ok(Err(Found::refused(refusal))),
        };
        let trusted = self.by.trust.as_deref().map(load_chain_keys).transpose()?.unwrap_or_default();
        Ok(Ok(remember(&chain_of(self.by.evidence())?, &trusted, &profiles)?))
    }
}

/// How many of each.
#[derive(Default)]
struct Counts {
    met: usize,
    not_met: usize,
    not_seen: usize,
    waiting: usize,
}

impl Counts {
    fn of(standings: &[(String, Standing)]) -> Self {
        let mut counts = Self::default();
        for (_, standing) in standings {
            match standing {
                Standing::Met => counts.met += 1,
                Standing::NotMet(_) => counts.not_met += 1,
                Standing::NotSeen(_) => counts.not_seen += 1,
                Standing::Waits(_) => counts.waiting += 1,
            }
        }
        counts
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { met, not_met, not_seen, waiting } = self;
        write!(f, "{met} met, {not_met} not met, {not_seen} not seen, {waiting} wait for services and count as not met")
    }
}

/// The answer in a word or two, its colour, and why.
fn answer(standing: &Standing) -> (&'static str, &'static str, Vec<String>) {
    match standing {
        Standing::Met => ("met", "1;32", Vec::new()),
        Standing::NotMet(why) => ("not met", "1;31", why.clone()),
        Standing::NotSeen(why) => ("not seen", "1;33", why.clone()),
        Standing::Waits(services) => {
            let services: Vec<&str> = services.iter().map(|it| it.word()).collect();
            let why = format!("not judged here, waits for {}", services.join(", "));
            ("waits", "1;33", vec![why])
        }
    }
}

fn of_page<'a>(page: &'a Claims, id: &str) -> Option<&'a Claim> {
    page.claims.iter().find(|claim| claim.id == id)
}

fn human(page: &Claims, standings: &[(String, Standing)], counts: &Counts) -> String {
    let mut text = String::new();
    for (id, standing) in standings {
        let (word, colour, why) = answer(standing);
        let says = of_page(page, id).map_or("", |claim| claim.says.as_str());
        text.push_str(&format!("{id:<4} {} {}\n", paint(&format!("{word:<8}"), colour), plain(says)));
        why.iter().for_each(|why| text.push_str(&format!("              {}\n", plain(why))));
    }
    text.push_str(&format!("{counts}\nNot covered by any of this:\n"));
    page.not_covered.iter().for_each(|line| text.push_str(&format!("- {}\n", plain(line))));
    text
}

fn as_json(page: &Claims, standings: &[(String, Standing)], counts: &Counts) -> Value {
    let line = |(id, standing): &(String, Standing)| {
        let (word, _, why) = answer(standing);
        let claim = of_page(page, id);
        let waits = match standing {
            Standing::Waits(services) => services.as_slice(),
            _ => &[],
        };
        json!({
            "id": id, "says": claim.map(|it| it.says.as_str()), "standing": word, "why": why, "waits_for": waits,
            "holds": claim.map_or(Holds::Detects, |it| it.holds), "in_lab": claim.map(|it| it.in_lab.as_slice()),
        })
    };
    let verdict = match counts {
        Counts { not_met: 1.., .. } => "refused",
        Counts { not_seen: 1.., .. } => "not judged in full",
        _ => "accepted",
    };
    json!({
        "verdict": verdict,
        "claims": standings.iter().map(line).collect::<Vec<_>>(),
        "met": counts.met, "not_met": counts.not_met, "not_seen": counts.not_seen, "waiting": counts.waiting,
        "not_covered": page.not_covered,
    })
}

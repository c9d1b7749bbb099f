//! `verify-release device --evidence DIR`: is this device the one that was released?

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use secai_verifier::check::{Installed, installed};
use secai_verifier::device::refusal::DeviceRefusal;
use secai_verifier::device::{Case, Device, Root};
use secai_verifier::evidence::{Evidence, Unseen};
use secai_verifier::files::{Bundle, load_evidence, load_root, load_trust};
use secai_verifier::refusal::cut_names;
use serde_json::{Value, json};

use super::{Failure, Format, paint, plain, print, refused};
use crate::COULD_NOT_LOOK;

/// What a device is judged by.
#[derive(Args)]
pub struct Where {
    /// The folder that `secaictl collect` made
    #[arg(long, value_name = "DIR")]
    evidence: PathBuf,
    /// The root of the device's own files: `/` on the device, or where its deployment is mounted
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Its /boot, where that is mounted elsewhere than below the root
    #[arg(long, value_name = "DIR", requires = "root")]
    boot: Option<PathBuf>,
    /// The bundle of the release that it is to be; its image is not needed
    #[arg(long, value_name = "DIR", requires = "trust")]
    release: Option<PathBuf>,
    /// Directory of roles.yml, public keys (*.pub), OpenPGP certificates (*.asc) and keys of chains (*.vkey)
    #[arg(long, value_name = "DIR")]
    pub trust: Option<PathBuf>,
}

/// All that there is to judge by.
pub struct Gathered {
    pub evidence: Evidence,
    pub root: Option<Root>,
    pub release: Option<Result<Installed, Vec<DeviceRefusal>>>,
}

impl Where {
    /// Where the evidence is.
    pub fn evidence(&self) -> &std::path::Path {
        &self.evidence
    }

    /// Reads it; refusals when the evidence itself is none.
    pub fn gather(&self) -> Result<Result<Gathered, Vec<DeviceRefusal>>, Failure> {
        let release = match (&self.release, &self.trust) {
            (Some(release), Some(trust)) => Some(judged(&Bundle::list(release)?, trust)?),
            _ => None,
        };
        let evidence = match load_evidence(&self.evidence)? {
            Ok(evidence) => evidence,
            Err(refusals) => return Ok(Err(refusals)),
        };
        let root = self.root.as_ref().map(|root| {
            let boot = self.boot.clone().unwrap_or_else(|| root.join("boot"));
            let commit = release.as_ref().and_then(|release| release.as_ref().ok());
            load_root(root, &boot, commit.map(|release| release.commit().tree))
        });
        Ok(Ok(Gathered { evidence, root: root.transpose()?, release }))
    }
}

fn judged(bundle: &Bundle, trust: &std::path::Path) -> Result<Result<Installed, Vec<DeviceRefusal>>, Failure> {
    let refused = |it: secai_verifier::refusal::Refusal| DeviceRefusal::ReleaseRefused {
        name: it.name().to_owned(),
        detail: it.to_string(),
    };
    let trust = load_trust(trust)?;
    Ok(installed(bundle, &trust)?.map_err(|refusals| refusals.into_iter().map(refused).collect()))
}

impl Gathered {
    /// As the functions that judge take it.
    pub fn case(&self) -> Case<'_> {
        Case { evidence: &self.evidence, root: self.root.as_ref(), release: self.release.as_ref() }
    }
}

/// Words of the command line.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    by: Where,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode, Failure> {
        let begun = Instant::now();
        let gathered = match self.by.gather()? {
            Ok(gathered) => gathered,
            Err(refusals) => {
                print(&match self.format {
                    Format::Human => refused(&refusals),
                    Format::Json => format!("{}\n", as_json(&Device::default(), &refusals, &[], begun.elapsed())),
                })?;
                return Ok(ExitCode::FAILURE);
            }
        };
        let device = Device::judge(&gathered.case());
        let (refusals, unseen) = (device.refusals(), device.unseen());
        print(&match self.format {
            Format::Human => human(&device, &gathered, &refusals, &unseen, begun.elapsed()),
            Format::Json => format!("{}\n", as_json(&device, &refusals, &unseen, begun.elapsed())),
        })?;
        Ok(match (refusals.is_empty(), unseen.is_empty()) {
            (false, _) => ExitCode::FAILURE,
            (true, false) => ExitCode::from(COULD_NOT_LOOK),
            (true, true) => ExitCode::SUCCESS,
        })
    }
}

/// Said when nothing is wrong with what was seen, and not everything was.
const IN_PART: &str = "not judged in full";

/// What could not be looked at, for people.
pub fn not_seen(unseen: &[Unseen]) -> String {
    unseen.iter().map(|it| format!("not seen: {}: {}\n", plain(&it.what), plain(&it.why))).collect()
}

fn human(
    device: &Device,
    gathered: &Gathered,
    refusals: &[DeviceRefusal],
    unseen: &[Unseen],
    took: Duration,
) -> String {
    let mut text = match (refusals.is_empty(), unseen.is_empty()) {
        (false, _) => refused(refusals),
        (true, false) => format!("{}\n", paint(IN_PART, "1;33")),
        (true, true) => format!("{}\n", paint("accepted", "1;32")),
    };
    text.push_str(&not_seen(unseen));
    if let Some(Ok(installed)) = &gathered.release {
        let release = installed.release();
        let keys = |keys: &mut dyn Iterator<Item = String>| keys.collect::<Vec<_>>().join(", ");
        text.push_str(&format!(
            "release   {} {}, number {} of {}\n",
            release.name, release.version, release.number, release.channel
        ));
        text.push_str(&format!("commit    {}\n", release.commit));
        text.push_str(&format!("signers   {}\n", keys(&mut installed.signers().iter().map(ToString::to_string))));
        if !installed.openpgp().is_empty() {
            text.push_str(&format!("openpgp   {}\n", keys(&mut installed.openpgp().iter().cloned())));
        }
    }
    if let Some(root) = &gathered.root {
        text.push_str(&format!(
            "files     {} of the system, {} of /etc, {} of /boot\n",
            root.files.len(),
            root.etc.len(),
            root.boot.len()
        ));
    }
    for (part, found) in device.parts() {
        found.listed.iter().for_each(|line| text.push_str(&format!("{part:<9} {}\n", plain(line))));
    }
    text.push_str(&format!("seconds   {:.2}\n", took.as_secs_f64()));
    text
}

fn as_json(device: &Device, refusals: &[DeviceRefusal], unseen: &[Unseen], took: Duration) -> Value {
    let verdict = match (refusals.is_empty(), unseen.is_empty()) {
        (false, _) => "refused",
        (true, false) => IN_PART,
        (true, true) => "accepted",
    };
    let parts = device.parts();
    let listed: serde_json::Map<String, Value> =
        parts.iter().map(|(part, found)| ((*part).to_owned(), json!(found.listed))).collect();
    json!({
        "verdict": verdict,
        "refusals": refusals.iter().map(|it| json!({"name": it.name(), "detail": it.to_string()})).collect::<Vec<_>>(),
        "more_of": cut_names(refusals),
        "not_seen": unseen.iter().map(|it| json!({"what": it.what, "why": it.why})).collect::<Vec<_>>(),
        "listed": listed,
        "seconds": took.as_secs_f64(),
    })
}

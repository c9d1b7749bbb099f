//! `verify-release audit PATH --trust DIR`, and its other forms: proofs, and logs of another program.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use secai_verifier::audit::chain::{Options, Verdict, check};
use secai_verifier::audit::checkpoint::VerifierKey;
use secai_verifier::audit::proof::{PROOF_BYTES_MAX, Proof};
use secai_verifier::audit::python_hmac_chain;
use secai_verifier::audit::refusal::ChainRefusal;
use secai_verifier::audit::report::Report;
use secai_verifier::audit::store::Store;
use secai_verifier::files::{load, load_chain_keys, load_checkpoint, load_cosigner_keys, load_log_key};
use secai_verifier::refusal::cut_names;
use serde_json::{Value, json};

use super::{Failure, Format, paint, plain, print, refused};
use crate::COULD_NOT_LOOK;

/// Words of the command line.
#[derive(Args)]
pub struct Arguments {
    /// The chain's directory, or the file with --as
    #[arg(required_unless_present = "proof")]
    path: Option<PathBuf>,
    /// Directory of verifier keys (*.vkey); without one the best answer is "signer unknown"
    #[arg(long, value_name = "DIR")]
    trust: Option<PathBuf>,
    /// A checkpoint of this chain that somebody else kept: it must still be true, and only what is new is read
    #[arg(long, value_name = "CHECKPOINT")]
    from: Option<PathBuf>,
    /// The key of a witness (a file, one line) that must have cosigned this checkpoint; may be given several times
    #[arg(long, value_name = "FILE", requires = "from")]
    witness: Vec<PathBuf>,
    /// Read everything, with --from too
    #[arg(long)]
    full: bool,
    /// Judge proofs instead of a chain; those of epochs' ends first
    #[arg(long, value_name = "FILE", conflicts_with_all = ["path", "from", "witness", "full"])]
    proof: Vec<PathBuf>,
    /// The path is a log of another program
    #[arg(long = "as", value_name = "LOG", conflicts_with_all = ["trust", "from", "witness", "full", "proof"])]
    written_as: Option<OtherLog>,
    /// The key of that log
    #[arg(long, value_name = "FILE", requires = "written_as")]
    key_file: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum OtherLog {
    /// JSON lines with an HMAC each, and archives beside the log
    PythonHmacChain,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode, Failure> {
        let begun = Instant::now();
        let trusted = match &self.trust {
            Some(directory) => load_chain_keys(directory)?,
            None => Vec::new(),
        };
        let Some(path) = &self.path else { return self.judge_proofs(trusted) };
        if let Some(OtherLog::PythonHmacChain) = self.written_as {
            return self.judge_python(path);
        }
        let witnessed = self.from.as_deref().map(load_checkpoint).transpose()?;
        let cosigners = load_cosigner_keys(&self.witness)?;
        let threads = available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let (witnessed, cosigners) = (witnessed.as_ref(), cosigners.as_slice());
        let options = Options { trusted: &trusted, witnessed, cosigners, full: self.full, threads };
        let verdict = check(&Store::open(path)?, &options)?;
        match self.format {
            Format::Human => print(&human(&verdict, begun.elapsed()))?,
            Format::Json => print(&format!("{}\n", as_json(&verdict, begun.elapsed())))?,
        }
        Ok(match verdict {
            Verdict::Accepted(_) => ExitCode::SUCCESS,
            Verdict::SignerUnknown(_) => ExitCode::from(COULD_NOT_LOOK),
            Verdict::Refused(_) => ExitCode::FAILURE,
        })
    }

    fn judge_python(&self, path: &Path) -> Result<ExitCode, Failure> {
        let key = self.key_file.as_deref().map(load_log_key).transpose()?;
        let (code, text, value) = match python_hmac_chain::check(path, key.as_ref())? {
            Ok(found) => {
                let (code, answer, colour) = match found.keyed {
                    true => (ExitCode::SUCCESS, "accepted", "1;32"),
                    false => (ExitCode::from(COULD_NOT_LOOK), UNKNOWN, "1;33"),
                };
                let mut lines = vec![("entries", found.entries.to_string()), ("files", found.files.to_string())];
                lines.extend(found.vouches().into_iter().map(|words| ("level", words)));
                if found.torn > 0 {
                    lines.push(("note", format!("{} bytes after the last entry are none", found.torn)));
                }
                let value = json!({
                    "verdict": answer, "refusals": [], "entries": found.entries, "files": found.files, "torn": found.torn,
                    "checkpointed": found.checkpointed, "not_computed": found.not_computed, "vouches": found.vouches(),
                });
                (code, format!("{}\n{}", paint(answer, colour), table(&lines)), value)
            }
            Err(refusals) => {
                let value =
                    json!({"verdict": "refused", "refusals": lines(&refusals), "more_of": cut_names(&refusals)});
                (ExitCode::FAILURE, refused(&refusals), value)
            }
        };
        print(&match self.format {
            Format::Human => text,
            Format::Json => format!("{value}\n"),
        })?;
        Ok(code)
    }

    /// Keys that a proof shows to follow from known ones count for the proofs after it.
    fn judge_proofs(&self, mut keys: Vec<VerifierKey>) -> Result<ExitCode, Failure> {
        let nobody = keys.is_empty();
        let mut proved = Vec::new();
        for path in &self.proof {
            let too_long = |_| ChainRefusal::ProofMalformed { reason: "it is too long".to_owned() };
            let proof = load(path, PROOF_BYTES_MAX)?.map_err(too_long).and_then(|bytes| Proof::parse(&bytes));
            match proof.and_then(|proof| proof.verify(&keys).map(|()| proof)) {
                Ok(proof) => {
                    keys.extend(proof.next_key());
                    proved.push(proof);
                }
                Err(ChainRefusal::ProofSignedByUnknownKey { .. }) if nobody => {
                    let words = "the entry is in the tree that the checkpoint names, signer unknown: give --trust";
                    print(&match self.format {
                        Format::Human => format!("{}\n", paint(words, "1;33")),
                        Format::Json => format!("{}\n", json!({"verdict": "signer unknown", "detail": words})),
                    })?;
                    return Ok(ExitCode::from(COULD_NOT_LOOK));
                }
                Err(refusal) => {
                    print(&match self.format {
                        Format::Human => refused(&[refusal]),
                        Format::Json => format!("{}\n", json!({"verdict": "refused", "refusals": lines(&[refusal])})),
                    })?;
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
        print(&match self.format {
            Format::Human => {
                let line = |proof: &Proof| {
                    let (entry, head) = (String::from_utf8_lossy(&proof.entry), &proof.note.checkpoint);
                    format!(
                        "entry {} of {}, {} entries signed\n{}\n",
                        proof.index,
                        head.origin,
                        head.size,
                        plain(&entry)
                    )
                };
                format!("{}\n{}", paint("proved", "1;32"), proved.iter().map(line).collect::<String>())
            }
            Format::Json => {
                let entry = |proof: &Proof| {
                    let head = &proof.note.checkpoint;
                    json!({"index": proof.index, "origin": head.origin, "size": head.size, "entry": String::from_utf8_lossy(&proof.entry)})
                };
                format!("{}\n", json!({"verdict": "proved", "proofs": proved.iter().map(entry).collect::<Vec<_>>()}))
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The best answer without a key.
const UNKNOWN: &str = "consistent in itself, signer unknown";

/// The answer in few words, by which scripts know it too.
fn answer(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted(_) => "accepted",
        Verdict::SignerUnknown(_) => UNKNOWN,
        Verdict::Refused(_) => "refused",
    }
}

fn human(verdict: &Verdict, took: Duration) -> String {
    match verdict {
        Verdict::Accepted(chain) => format!("{}\n{}", paint(answer(verdict), "1;32"), report(chain.report(), took)),
        Verdict::SignerUnknown(found) => format!("{}\n{}", paint(answer(verdict), "1;33"), report(found, took)),
        Verdict::Refused(refusals) => refused(refusals),
    }
}

fn report(found: &Report, took: Duration) -> String {
    let signer = match &found.signer {
        Some(key) => key.to_string(),
        None => "unknown: no trusted key made this chain's name".to_owned(),
    };
    let linked = match found.unsigned() {
        0 => "every entry is signed".to_owned(),
        count => format!("{count} entries after it are linked and not signed yet"),
    };
    let read = match found.read_from {
        0 => format!("{} entries", found.verified()),
        from => format!("{} entries, from {from} on", found.verified()),
    };
    let mut lines = vec![
        ("chain", found.head.origin.clone()),
        ("head", format!("{} entries, root {}", found.head.size, found.head.root)),
        ("signer", signer),
        ("epochs", found.epochs.to_string()),
        ("verified", read),
        ("linked", linked),
        ("last", found.last.map_or_else(|| "none".to_owned(), |time| time.as_str().to_owned())),
        ("payloads", format!("{} there, {} forgotten", found.payloads, found.forgotten)),
    ];
    lines.extend(found.vouches().into_iter().map(|words| ("level", words)));
    lines.extend(found.remarks.iter().map(|remark| ("note", plain(&remark.to_string()))));
    lines.push(("seconds", format!("{:.2}", took.as_secs_f64())));
    table(&lines)
}

fn table(lines: &[(&str, String)]) -> String {
    lines.iter().map(|(word, value)| format!("{word:<9} {value}\n")).collect()
}

fn lines(refusals: &[ChainRefusal]) -> Value {
    refusals.iter().map(|refusal| json!({"name": refusal.name(), "detail": refusal.to_string()})).collect()
}

fn as_json(verdict: &Verdict, took: Duration) -> Value {
    let found = match verdict {
        Verdict::Accepted(chain) => chain.report(),
        Verdict::SignerUnknown(found) => found,
        Verdict::Refused(refusals) => {
            return json!({
                "verdict": answer(verdict),
                "refusals": lines(refusals),
                "more_of": cut_names(refusals),
                "seconds": took.as_secs_f64(),
            });
        }
    };
    json!({
        "verdict": answer(verdict),
        "refusals": [],
        "chain": found.head.origin,
        "head": {"size": found.head.size, "root": found.head.root.to_string()},
        "signer": found.signer.as_ref().map(ToString::to_string),
        "epochs": found.epochs,
        "read_from": found.read_from,
        "verified": found.verified(),
        "linked": found.entries,
        "unsigned": found.unsigned(),
        "last": found.last.map(|time| time.as_str().to_owned()),
        "witnessed": found.witnessed,
        "payloads": {"there": found.payloads, "forgotten": found.forgotten},
        "cosigned": found.cosigned.iter().map(|by| json!({"witness": by.witness, "time": by.time()})).collect::<Vec<_>>(),
        "level": found.level(),
        "vouches": found.vouches(),
        "notes": found.remarks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "seconds": took.as_secs_f64(),
    })
}

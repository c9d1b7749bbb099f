//! Chains that hold are accepted; each change to one is refused by its own name, the naive and the re-sealed one.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a helper of tests may panic and print, as tests may")]
#![allow(clippy::disallowed_methods, reason = "the verifier starts no process; its tests compare it with others")]

mod attacks;
mod busy;
mod make;
mod others;
mod program;
mod python;
mod vectors;
mod whole;
mod witnessed;

use std::num::NonZeroUsize;
use std::path::Path;

use make::Chain;
use secai_verifier::audit::chain::{Options, Verdict, check};
use secai_verifier::audit::checkpoint::{Note, VerifierKey};
use secai_verifier::audit::cosignature::CosignerKey;
use secai_verifier::audit::report::Report;
use secai_verifier::audit::store::Store;

/// What a check says: a report, or names and sentences of refusals.
pub fn judge(dir: &Path, trusted: &[VerifierKey], from: Option<&str>, full: bool) -> Result<Report, Vec<String>> {
    judge_cosigned(dir, trusted, from, &[], full)
}

/// As [`judge`], with witnesses that must have cosigned.
pub fn judge_cosigned(
    dir: &Path,
    trusted: &[VerifierKey],
    from: Option<&str>,
    cosigners: &[CosignerKey],
    full: bool,
) -> Result<Report, Vec<String>> {
    let witnessed = from.map(|text| Note::parse(text.as_bytes()).unwrap());
    let threads = NonZeroUsize::new(2).unwrap();
    let options = Options { trusted, witnessed: witnessed.as_ref(), cosigners, full, threads };
    match check(&Store::open(dir).unwrap(), &options).unwrap() {
        Verdict::Accepted(chain) => Ok(chain.report().clone()),
        Verdict::SignerUnknown(_) => Err(vec!["SignerUnknown".to_owned()]),
        Verdict::Refused(refusals) => {
            Err(refusals.iter().map(|refusal| format!("{}: {refusal}", refusal.name())).collect())
        }
    }
}

/// As [`judge`], with the key of the chain itself.
pub fn judge_own(chain: &Chain, dir: &Path) -> Result<Report, Vec<String>> {
    judge(dir, &[chain.vkey(0)], None, false)
}

//! The chain that is read: whose it is, whether it holds, and its entries compared once more with what was signed.

use super::ask;
use crate::failure::Failure;
use crate::output::{Output, plain};
use clap::Args;
use secai_daemon::audit::AuditClient;
use secai_daemon::report::COULD_NOT;
use secai_verifier::audit::chain::{Options, Verdict, check};
use secai_verifier::audit::checkpoint::{Note, VerifierKey};
use secai_verifier::audit::entry::Entry;
use secai_verifier::audit::read::{Found, read};
use secai_verifier::audit::refusal::ChainRefusal;
use secai_verifier::audit::report::Report;
use secai_verifier::audit::store::Store;
use secai_verifier::audit::tiles::Tiles;
use secai_verifier::audit::tree::{Frontier, leaf};
use secai_verifier::digest::Digest;
use secai_verifier::files::load_chain_keys;
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;

/// Which chain.
#[derive(Args)]
pub struct Which {
    /// Read a copy of a chain; without this the audit daemon hands out its own
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
    /// Directory of verifier keys (*.vkey); without it the daemon's own word counts, or nobody's with --dir
    #[arg(long, value_name = "DIR")]
    trust: Option<PathBuf>,
}

/// Where the keys are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The person who asks gave them.
    Trust,
    /// The daemon said its key itself.
    Daemon,
    /// There are none.
    Nobody,
}

/// A chain that can be read.
pub struct Chain {
    /// Its files.
    pub store: Store,
    /// Keys of epochs 0.
    pub keys: Vec<VerifierKey>,
    /// Where they are from.
    pub source: Source,
    /// Who can have the rest of it signed, where that is wanted; a copy has nobody.
    pub daemon: Option<AuditClient>,
}

impl Which {
    /// Opens it.
    pub fn open(&self, socket: &Path) -> Result<Chain, Failure> {
        let given = self.trust.as_deref().map(load_chain_keys).transpose()?;
        if let Some(path) = &self.dir {
            let source = if given.is_some() { Source::Trust } else { Source::Nobody };
            return Ok(Chain { store: Store::open(path)?, keys: given.unwrap_or_default(), source, daemon: None });
        }
        let client = ask::reach(socket)?;
        let store = ask::folder(&client)?;
        let (keys, source) = match given {
            Some(keys) => (keys, Source::Trust),
            None => (vec![ask::standing(&client)?.1], Source::Daemon),
        };
        Ok(Chain { store, keys, source, daemon: Some(client) })
    }
}

/// A chain that holds.
pub struct Judged {
    /// What was found.
    pub report: Report,
    /// Where the key that leads to its signer is from. Without one the key of a later epoch is known, and worth nothing.
    source: Source,
}

impl Chain {
    /// Checks it; only what is new, where a checkpoint is given and `full` does not say otherwise.
    pub fn check(&self, witnessed: Option<&Note>, full: bool) -> Result<Result<Judged, Vec<ChainRefusal>>, Failure> {
        let threads = available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let options = Options { trusted: &self.keys, witnessed, cosigners: &[], full, threads };
        let verdict = check(&self.store, &options)?;
        Ok(match verdict {
            Verdict::Accepted(chain) => Ok(Judged { report: chain.report().clone(), source: self.source }),
            Verdict::SignerUnknown(report) => Ok(Judged { report: *report, source: Source::Nobody }),
            Verdict::Refused(refusals) => Err(refusals),
        })
    }
}

impl Judged {
    /// The answer in few words, as `verify-release` says it.
    pub fn verdict(&self) -> &'static str {
        if self.source == Source::Nobody { "consistent in itself, signer unknown" } else { "accepted" }
    }

    /// The answer as an exit code.
    pub fn code(&self) -> ExitCode {
        if self.source == Source::Nobody { ExitCode::from(COULD_NOT) } else { ExitCode::SUCCESS }
    }

    /// Who signed; none where nobody says whose chain it is.
    pub fn signer(&self) -> Option<String> {
        let key = self.report.signer.as_ref().filter(|_| self.source != Source::Nobody);
        key.map(ToString::to_string)
    }

    /// Who signed, and on whose word, for people.
    pub fn signed_by(&self) -> String {
        match (self.source, self.signer()) {
            (Source::Trust, Some(key)) => format!("signed by {key}"),
            (Source::Daemon, Some(key)) => {
                format!("signed by {key}, by a key that was said by the daemon itself: --trust compares it with yours")
            }
            _ => "signer unknown: give --trust".to_owned(),
        }
    }

    /// On whose word, for programs.
    pub fn source(&self) -> Option<&'static str> {
        match self.source {
            Source::Trust => Some("trust"),
            Source::Daemon => Some("said by the daemon itself"),
            Source::Nobody => None,
        }
    }
}

/// Says that a chain or a proof is refused, and why.
pub fn refused(refusals: &[ChainRefusal], output: &mut Output) -> Result<(), Failure> {
    let human = || {
        let lines = refusals.iter().map(|it| format!("\n{}: {}", it.name(), plain(&it.to_string())));
        format!("refused{}", lines.collect::<String>())
    };
    Ok(output.line(human, || json!({"verdict": "refused", "refusals": listed(refusals)}))?)
}

fn listed(refusals: &[ChainRefusal]) -> Value {
    refusals.iter().map(|it| json!({"name": it.name(), "detail": it.to_string()})).collect()
}

/// Goes over the entries of a chain that was accepted, and compares them with the root that was accepted: what is
/// handed out is what was checked, not what lies there by now.
pub struct Walk {
    base: u64,
    tree: Frontier,
    last: Option<Digest>,
}

impl Walk {
    /// At the first entry that is there.
    pub fn begin(store: &Store) -> Result<Self, Failure> {
        let base = store.list(false)?.segments.first().copied().unwrap_or(0);
        // What was removed is represented by its tiles; they lead to the signed root, or the walk fails.
        let tree = if base == 0 { Frontier::new() } else { Tiles::of(store).frontier(base)? };
        Ok(Self { base, tree, last: None })
    }

    /// The first entry that is there.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Hands out the entries from where it stands to before `until`, and whether a signature covers each.
    pub fn on(
        &mut self,
        store: &Store,
        report: &Report,
        until: u64,
        payloads: bool,
        mut take: impl FnMut(&Found<'_>, &Entry<'_>, bool) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let size = report.head.size;
        if until <= self.tree.size() {
            return Ok(());
        }
        read(store, self.tree.size(), until, payloads, |found| {
            let entry = Entry::parse(found.line).map_err(|_| changed())?;
            let follows = self.last.is_none_or(|last| last == entry.prev);
            if !follows || entry.seq != self.tree.size() || found.place != entry.seq {
                return Err(changed());
            }
            self.last = Some(Digest::of(found.line));
            self.tree.push(leaf(found.line));
            take(&found, &entry, entry.seq < size)?;
            if self.tree.size() == size && self.tree.root() != report.head.root { Err(changed()) } else { Ok(()) }
        })?;
        if self.tree.size() == until { Ok(()) } else { Err(changed()) }
    }
}

fn changed() -> Failure {
    Failure::No(
        "the chain was changed after it was checked: what was shown is not what was signed",
        "do not believe these lines; ask again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_changes_after_the_check_is_not_shown_as_checked() {
        let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../verifier/spec/vectors/audit");
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("seg")).unwrap();
        for name in ["checkpoint", "checkpoints.log", "seg/000000000000.jsonl", "seg/000000000000.payload"] {
            fs::copy(vectors.join("chain").join(name), folder.path().join(name)).unwrap();
        }
        let which = Which { dir: Some(folder.path().to_owned()), trust: None };
        let chain = which.open(Path::new("")).unwrap();
        let judged = chain.check(None, true).unwrap().unwrap();
        let path = folder.path().join("seg/000000000000.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        let walked = |text: &str| {
            fs::write(&path, text).unwrap();
            let (mut walk, mut seen) = (Walk::begin(&chain.store).unwrap(), 0);
            let count = |_: &Found<'_>, _: &Entry<'_>, signed: bool| {
                assert!(signed);
                seen += 1;
                Ok(())
            };
            walk.on(&chain.store, &judged.report, judged.report.entries, true, count).map(|()| seen)
        };
        assert_eq!(walked(&text).unwrap(), 5);
        let last = text.rfind("{\"v\"").unwrap();
        for other in [
            // The last one has nobody who links to it: only the root finds it.
            &text.replace("\"refused\":0", "\"refused\":1"),
            &text.replace("\"from\":\"inactive\"", "\"from\":\"failed\""),
            &text.replace("\"version\":\"0.1.0\"", "\"version\":\"0.2.0\""),
            &text[..last],
            &text[text.find('\n').unwrap() + 1..],
        ] {
            assert_ne!(other, text);
            assert!(matches!(walked(other), Err(Failure::No(..))), "{other}");
        }
    }
}

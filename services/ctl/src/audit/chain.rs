//! The chain that is read: whose it is, whether it holds, and its entries compared once more with what was signed.

use super::ask;
use crate::failure::Failure;
use crate::output::{Output, plain};
use clap::Args;
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
}

impl Which {
    /// Opens it.
    pub fn open(&self, socket: &Path) -> Result<Chain, Failure> {
        let given = self.trust.as_deref().map(load_chain_keys).transpose()?;
        if let Some(path) = &self.dir {
            let source = if given.is_some() { Source::Trust } else { Source::Nobody };
            return Ok(Chain { store: Store::open(path)?, keys: given.unwrap_or_default(), source });
        }
        let client = ask::reach(socket)?;
        let store = ask::folder(&client)?;
        Ok(match given {
            Some(keys) => Chain { store, keys, source: Source::Trust },
            None => Chain { store, keys: vec![ask::standing(&client)?.1], source: Source::Daemon },
        })
    }
}

impl Chain {
    /// Checks it; only what is new, where a checkpoint is given and `full` does not say otherwise.
    pub fn check(&self, witnessed: Option<&Note>, full: bool) -> Result<Verdict, Failure> {
        let threads = available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Ok(check(&self.store, &Options { trusted: &self.keys, witnessed, full, threads })?)
    }

    /// Whose chain that is, and on whose word.
    pub fn signer(&self, report: &Report) -> String {
        let key = report.signer.as_ref().map(ToString::to_string).unwrap_or_default();
        match self.source {
            Source::Trust if report.signer.is_some() => format!("signed by {key}"),
            Source::Daemon => {
                format!("signed by {key}; which key is the device's was said by the daemon itself, --trust compares it with yours")
            }
            _ => "signer unknown: give --trust".to_owned(),
        }
    }

    /// For programs: where the key is from.
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

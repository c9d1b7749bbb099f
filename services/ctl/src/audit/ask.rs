//! The verbs that the audit daemon itself answers, and what the others ask it.

use super::chain::{Chain, Source};
use crate::failure::Failure;
use crate::output::{Output, plain};
use clap::Args;
use secai_api::audit::kind::{self, Data};
use secai_api::audit::{self, Range, Reply, Request, Status};
use secai_daemon::audit::AuditClient;
use secai_daemon::report::{Priority, say};
use secai_verifier::audit::SEGMENT_ENTRIES;
use secai_verifier::audit::checkpoint::VerifierKey;
use secai_verifier::audit::entry::Entry;
use secai_verifier::audit::payload::PAYLOAD_BYTES_MAX;
use secai_verifier::audit::read::read;
use secai_verifier::audit::refusal::ChainRefusal;
use secai_verifier::audit::store::Store;
use serde_json::{Value, json};
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;

/// Connects.
pub fn reach(socket: &Path) -> Result<AuditClient, Failure> {
    Ok(AuditClient::connect(socket)?)
}

/// The chain's directory, which the daemon hands out.
pub fn folder(client: &AuditClient) -> Result<Store, Failure> {
    match client.ask(&Request::Open {})? {
        (Reply::Opened {}, Some(folder)) => Ok(Store::from_directory(folder, Path::new("the daemon's chain"))),
        _ => Err(Failure::Garbled),
    }
}

/// How the daemon stands, and its key.
pub fn standing(client: &AuditClient) -> Result<(Status, VerifierKey), Failure> {
    match client.ask(&Request::Status {})? {
        (Reply::Status(status), None) => {
            let key = status.device_key.parse()?;
            Ok((status, key))
        }
        _ => Err(Failure::Garbled),
    }
}

/// Has everything that is written signed now: the checkpoint, and the key it is signed with.
pub fn signed(client: &AuditClient) -> Result<(String, VerifierKey), Failure> {
    match client.ask(&Request::Checkpoint {})? {
        (Reply::Checkpoint { note, key }, None) => Ok((note, key.parse()?)),
        _ => Err(Failure::Garbled),
    }
}

fn appended(answer: (Reply, Option<std::os::fd::OwnedFd>)) -> Result<u64, Failure> {
    match answer {
        (Reply::Appended { seq: Some(seq) }, None) => Ok(seq),
        _ => Err(Failure::Garbled),
    }
}

/// `key`.
pub fn key(socket: &Path, output: &mut Output) -> Result<ExitCode, Failure> {
    let (_, key) = standing(&reach(socket)?)?;
    output.line(|| key.to_string(), || json!({"key": key.to_string()}))?;
    Ok(ExitCode::SUCCESS)
}

/// `status`.
pub fn status(socket: &Path, output: &mut Output) -> Result<ExitCode, Failure> {
    let (status, key) = standing(&reach(socket)?)?;
    let human = || {
        let counts = |of: &std::collections::BTreeMap<String, u64>| match of.is_empty() {
            true => "none".to_owned(),
            false => of.iter().map(|(name, count)| format!("{} {count}", plain(name))).collect::<Vec<_>>().join(", "),
        };
        let gap = "begins with a gap that nobody acknowledged: see `secaictl audit acknowledge`";
        let full = "too little room for all but the most important entries";
        let deaf = "nothing is heard from systemd: starts and stops are not recorded";
        [
            ("entries", format!("{}, {} of them signed", status.size, status.signed)),
            ("key", format!("{key}, epoch {}", status.epoch)),
            ("written", counts(&status.written)),
            ("refused", counts(&status.refused)),
            ("chain", if status.gap { gap } else { "no unacknowledged gap" }.to_owned()),
            ("disk", if status.disk_full { full } else { "enough room" }.to_owned()),
            ("services", if status.hears_systemd { "starts and stops are recorded" } else { deaf }.to_owned()),
        ]
        .map(|(word, value)| format!("{word:<8} {value}"))
        .join("\n")
    };
    output.line(human, || serde_json::to_value(&status).unwrap_or_default())?;
    Ok(ExitCode::SUCCESS)
}

/// Words of the command line of `note`.
#[derive(Args)]
pub struct Note {
    /// The remark; `-` reads it from standard input
    text: String,
}

impl Note {
    /// Does it.
    pub fn run(self, socket: &Path, output: &mut Output) -> Result<ExitCode, Failure> {
        let text = match self.text.as_str() {
            "-" => {
                let mut bytes = Vec::new();
                let room = PAYLOAD_BYTES_MAX as u64 + 1;
                io::stdin().lock().take(room).read_to_end(&mut bytes).map_err(Failure::Input)?;
                bytes
            }
            text => text.as_bytes().to_vec(),
        };
        if text.is_empty() || text.len() > PAYLOAD_BYTES_MAX {
            let what = format!("a remark has 1 to {PAYLOAD_BYTES_MAX} bytes");
            return Err(Failure::Usage(what, "nothing was written; give a shorter one, or several"));
        }
        let data = kind::Note { bytes: text.len() as u64 };
        let seq = reach(socket)?.record(&data, Some(&text))?.seq.ok_or(Failure::Garbled)?;
        output.line(|| format!("entry {seq}"), || json!({"seq": seq}))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Words of the command line of `forget`.
#[derive(Args)]
pub struct Forget {
    /// The first entry whose payload is erased
    #[arg(long, value_name = "N")]
    from: u64,
    /// The first entry after them
    #[arg(long, value_name = "N")]
    until: u64,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Forget {
    /// Does it.
    pub fn run(self, socket: &Path, output: &mut Output) -> Result<ExitCode, Failure> {
        let Self { from, until, yes } = self;
        if from >= until {
            let what = format!("there are no entries from {from} to before {until}");
            return Err(Failure::Usage(what, "--until is the first entry whose payload stays"));
        }
        let client = reach(socket)?;
        let what =
            format!("The payloads of the entries {from} to {} will be erased. Nobody can bring them back.", until - 1);
        confirm(&what, yes)?;
        let seq = appended(client.ask(&Request::Forget(Range { from, until }))?)?;
        output
            .line(|| format!("forgotten; entry {seq} says so"), || json!({"seq": seq, "from": from, "until": until}))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Words of the command line of `prune`.
#[derive(Args)]
pub struct Prune {
    /// The first entry that stays: a multiple of 65536
    #[arg(long, value_name = "N")]
    until: u64,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Prune {
    /// Does it.
    pub fn run(self, socket: &Path, output: &mut Output) -> Result<ExitCode, Failure> {
        let Self { until, yes } = self;
        if until == 0 || !until.is_multiple_of(SEGMENT_ENTRIES) {
            let what = format!("only whole segments are removed, and {until} is not where one ends");
            return Err(Failure::Usage(what, "nothing was done; --until is a multiple of 65536"));
        }
        let client = reach(socket)?;
        let what = format!(
            "The entries 0 to {} and their payloads will be removed. Nobody can bring them back; `secaictl audit export` makes a copy.",
            until - 1
        );
        confirm(&what, yes)?;
        let seq = appended(client.ask(&Request::Prune(audit::Prune { until }))?)?;
        output.line(|| format!("removed; entry {seq} says so"), || json!({"seq": seq, "until": until}))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Words of the command line of `acknowledge`.
#[derive(Args)]
pub struct Acknowledge {
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Acknowledge {
    /// Does it; the gap is shown in any case.
    pub fn run(self, socket: &Path, output: &mut Output) -> Result<ExitCode, Failure> {
        let client = reach(socket)?;
        let (status, key) = standing(&client)?;
        if !status.gap {
            return Err(Failure::No("the chain has no gap that is to be acknowledged", "see `secaictl audit status`"));
        }
        let chain = Chain { store: folder(&client)?, keys: vec![key], source: Source::Daemon, daemon: None };
        let gap = gap(&chain)?;
        say(Priority::Warning, &gap.words);
        confirm("Whatever was in the chain before cannot be shown any more. Is that known to you?", self.yes)?;
        let seq = appended(client.ask(&Request::Acknowledge {})?)?;
        output.line(|| format!("acknowledged; entry {seq} says so"), || json!({"seq": seq, "gap": gap.data}))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What a gap says of itself.
struct Gap {
    words: String,
    data: Value,
}

fn gap(chain: &Chain) -> Result<Gap, Failure> {
    let mut words = String::new();
    if let Err(refusals) = chain.check(None, true)? {
        // That one is what this is about; with any other the words of the gap are not to be believed either.
        for refusal in refusals.iter().filter(|it| !matches!(it, ChainRefusal::GapNotAcknowledged { .. })) {
            words.push_str(&format!("the new chain is refused too: {}: {refusal}\n", refusal.name()));
        }
    }
    let mut found = None;
    read(&chain.store, 0, 1, false, |first| -> Result<(), Failure> {
        let entry = Entry::parse(first.line).ok().filter(|entry| entry.kind == kind::Gap::KIND);
        found = entry.and_then(|entry| Some((entry.time, serde_json::from_str::<kind::Gap>(entry.data).ok()?)));
        Ok(())
    })?;
    let Some((time, gap)) = found else {
        words.push_str("the daemon says that this chain begins with a gap, its first entry does not\n");
        return Ok(Gap { words, data: Value::Null });
    };
    let before = match gap.size {
        0 => "nothing was left of the chain before".to_owned(),
        size => format!("the first {size} entries of the chain before were good, root {}", gap.root),
    };
    words.push_str(&format!("this chain began anew at {}: {}\n{before}\n", time.as_str(), plain(&gap.reason)));
    Ok(Gap { words, data: serde_json::to_value(&gap).unwrap_or_default() })
}

/// Asks on the terminal; only the whole word is a yes.
fn confirm(what: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        let what = "this asks before it acts, and there is no terminal to ask on";
        return Err(Failure::Usage(what.to_owned(), "nothing was done; --yes does it without asking"));
    }
    say(Priority::Warning, &format!("{what} Type yes:"));
    let mut answer = String::new();
    io::stdin().lock().take(64).read_line(&mut answer).map_err(Failure::Input)?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::No("nothing was done", "only `yes` is a yes")),
    }
}

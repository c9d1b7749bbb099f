//! `show`: a view on a chain that was checked as a whole. Whatever a filter leaves out is counted, so that nobody takes
//! a part for the whole.

use super::chain::{Chain, Judged, Walk, Which, refused};
use crate::failure::Failure;
use crate::output::{Output, plain};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use secai_verifier::audit::entry::Entry;
use secai_verifier::audit::payload::Payload;
use secai_verifier::audit::read::{Found, read};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::process::ExitCode;

/// Characters of one value of an entry's data; --json has the whole.
const VALUE_CHARS_MAX: usize = 120;

/// Words of the command line.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    /// The first entry to show
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// The first entry not to show any more
    #[arg(long, value_name = "N")]
    until: Option<u64>,
    #[command(flatten)]
    view: View,
    /// Show the lines of a refused chain, each marked: they prove nothing
    #[arg(long)]
    even_if_refused_show_anyway: bool,
}

/// What of the entries is shown.
#[derive(Args)]
pub struct View {
    /// Only entries of this kind; may be given several times
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,
    /// Also what can be forgotten: what people did and wrote
    #[arg(long)]
    pub payloads: bool,
}

impl View {
    /// Is this entry to be shown?
    pub fn takes(&self, kind: &str) -> bool {
        self.kind.is_empty() || self.kind.iter().any(|wanted| wanted == kind)
    }
}

impl Arguments {
    /// Does it.
    pub fn run(self, socket: &Path, output: &mut Output) -> Result<ExitCode, Failure> {
        let until = self.until.unwrap_or(u64::MAX);
        if self.from >= until {
            let what = format!("there are no entries from {} to before {until}", self.from);
            return Err(Failure::Usage(what, "--until is the first entry that is not shown any more"));
        }
        let chain = self.which.open(socket)?;
        let judged = match chain.check(None, true)? {
            Ok(judged) => judged,
            Err(refusals) => {
                refused(&refusals, output)?;
                if self.even_if_refused_show_anyway {
                    self.show_anyway(&chain, until, output)?;
                }
                return Ok(ExitCode::FAILURE);
            }
        };
        let report = &judged.report;
        let mut walk = Walk::begin(&chain.store)?;
        let mut shown = 0;
        // Those before and after the range are read too: the root is over all of them.
        walk.on(&chain.store, report, report.entries, self.view.payloads, |found, entry, signed| {
            if (self.from..until).contains(&entry.seq) && self.view.takes(entry.kind) {
                shown += 1;
                show(found, entry, signed, self.view.payloads, output)?;
            }
            Ok(())
        })?;
        let left_out = report.entries.saturating_sub(walk.base()) - shown;
        sum_up(&judged, shown, left_out, output)?;
        Ok(judged.code())
    }

    fn show_anyway(&self, chain: &Chain, until: u64, output: &mut Output) -> Result<(), Failure> {
        let (mut shown, mut left_out) = (0u64, 0u64);
        read(&chain.store, 0, u64::MAX, false, |found| -> Result<(), Failure> {
            let kind = Entry::parse(found.line).ok().map(|entry| entry.kind);
            // A line that is no entry belongs to no kind, and is not to be hidden by asking for one.
            if !(self.from..until).contains(&found.place) || kind.is_some_and(|kind| !self.view.takes(kind)) {
                left_out += 1;
                return Ok(());
            }
            shown += 1;
            let line = String::from_utf8_lossy(found.line);
            Ok(output.line(
                || format!("NOT VERIFIED  {:>7}  {}", found.place, plain(&line)),
                || json!({"verified": false, "place": found.place, "line": line}),
            )?)
        })?;
        Ok(output.line(
            || format!("{shown} lines shown that nobody vouches for, {left_out} left out"),
            || json!({"shown": shown, "left_out": left_out}),
        )?)
    }
}

/// Prints an entry.
pub fn show(
    found: &Found<'_>,
    entry: &Entry<'_>,
    signed: bool,
    payloads: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let human = || {
        let data: Map<String, Value> = serde_json::from_str(entry.data).unwrap_or_default();
        let mut text =
            format!("{:>7}  {}  {}({})  {}", entry.seq, entry.time.as_str(), entry.writer, entry.uid, entry.kind);
        for (at, (key, value)) in data.iter().enumerate() {
            text.push_str(&format!("{}{}={}", if at == 0 { "  " } else { " " }, plain(key), short(value)));
        }
        if entry.payload.is_some() && payloads {
            text.push_str(&match &found.payload {
                Some(payload) => format!("  payload={}", readable(payload)),
                None => "  (forgotten)".to_owned(),
            });
        }
        if !signed {
            text.push_str("  (not signed yet)");
        }
        text
    };
    let json = || {
        let mut value = json!({
            "seq": entry.seq, "t": entry.time.as_str(), "boot": format!("{:08x}", entry.boot), "mono": entry.mono,
            "w": entry.writer, "uid": entry.uid, "k": entry.kind,
            "d": serde_json::from_str::<Value>(entry.data).unwrap_or_default(), "signed": signed,
        });
        if let (true, Some(_), Some(map)) = (payloads, entry.payload, value.as_object_mut()) {
            let base64 = found.payload.as_ref().map(|payload| STANDARD.encode(&payload.bytes));
            map.insert("payload".to_owned(), json!(base64));
        }
        value
    };
    Ok(output.line(human, json)?)
}

/// A value in few characters, in one word or in quotes.
fn short(value: &Value) -> String {
    let word =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._:/@+".contains(c));
    match value {
        Value::String(text) if word(text) => cut(text),
        other => cut(&other.to_string()),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((at, _)) => plain(text.get(..at).unwrap_or_default()) + "…",
        None => plain(text),
    }
}

/// Text in quotes; bytes that are none as base64.
fn readable(payload: &Payload) -> String {
    match str::from_utf8(&payload.bytes) {
        Ok(text) => plain(&Value::from(text).to_string()),
        Err(_) => format!("base64:{}", STANDARD.encode(&payload.bytes)),
    }
}

fn sum_up(judged: &Judged, shown: u64, left_out: u64, output: &mut Output) -> Result<(), Failure> {
    let report = &judged.report;
    let human = || {
        let mut text = format!(
            "{shown} shown, {left_out} left out by the filter\n{}: {} entries, {} of them not signed yet\n{}",
            judged.verdict(),
            report.entries,
            report.unsigned(),
            judged.signed_by()
        );
        for remark in &report.remarks {
            text.push_str(&format!("\nnote: {}", plain(&remark.to_string())));
        }
        text
    };
    let json = || {
        json!({
            "verdict": judged.verdict(),
            "chain": report.head.origin,
            "head": {"size": report.head.size, "root": report.head.root.to_string()},
            "signer": judged.signer(),
            "signer_from": judged.source(),
            "entries": report.entries, "unsigned": report.unsigned(), "shown": shown, "left_out": left_out,
            "notes": report.remarks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    };
    Ok(output.line(human, json)?)
}

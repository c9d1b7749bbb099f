//! `secai-dns-leak-check`: looks once whether requests for names are made or could leave, says it, and ends.

use clap::Parser;
use secai_daemon::report::{Priority, fail, say, told};
use secai_dns_leak_check::config::POLICY;
use secai_dns_leak_check::decide::Verdict;
use secai_dns_leak_check::serve::{CheckError, Places, as_json, code, record};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Looks whether names are asked for anywhere, and whether such a request could leave.
#[derive(Parser)]
#[command(name = "secai-dns-leak-check", version, about)]
#[command(
    after_help = "Example:\n  journalctl -u secure-ai-dns-leak-check --no-pager -n 5\n\nExit codes: 0 clean; 1 a request for names can leave, or did; 2 could not look, or it is not recorded."
)]
struct Arguments {
    /// Print what was seen as JSON
    #[arg(long)]
    json: bool,
    /// Directory of the policy: loopback.yml and profiles/NAME.yml
    #[arg(long, value_name = "DIR", default_value = POLICY)]
    policy: PathBuf,
    /// Where the profiles service answers
    #[arg(long, value_name = "PATH", default_value = secai_api::profiles::SOCKET)]
    profiles: PathBuf,
    /// Where the audit daemon answers
    #[arg(long, value_name = "PATH", default_value = secai_api::audit::SOCKET)]
    audit: PathBuf,
    /// Directory below which etc/ and run/ are looked at
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

fn main() -> ExitCode {
    let Arguments { json, policy, profiles, audit, root } = Arguments::parse();
    run(json, &Places { policy, profiles, audit, root }).unwrap_or_else(|error| fail(&error))
}

fn run(json: bool, places: &Places) -> Result<ExitCode, CheckError> {
    places.confine()?;
    let (judged, seen) = places.look()?;
    let recorded = record(&places.audit, &judged);
    if json {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", as_json(&judged, &seen)).and_then(|()| out.flush())?;
    }
    if let Err(error) = &recorded {
        say(Priority::Error, &told(error));
    }
    let priority = match judged.verdict {
        Verdict::Clean if judged.findings.is_empty() => Priority::Info,
        Verdict::Clean | Verdict::Unclear => Priority::Warning,
        Verdict::Leak => Priority::Error,
    };
    // The last line: it is what a person is shown.
    say(priority, &judged.line);
    Ok(ExitCode::from(code(judged.verdict, recorded.is_ok())))
}

//! How a service says something: one way for all, on standard error, which systemd gives to the journal.
//!
//! Nothing a user wrote may be in it: the journal is no place for prompts.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

/// The exit code of a service that could not do its work (as of `verify-release`: it could not look).
pub const COULD_NOT: u8 = 2;
/// An error has no more causes than this; more of them would be a loop.
const CAUSES_MAX: usize = 16;

/// How much a line matters, as journald counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// It does not work.
    Error = 3,
    /// It works, but somebody should look.
    Warning = 4,
    /// So that one can see later.
    Info = 6,
}

/// An error that may know what to do about it.
pub trait Hint: Error {
    /// What to do, in one line.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Reports what the service failed of, with its causes and what to do; the exit code of `main`.
pub fn fail(error: &dyn Hint) -> ExitCode {
    say(Priority::Error, &told(error));
    ExitCode::from(COULD_NOT)
}

/// Writes lines to standard error.
pub fn say(priority: Priority, text: &str) {
    let text = lines(priority, text, to_journal());
    // Whoever closed standard error does not want to know.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// The words about an error.
pub fn told(error: &dyn Hint) -> String {
    let mut text = format!("error: {error}\n");
    let mut cause = error.source();
    for _ in 0..CAUSES_MAX {
        let Some(this) = cause else { break };
        let _ = writeln!(text, "  because: {this}");
        cause = this.source();
    }
    if let Some(hint) = error.hint() {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

fn lines(priority: Priority, text: &str, journal: bool) -> String {
    let mut out = String::new();
    for line in text.lines() {
        // Control characters could forge another line, or colour a terminal.
        let line: String = line.chars().map(|it| if it.is_control() { '\u{fffd}' } else { it }).collect();
        let _ = if journal { writeln!(out, "<{}>{line}", priority as u8) } else { writeln!(out, "{line}") };
    }
    out
}

/// Is standard error the journal's stream, and not something it was redirected to since?
fn to_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(std::io::stderr()).is_ok_and(|it| stream == format!("{}:{}", it.st_dev, it.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the settings are unreadable")]
    struct Outer(#[source] std::io::Error);
    impl Hint for Outer {
        fn hint(&self) -> Option<String> {
            Some("look at x.yml".into())
        }
    }

    #[test]
    fn an_error_has_its_causes_and_a_hint() {
        let text = told(&Outer(std::io::Error::other("no such\x1b[31m file")));
        assert_eq!(text, "error: the settings are unreadable\n  because: no such\x1b[31m file\nhint: look at x.yml\n");
        let plain = lines(Priority::Error, &text, false);
        assert!(plain.contains("because: no such\u{fffd}[31m file\n"), "{plain}");
        let journal = lines(Priority::Error, &text, true);
        assert!(journal.lines().count() == 3 && journal.lines().all(|line| line.starts_with("<3>")), "{journal}");
        assert_eq!(lines(Priority::Info, "up", true), "<6>up\n");
    }
}

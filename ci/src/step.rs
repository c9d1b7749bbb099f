//! Runs steps one after the other, times them, and says at the end what came out.

use std::fs;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::surroundings::Surroundings;

/// What a step answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Ran and found nothing wrong.
    Passed,
    /// Ran and found something wrong, or could not do what it is for.
    Failed(String),
    /// Could not run on this machine.
    Skipped(String),
}

/// A step: from the surroundings to an outcome.
pub type Step = Box<dyn FnOnce(&Surroundings) -> Outcome>;

/// What has been run so far.
#[derive(Default)]
pub struct Report {
    rows: Vec<(String, Duration, Outcome)>,
}

impl Report {
    /// Runs a step. A later one is run also when an earlier one failed: one run shows everything.
    pub fn take(&mut self, name: &str, here: &Surroundings, step: Step) {
        if self.rows.is_empty() {
            let _ = fs::remove_file(&here.skips);
        }
        eprintln!("== {name}");
        let start = Instant::now();
        let outcome = step(here);
        match &outcome {
            Outcome::Passed => {}
            Outcome::Failed(why) => eprintln!("{name}: {why}"),
            Outcome::Skipped(why) => eprintln!("SKIPPED: {name}: {why}"),
        }
        self.rows.push((name.to_owned(), start.elapsed(), outcome));
    }

    /// Prints the minutes of each step and counts skips on the last line.
    pub fn close(self, here: &Surroundings) -> ExitCode {
        let mut skips: Vec<String> = fs::read_to_string(&here.skips)
            .unwrap_or_default()
            .lines()
            .map(|line| line.replacen('\t', ": ", 1))
            .collect();
        let mut failed = Vec::new();
        let mut all = Duration::ZERO;
        eprintln!();
        for (name, took, outcome) in &self.rows {
            all += *took;
            let word = match outcome {
                Outcome::Passed => "passed",
                Outcome::Failed(_) => "FAILED",
                Outcome::Skipped(_) => "SKIPPED",
            };
            eprintln!("{name:>8}  {:>6} min  {word}", minutes(*took));
            match outcome {
                Outcome::Passed => {}
                Outcome::Failed(_) => failed.push(name.as_str()),
                Outcome::Skipped(why) => skips.push(format!("{name}: {why}")),
            }
        }
        if self.rows.len() > 1 {
            eprintln!("{:>8}  {:>6} min", "all", minutes(all));
        }
        for skip in &skips {
            eprintln!("SKIPPED: {skip}");
        }
        if here.in_ci && !skips.is_empty() {
            failed.push("skips, which CI does not allow");
        }
        let verdict = if failed.is_empty() { "passed".to_owned() } else { format!("FAILED: {}", failed.join(", ")) };
        eprintln!("ci: {verdict}; {} skipped", skips.len());
        if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn minutes(took: Duration) -> String {
    format!("{:.1}", took.as_secs_f64() / 60.0)
}

/// Runs a command with our own standard streams, so that its closing lines are seen.
pub fn run(command: &mut Command) -> Outcome {
    match command.status() {
        Ok(status) if status.success() => Outcome::Passed,
        Ok(status) => Outcome::Failed(format!("{}: {status}", shown(command))),
        Err(why) => Outcome::Failed(format!("{}: {why}", shown(command))),
    }
}

/// Runs one after the other, up to the first that does not pass.
pub fn run_all(commands: impl IntoIterator<Item = Command>) -> Outcome {
    for mut command in commands {
        match run(&mut command) {
            Outcome::Passed => {}
            other => return other,
        }
    }
    Outcome::Passed
}

/// A command as one would type it.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_and_stops_the_rest() {
        let mut failing = Command::new("sh");
        failing.args(["-c", "exit 3"]);
        let Outcome::Failed(why) = run_all([failing, Command::new("/nonexistent")]) else { panic!("passed") };
        assert!(why.starts_with("sh -c exit 3: ") && why.contains('3'), "{why}");
    }

    #[test]
    fn a_program_that_is_not_there_is_a_failure() {
        assert!(matches!(run(&mut Command::new("/nonexistent")), Outcome::Failed(_)));
    }
}

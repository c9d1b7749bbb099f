//! What a person sees while a stage runs: a line with a clock once it takes longer than a second, on a terminal
//! only; one line per finished stage. Everything goes to standard error: standard output is the result's.

use crate::stage::State;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Shorter stages come and go without a word.
const PATIENCE: Duration = Duration::from_secs(1);

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// Bars on a terminal, a line per stage.
    Normal,
    /// Nothing but errors.
    Quiet,
}

/// The stage that runs now.
#[derive(Debug)]
pub struct Stage {
    name: &'static str,
    bar: ProgressBar,
    start: Instant,
    voice: Voice,
}

impl Stage {
    /// Begins.
    pub fn begin(name: &'static str, voice: Voice) -> Stage {
        let bar = ProgressBar::hidden();
        let style = ProgressStyle::with_template("{prefix:>8} {spinner} {elapsed:>4} {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_prefix(name);
        if voice == Voice::Normal && std::io::stderr().is_terminal() {
            let late = bar.downgrade();
            std::thread::spawn(move || {
                std::thread::sleep(PATIENCE);
                if let Some(bar) = late.upgrade().filter(|b| !b.is_finished()) {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                    bar.enable_steady_tick(Duration::from_millis(120));
                }
            });
        }
        Stage { name, bar, start: Instant::now(), voice }
    }

    /// What it does now.
    pub fn say(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// A remark that stays.
    pub fn note(&self, what: &str) {
        if self.voice == Voice::Normal {
            self.bar.suspend(|| say_line(&format!("{:>8}   note: {what}", self.name)));
        }
    }

    /// Bytes done of all.
    pub fn bytes(&self, done: u64, total: u64) {
        const MIB: u64 = 1 << 20;
        self.bar.set_message(format!("fetching packages, {} of {} MiB", done.min(total) / MIB, total.div_ceil(MIB)));
    }

    /// Ends; returns the seconds it took.
    pub fn end(self, state: &State, what: &str) -> f64 {
        let seconds = self.start.elapsed().as_secs_f64();
        self.bar.finish_and_clear();
        if self.voice == Voice::Normal {
            let state = match state {
                State::Cached => "cached".to_owned(),
                State::Rebuilt(why) if why.is_empty() => format!("{seconds:.1} s"),
                State::Rebuilt(why) => format!("{seconds:.1} s ({})", shorten(why)),
            };
            let what = if what.is_empty() { String::new() } else { format!("; {what}") };
            say_line(&format!("{:>8}   {state}{what}", self.name));
        }
        seconds
    }
}

/// What a stage would do, for a plan.
pub fn foresee(name: &str, state: &State, voice: Voice) {
    if voice == Voice::Normal {
        match state {
            State::Cached => say_line(&format!("{name:>8}   cached")),
            State::Rebuilt(why) => say_line(&format!("{name:>8}   to be made ({})", shorten(why))),
        }
    }
}

/// A line for whoever listens; nobody listening is no failure.
fn say_line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A reason of at most a line.
fn shorten(text: &str) -> String {
    const CHARACTERS: usize = 100;
    if text.chars().count() <= CHARACTERS {
        return text.to_owned();
    }
    text.chars().take(CHARACTERS).chain(" …".chars()).collect()
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

//! `secaictl profile VERB`: which profile holds, what another would mean, and the change to it.
//!
//! It is the service that asks at the terminal, and reads what is typed there. This program opens the terminal, hands it
//! over and waits; it never reads a word itself.

mod ask;
mod terminal;

use crate::failure::Failure;
use crate::output::{Output, plain};
use ask::Asked;
pub use ask::{ProfilesError, Service};
use clap::{Args, Subcommand};
use secai_api::profiles::{Listed, Preview, Reply, Request, SOCKET, Shown, TYPING_LASTS};
use secai_daemon::report::{Priority, say};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Units take 30 seconds each at most, and whoever asks while a change is under way waits for it.
const WAIT_S: u64 = 120;

/// Words of the command line.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// Where the profiles service listens
    #[arg(long, global = true, display_order = 100, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
    /// How long to wait for the service; the time to type at the terminal is added
    #[arg(long, global = true, display_order = 100, value_name = "SECONDS", default_value_t = WAIT_S)]
    wait: u64,
}

/// What to do.
#[derive(Subcommand)]
enum Verb {
    /// Say which profile holds, and which there are
    #[command(after_help = "Example:\n  secaictl profile show --json")]
    Show,
    /// Say what a profile would mean: what could leave, what would start and stop
    #[command(after_help = "Example:\n  secaictl profile preview research")]
    Preview {
        /// Its name
        name: String,
    },
    /// Change to a profile, after its name was typed at the device's own terminal
    #[command(
        after_help = "Examples:\n  secaictl profile apply research\n  secaictl profile apply offline_private --json"
    )]
    Apply {
        /// Its name
        name: String,
        /// Use that of `preview --json`, at most two minutes old; without it a preview is made and shown first
        #[arg(long, value_name = "TOKEN")]
        token: Option<String>,
    },
}

impl Arguments {
    /// Does it; the exit code is the answer.
    pub fn run(self, output: &mut Output) -> Result<ExitCode, Failure> {
        let wait = Duration::from_secs(self.wait);
        let mut service = Service::reach(&self.socket)?;
        match self.verb {
            Verb::Show => match service.ask(Request::Show {}, None, wait)? {
                Reply::Shown(shown) => output.line(|| of_shown(&shown), || value(&shown))?,
                _ => return Err(ProfilesError::Garbled.into()),
            },
            Verb::Preview { name } => {
                let preview = service.preview(&name, wait)?;
                output.line(|| of_preview(&preview), || value(&preview))?;
            }
            Verb::Apply { name, token } => apply(&mut service, name, token, wait, output)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Service {
    fn preview(&mut self, name: &str, wait: Duration) -> Asked<Preview> {
        match self.ask(Request::Preview { profile: name.to_owned() }, None, wait)? {
            Reply::Previewed(preview) if preview.to == name => Ok(preview),
            _ => Err(ProfilesError::Garbled),
        }
    }
}

fn apply(
    service: &mut Service,
    name: String,
    token: Option<String>,
    wait: Duration,
    output: &mut Output,
) -> Result<(), Failure> {
    let token = match token {
        Some(token) => token,
        None => {
            let preview = service.preview(&name, wait)?;
            if !output.json {
                output.line(|| of_preview(&preview), || Value::Null)?;
                output.flush()?;
            }
            preview.token
        }
    };
    let terminal = terminal::own();
    let wait = match &terminal {
        Some(_) => {
            say(Priority::Info, "waiting for the service, which asks for the profile's name at this terminal");
            wait.saturating_add(TYPING_LASTS)
        }
        None => {
            say(Priority::Info, "no terminal to be asked at: this is done only if the operator allows it");
            wait
        }
    };
    let request = Request::Apply { profile: name.clone(), token };
    match service.ask(request, terminal.as_ref(), wait)? {
        Reply::Applied { profile, digest, ends_after_s } if profile == name => output.line(
            || of_held(&profile, &digest, ends_after_s),
            || json!({"profile": profile, "digest": digest, "ends_after_s": ends_after_s}),
        )?,
        _ => return Err(ProfilesError::Garbled.into()),
    }
    Ok(())
}

fn value(reply: &impl serde::Serialize) -> Value {
    serde_json::to_value(reply).unwrap_or_default()
}

fn of_held(profile: &str, digest: &str, ends_after_s: Option<u64>) -> String {
    let mut text = format!("{} holds; its rules are {}", plain(profile), plain(digest));
    if let Some(seconds) = ends_after_s {
        text.push_str(&format!("\nit ends by itself in {}", minutes(seconds)));
    }
    text
}

fn minutes(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        _ => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

fn of_shown(shown: &Shown) -> String {
    let mut text = of_held(&shown.profile, &shown.digest, shown.ends_after_s);
    if shown.restored > 0 {
        text.push_str(&format!(
            "\nits rules were changed by others and loaded again, so many times: {}",
            shown.restored
        ));
    }
    shown.troubles.iter().for_each(|it| text.push_str(&format!("\ntrouble: {}", plain(it))));
    let names = shown.profiles.iter().map(|it| plain(&it.name));
    let width = names.map(|it| it.chars().count()).max().unwrap_or_default();
    for Listed { name, about, lacks } in &shown.profiles {
        let here = if *name == shown.profile { '*' } else { ' ' };
        text.push_str(&format!("\n{here} {:<width$}  {}", plain(name), plain(about)));
        if !lacks.is_empty() {
            text.push_str(&format!("; this image lacks {}", listed(lacks)));
        }
    }
    text
}

fn listed(words: &[String]) -> String {
    words.iter().map(|it| plain(it)).collect::<Vec<_>>().join(", ")
}

fn of_preview(preview: &Preview) -> String {
    let (from, to) = (plain(&preview.from), plain(&preview.to));
    let mut text = match preview.from == preview.to {
        true => format!("{to} holds already; its rules are {}", plain(&preview.digest)),
        false => format!("{from} -> {to}; its rules are {}", plain(&preview.digest)),
    };
    let mut say = |word: &str, what: &str| text.push_str(&format!("\n  {word:<11}{what}"));
    match preview.leaves.is_empty() {
        true => say("leaves", "nothing leaves this machine"),
        false => preview.leaves.iter().for_each(|it| say("may leave", &plain(it))),
    }
    preview.ends.iter().for_each(|it| say("no longer", &plain(it)));
    match preview.loosens {
        true => say("loosens", "something may leave that may not now"),
        false => say("loosens", "nothing"),
    }
    preview.starts.iter().for_each(|it| say("starts", &plain(it)));
    preview.stops.iter().for_each(|it| say("stops", &plain(it)));
    match preview.expires_after_minutes {
        Some(minutes) => say("ends", &format!("by itself after {minutes} minutes")),
        None => say("ends", "not by itself"),
    }
    preview.told.iter().for_each(|it| say("know", &plain(it)));
    text
}

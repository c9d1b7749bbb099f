//! `secai-firewall apply`: has a profile hold. `link`: gives each link its chain. `check`: which holds. `show`: what would be loaded.

use clap::{Args, Parser, Subcommand};
use secai_daemon::report::{COULD_NOT, Hint, Priority, fail, say, told};
use secai_firewall::act::{self, ActError, Done, Turn};
use secai_firewall::config::{ConfigError, Image, POLICY, RULES};
use secai_firewall::decide::{Live, known_by};
use secai_firewall::programs::{ProgramError, listed, listed_packets};
use secai_firewall::second::agree;
use secai_verifier::network::bind::bind;
use secai_verifier::network::links::LinksError;
use secai_verifier::network::normal::LINK;
use secai_verifier::network::profile::STRICTEST;
use secai_verifier::network::refusal::NetworkRefusal;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Where runs take turns.
const RUN: &str = "/run/secure-ai";

/// Loads the rules of a profile, and says which hold.
#[derive(Parser)]
#[command(name = "secai-firewall", version, about)]
#[command(
    after_help = "Exit codes: 0 done, or as the profile says; 1 the rules that there are are not a profile's; 2 could not do it: what holds then is stricter than what was asked for."
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// Print the result as JSON
    #[arg(long, global = true, display_order = 101)]
    json: bool,
    /// Directory of the policy: loopback.yml and profiles/NAME.yml
    #[arg(long, value_name = "DIR", default_value = POLICY, global = true, display_order = 102)]
    policy: PathBuf,
    /// Directory of the rules: NAME.nft
    #[arg(long, value_name = "DIR", default_value = RULES, global = true, display_order = 103)]
    rules: PathBuf,
    /// Directory in which runs take turns
    #[arg(long, value_name = "DIR", default_value = RUN, global = true, display_order = 104)]
    run: PathBuf,
}

#[derive(Subcommand)]
enum Verb {
    /// Have a profile hold: its rules, a chain for each link, links up or down
    #[command(after_help = "Example:\n  secai-firewall apply --profile research")]
    Apply(Profile),
    /// Give each link its chain under the profile that holds; a link without one stays down
    #[command(after_help = "Example:\n  secai-firewall link")]
    Link,
    /// Say which profile holds, proven from the rules that there are
    #[command(after_help = "Example:\n  secai-firewall check --json")]
    Check,
    /// Print what would be loaded, with 0x00000000 for the mark
    #[command(after_help = "Example:\n  secai-firewall show --profile full_lab --link eth0")]
    Show(Show),
}

#[derive(Args)]
struct Profile {
    /// Its name
    #[arg(long, value_name = "NAME", default_value = STRICTEST)]
    profile: String,
}

#[derive(Args)]
struct Show {
    /// Its name
    #[arg(long, value_name = "NAME", default_value = STRICTEST)]
    profile: String,
    /// For these links; none: as shipped, for one named LINK
    #[arg(long = "link", value_name = "DEV")]
    links: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Act(#[from] ActError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Links(#[from] LinksError),
    #[error("cannot write the result")]
    Output(#[from] std::io::Error),
}

impl Hint for Failure {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Act(error) => error.hint(),
            Self::Config(error) => error.hint(),
            Self::Program(_) => Some("install nftables and iproute2; run this as root".to_owned()),
            Self::Links(_) | Self::Output(_) => None,
        }
    }
}

fn main() -> ExitCode {
    Arguments::parse().run().unwrap_or_else(|failure| fail(&failure))
}

impl Arguments {
    fn run(self) -> Result<ExitCode, Failure> {
        let image = Image { policy: self.policy, rules: self.rules };
        match self.verb {
            Verb::Apply(Profile { profile }) => {
                let turn = Turn::take(&self.run);
                // Closing waits for nobody: of two runs that load the strictest rules, or one of them, either may be last.
                let _turn = match turn {
                    Err(error) if profile == STRICTEST => {
                        say(Priority::Warning, &told(&error));
                        None
                    }
                    turn => Some(turn?),
                };
                told_of(&image, &act::apply(&image, &profile), self.json)
            }
            Verb::Link => {
                let _turn = Turn::take(&self.run)?;
                told_of(&image, &act::link(&image), self.json)
            }
            Verb::Check => {
                let _turn = Turn::take(&self.run)?;
                check(&image, self.json)
            }
            Verb::Show(show) => {
                let shipped = image.profile(&show.profile)?;
                let names: Vec<&str> = match show.links.as_slice() {
                    [] => vec![LINK],
                    names => names.iter().map(String::as_str).collect(),
                };
                let text = bind(&shipped.rules, 0, names).to_string();
                match self.json {
                    true => print(&format!(
                        "{}\n",
                        json!({"profile": show.profile, "digest": known_by(&shipped).to_string(), "rules": text})
                    ))?,
                    false => print(&text)?,
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn told_of(image: &Image, done: &Done, as_json: bool) -> Result<ExitCode, Failure> {
    let shipped = done.holds.as_deref().and_then(|name| image.profile(name).ok());
    let digest = shipped.map(|shipped| known_by(&shipped).to_string());
    if let Some(why) = &done.instead {
        say(Priority::Error, &told(why));
    }
    match as_json {
        true => print(&format!(
            "{}\n",
            json!({
                "profile": done.holds, "digest": digest, "links": done.links,
                "instead": done.instead.as_ref().map(ToString::to_string), "closed": done.closed,
            })
        ))?,
        false => print(&match &done.holds {
            Some(name) => format!("{name} holds, on {}\n", of_links(&done.links)),
            None if done.closed => "no profile holds: nothing goes anywhere\n".to_owned(),
            None => "no profile holds, and nobody can say what goes where\n".to_owned(),
        })?,
    }
    Ok(if done.instead.is_none() { ExitCode::SUCCESS } else { ExitCode::from(COULD_NOT) })
}

fn of_links(links: &[String]) -> String {
    match links {
        [] => "a machine without links".to_owned(),
        links => links.join(", "),
    }
}

fn check(image: &Image, as_json: bool) -> Result<ExitCode, Failure> {
    let (rules, links) = listed()?;
    let live = Live::read(&rules, &links)?;
    let all = image.profiles()?;
    let holds = live.holds(&all);
    let refusals = match holds {
        Some(shipped) => {
            let mut refusals = live.proven(shipped).err().unwrap_or_default();
            // What is no profile's is refused as it is.
            if let Ok(read) = &live.rules
                && let Err(difference) = agree(read, &listed_packets()?)
            {
                refusals.push(NetworkRefusal::ReadersDisagree { difference });
            }
            refusals
        }
        None => {
            let others = || "they are the rules of no profile of this image".to_owned();
            let reason = live.rules.as_ref().err().map_or_else(others, ToString::to_string);
            vec![NetworkRefusal::RulesetForeign { reason }]
        }
    };
    let name = holds.map(|shipped| shipped.page.name.as_str());
    let verdict = if refusals.is_empty() { "proven" } else { "refused" };
    if as_json {
        let told: Vec<Value> = refusals.iter().map(|it| json!({"name": it.name(), "detail": it.to_string()})).collect();
        let whole = json!({
            "verdict": verdict, "profile": name, "digest": holds.map(|it| known_by(it).to_string()), "refusals": told,
            "ruleset": String::from_utf8_lossy(&rules), "links": String::from_utf8_lossy(&links),
        });
        print(&format!("{whole}\n"))?;
    } else {
        let of = name.unwrap_or("no profile");
        let names: Vec<String> = live.links.0.keys().cloned().collect();
        let mut text = format!("{verdict}: {of}, on {}\n", of_links(&names));
        refusals.iter().for_each(|it| text.push_str(&format!("    {}: {it}\n", it.name())));
        print(&text)?;
    }
    Ok(if refusals.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The one place that writes results.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush())?)
}

//! `secai-firewall`, which loads rules and says which hold.

use serde::Deserialize;
use std::path::PathBuf;
use std::process::Command;

/// Where an image has it.
pub const PROGRAM: &str = "/usr/libexec/secure-ai/secai-firewall";

/// Why nothing is known of the rules.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// It cannot be started.
    #[error("cannot run {}", program.display())]
    Start {
        /// Which.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It said nothing that can be read.
    #[error("secai-firewall {verb} could not do it: {said}")]
    Failed {
        /// What it was asked.
        verb: String,
        /// What it said.
        said: String,
    },
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Held {
    /// The profile whose rules hold; none: nothing goes anywhere.
    pub profile: Option<String>,
    /// Normal form of these rules.
    pub digest: Option<String>,
    /// Why it is another one than was asked for.
    pub instead: Option<String>,
    /// If so: does the strictest one hold, or nothing go anywhere? Else nobody can say.
    pub closed: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Checked {
    /// `proven` or `refused`.
    pub verdict: String,
    /// The profile that the table of packets is of.
    pub profile: Option<String>,
    /// What is wrong.
    pub refusals: Vec<Refused>,
    /// The output of `nft list ruleset`.
    pub ruleset: String,
    /// The output of `ip -j link`.
    pub links: String,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Refused {
    /// As `verify-release explain` knows it.
    pub name: String,
    /// In words.
    pub detail: String,
}

impl Checked {
    /// Do the rules of this profile hold, as its page promises?
    pub fn is(&self, profile: &str) -> bool {
        self.verdict == "proven" && self.profile.as_deref() == Some(profile)
    }
}

/// The program, with where the image is.
#[derive(Debug, Clone)]
pub struct Firewall {
    /// Itself.
    pub program: PathBuf,
    /// Words that each run has: folders of another image, for tests.
    pub words: Vec<String>,
}

impl Firewall {
    /// Has a profile's rules hold, or stricter ones.
    ///
    /// # Errors
    /// [`FirewallError`].
    pub fn apply(&self, profile: &str) -> Result<Held, FirewallError> {
        self.ask(&["apply", "--profile", profile])
    }

    /// Gives each link its chain, under the profile that holds.
    ///
    /// # Errors
    /// [`FirewallError`].
    pub fn link(&self) -> Result<Held, FirewallError> {
        self.ask(&["link"])
    }

    /// Looks.
    ///
    /// # Errors
    /// [`FirewallError`].
    pub fn check(&self) -> Result<Checked, FirewallError> {
        self.ask(&["check"])
    }

    fn ask<T: for<'a> Deserialize<'a>>(&self, verb: &[&str]) -> Result<T, FirewallError> {
        let mut command = Command::new(&self.program);
        command.args(verb).arg("--json").args(&self.words).env_clear().current_dir("/");
        let output =
            command.output().map_err(|source| FirewallError::Start { program: self.program.clone(), source })?;
        serde_json::from_slice(&output.stdout).map_err(|_| FirewallError::Failed {
            verb: verb.join(" "),
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

//! What an image ships: the pages of its profiles, and the rules of each as they were proven when it was made.

use secai_daemon::report::Hint;
use secai_verifier::files::{Fault, load, load_profiles};
use secai_verifier::network::normal::normal;
use secai_verifier::network::parse::{ParseError, TEXT_BYTES_MAX, parse};
use secai_verifier::network::profile::{Loopback, Profile, Profiles};
use secai_verifier::network::rules::Ruleset;
use std::path::PathBuf;

/// Where an image has its policy.
pub const POLICY: &str = "/usr/lib/secure-ai/policy";
/// Where it has the rules of each profile: `NAME.nft`.
pub const RULES: &str = "/usr/lib/secure-ai/firewall";

/// Why the rules of a profile cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A page or a file of rules cannot be read.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// There is no page of this name.
    #[error("there is no profile `{0}`")]
    Unknown(String),
    /// The shipped text is none.
    #[error("{} cannot be read as rules", path.display())]
    Text {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: ParseError,
    },
    /// The shipped text holds a mark or a link of some device.
    #[error("{} is not in the form in which rules are shipped", path.display())]
    NotNormal {
        /// Which.
        path: PathBuf,
    },
}

impl Hint for ConfigError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown(_) => Some("`secaictl profile show` lists those that there are".to_owned()),
            Self::Fault(fault) => fault.hint().map(str::to_owned),
            _ => Some("an image has them as they were built: verify it with `verify-release`".to_owned()),
        }
    }
}

/// The folders of an image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Of the policy.
    pub policy: PathBuf,
    /// Of the rules.
    pub rules: PathBuf,
}

/// Everything that is needed of one profile.
#[derive(Debug, Clone)]
pub struct Shipped {
    /// Its page.
    pub page: Profile,
    /// Its rules, in their normal form.
    pub rules: Ruleset,
    /// The page of loopback.
    pub loopback: Loopback,
}

impl Image {
    /// Every page.
    ///
    /// # Errors
    /// [`ConfigError::Fault`].
    pub fn pages(&self) -> Result<(Profiles, Loopback), ConfigError> {
        Ok(load_profiles(&self.policy)?)
    }

    /// One profile.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn profile(&self, name: &str) -> Result<Shipped, ConfigError> {
        let (profiles, loopback) = self.pages()?;
        let page = profiles.get(name).ok_or_else(|| ConfigError::Unknown(name.to_owned()))?.clone();
        let path = self.rules.join(format!("{name}.nft"));
        let too_large = |_| ParseError::TooLarge(TEXT_BYTES_MAX + 1);
        let read = load(&path, TEXT_BYTES_MAX as u64)?.map_err(too_large).and_then(|bytes| parse(&bytes));
        let rules = read.map_err(|source| ConfigError::Text { path: path.clone(), source })?;
        if normal(&rules) != rules {
            return Err(ConfigError::NotNormal { path });
        }
        Ok(Shipped { page, rules, loopback })
    }

    /// Every profile whose rules can be had.
    ///
    /// # Errors
    /// [`ConfigError::Fault`] where the pages cannot.
    pub fn profiles(&self) -> Result<Vec<Shipped>, ConfigError> {
        let (pages, _) = self.pages()?;
        Ok(pages.iter().filter_map(|page| self.profile(&page.name).ok()).collect())
    }
}

//! What the image ships: the pages of its profiles, from which it is known what rules each has.

use secai_verifier::files::{Fault, load_profiles};
use secai_verifier::network::bind::shipped;
use secai_verifier::network::profile::{Loopback, Profile};
use secai_verifier::network::rules::Ruleset;
use std::path::Path;

/// Where an image has its policy.
pub const POLICY: &str = "/usr/lib/secure-ai/policy";

/// A profile, and its rules in their normal form.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its page.
    pub page: Profile,
    /// Its rules, composed from the page.
    pub rules: Ruleset,
}

/// Everything that rules are compared with.
#[derive(Debug, Clone)]
pub struct Image {
    /// Every profile.
    pub profiles: Vec<Known>,
    /// The page of loopback.
    pub loopback: Loopback,
}

impl Image {
    /// Reads the policy.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn read(policy: &Path) -> Result<Self, Fault> {
        let (pages, loopback) = load_profiles(policy)?;
        let known = |page: &Profile| Known { page: page.clone(), rules: shipped(page, &loopback) };
        Ok(Self { profiles: pages.iter().map(known).collect(), loopback })
    }
}

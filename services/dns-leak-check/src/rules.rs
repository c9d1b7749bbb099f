//! What the live rules are, and whether they let a request for names out: pure, from nft's text.

use crate::config::Image;
use secai_api::profiles::Evidence;
use secai_verifier::network::bind::holds;
use secai_verifier::network::compose::DNS_REFUSED;
use secai_verifier::network::links::Links;
use secai_verifier::network::names::names_that_leave;
use secai_verifier::network::normal::normal;
use secai_verifier::network::parse::parse;
use secai_verifier::network::prove::prove;
use secai_verifier::network::rules::Ruleset;

/// What the rules are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rules {
    /// Those of this profile, proven against its page.
    Proven {
        /// Its name.
        profile: String,
    },
    /// Others.
    Other {
        /// The profile whose table of packets this is all the same: then it is the links that are not as they should be.
        profile: Option<String>,
        /// What is wrong.
        why: String,
        /// What they do with requests for names.
        names: Names,
    },
    /// Nobody said.
    Unknown {
        /// Why.
        why: String,
    },
}

/// What rules do with requests for names, whosever they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// None can begin on any link that is up.
    Closed,
    /// These can.
    Leave(Vec<String>),
    /// The rules cannot be followed.
    Unclear(String),
}

impl Rules {
    /// The profile whose rules these are.
    pub fn profile(&self) -> Option<&str> {
        match self {
            Self::Proven { profile } => Some(profile),
            Self::Other { profile, .. } => profile.as_deref(),
            Self::Unknown { .. } => None,
        }
    }
}

/// Rules and links at one moment.
#[derive(Debug, Clone)]
pub struct Live {
    rules: Result<Ruleset, String>,
    links: Links,
}

impl Live {
    /// From what the profiles service told, and the names of the links that there are on the kernel's word (loopback is
    /// none of them). Of the service's list it is only taken which of them are down; one that it leaves out is up.
    ///
    /// # Errors
    /// Its list of links is none, in words.
    pub fn read(told: &Evidence, there: &[String]) -> Result<Self, String> {
        let listed = Links::parse(told.links.as_bytes()).map_err(|error| error.to_string())?;
        let is_up = |name: &String| listed.0.get(name).copied().unwrap_or(true);
        let links = Links(there.iter().map(|name| (name.clone(), is_up(name))).collect());
        Ok(Self { rules: parse(told.ruleset.as_bytes()).map_err(|error| error.to_string()), links })
    }

    /// The links, each with whether it is up.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// How many requests for names were refused so far; none where these rules do not count them.
    pub fn refused(&self) -> Option<u64> {
        let rules = self.rules.as_ref().ok()?;
        rules.inet.counters.get(DNS_REFUSED).map(|(packets, _)| *packets)
    }

    /// Are these the same rules, counts and marks aside?
    pub fn is_as(&self, other: &Self) -> bool {
        match (&self.rules, &other.rules) {
            (Ok(one), Ok(two)) => normal(one) == normal(two),
            (one, two) => one.is_err() && two.is_err(),
        }
    }

    /// What they are. The profile is the one whose rules the table of packets is: nobody's word counts.
    pub fn judge(&self, image: &Image) -> Rules {
        let rules = match &self.rules {
            Ok(rules) => rules,
            Err(why) => {
                return Rules::Other { profile: None, why: why.clone(), names: Names::Unclear(why.clone()) };
            }
        };
        let Some(known) = image.profiles.iter().find(|known| holds(rules, &known.rules)) else {
            let why = "they are the rules of no profile of this image".to_owned();
            return Rules::Other { profile: None, why, names: self.names(rules) };
        };
        let profile = known.page.name.clone();
        match prove(rules, &self.links, &known.page, &image.loopback) {
            Ok(_) => Rules::Proven { profile },
            Err(refusals) => {
                let why = refusals.first().map(ToString::to_string).unwrap_or_default();
                Rules::Other { profile: Some(profile), why, names: self.names(rules) }
            }
        }
    }

    /// On a link that is down nothing leaves, whatever the rules are.
    fn names(&self, rules: &Ruleset) -> Names {
        let up = Links(self.links.0.iter().filter(|(_, up)| **up).map(|(name, up)| (name.clone(), *up)).collect());
        match names_that_leave(rules, &up) {
            Ok(none) if none.is_empty() => Names::Closed,
            Ok(leave) => Names::Leave(leave.iter().map(ToString::to_string).collect()),
            Err(why) => Names::Unclear(why.to_string()),
        }
    }
}

//! What the service reads when it begins: the profiles of the image, who may ask, and what the operator allows.

use secai_daemon::report::Hint;
use secai_verifier::files::{Fault, load, load_profiles};
use secai_verifier::network::bind::bind;
use secai_verifier::network::bind::shipped;
use secai_verifier::network::links::Links;
use secai_verifier::network::normal::{LINK, digest};
use secai_verifier::network::profile::{Loopback, Profile};
use secai_verifier::network::prove::prove;
use secai_verifier::service::{PAGE_BYTES_MAX, Service, ServiceError, Uids};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where an image has its policy.
pub const POLICY: &str = "/usr/lib/secure-ai/policy";
/// This service's own page.
pub const PAGE: &str = "/usr/lib/secure-ai/services/profiles.yml";
/// What the operator of the device allows; absent on most.
pub const OPERATOR: &str = "/etc/secure-ai/operator.yml";

/// Why the service cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A page cannot be read.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// This service's page is none.
    #[error("{} is no page of a service", path.display())]
    Page {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: ServiceError,
    },
    /// The rules of a page are not what it promises.
    #[error("the rules of {0} are not what its page promises")]
    NotProven(String),
}

impl Hint for ConfigError {
    fn hint(&self) -> Option<String> {
        Some(format!("an image has its policy in {POLICY}, a checkout in manifests/policy: --policy"))
    }
}

/// Why what the operator wrote is not taken; nothing is allowed then.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// It cannot be read.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// It is not what is expected.
    #[error("{OPERATOR} is not what is expected: {0}")]
    Shape(#[from] serde_yaml::Error),
    /// It names a profile that there is not, or nobody.
    #[error("{OPERATOR}: {0}")]
    Value(String),
}

/// A profile, and what its rules mean.
#[derive(Debug, Clone)]
pub struct Meant {
    /// Its page.
    pub page: Profile,
    /// Normal form of its rules.
    pub digest: secai_verifier::digest::Digest,
    /// Who may send what where, from the model of its rules.
    pub leaves: Vec<String>,
}

/// Every profile of the image, by name; and who may open which port on loopback.
#[derive(Debug, Clone)]
pub struct Policy {
    profiles: BTreeMap<String, Meant>,
    loopback: Loopback,
}

impl Policy {
    /// Reads the pages, and asks the model of the rules of each what they mean.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(folder: &Path) -> Result<Self, ConfigError> {
        let (profiles, loopback) = load_profiles(folder)?;
        let links = Links([(LINK.to_owned(), true)].into());
        let meant = |page: &Profile| {
            let rules = shipped(page, &loopback);
            let proven = prove(&bind(&rules, 1, [LINK]), &links, page, &loopback);
            let proven = proven.map_err(|_| ConfigError::NotProven(page.name.clone()))?;
            let leaves = proven.sends.iter().map(ToString::to_string).collect();
            Ok((page.name.clone(), Meant { page: page.clone(), digest: digest(&rules), leaves }))
        };
        let profiles = profiles.iter().map(meant).collect::<Result<_, ConfigError>>()?;
        Ok(Self { profiles, loopback })
    }

    /// One by its name.
    pub fn get(&self, name: &str) -> Option<&Meant> {
        self.profiles.get(name)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Meant> {
        self.profiles.values()
    }

    /// Who may open which port on loopback.
    pub fn loopback(&self) -> &Loopback {
        &self.loopback
    }
}

/// Reads this service's page: who may ask what.
///
/// # Errors
/// [`ConfigError`].
pub fn page(path: &Path) -> Result<Service, ConfigError> {
    let of = |source| ConfigError::Page { path: path.to_owned(), source };
    let bytes = load(path, PAGE_BYTES_MAX as u64)?.map_err(|_| of(ServiceError::TooLarge(PAGE_BYTES_MAX + 1)))?;
    Service::parse(&bytes).map_err(of)
}

/// What the operator allows without a person at the terminal: `unattended: [{uids: [1000], profiles: [offline_private]}]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// Users, and the profiles that they may change to by themselves.
    #[serde(default)]
    unattended: Vec<Unattended>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unattended {
    uids: Vec<Uids>,
    profiles: Vec<String>,
}

impl Operator {
    /// Reads what the operator wrote; nothing where there is no file.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn read(path: &Path, policy: &Policy) -> Result<Self, OperatorError> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let too_large = |_| OperatorError::Value(format!("more than {PAGE_BYTES_MAX} bytes"));
        Self::parse(&load(path, PAGE_BYTES_MAX as u64)?.map_err(too_large)?, policy)
    }

    /// The same from bytes.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn parse(bytes: &[u8], policy: &Policy) -> Result<Self, OperatorError> {
        let operator: Self = serde_yaml::from_slice(bytes)?;
        for one in &operator.unattended {
            if one.uids.is_empty() || one.profiles.is_empty() {
                return Err(OperatorError::Value("an entry without users, or without profiles".to_owned()));
            }
            if let Some(name) = one.profiles.iter().find(|name| policy.get(name).is_none()) {
                return Err(OperatorError::Value(format!("there is no profile `{name}`")));
            }
        }
        Ok(operator)
    }

    /// May this user change to this profile without a person at the terminal?
    pub fn allows(&self, uid: u32, profile: &str) -> bool {
        self.unattended
            .iter()
            .any(|one| one.uids.iter().any(|it| it.contains(uid)) && one.profiles.iter().any(|it| it == profile))
    }
}

//! The pages of the services (`manifests/services/NAME.yml`): who exists and who may ask what.

use secai_daemon::report::Hint;
use secai_verifier::service::{PAGE_BYTES_MAX, Service, ServiceError, Services};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where an image has them.
pub const PAGES: &str = "/usr/lib/secure-ai/services";
/// Services of a device; more are no device of ours.
const PAGES_MAX: usize = 64;

/// Why the pages are not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or folder that cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// A page that is none.
    #[error("{} is no page of a service", path.display())]
    Page {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: ServiceError,
    },
    /// Pages that do not hold together.
    #[error("the pages in {} do not hold together", path.display())]
    Together {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        cause: ServiceError,
    },
    /// None of them is the audit daemon's own.
    #[error("{} has no page of this service, or too many pages", path.display())]
    Incomplete {
        /// Where.
        path: PathBuf,
    },
}

impl Hint for ConfigError {
    fn hint(&self) -> Option<String> {
        Some(format!("an image has them in {PAGES}, a checkout in manifests/services: --pages"))
    }
}

/// Reads every `*.yml` of a folder.
///
/// # Errors
/// [`ConfigError`].
pub fn read(folder: &Path) -> Result<Services, ConfigError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        |cause| ConfigError::Unreadable { path, cause }
    };
    let incomplete = || ConfigError::Incomplete { path: folder.to_owned() };
    let mut pages = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        if path.extension().is_none_or(|ending| ending != "yml") {
            continue;
        }
        let mut bytes = Vec::new();
        let file = fs::File::open(&path).map_err(unreadable(&path))?;
        file.take(PAGE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable(&path))?;
        pages.push(Service::parse(&bytes).map_err(|cause| ConfigError::Page { path, cause })?);
        if pages.len() > PAGES_MAX {
            return Err(incomplete());
        }
    }
    let services = Services::new(pages).map_err(|cause| ConfigError::Together { path: folder.to_owned(), cause })?;
    services.named(crate::writer::OWN_NAME).ok_or_else(incomplete)?;
    Ok(services)
}

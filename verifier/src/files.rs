//! Opens files: a bundle's and a trust directory's, a folder's of evidence, a device's. Beside this only `audit::store`
//! does, an audit chain's.
//!
//! A bundle must not change while it is judged; links are never followed inside it.

mod committed;
mod evidence;
mod root;

pub use evidence::{chain_of, load_evidence};
pub use root::load_root;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::audit::checkpoint::{NamedKey, Note, NoteError, VerifierKey};
use crate::audit::cosignature::CosignerKey;
use crate::audit::python_hmac_chain::{KEY_BYTES, Key};
use crate::claims::{self, Claims, ClaimsError};
use crate::layout::{BLOBS_DIR, CERTIFICATE_ENDING, CHAIN_KEY_ENDING, DIRS, PUBLIC_KEY_ENDING, ROLES};
use crate::limits::{BUNDLE_FILES_MAX, TRUST_FILE_BYTES_MAX, TRUST_FILES_MAX};
use crate::network::profile::{Loopback, PAGE_BYTES_MAX, Profile, ProfileError, Profiles, is_profile_name};
use crate::openpgp::Certificate;
use crate::refusal::Refusal;
use crate::trust::{PublicKey, RolesFile, Trust, TrustError};

/// Why nothing could be judged: what lies outside the input. Never a refusal.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A path cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A bundle or trust directory is something else.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// Which.
        path: PathBuf,
    },
    /// Trust cannot be used.
    #[error("cannot use {} as trust", path.display())]
    Trust {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: TrustError,
    },
    /// A kept checkpoint is none.
    #[error("cannot use {} as a kept checkpoint", path.display())]
    Checkpoint {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: NoteError,
    },
    /// The key of a log of another program is none.
    #[error("cannot use {} as the key of a log", path.display())]
    LogKey {
        /// Which file.
        path: PathBuf,
    },
    /// Far more files than a trust directory has.
    #[error("{} holds more than {TRUST_FILES_MAX} keys and certificates", path.display())]
    TrustTooLarge {
        /// Which directory.
        path: PathBuf,
    },
    /// A page of the policy cannot be used.
    #[error("cannot use {} as a page of the policy", path.display())]
    Policy {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: ProfileError,
    },
    /// The page of claims cannot be used.
    #[error("cannot use {} as the page of claims", path.display())]
    Claims {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: ClaimsError,
    },
    /// The clock is before 1970 or after 9999.
    #[error("this machine's clock shows no usable time")]
    Clock,
}

impl Fault {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("check the path; nothing was judged")
            }
            Self::Unreadable { .. } => Some("check permissions and the medium; nothing was judged"),
            Self::NotADirectory { .. } => Some(
                "give the directory that holds SHA256SUMS and release.json, or seg/ and checkpoint; for --trust the one that holds keys",
            ),
            Self::Trust { .. } | Self::TrustTooLarge { .. } => Some(
                "a trust directory holds roles.yml, a .pub file for every key it names, and .asc certificates; for audit chains .vkey files; a witness's key is given with --witness",
            ),
            Self::Checkpoint { .. } => {
                Some("give the file exactly as it was kept: three lines, a blank one, and signatures")
            }
            Self::LogKey { .. } => {
                Some("it is a regular file of 32 to 4096 bytes that only its owner may write, and no link")
            }
            Self::Policy { .. } => {
                Some("give the directory that holds loopback.yml and profiles/NAME.yml as they came with the release")
            }
            Self::Claims { .. } => Some("give claims.yml as it came with the release"),
            Self::Clock => Some("set the clock, or give the time with --assume-now"),
        }
    }

    pub(crate) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Unreadable { path: path.to_owned(), source }
    }
}

/// A bundle's files by name and size; none is open.
#[derive(Debug)]
pub struct Bundle {
    root: PathBuf,
    files: BTreeMap<String, u64>,
    refusals: Vec<Refusal>,
}

impl Bundle {
    /// Lists a bundle's directory. What does not belong there is remembered as refusals.
    pub fn list(root: &Path) -> Result<Self, Fault> {
        if !std::fs::metadata(root).map_err(Fault::unreadable(root))?.is_dir() {
            return Err(Fault::NotADirectory { path: root.to_owned() });
        }
        let mut bundle = Self { root: root.to_owned(), files: BTreeMap::new(), refusals: Vec::new() };
        bundle.list_into("")?;
        bundle.refusals.sort_by_key(ToString::to_string);
        Ok(bundle)
    }

    fn list_into(&mut self, prefix: &str) -> Result<(), Fault> {
        let directory = self.root.join(prefix);
        for entry in std::fs::read_dir(&directory).map_err(Fault::unreadable(&directory))? {
            let entry = entry.map_err(Fault::unreadable(&directory))?;
            let metadata = std::fs::symlink_metadata(entry.path()).map_err(Fault::unreadable(&entry.path()))?;
            let name = entry.file_name();
            let separator = if prefix.is_empty() { "" } else { "/" };
            let path = format!("{prefix}{separator}{}", name.to_string_lossy());
            if self.files.len() + self.refusals.len() >= BUNDLE_FILES_MAX {
                self.refusals.push(Refusal::UnexpectedFile { path });
                return Ok(());
            }
            if metadata.is_dir() {
                if name.to_str().is_some() && DIRS.contains(&path.as_str()) {
                    self.list_into(&path)?;
                } else {
                    self.refusals.push(Refusal::UnexpectedFile { path });
                }
            } else if !metadata.is_file() {
                self.refusals.push(Refusal::NotARegularFile { path });
            } else if name.to_str().is_some() && is_known(&path) {
                self.files.insert(path, metadata.len());
            } else {
                self.refusals.push(Refusal::UnexpectedFile { path });
            }
        }
        Ok(())
    }

    /// The regular files that have a place in a bundle, with their sizes, ascending by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files.iter().map(|(path, size)| (path.as_str(), *size))
    }

    /// What lies in the directory and does not belong there.
    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    /// Whether something lies there, whether it belongs there or not.
    pub(crate) fn holds(&self, path: &str) -> bool {
        let refused = |refusal: &Refusal| match refusal {
            Refusal::UnexpectedFile { path: refused } | Refusal::NotARegularFile { path: refused } => refused == path,
            _ => false,
        };
        self.files.contains_key(path) || self.refusals.iter().any(refused)
    }

    /// A file's size, when it is there.
    pub fn size(&self, path: &str) -> Option<u64> {
        self.files.get(path).copied()
    }

    /// Opens a file that was listed.
    pub fn open(&self, path: &str) -> Result<File, Fault> {
        let path = self.root.join(path);
        let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
        OpenOptions::new().read(true).custom_flags(flags).open(&path).map_err(Fault::unreadable(&path))
    }

    /// Reads a whole file; a refusal when it is absent or above the limit.
    pub fn read(&self, path: &str, limit: u64) -> Result<Result<Vec<u8>, Refusal>, Fault> {
        let Some(size) = self.size(path) else {
            return Ok(Err(Refusal::FileMissing { path: path.to_owned() }));
        };
        let mut bytes = Vec::new();
        if size <= limit {
            bytes.reserve_exact(usize::try_from(size).unwrap_or(0));
            self.open(path)?
                .take(limit + 1)
                .read_to_end(&mut bytes)
                .map_err(Fault::unreadable(&self.root.join(path)))?;
        }
        let bytes_found = size.max(bytes.len() as u64);
        if bytes_found > limit {
            return Ok(Err(Refusal::FileTooLarge { path: path.to_owned(), bytes: bytes_found, limit }));
        }
        Ok(Ok(bytes))
    }

    pub(crate) fn unreadable(&self, path: &str) -> impl FnOnce(io::Error) -> Fault {
        let path = self.root.join(path);
        move |source| Fault::Unreadable { path, source }
    }
}

fn is_known(path: &str) -> bool {
    use crate::layout::{COMMIT_META, COMMIT_OBJECT, INDEX, OCI_LAYOUT, RELEASE, SBOM_STATEMENT, SUMS, SUMS_SIGNATURE};
    const NAMES: [&str; 8] =
        [SUMS, SUMS_SIGNATURE, RELEASE, COMMIT_OBJECT, COMMIT_META, SBOM_STATEMENT, OCI_LAYOUT, INDEX];
    let blob = path.strip_prefix(BLOBS_DIR).and_then(|rest| rest.strip_prefix('/'));
    NAMES.contains(&path) || blob.is_some_and(|hex| hex.parse::<crate::digest::Digest>().is_ok())
}

/// Reads a trust directory: `roles.yml`, every `*.pub` and every `*.asc`.
pub fn load_trust(directory: &Path) -> Result<Trust, Fault> {
    if !std::fs::metadata(directory).map_err(Fault::unreadable(directory))?.is_dir() {
        return Err(Fault::NotADirectory { path: directory.to_owned() });
    }
    let roles_path = directory.join(ROLES);
    let roles = RolesFile::parse(&read_trust_file(&roles_path)?).map_err(trust_fault(&roles_path))?;
    let paths = trust_files(directory, &[PUBLIC_KEY_ENDING, CERTIFICATE_ENDING])?;
    let (mut keys, mut certificates) = (Vec::new(), Vec::new());
    for path in paths {
        let bytes = read_trust_file(&path)?;
        if has_ending(&path, PUBLIC_KEY_ENDING) {
            let text = str::from_utf8(&bytes).map_err(|error| TrustError::Key(error.to_string()));
            keys.push(text.and_then(PublicKey::from_pem).map_err(trust_fault(&path))?);
        } else {
            let read = Certificate::read_armoured(&bytes).map_err(TrustError::Certificate);
            certificates.extend(read.map_err(trust_fault(&path))?);
        }
    }
    Trust::new(roles, keys, certificates).map_err(trust_fault(directory))
}

/// The files of a trust directory with these endings, ascending.
fn trust_files(directory: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, Fault> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(Fault::unreadable(directory))? {
        paths.push(entry.map_err(Fault::unreadable(directory))?.path());
    }
    paths.retain(|path| endings.iter().any(|ending| has_ending(path, ending)));
    paths.sort();
    if paths.len() > TRUST_FILES_MAX {
        return Err(Fault::TrustTooLarge { path: directory.to_owned() });
    }
    Ok(paths)
}

/// Reads the verifier keys of audit chains (`*.vkey`, one line each) in a trust directory; nothing else in it matters.
pub fn load_chain_keys(directory: &Path) -> Result<Vec<VerifierKey>, Fault> {
    if !std::fs::metadata(directory).map_err(Fault::unreadable(directory))?.is_dir() {
        return Err(Fault::NotADirectory { path: directory.to_owned() });
    }
    trust_files(directory, &[CHAIN_KEY_ENDING])?.iter().map(|path| load_named_key(path)).collect()
}

/// Reads the verifier keys of witnesses, one line each. A key under two names would be one witness that counts as two.
pub fn load_cosigner_keys(paths: &[PathBuf]) -> Result<Vec<CosignerKey>, Fault> {
    let mut keys: Vec<CosignerKey> = Vec::new();
    for path in paths {
        let key: CosignerKey = load_named_key(path)?;
        if keys.iter().any(|other| other.public() == key.public()) {
            return Err(trust_fault(path)(TrustError::ChainKey(NoteError::Key("another witness has the same"))));
        }
        keys.push(key);
    }
    Ok(keys)
}

fn load_named_key<const TYPE: u8>(path: &Path) -> Result<NamedKey<TYPE>, Fault> {
    let bytes = read_trust_file(path)?;
    let text = str::from_utf8(&bytes).map_err(|_| NoteError::Key("it is not UTF-8"));
    text.and_then(|text| text.strip_suffix('\n').unwrap_or(text).parse())
        .map_err(|error| trust_fault(path)(TrustError::ChainKey(error)))
}

/// Reads a checkpoint that somebody kept: as much outside of the chain as trust is.
pub fn load_checkpoint(path: &Path) -> Result<Note, Fault> {
    let note = Note::parse(&read_trust_file(path)?);
    note.map_err(|error| Fault::Checkpoint { path: path.to_owned(), source: error })
}

/// Reads the key of a log of another program, under the rules of that program: a regular file and no link, which
/// nobody else may write.
pub fn load_log_key(path: &Path) -> Result<Key, Fault> {
    let found = std::fs::symlink_metadata(path).map_err(Fault::unreadable(path))?;
    let fits = found.is_file() && found.mode() & 0o022 == 0;
    let bytes = if fits { load(path, *KEY_BYTES.end() as u64)?.unwrap_or_default() } else { Vec::new() };
    Key::of_file(&bytes).ok_or_else(|| Fault::LogKey { path: path.to_owned() })
}

/// Reads a profile's page and that of loopback from the policy's directory.
pub fn load_profile(directory: &Path, name: &str) -> Result<(Profile, Loopback), Fault> {
    let fault = |path: &Path| {
        let path = path.to_owned();
        move |source| Fault::Policy { path, source }
    };
    let read = |path: &Path| match load(path, PAGE_BYTES_MAX as u64)? {
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(fault(path)(ProfileError::TooLarge(PAGE_BYTES_MAX + 1))),
    };
    let path = directory.join("profiles").join(format!("{name}.yml"));
    if !is_profile_name(name) {
        return Err(fault(&path)(ProfileError::Together(format!("`{name}` is no name of a profile"))));
    }
    let profile = Profile::parse(&read(&path)?).map_err(fault(&path))?;
    if profile.name != name {
        return Err(fault(&path)(ProfileError::Together(format!("this is the page of `{}`", profile.name))));
    }
    let path = directory.join("loopback.yml");
    let loopback = Loopback::parse(&read(&path)?).map_err(fault(&path))?;
    Ok((profile, loopback))
}

/// Reads the page of claims.
pub fn load_claims(path: &Path) -> Result<Claims, Fault> {
    let fault = |source| Fault::Claims { path: path.to_owned(), source };
    match load(path, claims::PAGE_BYTES_MAX as u64)? {
        Ok(bytes) => Claims::parse(&bytes).map_err(fault),
        Err(_) => Err(fault(ClaimsError::TooLarge(claims::PAGE_BYTES_MAX + 1))),
    }
}

/// Reads the pages of every profile, which must hold together, and that of loopback.
pub fn load_profiles(directory: &Path) -> Result<(Profiles, Loopback), Fault> {
    let folder = directory.join("profiles");
    let fault = |source| Fault::Policy { path: folder.clone(), source };
    let mut pages = Vec::new();
    let mut loopback = None;
    for entry in std::fs::read_dir(&folder).map_err(Fault::unreadable(&folder))? {
        let name = entry.map_err(Fault::unreadable(&folder))?.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".yml")) else { continue };
        if pages.len() == PROFILES_MAX {
            return Err(fault(ProfileError::Together(format!("there are more than {PROFILES_MAX}"))));
        }
        let (page, of_loopback) = load_profile(directory, name)?;
        pages.push(page);
        loopback = Some(of_loopback);
    }
    let profiles = Profiles::new(pages).map_err(fault)?;
    let none = || fault(ProfileError::Together("there is none".to_owned()));
    Ok((profiles, loopback.ok_or_else(none)?))
}

/// A person can choose among few; more are no policy of ours.
const PROFILES_MAX: usize = 16;

/// Reads any file up to a limit.
pub fn load(path: &Path, limit: u64) -> Result<Result<Vec<u8>, u64>, Fault> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Fault::unreadable(path))?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(Fault::unreadable(path))?;
    Ok(if bytes.len() as u64 > limit { Err(limit) } else { Ok(bytes) })
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(ending.as_bytes())
}

fn trust_fault(path: &Path) -> impl FnOnce(TrustError) -> Fault {
    move |source| Fault::Trust { path: path.to_owned(), source }
}

fn read_trust_file(path: &Path) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Fault::unreadable(path))?;
    file.take(TRUST_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(Fault::unreadable(path))?;
    if bytes.len() as u64 > TRUST_FILE_BYTES_MAX {
        return Err(trust_fault(path)(TrustError::TooLarge(bytes.len() as u64)));
    }
    Ok(bytes)
}

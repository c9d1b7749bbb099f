//! Development keys: made on first use, kept outside the repository, their public halves a trust directory.
//!
//! ```text
//! $XDG_STATE_HOME/secai/
//!   keys/{build,release}.key   PKCS#8 PEM, mode 0600
//!   gnupg/                     home of the OpenPGP key that signs commits and checksums
//!   trust/                     roles.yml, build.pub, release.pub, commit.asc
//! ```

use crate::error::{At, Error};
use crate::release::gpg_context;
use crate::stage::write_atomically;
use p256::ecdsa::SigningKey;
use p256::elliptic_curve::Generate;
use p256::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use secai_verifier::layout;
use secai_verifier::time::Time;
use secai_verifier::trust::{PublicKey, Role, RoleKey, Roles, RolesFile, SCHEMA};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How long a development key counts: long enough for a project, short enough to be replaced.
const VALID_SECONDS: u64 = 2 * 366 * 24 * 3600;
/// User id of the development OpenPGP key.
const GPG_USER: &str = "SecAI OS development key (signs nothing that leaves this machine)";

/// `$variable`, else `~/fallback`.
///
/// # Errors
/// [`Error::Usage`] when neither it nor `HOME` is set.
pub fn xdg(variable: &'static str, fallback: &str) -> Result<PathBuf, Error> {
    if let Some(dir) = std::env::var_os(variable).filter(|d| Path::new(d).is_absolute()) {
        return Ok(PathBuf::from(dir));
    }
    match std::env::var_os("HOME").filter(|h| !h.is_empty()) {
        Some(home) => Ok(PathBuf::from(home).join(fallback)),
        None => Err(Error::Usage {
            option: variable,
            value: String::new(),
            reason: "is not set, and neither is HOME".into(),
        }),
    }
}

/// A set of development keys.
#[derive(Debug, Clone)]
pub struct DevelopmentKeys {
    root: PathBuf,
}

impl DevelopmentKeys {
    /// Those of the user: `$XDG_STATE_HOME/secai`.
    ///
    /// # Errors
    /// [`Error::Usage`] without a home.
    pub fn of_user() -> Result<DevelopmentKeys, Error> {
        Ok(DevelopmentKeys { root: xdg("XDG_STATE_HOME", ".local/state")?.join("secai") })
    }

    /// Those in a folder.
    pub fn at(root: PathBuf) -> DevelopmentKeys {
        DevelopmentKeys { root }
    }

    /// Private key of a role.
    pub fn private(&self, role: &str) -> PathBuf {
        self.root.join("keys").join(format!("{role}.key"))
    }

    /// GnuPG's home.
    pub fn gnupg(&self) -> PathBuf {
        self.root.join("gnupg")
    }

    /// The trust directory made of the public halves.
    pub fn trust(&self) -> PathBuf {
        self.root.join("trust")
    }

    /// Are they all there, and are the public halves theirs?
    pub fn exist(&self) -> bool {
        let id = |role: &str| {
            let public = fs::read_to_string(self.trust().join(format!("{role}{}", layout::PUBLIC_KEY_ENDING))).ok()?;
            PublicKey::from_pem(&public).ok().filter(|_| self.private(role).is_file()).map(|key| key.id())
        };
        let roles = fs::read(self.trust().join(layout::ROLES)).ok().and_then(|text| RolesFile::parse(&text).ok());
        let listed = |role: &Role, name: &str| id(name).is_some_and(|id| role.keys.iter().any(|k| k.id == id));
        roles.is_some_and(|file| listed(&file.roles.build, "build") && listed(&file.roles.release, "release"))
            && self.trust().join(format!("commit{}", layout::CERTIFICATE_ENDING)).is_file()
    }

    /// Makes what is missing. The trust directory is written last: with it the set is whole.
    ///
    /// # Errors
    /// [`Error::Key`], I/O.
    pub fn make(&self) -> Result<(), Error> {
        if self.exist() {
            return Ok(());
        }
        fs::create_dir_all(&self.root).at("create", &self.root)?;
        // Two that begin at once must not mix their keys.
        let _turn = crate::cache::lock(&self.root.join(".turn"), rustix::fs::FlockOperation::LockExclusive)?;
        if self.exist() {
            return Ok(());
        }
        for dir in [self.root.join("keys"), self.gnupg()] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).at("create", &dir)?;
        }
        fs::create_dir_all(self.trust()).at("create", self.trust())?;
        let now = Time::now().map_err(|e| Error::Tree(e.to_string()))?;
        let until = Time::from_seconds(now.seconds() + VALID_SECONDS).map_err(|e| Error::Tree(e.to_string()))?;
        let role = |name: &'static str| -> Result<Role, Error> {
            let fail = |reason: String| Error::Key { role: name, reason, hint: String::new() };
            let path = self.private(name);
            let key = SigningKey::try_generate().map_err(|e| fail(e.to_string()))?;
            let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|e| fail(e.to_string()))?;
            crate::stage::remove(&path)?;
            let mut file =
                fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).at("create", &path)?;
            file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()).at("write", &path)?;
            let public = key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(|e| fail(e.to_string()))?;
            write_atomically(&self.trust().join(format!("{name}{}", layout::PUBLIC_KEY_ENDING)), public.as_bytes())?;
            let id = PublicKey::from_pem(&public).map_err(|e| fail(e.to_string()))?.id();
            Ok(Role { threshold: 1, keys: vec![RoleKey { id, from: now, until, revoked: false }] })
        };
        let roles = RolesFile { schema: SCHEMA, roles: Roles { build: role("build")?, release: role("release")? } };
        self.make_gpg().map_err(|e| Error::Key {
            role: "commit",
            reason: e.to_string(),
            hint: "is gnupg installed, and is the path of its home short enough for a socket (about 100 bytes)?".into(),
        })?;
        let text = roles.render().map_err(|e| Error::Tree(e.to_string()))?;
        write_atomically(&self.trust().join(layout::ROLES), text.as_bytes())
    }

    fn make_gpg(&self) -> Result<(), Box<dyn std::error::Error>> {
        let mut context = gpg_context(Some(&self.gnupg()))?;
        let flags = gpgme::CreateKeyFlags::SIGN | gpgme::CreateKeyFlags::NOPASSWD | gpgme::CreateKeyFlags::NOEXPIRE;
        let known = context.find_secret_keys([GPG_USER])?.filter_map(Result::ok).next();
        let key = match known {
            Some(key) => key,
            None => {
                let made = context.create_key_with_flags(
                    GPG_USER,
                    "ed25519",
                    std::time::Duration::ZERO,
                    flags | gpgme::CreateKeyFlags::FORCE,
                )?;
                let fingerprint = made.fingerprint().map_err(|_| "gpg made a key without a fingerprint")?.to_owned();
                context.get_secret_key(fingerprint)?
            }
        };
        context.set_armor(true);
        let mut armoured = Vec::new();
        context.export_keys(&[key], gpgme::ExportMode::empty(), &mut armoured)?;
        write_atomically(&self.trust().join(format!("commit{}", layout::CERTIFICATE_ENDING)), &armoured)?;
        Ok(())
    }
}

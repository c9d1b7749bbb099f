//! The release act: private keys, and what they sign. No other module but `keys` ever touches one.
//!
//! Content is finished before this begins: signatures say who answers for it, and add nothing to it.

use crate::error::Error;
use crate::keys::DevelopmentKeys;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{DecodePrivateKey, EncodePublicKey};
use secai_verifier::dsse::Envelope;
use secai_verifier::files::load_trust;
use secai_verifier::openpgp::verify_binary;
use secai_verifier::time::Time;
use secai_verifier::trust::{KeyId, PublicKey, RoleKey, RoleName};
use std::fs;
use std::path::{Path, PathBuf};

/// Passphrase of encrypted key files, for machines; people are not asked in the middle of a build.
pub const PASSPHRASE: &str = "SECAI_KEY_PASSPHRASE";

/// What keys sign to show that they can.
const TRIAL: &[u8] = b"secai-build tries its keys";

/// Where keys come from.
#[derive(Debug, Clone)]
pub struct KeyChoice {
    /// Key file for the role `build`; none: the development key.
    pub build: Option<PathBuf>,
    /// Key file for the role `release`; none: the development key.
    pub release: Option<PathBuf>,
    /// Fingerprint of an OpenPGP key in the user's own keyring; none: the development key.
    pub gpg: Option<String>,
    /// The development keys.
    pub development: DevelopmentKeys,
}

/// Keys that were opened and have signed a trial message.
#[derive(Debug)]
pub struct Keys {
    build: RoleSigner,
    release: RoleSigner,
    gpg: GpgSigner,
}

#[derive(Debug)]
struct RoleSigner {
    key: SigningKey,
    id: KeyId,
}

#[derive(Debug)]
struct GpgSigner {
    home: Option<PathBuf>,
    fingerprint: String,
}

impl Keys {
    /// Opens all keys and tries each, so that a missing or locked one is known before the long work.
    /// `trust` is what the release will be judged by: a key that is not in it is refused now.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn open(choice: &KeyChoice, trust: &Path) -> Result<Keys, Error> {
        let development = &choice.development;
        let file =
            |given: &Option<PathBuf>, role: &'static str| given.clone().unwrap_or_else(|| development.private(role));
        let build = RoleSigner::open(&file(&choice.build, "build"), "build")?;
        let release = RoleSigner::open(&file(&choice.release, "release"), "release")?;
        let gpg = match &choice.gpg {
            Some(fingerprint) => GpgSigner { home: None, fingerprint: fingerprint.clone() },
            None => GpgSigner { home: Some(development.gnupg()), fingerprint: String::new() },
        };
        let trial = gpg.sign(TRIAL, false)?;
        check_trust(trust, &build, &release, &trial)?;
        Ok(Keys { build, release, gpg })
    }

    /// Adds the role's signature to an envelope.
    pub fn sign(&self, role: RoleName, envelope: &mut Envelope) {
        let signer = match role {
            RoleName::Build => &self.build,
            RoleName::Release => &self.release,
        };
        let signature: Signature = signer.key.sign(&envelope.pae());
        envelope.add_signature(signer.id, signature.to_der().as_bytes().to_vec());
    }

    /// OpenPGP signature, detached: binary for a commit, armoured for a text file.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn sign_openpgp(&self, message: &[u8], armour: bool) -> Result<Vec<u8>, Error> {
        self.gpg.sign(message, armour)
    }
}

impl RoleSigner {
    fn open(path: &Path, role: &'static str) -> Result<RoleSigner, Error> {
        let fail = |reason: String, hint: &str| Error::Key { role, reason, hint: hint.into() };
        let pem = fs::read_to_string(path)
            .map_err(|e| fail(format!("{}: {e}", path.display()), "`secai-build keys new` makes development keys"))?;
        let key = if pem.contains("ENCRYPTED PRIVATE KEY") {
            let passphrase = std::env::var(PASSPHRASE).map_err(|_| {
                fail(
                    format!("{} is locked by a passphrase", path.display()),
                    "put the passphrase into SECAI_KEY_PASSPHRASE",
                )
            })?;
            SigningKey::from_pkcs8_encrypted_pem(&pem, passphrase).map_err(|e| {
                fail(format!("{}: {e}", path.display()), "is SECAI_KEY_PASSPHRASE the right passphrase?")
            })?
        } else {
            SigningKey::from_pkcs8_pem(&pem).map_err(|e| {
                fail(format!("{}: {e}", path.display()), "a key file is PKCS#8 PEM with an ECDSA P-256 key")
            })?
        };
        let der = key.verifying_key().to_public_key_der().map_err(|e| fail(e.to_string(), ""))?;
        let id = PublicKey::from_der(der.as_bytes()).map_err(|e| fail(e.to_string(), ""))?.id();
        Ok(RoleSigner { key, id })
    }
}

impl GpgSigner {
    fn sign(&self, message: &[u8], armour: bool) -> Result<Vec<u8>, Error> {
        self.try_sign(message, armour).map_err(|e| Error::Key {
            role: "commit",
            reason: e.to_string(),
            hint: "unlock it with gpg-agent, or name another with --gpg-key FINGERPRINT".into(),
        })
    }

    fn try_sign(&self, message: &[u8], armour: bool) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let mut context = gpg_context(self.home.as_deref())?;
        let key = if self.fingerprint.is_empty() {
            let first = context.secret_keys()?.filter_map(Result::ok).next();
            first.ok_or("the development keyring holds no key")?
        } else {
            let key = context.get_secret_key(self.fingerprint.as_str());
            key.map_err(|_| format!("the keyring holds no private key {}", self.fingerprint))?
        };
        context.add_signer(&key)?;
        context.set_armor(armour);
        let mut out = Vec::new();
        context.sign_detached(message, &mut out)?;
        Ok(out)
    }
}

/// A gpgme context for a home of its own, or the user's.
///
/// # Errors
/// gpgme's.
pub fn gpg_context(home: Option<&Path>) -> Result<gpgme::Context, gpgme::Error> {
    let mut context = gpgme::Context::from_protocol(gpgme::Protocol::OpenPgp)?;
    if let Some(home) = home {
        context.set_engine_home_dir(home.to_string_lossy().into_owned())?;
    }
    Ok(context)
}

/// Would what these keys sign be accepted by whoever has this trust directory?
fn check_trust(dir: &Path, build: &RoleSigner, release: &RoleSigner, trial: &[u8]) -> Result<(), Error> {
    let trust = load_trust(dir).map_err(|e| Error::Unusable { path: dir.to_owned(), reason: e.to_string() })?;
    let now = Time::now().map_err(|e| Error::Unusable { path: dir.to_owned(), reason: e.to_string() })?;
    for (name, role, signer) in [("build", &trust.roles().build, build), ("release", &trust.roles().release, release)] {
        let counts = |k: &RoleKey| k.id == signer.id && !k.revoked && k.from <= now && now <= k.until;
        if !role.keys.iter().any(counts) {
            return Err(Error::Key {
                role: name,
                reason: format!("key {} does not hold this role now in {}", signer.id.0, dir.display()),
                hint: "sign with a key that roles.yml lists and that counts today, or give the right --trust; development keys last two years: move them away, and new ones are made".into(),
            });
        }
        if role.threshold > 1 {
            return Err(Error::Key {
                role: name,
                reason: format!("{} asks for {} signatures, and a build makes one", dir.display(), role.threshold),
                hint: "build with --unsigned, and let each holder sign".into(),
            });
        }
    }
    if !trust.certificates().is_empty() {
        verify_binary(trust.certificates(), TRIAL, trial, now).map_err(|e| Error::Key {
            role: "commit",
            reason: format!("no certificate in {} accepts its signature: {e}", dir.display()),
            hint: "name the right key with --gpg-key, or put its certificate there as NAME.asc".into(),
        })?;
    }
    Ok(())
}

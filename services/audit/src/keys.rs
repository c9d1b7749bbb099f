//! The one private key: that of the current epoch, in a folder that only this service may enter.
//!
//! ```text
//! KEYS/current.json   {"device":"NAME+HASH+BASE64","epoch":3,"secret":"<64 hex>"}
//! KEYS/next.json      the key of the next epoch, while the current one is being closed
//! KEYS/floor.json     {"gap":"<64 hex>","root":"<64 hex>","size":70000}
//! ```
//!
//! `size` and `root` are a head that the chain had: a chain without it is another one. `gap` is there while the chain
//! begins with a gap that nobody acknowledged. They lie apart, so that a secret is written once only: what is
//! erased later has no copies.

use crate::disk::{self, Keep, read_file, replace};
use crate::writer::WriteError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use secai_verifier::audit::checkpoint::{Checkpoint, Note, VerifierKey, origin};
use secai_verifier::digest::Digest;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, Zeroizing};

/// A key file is a few hundred bytes.
const KEY_FILE_BYTES_MAX: u64 = 4096;

/// A key, and which epoch of which device it signs for.
pub struct EpochKey {
    device: VerifierKey,
    epoch: u64,
    secret: SigningKey,
}

impl std::fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EpochKey({}, epoch {})", self.device, self.epoch)
    }
}

#[derive(Serialize, Deserialize, Zeroize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    device: String,
    epoch: u64,
    secret: String,
}

/// A head that the chain had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// Root of the chain before, while nobody acknowledged that this one begins with a gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Digest>,
    /// The root.
    pub root: Digest,
    /// Number of entries.
    pub size: u64,
}

impl Default for Floor {
    fn default() -> Self {
        Self { gap: None, root: Digest::of(b""), size: 0 }
    }
}

fn unusable(path: &Path) -> WriteError {
    WriteError::KeyUnusable { path: path.to_owned() }
}

fn fresh() -> Result<SigningKey, WriteError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(|_| WriteError::NoRandomness)?;
    Ok(SigningKey::from_bytes(&seed))
}

impl EpochKey {
    /// A new device's.
    ///
    /// # Errors
    /// [`WriteError::NoRandomness`].
    pub fn of_new_device() -> Result<Self, WriteError> {
        let secret = fresh()?;
        let public = secret.verifying_key().to_bytes();
        let device = VerifierKey::new(&origin(&public), &public).map_err(|_| WriteError::NoRandomness)?;
        Ok(Self { device, epoch: 0, secret })
    }

    /// The one of the epoch after this.
    ///
    /// # Errors
    /// [`WriteError::NoRandomness`].
    pub fn successor(&self) -> Result<Self, WriteError> {
        Ok(Self { device: self.device.clone(), epoch: self.epoch + 1, secret: fresh()? })
    }

    /// The key of epoch 0.
    pub fn device(&self) -> &VerifierKey {
        &self.device
    }

    /// Its number.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The 32 public bytes.
    pub fn public(&self) -> [u8; 32] {
        self.secret.verifying_key().to_bytes()
    }

    /// Them as `audit.epoch` names them.
    pub fn public_base64(&self) -> String {
        STANDARD.encode(self.public())
    }

    /// What verifies its signatures.
    ///
    /// # Errors
    /// [`WriteError::NoRandomness`] for a key that happens to be weak: 2^-252.
    pub fn verifier(&self) -> Result<VerifierKey, WriteError> {
        VerifierKey::new(self.device.name(), &self.public()).map_err(|_| WriteError::NoRandomness)
    }

    /// A signed checkpoint.
    ///
    /// # Errors
    /// As [`Self::verifier`].
    pub fn sign(&self, checkpoint: Checkpoint) -> Result<Note, WriteError> {
        let signature = self.secret.sign(checkpoint.body().as_bytes()).to_bytes();
        Ok(Note::sealed(checkpoint, &self.verifier()?, &signature))
    }
}

/// The folder of keys.
#[derive(Debug)]
pub struct KeyStore {
    folder: PathBuf,
}

impl KeyStore {
    /// In a folder that exists.
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    fn current(&self) -> PathBuf {
        self.folder.join("current.json")
    }

    fn next(&self) -> PathBuf {
        self.folder.join("next.json")
    }

    /// The current key; none on a new device.
    ///
    /// # Errors
    /// [`WriteError::KeyUnusable`]; [`WriteError::Disk`].
    pub fn load(&self) -> Result<Option<EpochKey>, WriteError> {
        load(&self.current())
    }

    /// The next key, where a change of epoch was under way.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_next(&self) -> Result<Option<EpochKey>, WriteError> {
        load(&self.next())
    }

    /// The head that was kept; that of no entries when there is none.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn floor(&self) -> Result<Floor, WriteError> {
        let path = self.folder.join("floor.json");
        let bytes = read_file(&path, KEY_FILE_BYTES_MAX)?;
        bytes.map_or_else(|| Ok(Floor::default()), |bytes| serde_json::from_slice(&bytes).map_err(|_| unusable(&path)))
    }

    /// Keeps a head.
    ///
    /// # Errors
    /// [`WriteError::Disk`].
    pub fn keep_floor(&self, floor: &Floor) -> Result<(), WriteError> {
        let path = self.folder.join("floor.json");
        let bytes = serde_json::to_vec(floor).map_err(|_| unusable(&path))?;
        replace(&path, &self.folder.join("new"), &bytes, 0o600, Keep::OnDisk)
    }

    /// Keeps the first key.
    ///
    /// # Errors
    /// [`WriteError::Disk`].
    pub fn keep(&self, key: &EpochKey) -> Result<(), WriteError> {
        store(&self.current(), key)
    }

    /// Keeps the next key beside the current one.
    ///
    /// # Errors
    /// [`WriteError::Disk`].
    pub fn prepare(&self, next: &EpochKey) -> Result<(), WriteError> {
        store(&self.next(), next)
    }

    /// The next key becomes the current one; the old one's bytes are overwritten, then its name is gone.
    ///
    /// # Errors
    /// [`WriteError::Disk`].
    pub fn advance(&self) -> Result<(), WriteError> {
        let current = self.current();
        let length = disk::at("read", &current, current.metadata())?.len();
        let file = disk::at("open", &current, std::fs::OpenOptions::new().write(true).open(&current))?;
        let zeros = vec![0; usize::try_from(length.min(KEY_FILE_BYTES_MAX)).unwrap_or(0)];
        let erased = std::os::unix::fs::FileExt::write_all_at(&file, &zeros, 0).and_then(|()| file.sync_all());
        disk::at("erase", &current, erased)?;
        self.adopt()
    }

    /// Moves the next key into the place of the current one, which was erased.
    ///
    /// # Errors
    /// [`WriteError::Disk`].
    pub fn adopt(&self) -> Result<(), WriteError> {
        disk::at("move", &self.next(), std::fs::rename(self.next(), self.current()))?;
        disk::sync_folder(&self.folder)
    }
}

fn load(path: &Path) -> Result<Option<EpochKey>, WriteError> {
    let Some(bytes) = read_file(path, KEY_FILE_BYTES_MAX)?.map(Zeroizing::new) else { return Ok(None) };
    // Erased, but not yet replaced: the next key is there.
    if !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let mut file: KeyFile = serde_json::from_slice(&bytes).map_err(|_| unusable(path))?;
    let mut seed = Zeroizing::new([0; 32]);
    let (pairs, rest) = file.secret.as_bytes().as_chunks::<2>();
    if pairs.len() != seed.len() || !rest.is_empty() {
        return Err(unusable(path));
    }
    for (byte, pair) in seed.iter_mut().zip(pairs) {
        let pair = str::from_utf8(pair).map_err(|_| unusable(path))?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| unusable(path))?;
    }
    let device = file.device.parse().map_err(|_| unusable(path))?;
    let key = EpochKey { device, epoch: file.epoch, secret: SigningKey::from_bytes(&seed) };
    file.zeroize();
    Ok(Some(key))
}

fn store(path: &Path, key: &EpochKey) -> Result<(), WriteError> {
    let mut secret = String::with_capacity(64);
    for byte in key.secret.as_bytes() {
        secret.push_str(&format!("{byte:02x}"));
    }
    let mut file = KeyFile { device: key.device.to_string(), epoch: key.epoch, secret };
    let bytes = Zeroizing::new(serde_json::to_vec(&file).map_err(|_| unusable(path))?);
    file.zeroize();
    replace(path, &path.with_extension("new"), &bytes, 0o600, Keep::OnDisk)
}

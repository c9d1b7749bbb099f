//! A witness's own key: one line in a file that only its owner may read, as the Go tools for signed notes write it.
//!
//! ```text
//! PRIVATE+KEY+NAME+HASH+BASE64(0x04 ‖ seed)
//! ```

use super::CosignError;
use crate::disk::{self, read_file};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use rustix::fs::{Mode, OFlags};
use secai_verifier::audit::checkpoint::{Checkpoint, NoteError};
use secai_verifier::audit::cosignature::{CosignerKey, message};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use zeroize::{Zeroize as _, Zeroizing};

/// What the line begins with.
const BEGINNING: &str = "PRIVATE+KEY+";
/// The type of a key that cosigns.
const COSIGNATURE: u8 = 4;
/// A line with a name.
const KEY_BYTES_MAX: u64 = 1024;

/// What cosigns.
pub struct CosigningKey {
    public: CosignerKey,
    secret: SigningKey,
}

impl CosigningKey {
    /// A new one under this name, in a new file.
    ///
    /// # Errors
    /// [`CosignError::Name`], [`CosignError::NoRandomness`], [`CosignError::Memory`] also where the file is there.
    pub fn make(name: &str, path: &Path) -> Result<Self, CosignError> {
        let mut bytes = Zeroizing::new([COSIGNATURE; 33]);
        let (_, seed) = bytes.split_at_mut(1);
        getrandom::fill(seed).map_err(|_| CosignError::NoRandomness)?;
        let key = Self::of(name, &bytes[..]).map_err(CosignError::Name)?;
        let line =
            Zeroizing::new(format!("{BEGINNING}{name}+{}+{}\n", key.hash(), *Zeroizing::new(STANDARD.encode(*bytes))));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let opened = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).map_err(std::io::Error::from);
        let mut file = File::from(disk::at("create", path, opened)?);
        disk::at("write", path, file.write_all(line.as_bytes()).and_then(|()| file.sync_all()))?;
        Ok(key)
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`CosignError::Key`], also where others may read it; [`CosignError::Memory`].
    pub fn read(path: &Path) -> Result<Self, CosignError> {
        let unusable = |why| CosignError::Key { path: path.to_owned(), why };
        let found = std::fs::symlink_metadata(path);
        if found.is_ok_and(|found| !found.is_file() || found.mode() & 0o077 != 0) {
            return Err(unusable("it is no file, or others than its owner may read it"));
        }
        let bytes = read_file(path, KEY_BYTES_MAX)?.map(Zeroizing::new).ok_or_else(|| unusable("it is not there"))?;
        let line = str::from_utf8(&bytes).unwrap_or_default();
        let line = line.strip_suffix('\n').unwrap_or(line).strip_prefix(BEGINNING).unwrap_or_default();
        let mut parts = line.splitn(3, '+');
        let (Some(name), Some(hash), Some(base64)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(unusable("it is not PRIVATE+KEY+NAME+HASH+BASE64"));
        };
        let seed = STANDARD.decode(base64).map(Zeroizing::new).map_err(|_| unusable("its last part is not base64"))?;
        let key = Self::of(name, &seed).map_err(|_| unusable("it is not an Ed25519 key of a witness (type 0x04)"))?;
        if key.hash() == hash { Ok(key) } else { Err(unusable("its hash is not that of its name and key")) }
    }

    fn of(name: &str, bytes: &[u8]) -> Result<Self, NoteError> {
        let seed = bytes.split_first().filter(|(kind, _)| **kind == COSIGNATURE).map(|(_, seed)| seed);
        let seed: Option<[u8; 32]> = seed.and_then(|seed| seed.try_into().ok());
        let mut seed = seed.ok_or(NoteError::Key("it does not have 32 bytes"))?;
        let secret = SigningKey::from_bytes(&seed);
        seed.zeroize();
        Ok(Self { public: CosignerKey::new(name, &secret.verifying_key().to_bytes())?, secret })
    }

    fn hash(&self) -> String {
        format!("{:08x}", u32::from_be_bytes(self.public.id()))
    }

    /// What verifies it.
    pub fn public(&self) -> &CosignerKey {
        &self.public
    }

    /// The line under a checkpoint.
    pub fn cosign(&self, checkpoint: &Checkpoint, seconds: u64) -> String {
        self.public.line(seconds, &self.secret.sign(message(checkpoint, seconds).as_bytes()).to_bytes())
    }
}

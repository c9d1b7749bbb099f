//! The TPM's side: one ordinary NV index, read and written through the TSS (crate `tss-esapi`).
//!
//! ```text
//! 0x01815ec1   576 bytes, SHA-256, ownerwrite|ownerread|authread|no_da, no policy, no password of its own
//! ```
//!
//! Whoever may use the device may read it; whoever knows the owner's password (none, as machines come) may write it.
//! The password goes to the TPM in the clear: who listens on the bus between learns it.

use super::decide::Held;
use super::slots::{SLOT_BYTES, SLOTS, newest, slot};
use secai_verifier::audit::checkpoint::Note;
use std::str::FromStr as _;
use tss_esapi::Context;
use tss_esapi::attributes::{NvIndexAttributes, NvIndexAttributesBuilder};
use tss_esapi::constants::CapabilityType;
use tss_esapi::handles::{NvIndexHandle, NvIndexTpmHandle, ObjectHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::{NvAuth, Provision};
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{Auth, CapabilityData, MaxNvBuffer, NvPublic, NvPublicBuilder};
use tss_esapi::tcti_ldr::TctiNameConf;
use zeroize::Zeroizing;

/// In the range of the owner's indices (TCG registry of handles); nobody else's that we know of.
const INDEX: u32 = 0x0181_5ec1;
/// Both slots.
const INDEX_BYTES: usize = SLOTS * SLOT_BYTES;

/// Why the TPM was not asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// No such TPM, or not for this user.
    #[error("the TPM `{name}` cannot be reached")]
    Unreachable {
        /// As it was given.
        name: String,
        /// What the library said.
        #[source]
        cause: tss_esapi::Error,
    },
    /// It refused.
    #[error("the TPM does not {doing}")]
    Refused {
        /// What was asked.
        doing: &'static str,
        /// What it said.
        #[source]
        cause: tss_esapi::Error,
    },
    /// Somebody else uses our index.
    #[error("the index {INDEX:#010x} of the TPM is of another size or kind than ours: somebody else's")]
    Occupied,
    /// The checkpoint is longer than ours are.
    #[error("the checkpoint does not fit into the TPM")]
    TooLong,
}

fn refused(doing: &'static str) -> impl FnOnce(tss_esapi::Error) -> TpmError {
    move |cause| TpmError::Refused { doing, cause }
}

/// A TPM, and our index where it has it.
pub struct Tpm {
    context: Context,
    /// The slot that holds the head which was read last.
    current: Option<usize>,
}

impl Tpm {
    /// Reaches it: `device:/dev/tpmrm0`, or another name as the TSS has them. `owner` is the owner's password.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn open(name: &str, owner: &Zeroizing<Vec<u8>>) -> Result<Self, TpmError> {
        let unreachable = |cause| TpmError::Unreachable { name: name.to_owned(), cause };
        let mut context = TctiNameConf::from_str(name).and_then(Context::new).map_err(unreachable)?;
        let auth = Auth::try_from(owner.as_slice()).map_err(refused("take this password for its owner's"))?;
        context.tr_set_auth(ObjectHandle::Owner, auth).map_err(refused("take the owner's password"))?;
        Ok(Self { context, current: None })
    }

    fn index(&mut self) -> Result<Option<(NvIndexHandle, NvIndexAttributes)>, TpmError> {
        let handle = NvIndexTpmHandle::new(INDEX).map_err(refused("know our index"))?;
        let asked = self.context.get_capability(CapabilityType::Handles, INDEX, 1);
        let (CapabilityData::Handles(handles), _) = asked.map_err(refused("list its indices"))? else {
            return Ok(None);
        };
        if !handles.contains(&TpmHandle::NvIndex(handle)) {
            return Ok(None);
        }
        let doing = "say what our index is";
        let object = self.context.tr_from_tpm_public(TpmHandle::NvIndex(handle)).map_err(refused(doing))?;
        let (public, _) = self.context.nv_read_public(object.into()).map_err(refused(doing))?;
        let found = public.attributes();
        let ours = found.owner_write() && found.auth_read() && !found.auth_write() && !found.policy_write();
        let kept = !found.orderly() && !found.clear_stclear() && !found.write_stclear();
        if !ours || !kept || public.data_size() != INDEX_BYTES {
            return Err(TpmError::Occupied);
        }
        Ok(Some((object.into(), found)))
    }

    /// What it remembers.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn held(&mut self) -> Result<Held, TpmError> {
        let Some((index, attributes)) = self.index()? else { return Ok(Held::Nothing) };
        if !attributes.written() {
            return Ok(Held::NoHead);
        }
        let mut slots = [[0; SLOT_BYTES]; SLOTS];
        for (at, slot) in slots.iter_mut().enumerate() {
            let read = self.context.execute_with_session(Some(AuthSession::Password), |context| {
                context.nv_read(NvAuth::NvIndex(index), index, SLOT_BYTES as u16, (at * SLOT_BYTES) as u16)
            });
            let bytes = read.map_err(refused("give out what it remembers"))?;
            if let Ok(bytes) = bytes.value().try_into() {
                *slot = bytes;
            }
        }
        let newest = newest(&slots);
        self.current = newest.as_ref().map(|(at, _)| *at);
        Ok(newest.map_or(Held::NoHead, |(_, note)| Held::Head(note)))
    }

    /// Makes it remember this head, in the slot that the last [`Self::held`] did not read its head from; makes the
    /// index where it has none.
    ///
    /// # Errors
    /// [`TpmError`]; what it remembered before is still there then.
    pub fn remember(&mut self, note: &Note) -> Result<(), TpmError> {
        let bytes = slot(note).ok_or(TpmError::TooLong)?;
        let index = match self.index()? {
            Some((index, _)) => index,
            None => self.define()?,
        };
        let to = self.current.map_or(0, |current| (current + 1) % SLOTS);
        let data = MaxNvBuffer::try_from(&bytes[..]).map_err(refused("take so many bytes"))?;
        let written = self.context.execute_with_session(Some(AuthSession::Password), |context| {
            context.nv_write(NvAuth::Owner, index, data, (to * SLOT_BYTES) as u16)
        });
        written.map_err(refused("remember"))?;
        self.current = Some(to);
        Ok(())
    }

    /// Makes the index; it holds nothing then.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn define(&mut self) -> Result<NvIndexHandle, TpmError> {
        let made = self.context.execute_with_session(Some(AuthSession::Password), |context| {
            context.nv_define_space(Provision::Owner, None, public()?)
        });
        made.map_err(refused("make an index"))
    }
}

fn public() -> tss_esapi::Result<NvPublic> {
    let attributes = NvIndexAttributesBuilder::new();
    // A wrong guess at its password, of which it has none, must not lock it.
    let attributes = attributes.with_owner_write(true).with_owner_read(true).with_auth_read(true).with_no_da(true);
    NvPublicBuilder::new()
        .with_nv_index(NvIndexTpmHandle::new(INDEX)?)
        .with_index_name_algorithm(HashingAlgorithm::Sha256)
        .with_index_attributes(attributes.build()?)
        .with_data_area_size(INDEX_BYTES)
        .build()
}

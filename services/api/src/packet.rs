//! From values to packets and back.

use crate::PACKET_BYTES_MAX;
use serde::{Deserialize, Serialize};

/// A packet that is no request or reply.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// Above [`PACKET_BYTES_MAX`].
    #[error("the packet has more than {PACKET_BYTES_MAX} bytes")]
    TooLong,
    /// Not of the form.
    #[error("the packet is malformed")]
    Malformed(#[from] serde_json::Error),
}

/// The packet of a value.
///
/// # Errors
/// [`PacketError::TooLong`].
pub fn to_packet<T: Serialize>(value: &T) -> Result<Vec<u8>, PacketError> {
    let packet = serde_json::to_vec(value)?;
    if packet.len() > PACKET_BYTES_MAX { Err(PacketError::TooLong) } else { Ok(packet) }
}

/// The value of a packet.
///
/// # Errors
/// [`PacketError`].
pub fn from_packet<'a, T: Deserialize<'a>>(packet: &'a [u8]) -> Result<T, PacketError> {
    if packet.len() > PACKET_BYTES_MAX {
        return Err(PacketError::TooLong);
    }
    Ok(serde_json::from_slice(packet)?)
}

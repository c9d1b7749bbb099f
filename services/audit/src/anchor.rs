//! Level L1: the TPM remembers the head of the chain, which whoever brings back an older disk does not bring back.
//!
//! ```text
//! TPM                  the head, as slots.rs has it
//! STATE/anchored.note  the head that the TPM was given last: so that a TPM that forgot is not taken for a new one
//! STATE/alarm          what was found when it was not as remembered; stays until a person removes it
//! ```
//!
//! The TPM is told first and the disk afterwards, so a crash between leaves a disk that knows less, which is no alarm.

pub mod decide;
#[cfg(feature = "tpm")]
mod looking;
pub mod slots;
#[cfg(feature = "tpm")]
pub mod tpm;

#[cfg(feature = "tpm")]
pub use looking::{AnchorError, look};

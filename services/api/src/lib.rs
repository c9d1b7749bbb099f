//! What services say to each other: requests and replies, one module per service.
//!
//! One JSON object per packet of a `SOCK_SEQPACKET` socket. This crate never opens anything: it turns values into
//! packets and packets into values. Who may ask what is decided by the service, from the kernel's word on who asks.

pub mod audit;
pub mod packet;
pub mod profiles;

/// The page of each service: who may ask it what.
pub use secai_verifier::service;

/// A packet, request or reply. Larger ones are refused unread.
pub const PACKET_BYTES_MAX: usize = 32 << 10;

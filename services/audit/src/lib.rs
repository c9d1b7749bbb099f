//! The one writer of the audit chain (`verifier/spec/audit-chain.md`): takes requests on a socket, stamps them with
//! the caller that the kernel names, and acknowledges them when they are on the disk.
//!
//! Requests ([`serve`]) → [`decide`] → [`writer`] (a batch: what queued up during the last sync) → [`disk`] → acknowledgements.
//! What systemd says of the services comes in between ([`systemd`] → [`states`] → [`serve`]).
//! [`recover`] puts back in order what a crash left; [`keys`] holds the one private key. [`witness`] is another user who
//! remembers the head, [`cosign`] a witness on another machine, [`anchor`] the TPM (its own part with the feature `tpm`).
//!
//! This service never changes an entry, never removes one but by [`prune`], which says so in the chain, never writes what a caller says about itself, and never goes on
//! after a write or a sync that failed: it ends, and what it had not acknowledged is as if it had not been asked.

pub mod anchor;
pub mod config;
pub mod cosign;
pub mod decide;
pub mod disk;
pub mod keys;
pub mod prune;
pub mod recover;
pub mod serve;
pub mod states;
pub mod systemd;
pub mod witness;
pub mod writer;

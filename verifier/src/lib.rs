//! Judges releases, and defines every format a release is made of.
//!
//! Whatever can be checked afterwards is defined here; whoever produces it depends on this crate and
//! renders through the same types that parse. `spec/bundle.md` is the authority on bytes, each module
//! implements one section of it. Parsers take bytes or a [`std::io::BufRead`], never a path; only [`files`]
//! and [`audit::store`] open files. [`check`] decides: it alone makes a [`check::VerifiedContent`], as
//! [`audit::chain`] alone makes a [`audit::chain::VerifiedChain`].
//!
//! This crate never opens a socket, never starts a process, never holds the private half of a key,
//! and never takes a second view of a byte: what could be read in two ways is refused.

mod accounts;
pub mod audit;
pub mod canonical;
pub mod check;
pub mod claims;
pub mod device;
pub mod digest;
pub mod dsse;
pub mod evidence;
pub mod files;
pub mod grubenv;
mod layer;
pub mod layout;
pub mod limits;
pub mod network;
pub mod oci;
pub mod openpgp;
pub mod ostree;
pub mod refusal;
pub mod release;
pub mod sbom;
pub mod service;
pub mod statement;
pub mod sums;
pub mod tar;
mod threshold;
pub mod time;
mod tree;
pub mod trust;

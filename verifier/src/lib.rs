//! Judges releases, and defines every format a release is made of.
//!
//! Whatever can be checked afterwards is defined here; whoever produces it depends on this crate and
//! renders through the same types that parse. `spec/bundle.md` is the authority on bytes, each module
//! implements one section of it. Parsers take bytes or a [`std::io::Read`], never a path; only
//! `check` and `cmd` open files.
//!
//! This crate never opens a socket, never starts a process, never holds the private half of a key,
//! and never takes a second view of a byte: what could be read in two ways is refused.

pub mod canonical;
pub mod digest;
pub mod dsse;
pub mod layout;
pub mod limits;
pub mod oci;
pub mod ostree;
pub mod release;
pub mod sbom;
pub mod statement;
pub mod sums;
pub mod tar;
pub mod time;
pub mod trust;

//! `secai-first-boot`: makes what a device has and its image has not – `/var`, and the account of its owner – and unmakes both when
//! he says so. Whether to ask, to make, to open or to refuse is decided apart from doing it ([`decide`]).
//!
//! A cut at any step is safe: what is begun is marked before, what is finished says so itself, and the next boot goes on.
//!
//! This program never formats what was finished, nor what it did not make; never goes on with a guess where a credential is
//! malformed; never names a secret in an argument, a message or a file that outlives the boot; and never opens a socket.

pub mod accounts;
pub mod config;
pub mod decide;
pub mod deployments;
pub mod etc;
pub mod mark;
pub mod owner;
pub mod reset;
pub mod terminal;
pub mod users;
pub mod var;

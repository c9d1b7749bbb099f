//! `secai-firewall`: loads the rules of a profile into the kernel, a chain for each link among them, and says which hold.
//!
//! It runs, and ends: no packet waits for it. Which profile holds is kept nowhere but in the kernel: the digest of the
//! rules that nft lists says it. Whatever goes wrong ends in stricter rules than were asked for, never in looser ones.
//!
//! This program never decides which profile is to hold, never lets a link up that has no chain, never loads rules that
//! were not proven, and never opens a socket: `nft` and `ip` do, by their absolute paths, in an empty environment.

pub mod act;
pub mod config;
pub mod decide;
pub mod programs;
pub mod second;

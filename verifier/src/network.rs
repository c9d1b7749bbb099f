//! What may leave a device, as nft's rules say it: typed rules, their text, and the proof that they are what a profile
//! promises. `spec/ruleset.md` is the authority; each module is one section of it.
//!
//! ```text
//! profile page ─ compose ─→ Ruleset ─ print ─→ PROFILE.nft ─ nft ─→ kernel
//!                                                                     │ nft list ruleset
//! profile page ─ promise ──→ prove ←─ model ←─ Ruleset ←─── parse ────┘
//! ```
//! The way up and the way down meet in the profile alone: the prover never sees what was composed, only nft's text.

pub mod bind;
pub mod compose;
pub mod implications;
pub mod links;
mod model;
pub mod names;
pub mod normal;
pub mod one;
mod packets;
pub mod parse;
mod print;
pub mod profile;
mod promise;
pub mod prove;
pub mod refusal;
pub mod rules;

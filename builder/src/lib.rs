//! From a recipe to a signed release: the library behind `secai-build`.
//!
//! Data takes the way of the file names: [`recipe`] → [`plan`] → [`rootfs`] → [`commit`] → [`image`] → [`attest`] →
//! [`bundle`], each stage taking the previous one's type; [`disk`] makes of it what a machine starts from, [`boot`] starts
//! either.
//!
//! This crate never decides whether a release is acceptable (that is `secai-verifier`), never writes a name or
//! format that the verifier does not define, and touches private keys in [`release`] and [`keys`] only.

pub mod attest;
pub mod boot;
pub mod bundle;
pub mod cache;
pub mod commit;
pub mod contents;
pub mod deploy;
pub mod disk;
pub mod error;
pub mod image;
pub mod keys;
pub mod owners;
pub mod pack;
pub mod pipeline;
pub mod plan;
pub mod progress;
pub mod recipe;
pub mod release;
pub mod rootfs;
pub mod rulesets;
pub mod services;
pub mod stage;
pub mod tools;
pub mod tree;

//! `secai-dns-leak-check`: looks whether names are asked for anywhere, and whether such a request could leave.
//!
//! It looks at what lies there first ([`look`]), proves the live rules itself ([`rules`]), then sends canaries to
//! addresses that are nobody's ([`canary`]), and says in one last line what came of it ([`decide`]).
//!
//! This service never changes rules, settings or links, never sends to an address that is somebody's, never puts a
//! name that a user asked for into a packet or a line, and takes nobody's word for which profile holds.

pub mod canary;
pub mod config;
pub mod decide;
pub mod evidence;
pub mod look;
pub mod rules;
pub mod serve;

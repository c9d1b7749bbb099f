//! `secai-profiles`: the one service that changes what may leave the device. It says what a profile would mean, has a person
//! confirm it at the device's own terminal, changes rules and units in an order that never opens too early, records it,
//! and keeps the rules as they are until then.
//!
//! A profile other than the strictest holds only while this service runs: however it ends, its unit has `secai-firewall`
//! load the strictest one, and whatever begins, begins there.
//!
//! This service never loosens what is not recorded first, never takes a caller's word for what a person typed, never
//! loads rules itself (`secai-firewall` does, which proves them), and never keeps a profile over a restart.

pub mod config;
pub mod decide;
pub mod firewall;
pub mod person;
pub mod question;
pub mod record;
pub mod serve;
pub mod switch;
pub mod units;
pub mod watch;

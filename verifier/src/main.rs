//! `verify-release`.
fn main() {}

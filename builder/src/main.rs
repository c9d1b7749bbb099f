//! `secai-build`.
fn main() {}

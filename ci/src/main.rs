//! `cargo ci STEP`.
fn main() {}

//! The `routectl` program.
fn main() {}

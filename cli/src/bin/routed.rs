//! The `routed` program.
fn main() {}

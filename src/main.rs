//! The `appliance` program.
fn main() {}

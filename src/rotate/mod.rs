//! Rotates keys of a cluster, step by step, and goes on where an earlier run was cut.

pub mod here;
pub mod masters;
pub mod secrets;
#[cfg(test)]
mod tests;

//! Rotates keys of a cluster, step by step, and goes on where an earlier run was cut.

pub mod accounts;
pub mod authority;
pub mod cluster;
pub mod here;
pub mod masters;
pub mod members;
pub mod node;
pub mod secrets;
#[cfg(test)]
mod tests;

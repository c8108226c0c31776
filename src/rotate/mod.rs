//! Rotates keys of a cluster, step by step, and goes on where an earlier run was cut.

pub mod accounts;
pub mod authority;
pub mod cluster;
mod files;
pub mod here;
pub mod masters;
pub mod members;
pub mod node;
mod pods;
pub mod secrets;
#[cfg(test)]
mod tests;

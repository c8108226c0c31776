//! Reads the machine and writes nothing: what a node has of all that it needs.

pub mod addons;
pub mod inputs;
pub mod node;
pub mod preflight;
pub mod records;
pub mod software;
pub mod workloads;

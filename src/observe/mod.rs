//! Reads the machine and writes nothing: which parts of the desired node exist already.

pub mod addons;
pub mod cis;
pub mod doctor;
pub mod images;
pub mod inputs;
mod interfaces;
pub mod node;
pub mod peers;
pub mod preflight;
pub mod records;
pub mod removal;
pub mod software;
pub mod trace;
pub mod user;
pub mod versions;
pub mod workloads;
pub mod writable;

//! The bundle: what an appliance carries, from upstream releases to the files on a node.
//!
//! `bundle.toml` and `bundle.lock` → [`fetch`] → [`cache`] → [`pack`] → [`payload`] → [`unpack`].

pub mod archive;
pub mod cache;
mod contents;
pub mod definition;
pub mod doctor;
pub mod elf;
pub mod fetch;
pub mod image;
pub mod lock;
pub mod manifest;
mod names;
pub mod pack;
pub mod payload;
pub mod repack;
pub mod sbom;
pub mod seal;
pub mod signature;
mod tarball;
pub mod transfer;
pub mod unpack;
pub mod upstream;
pub mod verify;
pub mod workload;

//! Servers on this machine whose answers a test chooses, good or bad.

// A test that cannot continue panics with the place.
#![allow(clippy::unwrap_used)]

pub mod keystone;
pub mod metadata;
pub mod server;

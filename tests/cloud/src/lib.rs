//! Servers on this machine that answer as a test says, well or badly.

// A test that cannot go on says where.
#![allow(clippy::unwrap_used)]

pub mod keystone;
pub mod metadata;
pub mod server;

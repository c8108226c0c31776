//! The integration tests: one binary, one module for each part of the product.

// A test that cannot go on says where.
#![allow(clippy::unwrap_used)]

mod binary;
mod cloud_init;
mod harness;
mod install;
mod layout;
mod metadata;
mod payload;
mod pki;
mod plan;
mod rendered;
mod spec;
mod status;
mod vm;

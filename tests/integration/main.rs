//! The integration tests: one binary, one module for each part of the product.

// A test that cannot go on says where.
#![allow(clippy::unwrap_used)]

mod layout;
mod metadata;
mod payload;
mod rendered;
mod spec;

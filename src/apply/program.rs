//! This program, where the node's units find it.

use std::path::Path;

use anyhow::Result;

use crate::bundle::payload::this_program;
use crate::sys::atomic;

/// Copies the running program to `path`.
pub fn install(path: &Path) -> Result<()> {
    atomic::copy(&this_program()?, path, 0o755)
}

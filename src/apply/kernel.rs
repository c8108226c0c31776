//! Loads kernel modules and changes settings of the running system.

use std::fs;

use anyhow::{Context, Result};

use crate::clients::kernel::sysctl_path;
use crate::sys::process::{Command, Runner};

/// Loads a module.
pub fn load_module(runner: &dyn Runner, module: &str) -> Result<()> {
    runner.check(&Command::new("modprobe", &[module])).map(drop)
}

/// Sets a setting until the next boot. The value may be empty.
pub fn set_sysctl(key: &str, value: &str) -> Result<()> {
    let path = sysctl_path(key);
    // The kernel does not see a write of nothing.
    fs::write(&path, format!("{value}\n"))
        .with_context(|| format!("cannot set sysctl {key} to {value} ({})", path.display()))
}

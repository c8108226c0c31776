//! Loads kernel modules and changes settings of the running system.

use std::fs;

use anyhow::{Context, Result};

use crate::clients::kernel::sysctl_path;
use crate::sys::process::{Command, Runner};

/// Loads a module.
pub fn load_module(runner: &dyn Runner, module: &str) -> Result<()> {
    runner.check(&Command::new("modprobe", &[module])).map(drop)
}

/// Sets a setting until the next boot.
pub fn set_sysctl(key: &str, value: &str) -> Result<()> {
    let path = sysctl_path(key);
    fs::write(&path, value)
        .with_context(|| format!("cannot set sysctl {key} to {value} ({})", path.display()))
}

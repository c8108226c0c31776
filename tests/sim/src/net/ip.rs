//! Links, addresses and routes.

use std::path::Path;

use anyhow::{Context, Result};

/// Runs `ip` with these words.
///
/// # Errors An error of `ip`.
pub fn ip(words: &str) -> Result<String> {
    super::run("ip", &words.split_whitespace().collect::<Vec<_>>(), "")
}

/// Runs `ip` with these words in another network namespace.
///
/// # Errors A missing namespace, and errors of `ip`.
pub fn ip_in(namespace: &Path, words: &str) -> Result<String> {
    let enter = format!("--net={}", namespace.display());
    let mut arguments = vec![enter.as_str(), "ip"];
    arguments.extend(words.split_whitespace());
    super::run("nsenter", &arguments, "")
}

/// Writes a kernel setting, named by its path below `/proc/sys/net/ipv4`.
///
/// # Errors A setting that does not exist or is read-only.
pub fn set(setting: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys/net/ipv4").join(setting);
    // If it has this value already, it need not be writable.
    if std::fs::read_to_string(&path).is_ok_and(|old| old.trim() == value) {
        return Ok(());
    }
    std::fs::write(&path, value).with_context(|| path.display().to_string())
}

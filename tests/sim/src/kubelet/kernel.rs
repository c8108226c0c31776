//! The kernel settings that the kubelet wants. With `--protect-kernel-defaults`, it does not change them.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

/// The settings as of v1.9.0, with the values that they must have.
const WANTED: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Checks the settings below `dir`, which is `/proc/sys`.
///
/// # Errors
/// All settings that have another value, in the words of the real kubelet.
pub fn check(dir: &Path) -> Result<()> {
    let mut problems = Vec::new();
    for (name, expected) in WANTED {
        let actual = match fs::read_to_string(dir.join(name)) {
            Ok(text) => text.trim().to_owned(),
            Err(error) => {
                problems.push(format!("open {}: {error}", dir.join(name).display()));
                continue;
            }
        };
        if actual != expected {
            problems.push(format!(
                "Invalid kernel flag: {name}, expected value: {expected}, actual value: {actual}"
            ));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("[{}]", problems.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_setting_that_differs_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("vm")).unwrap();
        fs::create_dir_all(dir.path().join("kernel/keys")).unwrap();
        for (name, value) in WANTED {
            fs::write(dir.path().join(name), format!("{value}\n")).unwrap();
        }
        check(dir.path()).unwrap();
        fs::write(dir.path().join("kernel/panic"), "0\n").unwrap();
        fs::remove_file(dir.path().join("vm/panic_on_oom")).unwrap();
        let said = check(dir.path()).unwrap_err().to_string();
        assert!(
            said.contains("kernel/panic, expected value: 10, actual value: 0"),
            "{said}"
        );
        assert!(said.contains("panic_on_oom"), "{said}");
        assert!(!said.contains("overcommit"), "{said}");
    }
}

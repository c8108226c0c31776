//! Programs of the build machine, with all they need to run where nothing else is.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::archive::Extra;

/// What calico/node's image holds, with the Debian package of each.
pub const OF_CALICO_NODE: [(&str, &str); 6] = [
    ("/usr/sbin/bird", "bird"),
    ("/usr/sbin/birdc", "bird"),
    ("/usr/sbin/iptables", "iptables"),
    ("/usr/sbin/iptables-restore", "iptables"),
    ("/usr/sbin/ip", "iproute2"),
    ("/usr/sbin/iptables-save", "iptables"),
];

/// Where iptables has a file for each target and match.
const EXTENSIONS: &str = "/usr/lib/x86_64-linux-gnu/xtables";
const NEEDED_EXTENSIONS: [&str; 2] = ["libxt_MASQUERADE.so", "libxt_standard.so"];

/// The programs, the libraries and the loader that they name, and iptables' extensions.
///
/// # Errors
/// A program that this machine does not have, with the package to install.
pub fn programs(wanted: &[(&str, &str)]) -> Result<Vec<Extra>> {
    let mut paths = BTreeSet::new();
    for (program, package) in wanted {
        if !Path::new(program).exists() {
            bail!("{program} is missing: apt-get install {package}");
        }
        paths.insert((*program).to_owned());
        paths.extend(libraries(program)?);
    }
    for extension in NEEDED_EXTENSIONS {
        paths.insert(format!("{EXTENSIONS}/{extension}"));
    }
    paths.into_iter().map(read).collect()
}

/// What `ldd` lists: lines such as `libc.so.6 => /lib/…/libc.so.6 (0x…)`, and the loader
/// without an arrow.
fn libraries(program: &str) -> Result<Vec<String>> {
    let output = Command::new("ldd").arg(program).output().context("ldd")?;
    if !output.status.success() {
        bail!("ldd {program}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let words = text.split_whitespace();
    Ok(words
        .filter(|word| word.starts_with('/'))
        .map(str::to_owned)
        .collect())
}

/// A file, through links, under the name it was asked for by.
fn read(path: String) -> Result<Extra> {
    let bytes = fs::read(&path).with_context(|| path.clone())?;
    let mode = fs::metadata(&path)?.permissions().mode() & 0o755;
    Ok(Extra { path, mode, bytes })
}

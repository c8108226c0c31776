//! Programs of the build machine, with all files that they need in an empty image.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::archive::Extra;

/// The programs in calico/node's image, with the Debian package of each.
pub const OF_CALICO_NODE: [(&str, &str); 6] = [
    ("/usr/sbin/bird", "bird"),
    ("/usr/sbin/birdc", "bird"),
    ("/usr/sbin/iptables", "iptables"),
    ("/usr/sbin/iptables-restore", "iptables"),
    ("/usr/sbin/ip", "iproute2"),
    ("/usr/sbin/iptables-save", "iptables"),
];

/// The directory in which iptables has a file for each target and match.
const EXTENSIONS: &str = "/usr/lib/x86_64-linux-gnu/xtables";
const NEEDED_EXTENSIONS: [&str; 2] = ["libxt_MASQUERADE.so", "libxt_standard.so"];

/// The directory with Debian packages that are unpacked, but not installed; `tests/with-tools.sh`
/// sets it.
const UNPACKED: &str = "UNPACKED";

/// The programs, the libraries and the loader that they name, and iptables' extensions.
///
/// # Errors A program that is missing on this machine, with its package.
pub fn programs(wanted: &[(&str, &str)]) -> Result<Vec<Extra>> {
    let unpacked = std::env::var(UNPACKED).ok();
    let mut paths = BTreeSet::new();
    for (program, package) in wanted {
        let at = candidates(unpacked.as_deref(), program)
            .find(|path| Path::new(path).exists())
            .with_context(|| {
                format!("{program} of Debian's {package} is missing; run: make tools")
            })?;
        paths.extend(libraries(&at)?);
        paths.insert(at);
    }
    for extension in NEEDED_EXTENSIONS {
        paths.insert(format!("{EXTENSIONS}/{extension}"));
    }
    let read = |path: String| read(&path, name_in_image(unpacked.as_deref(), &path));
    paths.into_iter().map(read).collect()
}

/// The possible paths of a program: on this machine, or unpacked.
fn candidates<'a>(
    unpacked: Option<&str>,
    program: &'a str,
) -> impl Iterator<Item = String> + use<'a> {
    let unpacked = unpacked.map(|directory| format!("{directory}{program}"));
    std::iter::once(program.to_owned()).chain(unpacked)
}

/// The path of a file when its package is installed.
fn name_in_image<'a>(unpacked: Option<&str>, path: &'a str) -> &'a str {
    unpacked
        .and_then(|directory| path.strip_prefix(directory))
        .unwrap_or(path)
}

/// The output of `ldd`: lines such as `libc.so.6 => /lib/…/libc.so.6 (0x…)`, and the loader without
/// an arrow.
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

/// A file with that name, after following links.
fn read(path: &str, name: &str) -> Result<Extra> {
    let bytes = fs::read(path).with_context(|| path.to_owned())?;
    let mode = fs::metadata(path)?.permissions().mode() & 0o755;
    Ok(Extra {
        path: name.to_owned(),
        mode,
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::name_in_image;

    #[test]
    fn an_unpacked_file_has_its_own_path_in_the_image() {
        let name = |path| name_in_image(Some("/somewhere/root"), path);
        assert_eq!(name("/somewhere/root/usr/sbin/bird"), "/usr/sbin/bird");
        assert_eq!(name("/usr/sbin/ip"), "/usr/sbin/ip");
        assert_eq!(name_in_image(None, "/usr/sbin/ip"), "/usr/sbin/ip");
    }
}

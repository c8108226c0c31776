//! Reads the facts about a machine that [`crate::preflight`] judges. Everything is read below a root, so
//! also of a mounted image, or of files that a test made. Writes nothing.

use anyhow::Result;
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};

use super::records;
use super::software::docker_source;
use crate::bundle::manifest::Manifest;
use crate::preflight::DockerSource;
use crate::preflight::facts::{Facts, Wanted};
use crate::sys::process::Runner;
use crate::sys::root::Root;

pub mod docker;
mod iptables;
mod kernel;
mod listeners;
mod others;
mod storage;
mod system;

pub use system::keeper as clock_keeper;

/// The payload of an installation.
#[derive(Clone, Copy)]
pub struct Bundle<'a> {
    /// Its manifest.
    pub manifest: &'a Manifest,
    /// Whether it is unpacked already.
    pub unpacked: bool,
}

/// The machine to look at, and what it is to become.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The system.
    pub root: &'a Root,
    /// How to run programs.
    pub runner: &'a dyn Runner,
    /// The payload, if there is one.
    pub bundle: Option<Bundle<'a>>,
    /// What it is to become.
    pub wanted: &'a Wanted,
}

/// Reads everything that checks judge.
///
/// # Errors
/// If the system cannot be read at all. A single file that cannot be read counts as missing.
pub fn read(subject: &Subject<'_>) -> Result<Facts> {
    let root = subject.root;
    let installed = records::state(root)?.is_some();
    let manifest = subject.bundle.map(|bundle| bundle.manifest);
    let source = docker_source(root, manifest)?;
    let docker = docker::read(root, manifest, source);
    let data_root = docker.settings.data_root();
    let booted = is_booted(root);
    let live = root.is_live();
    let system = system::read(root, subject.wanted, installed)?;
    let asks = live && system.has_systemd && source != DockerSource::Nowhere;
    Ok(Facts {
        wanted: subject.wanted.clone(),
        installed,
        system,
        booted: match booted {
            true => Some(kernel::read(root, subject.wanted, &data_root)?),
            false => None,
        },
        clock: booted.then(|| system::clock(root)),
        firewall: live.then(|| iptables::read(subject.runner)),
        room: match subject.bundle {
            Some(bundle) => Some(storage::room(root, bundle, &data_root)?),
            None => None,
        },
        docker_source: source,
        docker: match asks {
            true => docker::asked(docker, subject.runner, source)?,
            false => docker,
        },
    })
}

/// Whether the root is a booted system: the running one, or files of one. In a mounted image, the kernel's own
/// `/proc` is that of another machine.
fn is_booted(root: &Root) -> bool {
    const RELEASE: &str = "/proc/sys/kernel/osrelease";
    let of_kernel = || {
        let stat = root.resolve("/proc").ok().map(|proc| statfs(&proc));
        stat.is_some_and(|stat| stat.is_ok_and(|stat| stat.filesystem_type() == PROC_SUPER_MAGIC))
    };
    root.is_live() || (text(root, RELEASE).is_some() && !of_kernel())
}

/// The text of a file; `None` if it does not exist or cannot be read.
fn text(root: &Root, path: &str) -> Option<String> {
    let bytes = root
        .read(path)
        .map_err(|error| log::debug!("{error:#}"))
        .ok()??;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The names in a directory; none if it does not exist or cannot be read.
fn names(root: &Root, path: &str) -> Vec<String> {
    root.list(path).unwrap_or_default()
}

/// Whether anything is at the path.
fn is_there(root: &Root, path: &str) -> bool {
    root.exists(path).unwrap_or_default()
}

/// The version of a package of Debian or Ubuntu that is installed.
fn package_version(root: &Root, names: &[&str]) -> Option<String> {
    let status = text(root, "/var/lib/dpkg/status")?;
    let stanzas = status.split("\n\n");
    let field = |stanza: &str, name: &str| {
        let mut lines = stanza.lines();
        let value = lines.find_map(|line| line.strip_prefix(name))?;
        Some(value.trim().to_owned())
    };
    let mut found = stanzas.filter(|stanza| {
        let package = field(stanza, "Package:").unwrap_or_default();
        let is_installed = field(stanza, "Status:").is_some_and(|s| s.ends_with(" installed"));
        names.contains(&package.as_str()) && is_installed
    });
    field(found.next()?, "Version:")
}

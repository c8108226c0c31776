//! What only a booted system has: the files of the kernel in `/proc` and `/sys`.

use anyhow::Result;
use procfs::FromRead;
use procfs::process::MountInfos;

use super::{listeners, names, storage, text};
use crate::clients::kernel::Modules;
use crate::desired;
use crate::preflight::facts::{Booted, Cgroups, Wanted};
use crate::sys::root::Root;

/// Modules that docker, iptables and kube-proxy need, and that the kernel loads when they are used.
const FEATURES: &[&str] = &[
    "overlay",
    "veth",
    "bridge",
    "nf_conntrack",
    "xt_comment",
    "xt_conntrack",
    "xt_statistic",
    "xt_nat",
];

/// Reads it.
pub fn read(root: &Root, wanted: &Wanted, data_root: &str) -> Result<Booted> {
    let release = line(root, "/proc/sys/kernel/osrelease");
    let mounts = mounts(root);
    let loads = desired::modules(wanted.ipip);
    let modules = Modules::of(root, &release);
    Ok(Booted {
        missing_modules: missing(&modules, loads.iter().map(String::as_str)),
        missing_features: missing(&modules, FEATURES.iter().copied()),
        knows_modules: modules.is_known(),
        cgroups: cgroups(root, &mounts),
        swaps: swaps(root),
        places: storage::places(root, &mounts, data_root)?,
        memory: memory(root),
        processors: processors(root),
        fips: line(root, "/proc/sys/crypto/fips_enabled") == "1",
        conntrack: conntrack(root),
        selinux: line(root, "/sys/fs/selinux/enforce") == "1",
        listeners: listeners::read(root),
        uuid: text(root, "/sys/class/dmi/id/product_uuid"),
        hostname: line(root, "/proc/sys/kernel/hostname"),
        release,
    })
}

fn line(root: &Root, path: &str) -> String {
    text(root, path).unwrap_or_default().trim().to_owned()
}

/// The mounts that this process sees, the newest last.
fn mounts(root: &Root) -> MountInfos {
    let text = text(root, "/proc/self/mountinfo").unwrap_or_default();
    MountInfos::from_read(text.as_bytes()).unwrap_or_else(|error| {
        log::debug!("/proc/self/mountinfo: {error}");
        MountInfos(Vec::new())
    })
}

/// Those of these modules that the kernel neither has nor can load.
fn missing<'a>(modules: &Modules<'_>, wanted: impl Iterator<Item = &'a str>) -> Vec<String> {
    let missing = wanted.filter(|name| !modules.can_have(name));
    missing.map(str::to_owned).collect()
}

fn cgroups(root: &Root, mounts: &MountInfos) -> Option<Cgroups> {
    if mounts.0.is_empty() {
        return None;
    }
    let mut found = Cgroups::default();
    for mount in &mounts.0 {
        match mount.fs_type.as_str() {
            "cgroup2" => found.unified |= mount.mount_point.as_os_str() == "/sys/fs/cgroup",
            "cgroup" => found.mounted.extend(mount.super_options.keys().cloned()),
            _ => {}
        }
    }
    // name, hierarchy, number of cgroups, enabled
    let table = text(root, "/proc/cgroups").unwrap_or_default();
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [name, .., "0"] = fields[..] {
            found.disabled.insert(name.to_owned());
        }
    }
    Some(found)
}

fn swaps(root: &Root) -> Vec<String> {
    let table = text(root, "/proc/swaps").unwrap_or_default();
    let lines = table.lines().skip(1);
    let files = lines.filter_map(|line| line.split_whitespace().next());
    files.map(str::to_owned).collect()
}

/// The memory in KiB.
fn memory(root: &Root) -> u64 {
    let table = text(root, "/proc/meminfo").unwrap_or_default();
    let total = table
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let number = total.and_then(|total| total.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

fn processors(root: &Root) -> usize {
    let is_processor = |name: &&String| {
        let number = name.strip_prefix("cpu").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    names(root, "/sys/devices/system/cpu")
        .iter()
        .filter(is_processor)
        .count()
}

fn conntrack(root: &Root) -> Option<(u64, u64)> {
    let number = |name: &str| {
        line(root, &format!("/proc/sys/net/netfilter/{name}"))
            .parse()
            .ok()
    };
    number("nf_conntrack_count").zip(number("nf_conntrack_max"))
}

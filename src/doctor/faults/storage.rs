//! File systems that are full, or cannot be written to.

use super::super::facts::{Facts, FileSystem};
use super::super::{Fault, Seen, seen};
use super::{FIRST_SERVICES, cause, journal, mebibytes, quoted};
use crate::language::tr;
use crate::paths;
use crate::preflight::facts::Place;

/// What follows from a disk that takes no more.
const FOLLOWS: &[&str] = &[
    "etcd-down",
    "docker-down",
    "api-server-down",
    "kubelet-down",
    "calico-down",
    "kube-proxy-down",
    "other-service-down",
    "installation-failed",
    "images-lost",
    "node-pressure",
    "node-not-ready",
    "docker-hangs",
    "disk-nearly-full",
];

#[rustfmt::skip]
pub const FAULTS: &[Fault] = &[
    cause("disk-full", "the room on each file system, and `no space left on device` in the journals",
        "A file system has no room left: etcd, docker and the journal cannot write. `appliance status` shows what takes the room.",
        "journalctl --vacuum-size=100M", full).explains(FOLLOWS),
    cause("disk-nearly-full", "the room on each file system",
        "At 90 % the kubelet ends pods and removes images, which only this program can load again.",
        "appliance prune", nearly_full).explains(&["node-pressure", "images-lost"]),
    cause("inodes-full", "how many files each file system still takes",
        "The file system has room, but takes no more files. Many small files took them all.",
        "du --inodes -xS /var | sort -n | tail", inodes).explains(FOLLOWS),
    cause("read-only", "the mounts, and `read-only file system` in the journals",
        "The kernel made a file system read-only after errors of its disk, or it is mounted so.",
        "mount -o remount,rw PLACE", read_only).explains(FIRST_SERVICES),
    cause("no-exec", "the mounts below the programs",
        "A file system is mounted noexec, so programs on it do not run.",
        "mount -o remount,exec PLACE", no_exec).explains(FIRST_SERVICES),
];

/// Whether less than a hundredth, and less than 256 MiB, is left.
fn is_full(system: &FileSystem) -> bool {
    let size = system.used + system.available;
    size > 0 && system.available < (size / 100).min(256 << 20)
}

fn told(system: &FileSystem) -> String {
    tr!(
        "{} has {} MiB of {} MiB left",
        system.place,
        mebibytes(system.available),
        mebibytes(system.used + system.available)
    )
}

fn full(facts: &Facts) -> Option<Seen> {
    let systems = facts.file_systems.iter().filter(|one| is_full(one));
    let lines = journal(facts, &["no space left on device"]);
    let found = seen(systems.map(told).chain(lines))?;
    let at = |system: &&FileSystem| system.place.starts_with(paths::BUNDLES);
    let of_bundles = facts
        .file_systems
        .iter()
        .filter(|one| is_full(one))
        .any(|one| at(&one));
    Some(match of_bundles {
        true => found.mended_by("appliance prune".to_owned()),
        false => found,
    })
}

fn nearly_full(facts: &Facts) -> Option<Seen> {
    let nearly = |one: &&FileSystem| {
        let size = one.used + one.available;
        size > 0 && one.used >= size / 10 * 9 && !is_full(one)
    };
    seen(facts.file_systems.iter().filter(nearly).map(told))
}

fn inodes(facts: &Facts) -> Option<Seen> {
    const FEW: u64 = 100;
    let few = facts.file_systems.iter().filter_map(|one| {
        let files = one.files.filter(|files| *files < FEW)?;
        Some(tr!("{} takes {files} more files", one.place, files))
    });
    seen(few)
}

/// The first place that this is true of, as an argument of `mount`.
fn remounted(facts: &Facts, is_bad: fn(&Place) -> bool, option: &str) -> Option<(String, String)> {
    let booted = facts.machine.as_ref()?.booted.as_ref()?;
    let place = booted.places.iter().find(|place| is_bad(place))?;
    let command = format!("mount -o remount,{option} {}", quoted(&place.mount));
    Some((format!("{} ({})", place.path, place.mount), command))
}

fn read_only(facts: &Facts) -> Option<Seen> {
    match remounted(facts, |place| place.read_only, "rw") {
        Some((place, command)) => {
            let what = tr!("{place} is mounted read-only", place);
            Some(Seen::of(what).mended_by(command))
        }
        None => seen(journal(facts, &["read-only file system"]))
            .map(|found| found.mended_by("mount -o remount,rw /")),
    }
}

fn no_exec(facts: &Facts) -> Option<Seen> {
    let (place, command) = remounted(facts, |place| place.noexec, "exec")?;
    Some(Seen::of(tr!("{place} is mounted noexec", place)).mended_by(command))
}

//! File systems: whether programs run there, whether they can be written to, and their room.

use super::booted;
use crate::language::tr;
use crate::paths;
use crate::preflight::facts::{Facts, Place};
use crate::preflight::{Finding, RESERVE, mebibytes};

/// Files that must be possible beside those of the bundle and of the images.
const FILES: u64 = 50_000;

fn options(place: &Place, option: &str, other: &str) -> (String, String) {
    let Place { path, mount, .. } = place;
    (
        tr!(
            "{path} is on a file system mounted {option} ({mount})",
            path,
            option,
            mount
        ),
        tr!(
            "`mount -o remount,{other} {mount}`, and change /etc/fstab",
            other,
            mount
        ),
    )
}

pub fn programs_run(facts: &Facts) -> Finding {
    booted(facts, |booted| {
        let mut without = booted.places.iter().filter(|place| place.noexec);
        let Some(place) = without.clone().find(|place| place.path == paths::BUNDLES) else {
            return match without.next() {
                None => Finding::pass(tr!("programs run in all of them")),
                Some(place) => {
                    let (seen, command) = options(place, "noexec", "exec");
                    Finding::warn(seen, command)
                }
            };
        };
        let (seen, command) = options(place, "noexec", "exec");
        Finding::fail(
            tr!("{seen}, so the node's programs cannot run", seen),
            command,
        )
    })
}

pub fn writable(facts: &Facts) -> Finding {
    booted(facts, |booted| {
        match booted.places.iter().find(|place| place.read_only) {
            None => Finding::pass(tr!("all of them can be written to")),
            Some(place) => {
                let (seen, command) = options(place, "read-only", "rw");
                Finding::fail(seen, command)
            }
        }
    })
}

pub fn space(facts: &Facts) -> Finding {
    let Some(rooms) = &facts.room else {
        return Finding::elsewhere(tr!(
            "this program carries no bundle, so its size is not known"
        ));
    };
    let short = rooms.iter().find(|room| room.needed + RESERVE > room.free);
    match short {
        None => Finding::pass(tr!("there is enough")),
        Some(short) => Finding::fail(
            tr!(
                "{} needs {} MiB and {} MiB to spare, but only {} MiB are free",
                short.place,
                mebibytes(short.needed),
                mebibytes(RESERVE),
                mebibytes(short.free)
            ),
            tr!(
                "delete files there, or boot this VM with a flavor or volume that has a bigger disk"
            ),
        ),
    }
}

pub fn inodes(facts: &Facts) -> Finding {
    let rooms = facts.room.iter().flatten();
    let counted = rooms.filter_map(|room| Some((&room.place, room.files?)));
    match counted.min_by_key(|(_, files)| *files) {
        Some((place, files)) if files < FILES => Finding::warn(
            tr!(
                "{place} has room for {files} more files only; images need about {FILES}",
                place,
                files,
                FILES
            ),
            tr!("delete files there, or make the file system anew with `mkfs.ext4 -i 8192`"),
        ),
        Some((_, files)) => Finding::pass(tr!("room for {files} more files", files)),
        None => Finding::elsewhere(tr!("the file systems have no limit, or there is no bundle")),
    }
}

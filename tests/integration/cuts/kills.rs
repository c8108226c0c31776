//! Commands that are killed at a system call that changes something, before the call has an effect.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;

use super::judge::{Figures, Verdict, judge};
use super::scene::{Known, Place};
use super::strace::{Call, strace};
use super::{Job, chosen, known, make};
use crate::harness::said;

/// A moment of a command: a system call of a thread, by its name and its number.
pub type Moment = (String, usize);

/// The calls that change something in the place, or that lock.
const CHANGING: [&str; 22] = [
    "write",
    "pwrite64",
    "copy_file_range",
    "sendfile",
    "ftruncate",
    "fchmod",
    "fchown",
    "chmod",
    "fchmodat",
    "fsetxattr",
    "fsync",
    "fdatasync",
    "mkdir",
    "rename",
    "renameat",
    "renameat2",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
    "rmdir",
    "flock",
];

/// Whether the call changes something in the place.
fn changes(known: &Known, call: &Call) -> bool {
    let is_changing = match call.name.as_str() {
        "openat" => call.has(2, "O_CREAT"),
        name => CHANGING.contains(&name),
    };
    let place = &known.recorded_at;
    is_changing && (call.is_below(place) || known.scene.is_root && call.is_below("/".as_ref()))
}

/// All moments of the command.
pub fn moments(known: &Known) -> BTreeSet<Moment> {
    let changing = known.calls.iter().filter(|call| changes(known, call));
    changing
        .map(|call| (call.name.clone(), call.number))
        .collect()
}

/// Makes the cuts.
pub fn all() -> Figures {
    let mut jobs = Vec::new();
    for (scene, known) in known().iter().enumerate() {
        jobs.extend(moments(known).into_iter().map(|cut| Job {
            scene,
            name: format!("{}: killed at {} {}", known.name, cut.0, cut.1),
            cut,
        }));
    }
    make(&chosen(jobs), |known, place, job| {
        kill(known, place, &job.cut)
    })
}

/// Kills the command there. Nothing is judged if another run of it does not get there: threads share their work
/// otherwise each time.
fn kill(known: &Known, place: &Place, (call, number): &Moment) -> Option<Verdict> {
    place.make(&known.scene.before);
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:signal=SIGKILL:when={number}");
    // With `--seccomp-bpf`, strace 6.1 sends no signal.
    let options = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
    let output = strace(&known.scene.command(&place.path()), &options)
        .output()
        .unwrap();
    if output.status.signal() != Some(9) {
        // A program that it started may have got there first, and is killed instead.
        let instead = known.scene.made_by_others.is_some();
        // What prepares the root directory may have got there first.
        let early = known.scene.is_root;
        let ended = output.status.success();
        assert!(instead || early || ended, "{}", said(&output));
        if !instead || ended {
            return None;
        }
    }
    Some(judge(known, place, &[]))
}

//! Commands that get an error from the system: a full disk, a broken one, too many open files.

use std::fs;
use std::path::Path;
use std::process::Output;

use super::judge::{Figures, Verdict, judge};
use super::scene::{Known, Place, ROOT};
use super::strace::strace;
use super::tree::{self, Entry, Tree};
use super::{Job, chosen, kills, known, make};
use crate::harness::{SmallDisk, said};

/// What each call may answer. `retval=0` of a write is a disk that takes no byte and has no error. After `+`, all later
/// calls answer the same.
const FAULTS: [(&str, &[&str]); 17] = [
    (
        "openat",
        &["error=EMFILE", "error=EMFILE+", "error=ENOSPC", "error=EIO"],
    ),
    ("write", &["error=ENOSPC", "error=EIO", "retval=0"]),
    ("pwrite64", &["error=ENOSPC", "error=EIO"]),
    ("copy_file_range", &["error=ENOSPC", "error=EIO"]),
    ("ftruncate", &["error=ENOSPC", "error=EIO"]),
    ("fchmod", &["error=EIO"]),
    ("fchown", &["error=EIO"]),
    ("chmod", &["error=EIO"]),
    ("fsync", &["error=EIO", "error=EIO+", "error=ENOSPC"]),
    ("mkdir", &["error=ENOSPC", "error=ENOSPC+", "error=EIO"]),
    ("rename", &["error=ENOSPC", "error=EIO"]),
    ("renameat", &["error=ENOSPC", "error=EIO"]),
    ("renameat2", &["error=ENOSPC", "error=ENOSPC+", "error=EIO"]),
    ("symlink", &["error=ENOSPC"]),
    ("unlink", &["error=EIO"]),
    ("unlinkat", &["error=EIO"]),
    ("flock", &["error=ENOLCK"]),
];

/// How many pages of memory a disk lacks that gets full: each is tried.
const LACKS: [u64; 12] = [1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 40, 50];
/// The last exit code of the program that means something.
const LAST_CODE: i32 = 7;
/// The size of a page, in bytes: a disk in memory counts them.
const PAGE: u64 = 4096;

/// What goes wrong.
enum Fault {
    /// A call fails like this.
    Call(kills::Moment, &'static str),
    /// The disk has this many pages fewer than the command needs. The last write before it is full is short.
    FullDisk(u64),
}

/// Makes calls fail, and disks full.
pub fn all() -> Figures {
    let mut jobs = Vec::new();
    for (scene, known) in known().iter().enumerate() {
        let cuts = of_calls(known).into_iter().chain(of_disks(known));
        jobs.extend(cuts.map(|(name, cut)| Job {
            scene,
            name: format!("{}: {name}", known.name),
            cut,
        }));
    }
    make(&chosen(jobs), |known, place, job| match &job.cut {
        Fault::Call(moment, answer) => fail(known, place, moment, answer),
        Fault::FullDisk(lack) => fill(known, place, *lack),
    })
}

/// Every call of the scene that fails, with its name.
fn of_calls(known: &Known) -> Vec<(String, Fault)> {
    let mut faults = Vec::new();
    for moment in kills::moments(known) {
        let answers = FAULTS.iter().find(|(name, _)| *name == moment.0);
        let answers = answers.map_or(&[][..], |(_, answers)| answers);
        faults.extend(answers.iter().map(|answer| {
            let name = format!("{} {} with {answer}", moment.0, moment.1);
            (name, Fault::Call(moment.clone(), answer))
        }));
    }
    faults
}

/// The full disks of the scene. Commands that look for room first are left out: they refuse.
fn of_disks(known: &Known) -> Vec<(String, Fault)> {
    if known.scene.before.contains_key(Path::new(ROOT)) {
        return vec![];
    }
    let grown = pages(&known.expected.tree) - pages(&known.scene.before);
    let lacks = LACKS.into_iter().filter(|lack| *lack <= grown);
    lacks
        .map(|lack| (format!("{lack} pages too few"), Fault::FullDisk(lack)))
        .collect()
}

/// How many pages the files of a tree take.
fn pages(tree: &Tree) -> u64 {
    let sizes = tree.values().filter_map(Entry::content);
    let sizes = sizes.map(|content| (content.len() as u64).div_ceil(PAGE));
    sizes.sum()
}

/// Makes one call fail.
fn fail(
    known: &Known,
    place: &Place,
    (call, number): &kills::Moment,
    answer: &str,
) -> Option<Verdict> {
    place.make(&known.scene.before);
    let log = place.path().with_extension("log");
    let trace = format!("trace={call}");
    let (answer, later) = match answer.strip_suffix('+') {
        Some(answer) => (answer, "+"),
        None => (answer, ""),
    };
    let inject = format!("inject={call}:{answer}:when={number}{later}");
    let log_path = log.to_str().unwrap();
    let options = ["--seccomp-bpf", "-o", log_path, "-e", &trace, "-e", &inject];
    let mut traced = strace(&known.scene.command(&place.path()), &options);
    let output = traced.output().unwrap();
    if !fs::read_to_string(&log).unwrap().contains("(INJECTED)") {
        return None;
    }
    let mut problems = problems(known, place, &output);
    let is_warned = said(&output).contains("warning: ");
    if call == "fsync" && output.status.success() && !is_warned {
        problems.push("nobody was told that data is not safe".to_owned());
    }
    let mut verdict = judge(known, place, &[]);
    verdict.diverged.extend(problems);
    Some(verdict)
}

/// Runs the command on a disk with too little room, and again after the disk has grown.
fn fill(known: &Known, place: &Place, lack: u64) -> Option<Verdict> {
    place.make(&Tree::new());
    let size = (pages(&known.expected.tree) - lack) * PAGE;
    let disk = SmallDisk::at(place.path(), &size.to_string());
    tree::write(&known.scene.before, &place.path());
    let output = known.run(place);
    let problems = problems(known, place, &output);
    disk.grow();
    let mut verdict = judge(known, place, &[]);
    verdict.diverged.extend(problems);
    Some(verdict)
}

/// What is wrong with how a run ended. A run that succeeds nevertheless must have done everything.
fn problems(known: &Known, place: &Place, output: &Output) -> Vec<String> {
    let mut problems = Vec::new();
    let text = said(output);
    let code = output.status.code();
    if code.is_none_or(|code| code > LAST_CODE) || text.contains("panicked") {
        problems.push(format!("it ended with {:?}: {text}", output.status));
    }
    if code == Some(0) {
        let differences = known.expected.differences(&known.seen(place));
        let optional = known.scene.optional;
        let missing = differences.other.iter();
        let missing = missing.filter(|path| !optional.is_some_and(|dir| path.starts_with(dir)));
        let missing = missing.map(|path| path.display());
        problems.extend(missing.map(|path| format!("it reported success without {path}")));
    } else if !text.contains("error: ") {
        problems.push(format!("it failed without an error: {text}"));
    }
    problems
}

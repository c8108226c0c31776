//! Power cuts: every state that the disk may have afterwards is made, and the command runs again there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use appliance::digest::Sha256;

use super::disk::{Disk, Survives};
use super::judge::{Figures, Verdict, judge};
use super::scene::{Known, Place};
use super::tree::{Entry, Tree, What, digest};
use super::{Job, cuts, known, make, ordered};

/// Which of the changes survive that are not safe at the time of the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// None.
    Nothing,
    /// Names, modes and owners, but no data.
    Names,
    /// The same, and half of each piece of data.
    Halves,
    /// The same, and zeros in place of data.
    Zeros,
    /// Everything but names.
    Data,
    /// All but this one.
    Without(usize),
    /// Only this one.
    Only(usize),
    /// Each or not, as a digest of this number decides.
    Some(u8),
}

/// How many digests decide for each number of operations.
const TOSSES: u8 = 3;

/// A power cut after so many operations.
#[derive(Clone, Copy, Debug)]
struct Cut {
    count: usize,
    kind: Kind,
}

impl Cut {
    /// What survives of each change that is not safe.
    fn survives(self, disk: &Disk) -> BTreeMap<usize, Survives> {
        let pending = disk.pending(self.count);
        let of = |index: usize| {
            let operation = &disk.operations[index];
            let whether = match self.kind {
                Kind::Nothing => false,
                Kind::Names => !operation.is_data(),
                Kind::Halves => return Survives::Half,
                Kind::Zeros => return Survives::Zeros,
                Kind::Data => !operation.is_name(),
                Kind::Without(other) => index != other,
                Kind::Only(other) => index == other,
                Kind::Some(toss) => {
                    let digest = Sha256::of(format!("{toss} {} {index}", self.count).as_bytes());
                    digest.as_str() < "8"
                }
            };
            match whether {
                true => Survives::Yes,
                false => Survives::No,
            }
        };
        pending
            .into_iter()
            .map(|index| (index, of(index)))
            .collect()
    }

    fn tree(self, disk: &Disk) -> Tree {
        disk.after_cut(self.count, &self.survives(disk))
    }
}

/// Every power cut of the scene.
fn possible(known: &Known) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for count in 1..=known.disk.operations.len() {
        let each = [
            Kind::Nothing,
            Kind::Names,
            Kind::Halves,
            Kind::Zeros,
            Kind::Data,
        ];
        let pending = known.disk.pending(count).into_iter();
        let single = pending.flat_map(|index| [Kind::Without(index), Kind::Only(index)]);
        let tosses = (0..TOSSES).map(Kind::Some);
        let kinds = each.into_iter().chain(single).chain(tosses);
        cuts.extend(kinds.map(|kind| Cut { count, kind }));
    }
    cuts
}

/// Makes power cuts. Cuts that leave the same are made once.
pub fn all() -> Figures {
    let mut jobs = Vec::new();
    for (scene, known) in known().iter().enumerate() {
        jobs.extend(possible(known).into_iter().map(|cut| Job {
            scene,
            name: format!("{}: {:?} after {}", known.name, cut.kind, cut.count),
            cut,
        }));
    }
    let all = jobs.len();
    let mut seen = BTreeSet::new();
    let is_new = |job: &Job<Cut>| {
        let tree = job.cut.tree(&known()[job.scene].disk);
        seen.insert((job.scene, digest(&tree).to_string()))
    };
    let jobs: Vec<Job<Cut>> = ordered(jobs)
        .into_iter()
        .filter(is_new)
        .take(cuts())
        .collect();
    println!("{} different states of {all} possible cuts", jobs.len());
    make(&jobs, |known, place, job| Some(cut(known, place, job.cut)))
}

/// Makes what the disk has after the cut.
fn cut(known: &Known, place: &Place, cut: Cut) -> Verdict {
    place.make(&cut.tree(&known.disk));
    let written = known.disk.written(cut.count);
    let is_key = |(path, entry): &(PathBuf, Entry)| {
        let content = entry.content().unwrap_or_default();
        known.expected.is_key(path) && known.expected.has_form(path, content)
    };
    let promised: Vec<(PathBuf, Entry)> = written.into_iter().filter(is_key).collect();
    judge(known, place, &promised)
}

/// Cuts the power after the last operation of each scene: nothing that the run reported may be missing. Without a
/// look at what the next run makes of it.
pub fn ends() -> Figures {
    let mut figures = Figures::default();
    for known in known() {
        let disk = &known.disk;
        let end = Cut {
            count: disk.operations.len(),
            kind: Kind::Nothing,
        };
        let (safe, all) = (end.tree(disk), disk.tree());
        let mut verdict = Verdict::default();
        let missing = all
            .iter()
            .filter(|(path, entry)| safe.get(*path) != Some(entry));
        for (path, entry) in missing.filter(|(path, entry)| !is_lock(path, entry)) {
            let lost = match known.expected.is_key(path) {
                true => &mut verdict.keys_lost,
                false => &mut verdict.data_lost,
            };
            let what = match entry.what {
                What::Directory => "the directory",
                What::Link(_) => "the link",
                _ => "the file",
            };
            lost.push(format!("{what} {} is not safe", path.display()));
        }
        figures.add(known.name, verdict);
    }
    figures
}

/// Whether it is a file that only serves as a lock.
fn is_lock(path: &Path, entry: &Entry) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "lock")
        && entry.content() == Some(b"")
}

//! What became of a place after a cut, and after the next run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::scene::{Known, Place};
use super::tree::{Entry, Tree, What};
use crate::harness::said;

/// How many findings a report shows.
const SHOWN: usize = 30;

/// What several cuts showed.
#[derive(Debug, Default)]
pub struct Figures {
    pub cuts: usize,
    pub diverged: usize,
    pub keys_lost: usize,
    pub data_lost: usize,
    pub left_over: usize,
    /// What was found, in words.
    pub findings: BTreeSet<String>,
}

/// What one cut showed, in words.
#[derive(Debug, Default)]
pub struct Verdict {
    pub diverged: Vec<String>,
    pub keys_lost: Vec<String>,
    pub data_lost: Vec<String>,
    pub left_over: Vec<String>,
}

impl Figures {
    /// Counts one cut.
    pub fn add(&mut self, cut: &str, verdict: Verdict) {
        self.cuts += 1;
        for (count, kind, found) in [
            (&mut self.diverged, "diverged", verdict.diverged),
            (&mut self.keys_lost, "key lost", verdict.keys_lost),
            (&mut self.data_lost, "data lost", verdict.data_lost),
            (&mut self.left_over, "left over", verdict.left_over),
        ] {
            *count += usize::from(!found.is_empty());
            let found = found.iter().map(|what| format!("{kind}: {what} ({cut})"));
            self.findings.extend(found);
        }
    }

    /// Prints them, and panics unless nothing was found.
    pub fn tell(&self, level: &str) {
        for finding in self.findings.iter().take(SHOWN) {
            println!("{finding}");
        }
        let Figures {
            cuts,
            diverged,
            keys_lost,
            data_lost,
            left_over,
            ..
        } = self;
        println!(
            "{level}: cuts {cuts}, diverged {diverged}, keys lost {keys_lost}, data lost {data_lost}, left over {left_over}"
        );
        assert!(self.findings.is_empty(), "{} findings", self.findings.len());
        assert!(*cuts > 0, "nothing was cut");
    }
}

/// Looks at the place after a cut, runs the command again, and compares. `promised` are the keys that had been written
/// to the end before the cut.
pub fn judge(known: &Known, place: &Place, promised: &[(PathBuf, Entry)]) -> Verdict {
    let mut verdict = Verdict::default();
    let after_cut = known.seen(place);
    let keys = keys(known, &after_cut);
    for (path, key) in promised {
        if after_cut.get(path) != Some(key) {
            verdict
                .keys_lost
                .push(format!("{}, at once", path.display()));
        }
    }
    verdict.diverged.extend(readable(&after_cut));
    verdict.data_lost.extend(gone(known, &after_cut));
    let output = known.run(place);
    if !(known.scene.ends)(&output) {
        verdict
            .diverged
            .push(format!("the next run fails: {}", said(&output)));
        return verdict;
    }
    let found = known.seen(place);
    let differences = known.expected.differences(&found);
    let shown = |path: &PathBuf| path.display().to_string();
    verdict.left_over.extend(differences.more.iter().map(shown));
    verdict.left_over.extend(place.locks().iter().map(shown));
    for path in &differences.other {
        let of_others = known.scene.before.contains_key(path);
        match of_others && known.expected.tree.contains_key(path) {
            true => verdict.data_lost.push(shown(path)),
            false => verdict.diverged.push(shown(path)),
        }
    }
    verdict.diverged.extend(super::meaning::misfits(&found));
    for (path, key) in keys {
        if found.get(&path).and_then(Entry::content) != Some(&key) {
            verdict.keys_lost.push(shown(&path));
        }
    }
    verdict
}

/// The keys that are whole: each with its content.
fn keys(known: &Known, tree: &Tree) -> Vec<(PathBuf, Vec<u8>)> {
    let is_whole = |(path, entry): (&PathBuf, &Entry)| {
        let content = entry.content()?;
        let is_key = known.expected.is_key(path) && known.expected.has_form(path, content);
        is_key.then(|| (path.clone(), content.to_vec()))
    };
    tree.iter().filter_map(is_whole).collect()
}

/// The keys that others can read.
fn readable(tree: &Tree) -> Vec<String> {
    let start = b"PRIVATE KEY-----";
    let is_key = |entry: &Entry| {
        let content = entry.content().unwrap_or_default();
        content.windows(start.len()).any(|part| part == start)
    };
    let open = tree
        .iter()
        .filter(|(_, entry)| entry.mode & 0o077 != 0 && is_key(entry));
    open.map(|(path, _)| format!("{} can be read by others", path.display()))
        .collect()
}

/// What was there before the command and stays when nobody cuts it, and is missing or empty now.
fn gone(known: &Known, tree: &Tree) -> Vec<String> {
    let is_empty = |entry: &Entry| matches!(&entry.what, What::File(content) if content.is_empty());
    let has = |tree: &Tree, path: &Path| tree.get(path).is_some_and(|entry| !is_empty(entry));
    let before = known.scene.before.keys();
    let gone = before.filter(|path| {
        has(&known.scene.before, path) && has(&known.expected.tree, path) && !has(tree, path)
    });
    gone.map(|path| format!("{}, at once", path.display()))
        .collect()
}

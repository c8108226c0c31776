//! Shows the current part of a long run, and how long each part took.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

/// How long the parts of each run usually take on two cores: lines of run, part, seconds.
const USUAL: &str = include_str!("../../usual.tsv");
/// The file that notes how long each part took, in the same form; make sets it.
const TIMINGS: &str = "TIMINGS";

/// The parts of a run, in order, with the seconds each took.
pub struct Stages {
    run: &'static str,
    done: Vec<(String, u64)>,
    start: Instant,
}

impl Stages {
    /// A run of that name, which begins now.
    pub fn new(run: &'static str) -> Stages {
        Stages {
            run,
            done: Vec::new(),
            start: Instant::now(),
        }
    }

    /// Runs one part.
    ///
    /// # Errors The error of the part, or an error of the file of timings.
    pub fn run<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        match usual(self.run, name) {
            Some(seconds) => println!("== {name}, usually {seconds} s"),
            None => println!("== {name}"),
        }
        let start = Instant::now();
        let outcome = work();
        let seconds = start.elapsed().as_secs();
        if let Some(file) = std::env::var_os(TIMINGS) {
            note_in(Path::new(&file), self.run, name, seconds)?;
        }
        self.done.push((name.to_owned(), seconds));
        outcome
    }

    /// Shows one line about a part, with the seconds since the run began.
    pub fn note(start: Instant, line: &str) {
        println!("{:>5} s  {line}", start.elapsed().as_secs());
    }

    /// When the run began.
    pub fn began(&self) -> Instant {
        self.start
    }

    /// Prints the table of all parts.
    pub fn print(&self) {
        println!("\nSECONDS  STAGE");
        for (name, seconds) in &self.done {
            println!("{seconds:>7}  {name}");
        }
    }
}

fn usual(run: &str, part: &str) -> Option<&'static str> {
    let mut rows = USUAL.lines().map(|line| line.split('\t'));
    rows.find_map(|mut row| {
        let is_it = row.next() == Some(run) && row.next() == Some(part);
        row.next().filter(|_| is_it)
    })
}

fn note_in(file: &Path, run: &str, part: &str, seconds: u64) -> Result<()> {
    let mut options = File::options();
    let opened = options.append(true).create(true).open(file);
    opened
        .and_then(|mut opened| writeln!(opened, "{run}\t{part}\t{seconds}"))
        .with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{USUAL, note_in, usual};

    #[test]
    fn every_row_of_the_usual_times_is_found() {
        for line in USUAL.lines() {
            let row: Vec<&str> = line.split('\t').collect();
            let &[run, part, seconds] = row.as_slice() else {
                panic!("{line:?} has not three columns");
            };
            assert!(seconds.parse::<u64>().is_ok(), "{line:?}");
            assert_eq!(usual(run, part), Some(seconds));
        }
        assert_eq!(usual("demo", "no such part"), None);
    }

    #[test]
    fn times_are_noted_one_below_the_other() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("timings");
        note_in(&file, "demo", "build", 7).unwrap();
        note_in(&file, "demo", "boot", 8).unwrap();
        let noted = std::fs::read_to_string(file).unwrap();
        assert_eq!(noted, "demo\tbuild\t7\ndemo\tboot\t8\n");
    }
}

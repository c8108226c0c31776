//! Telling what a long run is doing and how long each part of it took.

use std::time::Instant;

/// The parts of a run, in order, with the seconds each took.
pub struct Stages {
    done: Vec<(String, u64)>,
    start: Instant,
}

impl Stages {
    /// A run that has already spent `spent` seconds on the parts named.
    pub fn new(spent: Vec<(String, u64)>) -> Stages {
        Stages {
            done: spent,
            start: Instant::now(),
        }
    }

    /// Does one part of the run.
    pub fn run<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        println!("== {name}");
        let start = Instant::now();
        let outcome = work();
        self.done.push((name.to_owned(), start.elapsed().as_secs()));
        outcome
    }

    /// Shows one line of what happens inside a part, with the seconds since the run began.
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

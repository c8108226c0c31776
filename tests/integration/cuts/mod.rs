//! Commands that are cut: killed at a system call, given an error by the system, or stopped by a power cut. The next
//! run ends as a run that nobody cut: the same files, byte for byte, but keys and certificates by what they say. No
//! key that was written is another one, nothing of others is lost, nothing temporary stays.
//!
//! `make test-cuts CUTS=1000 SEED=7` makes 1000 cuts of each kind, which SEED chooses. See `docs/reliability.md`.

mod backups;
mod disk;
mod faults;
mod judge;
mod kills;
mod meaning;
pub mod network;
mod power;
mod recording;
mod scene;
pub mod scenes;
pub mod strace;
mod tree;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::{Mutex, OnceLock};
use std::thread;

use appliance::digest::Sha256;

use self::judge::{Figures, Verdict};
use self::scene::{Known, Place};

/// How many cuts of each kind are made, unless the variable `CUTS` says it.
const USUAL: usize = 50;

/// A cut of one scene.
struct Job<C> {
    /// The scene, by its number.
    scene: usize,
    /// Its name in reports.
    name: String,
    cut: C,
}

/// The scenes, with what they leave when nobody cuts them.
fn known() -> &'static [Known] {
    static KNOWN: OnceLock<Vec<Known>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let wanted = std::env::var("SCENE").unwrap_or_default();
        let makers = Mutex::new(scenes::ALL.iter().enumerate());
        let known = Mutex::new(BTreeMap::new());
        on_all_processors(|| {
            while let Some((number, (name, make))) = next(&makers) {
                if name.contains(&wanted) {
                    let scene = Known::of(name, make());
                    known.lock().unwrap().insert(number, scene);
                }
            }
        });
        known.into_inner().unwrap().into_values().collect()
    })
}

/// The value of a variable that is a number.
fn number(variable: &str, usual: usize) -> usize {
    let value = std::env::var(variable)
        .ok()
        .filter(|value| !value.is_empty());
    value.map_or(usual, |value| value.parse().unwrap())
}

/// How many cuts of each kind are made.
fn cuts() -> usize {
    number("CUTS", USUAL)
}

/// Puts cuts into the order of a digest of the seed and their names, one of each scene in turn.
fn ordered<C>(mut jobs: Vec<Job<C>>) -> Vec<Job<C>> {
    let seed = number("SEED", 1);
    jobs.sort_by_cached_key(|job| {
        Sha256::of(format!("{seed} {}", job.name).as_bytes()).to_string()
    });
    let mut places: BTreeMap<usize, usize> = BTreeMap::new();
    jobs.sort_by_cached_key(|job| {
        let place = places.entry(job.scene).or_default();
        *place += 1;
        (*place, job.scene)
    });
    jobs
}

/// Chooses as many cuts as are wanted.
fn chosen<C>(jobs: Vec<Job<C>>) -> Vec<Job<C>> {
    let all = jobs.len();
    let mut jobs = ordered(jobs);
    jobs.truncate(cuts());
    println!("{} of {all} possible cuts", jobs.len());
    jobs
}

/// Makes the cuts, several at a time. `carry_out` returns nothing where the cut was not reached.
fn make<C: Sync>(
    jobs: &[Job<C>],
    carry_out: impl Fn(&Known, &Place, &Job<C>) -> Option<Verdict> + Sync,
) -> Figures {
    let known = known();
    let (waiting, figures) = (Mutex::new(jobs.iter()), Mutex::new(Figures::default()));
    on_all_processors(|| {
        let place = Place::new();
        while let Some(job) = next(&waiting) {
            let verdict = carry_out(&known[job.scene], &place, job);
            if let Some(verdict) = verdict {
                figures.lock().unwrap().add(&job.name, verdict);
            }
        }
    });
    figures.into_inner().unwrap()
}

fn next<I: Iterator>(waiting: &Mutex<I>) -> Option<I::Item> {
    waiting.lock().unwrap().next()
}

/// Runs this on each processor at the same time, in a network of its own.
fn on_all_processors(work: impl Fn() + Sync) {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                network::enter();
                work();
            });
        }
    });
}

#[test]
fn killed_at_any_system_call_a_command_converges() {
    kills::all().tell("Process");
}

#[test]
fn errors_of_the_system_are_told_and_the_next_run_converges() {
    faults::all().tell("Process, faults");
}

#[test]
fn after_any_power_cut_a_command_converges() {
    power::all().tell("Disk");
}

#[test]
fn what_a_finished_run_wrote_survives_a_power_cut() {
    power::ends().tell("Disk, ends");
}

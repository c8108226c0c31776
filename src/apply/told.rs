//! Tells how far a run is: in the log, on a terminal, beside the lock of the machine, and in the journal of the run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::journal::Journal;
use crate::language::tr;
use crate::plan::{Load, Need, Plan, Step};
use crate::sys::lock;
use crate::sys::progress::Running;
use crate::sys::root::Root;

/// A step that took longer is told when it ends, too.
const LONG: Duration = Duration::from_secs(1);
/// How many steps that wait are named.
const NAMED: usize = 2;

/// What a run tells.
pub struct Told<'a> {
    root: &'a Root,
    plan: &'a Plan,
    needs: &'a [BTreeSet<Need>],
    words: Vec<String>,
    journal: Option<Journal<'a>>,
    /// Whether several steps may run at once.
    is_graph: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    under_way: BTreeMap<usize, UnderWay>,
    done: BTreeSet<usize>,
    begun: BTreeSet<usize>,
    waiting: Option<Running>,
}

struct UnderWay {
    since: Instant,
    _line: Option<Running>,
}

impl<'a> Told<'a> {
    /// For a run of `plan`, whose steps need what `needs` says.
    pub fn new(
        root: &'a Root,
        plan: &'a Plan,
        needs: &'a [BTreeSet<Need>],
        journal: Option<Journal<'a>>,
        is_graph: bool,
    ) -> Told<'a> {
        Told {
            root,
            plan,
            needs,
            words: plan.words(),
            journal,
            is_graph,
            state: Mutex::default(),
        }
    }

    /// The step of this index, in words, with its number.
    pub fn name(&self, index: usize) -> String {
        format!(
            "step {} of {}: {}",
            index + 1,
            self.words.len(),
            self.words[index]
        )
    }

    /// The step of this index, in words.
    pub fn words(&self, index: usize) -> &str {
        &self.words[index]
    }

    /// The journal.
    pub fn journal(&self) -> Option<&Journal<'a>> {
        self.journal.as_ref()
    }

    /// A step begins.
    pub fn begins(&self, index: usize) {
        let mut state = self.state();
        log::info!("[{}/{}] {}", index + 1, self.words.len(), self.words[index]);
        let line = self
            .has_line(index)
            .then(|| Running::new(&self.words[index]));
        let under_way = UnderWay {
            since: Instant::now(),
            _line: line.flatten(),
        };
        state.under_way.insert(index, under_way);
        state.begun.insert(index);
        self.note(&mut state);
        if let Some(journal) = &self.journal {
            let needs = self.needs[index].iter().map(|need| need.step + 1).collect();
            journal.begins(index + 1, &self.words[index], needs);
            let first = state.under_way.keys().next().copied().unwrap_or(index);
            journal.write_at(
                first + 1,
                &self.words[first],
                self.is_graph && self.is_short(index),
            );
        }
    }

    /// A step ended.
    pub fn ended(&self, index: usize, failed: bool) {
        let mut state = self.state();
        if let Some(journal) = &self.journal {
            journal.ended(index + 1, failed);
        }
        let under_way = state.under_way.remove(&index);
        let took = under_way.map_or(Duration::ZERO, |it| it.since.elapsed());
        if self.is_graph && !failed && took >= LONG {
            let (number, seconds) = (index + 1, took.as_secs_f64());
            let seconds = format!("{seconds:.1}");
            log::info!(
                "{}",
                tr!(
                    "[{number}/{}] done after {seconds} s: {}",
                    self.words.len(),
                    self.words[index],
                    number,
                    seconds
                )
            );
        }
        if !failed {
            state.done.insert(index);
        }
        self.note(&mut state);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For those who look at the machine, or wait for it.
    fn note(&self, state: &mut State) {
        let mut under_way = state.under_way.keys();
        let Some(first) = under_way.next() else {
            state.waiting = None;
            return;
        };
        let more = match under_way.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        lock::note(self.root, &format!("{}{more}", self.name(*first)));
        if self.is_graph {
            self.show_waiting(state);
        }
    }

    /// Shows which steps wait for others, and for which.
    fn show_waiting(&self, state: &mut State) {
        let waits = |index: &usize| !state.begun.contains(index) && !self.is_short(*index);
        let all: Vec<usize> = (0..self.words.len()).filter(waits).collect();
        let words = |index: &usize| {
            let open = self.needs[*index]
                .iter()
                .find(|need| !state.done.contains(&need.step));
            let open = open.map(|need| format!(" for {}", self.words[need.step]));
            format!("{} waits{}", self.words[*index], open.unwrap_or_default())
        };
        let named: Vec<String> = all.iter().take(NAMED).map(words).collect();
        let more = all.len().saturating_sub(NAMED);
        let text = match (named.is_empty(), more) {
            (true, _) => {
                state.waiting = None;
                return;
            }
            (false, 0) => named.join("; "),
            (false, more) => format!("{}; {more} more steps wait", named.join("; ")),
        };
        if state.waiting.is_none() {
            state.waiting = Running::last();
        }
        if let Some(line) = &state.waiting {
            line.set(&text);
        }
    }

    /// Whether the step is usually done at once.
    fn is_short(&self, index: usize) -> bool {
        match &self.plan.steps[index] {
            Step::Unpack { .. } | Step::InstallProgram => false,
            step => step.load() == Load::Work,
        }
    }

    /// Whether the step has a line on a terminal while it runs. To unpack has a bar.
    fn has_line(&self, index: usize) -> bool {
        let unpacks = matches!(self.plan.steps[index], Step::Unpack { .. });
        self.is_graph && !unpacks && !self.is_short(index)
    }
}

//! Keeps the journal of a run ([`crate::records::run`]).

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::records::write_json;
use crate::observe::records;
use crate::paths;
use crate::records::run::{LastCopy, RENEW, Run};
use crate::records::timeline::{Part, Span, Timeline, written};
use crate::sys::change::Change;
use crate::sys::root::Root;
use crate::sys::stopwatch::Stopwatch;

/// How long the journal may be behind while many short steps run at once: each write waits for the disk.
const BEHIND: Duration = Duration::from_millis(200);

/// The journal of a run. A journal that cannot be written is no reason to stop: a reset has to work on a full disk,
/// too.
pub struct Journal<'a> {
    root: &'a Root,
    watch: Option<&'a Stopwatch>,
    state: Mutex<State>,
}

struct State {
    run: Run,
    /// Whether a warning has said that the journal cannot be written.
    warned: bool,
    /// When it was written last.
    at: Option<Instant>,
}

/// The commands that do nothing of what another command left undone: its journal stays.
const PARTS: [&str; 1] = [RENEW];

/// Whether a run of `command` has a journal here.
fn may_keep(root: &Root, command: &str) -> bool {
    let before = records::run(root).ok().flatten();
    before.is_none_or(|run| run.command == command || !PARTS.contains(&command))
}

impl<'a> Journal<'a> {
    /// Begins the journal of `command` with that many steps. What an interrupted run of the same command has copied
    /// is still known. With a watch, it has the times of all steps, too. `None` if there is the journal of another
    /// command, of which this one does nothing.
    pub fn begin(
        root: &'a Root,
        command: &str,
        steps: usize,
        watch: Option<&'a Stopwatch>,
    ) -> Option<Journal<'a>> {
        if !may_keep(root, command) {
            return None;
        }
        let before = records::run(root).ok().flatten();
        let before = before.filter(|run| run.command == command);
        let now = OffsetDateTime::now_utc();
        let run = Run {
            command: command.to_owned(),
            begun: before.as_ref().map_or(now, |run| run.begun),
            at: now,
            step: 0,
            of: steps,
            what: String::new(),
            process: records::this_process(),
            copy: before.and_then(|run| run.copy),
            times: watch.map(|watch| so_far(command, watch)),
        };
        let state = State {
            run,
            warned: false,
            at: None,
        };
        Some(Journal {
            root,
            watch,
            state: Mutex::new(state),
        })
    }

    /// Notes that the step of this number, from 1, begins.
    pub fn begins(&self, number: usize, what: &str, needs: BTreeSet<usize>) {
        let (Some(watch), mut state) = (self.watch, self.state()) else {
            return;
        };
        let span = Span {
            what: what.to_owned(),
            part: Part::Step,
            step: Some(number),
            needs,
            at: written(OffsetDateTime::now_utc()),
            begin: milliseconds(watch.elapsed()),
            end: None,
            failed: false,
        };
        if let Some(times) = &mut state.run.times {
            times.spans.push(span);
        }
    }

    /// Notes that the step of this number ended.
    pub fn ended(&self, number: usize, failed: bool) {
        let (Some(watch), mut state) = (self.watch, self.state()) else {
            return;
        };
        let spans = state
            .run
            .times
            .iter_mut()
            .flat_map(|times| &mut times.spans);
        for span in spans.filter(|span| span.step == Some(number)) {
            span.end = Some(milliseconds(watch.elapsed()));
            span.failed = failed;
        }
    }

    /// Writes it: the step of this number is the first one under way. If `may_wait`, a later write may do.
    pub fn write_at(&self, number: usize, what: &str, may_wait: bool) {
        let mut state = self.state();
        state.run.at = OffsetDateTime::now_utc();
        state.run.step = number;
        what.clone_into(&mut state.run.what);
        if !(may_wait && state.at.is_some_and(|at| at.elapsed() < BEHIND)) {
            self.write(&mut state);
        }
    }

    /// Notes that data and keys are copied.
    pub fn copied(&self, copy: &LastCopy) {
        let mut state = self.state();
        state.run.copy = Some(copy.clone());
        self.write(&mut state);
    }

    /// Writes what it knows, at the end of a run that failed.
    pub fn stays(&self) {
        if self.watch.is_some() {
            self.write(&mut self.state());
        }
    }

    /// Keeps the times of the run, which is complete.
    pub fn keep_times(&self) {
        let state = self.state();
        if let Some(times) = &state.run.times
            && let Err(error) = write_json(self.root, paths::TIMELINE, times)
        {
            log::warn!("{error:#}; `appliance timeline` does not show this run");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, state: &mut State) {
        state.at = Some(Instant::now());
        if let Err(error) = write_json(self.root, paths::RUN, &state.run)
            && !std::mem::replace(&mut state.warned, true)
        {
            log::warn!("{error:#}; `appliance status` cannot tell how far this run is");
        }
    }
}

/// The times of what came before the first step.
fn so_far(command: &str, watch: &Stopwatch) -> Timeline {
    let spans = watch.laps().into_iter().map(|lap| Span {
        what: lap.what,
        part: Part::Before,
        step: None,
        needs: BTreeSet::new(),
        at: written(lap.at),
        begin: milliseconds(lap.begin),
        end: Some(milliseconds(lap.end)),
        failed: false,
    });
    Timeline {
        spans: spans.collect(),
        ..Timeline::new(command, watch.begun())
    }
}

/// Whole milliseconds.
pub fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Removes the journal: the run of `command` is complete.
pub fn end(root: &Root, command: &str) {
    if !may_keep(root, command) {
        return;
    }
    if let Err(error) = root.remove_file(paths::RUN) {
        log::warn!("{error:#}");
    }
}

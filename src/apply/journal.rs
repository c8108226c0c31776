//! Keeps the journal of a run ([`crate::records::run`]).

use std::cell::{Cell, RefCell};

use time::OffsetDateTime;

use super::records::write_json;
use crate::observe::records;
use crate::paths;
use crate::records::run::{LastCopy, RENEW, Run};
use crate::sys::change::Change;
use crate::sys::root::Root;

/// The journal of a run. A journal that cannot be written is no reason to stop: a reset has to work on a full disk,
/// too.
pub struct Journal<'a> {
    root: &'a Root,
    run: RefCell<Run>,
    /// Whether a warning has said that the journal cannot be written.
    warned: Cell<bool>,
}

/// The commands that do nothing of what another command left undone: its journal stays.
const PARTS: [&str; 1] = [RENEW];

/// Whether a run of `command` has a journal here.
fn may_keep(root: &Root, command: &str) -> bool {
    let before = records::run(root).ok().flatten();
    before.is_none_or(|run| run.command == command || !PARTS.contains(&command))
}

impl Journal<'_> {
    /// Begins the journal of `command` with that many steps. What an interrupted run of the same command has copied
    /// is still known. `None` if there is the journal of another command, of which this one does nothing.
    pub fn begin<'a>(root: &'a Root, command: &str, steps: usize) -> Option<Journal<'a>> {
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
        };
        Some(Journal {
            root,
            run: RefCell::new(run),
            warned: Cell::new(false),
        })
    }

    /// Notes that the step of this number, from 1, begins.
    pub fn step(&self, number: usize, what: &str) {
        let mut run = self.run.borrow_mut();
        run.at = OffsetDateTime::now_utc();
        run.step = number;
        what.clone_into(&mut run.what);
        self.write(&run);
    }

    /// Notes that data and keys are copied.
    pub fn copied(&self, copy: &LastCopy) {
        let mut run = self.run.borrow_mut();
        run.copy = Some(copy.clone());
        self.write(&run);
    }

    fn write(&self, run: &Run) {
        if let Err(error) = write_json(self.root, paths::RUN, run)
            && !self.warned.replace(true)
        {
            log::warn!("{error:#}; `appliance status` cannot tell how far this run is");
        }
    }
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

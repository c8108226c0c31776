//! Runs tasks that need each other: each one as soon as all that it needs is done, and as many at once as may be.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, Scope};

use anyhow::{Error, Result};

use crate::plan::Need;

/// A task.
#[derive(Debug)]
pub struct Task {
    /// What it needs; tasks before it only.
    pub needs: BTreeSet<Need>,
    /// Which limit it counts for.
    pub limit: usize,
}

/// How a task ended.
#[derive(Debug)]
pub enum End {
    /// It is done.
    Done,
    /// It failed.
    Failed(Error),
    /// It did not begin: something that it needs failed, or did not begin.
    NotBegun,
}

/// Tells that a part of what a task makes is there.
pub type Tell<'a> = dyn Fn(&str) + Sync + 'a;

/// Does a task.
pub type Work<'a> = dyn Fn(usize, &Tell<'_>) -> Result<()> + Sync + 'a;

enum News {
    Part(usize, String),
    Ended(usize, thread::Result<Result<()>>),
}

/// Runs all tasks, and returns how each ended. Of those that can begin, the first one does. At most `limits[n]` tasks of
/// that limit run at once. What does not need a failed task still runs.
pub fn run(tasks: &[Task], limits: &[usize], work: &Work<'_>) -> Vec<End> {
    thread::scope(|scope| {
        let (tell, news) = mpsc::channel();
        let mut run = Run {
            tasks,
            ends: tasks.iter().map(|_| None).collect(),
            begun: vec![false; tasks.len()],
            parts: BTreeSet::new(),
            free: limits.to_vec(),
        };
        loop {
            run.begin(scope, &tell, work);
            if run
                .begun
                .iter()
                .zip(&run.ends)
                .all(|(begun, end)| !begun || end.is_some())
            {
                break;
            }
            run.hear(&news);
        }
        let ends = run.ends.into_iter();
        ends.map(|end| end.unwrap_or(End::NotBegun)).collect()
    })
}

/// The state of a run.
struct Run<'a> {
    tasks: &'a [Task],
    ends: Vec<Option<End>>,
    begun: Vec<bool>,
    parts: BTreeSet<(usize, String)>,
    /// How many more may begin, for each limit.
    free: Vec<usize>,
}

impl Run<'_> {
    /// Begins every task that can.
    fn begin<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        tell: &Sender<News>,
        work: &'scope Work<'scope>,
    ) {
        for (index, task) in self.tasks.iter().enumerate() {
            if self.begun[index] || self.free[task.limit] == 0 || !self.is_ready(task) {
                continue;
            }
            self.begun[index] = true;
            self.free[task.limit] -= 1;
            let tell = tell.clone();
            let job = move || {
                // The receiver lives until all tasks have ended.
                let part = |part: &str| drop(tell.send(News::Part(index, part.to_owned())));
                let ended = catch_unwind(AssertUnwindSafe(|| work(index, &part)));
                drop(tell.send(News::Ended(index, ended)));
            };
            // If the system gives no more threads, this one does it.
            let spare = job.clone();
            if thread::Builder::new().spawn_scoped(scope, job).is_err() {
                spare();
            }
        }
    }

    fn is_ready(&self, task: &Task) -> bool {
        task.needs.iter().all(|need| {
            let is_done = matches!(self.ends[need.step], Some(End::Done));
            let part = need.part.clone().map(|part| (need.step, part));
            is_done || part.is_some_and(|part| self.parts.contains(&part))
        })
    }

    /// Waits for news, and notes them.
    fn hear(&mut self, news: &Receiver<News>) {
        match news.recv() {
            Ok(News::Part(index, part)) => drop(self.parts.insert((index, part))),
            Ok(News::Ended(index, ended)) => {
                let result = ended.unwrap_or_else(|panic| resume_unwind(panic));
                self.ends[index] = Some(result.map_or_else(End::Failed, |()| End::Done));
                self.free[self.tasks[index].limit] += 1;
            }
            Err(_) => unreachable!("this thread keeps a sender"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Barrier, Mutex};

    use anyhow::bail;
    use proptest::prelude::*;

    use super::*;

    /// The part that each task tells halfway.
    const HALF: &str = "half";

    fn need(step: usize, is_part: bool) -> Need {
        Need {
            step,
            part: is_part.then(|| HALF.to_owned()),
        }
    }

    /// Any graph: each task needs any of those before it, or a part of them. Each counts for one of two limits.
    fn graphs() -> impl Strategy<Value = Vec<Task>> {
        let task = (
            prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..4),
            0..2_usize,
        );
        prop::collection::vec(task, 1..24).prop_map(|tasks| {
            let task =
                |(index, (needs, limit)): (usize, (Vec<(prop::sample::Index, bool)>, usize))| {
                    let needs = needs.iter().filter(|_| index > 0);
                    let needs =
                        needs.map(|(step, is_part)| need(step.index(index.max(1)), *is_part));
                    Task {
                        needs: needs.collect(),
                        limit,
                    }
                };
            tasks.into_iter().enumerate().map(task).collect()
        })
    }

    /// The tasks that can be done if these fail: none of what they need is missing. A task that fails tells its part before.
    fn possible(tasks: &[Task], fails: &BTreeSet<usize>) -> BTreeMap<usize, bool> {
        let mut begins = BTreeMap::new();
        for (index, task) in tasks.iter().enumerate() {
            let is_there = |need: &Need| match begins[&need.step] {
                false => false,
                true => need.part.is_some() || !fails.contains(&need.step),
            };
            let begin = task.needs.iter().all(is_there);
            begins.insert(index, begin);
        }
        begins
    }

    proptest! {
        #[test]
        fn whatever_fails_all_that_can_run_runs_and_nothing_runs_before_what_it_needs(
            tasks in graphs(),
            failing in prop::collection::btree_set(0..24_usize, 0..3),
            limits in (1..4_usize, 1..4_usize),
        ) {
            let done: Mutex<BTreeSet<Need>> = Mutex::default();
            let early: Mutex<Vec<usize>> = Mutex::default();
            let now = [AtomicUsize::new(0), AtomicUsize::new(0)];
            let most = [AtomicUsize::new(0), AtomicUsize::new(0)];
            let ends = run(&tasks, &[limits.0, limits.1], &|index, tell| {
                let task: &Task = &tasks[index];
                let at_once = now[task.limit].fetch_add(1, Ordering::SeqCst) + 1;
                most[task.limit].fetch_max(at_once, Ordering::SeqCst);
                if !done.lock().unwrap().is_superset(&task.needs) {
                    early.lock().unwrap().push(index);
                }
                done.lock().unwrap().insert(need(index, true));
                tell(HALF);
                let fails = failing.contains(&index);
                if !fails {
                    done.lock().unwrap().insert(need(index, false));
                }
                now[task.limit].fetch_sub(1, Ordering::SeqCst);
                match fails {
                    true => bail!("task {index} fails"),
                    false => Ok(()),
                }
            });
            prop_assert!(early.lock().unwrap().is_empty(), "{early:?}");
            prop_assert!(most[0].load(Ordering::SeqCst) <= limits.0);
            prop_assert!(most[1].load(Ordering::SeqCst) <= limits.1);
            for (index, begins) in possible(&tasks, &failing) {
                let fits = match &ends[index] {
                    End::Done => begins && !failing.contains(&index),
                    End::Failed(_) => begins && failing.contains(&index),
                    End::NotBegun => !begins,
                };
                prop_assert!(fits, "task {index} ended as {:?}", ends[index]);
            }
        }
    }

    /// Neither ends before both run.
    #[test]
    fn tasks_that_need_nothing_of_each_other_run_at_once() {
        let tasks = [0, 0].map(|limit| Task {
            needs: BTreeSet::new(),
            limit,
        });
        let both = Barrier::new(2);
        let ends = run(&tasks, &[2], &|_, _| {
            both.wait();
            Ok(())
        });
        assert!(ends.iter().all(|end| matches!(end, End::Done)), "{ends:?}");
    }

    /// The first one waits for the second one, which needs only its part.
    #[test]
    fn a_part_is_enough_for_what_needs_only_that() {
        let needs = [BTreeSet::new(), BTreeSet::from([need(0, true)])];
        let tasks = needs.map(|needs| Task { needs, limit: 0 });
        let both = Barrier::new(2);
        let ends = run(&tasks, &[2], &|index, tell| {
            if index == 0 {
                tell(HALF);
            }
            both.wait();
            Ok(())
        });
        assert!(ends.iter().all(|end| matches!(end, End::Done)), "{ends:?}");
    }
}

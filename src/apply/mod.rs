//! Carries out a plan. Only this part of the program changes the machine.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use crate::clients::docker::Docker;
use crate::clients::{kubectl, systemd};
use crate::desired::Content;
use crate::join::tokens::Tokens;
use crate::paths;
use crate::plan::{Load, Need, OBJECTS, Plan, Step, with_part};
use crate::removal;
use crate::sys::change::Change;
use crate::sys::process::{Command, Runner};
use crate::sys::root::Root;
use crate::sys::stopwatch::Stopwatch;

pub mod addons;
pub mod brought;
pub mod etcd;
pub mod fetched;
pub mod former;
pub mod images;
mod journal;
mod kernel;
pub mod leftovers;
pub mod records;
mod remover;
mod schedule;
pub mod timeline;
mod told;
pub mod written;

use images::Loader;
use journal::Journal;
pub use remover::Remover;
pub use schedule::Tell;
use schedule::{End, Task};
use told::Told;

/// Unpacks the bundle to the given directory, an absolute path on this machine. It tells each file that is in its place:
/// by its path below the bundle's directory.
pub type Unpack<'a> = dyn Fn(&Path, &Tell<'_>) -> Result<()> + Sync + 'a;

/// Writes the running program to the given path.
pub type Install<'a> = dyn Fn(&Path) -> Result<()> + Sync + 'a;

/// How many images docker loads at once: it unpacks each one, and writes it to the disk.
const IMAGES_AT_ONCE: usize = 2;

/// Carries out a plan with these tools.
pub struct Executor<'a> {
    /// Where files go.
    pub root: &'a Root,
    /// How to run programs.
    pub runner: &'a (dyn Runner + Sync),
    /// The docker that loads the images.
    pub docker: &'a Docker,
    /// Unpacks the bundle.
    pub unpack: &'a Unpack<'a>,
    /// Writes the running program, with the payload, to the given path.
    pub install_program: &'a Install<'a>,
    /// The command, for the journal of its run; `None` for a part of a run that has another one.
    pub command: Option<&'a str>,
    /// How many steps may work at once, beside those that wait for other programs. With 1, the steps run in the order of
    /// the plan, and the first failure ends the run.
    pub at_once: usize,
    /// Takes the times of the run, if they are recorded.
    pub watch: Option<&'a Stopwatch>,
}

/// A run of a plan.
struct Run<'a> {
    executor: &'a Executor<'a>,
    plan: &'a Plan,
    told: Told<'a>,
    images: Loader<'a>,
}

impl Executor<'_> {
    /// Carries out the steps, each one after all that it needs. A failure ends what needs the step; with `at_once`, the
    /// rest is still done. The same command, run again, continues there. The caller has the lock of the machine.
    pub fn run(&self, plan: &Plan) -> Result<()> {
        let is_graph = self.at_once > 1;
        let needs = match is_graph {
            true => plan.needs(),
            false => plan.needs_in_order(),
        };
        let count = plan.steps.len();
        let command = self.command.filter(|_| !plan.is_empty());
        let journal =
            command.and_then(|command| Journal::begin(self.root, command, count, self.watch));
        let images = plan.images().cloned().collect();
        let run = Run {
            executor: self,
            plan,
            told: Told::new(self.root, plan, &needs, journal, is_graph),
            images: Loader::new(self.root, self.runner, self.docker, images),
        };
        let result = match is_graph {
            true => run.together(&needs),
            false => (0..count).try_for_each(|index| {
                let result = run.step(index, &|_| ());
                result.with_context(|| run.told.name(index))
            }),
        };
        let journal = run.told.journal();
        match &result {
            Ok(()) => journal.into_iter().for_each(Journal::keep_times),
            Err(_) => journal.into_iter().for_each(Journal::stays),
        }
        result?;
        // Even if there was nothing left to do for it: an earlier run may have been interrupted at its end.
        if let Some(command) = self.command {
            journal::end(self.root, command);
        }
        Ok(())
    }
}

impl Run<'_> {
    /// Carries out the steps, as many at once as may be.
    fn together(&self, needs: &[BTreeSet<Need>]) -> Result<()> {
        let steps = self.plan.steps.iter().zip(needs);
        let tasks: Vec<Task> = steps
            .map(|(step, needs)| Task {
                needs: needs.clone(),
                limit: step.load() as usize,
            })
            .collect();
        let mut limits = [tasks.len(); 3];
        limits[Load::Work as usize] = self.executor.at_once;
        limits[Load::Image as usize] = IMAGES_AT_ONCE;
        let ends = schedule::run(&tasks, &limits, &|index, tell| self.step(index, tell));
        failure(&self.told, ends)
    }

    /// Carries out the step of this index.
    fn step(&self, index: usize, tell: &Tell<'_>) -> Result<()> {
        let step = &self.plan.steps[index];
        self.told.begins(index);
        let result = self.carry_out(step, tell);
        if let (Ok(()), Some(journal), Step::Remove(removal::Step::Copy(copy))) =
            (&result, self.told.journal(), step)
        {
            journal.copied(copy);
        }
        self.told.ended(index, result.is_err());
        result
    }

    fn carry_out(&self, step: &Step, tell: &Tell<'_>) -> Result<()> {
        match step {
            Step::Unpack { .. } => {
                let root = self.executor.root;
                root.create_dir(paths::BUNDLES, 0o755)?;
                (self.executor.unpack)(&root.resolve(paths::BUNDLES)?, tell)
            }
            Step::LoadImage(image) => self.images.load(image),
            other => self.executor.carry_out(other),
        }
    }
}

impl Executor<'_> {
    fn carry_out(&self, step: &Step) -> Result<()> {
        match step {
            // They are parts of a run.
            Step::Unpack { .. } | Step::LoadImage(_) => Ok(()),
            Step::CreateDirectory(directory) => {
                self.root.create_dir(&directory.path, directory.mode)
            }
            Step::WriteFile {
                path,
                mode,
                content,
                new,
                ..
            } => self.write(path, *mode, content, *new),
            Step::EditFile { path, lines, .. } => self.edit(path, lines),
            Step::KeepCopy { path, to, most, .. } => self.root.copy(path, to, *most),
            Step::SetLink(link) => self.root.set_link(&link.path, &link.target),
            Step::LoadModule(module) => kernel::load_module(self.runner, module),
            Step::SetSysctl { key, value } => kernel::set_sysctl(key, value),
            Step::InstallProgram => (self.install_program)(&self.root.resolve(paths::PROGRAM)?),
            Step::CreateUsers(path) => self
                .runner
                .check(&Command::new("systemd-sysusers", &[path]))
                .map(drop),
            Step::AddToken(token) => {
                let dir = self.root.resolve(paths::JOIN_DIR)?;
                Tokens::new(&dir).add(&token.id, &token.record).map(drop)
            }
            Step::PrepareEtcd(member) => {
                let text = etcd::prepare(self.root, member)?.environment();
                self.root
                    .write(paths::ETCD_ENVIRONMENT, text.as_bytes(), 0o644)
            }
            Step::ApplyObjects(objects) => {
                kubectl::apply(self.runner, &objects.path)?;
                records::note_started(self.root, OBJECTS, &objects.digest)
            }
            Step::EndContainers(name) => self.docker.end_containers(self.runner, name),
            Step::Remove(step) => self.remover().carry_out(step),
            Step::RemoveContent(path) => self.remover().remove_content(path),
            Step::RemoveFile(path) => self.root.remove_file(path),
            Step::ReloadUnits => systemd::daemon_reload(self.runner),
            Step::Start { service, restart } => {
                // Docker has to run before it can load images. No step waits for other services.
                if service.name == "docker" {
                    systemd::start(self.runner, service.name, *restart)?;
                } else {
                    systemd::start_without_waiting(self.runner, service.name, *restart)?;
                }
                records::note_started(self.root, service.name, &service.inputs)
            }
        }
    }

    fn remover(&self) -> Remover<'_> {
        Remover {
            root: self.root,
            runner: self.runner,
            docker: self.docker,
        }
    }

    /// Writes a file. A file that was absent when the plan was made is created, never replaced: it
    /// could be a key.
    fn write(&self, path: &str, mode: u32, content: &Content, new: bool) -> Result<()> {
        let bytes = content.bytes();
        if new {
            self.root.create(path, bytes, mode)
        } else {
            self.root.write(path, bytes, mode)
        }
    }

    /// Writes this program's part of a file of others. The file is read again: others may have
    /// changed it since the plan was made.
    fn edit(&self, path: &str, lines: &str) -> Result<()> {
        let whole = self.root.read(path)?;
        let whole =
            whole.with_context(|| format!("{path} was removed during this run; run it again"))?;
        let edited = with_part(&whole, lines);
        if edited == whole {
            return Ok(());
        }
        self.root.rewrite(path, &edited)
    }
}

/// The error of a run in which steps failed. It names the first of them, and those that did not begin because of it; others
/// that failed are logged.
fn failure(told: &Told<'_>, ends: Vec<End>) -> Result<()> {
    let not_begun: Vec<&str> = (0..ends.len())
        .filter(|index| matches!(ends[*index], End::NotBegun))
        .map(|index| told.words(index))
        .collect();
    let mut first = None;
    for (index, end) in ends.into_iter().enumerate() {
        match end {
            End::Failed(error) if first.is_none() => first = Some((index, error)),
            End::Failed(error) => log::error!("{}: {error:#}", told.name(index)),
            End::Done | End::NotBegun => {}
        }
    }
    let Some((index, error)) = first else {
        return Ok(());
    };
    let (count, all) = (not_begun.len(), not_begun.join(", "));
    Err(error.context(match count {
        0 => format!("{} (all other steps are done)", told.name(index)),
        _ => format!(
            "{} ({count} steps did not begin, because they need what failed: {all}; the rest is done)",
            told.name(index)
        ),
    }))
}

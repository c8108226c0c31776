//! Carries out a plan. Only this part of the program changes the machine.

use anyhow::{Context, Result};

use crate::clients::docker::Docker;
use crate::clients::{kubectl, systemd};
use crate::desired::Content;
use crate::join::tokens::Tokens;
use crate::observe;
use crate::paths;
use crate::plan::{OBJECTS, Plan, Step, with_part};
use crate::records::images::NodeImage;
use crate::removal;
use crate::sys::change::Change;
use crate::sys::lock;
use crate::sys::process::{Command, Runner};
use crate::sys::root::Root;

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
pub mod written;

use journal::Journal;
pub use remover::Remover;

/// Unpacks the bundle to the given directory, an absolute path on this machine.
pub type Unpack<'a> = dyn Fn(&std::path::Path) -> Result<()> + 'a;

/// Carries out a plan with these tools.
pub struct Executor<'a> {
    /// Where files go.
    pub root: &'a Root,
    /// How to run programs.
    pub runner: &'a dyn Runner,
    /// The docker that loads the images.
    pub docker: &'a Docker,
    /// Unpacks the bundle.
    pub unpack: &'a Unpack<'a>,
    /// Writes the running program, with the payload, to the given path.
    pub install_program: &'a Unpack<'a>,
    /// The command, for the journal of its run; `None` for a part of a run that has another one.
    pub command: Option<&'a str>,
}

impl Executor<'_> {
    /// Carries out every step in order and stops at the first failure. The same command, run
    /// again, continues there. The caller has the lock of the machine.
    pub fn run(&self, plan: &Plan) -> Result<()> {
        let count = plan.steps.len();
        let command = self.command.filter(|_| !plan.is_empty());
        let journal = command.and_then(|command| Journal::begin(self.root, command, count));
        for (index, step) in plan.steps.iter().enumerate() {
            log::info!("[{}/{count}] {step}", index + 1);
            // For those who look at the machine, or wait for it.
            lock::note(self.root, &format!("step {} of {count}: {step}", index + 1));
            if let Some(journal) = &journal {
                journal.step(index + 1, &step.to_string());
            }
            self.carry_out(step, plan)
                .with_context(|| format!("step {} of {count}: {step}", index + 1))?;
            if let (Some(journal), Step::Remove(removal::Step::Copy(copy))) = (&journal, step) {
                journal.copied(copy);
            }
        }
        // Even if there was nothing left to do for it: an earlier run may have been interrupted at its end.
        if let Some(command) = self.command {
            journal::end(self.root, command);
        }
        Ok(())
    }

    fn carry_out(&self, step: &Step, plan: &Plan) -> Result<()> {
        match step {
            Step::Unpack { .. } => {
                self.root.create_dir(paths::BUNDLES, 0o755)?;
                (self.unpack)(&self.root.resolve(paths::BUNDLES)?)
            }
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
            Step::LoadImage(image) => self.load_image(image, plan),
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

    fn load_image(&self, image: &NodeImage, plan: &Plan) -> Result<()> {
        let (root, runner, docker) = (self.root, self.runner, self.docker);
        let missing = |images| observe::images::missing(root, runner, docker, images);
        if plan.images().next() == Some(image) {
            let all = missing(plan.images().cloned().collect())?;
            images::discard_damaged(root, runner, docker, &all)?;
        }
        for missing in missing(vec![image.clone()])? {
            images::bring(root, runner, docker, &missing)?;
        }
        Ok(())
    }
}

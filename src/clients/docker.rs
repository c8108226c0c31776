//! Runs docker through its command line (docker 1.11 or later).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::syncfs;

use crate::paths;
use crate::preflight::DockerSource;
use crate::preflight::docker::daemon::Info;
use crate::sys::process::{Command, Runner, argument};

/// How long docker may take to say its version. A docker that hangs accepts connections and never answers.
const ANSWER: Duration = Duration::from_secs(60);

/// What lists every container that a kubelet created, also those that have ended.
const OF_PODS: [&str; 2] = ["--all", "--filter=label=io.kubernetes.pod.uid"];

/// The docker of this machine, or the docker of the payload if the machine has none.
#[derive(Clone, Debug)]
pub struct Docker {
    program: String,
}

impl Docker {
    /// Docker with the command line program at `program`.
    pub fn new(program: &str) -> Docker {
        Docker {
            program: program.to_owned(),
        }
    }

    /// The docker of that source.
    pub fn of(source: DockerSource) -> Docker {
        Docker::new(match source {
            DockerSource::Payload => paths::DOCKER_OF_PAYLOAD,
            DockerSource::Machine | DockerSource::Nowhere => paths::DOCKER_OF_MACHINE,
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        Command::new(&self.program, arguments)
    }

    /// Whether the daemon answers.
    pub fn is_running(&self, runner: &dyn Runner) -> bool {
        self.version(runner).is_ok_and(|version| version.is_some())
    }

    /// The version of the daemon; `None` if it does not run.
    fn version(&self, runner: &dyn Runner) -> Result<Option<String>> {
        let version = self.command(&["version", "--format", "{{.Server.Version}}"]);
        let output = runner.run(&version.within(ANSWER))?;
        Ok(output.success().then(|| output.stdout.trim().to_owned()))
    }

    /// What the daemon says about itself; `None` if it does not run. What an old version does not say is empty.
    ///
    /// # Errors
    /// [`TookTooLong`](crate::sys::process::TookTooLong) if it hangs.
    pub fn info(&self, runner: &dyn Runner) -> Result<Option<Info>> {
        let Some(version) = self.version(runner)? else {
            return Ok(None);
        };
        let format = "{{.CgroupDriver}}\t{{.DockerRootDir}}";
        let info = self.command(&["info", "--format", format]);
        let output = runner.run(&info.within(ANSWER))?;
        let said = if output.success() {
            output.stdout.trim()
        } else {
            ""
        };
        let (driver, root) = said.split_once('\t').unwrap_or_default();
        Ok(Some(Info {
            version,
            cgroup_driver: driver.to_owned(),
            root: root.to_owned(),
        }))
    }

    /// The storage driver of the daemon; empty if it does not say it.
    pub fn storage_driver(&self, runner: &dyn Runner) -> Result<String> {
        let info = self.command(&["info", "--format", "{{.Driver}}"]);
        Ok(runner.run(&info.within(ANSWER))?.stdout.trim().to_owned())
    }

    /// The identifier of the image known as `reference`; `None` if there is none.
    pub fn image_id(&self, runner: &dyn Runner, reference: &str) -> Result<Option<String>> {
        let inspect = self.command(&["inspect", "--type=image", "--format={{.Id}}", reference]);
        let output = runner.run(&inspect)?;
        Ok(output.success().then(|| output.stdout.trim().to_owned()))
    }

    /// The identifiers of the images known as `references`; without those that docker does not have. Docker is asked once
    /// if it has all of them: it does not say which identifier is missing.
    pub fn image_ids(
        &self,
        runner: &dyn Runner,
        references: &[String],
    ) -> Result<BTreeMap<String, String>> {
        let mut inspect = vec!["inspect", "--type=image", "--format={{.Id}}"];
        inspect.extend(references.iter().map(String::as_str));
        if references.len() > 1 {
            let output = runner.run(&self.command(&inspect))?;
            let ids = output.stdout.lines().map(|id| id.trim().to_owned());
            if output.success() && ids.clone().count() == references.len() {
                return Ok(references.iter().cloned().zip(ids).collect());
            }
        }
        let mut found = BTreeMap::new();
        for reference in references {
            let id = self.image_id(runner, reference)?;
            found.extend(id.map(|id| (reference.clone(), id)));
        }
        Ok(found)
    }

    /// The identifier of the image in docker's list. Docker lists an image also if it cannot read it.
    pub fn listed_id(&self, runner: &dyn Runner, reference: &str) -> Result<Option<String>> {
        let list = self.command(&["images", "--quiet", "--no-trunc", reference]);
        let listed = runner.check(&list)?.stdout;
        Ok(listed.lines().next().map(str::to_owned))
    }

    /// Removes the image known as `reference`, so that it can be loaded anew. One that a running container uses stays.
    pub fn discard_image(&self, runner: &dyn Runner, reference: &str) -> Result<()> {
        let remove = self.command(&["rmi", "--force", reference]);
        let output = runner.run(&remove)?;
        if !output.success() {
            log::debug!("{remove}: {}", output.stderr.trim());
        }
        Ok(())
    }

    /// Writes what docker has written to the disk.
    pub fn flush(&self, runner: &dyn Runner) -> Result<()> {
        let info = self.command(&["info", "--format", "{{.DockerRootDir}}"]);
        let said = runner.run(&info.within(ANSWER))?;
        let root = match said.stdout.trim() {
            "" => paths::DOCKER_DIR,
            root => root,
        };
        match File::open(root) {
            Ok(directory) => Ok(syncfs(directory)?),
            // Another machine's docker, through a socket.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot flush {root}")),
        }
    }

    /// Removes every container that a kubelet created.
    pub fn remove_pods(&self, runner: &dyn Runner) -> Result<()> {
        self.each(runner, &OF_PODS, &["rm", "--force", "--volumes"])
    }

    /// Whether there is a container that a kubelet created.
    pub fn has_pods(&self, runner: &dyn Runner) -> Result<bool> {
        Ok(!self.containers(runner, &OF_PODS)?.is_empty())
    }

    /// Whether there is a container of this name.
    pub fn has_container(&self, runner: &dyn Runner, name: &str) -> Result<bool> {
        let inspect = ["inspect", "--type=container", "--format={{.Id}}", name];
        Ok(runner.run(&self.command(&inspect))?.success())
    }

    /// Removes the container of this name, if there is one.
    pub fn remove_container(&self, runner: &dyn Runner, name: &str) -> Result<()> {
        if !self.has_container(runner, name)? {
            return Ok(());
        }
        let remove = self.command(&["rm", "--force", "--volumes", name]);
        runner.check(&remove).map(drop)
    }

    /// Removes the name of an image, and the image if it has no other name. An image without a name is known by its
    /// identifier. Returns what docker says if a container uses it; then it stays.
    pub fn remove_image(&self, runner: &dyn Runner, reference: &str) -> Result<Option<String>> {
        if self.listed_id(runner, reference)?.is_none()
            && self.image_id(runner, reference)?.is_none()
        {
            return Ok(None);
        }
        let remove = self.command(&["rmi", reference]);
        let output = runner.run(&remove)?;
        match output.success() {
            true => Ok(None),
            false if output.stderr.contains("conflict") => {
                Ok(Some(output.stderr.trim().to_owned()))
            }
            false => output.of(&remove).map(|_| None),
        }
    }

    /// Stops the running containers of this name that a kubelet created, so that the kubelet starts
    /// new ones. A container that just ended by itself counts as stopped.
    pub fn end_containers(&self, runner: &dyn Runner, name: &str) -> Result<()> {
        let named = format!("--filter=label=io.kubernetes.container.name={name}");
        self.each(runner, &[&named], &["stop", "--time=1"])
    }

    /// Runs `command` on the containers that `ps` lists with `filters`.
    fn each(&self, runner: &dyn Runner, filters: &[&str], command: &[&str]) -> Result<()> {
        let containers = self.containers(runner, filters)?;
        if containers.is_empty() {
            return Ok(());
        }
        let all: Vec<&str> = containers.iter().map(String::as_str).collect();
        let all = [command, &all].concat();
        runner.check(&self.command(&all)).map(drop)
    }

    /// The identifiers of the containers that `ps` lists with `filters`.
    fn containers(&self, runner: &dyn Runner, filters: &[&str]) -> Result<Vec<String>> {
        let list = [&["ps", "--quiet"], filters].concat();
        let listed = runner.check(&self.command(&list))?.stdout;
        Ok(listed.split_whitespace().map(str::to_owned).collect())
    }

    /// Loads the images of a tarball in the format of `docker save`.
    pub fn load(&self, runner: &dyn Runner, tarball: &Path) -> Result<()> {
        let load = self.command(&["load", "--input", argument(tarball)?]);
        runner.check(&load).map(drop)
    }
}

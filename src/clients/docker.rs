//! Talking to docker through its command line, as of docker 1.11.

use std::path::Path;

use anyhow::Result;

use crate::paths;
use crate::preflight::DockerSource;
use crate::sys::process::{Command, Runner, argument};

/// The docker of this machine, or of the payload where the machine has none.
#[derive(Clone, Debug)]
pub struct Docker {
    program: String,
}

impl Docker {
    /// Docker by its command line program at `program`.
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

    /// Whether its daemon answers.
    pub fn is_running(&self, runner: &dyn Runner) -> bool {
        let version = self.command(&["version", "--format", "{{.Server.Version}}"]);
        runner.run(&version).is_ok_and(|output| output.success())
    }

    /// The identifier of the image known as `reference`; `None` if there is none.
    pub fn image_id(&self, runner: &dyn Runner, reference: &str) -> Result<Option<String>> {
        let inspect = self.command(&["inspect", "--type=image", "--format={{.Id}}", reference]);
        let output = runner.run(&inspect)?;
        Ok(output.success().then(|| output.stdout.trim().to_owned()))
    }

    /// Removes every container that a kubelet made.
    pub fn remove_pods(&self, runner: &dyn Runner) -> Result<()> {
        let list = ["--all", "--filter=label=io.kubernetes.pod.uid"];
        self.each(runner, &list, &["rm", "--force", "--volumes"])
    }

    /// Ends the running containers that a kubelet made under that name, so that it starts others.
    /// One that has just ended by itself is as good.
    pub fn end_containers(&self, runner: &dyn Runner, name: &str) -> Result<()> {
        let named = format!("--filter=label=io.kubernetes.container.name={name}");
        self.each(runner, &[&named], &["stop", "--time=1"])
    }

    /// Does `command` to the containers that `ps` lists with `filters`.
    fn each(&self, runner: &dyn Runner, filters: &[&str], command: &[&str]) -> Result<()> {
        let list = [&["ps", "--quiet"], filters].concat();
        let listed = runner.check(&self.command(&list))?;
        let containers: Vec<&str> = listed.stdout.split_whitespace().collect();
        if containers.is_empty() {
            return Ok(());
        }
        let all = [command, &containers].concat();
        runner.check(&self.command(&all)).map(drop)
    }

    /// Loads the images of a tarball that `docker save` or the like has written.
    pub fn load(&self, runner: &dyn Runner, tarball: &Path) -> Result<()> {
        let load = self.command(&["load", "--input", argument(tarball)?]);
        runner.check(&load).map(drop)
    }
}

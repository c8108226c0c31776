//! Docker: its settings, what stands in its place, and whether it answers.

use std::collections::BTreeMap;

use anyhow::Result;

use super::system::UNIT_DIRS;
use super::{is_there, names, package_version, text};
use crate::bundle::manifest::Manifest;
use crate::clients::docker::Docker as Client;
use crate::clients::systemd;
use crate::digest::Sha256;
use crate::language::{message, tr, translated};
use crate::observe::records;
use crate::observe::software::DOCKER_DAEMON;
use crate::paths;
use crate::plan::UnitState;
use crate::preflight::DockerSource;
use crate::preflight::docker::command_line::Unit;
use crate::preflight::docker::daemon::{Docker, Running, Settings};
use crate::sys::process::{Runner, TookTooLong};
use crate::sys::root::Root;

/// Packages of docker.
const PACKAGES: &[&str] = &["docker.io", "docker-ce", "docker-engine", "moby-engine"];
const INSTALL: &str = message!(
    "`apt-get install docker.io` in the image, or build the appliance with docker's static \
                       binaries"
);

/// Reads the files about docker. It is not asked.
pub fn read(root: &Root, manifest: Option<&Manifest>, source: DockerSource) -> Docker {
    let package = match source {
        DockerSource::Payload => manifest
            .and_then(|manifest| manifest.component(DOCKER_DAEMON))
            .map(|component| component.version.clone()),
        DockerSource::Machine | DockerSource::Nowhere => package_version(root, PACKAGES),
    };
    let settings = settings(root, source, package.as_deref());
    let limits_logs = may_limit_logs(root, &settings).unwrap_or_default();
    Docker {
        settings,
        limits_logs,
        instead: instead(root, source),
        package,
        running: Running::Unknown,
    }
}

/// The settings of the daemon in its file and in its unit. A file that cannot be read is a problem of them.
pub fn settings(root: &Root, source: DockerSource, version: Option<&str>) -> Settings {
    let words = command_line(root, source);
    match root.read(paths::DOCKER_SETTINGS) {
        Ok(file) => Settings::read(file.as_deref(), &words, version),
        Err(error) => {
            let mut settings = Settings::read(None, &words, version);
            let command = tr!("`ls -l {}` shows it", paths::DOCKER_SETTINGS);
            settings.problems.push((format!("{error:#}"), command));
            settings
        }
    }
}

/// Whether this program may write docker's settings, with a limit for logs: there are none, or they are as it wrote them,
/// and the command line says nothing about logs. With a setting in both places, docker does not start.
pub fn may_limit_logs(root: &Root, settings: &Settings) -> Result<bool> {
    let is_ours = match root.read(paths::DOCKER_SETTINGS) {
        Ok(None) => !root.exists(paths::DOCKER_SETTINGS)?,
        Ok(Some(file)) => {
            let written = records::written(root)?.unwrap_or_default();
            written.wrote(paths::DOCKER_SETTINGS, &Sha256::of(&file)) == Some(true)
        }
        // The check of the settings tells why.
        Err(_) => false,
    };
    Ok(is_ours && !settings.has_log_flags())
}

/// The words of the daemon's command line; none if its unit comes with the bundle and has no drop-in.
fn command_line(root: &Root, source: DockerSource) -> Vec<String> {
    const UNIT: &str = "docker.service";
    let own = UNIT_DIRS.iter().map(|dir| format!("{dir}/{UNIT}"));
    let own = own.filter(|_| source != DockerSource::Payload);
    let main = own.into_iter().find_map(|path| text(root, &path));
    // Of drop-ins with one name, the one in the first directory counts; then they are read by name.
    let mut drop_ins: BTreeMap<String, String> = BTreeMap::new();
    for dir in UNIT_DIRS.iter().rev() {
        let dir = format!("{dir}/{UNIT}.d");
        let files = names(root, &dir)
            .into_iter()
            .filter(|name| name.ends_with(".conf"));
        drop_ins.extend(files.map(|name| (name.clone(), format!("{dir}/{name}"))));
    }
    let drop_ins = drop_ins.values().filter_map(|path| text(root, path));
    let texts: Vec<String> = main.into_iter().chain(drop_ins).collect();
    let unit = Unit::of(texts.iter().map(String::as_str));
    let files = unit.environment_files.iter();
    let files: Vec<String> = files.filter_map(|path| text(root, path)).collect();
    unit.words(&files)
}

/// Whether the unit is a link to `/dev/null`.
fn is_masked(root: &Root, unit: &str) -> bool {
    let target = root.link(&paths::unit(unit)).ok().flatten();
    target.is_some_and(|target| target.as_os_str() == "/dev/null")
}

/// What is there instead of a docker that can be used, each with the next step.
fn instead(root: &Root, source: DockerSource) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut add = |seen: &str, command: &str| found.push((seen.to_owned(), command.to_owned()));
    if is_there(root, "/snap/docker") || is_there(root, &paths::unit("snap.docker.dockerd.service"))
    {
        add(
            &tr!("docker is a snap, which is confined and cannot read the node's files"),
            &tr!("`snap remove docker`, then `apt-get install docker.io`"),
        );
    }
    for unit in ["docker.service", "docker.socket"] {
        if is_masked(root, unit) {
            add(
                &tr!("{unit} is masked", unit),
                &format!("`systemctl unmask {unit}`"),
            );
        }
    }
    if source != DockerSource::Nowhere {
        return found;
    }
    let start = text(root, paths::DOCKER_OF_MACHINE).unwrap_or_default();
    let link = root
        .link(paths::DOCKER_OF_MACHINE)
        .ok()
        .flatten()
        .unwrap_or_default();
    if start.contains("podman") || link.to_string_lossy().contains("podman") {
        add(
            &tr!("/usr/bin/docker is podman under the name of docker"),
            "`apt-get purge podman-docker && apt-get install docker.io`",
        );
    } else if rootless(root) {
        add(
            &tr!("docker runs without root, for a user; the kubelet needs that of root"),
            &translated(INSTALL),
        );
    } else if is_there(root, "/usr/local/bin/docker") && !is_there(root, paths::DOCKER_OF_MACHINE) {
        add(
            &tr!(
                "docker is in /usr/local/bin, and not the package's in /usr/bin with docker.service"
            ),
            &translated(INSTALL),
        );
    } else if is_there(root, "/usr/bin/containerd") && !is_there(root, paths::DOCKER_OF_MACHINE) {
        add(
            &tr!("containerd is here without docker; the kubelet needs docker"),
            &translated(INSTALL),
        );
    }
    found
}

/// Whether a user has a docker of their own.
fn rootless(root: &Root) -> bool {
    let homes = names(root, "/home")
        .into_iter()
        .map(|name| format!("/home/{name}"));
    let mut homes = homes.chain(["/root".to_owned()]);
    homes.any(|home| is_there(root, &format!("{home}/.config/systemd/user/docker.service")))
}

/// Asks docker, if it runs.
///
/// # Errors
/// If systemd does not answer.
pub fn asked(docker: Docker, runner: &dyn Runner, source: DockerSource) -> Result<Docker> {
    let units = systemd::show(runner, &["docker"])?;
    let running = match units.get("docker") {
        Some(unit) if unit.is_coming_up() => Running::Unknown,
        Some(unit) if unit.state() == UnitState::Running => answer(runner, source),
        _ => Running::Stopped,
    };
    Ok(Docker { running, ..docker })
}

fn answer(runner: &dyn Runner, source: DockerSource) -> Running {
    match Client::of(source).info(runner) {
        Ok(Some(info)) => Running::Answers(info),
        Ok(None) => Running::Stopped,
        Err(error) if error.is::<TookTooLong>() => Running::Hangs,
        Err(error) => {
            log::debug!("{error:#}");
            Running::Stopped
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::sys::process::{Command, Output};

    /// Systemd says that docker is in this state; docker answers so, or takes too long.
    struct Machine(&'static str, Option<&'static str>);

    impl Runner for Machine {
        fn run(&self, command: &Command) -> Result<Output> {
            let stdout = match (command.program.as_str(), self.1) {
                ("systemctl", _) => format!("Id=docker.service\nActiveState={}\n", self.0),
                (_, Some("")) => {
                    return Ok(Output {
                        code: Some(1),
                        ..Output::default()
                    });
                }
                (_, Some(answer)) if command.arguments[0] == "version" => answer.to_owned(),
                (_, Some(_)) => "systemd\t/srv/docker\n".to_owned(),
                (_, None) => {
                    let limit = command.limit.unwrap_or(Duration::ZERO);
                    return Err(anyhow::Error::from(TookTooLong(limit)).context("docker"));
                }
            };
            Ok(Output {
                code: Some(0),
                stdout,
                stderr: String::new(),
            })
        }
    }

    #[test]
    fn a_docker_that_hangs_is_told_from_one_that_does_not_run() {
        let running = |state, answer| {
            let machine = Machine(state, answer);
            let asked = asked(Docker::default(), &machine, DockerSource::Machine);
            asked.unwrap().running
        };
        assert_eq!(running("active", None), Running::Hangs);
        assert_eq!(running("active", Some("")), Running::Stopped);
        assert_eq!(running("inactive", None), Running::Stopped);
        assert_eq!(running("activating", None), Running::Unknown);
        let Running::Answers(info) = running("active", Some("20.10.24\n")) else {
            panic!("it answers");
        };
        assert_eq!(info.version, "20.10.24");
        assert_eq!(
            (info.cgroup_driver.as_str(), info.root.as_str()),
            ("systemd", "/srv/docker")
        );
    }
}

//! Runs systemd through `systemctl` (systemd 229 or later).

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};

use super::journal;
use crate::plan::UnitState;
use crate::sys::process::{Command, Runner};

/// The state of a unit in systemd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// `loaded`, `not-found`, `error`, …
    pub load_state: String,
    /// `active`, `activating`, `failed`, `inactive`, …
    pub active_state: String,
    /// `running`, `auto-restart`, `dead`, …
    pub sub_state: String,
    /// Whether a start or stop of it is queued or under way.
    pub has_job: bool,
}

impl Unit {
    /// Whether it runs, or systemd is starting it.
    pub fn state(&self) -> UnitState {
        match self.active_state.as_str() {
            "active" | "activating" | "reloading" => UnitState::Running,
            // During a boot, a unit that waits for others is inactive with a job.
            _ if self.has_job => UnitState::Running,
            _ => UnitState::Stopped,
        }
    }

    /// Whether systemd is still starting it.
    pub fn is_coming_up(&self) -> bool {
        self.state() == UnitState::Running && (self.active_state != "active" || self.has_job)
    }
}

/// The state of the services with these names. A service without a unit is `not-found`.
pub fn show(runner: &dyn Runner, names: &[&str]) -> Result<BTreeMap<String, Unit>> {
    const PROPERTIES: &str = "--property=Id,LoadState,ActiveState,SubState,Job";
    each(runner, PROPERTIES, names, parse_unit)
}

/// What `read` finds in the block of properties of each service, by its name.
fn each<T>(
    runner: &dyn Runner,
    properties: &str,
    names: &[&str],
    read: impl Fn(&str) -> Option<(String, T)>,
) -> Result<BTreeMap<String, T>> {
    let units: Vec<String> = names.iter().map(|name| unit(name)).collect();
    let mut arguments = vec!["show", properties];
    arguments.extend(units.iter().map(String::as_str));
    let output = runner.check(&Command::new("systemctl", &arguments))?;
    Ok(output.stdout.split("\n\n").filter_map(read).collect())
}

fn parse_unit(block: &str) -> Option<(String, Unit)> {
    let (name, properties) = named(block)?;
    let property = |key| {
        properties
            .get(key)
            .map_or(String::new(), |&value| value.to_owned())
    };
    let unit = Unit {
        load_state: property("LoadState"),
        active_state: property("ActiveState"),
        sub_state: property("SubState"),
        has_job: properties
            .get("Job")
            .is_some_and(|job| !matches!(*job, "" | "0")),
    };
    Some((name, unit))
}

/// Where systemd has a unit from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The path of its file.
    pub fragment: String,
    /// Whether a file of it was changed since systemd read it.
    pub is_stale: bool,
}

/// Where systemd has the services with these names from.
pub fn origins(runner: &dyn Runner, names: &[&str]) -> Result<BTreeMap<String, Origin>> {
    const PROPERTIES: &str = "--property=Id,FragmentPath,NeedDaemonReload";
    each(runner, PROPERTIES, names, |block| {
        let (name, properties) = named(block)?;
        let property = |key| properties.get(key).copied().unwrap_or_default();
        let origin = Origin {
            fragment: property("FragmentPath").to_owned(),
            is_stale: property("NeedDaemonReload") == "yes",
        };
        Some((name, origin))
    })
}

/// What else systemd knows of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Its state.
    pub unit: Unit,
    /// `enabled`, `disabled`, `masked`, …; empty if systemd does not know it.
    pub enabled: String,
    /// Whether a file of it was changed since systemd read it.
    pub is_stale: bool,
}

/// Everything that is known of the services with these names.
pub fn details(runner: &dyn Runner, names: &[&str]) -> Result<BTreeMap<String, Detail>> {
    const PROPERTIES: &str =
        "--property=Id,LoadState,ActiveState,SubState,Job,UnitFileState,NeedDaemonReload";
    each(runner, PROPERTIES, names, |block| {
        let (_, properties) = named(block)?;
        let property = |key| properties.get(key).copied().unwrap_or_default();
        let (name, unit) = parse_unit(block)?;
        let detail = Detail {
            unit,
            enabled: property("UnitFileState").to_owned(),
            is_stale: property("NeedDaemonReload") == "yes",
        };
        Some((name, detail))
    })
}

/// The name of a unit, as callers have it, and its properties.
fn named(block: &str) -> Option<(String, BTreeMap<&str, &str>)> {
    let properties: BTreeMap<&str, &str> = block
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let id = properties.get("Id")?;
    Some((id.trim_end_matches(".service").to_owned(), properties))
}

/// The ID of the service's main process; `None` if it does not run.
pub fn main_process(runner: &dyn Runner, name: &str) -> Result<Option<u32>> {
    let arguments = ["show", "--property=MainPID", &unit(name)];
    let output = runner.check(&Command::new("systemctl", &arguments))?;
    let id = output.stdout.trim().strip_prefix("MainPID=");
    Ok(id.and_then(|id| id.parse().ok()).filter(|id| *id != 0))
}

/// Whether the last run of the unit's main process was refused: exit code 2.
pub fn was_refused(runner: &dyn Runner, unit: &str) -> Result<bool> {
    let arguments = ["show", "--property=ActiveState,ExecMainStatus", unit];
    let output = runner.check(&Command::new("systemctl", &arguments))?;
    let mut lines = output.stdout.lines();
    Ok(lines.clone().any(|line| line == "ActiveState=failed")
        && lines.any(|line| line == "ExecMainStatus=2"))
}

/// Whether the clock is synchronized; `None` if `timedatectl` does not say it. systemd 229 writes `NTP synchronized`, later ones `System clock
/// synchronized`.
pub fn synchronized(runner: &dyn Runner) -> Option<bool> {
    let output = runner
        .check(&Command::new("timedatectl", &["status"]))
        .ok()?;
    let mut lines = output.stdout.lines().map(str::trim);
    let value = lines.find_map(|line| {
        let value = line.strip_prefix("NTP synchronized:");
        value.or_else(|| line.strip_prefix("System clock synchronized:"))
    })?;
    Some(value.trim() == "yes")
}

/// Makes systemd read all units again.
pub fn daemon_reload(runner: &dyn Runner) -> Result<()> {
    runner
        .check(&Command::new("systemctl", &["daemon-reload"]))
        .map(drop)
}

/// Starts or restarts a service and waits until systemd reports that it is up.
///
/// # Errors
/// If it does not come up. The error has the last lines of its journal.
pub fn start(runner: &dyn Runner, name: &str, restart: bool) -> Result<()> {
    let started = runner.check(&Command::new("systemctl", &[verb(restart), &unit(name)]));
    started.map(drop).map_err(|error| {
        let lines = journal::last_lines(runner, name);
        match lines.is_empty() {
            true => error,
            false => anyhow!(
                "{error:#}; the last lines of `journalctl -u {name}`:\n{}",
                lines.join("\n")
            ),
        }
    })
}

/// Starts or restarts a service without waiting. During a boot, systemd may start it only after
/// the caller's own unit has ended; waiting for it would block the boot.
pub fn start_without_waiting(runner: &dyn Runner, name: &str, restart: bool) -> Result<()> {
    runner
        .check(&Command::new(
            "systemctl",
            &["--no-block", verb(restart), &unit(name)],
        ))
        .map(drop)
}

/// Stops a service, and waits until it has ended.
pub fn stop(runner: &dyn Runner, name: &str) -> Result<()> {
    runner
        .check(&Command::new("systemctl", &["stop", &unit(name)]))
        .map(drop)
}

/// Makes systemd forget that these units failed. A unit that it does not know is no error.
pub fn forget_failures(runner: &dyn Runner, units: &[String]) -> Result<()> {
    let units = units.iter().map(String::as_str);
    let arguments: Vec<&str> = ["reset-failed"].into_iter().chain(units).collect();
    runner.run(&Command::new("systemctl", &arguments)).map(drop)
}

/// The full name of the unit: a service, unless the name has another ending already.
fn unit(name: &str) -> String {
    if name.ends_with(".timer") || name.ends_with(".service") {
        name.to_owned()
    } else {
        format!("{name}.service")
    }
}

fn verb(restart: bool) -> &'static str {
    if restart { "restart" } else { "start" }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sys::process::Output;

    struct Says(&'static str);

    impl Runner for Says {
        fn run(&self, _command: &Command) -> Result<Output> {
            Ok(Output {
                code: Some(0),
                stdout: self.0.to_owned(),
                stderr: String::new(),
            })
        }
    }

    #[test]
    fn a_service_that_does_not_run_has_no_main_process() {
        let id = |said| main_process(&Says(said), "etcd").unwrap();
        assert_eq!(id("MainPID=812\n"), Some(812));
        assert_eq!(id("MainPID=0\n"), None);
        assert_eq!(id(""), None);
    }

    #[test]
    fn a_unit_that_was_changed_on_disk_is_known() {
        let shown = "Id=etcd.service\nFragmentPath=/etc/systemd/system/etcd.service\nNeedDaemonReload=yes\n\n\
                     Id=appliance-images.timer\nFragmentPath=\nNeedDaemonReload=no\n";
        let all = origins(&Says(shown), &["etcd", "appliance-images.timer"]).unwrap();
        assert_eq!(all["etcd"].fragment, "/etc/systemd/system/etcd.service");
        assert!(all["etcd"].is_stale);
        assert_eq!(all["appliance-images.timer"], Origin::default());
    }

    #[test]
    fn several_units_are_told_apart() {
        let shown = "Id=etcd.service\nLoadState=loaded\nActiveState=activating\nSubState=auto-restart\n\nId=kubelet.service\nLoadState=not-found\nActiveState=inactive\nSubState=dead\n\nId=kube-calico.service\nLoadState=loaded\nActiveState=inactive\nSubState=dead\nJob=119\n";
        let units = show(&Says(shown), &["etcd", "kubelet", "kube-calico"]).unwrap();
        assert_eq!(units["etcd"].state(), UnitState::Running);
        assert_eq!(units["etcd"].sub_state, "auto-restart");
        assert_eq!(units["kubelet"].load_state, "not-found");
        assert_eq!(units["kubelet"].state(), UnitState::Stopped);
        assert!(units["kube-calico"].is_coming_up());
    }
}

//! The programs whose output is in the archive. Each has a limit of time and of lines; one that is missing, fails or hangs
//! is noted.

use super::Text;
use crate::components::{self, BOOT_UNIT};
use crate::nodespec::{Profile, Role, Shape};
use crate::paths;
use crate::sys::parallel;
use crate::sys::process::{Command, Runner};
use crate::sys::root::Root;

/// How many run at once.
const AT_ONCE: usize = 4;
/// The journals of the node on a disk that is mounted elsewhere.
const JOURNALS: &str = "/var/log/journal";

/// What is shown of a container, and nothing of its command line and its environment.
const CONTAINERS: &str = "table {{.ID}}\t{{.Image}}\t{{.Names}}\t{{.Status}}\t{{.RunningFor}}";

/// A text, and the program that prints it.
type Row = (&'static str, &'static str, &'static [&'static str]);

/// What a running system shows.
#[rustfmt::skip]
const LIVE: &[Row] = &[
    ("system/failed-units.txt", "systemctl", &["--no-pager", "--failed"]),
    ("system/units.txt", "systemctl", &["--no-pager", "list-units", "--all", "--type=service,timer,mount,socket"]),
    ("system/timers.txt", "systemctl", &["--no-pager", "list-timers", "--all"]),
    ("system/unit-files.txt", "systemctl", &["--no-pager", "list-unit-files"]),
    ("system/boots.txt", "journalctl", &["--no-pager", "--list-boots"]),
    ("system/clock.txt", "timedatectl", &["status"]),
    ("system/processes.txt", "ps", &["-eo", "pid,ppid,user,stat,rss,etime,comm", "--sort=-rss"]),
    ("system/disks.txt", "df", &["-h"]),
    ("system/inodes.txt", "df", &["-i"]),
    ("system/cloud-init.txt", "cloud-init", &["status", "--long"]),
    ("system/kernel-log.txt", "journalctl", &["--dmesg", "--no-pager", "--output=short-iso", "--lines=2000"]),
    ("docker/info.txt", paths::DOCKER_OF_MACHINE, &["info"]),
    ("docker/containers.txt", paths::DOCKER_OF_MACHINE, &["ps", "--all", "--format", CONTAINERS]),
    ("docker/images.txt", paths::DOCKER_OF_MACHINE, &["images", "--digests"]),
    ("network/addresses.txt", "ip", &["-details", "address"]),
    ("network/links.txt", "ip", &["-statistics", "link"]),
    ("network/routes.txt", "ip", &["route", "show", "table", "all"]),
    ("network/rules.txt", "ip", &["rule"]),
    ("network/listeners.txt", "ss", &["-ltnup"]),
    ("network/iptables-filter.txt", "iptables", &["-w", "5", "-S"]),
    ("network/iptables-nat.txt", "iptables", &["-w", "5", "-t", "nat", "-S"]),
];

/// What a node shows. The programs are those of the bundle.
#[rustfmt::skip]
const OF_NODE: &[Row] = &[
    ("network/bgp.txt", "calicoctl", &["node", "status"]),
    ("network/calico-nodes.txt", "calicoctl", &["get", "nodes", "-o", "wide"]),
    ("network/calico-pools.txt", "calicoctl", &["get", "ipPool", "-o", "wide"]),
];

/// What a master shows of the cluster. Only names and states: no object is printed whole.
#[rustfmt::skip]
const OF_MASTER: &[Row] = &[
    ("cluster/nodes.txt", "kubectl", &["get", "nodes", "-o", "wide"]),
    ("cluster/pods.txt", "kubectl", &["get", "pods", "--all-namespaces", "-o", "wide"]),
    ("cluster/events.txt", "kubectl", &["get", "events", "--all-namespaces"]),
    ("cluster/services.txt", "kubectl", &["get", "services", "--all-namespaces"]),
    ("cluster/components.txt", "kubectl", &["get", "componentstatuses"]),
];

/// What every program prints, or why it does not.
pub fn run(root: &Root, runner: &(dyn Runner + Sync)) -> Vec<Text> {
    let commands = match root.is_live() {
        true => live(root),
        false => elsewhere(root),
    };
    parallel::map(&commands, AT_ONCE, |(name, command)| {
        (name.clone(), printed(runner, command))
    })
}

/// The programs, each with the name of its text.
fn live(root: &Root) -> Vec<(String, Command)> {
    let has = |path: &str| root.exists(path).unwrap_or_default();
    let docker = match has(paths::DOCKER_OF_MACHINE) {
        true => paths::DOCKER_OF_MACHINE,
        false => paths::DOCKER_OF_PAYLOAD,
    };
    let of_machine = LIVE.iter().map(|(name, program, arguments)| {
        let is_docker = *program == paths::DOCKER_OF_MACHINE;
        (
            *name,
            Command::new(if is_docker { docker } else { program }, arguments),
        )
    });
    let of_bundle = |(name, program, arguments): &Row| {
        (
            *name,
            Command::new(&format!("{}/{program}", paths::BIN_DIR), arguments),
        )
    };
    let is_node = has(paths::BIN_DIR);
    let is_master = has(paths::ADMIN_KUBECONFIG);
    let of_node = OF_NODE.iter().filter(|_| is_node).map(of_bundle);
    let of_master =
        OF_MASTER
            .iter()
            .filter(|_| is_master)
            .map(of_bundle)
            .map(|(name, mut command)| {
                let config = format!("--kubeconfig={}", paths::ADMIN_KUBECONFIG);
                command
                    .arguments
                    .extend([config, "--request-timeout=8s".to_owned()]);
                (name, command)
            });
    let all = of_machine.chain(of_node).chain(of_master);
    let all = all.map(|(name, command)| (name.to_owned(), command));
    all.chain(journals(None)).collect()
}

/// What is read of a disk that is mounted elsewhere: its journals. journalctl would follow links to those of this machine,
/// so where there is one, it reads nothing.
fn elsewhere(root: &Root) -> Vec<(String, Command)> {
    let dir = root.resolve(JOURNALS).ok();
    let dir = dir.filter(|dir| dir.is_dir() && !has_links(root, JOURNALS));
    let dir = dir.and_then(|dir| dir.to_str().map(str::to_owned));
    dir.map_or_else(Vec::new, |dir| journals(Some(&dir)))
}

/// Whether a directory, or one in it, has a link. What cannot be listed may have one.
fn has_links(root: &Root, dir: &str) -> bool {
    let Ok(names) = root.list(dir) else {
        return true;
    };
    names.iter().any(|name| {
        let path = format!("{dir}/{name}");
        match root.entry(&path) {
            Ok(Some(entry)) if entry.is_dir() => has_links(root, &path),
            Ok(Some(entry)) => entry.is_symlink(),
            _ => true,
        }
    })
}

/// The journal of each service that a node can have. Of the others, nothing is read.
fn journals(dir: Option<&str>) -> Vec<(String, Command)> {
    let shape = Shape {
        role: Role::Single,
        profile: Profile::WithCa,
        balanced: true,
    };
    let services = components::services(shape);
    let units = services.iter().flat_map(|service| service.units());
    let units = units.filter(|unit| unit.ends_with(".service"));
    let units = units.chain([BOOT_UNIT.to_owned()]);
    units
        .map(|unit| {
            let name = unit.trim_end_matches(".service");
            let mut arguments = vec![
                "--no-pager",
                "--output=short-iso",
                "--lines=2000",
                "--unit",
                &unit,
            ];
            let dir = dir.map(|dir| format!("--directory={dir}"));
            arguments.extend(dir.as_deref());
            (
                format!("journal/{name}.txt"),
                Command::new("journalctl", &arguments),
            )
        })
        .collect()
}

fn printed(runner: &dyn Runner, command: &Command) -> Result<String, String> {
    let output = runner.run(command).map_err(|error| format!("{error:#}"))?;
    let mut text = output.stdout;
    if !output.stderr.trim().is_empty() {
        text += "\n(standard error)\n";
        text += &output.stderr;
    }
    match output.code {
        Some(0) => Ok(text),
        Some(code) => Ok(format!("{text}\n(`{command}` ended with status {code})\n")),
        None => Ok(format!("{text}\n(a signal ended `{command}`)\n")),
    }
}

//! What goes when a machine stops being a node, and in which order: everything that this program and the programs
//! of the node brought, and nothing else. Pure: it gets what the machine has ([`Found`]).

pub mod network;
pub mod ours;
mod quorum;
mod step;
mod teardown;

pub use quorum::Membership;
pub use step::{Route, Step, Tables, Tunnel};
pub use teardown::{is_put_aside, teardown};

use crate::components::BOOT_UNIT;
use crate::nodespec::Role;
use crate::paths;
use crate::records::run::{DEMOTE, LastCopy, PROMOTE, RESET};

/// The unit of docker. The node has its own only if docker comes with the bundle.
pub const DOCKER_UNIT: &str = "docker.service";

/// What docker is on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Docker {
    /// It is not installed, or the system is not the running one.
    #[default]
    Absent,
    /// It does not run. The installation brought these images.
    Stopped(Vec<String>),
    /// It does not answer.
    Silent,
    /// It answers, and has these.
    Answers {
        /// Whether there are containers of pods.
        pods: bool,
        /// The containers of the node that are no pods'.
        containers: Vec<String>,
        /// The images that the installation brought.
        images: Vec<String>,
    },
}

/// What etcd's cluster says of the member on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Etcd {
    /// There are no other members, or no etcd.
    #[default]
    Alone,
    /// It is one of several members.
    Member(Membership),
    /// It is a member no more: its data is of no use to another installation.
    Left,
    /// No other member answers.
    Unknown(String),
}

/// What a machine has of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Whether there is a node, or a part of one. If not, nothing on this machine is this program's.
    pub is_node: bool,
    /// Whether it is the running system.
    pub is_live: bool,
    /// etcd's cluster.
    pub etcd: Etcd,
    /// The name of the node, if it is a worker whose API server knows it and answers.
    pub joined: Option<String>,
    /// Why it is not known whether the cluster has the node, if no API server answers a worker.
    pub unreachable: Option<String>,
    /// The units that run.
    pub running: Vec<String>,
    /// The units that systemd knows although their files are gone, and those that failed.
    pub known: Vec<String>,
    /// docker.
    pub docker: Docker,
    /// Whether processes of pods run that docker cannot end.
    pub stray_pods: bool,
    /// The control groups of pods: directories, or slices of systemd.
    pub groups: Vec<String>,
    /// The mounts of pods, the newest first.
    pub mounts: Vec<String>,
    /// The tables with rules of Kubernetes and Calico.
    pub tables: Vec<Tables>,
    /// The policy of the chain FORWARD before the installation, if it is another now.
    pub forward: Option<String>,
    /// The sets of addresses.
    pub sets: Vec<String>,
    /// Calico's interfaces.
    pub interfaces: Vec<String>,
    /// The interface of the tunnel.
    pub tunnel: Option<Tunnel>,
    /// The routes.
    pub routes: Vec<Route>,
    /// Files and links.
    pub files: Vec<String>,
    /// Directories to remove with their content.
    pub trees: Vec<String>,
    /// The copies of files that were here before the node, each with its old path.
    pub back: Vec<(String, String)>,
    /// The other copies of files that someone changed.
    pub copies: Vec<String>,
    /// The files of others with this program's part.
    pub parts: Vec<String>,
    /// The directories that go if they are empty in the end, deepest first.
    pub directories: Vec<String>,
    /// Whether one of them is empty already.
    pub any_empty: bool,
    /// The directories that were here before the node, and have other permission bits now, with the bits before.
    pub modes: Vec<(String, u32)>,
    /// The directories with data of the cluster.
    pub data: Vec<String>,
    /// Whether etcd's member has data.
    pub member: bool,
    /// The directories with keys.
    pub keys: Vec<String>,
    /// The system users.
    pub users: Vec<String>,
    /// The kernel settings that differ from those before the installation, with the values before it.
    pub sysctls: Vec<(String, String)>,
    /// This program, if the installation brought it.
    pub program: Option<String>,
    /// Whether there are records of this program.
    pub records: bool,
    /// The last copy that an interrupted run has made.
    pub copy: Option<LastCopy>,
}

/// What to remove in addition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// etcd's data, and the records of the join service.
    pub data: bool,
    /// Keys and certificates.
    pub keys: bool,
    /// Leave what is in docker.
    pub without_docker: bool,
    /// The role with which the machine becomes a node again at once: then this program, and its unit that installs at
    /// each boot, stay.
    pub becomes: Option<Role>,
    /// The archive with the last copy of data and keys.
    pub copy: String,
    /// A text for new names, which no earlier run used.
    pub stamp: String,
}

/// The steps that remove what was found.
pub fn plan(found: &Found, wanted: &Wanted) -> Vec<Step> {
    let mut steps = Vec::new();
    if found.is_node {
        steps.extend(leave(found));
        steps.extend(stop(found, wanted));
        steps.extend(found.joined.clone().map(Step::DeleteNode));
        steps.extend(some(&found.groups).map(Step::RemoveGroups));
        steps.extend(found.mounts.iter().cloned().map(Step::Unmount));
        steps.extend(network(found));
        steps.extend(of_worth(found, wanted));
        steps.extend(files(found).into_iter().filter(|step| !stays(step, wanted)));
        steps.extend(system(found, wanted));
    }
    let records = found.is_node && found.records && !waits_for_docker(found, wanted);
    let program = found
        .program
        .iter()
        .filter(|_| records && wanted.becomes.is_none());
    let program = program.cloned();
    if !steps.is_empty() || records || found.any_empty {
        steps.extend(program.map(Step::RemoveFile));
        steps.extend(some(&found.directories).map(Step::RemoveEmpty));
    }
    if records {
        steps.push(match wanted.becomes {
            None => Step::ForgetAll,
            Some(_) => Step::ForgetRole,
        });
    }
    steps
}

impl Wanted {
    /// The command that wants it, for the journal of the run.
    pub fn command(&self) -> &'static str {
        match self.becomes {
            None => RESET,
            Some(Role::Worker) => DEMOTE,
            Some(Role::Master | Role::Single) => PROMOTE,
        }
    }
}

/// Whether a step removes the unit of the boot, or its link, from a machine that becomes a node again.
fn stays(step: &Step, wanted: &Wanted) -> bool {
    matches!(step, Step::RemoveFile(path) if is_kept_for_boot(path, wanted))
}

fn is_kept_for_boot(path: &str, wanted: &Wanted) -> bool {
    wanted.becomes.is_some() && path.ends_with(BOOT_UNIT)
}

/// Whether something stays in docker until it answers.
pub fn waits_for_docker(found: &Found, wanted: &Wanted) -> bool {
    found.docker == Docker::Silent && !wanted.without_docker
}

/// What stays on purpose, as paths with the reason.
pub fn kept(found: &Found, wanted: &Wanted) -> Vec<(String, &'static str)> {
    let mut kept = Vec::new();
    if !found.is_node {
        return kept;
    }
    let copies = found.copies.iter().cloned();
    kept.extend(copies.map(|path| (path, "a copy of a file that someone changed")));
    let left = is_out_of_etcd(found);
    if !wanted.data {
        let place = |path: &String| match left && path == paths::ETCD_DIR {
            true => aside(wanted),
            false => path.clone(),
        };
        let places = found.data.iter().map(place);
        kept.extend(places.map(|path| (path, "data of the cluster; `--data` removes it")));
    }
    if !wanted.keys {
        let keys = found.keys.iter().cloned();
        kept.extend(keys.map(|path| (path, "keys and certificates; `--keys` removes them")));
    }
    kept
}

fn is_out_of_etcd(found: &Found) -> bool {
    matches!(found.etcd, Etcd::Member(_) | Etcd::Left)
}

fn aside(wanted: &Wanted) -> String {
    format!("{}.left-{}", paths::ETCD_MEMBER_DATA, wanted.stamp)
}

/// While everything still runs: the cluster learns that this machine goes.
fn leave(found: &Found) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Etcd::Member(member) = &found.etcd {
        steps.push(Step::LeaveEtcd(member.clone()));
    }
    steps.extend(found.joined.clone().map(Step::Drain));
    steps
}

fn stop(found: &Found, wanted: &Wanted) -> Vec<Step> {
    let (docker, units): (Vec<_>, Vec<_>) = found
        .running
        .iter()
        .cloned()
        .partition(|unit| unit == DOCKER_UNIT);
    let mut steps: Vec<Step> = units.into_iter().map(Step::Stop).collect();
    match &found.docker {
        Docker::Stopped(images) if !wanted.without_docker => {
            steps.push(Step::StartDocker);
            steps.push(Step::RemovePods);
            steps.extend(images.iter().cloned().map(Step::RemoveImage));
        }
        Docker::Answers {
            pods,
            containers,
            images,
        } if !wanted.without_docker => {
            steps.extend(pods.then_some(Step::RemovePods));
            steps.extend(containers.iter().cloned().map(Step::RemoveContainer));
            steps.extend(images.iter().cloned().map(Step::RemoveImage));
        }
        _ if found.stray_pods => steps.push(Step::KillPods),
        _ => {}
    }
    steps.extend(docker.into_iter().map(Step::Stop));
    steps
}

fn some(list: &[String]) -> Option<Vec<String>> {
    Some(list.to_vec()).filter(|list| !list.is_empty())
}

/// Rules first, because they use the sets; the routes of BIRD last, because it is stopped by then.
fn network(found: &Found) -> Vec<Step> {
    let mut steps: Vec<Step> = found
        .tables
        .iter()
        .cloned()
        .map(Step::RemoveRules)
        .collect();
    steps.extend(found.forward.clone().map(Step::SetForward));
    steps.extend(some(&found.sets).map(Step::RemoveSets));
    steps.extend(some(&found.interfaces).map(Step::RemoveInterfaces));
    steps.extend(found.tunnel.clone().map(Step::RemoveTunnel));
    let routes = Some(found.routes.clone()).filter(|routes| !routes.is_empty());
    steps.extend(routes.map(Step::RemoveRoutes));
    steps
}

/// Data and keys: a copy first.
fn of_worth(found: &Found, wanted: &Wanted) -> Vec<Step> {
    let mut steps = Vec::new();
    // While the keys are there: without them, an interrupted run could not ask the other members any more.
    if found.member && !wanted.data && is_out_of_etcd(found) {
        steps.push(Step::PutAside {
            path: paths::ETCD_MEMBER_DATA.to_owned(),
            to: aside(wanted),
        });
    }
    let data = found.data.iter().filter(|_| wanted.data);
    let keys = found.keys.iter().filter(|_| wanted.keys);
    let gone: Vec<String> = data.chain(keys).cloned().collect();
    if !gone.is_empty() {
        let copied = found
            .copy
            .as_ref()
            .map(|copy| &copy.of[..])
            .unwrap_or_default();
        if gone.iter().any(|path| !copied.contains(path)) {
            steps.push(Step::Copy(LastCopy {
                path: wanted.copy.clone(),
                of: gone.clone(),
            }));
        }
        steps.extend(gone.into_iter().map(Step::RemoveData));
    }
    steps
}

fn files(found: &Found) -> Vec<Step> {
    let mut steps = Vec::new();
    steps.extend(found.trees.iter().cloned().map(Step::RemoveTree));
    steps.extend(found.files.iter().cloned().map(Step::RemoveFile));
    let back = found.back.iter().cloned();
    steps.extend(back.map(|(path, to)| Step::PutAside { path, to }));
    steps.extend(found.parts.iter().cloned().map(Step::RemovePart));
    let modes = found.modes.iter().cloned();
    steps.extend(modes.map(|(path, mode)| Step::SetMode { path, mode }));
    steps
}

fn system(found: &Found, wanted: &Wanted) -> Vec<Step> {
    let mut steps = Vec::new();
    let goes = |path: &&String| !is_kept_for_boot(path, wanted);
    let mut gone = found.files.iter().filter(goes);
    let any_unit = gone.any(|path| path.starts_with(paths::UNITS_DIR));
    if found.is_live && (any_unit || !found.known.is_empty()) {
        steps.push(Step::ForgetUnits(found.known.clone()));
    }
    steps.extend(found.users.iter().cloned().map(Step::RemoveUser));
    for (key, value) in found.sysctls.clone() {
        steps.push(Step::SetSysctl { key, value });
    }
    steps
}

#[cfg(test)]
mod tests;

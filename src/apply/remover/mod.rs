//! Takes things off the machine, step by step ([`crate::removal`]).

use anyhow::{Context, Result};

use super::records;
use crate::clients::docker::Docker;
use crate::clients::links::Links;
use crate::clients::{netfilter, systemd};
use crate::observe::node::users;
use crate::observe::removal::is_anything_kept;
use crate::paths;
use crate::removal::Step;
use crate::removal::ours::{OF_KEPT, RECORDS};
use crate::sys::change::Change;
use crate::sys::process::{Command, Runner};
use crate::sys::root::Root;

mod cluster;
mod copy;
mod files;
mod pods;

/// Takes things off a machine with these tools.
pub struct Remover<'a> {
    /// The system.
    pub root: &'a Root,
    /// How to run programs.
    pub runner: &'a dyn Runner,
    /// The docker with containers and images.
    pub docker: &'a Docker,
}

impl Remover<'_> {
    /// Carries out one step.
    pub fn carry_out(&self, step: &Step) -> Result<()> {
        let (root, runner) = (self.root, self.runner);
        match step {
            Step::LeaveEtcd(member) => cluster::leave_etcd(root, member),
            Step::Drain(node) => cluster::drain(root, node),
            Step::DeleteNode(node) => cluster::delete_node(root, node),
            Step::Stop(unit) => systemd::stop(runner, unit),
            Step::StartDocker => systemd::start(runner, "docker", false),
            Step::RemovePods => self.docker.remove_pods(runner),
            Step::KillPods => pods::kill(),
            Step::RemoveContainer(name) => self.docker.remove_container(runner, name),
            Step::RemoveImage(reference) => self.remove_image(reference),
            Step::RemoveGroups(groups) => pods::remove_groups(runner, groups),
            Step::Unmount(path) => pods::unmount(runner, path.as_ref()),
            Step::RemoveRules(tables) => netfilter::remove(runner, &tables.save, &tables.restore),
            Step::SetForward(policy) => netfilter::set_forward_policy(runner, root, policy),
            Step::RemoveSets(_) => netfilter::remove_sets(runner, root),
            Step::RemoveInterfaces(names) => self.links(|links| links.remove_interfaces(names)),
            Step::RemoveTunnel(tunnel) => self.links(|links| links.remove_tunnel(tunnel)),
            Step::RemoveRoutes(routes) => self.links(|links| links.remove_routes(routes)),
            Step::Copy(copy) => copy::write(root, copy),
            Step::PutAside { path, to } => root.rename(path, to),
            Step::RemoveFile(path) => root.remove_file(path),
            Step::RemoveTree(path) => files::remove_tree(root, path),
            Step::RemoveContent(path) => self.remove_content(path),
            Step::RemoveData(path) => files::remove_data(root, path),
            Step::RemovePart(path) => files::remove_part(root, path),
            Step::SetMode { path, mode } => root.create_dir(path, *mode),
            Step::RemoveEmpty(paths) => files::remove_empty(root, paths),
            Step::RemoveUser(name) => self.remove_user(name),
            Step::SetSysctl { key, value } => super::kernel::set_sysctl(key, value),
            Step::ForgetUnits(units) => {
                systemd::daemon_reload(runner)?;
                systemd::forget_failures(runner, units)
            }
            Step::ForgetNode => records::forget(root),
            Step::ForgetAll => self.forget(match is_anything_kept(self.root)? {
                true => OF_KEPT,
                false => &[],
            }),
            Step::ForgetRole => self.forget(&[paths::BROUGHT]),
        }
    }

    /// Removes the content of a directory. It unmounts everything below first: the volume of a pod
    /// may hold data from another place.
    pub fn remove_content(&self, path: &str) -> Result<()> {
        pods::unmount_below(self.runner, &self.root.resolve(path)?)?;
        self.root.remove_content(path)
    }

    fn links(&self, change: impl FnOnce(&Links<'_>) -> Result<()>) -> Result<()> {
        match Links::of(self.runner, self.root)? {
            Some(links) => change(&links),
            None => Ok(()),
        }
    }

    fn remove_image(&self, reference: &str) -> Result<()> {
        if let Some(said) = self.docker.remove_image(self.runner, reference)? {
            log::warn!("image {reference} stays, because a container uses it: {said}");
        }
        Ok(())
    }

    fn remove_user(&self, name: &str) -> Result<()> {
        if !users(self.root)?.contains(name) {
            return Ok(());
        }
        let remove = Command::new("userdel", &[name]);
        self.runner.check(&remove).map(drop).with_context(|| {
            format!("see what runs as this user: `ps -u {name}`; then run `appliance reset` again")
        })
    }

    /// Removes the records but `kept`. The record of what was brought stays while something of it stays: with it, a later
    /// run knows that there was a node.
    fn forget(&self, kept: &[&str]) -> Result<()> {
        for path in RECORDS.iter().filter(|path| !kept.contains(path)) {
            self.root.remove_file(path)?;
        }
        self.root.remove_empty(paths::RECORDS_DIR).map(drop)
    }
}

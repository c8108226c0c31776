//! Makes a node an ordinary machine again: reads what is there, plans, and removes until nothing is left.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use crate::apply::{Executor, leftovers};
use crate::clients::docker::Docker as DockerClient;
use crate::clients::systemd;
use crate::components::BOOT_UNIT;
use crate::language::tr;
use crate::nodespec::{Profile, Refused};
use crate::observe::removal::{Observer, Records, docker, found};
use crate::plan::Plan;
use crate::records::state::Installed;
use crate::removal::{
    DOCKER_UNIT, Docker, Etcd, Found, Step, Wanted, kept, plan, waits_for_docker,
};
use crate::sys::lock::{Lock, Patience};
use crate::sys::process::Limited;
use crate::sys::root::Root;
use crate::sys::temporary::remove_leftovers;

/// How long a program may run, before it counts as hanging: systemd gives a service 90 seconds to stop.
const SLOW: Limited = Limited(Duration::from_secs(300));
/// How long a program may run that should answer at once.
const QUICK: Limited = Limited(Duration::from_secs(20));
/// How often what is left is removed again: the end of one thing can leave another.
const ROUNDS: usize = 3;

/// A machine, and what to remove from it.
pub struct Reset {
    root: Root,
    docker: DockerClient,
    wanted: Wanted,
    /// Whether to leave a cluster of etcd that would lose its majority.
    force: bool,
    found: Found,
    node: Option<Installed>,
    /// Whether docker did not answer, or cannot be started.
    docker_is_silent: Cell<bool>,
}

impl Reset {
    /// Reads the machine. Writes nothing.
    ///
    /// # Errors
    /// [`Refused`] if etcd's cluster would stop without this machine, unless `force`.
    pub fn prepare(root: Root, wanted: Wanted, force: bool) -> Result<Reset> {
        let reset = Reset {
            docker: docker(&root)?,
            node: Records::of(&root)?.node,
            found: Found::default(),
            docker_is_silent: Cell::new(false),
            root,
            wanted,
            force,
        };
        let found = reset.look()?;
        Ok(Reset { found, ..reset })
    }

    /// Whether there is a node, or a part of one.
    pub fn is_node(&self) -> bool {
        self.found.is_node
    }

    /// The steps, in order. There are none if nothing is to be removed.
    pub fn steps(&self) -> Vec<Step> {
        plan(&self.found, &self.wanted)
    }

    /// What stays on purpose: paths with the reason.
    pub fn kept(&self) -> Vec<(String, &'static str)> {
        kept(&self.found, &self.wanted)
    }

    /// What someone has to do on other machines, in words.
    pub fn follow(&self) -> Vec<String> {
        let mut follow = Vec::new();
        let Some(installed) = &self.node else {
            return follow;
        };
        let node = &installed.node;
        let with_ca = installed.profile == Profile::WithCa.to_string();
        let release = format!("`appliance node release {node}`");
        match (&self.found.unreachable, &self.found.joined) {
            (Some(why), _) if with_ca => follow.push(tr!(
                "{why}: on a master, run `kubectl delete node {node}`, then {release}",
                why,
                node,
                release
            )),
            (Some(why), _) => follow.push(tr!(
                "{why}: on a master, run `kubectl delete node {node}`",
                why,
                node
            )),
            (None, Some(_)) if with_ca => follow.push(tr!(
                "before another machine can join with the name {node}, run {release} on a master",
                node,
                release
            )),
            _ => {}
        }
        if matches!(self.found.etcd, Etcd::Member(_) | Etcd::Left) {
            follow.push(tr!("remove {node} from `masters` in the settings of all other nodes, and run `appliance install \
                 --change masters` on each", node));
        }
        follow
    }

    /// Takes the lock of the machine. A boot that waits for its master would keep it for ever: it is stopped.
    pub fn lock(&self, patience: Patience) -> Result<Lock> {
        if self.root.is_live() && self.is_node() {
            let shown = systemd::show(&QUICK, &[BOOT_UNIT])?;
            let name = BOOT_UNIT.trim_end_matches(".service");
            if shown.get(name).is_some_and(systemd::Unit::is_coming_up) {
                log::info!("stop {BOOT_UNIT}, which is installing this machine");
                systemd::stop(&SLOW, BOOT_UNIT)?;
            }
        }
        Lock::take(&self.root, patience)
    }

    /// Removes everything. The caller has the lock.
    ///
    /// # Errors
    /// If something cannot be removed, or if docker does not answer: then all else is removed. The same command, run
    /// again, continues.
    pub fn run(&self) -> Result<()> {
        leftovers::remove(&self.root)?;
        if self.root.is_live() {
            remove_leftovers(&std::env::temp_dir());
        }
        let was_stopped = self.start_docker()?;
        for round in 0..ROUNDS {
            let found = self.look()?;
            let all = plan(&found, &self.wanted);
            let (last, steps): (Vec<Step>, Vec<Step>) = all.into_iter().partition(is_last);
            let steps: Vec<Step> = match round {
                0 => steps,
                _ => steps.into_iter().filter(|step| !may_stay(step)).collect(),
            };
            if !steps.is_empty() {
                self.carry_out(steps, &found)?;
                continue;
            }
            if was_stopped {
                systemd::stop(&SLOW, DOCKER_UNIT)?;
            }
            self.carry_out(last, &found)?;
            return self.told_about_docker(&found);
        }
        let left = plan(&self.look()?, &self.wanted);
        let left = left.iter().filter(|step| !is_last(step) && !may_stay(step));
        let left: Vec<String> = left.map(|step| format!("  {step}")).collect();
        match left.is_empty() {
            true => self.run(),
            false => bail!(tr!(
                "this is still to be done, although it was done: something brings it back. Find what does, and \
                 run `appliance reset` again:\n{}",
                left.join("\n")
            )),
        }
    }

    /// Reads the machine again.
    fn look(&self) -> Result<Found> {
        let mut found = found(&Observer {
            root: &self.root,
            runner: &SLOW,
            quick: &QUICK,
            docker: &self.docker,
            is_silent: self.docker_is_silent.get(),
        })?;
        if found.docker == Docker::Silent {
            self.docker_is_silent.set(true);
        }
        let refused = match &found.etcd {
            Etcd::Unknown(why) => Some(tr!(
                "this machine is one of several members of etcd, and no other member answers: {why}",
                why
            )),
            Etcd::Member(member) => member.why_not(),
            Etcd::Alone | Etcd::Left => None,
        };
        match refused {
            None => {}
            Some(_) if self.force => found.etcd = Etcd::Alone,
            Some(why) => bail!(Refused::new(tr!(
                "{why}. Repair the other members first: run `appliance status` on them. If this cluster is \
                     not needed any more, run `appliance reset --force`",
                why
            ))),
        }
        Ok(found)
    }

    /// Starts docker if it does not run, because only docker can remove what is in it. Returns whether it did.
    fn start_docker(&self) -> Result<bool> {
        let is_stopped = matches!(self.look()?.docker, Docker::Stopped(_));
        if !is_stopped || self.wanted.without_docker {
            return Ok(false);
        }
        log::info!(
            "start docker, to remove the containers and images of the node; it is stopped again afterwards"
        );
        if let Err(error) = systemd::start(&SLOW, "docker", false) {
            log::warn!("docker does not start: {error:#}");
            self.docker_is_silent.set(true);
        }
        Ok(!self.docker_is_silent.get())
    }

    fn carry_out(&self, steps: Vec<Step>, found: &Found) -> Result<()> {
        Executor {
            root: &self.root,
            runner: &SLOW,
            docker: &self.docker,
            unpack: &|_, _| Err(anyhow!(tr!("a reset unpacks nothing"))),
            install_program: &|_| Err(anyhow!(tr!("a reset installs nothing"))),
            // Without a node, there is no place for a journal.
            command: found.is_node.then_some(self.wanted.command()),
            at_once: 1,
            watch: None,
        }
        .run(&Plan::of_removal(steps))
    }

    fn told_about_docker(&self, found: &Found) -> Result<()> {
        if !waits_for_docker(found, &self.wanted) {
            return Ok(());
        }
        bail!(tr!(
            "docker does not answer, so its containers and images of the node stay; all else is removed. Repair it \
             (`systemctl restart docker`), and run `appliance reset` again, or `appliance reset --without-docker` to \
             leave them"
        ))
    }
}

/// Whether the step comes when all else is done: until then, this program and its records are needed.
fn is_last(step: &Step) -> bool {
    match step {
        // The program may be all that one of the directories has.
        Step::RemoveEmpty(_) | Step::ForgetAll | Step::ForgetRole => true,
        Step::RemoveFile(path) => path == crate::paths::PROGRAM,
        _ => false,
    }
}

/// Whether the rest of the machine can be reset without this, which was told when it was tried.
fn may_stay(step: &Step) -> bool {
    matches!(
        step,
        Step::Drain(_)
            | Step::DeleteNode(_)
            | Step::RemoveImage(_)
            | Step::RemoveTunnel(_)
            | Step::RemoveGroups(_)
            | Step::StartDocker
    )
}

//! VMs on one network, which differ only in their OpenStack metadata: the tutorial's three, or
//! more.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::container;
use crate::drive::{Addressing, ConfigDrive, server_name};
use crate::genuine;
use crate::image::Image;
use crate::machine::{Clock, Machine, MachineSpec};
use crate::network::{Network, Port};
use crate::qemu::{DISK, overlay};
use crate::write_log::{self, WriteLog};

/// How long the bring-up of the cluster may take: this long for each of its VMs, which share the
/// machine's cores, and once more. This limit only ends a cluster that hangs; it measures nothing.
const BRING_UP: Duration = Duration::from_secs(800);
/// The minimum pause between two rounds of checks of all VMs.
const POLL: Duration = Duration::from_secs(2);

/// One server of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Its number in the tutorial's network: 2 is `server02`, 192.168.1.102.
    pub number: u8,
    /// Its role, if a server property sets it; otherwise the user-data must set it.
    pub role: Option<&'static str>,
    /// How it gets its address.
    pub addressing: Addressing,
}

impl Server {
    const fn new(number: u8, role: Option<&'static str>) -> Server {
        Server {
            number,
            role,
            addressing: Addressing::Static,
        }
    }

    /// A server without a config drive: it uses DHCP and the metadata service.
    const fn served(self) -> Server {
        Server {
            addressing: Addressing::Dhcp,
            ..self
        }
    }

    /// Its name in the tutorial's network.
    pub fn name(&self) -> String {
        server_name(self.number)
    }

    fn config_drive(self, spec: &ClusterSpec<'_>) -> ConfigDrive {
        let mut server =
            ConfigDrive::of_tutorial(self.number, self.role.unwrap_or_default(), spec.user_data);
        if self.role.is_none() {
            server.meta.clear();
        }
        server.addressing = match container::are_wanted() {
            true => Addressing::Dhcp,
            false => self.addressing,
        };
        (server.memory, server.cpus) = (genuine::memory(spec.memory), spec.cpus);
        server
    }
}

/// The tutorial's three servers: workers server01 and server03, master server02.
pub const TUTORIAL: [Server; 3] = [
    Server::new(1, Some("worker")),
    Server::new(2, Some("master")),
    Server::new(3, Some("worker")).served(),
];
/// The tutorial's master, which is a worker, too.
pub const SINGLE: [Server; 1] = [Server::new(2, Some("single"))];
/// Two more servers, for clusters with three masters. Only the user-data sets their roles.
pub const FIVE: [Server; 5] = [
    Server::new(1, None),
    Server::new(2, None),
    Server::new(3, None).served(),
    Server::new(4, None),
    Server::new(5, None),
];
/// The reason for a check of a VM.
pub const UNIT: &str = "appliance-install.service";

/// The inputs of a cluster.
pub struct ClusterSpec<'a> {
    /// Its servers.
    pub servers: &'a [Server],
    /// The base image of all VMs.
    pub image: &'a Image,
    /// The appliance on the second volume of each VM.
    pub appliance: &'a Path,
    /// A directory whose files are copied to that volume.
    pub beside: Option<&'a Path>,
    /// The user-data of all VMs.
    pub user_data: &'a str,
    /// The memory of each VM, in MiB.
    pub memory: u32,
    /// The processors of each VM.
    pub cpus: u32,
    /// The source of each VM's time.
    pub clock: Clock,
    /// The directory with a subdirectory for each VM: its disk, console log and captured packets.
    pub keep: &'a Path,
}

/// One VM of the cluster.
pub struct Member {
    /// The server's name.
    pub name: String,
    /// Its connection to the network.
    pub port: Port,
    /// The VM; `None` while it is switched off.
    pub machine: Option<Machine>,
    server: ConfigDrive,
    keep: PathBuf,
}

impl Member {
    /// Its address in the network.
    pub fn address(&self) -> &str {
        &self.server.address
    }
}

/// The VMs.
pub struct Cluster {
    /// In the order of the servers.
    pub members: Vec<Member>,
    image: Image,
    appliance: PathBuf,
    beside: Option<PathBuf>,
    clock: Clock,
    began: Instant,
    network: Network,
}

impl Cluster {
    /// The servers and their network, all switched off.
    pub fn new(spec: &ClusterSpec<'_>) -> Result<Cluster> {
        let servers = spec.servers.iter();
        let servers: Vec<ConfigDrive> = servers.map(|server| server.config_drive(spec)).collect();
        let network = Network::create(&servers.iter().collect::<Vec<_>>())?;
        let member = |server: ConfigDrive| {
            Ok(Member {
                port: network.plug(&server)?,
                keep: spec.keep.join(&server.name),
                name: server.name.clone(),
                machine: None,
                server,
            })
        };
        let members = servers.into_iter().map(member).collect::<Result<_>>()?;
        Ok(Cluster {
            members,
            image: spec.image.clone(),
            appliance: spec.appliance.to_owned(),
            beside: spec.beside.map(Path::to_owned),
            clock: spec.clock,
            began: Instant::now(),
            network,
        })
    }

    /// Switches all VMs on and waits until programs can run inside. Passes the output of their
    /// consoles to `note`.
    pub fn boot(spec: &ClusterSpec<'_>, note: impl FnMut(&str, Duration, &str)) -> Result<Cluster> {
        let mut cluster = Cluster::new(spec)?;
        for name in cluster.names() {
            cluster.power_on(&name)?;
        }
        cluster.wait_for_all("the guest agent answers", note, |_, machine| {
            Ok(machine.has_agent())
        })?;
        Ok(cluster)
    }

    /// The names of all VMs.
    pub fn names(&self) -> Vec<String> {
        let members = self.members.iter();
        members.map(|member| member.name.clone()).collect()
    }

    /// The time when it was made.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// The member of that name.
    pub fn member(&mut self, name: &str) -> Result<&mut Member> {
        let mut members = self.members.iter_mut();
        members
            .find(|member| member.name == name)
            .with_context(|| format!("no VM {name}"))
    }

    /// The running VM of that name.
    pub fn machine(&mut self, name: &str) -> Result<&mut Machine> {
        let member = self.member(name)?;
        let off = || format!("{name} is switched off");
        member.machine.as_mut().with_context(off)
    }

    /// Switches a VM on, with a new disk.
    pub fn power_on(&mut self, name: &str) -> Result<()> {
        self.switch_on(name, Machine::boot)
    }

    /// Switches a VM on again, with the disk it had when it was switched off.
    pub fn power_on_again(&mut self, name: &str) -> Result<()> {
        self.switch_on(name, Machine::boot_again)
    }

    /// From its next boot on, every write of a VM to its disk is logged in this file.
    pub fn log_writes(&mut self, name: &str) -> Result<PathBuf> {
        let keep = &self.member(name)?.keep;
        fs::create_dir_all(keep)?;
        write_log::create(keep)
    }

    /// Switches a VM on whose disk is what a power cut left of it: after `cut` entries of the log, with those sectors of
    /// writes that were not flushed yet that `survive`.
    pub fn power_on_after_cut(
        &mut self,
        name: &str,
        log: &WriteLog,
        cut: usize,
        survive: impl FnMut(u64) -> u64,
    ) -> Result<()> {
        self.power_off(name)?;
        let image = self.image.clone();
        let keep = &self.member(name)?.keep;
        let left = keep.join("after-cut.img");
        container::copy(&image, &left)?;
        let disk = File::options().read(true).write(true).open(&left)?;
        log.replay(&disk, cut, survive)?;
        match container::are_wanted() {
            true => fs::rename(&left, keep.join(container::DISK))?,
            false => overlay(&left, "raw", &keep.join(DISK))?,
        }
        self.power_on_again(name)
    }

    /// Switches a VM off as a power failure does. What it did not write to its disk is lost.
    pub fn power_off(&mut self, name: &str) -> Result<()> {
        self.member(name)?.machine = None;
        Ok(())
    }

    /// Cuts a VM off from the network, as if its cable was pulled.
    pub fn cut(&mut self, name: &str) -> Result<()> {
        self.member(name)?.port.cut()
    }

    /// Connects a VM to the network again.
    pub fn restore(&mut self, name: &str) -> Result<()> {
        self.member(name)?.port.restore()
    }

    /// The VMs' network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    fn switch_on(
        &mut self,
        name: &str,
        boot: fn(&MachineSpec<'_>) -> Result<Machine>,
    ) -> Result<()> {
        // Two VMs at once would write to the same disk.
        self.power_off(name)?;
        let (image, appliance) = (self.image.clone(), self.appliance.clone());
        let (beside, clock) = (self.beside.clone(), self.clock);
        let member = self.member(name)?;
        let spec = MachineSpec {
            image: &image,
            server: &member.server,
            clock,
            has_config_drive: member.server.addressing == Addressing::Static,
            port: Some(&member.port),
            appliance: &appliance,
            beside: beside.as_deref(),
            keep: Some(&member.keep),
        };
        member.machine = Some(boot(&spec).with_context(|| name.to_owned())?);
        Ok(())
    }

    /// Waits until programs can run inside all VMs that are on.
    pub fn wait_for_agents(&mut self) -> Result<()> {
        let wait = |member: &mut Member| match &mut member.machine {
            Some(machine) => machine
                .wait_for_agent(|_| {})
                .with_context(|| member.name.clone()),
            None => Ok(()),
        };
        thread::scope(|scope| {
            let members = self.members.iter_mut();
            let waiting: Vec<_> = members
                .map(|member| scope.spawn(move || wait(member)))
                .collect();
            let mut ended = waiting.into_iter().map(thread::ScopedJoinHandle::join);
            ended.try_for_each(|outcome| outcome.ok().context("a thread that waits for a VM")?)
        })
    }

    /// Checks the VMs in turn until `is_done` has been true for each. Passes the output of their
    /// consoles to `note`.
    pub fn wait_for_all(
        &mut self,
        what: &str,
        mut note: impl FnMut(&str, Duration, &str),
        mut is_done: impl FnMut(&str, &mut Machine) -> Result<bool>,
    ) -> Result<()> {
        let start = Instant::now();
        let mut waiting = self.names();
        let limit = genuine::limit(BRING_UP) * u32::try_from(waiting.len() + 1)?;
        loop {
            let round = Instant::now();
            for member in &mut self.members {
                let Some(machine) = &mut member.machine else {
                    waiting.retain(|name| *name != member.name);
                    continue;
                };
                for line in machine.console() {
                    note(&member.name, self.began.elapsed(), &line);
                }
                if !waiting.contains(&member.name) {
                    continue;
                }
                let named = || member.name.clone();
                machine.ensure_running(what).with_context(named)?;
                if is_done(&member.name, machine).with_context(named)? {
                    waiting.retain(|name| *name != member.name);
                }
            }
            if waiting.is_empty() {
                return Ok(());
            }
            if start.elapsed() > limit {
                bail!(
                    "not within {} s: {what} ({})",
                    limit.as_secs(),
                    waiting.join(", ")
                );
            }
            // Spend at most half of the time on checks: a check can be much work for the VMs.
            thread::sleep(POLL.max(round.elapsed()));
        }
    }
}

/// The state of the unit that brings the node up.
pub fn unit_state(machine: &mut Machine) -> Option<String> {
    let shown = machine.shell(&format!("systemctl show --property=ActiveState {UNIT}"));
    Some(shown.ok()?.trim().strip_prefix("ActiveState=")?.to_owned())
}

/// Whether a machine at that address answers the VM over TCP. A closed port counts as an answer.
pub fn reaches(machine: &mut Machine, address: &str, port: u16) -> Result<bool> {
    let connect = format!("LC_ALL=C timeout 5 bash -c '</dev/tcp/{address}/{port}' 2>&1");
    let output = machine.run(&["/bin/sh", "-c", &connect])?;
    Ok(output.code == 0 || output.stdout.contains("Connection refused"))
}

/// The journal of the unit that turns a VM into a node, since this boot.
pub fn journal(machine: &mut Machine) -> Result<String> {
    journal_of(machine, UNIT)
}

/// The journal of any unit, since this boot.
pub fn journal_of(machine: &mut Machine, unit: &str) -> Result<String> {
    machine.shell(&format!("journalctl -b --no-pager -o cat -u {unit}"))
}

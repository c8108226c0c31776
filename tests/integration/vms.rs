//! Clusters of VMs that boot with one user-data, and tools for tests to inspect them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use appliance_vm::cluster::{Cluster, ClusterSpec, Server, UNIT, journal, unit_state};
use appliance_vm::image::Image;
use appliance_vm::machine::{Clock, Machine};
use appliance_vm::{container, drive, genuine};
use serde_json::Value;

use crate::harness::said;

pub const APPLIANCE: &str = "/usr/local/bin/appliance";
/// etcdctl on a master, with which it asks its own member.
pub const ETCDCTL: &str = "/usr/local/bin/appliance etcdctl";
/// The mount point of the volume with the appliance, if it has more files.
pub const VOLUME: &str = "/run/appliance-volume";
/// A command that shows why a node is not as it should be, for a test that fails.
const LAST_WORDS: &str = "\
    systemctl --no-pager --failed; \
    appliance status --all; \
    for unit in appliance-install etcd kube-apiserver kube-controller-manager kube-scheduler \
    appliance-signer appliance-join appliance-balancer kubelet kube-calico; do \
    echo \"--- $unit\"; journalctl -b --no-pager -o short-monotonic -n 40 -u $unit; done";

/// The image of the VMs.
pub struct Flavor {
    /// The memory of each VM, in MiB.
    pub memory: u32,
    pub cpus: u32,
    pub clock: Clock,
    /// A directory whose files each VM finds at [`VOLUME`].
    pub beside: Option<PathBuf>,
}

/// For clusters of five: the least memory that works. The clocks stand still while a VM has no processor; otherwise every
/// request would time out.
pub const OF_FIVE: Flavor = Flavor {
    memory: 1792,
    cpus: 1,
    clock: Clock::OfWork,
    beside: None,
};

/// Whether a node is healthy, by its status, and nothing of the cluster has a problem but nodes that are off: add-ons may
/// still wait for nodes.
pub fn is_healthy(report: &Value) -> bool {
    let lacks = report["verdict"]["cluster"]["lacks"].as_array();
    let mut lacks = lacks.into_iter().flatten();
    match report["overall"].as_str() {
        Some("healthy") => true,
        Some("cluster-not-ready") => {
            lacks.all(|lack| lack["problem"].is_null() || lack["kind"] == "node")
        }
        _ => false,
    }
}

/// A cluster that is up, and its inputs. If a test fails, it shows the journal of each VM.
pub struct Bed {
    pub cluster: Cluster,
    pub token: String,
    pub keep: PathBuf,
    _temporary: tempfile::TempDir,
}

/// The appliance to boot with.
pub fn appliance() -> PathBuf {
    let appliance = std::env::var_os("APPLIANCE");
    appliance
        .expect("APPLIANCE names it: run `make e2e`")
        .into()
}

/// The address of the tutorial's server with that name.
pub fn address(name: &str) -> String {
    format!("192.168.1.1{}", &name["server".len()..])
}

/// The journal of the bring-up unit of a VM, after it has ended; it must have succeeded.
pub fn brought_up(machine: &mut Machine, limit: Duration) -> String {
    let ended = |machine: &mut Machine| {
        unit_state(machine).filter(|state| matches!(state.as_str(), "active" | "failed"))
    };
    let state = machine
        .wait_for("the unit has ended", genuine::limit(limit), |_| {}, ended)
        .unwrap();
    let said = journal(machine).unwrap();
    assert_eq!(state, "active", "{said}");
    said
}

fn token() -> String {
    let made = Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(["token", "create", "--offline"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", said(&made));
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

/// The settings, without tunnels in containers: their kernel may have none.
pub fn on_machines(settings: String) -> String {
    let indent = settings.len() - settings.trim_start().len();
    match container::are_wanted() {
        true => format!("{:indent$}ipip: off\n{settings}", ""),
        false => settings,
    }
}

/// Shows the important lines of the consoles.
fn note(name: &str, since: Duration, line: &str) {
    const TELLING: [&str; 4] = ["Linux version", "appliance", "] Started", "Failed"];
    if TELLING.iter().any(|word| line.contains(word)) {
        println!("{:>5} s  {name}  {}", since.as_secs(), line.trim());
    }
}

impl Bed {
    /// VMs that are switched off. `settings` makes the settings in the user-data, which is the same
    /// for all, from a token.
    pub fn new(servers: &[Server], flavor: &Flavor, settings: impl FnOnce(&str) -> String) -> Bed {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let image = Image::ensure(&project.join("out/vm")).unwrap();
        let beside = flavor.beside.is_some();
        Bed::of(&image, servers, flavor, |token| {
            let user_data = drive::user_data(&appliance(), &on_machines(settings(token))).unwrap();
            // The volume stays mounted if it has more files.
            let mount = format!("[mount, -o, ro, LABEL={}, {VOLUME}]", drive::LABEL);
            let mount = format!("bootcmd:\n- [mkdir, -p, {VOLUME}]\n- {mount}\n");
            if beside {
                user_data + &mount
            } else {
                user_data
            }
        })
    }

    /// VMs with that image that are switched off. `user_data` makes the user-data of all, from a
    /// token.
    pub fn of(
        image: &Image,
        servers: &[Server],
        flavor: &Flavor,
        user_data: impl FnOnce(&str) -> String,
    ) -> Bed {
        let temporary = tempfile::tempdir().unwrap();
        let keep = std::env::var_os("KEEP").map_or(temporary.path().to_owned(), PathBuf::from);
        let token = token();
        let cluster = Cluster::new(&ClusterSpec {
            servers,
            image,
            appliance: &appliance(),
            beside: flavor.beside.as_deref(),
            user_data: &user_data(&token),
            memory: flavor.memory,
            cpus: flavor.cpus,
            clock: flavor.clock,
            keep: &keep,
        });
        Bed {
            cluster: cluster.unwrap(),
            token,
            keep,
            _temporary: temporary,
        }
    }

    pub fn machine(&mut self, name: &str) -> &mut Machine {
        self.cluster.machine(name).unwrap()
    }

    /// Switches VMs on, with new disks, and waits until programs can run inside.
    pub fn switch_on(&mut self, names: &[&str]) {
        for name in names {
            self.cluster.power_on(name).unwrap();
        }
        self.cluster.wait_for_agents().unwrap();
    }

    /// The output of a shell command inside a VM, which must succeed.
    pub fn shell(&mut self, name: &str, command: &str) -> String {
        self.machine(name).shell(command).unwrap()
    }

    /// The names of the VMs that are switched on.
    pub fn running(&self) -> Vec<String> {
        let members = self.cluster.members.iter();
        let on = members.filter(|member| member.machine.is_some());
        on.map(|member| member.name.clone()).collect()
    }

    /// Checks the VMs that are on in turn, until `is_done` has been true for each.
    pub fn wait(&mut self, what: &str, mut is_done: impl FnMut(&str, &mut Machine) -> bool) {
        let done = |name: &str, machine: &mut Machine| Ok(is_done(name, machine));
        self.cluster.wait_for_all(what, note, done).unwrap();
    }

    /// Waits until `is_done` is true for one VM.
    pub fn wait_at(
        &mut self,
        name: &str,
        what: &str,
        mut is_done: impl FnMut(&mut Machine) -> bool,
    ) {
        let what = format!("{name}: {what}");
        self.wait(&what, |other, machine| other != name || is_done(machine));
    }

    /// Waits until the bring-up of every VM that is on has ended, and its node is healthy. A bring-up that
    /// gave up waiting for that may only have been too slow.
    pub fn wait_for_bring_up(&mut self) {
        self.wait("every node is up", |_, machine| {
            matches!(unit_state(machine).as_deref(), Some("active" | "failed"))
        });
        self.wait_until_healthy();
    }

    /// Waits until every VM that is on reports that it is healthy. No bring-up has failed otherwise than by
    /// giving up to wait for that.
    pub fn wait_until_healthy(&mut self) {
        self.wait("every node is healthy", |name, machine| {
            if unit_state(machine).as_deref() == Some("failed") {
                let code = machine.shell(&format!("systemctl show -p ExecMainStatus {UNIT}"));
                let gave_up = code.is_ok_and(|code| code.trim() == "ExecMainStatus=3");
                assert!(gave_up, "{name}: {}", journal(machine).unwrap_or_default());
            }
            let status = machine.run(&[APPLIANCE, "status", "--output", "json"]);
            let report = status.map(|status| serde_json::from_str::<Value>(&status.stdout));
            report.is_ok_and(|report| is_healthy(&report.unwrap_or_default()))
        });
    }

    /// The status of a node that must be healthy.
    pub fn status(&mut self, name: &str) -> Value {
        let output = self
            .machine(name)
            .run(&[APPLIANCE, "status", "--output", "json"])
            .unwrap();
        let report: Value = serde_json::from_str(&output.stdout).unwrap();
        assert!(is_healthy(&report), "{name}: {report:#}");
        report
    }

    /// One line of the log of the run.
    pub fn say(&self, text: &str) {
        println!("{:>5} s  {text}", self.cluster.began().elapsed().as_secs());
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for member in &mut self.cluster.members {
            let Some(machine) = &mut member.machine else {
                println!("==== {}: switched off", member.name);
                continue;
            };
            match machine.run(&["/bin/sh", "-c", LAST_WORDS]) {
                Ok(said) => println!("==== {}\n{}{}", member.name, said.stdout, said.stderr),
                Err(error) => println!("==== {}: {error:#}", member.name),
            }
        }
        println!("kept: {}", self.keep.display());
    }
}

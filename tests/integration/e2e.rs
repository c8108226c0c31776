//! The tutorial's cluster: VMs boot with one user-data and nobody logs in.
//!
//! `make e2e` runs it with all three, THOROUGH; `make test` with the master and the worker that has
//! nothing but DHCP and the metadata service: one VM for each of two cores. APPLIANCE names the appliance to boot with, KEEP a directory for disks, console logs and
//! captured packets.

use appliance_vm::cluster::{Server, TUTORIAL, journal};
use appliance_vm::drive;
use appliance_vm::machine::{Clock, Machine};

use crate::at_work;
use crate::vms::{APPLIANCE, Bed, Flavor, address};

pub const MASTER: &str = "server02";
/// The tutorial's three.
pub const ALL: [&str; 3] = ["server01", MASTER, "server03"];
/// The one without a config drive comes last.
const WORKERS: [&str; 2] = ["server01", "server03"];

fn bed() -> Bed {
    let flavor = Flavor {
        memory: drive::MEMORY,
        cpus: drive::CPUS,
        clock: Clock::OfTheWall,
        beside: Some(at_work::services()),
    };
    let nodes = nodes();
    let booted = |server: &Server| nodes.contains(&server.name().as_str());
    let servers: Vec<Server> = TUTORIAL.into_iter().filter(booted).collect();
    // Nothing in it says which server reads it.
    Bed::new(&servers, &flavor, |token| {
        format!(
            "  master: 192.168.1.102\n  join: {{token: {token}, ttl: 2h, uses: {}}}\n{}",
            uses(),
            at_work::settings()
        )
    })
}

/// Whether all is done that takes its time: THOROUGH.
pub fn thorough() -> bool {
    std::env::var_os("THOROUGH").is_some_and(|value| !value.is_empty())
}

/// The workers that are booted.
pub fn workers() -> &'static [&'static str] {
    if thorough() { &WORKERS } else { &WORKERS[1..] }
}

/// All that are booted, the master first.
pub fn nodes() -> Vec<&'static str> {
    [&[MASTER], workers()].concat()
}

/// How often a worker joins.
fn uses() -> usize {
    workers().len() + usize::from(thorough())
}

impl Bed {
    fn kubectl(&mut self, arguments: &str) -> String {
        self.shell(MASTER, &format!("HOME=/root kubectl {arguments}"))
    }

    fn wait_for_join_service(&mut self, wanted: &str) {
        self.wait("the join service comes or goes", |name, machine| {
            let state = machine.run(&["systemctl", "is-active", "appliance-join"]);
            name != MASTER || state.unwrap().stdout.trim() == wanted
        });
    }
}

#[test]
#[ignore = "boots virtual machines; make test and make e2e run it"]
fn vms_become_a_cluster_by_themselves() {
    let mut bed = bed();
    if thorough() {
        workers_wait_for_their_master(&mut bed);
    } else {
        bed.switch_on(&nodes());
    }
    bed.wait_for_bring_up();
    everything_is_healthy(&mut bed);
    at_work::every_node_knows_its_peers(&mut bed);
    if thorough() {
        at_work::everything_is_available(&mut bed);
        at_work::every_check_passes(&mut bed);
        at_work::the_commands_of_the_documentation_work(&mut bed);
        at_work::the_services_are_reached_from_outside(&mut bed);
        at_work::an_image_that_docker_lost_comes_back(&mut bed);
    }
    certificates_are_each_nodes_own(&mut bed);
    a_second_run_changes_nothing(&mut bed);
    if thorough() {
        a_worker_made_anew_gets_its_name_once_the_old_one_is_gone(&mut bed);
    }
    tokens_come_and_go(&mut bed);
    nothing_secret_was_said(&mut bed);
    println!("kept: {}", bed.keep.display());
}

/// They say what they wait for, for as long as there is no master.
fn workers_wait_for_their_master(bed: &mut Bed) {
    bed.switch_on(workers());
    bed.wait("the workers wait for their master", |_, machine| {
        let waits = "waiting to join: the master at 192.168.1.102:6444 is not reached";
        journal(machine).is_ok_and(|said| said.contains(waits))
    });
    bed.switch_on(&[MASTER]);
}

/// What is slow is waited for: on two cores without KVM, a leader may lose its lease now and then.
fn everything_is_healthy(bed: &mut Bed) {
    bed.wait_until_healthy();
    for name in nodes() {
        let status = bed.machine(name).run(&[APPLIANCE, "status"]).unwrap();
        println!("== {name}\n{}", status.stdout);
    }
    let all = "export HOME=/root; kubectl get componentstatus && kubectl get csr && kubectl get nodes -o wide";
    bed.wait_at(
        MASTER,
        "components, requests and nodes are as they should be",
        |machine| {
            machine.shell(all).is_ok_and(|said| {
                let is_well = !said.contains("Unhealthy")
                    && !said.contains("Pending")
                    && !said.contains("NotReady")
                    && said.matches("Approved,Issued").count() >= workers().len()
                    && workers().iter().all(|name| is_ready(&said, name));
                if is_well {
                    println!("{said}");
                }
                is_well
            })
        },
    );
    // The API server shows each kubelet a certificate it takes, and takes the kubelet's.
    for name in workers() {
        let ask = format!("HOME=/root kubectl get --raw /api/v1/nodes/{name}/proxy/healthz");
        bed.wait_at(MASTER, "the API server reaches the kubelet", |machine| {
            machine.shell(&ask).is_ok_and(|health| health == "ok")
        });
    }
    let cloud = "cloud-init query v1.platform; cloud-init query subplatform 2>/dev/null; true";
    let platform = bed.machine("server03").shell(cloud).unwrap();
    assert!(
        platform.contains("metadata") || platform.contains("openstack"),
        "{platform}"
    );
}

/// Whether a list of nodes, as kubectl prints it, has that one as ready.
fn is_ready(said: &str, name: &str) -> bool {
    let mut lines = said.lines();
    lines.any(|line| line.starts_with(name) && line.contains(" Ready "))
}

fn certificates_are_each_nodes_own(bed: &mut Bed) {
    for name in workers() {
        let address = address(name);
        let machine = bed.machine(name);
        let subject = |machine: &mut Machine, path: &str| {
            let show = format!("openssl x509 -noout -subject -ext subjectAltName -in {path} 2>&1");
            machine.shell(&show).unwrap()
        };
        let server = subject(machine, "/etc/kubernetes/ca/kubelet/kubelet.pem");
        assert!(server.contains(&format!("system:node:{name}")), "{server}");
        assert!(
            server.contains(&format!("DNS:{name}, IP Address:{address}")),
            "{server}"
        );
        // The authority's key and others' names are the master's.
        let strangers = "ls /etc/kubernetes/ca/ca-key.pem /etc/kubernetes/admin.kubeconfig \
                         /etc/kubernetes/ca/admin /etc/kubernetes/ca/kubernetes 2>/dev/null; true";
        assert_eq!(machine.shell(strangers).unwrap(), "", "{name}");
        let readable = "find /etc/kubernetes /var/lib/kubelet \\( -name '*-key.pem' -o -name '*.kubeconfig' \
                        -o -name '*.key' \\) -not -perm 0600";
        assert_eq!(machine.shell(readable).unwrap(), "", "{name}");
    }
}

/// Neither on the wire, nor in a journal, a process list or a unit.
fn nothing_secret_was_said(bed: &mut Bed) {
    let secret = bed.token.split_once('.').unwrap().1.to_owned();
    for name in nodes() {
        let machine = bed.machine(name);
        let keys = machine
            .shell(
                "cat $(find /etc/kubernetes /var/lib/kubelet -name '*-key.pem' -o -name '*.key')",
            )
            .unwrap();
        let mut secrets: Vec<String> = keys
            .lines()
            .filter(|line| line.len() == 64)
            .map(str::to_owned)
            .collect();
        assert!(secrets.len() >= 4, "{name}");
        // The metadata service sends user-data in the clear, as every cloud does.
        if name != "server03" {
            secrets.push(secret.clone());
        }
        let packets = std::fs::read(machine.capture()).unwrap();
        assert!(packets.len() > 10_000, "{name}: no packets were captured");
        for secret in &secrets {
            assert!(
                !holds(&packets, secret.as_bytes()),
                "{name}: a secret was sent"
            );
        }
        for place in [
            "journalctl -b --no-pager",
            "ps -eo args",
            "cat /etc/systemd/system/*.service",
        ] {
            // Written so that the search does not find itself: the agent logs what it runs.
            let (start, end) = secret.split_at(16);
            let counted =
                format!("{place} > /tmp/said; grep -c '{start}''{end}' /tmp/said; rm /tmp/said");
            let count = machine.run(&["/bin/sh", "-c", &counted]).unwrap().stdout;
            assert_eq!(count, "0\n", "{name}: {place}");
        }
    }
    let kept = bed
        .machine(MASTER)
        .shell("cat /var/lib/appliance/join/*.json")
        .unwrap();
    assert!(!kept.contains(&secret));
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

/// The join service lives as long as the tokens do.
fn tokens_come_and_go(bed: &mut Bed) {
    let id = bed.token.split('.').next().unwrap().to_owned();
    let machine = bed.machine(MASTER);
    let shell = |machine: &mut Machine, what: &str| machine.shell(what).unwrap();
    let list = shell(machine, &format!("{APPLIANCE} token list"));
    assert!(
        list.contains(&id)
            && list.contains(&format!("{} of {}", uses(), uses()))
            && list.contains("used up"),
        "{list}"
    );
    let nodes = shell(machine, &format!("{APPLIANCE} node list"));
    assert!(
        workers()
            .iter()
            .all(|name| nodes.contains(name) && nodes.contains(&address(name))),
        "{nodes}"
    );
    println!("{list}\n{nodes}");
    let audit = shell(
        machine,
        "journalctl -b --no-pager -o cat -u appliance-signer",
    );
    assert!(
        audit.contains("audit: join from 192.168.1.103 for kubelet-client"),
        "{audit}"
    );
    println!("{audit}");
    bed.wait_for_join_service("inactive");
    bed.wait_until_healthy();
    let machine = bed.machine(MASTER);
    let more = shell(
        machine,
        &format!("{APPLIANCE} token create --ttl 1h --uses 1"),
    );
    bed.wait_for_join_service("active");
    let machine = bed.machine(MASTER);
    shell(
        machine,
        &format!("{APPLIANCE} token revoke {}", more.trim()),
    );
    bed.wait_for_join_service("inactive");
}

fn a_second_run_changes_nothing(bed: &mut Bed) {
    for name in nodes() {
        let again = bed.machine(name).run(&[APPLIANCE, "install"]).unwrap();
        assert_eq!(again.code, 0, "{name}: {again:?}");
        assert!(
            again.stderr.contains("nothing to change"),
            "{name}: {again:?}"
        );
    }
}

/// The same server with an empty disk: other keys, the same name.
fn a_worker_made_anew_gets_its_name_once_the_old_one_is_gone(bed: &mut Bed) {
    let name = "server03";
    bed.cluster.member(name).unwrap().machine = None;
    bed.switch_on(&[name]);
    let let_in = "has let this node in";
    bed.wait_at(name, "it is told that the name is taken", |machine| {
        journal(machine).is_ok_and(|said| {
            said.contains("a node server03 is in the cluster") || said.contains(let_in)
        })
    });
    // A slow boot takes the time after which nobody has to say that the old one is gone.
    if !journal(bed.machine(name)).unwrap().contains(let_in) {
        bed.kubectl("delete node server03");
    }
    bed.wait_for_bring_up();
    everything_is_healthy(bed);
}

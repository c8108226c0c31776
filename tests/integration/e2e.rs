//! The tutorial's cluster: VMs boot with one user-data and nobody logs in.
//!
//! `make e2e` runs it with all three, THOROUGH; `make test` with two. APPLIANCE names the appliance
//! to boot, KEEP a directory for disks, console logs and captured packets.

use appliance_vm::cluster::{journal, journal_of};
use appliance_vm::container;
use appliance_vm::machine::Machine;

use crate::at_work;
use crate::port_security;
use crate::site::{SMALL, Site, WHOLE};
use crate::vms::{APPLIANCE, Bed, address};

/// Whether to run the parts that take long, too: THOROUGH.
fn thorough() -> bool {
    std::env::var_os("THOROUGH").is_some_and(|value| !value.is_empty())
}

/// How often the token is used: once for each worker, and once more for a rebuilt one.
fn uses(site: &Site) -> usize {
    site.workers.len() + usize::from(thorough())
}

fn wait_for_join_service(site: &Site, bed: &mut Bed, wanted: &str) {
    bed.wait_at(site.master, "the join service comes or goes", |machine| {
        let state = machine.run(&["systemctl", "is-active", "appliance-join"]);
        state.unwrap().stdout.trim() == wanted
    });
}

#[test]
#[ignore = "boots virtual machines; make test and make e2e run it"]
fn vms_become_a_cluster_by_themselves() {
    let site = if thorough() { &WHOLE } else { &SMALL };
    let mut bed = site.bed(|token| {
        format!(
            "  master: {}\n  join: {{token: {token}, ttl: 2h, uses: {}}}\n",
            address(site.master),
            uses(site)
        )
    });
    if thorough() {
        workers_wait_for_their_master(site, &mut bed);
    } else {
        bed.switch_on(&site.nodes());
    }
    bed.wait_for_bring_up();
    everything_is_healthy(site, &mut bed);
    at_work::every_node_knows_its_peers(site, &mut bed);
    port_security::pods_are_reached_on_untouched_ports(site, &mut bed);
    if thorough() {
        at_work::everything_is_available(site, &mut bed);
        at_work::every_check_passes(site, &mut bed);
        at_work::no_item_of_the_benchmark_fails(site, &mut bed);
        at_work::big_packets_that_are_lost_are_told(site, &mut bed);
        port_security::each_cause_is_named(site, &mut bed);
        at_work::every_check_passes(site, &mut bed);
        at_work::the_commands_of_the_documentation_work(site, &mut bed);
        at_work::the_services_are_reached_from_outside(site, &mut bed);
        at_work::an_image_that_docker_lost_comes_back(site, &mut bed);
    }
    certificates_are_each_nodes_own(site, &mut bed);
    if thorough() {
        at_work::every_node_outlives_a_reboot(site, &mut bed, at_work::every_check_passes);
        at_work::the_services_are_reached_from_outside(site, &mut bed);
    }
    at_work::a_second_run_changes_nothing(site, &mut bed);
    if thorough() {
        a_worker_made_anew_gets_its_name_once_the_old_one_is_gone(site, &mut bed);
    }
    tokens_come_and_go(site, &mut bed);
    nothing_secret_was_said(site, &mut bed);
    println!("kept: {}", bed.keep.display());
}

/// Workers log what they wait for, as long as there is no master.
fn workers_wait_for_their_master(site: &Site, bed: &mut Bed) {
    bed.switch_on(site.workers);
    bed.wait("the workers wait for their master", |_, machine| {
        let waits = "waiting to join: cannot reach the master at 192.168.1.102:6444";
        journal(machine).is_ok_and(|said| said.contains(waits))
    });
    bed.switch_on(&[site.master]);
}

/// Wait for slow reactions: on two cores without KVM, a leader may lose its lease sometimes.
fn everything_is_healthy(site: &Site, bed: &mut Bed) {
    bed.wait_until_healthy();
    for name in site.nodes() {
        let status = bed.machine(name).run(&[APPLIANCE, "status"]).unwrap();
        println!("== {name}\n{}", status.stdout);
    }
    let all = "export HOME=/root; kubectl get componentstatus && kubectl get csr && kubectl get nodes -o wide";
    bed.wait_at(
        site.master,
        "components, requests and nodes are as they should be",
        |machine| {
            machine.shell(all).is_ok_and(|said| {
                let is_well = !said.contains("Unhealthy")
                    && !said.contains("Pending")
                    && !said.contains("NotReady")
                    && said.matches("Approved,Issued").count() >= site.workers.len()
                    && site.workers.iter().all(|name| is_ready(&said, name));
                if is_well {
                    println!("{said}");
                }
                is_well
            })
        },
    );
    // The API server shows each kubelet a certificate that the kubelet accepts, and accepts the
    // kubelet's.
    for name in site.workers {
        let ask = format!("HOME=/root kubectl get --raw /api/v1/nodes/{name}/proxy/healthz");
        bed.wait_at(
            site.master,
            "the API server reaches the kubelet",
            |machine| machine.shell(&ask).is_ok_and(|health| health == "ok"),
        );
    }
    let cloud = "cloud-init query v1.platform; cloud-init query subplatform 2>/dev/null; true";
    let platform = bed.machine("server03").shell(cloud).unwrap();
    assert!(
        platform.contains("metadata") || platform.contains("openstack"),
        "{platform}"
    );
}

/// Whether a list of nodes, as kubectl prints it, shows that node as ready.
fn is_ready(said: &str, name: &str) -> bool {
    let mut lines = said.lines();
    lines.any(|line| line.starts_with(name) && line.contains(" Ready "))
}

fn certificates_are_each_nodes_own(site: &Site, bed: &mut Bed) {
    for name in site.workers {
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
        // Only the master has the CA's key and the names of others.
        let strangers = "ls /etc/kubernetes/ca/ca-key.pem /etc/kubernetes/admin.kubeconfig \
                         /etc/kubernetes/ca/admin /etc/kubernetes/ca/kubernetes 2>/dev/null; true";
        assert_eq!(machine.shell(strangers).unwrap(), "", "{name}");
        let readable = "find /etc/kubernetes /var/lib/kubelet \\( -name '*-key.pem' -o -name '*.kubeconfig' \
                        -o -name '*.key' \\) -not -perm 0600";
        assert_eq!(machine.shell(readable).unwrap(), "", "{name}");
    }
}

/// The secret appears neither in packets, nor in a journal, a process list or a unit.
fn nothing_secret_was_said(site: &Site, bed: &mut Bed) {
    let secret = bed.token.split_once('.').unwrap().1.to_owned();
    for name in site.nodes() {
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
        // The metadata service sends user-data unencrypted, as in every cloud.
        if name != "server03" {
            secrets.push(secret.clone());
        }
        // Packets of containers are not captured.
        if !container::are_wanted() {
            nothing_secret_was_sent(machine, &secrets);
        }
        for place in [
            "journalctl -b --no-pager",
            "ps -eo args",
            "cat /etc/systemd/system/*.service",
        ] {
            // The pattern does not match itself: the agent logs the commands that it runs.
            let (start, end) = secret.split_at(16);
            let counted =
                format!("{place} > /tmp/said; grep -c '{start}''{end}' /tmp/said; rm /tmp/said");
            let count = machine.run(&["/bin/sh", "-c", &counted]).unwrap().stdout;
            assert_eq!(count, "0\n", "{name}: {place}");
        }
    }
    let kept = bed
        .machine(site.master)
        .shell("cat /var/lib/appliance/join/*.json")
        .unwrap();
    assert!(!kept.contains(&secret));
}

fn nothing_secret_was_sent(machine: &Machine, secrets: &[String]) {
    let packets = std::fs::read(machine.capture()).unwrap();
    assert!(packets.len() > 10_000, "no packets were captured");
    for secret in secrets {
        assert!(!holds(&packets, secret.as_bytes()), "a secret was sent");
    }
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

/// The join service runs as long as a token is valid.
fn tokens_come_and_go(site: &Site, bed: &mut Bed) {
    let id = bed.token.split('.').next().unwrap().to_owned();
    let machine = bed.machine(site.master);
    let shell = |machine: &mut Machine, what: &str| machine.shell(what).unwrap();
    let list = shell(machine, &format!("{APPLIANCE} token list"));
    assert!(
        list.contains(&id)
            && list.contains(&format!("{} of {}", uses(site), uses(site)))
            && list.contains("used up"),
        "{list}"
    );
    let nodes = shell(machine, &format!("{APPLIANCE} node list"));
    assert!(
        site.workers
            .iter()
            .all(|name| nodes.contains(name) && nodes.contains(&address(name))),
        "{nodes}"
    );
    println!("{list}\n{nodes}");
    let audit = journal_of(machine, "appliance-signer").unwrap();
    let is_of_worker = |line: &str| {
        line.contains("audit: join from 192.168.1.103 of ") && line.contains(" for kubelet-client")
    };
    assert!(audit.lines().any(is_of_worker), "{audit}");
    println!("{audit}");
    wait_for_join_service(site, bed, "inactive");
    bed.wait_until_healthy();
    let machine = bed.machine(site.master);
    let more = shell(
        machine,
        &format!("{APPLIANCE} token create --ttl 1h --uses 1"),
    );
    wait_for_join_service(site, bed, "active");
    let machine = bed.machine(site.master);
    shell(
        machine,
        &format!("{APPLIANCE} token revoke {}", more.trim()),
    );
    wait_for_join_service(site, bed, "inactive");
}

/// The same server with an empty disk: the same name with other keys.
fn a_worker_made_anew_gets_its_name_once_the_old_one_is_gone(site: &Site, bed: &mut Bed) {
    let name = "server03";
    bed.cluster.member(name).unwrap().machine = None;
    bed.switch_on(&[name]);
    let let_in = "issued certificates for this node";
    bed.wait_at(
        name,
        "the master answers that the name is in use",
        |machine| {
            journal(machine).is_ok_and(|said| {
                said.contains("a node server03 is in the cluster") || said.contains(let_in)
            })
        },
    );
    // A slow boot takes long enough for the old node to count as gone.
    if !journal(bed.machine(name)).unwrap().contains(let_in) {
        bed.shell(site.master, "HOME=/root kubectl delete node server03");
    }
    bed.wait_for_bring_up();
    everything_is_healthy(site, bed);
}

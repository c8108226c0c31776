//! The cluster in use, on the tutorial's VMs: its checks, the services of the tutorial's last
//! chapter, and images that stay.

use std::path::Path;

use appliance_vm::cluster::journal_of;
use serde_json::Value;

use crate::site::{Site, Workload};
use crate::vms::{APPLIANCE, Bed, address};

/// Calico's kube-controllers and kube-dns.
const ADDONS: usize = 2;
/// The checks that need several nodes: BGP peers, pod to pod, path MTU.
const OF_SEVERAL: usize = 3;
/// Those of them that need several nodes with pods.
const OF_SEVERAL_WITH_PODS: usize = 1;
/// The service in front of the others, at every node.
const NODE_PORT: u16 = 30080;
/// Add-ons and workloads are applied, each after the ones it needs.
pub fn everything_is_available(site: &Site, bed: &mut Bed) {
    let manifests = ADDONS + site.workloads.len();
    let available = format!("all {manifests} add-ons and workloads are available");
    let mut said = String::new();
    bed.wait_at(site.master, &available, |machine| {
        said = journal_of(machine, "appliance-addons").unwrap_or_default();
        said.contains(&available)
    });
    // It may have said so before pods were started again.
    bed.wait_at(site.master, "they are available now", |machine| {
        let status = machine.run(&[APPLIANCE, "status", "--output", "json"]);
        let report = status.map(|status| serde_json::from_str::<Value>(&status.stdout));
        report.is_ok_and(|report| {
            let report = report.unwrap_or_default();
            let mut addons = report["addons"].as_array().into_iter().flatten();
            addons.all(|addon| addon["available"] == true) && !report["addons"].is_null()
        })
    });
    bed.say(&available);
    println!("{said}");
    let applied = |name: &str| said.find(&format!("applied {name} ")).unwrap();
    for Workload { name, after, .. } in site.workloads {
        assert!(applied("kube-dns") < applied(name), "{name}");
        for before in *after {
            assert!(applied(before) < applied(name), "{before} before {name}");
        }
    }
    let report = bed.status(site.master);
    let addons = report["addons"].as_array().unwrap();
    assert_eq!(addons.len(), manifests, "{report:#}");
    println!("{}", bed.shell(site.master, &format!("{APPLIANCE} status")));
    println!(
        "{}",
        bed.shell(
            site.master,
            "HOME=/root kubectl get pods --all-namespaces -o wide"
        )
    );
}

/// The tutorial's checks, from their own pods, which are removed afterwards.
pub fn every_check_passes(site: &Site, bed: &mut Bed) {
    let table = bed.machine(site.master).run(&[APPLIANCE, "check"]).unwrap();
    println!("{}{}", table.stdout, table.stderr);
    assert_eq!(table.code, 0, "{table:?}");
    let skipped = match (site.nodes().len(), site.workers.len()) {
        (1, _) => OF_SEVERAL,
        (_, 1) => OF_SEVERAL_WITH_PODS,
        _ => 0,
    };
    let sum = format!(" 0 failed, {skipped} skipped");
    assert!(table.stdout.contains(&sum), "{table:?}");
    bed.wait_at(site.master, "the probes are removed", |machine| {
        let namespaces = machine.shell("HOME=/root kubectl get namespaces -o name");
        namespaces.is_ok_and(|names| !names.contains("appliance-check"))
    });
}

/// Waits until the cluster works again after its only DNS pod was started again.
pub fn pods_start_again(site: &Site, bed: &mut Bed) {
    bed.wait_at(site.master, "every check passes again", |machine| {
        let check = machine.run(&[APPLIANCE, "check"]);
        check.is_ok_and(|said| said.code == 0)
    });
}

/// No item of the CIS Kubernetes Benchmark fails on any node. The flags are those of the running programs.
pub fn no_item_of_the_benchmark_fails(site: &Site, bed: &mut Bed) {
    for name in site.nodes() {
        let command = [APPLIANCE, "check", "--cis"];
        let table = bed.machine(name).run(&command).unwrap();
        println!("{name}: {}{}", table.stdout, table.stderr);
        assert_eq!(table.code, 0, "{name}: {table:?}");
        assert!(!table.stdout.contains("does not run"), "{name}: {table:?}");
    }
}

/// A firewall on one worker imitates a network whose MTU leaves no space for tunnels.
pub fn big_packets_that_are_lost_are_told(site: &Site, bed: &mut Bed) {
    let name = site.workers[0];
    let rule = |action: &str| {
        format!(
            "iptables -t raw {action} PREROUTING ! -i cali+ -s 172.20.0.0/16 -m length --length 1401: -j DROP"
        )
    };
    bed.shell(name, &rule("-I"));
    bed.say(&format!("{name}: the network drops big packets"));
    let table = bed.machine(site.master).run(&[APPLIANCE, "check"]).unwrap();
    bed.shell(name, &rule("-D"));
    println!("{}{}", table.stdout, table.stderr);
    assert_eq!(table.code, 3, "{table:?}");
    for hint in ["the MTU of pods", "set `mtu: 1"] {
        assert!(table.stdout.contains(hint), "{hint}: {table:?}");
    }
}

/// The commands in docs/checks.md and docs/tutorial.md, word for word: those that need no image of the operator.
pub fn the_commands_of_the_documentation_work(site: &Site, bed: &mut Bed) {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = ["docs/checks.md", "docs/tutorial.md"];
    let text = pages.map(|page| std::fs::read_to_string(project.join(page)).unwrap());
    let text = text.concat();
    let commands = text.lines().filter_map(|line| line.strip_prefix("    "));
    let commands: Vec<&str> = commands
        .filter(|line| {
            let shows = [
                "kubectl version",
                "kubectl get component",
                "kubectl get nodes",
            ];
            let asks = ["calicoctl ", "kubectl -n kube-system get"];
            let mut starts = shows.iter().chain(&asks);
            starts.any(|start| line.starts_with(start))
        })
        .collect();
    assert!(commands.len() >= 6, "{commands:?}");
    for command in commands {
        let said = bed.shell(site.master, &format!("export HOME=/root; {command}"));
        println!("# {command}\n{said}");
        assert!(!said.trim().is_empty(), "{command}");
    }
}

/// A session with each of the other nodes, in `appliance status` as in `calicoctl node status`.
pub fn every_node_knows_its_peers(site: &Site, bed: &mut Bed) {
    let nodes = site.nodes();
    let others = nodes.len() - 1;
    for name in nodes {
        bed.wait_at(
            name,
            "it has a session with each of the others",
            |machine| {
                let table = machine.shell("calicoctl node status");
                table.is_ok_and(|table| table.matches("Established").count() == others)
            },
        );
        let table = bed.shell(name, "calicoctl node status");
        let status = bed
            .machine(name)
            .run(&[APPLIANCE, "status", "--output", "json"]);
        let report: Value = serde_json::from_str(&status.unwrap().stdout).unwrap();
        let peers = report["peers"].as_array().unwrap();
        assert_eq!(peers.len(), others, "{report:#}");
        for peer in peers {
            let address = peer["address"].as_str().unwrap();
            assert!(table.contains(address), "{address}: {table}");
            assert!(peer["node"].is_string(), "{report:#}");
            assert!(peer["problem"].is_null(), "{report:#}");
        }
    }
}

/// At the port of every worker, from the master.
pub fn the_services_are_reached_from_outside(site: &Site, bed: &mut Bed) {
    for name in site.workers {
        let address = address(name);
        let ask = format!(
            "exec 3<>/dev/tcp/{address}/{NODE_PORT}; \
             printf 'GET / HTTP/1.0\\r\\nHost: {name}\\r\\n\\r\\n' >&3; timeout 30 cat <&3"
        );
        let answer = bed.machine(site.master).run(&["bash", "-c", &ask]).unwrap();
        assert!(
            answer.stdout.contains("api-gateway-zuul"),
            "{name}: {answer:?}"
        );
    }
}

/// Docker cannot pull the pause image again from anywhere.
pub fn an_image_that_docker_lost_comes_back(site: &Site, bed: &mut Bed) {
    let image = "gcr.io/google_containers/pause-amd64:3.0";
    let name = site.workers[0];
    // The VM's own docker, or that of the bundle.
    let docker = "PATH=$PATH:/opt/appliance/current/docker docker";
    bed.shell(name, &format!("{docker} rmi --force {image}"));
    bed.shell(name, "systemctl start appliance-images.service");
    bed.shell(name, &format!("{docker} image inspect {image}"));
}

/// A container writes 1 GB to its log; docker keeps five files of 20 MB of it. Calico's image has a shell.
pub fn a_container_that_writes_without_end_is_bounded(site: &Site, bed: &mut Bed) {
    let name = site.workers[0];
    let docker = "PATH=$PATH:/opt/appliance/current/docker docker";
    let image = bed.shell(
        name,
        &format!("{docker} inspect --format '{{{{.Config.Image}}}}' calico-node"),
    );
    let run = format!(
        "{docker} run --detach --name writer --entrypoint /bin/sh {} -c 'yes 0123456789 | head -c 1000000000'",
        image.trim()
    );
    let id = bed.shell(name, &run);
    bed.wait_at(name, "the container has written 1 GB", |machine| {
        let running = machine.shell(&format!(
            "{docker} inspect --format '{{{{.State.Running}}}}' writer"
        ));
        running.is_ok_and(|running| running.trim() == "false")
    });
    let size = bed.shell(
        name,
        &format!("du -sm /var/lib/docker/containers/{} | cut -f 1", id.trim()),
    );
    println!("after 1 GB of messages, docker keeps {} MB", size.trim());
    assert!(size.trim().parse::<u64>().unwrap() <= 110, "{size}");
    bed.shell(name, &format!("{docker} rm writer"));
}

/// One node after the other: it comes up by itself, and the cluster works again, as `works` sees it.
pub fn every_node_outlives_a_reboot(site: &Site, bed: &mut Bed, works: fn(&Site, &mut Bed)) {
    for name in site.nodes() {
        bed.say(&format!("{name} reboots"));
        bed.machine(name).reboot(|_| {}).unwrap();
        bed.wait_until_healthy();
        every_node_knows_its_peers(site, bed);
        pods_start_again(site, bed);
        works(site, bed);
    }
}

/// On any node.
pub fn a_second_run_changes_nothing(site: &Site, bed: &mut Bed) {
    for name in site.nodes() {
        let again = bed.machine(name).run(&[APPLIANCE, "install"]).unwrap();
        assert_eq!(again.code, 0, "{name}: {again:?}");
        assert!(
            again.stderr.contains("nothing to change"),
            "{name}: {again:?}"
        );
    }
}

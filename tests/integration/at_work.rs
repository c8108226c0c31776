//! What a cluster is for, on the tutorial's VMs: its checks, its last chapter's services, and
//! images that stay.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::e2e::{MASTER, nodes, thorough, workers};
use crate::vms::{APPLIANCE, Bed, VOLUME, address};

/// Where the services' manifests lie, below the project.
const EXAMPLE: &str = "bundle/examples/micro-services";
/// A manifest, what it comes after, and its images.
type Workload = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);
/// The tutorial's six services.
const ALL_WORKLOADS: [Workload; 4] = [
    ("message-service", &[], &["message-service"]),
    (
        "user-service",
        &["message-service"],
        &["user-service", "user-edge-service"],
    ),
    (
        "course-service",
        &["user-service"],
        &["course-service", "course-edge-service"],
    ),
    (
        "api-gateway",
        &["user-service", "course-service"],
        &["api-gateway-zuul"],
    ),
];
/// The first and the last of them, where the time is short.
const SOME_WORKLOADS: [Workload; 2] = [
    ("message-service", &[], &["message-service"]),
    ("api-gateway", &["message-service"], &["api-gateway-zuul"]),
];
/// Calico's kube-controllers and kube-dns.
const ADDONS: usize = 2;
/// The door to the services, at every node.
const NODE_PORT: u16 = 30080;

/// A directory with the services' images, and their manifests beside them.
pub fn services() -> PathBuf {
    let images = std::env::var_os("SERVICES").expect("SERVICES names it: run `make e2e`");
    let (images, manifests) = (PathBuf::from(images), project().join(EXAMPLE));
    for (name, ..) in workloads() {
        let file = format!("{name}.yaml");
        std::fs::copy(manifests.join(&file), images.join(&file)).unwrap();
    }
    images
}

fn workloads() -> &'static [Workload] {
    if thorough() {
        &ALL_WORKLOADS
    } else {
        &SOME_WORKLOADS
    }
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What the user-data of all says of them.
pub fn settings() -> String {
    let list = |words: &[&str], shape: &dyn Fn(&str) -> String| {
        let words: Vec<String> = words.iter().map(|word| shape(word)).collect();
        words.join(", ")
    };
    let workload = |(name, after, images): &Workload| {
        format!(
            "  - {{name: {name}, file: {VOLUME}/{name}.yaml, after: [{}], images: [{}]}}\n",
            list(after, &str::to_owned),
            list(images, &|image| format!("{VOLUME}/{image}.tar")),
        )
    };
    let workloads: String = workloads().iter().map(workload).collect();
    format!("  hub: hub.example.org\n  workloads:\n{workloads}")
}

/// Add-ons and workloads, each after what it needs.
pub fn everything_is_available(bed: &mut Bed) {
    let manifests = ADDONS + workloads().len();
    let available = format!("all {manifests} add-ons and workloads are available");
    bed.wait_at(MASTER, &available, |machine| {
        let said = machine.shell("journalctl -b --no-pager -o cat -u appliance-addons");
        said.is_ok_and(|said| said.contains(&available))
    });
    bed.say(&available);
    let said = bed.shell(
        MASTER,
        "journalctl -b --no-pager -o cat -u appliance-addons",
    );
    println!("{said}");
    let applied = |name: &str| said.find(&format!("applied {name} ")).unwrap();
    for (name, after, _) in workloads() {
        assert!(applied("kube-dns") < applied(name), "{name}");
        for before in *after {
            assert!(applied(before) < applied(name), "{before} before {name}");
        }
    }
    let report = bed.status(MASTER);
    let addons = report["addons"].as_array().unwrap();
    assert_eq!(addons.len(), manifests, "{report:#}");
    println!("{}", bed.shell(MASTER, &format!("{APPLIANCE} status")));
    println!(
        "{}",
        bed.shell(
            MASTER,
            "HOME=/root kubectl get pods --all-namespaces -o wide"
        )
    );
}

/// The tutorial's checks, from pods of their own, which are gone afterwards.
pub fn every_check_passes(bed: &mut Bed) {
    let table = bed.machine(MASTER).run(&[APPLIANCE, "check"]).unwrap();
    println!("{}{}", table.stdout, table.stderr);
    assert_eq!(table.code, 0, "{table:?}");
    assert!(table.stdout.contains(" 0 failed, 0 skipped"), "{table:?}");
    bed.wait_at(MASTER, "the probes are removed", |machine| {
        let namespaces = machine.shell("HOME=/root kubectl get namespaces -o name");
        namespaces.is_ok_and(|names| !names.contains("appliance-check"))
    });
}

/// As docs/checks.md has them, word for word: those that need no image of an operator's own.
pub fn the_commands_of_the_documentation_work(bed: &mut Bed) {
    let text = std::fs::read_to_string(project().join("docs/checks.md")).unwrap();
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
        let said = bed.shell(MASTER, &format!("export HOME=/root; {command}"));
        println!("# {command}\n{said}");
        assert!(!said.trim().is_empty(), "{command}");
    }
}

/// A session with each of the others, in `appliance status` as in `calicoctl node status`.
pub fn every_node_knows_its_peers(bed: &mut Bed) {
    let nodes = nodes();
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
        }
    }
}

/// At every worker's port, from the master.
pub fn the_services_are_reached_from_outside(bed: &mut Bed) {
    for name in workers() {
        let address = address(name);
        let ask = format!(
            "exec 3<>/dev/tcp/{address}/{NODE_PORT}; \
             printf 'GET / HTTP/1.0\\r\\nHost: {name}\\r\\n\\r\\n' >&3; timeout 30 cat <&3"
        );
        let answer = bed.machine(MASTER).run(&["bash", "-c", &ask]).unwrap();
        assert!(
            answer.stdout.contains("api-gateway-zuul"),
            "{name}: {answer:?}"
        );
    }
}

/// Nowhere could docker pull the pause image from again.
pub fn an_image_that_docker_lost_comes_back(bed: &mut Bed) {
    let image = "gcr.io/google_containers/pause-amd64:3.0";
    let name = workers()[0];
    bed.shell(name, &format!("docker rmi --force {image}"));
    bed.shell(name, "systemctl start appliance-images.service");
    bed.shell(name, &format!("docker image inspect {image}"));
}

//! A master and a worker get another bundle while a writer counts; a node whose new bundle is broken goes back.
//!
//! `make e2e-upgrade` runs it. APPLIANCE names the appliance to boot, COMPONENTS the directory of its components, NEWER
//! that of the components of the next version, if they are not made of these, KEEP a directory for disks, console logs and
//! captured packets.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use appliance::bundle::definition::Definition;
use appliance::bundle::repack::repack;
use appliance_vm::cluster::{FIVE, TUTORIAL};
use appliance_vm::machine::Clock;
use appliance_vm::{drive, genuine};
use serde_json::Value;

use crate::at_work;
use crate::clients::Client;
use crate::cuts::scenes::nothing;
use crate::site::THREE;
use crate::vms::{APPLIANCE, Bed, Flavor, VOLUME, address, appliance};
use crate::writers::Writer;

const MASTER: &str = "server02";
const WORKER: &str = "server03";
/// The version in the bundles that follow the one with which the VMs boot.
const NEWER: &str = "v1.9.11";
/// The administrator's kubeconfig on a master.
const ADMIN: &str = "/etc/kubernetes/admin.kubeconfig";

/// A backup of the cluster.
const BACKUP: &str = "umask 077; head -c 30 /dev/urandom | base64 >/root/passphrase; \
    appliance backup --file /root/before.backup --passphrase-file /root/passphrase";

/// A directory that the environment names.
fn named(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

/// The directory of the components of the bundles that follow, and their version of Kubernetes: of the programs in NEWER,
/// or of other builds of those that the VMs boot with.
fn components() -> (PathBuf, String) {
    if let Some(newer) = named("NEWER") {
        let version = Definition::read(&newer).unwrap().bundle.kubernetes;
        return (newer, version);
    }
    let own = named("COMPONENTS").expect("COMPONENTS names it: run `make e2e-upgrade`");
    (own, NEWER.to_owned())
}

/// The version of Kubernetes in the bundles that follow.
fn newer() -> String {
    components().1
}

/// An appliance of another version of Kubernetes than the one that boots: every program is another build. The program
/// `broken` does nothing.
fn another(directory: &Path, name: &str, broken: Option<&str>) {
    let (from, version) = components();
    let place = tempfile::tempdir_in(directory).unwrap();
    let own = from.join("bundle.toml");
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundle/demo/bundle.toml");
    let definition = if own.exists() { own } else { demo };
    let text = fs::read_to_string(definition).unwrap();
    let newer = format!("kubernetes = \"{version}\"");
    let text = text.replacen("kubernetes = \"v1.9.0\"", &newer, 1);
    assert!(text.contains(&newer), "{text}");
    fs::write(place.path().join("bundle.toml"), text).unwrap();
    let files = place.path().join("components");
    fs::create_dir(&files).unwrap();
    for entry in fs::read_dir(&from).unwrap() {
        let entry = entry.unwrap();
        let target = files.join(entry.file_name());
        if broken.is_some_and(|program| entry.file_name() == *program) {
            fs::write(target, nothing()).unwrap();
            continue;
        }
        fs::copy(entry.path(), &target).unwrap();
        // Behind the end of a program, nothing reads it.
        let is_the_same = named("NEWER").is_none();
        if is_the_same && fs::read(&target).unwrap().starts_with(b"\x7fELF") {
            let mut file = File::options().append(true).open(target).unwrap();
            file.write_all(name.as_bytes()).unwrap();
        }
    }
    let payload = place.path().join("payload");
    // The program keeps what it has compressed: genuine programs take minutes.
    let mut packing = Command::new(appliance());
    packing
        .args(["bundle", "pack", "--bundle"])
        .arg(place.path());
    packing.arg("--components").arg(&files);
    packing.arg("--file").arg(&payload);
    assert!(packing.status().unwrap().success());
    repack(&appliance(), &payload, &directory.join(name)).unwrap();
}

fn kubernetes(bed: &mut Bed, name: &str) -> String {
    let report: Value = bed.status(name);
    report["node"]["kubernetes"].as_str().unwrap().to_owned()
}

fn said(bed: &mut Bed, name: &str, command: &str) -> (i64, String) {
    let output = bed.machine(name).run(&["/bin/sh", "-c", command]).unwrap();
    (output.code, output.stdout + &output.stderr)
}

#[test]
#[ignore = "boots virtual machines; make e2e-upgrade runs it"]
fn nodes_get_another_bundle_and_one_whose_bundle_is_broken_goes_back() {
    let volume = tempfile::tempdir().unwrap();
    another(volume.path(), "newer", None);
    another(volume.path(), "broken", Some("kube-proxy"));
    let mut bed = booted(volume.path());
    let writer = Writer::start("upgrade", MASTER, &mut bed, ADMIN);
    writer.goes_on(&mut bed);

    let (code, text) = said(&mut bed, MASTER, &format!("{VOLUME}/newer upgrade --yes"));
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains("this master made no backup of the cluster"),
        "{text}"
    );
    bed.shell(MASTER, BACKUP);
    let shown = said(
        &mut bed,
        MASTER,
        &format!("{VOLUME}/newer upgrade --dry-run"),
    );
    println!("{}", shown.1);
    assert_eq!(shown.0, 7);
    for name in [MASTER, WORKER] {
        let before = bed.cluster.began().elapsed();
        let (code, text) = said(&mut bed, name, &format!("{VOLUME}/newer upgrade --yes"));
        assert_eq!(code, 0, "{name}: {text}");
        assert_eq!(kubernetes(&mut bed, name), newer());
        let took = bed.cluster.began().elapsed() - before;
        bed.say(&format!(
            "{name} has the newer bundle after {} s",
            took.as_secs()
        ));
        writer.goes_on(&mut bed);
    }

    let broken = format!("{VOLUME}/broken upgrade --yes --limit 1m");
    let (code, text) = said(&mut bed, WORKER, &broken);
    println!("{text}");
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("kube-proxy"), "{text}");
    assert!(text.contains("the node went back to"), "{text}");
    assert_eq!(kubernetes(&mut bed, WORKER), newer());
    let plan = said(&mut bed, WORKER, &format!("{APPLIANCE} plan"));
    assert_eq!(plan.0, 0, "{}", plan.1);

    let (code, text) = said(&mut bed, MASTER, &format!("{APPLIANCE} rollback --yes"));
    assert_eq!(code, 0, "{text}");
    assert_eq!(kubernetes(&mut bed, MASTER), "v1.9.0");
    let plan = said(&mut bed, MASTER, &format!("{APPLIANCE} plan"));
    assert_eq!(plan.0, 0, "{}", plan.1);
    writer.goes_on(&mut bed);

    nothing_is_lost(&mut bed, &writer);
}

/// A master and a worker of the appliance that boots, with the others beside it.
fn booted(volume: &Path) -> Bed {
    let flavor = Flavor {
        memory: drive::MEMORY,
        cpus: drive::CPUS,
        clock: Clock::OfTheWall,
        beside: Some(volume.to_owned()),
    };
    let mut bed = Bed::new(TUTORIAL.split_at(1).1, &flavor, |token| {
        let master = address(MASTER);
        format!("  master: {master}\n  join: {{token: {token}, ttl: 2h, uses: 1}}\n")
    });
    bed.switch_on(&[MASTER, WORKER]);
    bed.wait_for_bring_up();
    bed
}

/// Every write that was acknowledged is there.
fn nothing_is_lost(bed: &mut Bed, writer: &Writer) {
    let acknowledged = writer.stop(bed);
    let list = "HOME=/root kubectl get configmaps -l writer=upgrade -o json";
    let list: Value = serde_json::from_str(&bed.shell(MASTER, list)).unwrap();
    let number = |item: &Value| item["data"]["number"].as_str().unwrap().parse().unwrap();
    let found = list["items"].as_array().unwrap().iter();
    let found: Vec<u32> = found.map(number).collect();
    let lost = acknowledged
        .iter()
        .filter(|number| !found.contains(number))
        .count();
    bed.say(&format!(
        "writes acknowledged {}, lost {lost}",
        acknowledged.len()
    ));
    assert_eq!(lost, 0);
    println!("kept: {}", bed.keep.display());
}

/// Upgrades the cluster with this appliance from the master, which must end with that code. Returns what it said.
fn lead(bed: &mut Bed, name: &str, expected: i64) -> String {
    let before = bed.cluster.began().elapsed();
    let lead = format!("{VOLUME}/{name} upgrade --cluster --yes --limit 2m --drain-limit 2m");
    let (code, text) = said(bed, MASTER, &lead);
    assert_eq!(code, expected, "{name}: {text}");
    let took = bed.cluster.began().elapsed() - before;
    bed.say(&format!(
        "{name}: the command ended after {} s",
        took.as_secs()
    ));
    text
}

/// Upgrades the cluster: then both nodes have the same bundle, and the worker takes pods.
fn all_have(bed: &mut Bed, name: &str) {
    lead(bed, name, 0);
    let [master, worker] = [MASTER, WORKER].map(|node| {
        let report = bed.status(node);
        assert_eq!(report["node"]["kubernetes"], newer());
        report["node"]["digest"].clone()
    });
    assert_eq!(master, worker);
    is_told(bed, MASTER, "every node has it");
    takes_pods(bed);
}

/// Waits until the status of this node says these words, and the cluster is ready: pods may still be starting.
fn is_told(bed: &mut Bed, node: &str, words: &str) {
    let status = format!("{APPLIANCE} status");
    bed.wait_at(node, "the whole cluster is ready", |machine| {
        let said = machine.shell(&status);
        said.is_ok_and(|said| said.contains(words))
    });
}

fn takes_pods(bed: &mut Bed) {
    let nodes = bed.shell(MASTER, "HOME=/root kubectl get nodes");
    assert!(!nodes.contains("SchedulingDisabled"), "{nodes}");
}

#[test]
#[ignore = "boots virtual machines; make e2e-upgrade runs it"]
fn nodes_follow_their_master_and_a_broken_bundle_stops_at_the_first_of_them() {
    let volume = tempfile::tempdir().unwrap();
    for (name, broken) in [
        ("newer", None),
        ("broken", Some("kube-proxy")),
        ("repaired", None),
    ] {
        another(volume.path(), name, broken);
    }
    let mut bed = booted(volume.path());
    let writer = Writer::start("upgrade", MASTER, &mut bed, ADMIN);
    bed.shell(MASTER, BACKUP);
    all_have(&mut bed, "newer");
    writer.goes_on(&mut bed);

    // The master runs no kube-proxy. The worker goes back, and the rest works on.
    let text = lead(&mut bed, "broken", 1);
    assert!(
        text.contains("node server03 failed and went back"),
        "{text}"
    );
    assert!(text.contains("kube-proxy"), "{text}");
    bed.status(WORKER);
    let plan = said(&mut bed, WORKER, &format!("{APPLIANCE} plan"));
    assert_eq!(plan.0, 0, "{}", plan.1);
    is_told(&mut bed, MASTER, "failed: server03");
    takes_pods(&mut bed);
    writer.goes_on(&mut bed);

    all_have(&mut bed, "repaired");
    nothing_is_lost(&mut bed, &writer);
}

/// Begins to upgrade the cluster, and cuts the power of this master while it gets the bundle.
fn the_power_of_a_master_fails_in_its_upgrade(bed: &mut Bed, name: &str) {
    let lead = format!("{VOLUME}/newer upgrade --cluster --yes --limit 2m --drain-limit 2m");
    let start = format!(
        "systemd-run --unit=lead /bin/sh -c '{lead} >/var/tmp/lead 2>&1; echo ended with $? >>/var/tmp/lead'"
    );
    bed.shell(MASTER, &start);
    bed.wait_at(name, "its upgrade has begun", |machine| {
        machine
            .shell("test -e /var/lib/appliance/upgrade.json")
            .is_ok()
    });
    bed.cluster.power_off(name).unwrap();
    bed.say(&format!("the power of {name} failed"));
    bed.cluster.power_on_again(name).unwrap();
    bed.cluster.wait_for_agents().unwrap();
    bed.wait_at(MASTER, "the command ends", |machine| {
        machine.shell("grep -q '^ended with' /var/tmp/lead").is_ok()
    });
    let said = bed.shell(MASTER, "cat /var/tmp/lead");
    bed.say(&said);
    bed.wait_until_healthy();
}

/// Three masters and a worker. Every API server answers the writer of the first one until its own restart.
#[test]
#[ignore = "boots virtual machines; make e2e-upgrade runs it"]
fn masters_follow_one_after_the_other() {
    let volume = tempfile::tempdir().unwrap();
    another(volume.path(), "newer", None);
    let flavor = Flavor {
        memory: drive::MEMORY,
        cpus: drive::CPUS,
        clock: Clock::OfTheWall,
        beside: Some(volume.path().to_owned()),
    };
    let nodes = [MASTER, "server04", "server05", WORKER];
    let mut bed = Bed::new(&FIVE, &flavor, |token| {
        let entry = |name: &str| {
            let role = if name == WORKER { "worker" } else { "master" };
            format!(
                "  - {{name: {name}, role: {role}, address: {}}}\n",
                address(name)
            )
        };
        let inventory: String = nodes.iter().map(|name| entry(name)).collect();
        format!("  inventory:\n{inventory}  join: {{token: {token}, ttl: 2h, uses: 3}}")
    });
    bed.switch_on(&nodes);
    bed.wait_for_bring_up();
    let writer = Writer::start("upgrade", MASTER, &mut bed, ADMIN);
    bed.shell(MASTER, BACKUP);
    the_power_of_a_master_fails_in_its_upgrade(&mut bed, "server04");
    // It goes on where it stopped, or finds that all is done.
    lead(&mut bed, "newer", 0);
    let digests = nodes.map(|name| bed.status(name)["node"]["digest"].clone());
    assert!(
        digests.iter().all(|digest| *digest == digests[0]),
        "{digests:?}"
    );
    is_told(&mut bed, "server05", "every node has it");
    nothing_is_lost(&mut bed, &writer);
}

/// A service with two replicas, whose pods answer on for a while when they are told to end.
const SERVICE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: counted}
spec:
  selector: {app: counted}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: counted}
spec:
  replicas: 2
  selector: {matchLabels: {app: counted}}
  template:
    metadata: {labels: {app: counted}}
    spec:
      containers:
      - name: counted
        image: hub.example.org/micro-service/api-gateway-zuul:latest
        imagePullPolicy: IfNotPresent
        env: [{name: LINGER, value: "15"}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
"#;
/// Of its pods, one stays. The stand-ins know no budgets: all pods of a node end at once, also the last one.
const BUDGET: &str = r#"
---
apiVersion: policy/v1beta1
kind: PodDisruptionBudget
metadata: {name: counted}
spec:
  minAvailable: 1
  selector: {matchLabels: {app: counted}}
"#;

/// A client on each worker asks a service all the time. With genuine programs, no request is lost.
#[test]
#[ignore = "boots virtual machines; make e2e-upgrade runs it"]
fn a_service_with_two_replicas_answers_while_its_cluster_is_upgraded() {
    let volume = tempfile::tempdir().unwrap();
    another(volume.path(), "newer", None);
    let mut bed = THREE.bed_with(volume.path(), |token| {
        let master = address(MASTER);
        format!("  master: {master}\n  join: {{token: {token}, ttl: 2h, uses: 2}}\n")
    });
    bed.switch_on(&THREE.nodes());
    bed.wait_for_bring_up();
    at_work::everything_is_available(&THREE, &mut bed);
    let manifest = match genuine::is_genuine() {
        true => format!("{SERVICE}{BUDGET}"),
        false => SERVICE.to_owned(),
    };
    let kubectl = "HOME=/root kubectl";
    bed.shell(
        MASTER,
        &format!("{kubectl} apply -f - <<'END'\n{manifest}END\n"),
    );
    let ready =
        format!("{kubectl} get deployment counted -o jsonpath={{.status.availableReplicas}}");
    bed.wait_at(MASTER, "both replicas are available", |machine| {
        machine.shell(&ready).is_ok_and(|said| said.trim() == "2")
    });
    let service = format!("{kubectl} get service counted -o jsonpath={{.spec.clusterIP}}");
    let service = bed.shell(MASTER, &service).trim().to_owned();
    let clients = THREE.workers.iter();
    let clients: Vec<Client> = clients
        .map(|worker| Client::start(&mut bed, worker, &service, 80))
        .collect();
    let writer = Writer::start("upgrade", MASTER, &mut bed, ADMIN);
    bed.shell(MASTER, BACKUP);
    lead(&mut bed, "newer", 0);
    takes_pods(&mut bed);
    writer.goes_on(&mut bed);
    let mut all = (0, Vec::new());
    for (client, worker) in clients.iter().zip(THREE.workers) {
        let (answered, lost) = client.stop(&mut bed);
        bed.say(&format!(
            "{worker}: requests answered {answered}, lost {}: {lost:?}",
            lost.len()
        ));
        all.0 += answered;
        all.1.extend(lost);
    }
    bed.say(&format!(
        "requests answered {}, lost {}",
        all.0,
        all.1.len()
    ));
    assert!(all.0 > 0);
    if genuine::is_genuine() {
        assert_eq!(all.1, Vec::<String>::new());
    }
    nothing_is_lost(&mut bed, &writer);
}

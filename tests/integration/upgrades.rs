//! A master and a worker get another bundle while a writer counts; a node whose new bundle is broken goes back.
//!
//! `make e2e-upgrade` runs it. APPLIANCE names the appliance to boot, COMPONENTS the directory of its components, KEEP
//! a directory for disks, console logs and captured packets.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use appliance::bundle::definition::Definition;
use appliance::bundle::pack::{Places, pack};
use appliance::bundle::repack::repack;
use appliance::sys::progress::Silent;
use appliance_vm::cluster::{FIVE, TUTORIAL};
use appliance_vm::drive;
use appliance_vm::machine::Clock;
use serde_json::Value;

use crate::cuts::scenes::nothing;
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

/// The directory of the components of the appliance that boots.
fn components() -> PathBuf {
    let components = std::env::var_os("COMPONENTS");
    components
        .expect("COMPONENTS names it: run `make e2e-upgrade`")
        .into()
}

/// An appliance like the one that boots, but of another version of Kubernetes: every program is another build. One program
/// is as `broken` says.
fn another(directory: &Path, name: &str, broken: Option<&str>) {
    let from = components();
    let place = tempfile::tempdir_in(directory).unwrap();
    let own = from.join("bundle.toml");
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundle/demo/bundle.toml");
    let definition = if own.exists() { own } else { demo };
    let text = fs::read_to_string(definition).unwrap();
    let newer = format!("kubernetes = \"{NEWER}\"");
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
        if fs::read(&target).unwrap().starts_with(b"\x7fELF") {
            let mut file = File::options().append(true).open(target).unwrap();
            file.write_all(name.as_bytes()).unwrap();
        }
    }
    let places = Places {
        components: Some(&files),
        cache: None,
    };
    let payload = place.path().join("payload");
    let definition = Definition::read(place.path()).unwrap();
    pack(&definition, places, None, &payload, |_| Box::new(Silent)).unwrap();
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
        assert_eq!(kubernetes(&mut bed, name), NEWER);
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
    assert_eq!(kubernetes(&mut bed, WORKER), NEWER);
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
        assert_eq!(report["node"]["kubernetes"], NEWER);
        report["node"]["digest"].clone()
    });
    assert_eq!(master, worker);
    let status = bed.shell(MASTER, &format!("{APPLIANCE} status"));
    assert!(status.contains("every node has it"), "{status}");
    takes_pods(bed);
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
    let status = bed.shell(MASTER, &format!("{APPLIANCE} status"));
    assert!(status.contains("failed: server03"), "{status}");
    takes_pods(&mut bed);
    writer.goes_on(&mut bed);

    all_have(&mut bed, "repaired");
    nothing_is_lost(&mut bed, &writer);
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
    lead(&mut bed, "newer", 0);
    let digests = nodes.map(|name| bed.status(name)["node"]["digest"].clone());
    assert!(
        digests.iter().all(|digest| *digest == digests[0]),
        "{digests:?}"
    );
    let status = bed.shell("server05", &format!("{APPLIANCE} status"));
    assert!(status.contains("every node has it"), "{status}");
    nothing_is_lost(&mut bed, &writer);
}

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
use appliance_vm::cluster::TUTORIAL;
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
fn a_cluster_gets_another_bundle_and_a_node_whose_bundle_is_broken_goes_back() {
    let volume = tempfile::tempdir().unwrap();
    another(volume.path(), "newer", None);
    another(volume.path(), "broken", Some("kube-proxy"));
    let flavor = Flavor {
        memory: drive::MEMORY,
        cpus: drive::CPUS,
        clock: Clock::OfTheWall,
        beside: Some(volume.path().to_owned()),
    };
    let mut bed = Bed::new(TUTORIAL.split_at(1).1, &flavor, |token| {
        let master = address(MASTER);
        format!("  master: {master}\n  join: {{token: {token}, ttl: 2h, uses: 1}}\n")
    });
    bed.switch_on(&[MASTER, WORKER]);
    bed.wait_for_bring_up();
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

    let acknowledged = writer.stop(&mut bed);
    let list = "kubectl get configmaps -l writer=upgrade -o json";
    let list: Value =
        serde_json::from_str(&bed.shell(MASTER, &format!("HOME=/root {list}"))).unwrap();
    let number = |item: &Value| item["data"]["number"].as_str().unwrap().parse().unwrap();
    let found: Vec<u32> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(number)
        .collect();
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

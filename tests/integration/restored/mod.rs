//! A master is lost with its disk. A new machine at its address gets everything back from a backup, while the worker and
//! its pods go on.
//!
//! `make e2e-restore` runs it; APPLIANCE names the appliance to boot, KEEP a directory for disks, console logs and
//! captured packets.

use std::collections::BTreeSet;

use appliance_vm::cluster::unit_state;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::at_work;
use crate::clients::Client;
use crate::site::SMALL;
use crate::vms::{APPLIANCE, Bed, address};

mod elsewhere;

const KEY: &str = "/root/backup.key";
const BACKUP: &str = "/root/cluster.age";
/// The port of each node that leads to the service.
const NODE_PORT: u16 = 30080;
/// How much of a file one command writes, in bytes.
const PART: usize = 48 * 1024;
/// How many objects the writer makes before the backup.
const OBJECTS: u32 = 40;
/// Makes an object with this name and number; also the stand-in of kubectl can.
const MAKE: &str = "make() { printf 'apiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: %s, namespace: default}\\n\
    data: {number: \"%s\"}\\n' \"$1\" \"$2\" | HOME=/root kubectl create --validate=false -f - >/dev/null; }";
/// Makes numbered objects, and prints those that were acknowledged.
const WRITER: &str = "for n in $(seq 1 COUNT); do make written-$n $n && echo $n; done";
/// The containers of pods that run on a node, but those that the cluster starts anew by itself.
fn containers(bed: &mut Bed, name: &str) -> BTreeSet<String> {
    let list = "PATH=$PATH:/opt/appliance/current/docker docker ps --no-trunc --format '{{.ID}} {{.Names}}'";
    let all = bed.shell(name, list);
    let of_services = |line: &&str| line.contains("k8s_") && line.contains("_default_");
    all.lines().filter(of_services).map(str::to_owned).collect()
}

fn fetch(bed: &mut Bed, name: &str, path: &str) -> Vec<u8> {
    let size: usize = bed
        .shell(name, &format!("stat -c %s {path}"))
        .trim()
        .parse()
        .unwrap();
    let mut content = Vec::new();
    while content.len() < size {
        let part = content.len() / PART;
        let read = format!("dd if={path} bs={PART} skip={part} count=1 status=none | base64 -w0");
        content.extend(BASE64.decode(bed.shell(name, &read).trim()).unwrap());
    }
    content
}

fn bring(bed: &mut Bed, name: &str, path: &str, content: &[u8]) {
    bed.shell(name, &format!("umask 077; : >{path}"));
    for part in content.chunks(PART) {
        let part = BASE64.encode(part);
        bed.shell(name, &format!("base64 -d >>{path} <<'END'\n{part}\nEND\n"));
    }
}

fn written(bed: &mut Bed, master: &str) -> BTreeSet<u32> {
    let list = "export HOME=/root; kubectl get configmaps -o name";
    let said = bed.shell(master, list);
    let number = |line: &str| line.rsplit_once("/written-")?.1.parse().ok();
    said.lines().filter_map(number).collect()
}

/// Makes objects, and returns the numbers of those that were acknowledged.
fn write(bed: &mut Bed, master: &str) -> BTreeSet<u32> {
    let write = WRITER.replace("COUNT", &OBJECTS.to_string());
    let said = bed.shell(master, &format!("{MAKE}; {write}"));
    said.lines().map(|line| line.parse().unwrap()).collect()
}

/// Every acknowledged write exists, as this master says.
fn nothing_is_lost(bed: &mut Bed, master: &str, acknowledged: &BTreeSet<u32>) {
    let found = written(bed, master);
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    println!(
        "{master}: {} writes were acknowledged before the backup, {} of them are lost",
        acknowledged.len(),
        lost.len()
    );
    assert!(!acknowledged.is_empty() && lost.is_empty(), "{lost:?}");
}

/// The digest of the cluster's authority.
fn authority(bed: &mut Bed, master: &str) -> String {
    bed.shell(master, "sha256sum /etc/kubernetes/ca/ca.pem")
}

/// The backup, and the key that opens it, as they are kept on another machine.
fn back_up(master: &str, bed: &mut Bed) -> (Vec<u8>, Vec<u8>) {
    let recipient = bed.shell(master, &format!("{APPLIANCE} backup key --file {KEY}"));
    let make = format!(
        "{APPLIANCE} backup --recipient {} --file {BACKUP}",
        recipient.trim()
    );
    bed.shell(master, &make);
    let verify = format!("{APPLIANCE} backup verify {BACKUP} --identity {KEY}");
    println!("{}", bed.shell(master, &verify));
    let (key, backup) = (fetch(bed, master, KEY), fetch(bed, master, BACKUP));
    bed.say(&format!("the backup has {} bytes", backup.len()));
    (key, backup)
}

#[test]
#[ignore = "boots virtual machines; make e2e-restore runs it"]
fn a_lost_master_comes_back_from_a_backup_while_pods_go_on() {
    let site = &SMALL;
    let mut bed = site.bed(|token| {
        format!(
            "  master: {}\n  join: {{token: {token}, ttl: 2h, uses: 1}}\n",
            address(site.master)
        )
    });
    let (master, worker) = (site.master, site.workers[0]);
    bed.switch_on(&site.nodes());
    bed.wait_for_bring_up();
    at_work::everything_is_available(site, &mut bed);
    let before_the_loss = authority(&mut bed, master);
    let acknowledged = write(&mut bed, master);
    let client = Client::start(&mut bed, worker, &address(worker), NODE_PORT);
    let (key, backup) = back_up(master, &mut bed);
    bed.shell(master, &format!("{MAKE}; make later 0"));
    let before = containers(&mut bed, worker);
    assert!(!before.is_empty());

    bed.say("the master is lost");
    bed.cluster.power_off(master).unwrap();
    bed.switch_on(&[master]);
    bed.say("a new machine has its address, and makes a cluster of its own");
    bed.wait_at(master, "the new machine is up", |machine| {
        matches!(unit_state(machine).as_deref(), Some("active" | "failed"))
    });
    assert_ne!(authority(&mut bed, master), before_the_loss);
    bring(&mut bed, master, KEY, &key);
    bring(&mut bed, master, BACKUP, &backup);
    let restore = format!("{APPLIANCE} restore {BACKUP} --identity {KEY}");
    let refused = bed
        .machine(master)
        .run(&["/bin/sh", "-c", &format!("{restore} --yes")])
        .unwrap();
    assert_eq!(refused.code, 2, "{refused:?}");
    println!(
        "{}",
        bed.shell(master, &format!("{restore} --replace --dry-run"))
    );
    let restored = bed
        .machine(master)
        .run(&["/bin/sh", "-c", &format!("{restore} --replace --yes")])
        .unwrap();
    println!("{}{}", restored.stdout, restored.stderr);
    assert!(matches!(restored.code, 0 | 3), "{restored:?}");
    bed.say("the backup is restored");
    bed.wait_until_healthy();
    assert_eq!(authority(&mut bed, master), before_the_loss);
    the_worker_reconnects(&mut bed, master, worker);
    at_work::everything_is_available(site, &mut bed);

    nothing_is_lost(&mut bed, master, &acknowledged);
    assert!(
        bed.shell(master, "HOME=/root kubectl get configmap later 2>&1; true")
            .contains("NotFound")
    );
    assert_eq!(containers(&mut bed, worker), before);
    let (answered, lost) = client.stop(&mut bed);
    println!(
        "{answered} requests were answered while the master was away and restored, {} were not",
        lost.len()
    );
    assert_eq!(lost, Vec::<String>::new());
    at_work::pods_start_again(site, &mut bed);
    at_work::every_check_passes(site, &mut bed);
    println!("kept: {}", bed.keep.display());
}

/// The worker is ready again, and what changes in the cluster reaches it.
fn the_worker_reconnects(bed: &mut Bed, master: &str, worker: &str) {
    let ready = format!("HOME=/root kubectl get node {worker} --no-headers");
    bed.wait_at(master, "the worker is ready", |machine| {
        machine
            .shell(&ready)
            .is_ok_and(|said| said.contains(" Ready "))
    });
    let labelled = format!("HOME=/root kubectl label node {worker} restored=yes --overwrite");
    bed.shell(master, &labelled);
}

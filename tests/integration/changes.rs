//! What changes in the years of a cluster, by the runbooks of docs/operations.md as they stand there: a setting, a worker
//! that leaves and comes, masters that become three and one again.
//!
//! `make e2e-changes` runs it; APPLIANCE names the appliance to boot, KEEP a directory for disks, console logs and
//! captured packets.

use appliance_vm::cluster::{FIVE, unit_state};
use appliance_vm::drive::LABEL;

use crate::at_work;
use crate::runbooks::carry_out;
use crate::site::SMALL;
use crate::vms::{APPLIANCE, Bed, OF_FIVE, address};
use crate::writers::Writer;

/// Puts the appliance on a machine that is no node.
pub fn bring_appliance(bed: &mut Bed, name: &str) {
    let bring = format!(
        "mkdir -p /run/volume; mountpoint -q /run/volume || mount -o ro LABEL={LABEL} /run/volume; \
         install -m 0755 /run/volume/appliance /usr/local/bin/appliance; umount /run/volume"
    );
    bed.shell(name, &bring);
}

/// Waits until the boot of a machine without a usable role or token has ended without a node.
pub fn gives_up(bed: &mut Bed, name: &str) {
    bed.wait_at(name, "its boot has ended", |machine| {
        unit_state(machine).as_deref() == Some("failed")
    });
    bed.shell(name, "systemctl reset-failed appliance-install");
}

/// A new token of the master.
fn token(bed: &mut Bed, master: &str, uses: u32) -> String {
    let create = format!("{APPLIANCE} token create --ttl 2h --uses {uses}");
    bed.shell(master, &create).trim().to_owned()
}

fn nodes_are_ready(bed: &mut Bed, master: &str, count: usize) {
    let list = "HOME=/root kubectl get nodes";
    bed.wait_at(master, "every node is ready", |machine| {
        let nodes = machine.shell(list).unwrap_or_default();
        nodes.matches(" Ready ").count() == count && !nodes.contains("NotReady")
    });
}

#[test]
#[ignore = "boots virtual machines; make e2e-changes runs it"]
fn a_setting_changes_and_a_worker_leaves_and_comes() {
    let site = &SMALL;
    let (master, worker) = (site.master, site.workers[0]);
    let mut bed = site.bed(|token| {
        format!(
            "  master: {}\n  join: {{token: {token}, ttl: 2h, uses: 1}}\n",
            address(master)
        )
    });
    bed.switch_on(&site.nodes());
    bed.wait_for_bring_up();
    at_work::everything_is_available(site, &mut bed);
    let of_master = [("a master", &[master][..])];
    carry_out(&mut bed, "A setting is changed", &of_master, &[]);
    let level = "grep -c -- --v=4 /etc/systemd/system/kube-apiserver.service";
    assert_eq!(bed.shell(master, level).trim(), "1");
    bed.shell(master, &format!("{APPLIANCE} rollback --yes"));
    bed.wait_until_healthy();

    let places = [
        ("a master", &[master][..]),
        ("the worker", &[worker]),
        ("the new worker", &[worker]),
    ];
    let of = [("NAME", worker)];
    carry_out(&mut bed, "A worker is removed", &places, &of);
    let nodes = bed.shell(master, "HOME=/root kubectl get nodes");
    assert!(!nodes.contains(worker), "{nodes}");
    bring_appliance(&mut bed, worker);
    let (token, address) = (token(&mut bed, master, 1), address(master));
    let with = [("TOKEN", token.as_str()), ("MASTER", &address)];
    carry_out(&mut bed, "A worker is added", &places, &with);
    nodes_are_ready(&mut bed, master, 1);
    at_work::everything_is_available(site, &mut bed);
    at_work::every_check_passes(site, &mut bed);
    println!("kept: {}", bed.keep.display());
}

/// The present master, those that come and go, and the workers.
const MASTER: &str = "server02";
const OTHERS: [&str; 2] = ["server04", "server05"];
const WORKERS: [&str; 2] = ["server01", "server03"];

fn settings(token: &str) -> String {
    let role = |name: &&str, role| format!("  - {{hostName: {name}*, role: {role}}}\n");
    let rules: String = WORKERS.iter().map(|name| role(name, "worker")).collect();
    let rules = role(&MASTER, "master") + &rules;
    let master = address(MASTER);
    format!("  roleRules:\n{rules}  master: {master}\n  join: {{token: {token}, ttl: 8h, uses: 2}}")
}

#[test]
#[ignore = "boots five virtual machines; make e2e-changes runs it"]
fn one_master_becomes_three_and_one_again() {
    let mut bed = Bed::new(&FIVE, &OF_FIVE, settings);
    let cluster = [MASTER, WORKERS[0], WORKERS[1]];
    bed.switch_on(&cluster);
    bed.wait_for_bring_up();
    bed.wait_until_healthy();
    nodes_are_ready(&mut bed, MASTER, WORKERS.len());
    let writer = Writer::start(
        "three",
        MASTER,
        &mut bed,
        "/etc/kubernetes/admin.kubeconfig",
    );
    writer.goes_on(&mut bed);

    // They have no role: their boot ends with that.
    bed.switch_on(&OTHERS);
    for name in OTHERS {
        bring_appliance(&mut bed, name);
        gives_up(&mut bed, name);
    }
    let all = [MASTER, OTHERS[0], OTHERS[1]];
    let masters = all
        .map(|name| format!("{name}={}", address(name)))
        .join(",");
    let token = token(&mut bed, MASTER, 2);
    let with = [("MASTERS", masters.as_str()), ("TOKEN", &token)];
    let places = [
        ("a master", &[MASTER][..]),
        ("the present master", &[MASTER]),
        ("each new master", &OTHERS),
        ("each worker", &WORKERS),
    ];
    carry_out(&mut bed, "From one master to three", &places, &with);
    bed.wait_until_healthy();
    nodes_are_ready(&mut bed, MASTER, WORKERS.len());
    writer.goes_on(&mut bed);
    for worker in WORKERS {
        let kubeconfig = bed.shell(worker, "cat /etc/kubernetes/kubelet.kubeconfig");
        assert!(kubeconfig.contains("https://127.0.0.1:6440"), "{worker}");
    }

    let address = address(MASTER);
    let places = [
        ("a master", &[MASTER][..]),
        ("the master that stays", &[MASTER]),
        ("each master that goes", &OTHERS),
        ("each worker", &WORKERS),
    ];
    let token = self::token(&mut bed, MASTER, 2);
    let with = [("MASTER", address.as_str()), ("TOKEN", &token)];
    carry_out(&mut bed, "From three masters to one", &places, &with);
    bed.wait_until_healthy();
    nodes_are_ready(&mut bed, MASTER, WORKERS.len() + OTHERS.len());
    writer.goes_on(&mut bed);
    let acknowledged = writer.stop(&mut bed);
    let list = bed.shell(
        MASTER,
        "HOME=/root kubectl get configmaps -l writer=three -o name",
    );
    let found = list.lines().count();
    println!("{} acknowledged, {found} found", acknowledged.len());
    assert!(found >= acknowledged.len());
    println!("kept: {}", bed.keep.display());
}

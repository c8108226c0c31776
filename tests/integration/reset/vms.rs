//! Machines of a cluster that are reset one by one: a worker whose master answers, a worker that is cut off, the master,
//! and one of three masters.
//!
//! `make e2e-reset` runs it; APPLIANCE names the appliance to boot.

use appliance_vm::cluster::{FIVE, TUTORIAL};
use appliance_vm::drive::MEMORY;

use super::ground::{
    OF_NODE, OF_OPERATOR, as_before, install, pods_run, removed, reset, shops, switched_on,
};
use crate::vms::{APPLIANCE, Bed, ETCDCTL};

const MASTER: &str = "server02";
const WORKER: &str = "server01";
const OTHER: &str = "server03";
/// The names of all nodes that the cluster has.
const NODES: &str = "HOME=/root kubectl get nodes -o name";

#[test]
#[ignore = "boots three virtual machines; make e2e-reset runs it"]
fn a_reset_worker_has_left_its_cluster_and_comes_back() {
    let mut bed = switched_on(&TUTORIAL, MEMORY);
    install(&mut bed, &[MASTER], "");
    install(&mut bed, &[WORKER, OTHER], "");
    pods_run(&mut bed, MASTER, &[WORKER, OTHER]);

    reset(&mut bed, WORKER, OF_NODE, "--data --keys");
    let nodes = bed.shell(MASTER, NODES);
    assert!(!nodes.contains(WORKER) && nodes.contains(OTHER), "{nodes}");
    bed.wait_at(MASTER, "its pods run elsewhere", |machine| {
        let pods = shops(machine);
        pods.len() == 4 && pods.iter().all(|node| node == OTHER)
    });
    // Another machine could join with its name now. Its keys are gone, so it is another one.
    bed.shell(MASTER, &format!("{APPLIANCE} node release {WORKER}"));
    install(&mut bed, &[WORKER], "");

    a_worker_that_is_cut_off_tells_what_to_do(&mut bed);
    reset(&mut bed, MASTER, OF_NODE, "--data --keys");
    install(&mut bed, &[MASTER], "");
}

/// Without an API server, the machine is reset all the same. The operator does the rest on a master.
fn a_worker_that_is_cut_off_tells_what_to_do(bed: &mut Bed) {
    bed.cluster.cut(WORKER).unwrap();
    let said = removed(bed, WORKER, OF_OPERATOR, "--data --keys");
    bed.cluster.restore(WORKER).unwrap();
    bed.wait_at(WORKER, "it is connected again", |machine| {
        let route = machine.shell("ip route show 192.168.1.0/24");
        route.is_ok_and(|route| !route.contains("linkdown"))
    });
    as_before(bed, WORKER);
    for command in [
        format!("kubectl delete node {WORKER}"),
        format!("appliance node release {WORKER}"),
    ] {
        assert!(said.contains(&command), "{command}: {said}");
        bed.shell(MASTER, &format!("export HOME=/root; {command}"));
    }
    install(bed, &[WORKER], "");
    let nodes = bed.shell(MASTER, NODES);
    assert!(nodes.contains(WORKER), "{nodes}");
}

/// The members of etcd that have started, according to a master.
fn members(bed: &mut Bed, master: &str) -> usize {
    let list = bed.shell(master, &format!("{ETCDCTL} member list"));
    println!("{list}");
    list.matches("started").count()
}

#[test]
#[ignore = "boots three virtual machines; make e2e-reset runs it"]
fn one_of_three_masters_leaves_etcd_unless_that_breaks_it() {
    let [_, first, _, leaves, off] = FIVE;
    let [founder, leaving, lost] = ["server02", "server04", "server05"];
    let mut bed = switched_on(&[first, leaves, off], MEMORY);
    install(&mut bed, &[founder, leaving, lost], "");
    assert_eq!(members(&mut bed, founder), 3);

    bed.cluster.power_off(lost).unwrap();
    let command = [APPLIANCE, "reset", "--yes", "--data", "--keys"];
    let refused = bed.machine(leaving).run(&command).unwrap();
    println!("{}", refused.stderr);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.stderr.contains("Repair the other members first"),
        "{refused:?}"
    );
    assert_eq!(members(&mut bed, founder), 3);

    bed.cluster.power_on_again(lost).unwrap();
    bed.cluster.wait_for_agents().unwrap();
    bed.wait_until_healthy();
    reset(&mut bed, leaving, OF_NODE, "--data --keys");
    assert_eq!(members(&mut bed, founder), 2);
    install(&mut bed, &[leaving], "");
    assert_eq!(members(&mut bed, founder), 3);
    bed.wait_until_healthy();
}

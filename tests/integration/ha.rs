//! Three masters and two workers: one user-data, nobody logs in; then the test cuts off, kills,
//! replaces and loses masters, while writers count what the API acknowledges.
//!
//! `make e2e-ha` runs it; APPLIANCE names the appliance to boot, KEEP a directory for disks,
//! console logs and captured packets.

use std::collections::BTreeSet;

use appliance_vm::cluster::FIVE;
use appliance_vm::genuine;
use appliance_vm::machine::Machine;
use serde_json::Value;

use crate::rotations::{self, Nodes};
use crate::vms::{APPLIANCE, Bed, OF_FIVE, address};
use crate::writers::Writer;

/// The first master creates the cluster.
const MASTERS: [&str; 3] = ["server02", "server04", "server05"];
const WORKERS: [&str; 2] = ["server01", "server03"];
/// The administrator's kubeconfig on a master.
const ADMIN: &str = "/etc/kubernetes/admin.kubeconfig";
/// The user-data does not depend on the server.
fn settings(token: &str) -> String {
    let entry = |name: &&str, role| {
        format!(
            "  - {{name: {name}, role: {role}, address: {}}}\n",
            address(name)
        )
    };
    let masters = MASTERS.iter().map(|name| entry(name, "master"));
    let workers = WORKERS.iter().map(|name| entry(name, "worker"));
    let inventory: String = masters.chain(workers).collect();
    format!("  inventory:\n{inventory}  join: {{token: {token}, ttl: 8h, uses: 5}}")
}

/// A kubeconfig on `name` with which an administrator uses `server`.
fn kubeconfig(bed: &mut Bed, name: &str, server: &str) -> String {
    let text = bed.shell(MASTERS[1], &format!("cat {ADMIN}"));
    let change = |line: &str| match line.trim_start().starts_with("server:") {
        true => format!("    server: \"https://{server}\"\n"),
        false => format!("{line}\n"),
    };
    let text: String = text.lines().map(change).collect();
    let path = format!("/root/{}.kubeconfig", server.replace(':', "-"));
    bed.shell(
        name,
        &format!("umask 077; cat >{path} <<'END'\n{text}END\n"),
    );
    path
}

/// A writer on `at`, which writes to the API server `server`.
fn writer(name: &'static str, at: &'static str, bed: &mut Bed, server: &str) -> Writer {
    let kubeconfig = kubeconfig(bed, at, server);
    Writer::start(name, at, bed, &kubeconfig)
}

/// The objects of a writer in the API of one master, by their content.
fn found(bed: &mut Bed, master: &str, writer: &str) -> BTreeSet<u32> {
    let kubeconfig = kubeconfig(bed, master, &format!("{}:6443", address(master)));
    let list = bed.shell(
        master,
        &format!("kubectl --kubeconfig={kubeconfig} get configmaps -l writer={writer} -o json"),
    );
    let list: Value = serde_json::from_str(&list).unwrap();
    let number = |item: &Value| {
        let number = item["data"]["number"].as_str().unwrap();
        assert_eq!(item["metadata"]["name"], format!("{writer}-{number}"));
        number.parse().unwrap()
    };
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(number)
        .collect()
}

/// Every acknowledged write exists, as seen through every master that is on.
fn nothing_is_lost(bed: &mut Bed, writer: &str, acknowledged: &BTreeSet<u32>) {
    for master in bed.running() {
        if !MASTERS.contains(&master.as_str()) {
            continue;
        }
        let found = found(bed, &master, writer);
        let lost: Vec<&u32> = acknowledged.difference(&found).collect();
        bed.say(&format!(
            "{writer} through {master}: {} acknowledged, {} found, {} lost, {} found that were not \
             acknowledged",
            acknowledged.len(),
            found.len(),
            lost.len(),
            found.difference(acknowledged).count()
        ));
        assert!(lost.is_empty(), "{writer} through {master}: {lost:?}");
    }
}

/// The holder of a lease, according to the API at `at`.
fn leader(bed: &mut Bed, at: &str, lease: &str) -> String {
    let kubeconfig = kubeconfig(bed, at, &format!("{}:6443", address(at)));
    let object = bed.shell(
        at,
        &format!("kubectl --kubeconfig={kubeconfig} -n kube-system get endpoints {lease} -o json"),
    );
    let object: Value = serde_json::from_str(&object).unwrap();
    let note = &object["metadata"]["annotations"]["control-plane.alpha.kubernetes.io/leader"];
    let note: Value = serde_json::from_str(note.as_str().unwrap()).unwrap();
    note["holderIdentity"].as_str().unwrap().to_owned()
}

/// The master whose program holds the lease: each master runs one.
fn leading_master(bed: &mut Bed, at: &str, lease: &str) -> &'static str {
    let holder = leader(bed, at, lease);
    let leads = |master: &&&str| holder.starts_with(**master);
    let master = MASTERS.iter().find(leads);
    master.unwrap_or_else(|| panic!("{lease} is held by {holder}"))
}

fn members(bed: &mut Bed, at: &str) -> String {
    let own = address(at);
    bed.shell(
        at,
        &format!(
            "ETCDCTL_API=3 etcdctl --endpoints=https://{own}:2379 --cacert=/etc/kubernetes/ca/ca.pem \
             --cert=/etc/kubernetes/ca/etcd/etcd.pem --key=/etc/kubernetes/ca/etcd/etcd-key.pem \
             member list"
        ),
    )
}

/// The output of `appliance status` for people, and its exit code.
fn status(machine: &mut Machine) -> (i64, String) {
    match machine.run(&[APPLIANCE, "status"]) {
        Ok(output) => (output.code, format!("{}{}", output.stdout, output.stderr)),
        Err(error) => (-1, format!("{error:#}")),
    }
}

/// Waits until the status of `name` contains all `words`, then shows it.
fn status_says(bed: &mut Bed, name: &str, words: &[&str]) {
    let mut said = (0, String::new());
    bed.wait_at(name, &format!("its status says {words:?}"), |machine| {
        said = status(machine);
        words.iter().all(|word| said.1.contains(word))
    });
    bed.say(&format!("{name} says (exit code {}):", said.0));
    println!("{}", said.1);
    // Without a majority of etcd, no API server is healthy on this node either.
    assert!(
        matches!(said.0, 3 | 8),
        "the status is not that of a cluster with a problem"
    );
}

#[test]
#[ignore = "boots five virtual machines; make e2e-ha runs it"]
fn three_masters_bear_the_loss_of_one() {
    let mut bed = Bed::new(&FIVE, &OF_FIVE, settings);
    all_five_come_up(&mut bed);
    tokens_are_common(&mut bed);
    keys_are_replaced(&mut bed);
    one_master_is_cut_off_and_comes_back(&mut bed);
    one_master_is_lost_for_good_and_replaced(&mut bed);
    two_masters_are_lost_and_one_comes_back(&mut bed);
    println!("kept: {}", bed.keep.display());
}

/// Every master shows the same state of the token with which all nodes joined.
fn token_was_used(bed: &mut Bed, times: &str) {
    let id = bed.token.split('.').next().unwrap().to_owned();
    for master in MASTERS {
        let list = bed.shell(master, &format!("{APPLIANCE} token list"));
        let line = list.lines().find(|line| line.starts_with(&id));
        let line = line
            .unwrap_or_else(|| panic!("{master}: {list}"))
            .to_owned();
        bed.say(&format!("{master}: {line}"));
        assert!(line.contains(times), "{master}: {list}");
    }
}

/// A token that is made on one master is known on the others, and can be revoked there.
fn tokens_are_common(bed: &mut Bed) {
    token_was_used(bed, "4 of 5");
    let [_, maker, other] = MASTERS;
    let made = bed.shell(maker, &format!("{APPLIANCE} token create --ttl 1h"));
    let id = made.split('.').next().unwrap();
    bed.shell(other, &format!("{APPLIANCE} token revoke {id}"));
    let list = bed.shell(maker, &format!("{APPLIANCE} token list"));
    let line = list.lines().find(|line| line.starts_with(id));
    assert!(line.is_some_and(|line| line.contains("revoked")), "{list}");
    bed.say(&format!("a token of {maker} was revoked on {other}"));
}

/// Three rotations, each on all masters. During two of them the API is written to; the third one ends the writer's
/// own certificate.
fn keys_are_replaced(bed: &mut Bed) {
    let nodes = Nodes {
        masters: &MASTERS,
        workers: &WORKERS,
    };
    let writer = writer("rotated", WORKERS[0], bed, "127.0.0.1:6440");
    writer.goes_on(bed);
    if genuine::is_genuine() {
        rotations::the_key_of_secrets_is_replaced(bed, &nodes);
    }
    rotations::the_key_of_service_accounts_is_replaced(bed, &nodes);
    writer.goes_on(bed);
    let acknowledged = writer.stop(bed);
    rotations::the_authorities_are_replaced(bed, &nodes);
    nothing_is_lost(bed, writer.name, &acknowledged);
}

fn all_five_come_up(bed: &mut Bed) {
    // Fewer VMs at once boot sooner if they share two cores.
    for (what, names) in [("masters", &MASTERS[..]), ("workers", &WORKERS)] {
        for name in names {
            bed.cluster.power_on(name).unwrap();
        }
        bed.say(&format!("the {what} are switched on"));
        bed.cluster.wait_for_agents().unwrap();
        bed.say(&format!("the {what} can be asked"));
        bed.wait_until_healthy();
        bed.say(&format!("the {what} are healthy"));
    }
    for master in MASTERS {
        let list = members(bed, master);
        assert_eq!(list.matches("started").count(), 3, "{master}: {list}");
        println!("etcd's members according to {master}:\n{list}");
        let kubeconfig = kubeconfig(bed, master, &format!("{}:6443", address(master)));
        let health = format!("kubectl --kubeconfig={kubeconfig} get --raw /healthz");
        assert_eq!(bed.shell(master, &health).trim(), "ok", "{master}");
        for lease in ["kube-controller-manager", "kube-scheduler"] {
            let leads = leading_master(bed, master, lease);
            bed.say(&format!("{master}: {lease} of {leads} leads"));
        }
    }
    for name in bed.running() {
        println!("== {name}\n{}", status(bed.machine(&name)).1);
    }
    let nodes = bed.shell(MASTERS[0], "HOME=/root kubectl get nodes -o wide");
    println!("{nodes}");
    assert_eq!(nodes.matches(" Ready ").count(), WORKERS.len(), "{nodes}");
}

/// This master is the leader: the others must take over.
fn one_master_is_cut_off_and_comes_back(bed: &mut Bed) {
    let cut = leading_master(bed, MASTERS[0], "kube-controller-manager");
    let mut left = MASTERS.into_iter().filter(|master| *master != cut);
    let (other, third) = (left.next().unwrap(), left.next().unwrap());
    let by_master = writer("by-master", other, bed, &format!("{}:6443", address(other)));
    let by_worker = writer("by-worker", WORKERS[0], bed, "127.0.0.1:6440");
    let both = [&by_master, &by_worker];
    both.iter().for_each(|writer| writer.goes_on(bed));

    bed.cluster.cut(cut).unwrap();
    bed.say(&format!("{cut}, which leads, is cut off"));
    both.iter().for_each(|writer| writer.goes_on(bed));
    the_minority_acknowledges_nothing(bed, cut);
    let took_over = |bed: &mut Bed| leading_master(bed, third, "kube-controller-manager") != cut;
    while !took_over(bed) {
        both.iter().for_each(|writer| writer.goes_on(bed));
    }
    let leads = leading_master(bed, third, "kube-controller-manager");
    bed.say(&format!("kube-controller-manager of {leads} leads"));
    status_says(bed, other, &[cut, "not reached"]);

    bed.cluster.restore(cut).unwrap();
    bed.say(&format!("{cut} is connected again"));
    both.iter().for_each(|writer| writer.goes_on(bed));
    bed.wait_until_healthy();
    bed.say("every node is healthy");
    for writer in both {
        let acknowledged = writer.stop(bed);
        nothing_is_lost(bed, writer.name, &acknowledged);
    }
}

/// The master that is cut off still runs, but must not acknowledge any write.
fn the_minority_acknowledges_nothing(bed: &mut Bed, cut: &str) {
    let kubeconfig = kubeconfig_there(bed, cut);
    let write = format!(
        "printf 'apiVersion: v1\\nkind: ConfigMap\\nmetadata: {{name: alone}}\\n' | \
         timeout 60 kubectl --kubeconfig={kubeconfig} create --validate=false -f -"
    );
    let output = bed.machine(cut).run(&["/bin/sh", "-c", &write]).unwrap();
    assert_ne!(output.code, 0, "{cut}: {}", output.stdout);
    bed.say(&format!(
        "{cut} takes no write by itself: {}",
        output.stderr.lines().last().unwrap_or("no answer in 60 s")
    ));
}

fn kubeconfig_there(bed: &mut Bed, master: &str) -> String {
    kubeconfig(bed, master, &format!("{}:6443", address(master)))
}

/// The founder of the cluster is replaced by a machine with an empty disk.
fn one_master_is_lost_for_good_and_replaced(bed: &mut Bed) {
    let [lost, other, _] = MASTERS;
    let writer = writer("replaced", WORKERS[1], bed, "127.0.0.1:6440");
    writer.goes_on(bed);
    let before = members(bed, other);
    bed.cluster.power_off(lost).unwrap();
    bed.say(&format!("{lost} is switched off, and its disk is gone"));
    writer.goes_on(bed);
    status_says(bed, other, &[lost, "not reached", "replace"]);

    bed.cluster.power_on(lost).unwrap();
    bed.say(&format!("a new {lost} is switched on"));
    bed.cluster.wait_for_agents().unwrap();
    bed.wait_until_healthy();
    bed.say("every node is healthy");
    let after = members(bed, other);
    println!("etcd's members before:\n{before}and after:\n{after}");
    assert_eq!(after.matches("started").count(), 3, "{after}");
    assert_ne!(before, after, "the lost member is still there");
    token_was_used(bed, "5 of 5");
    writer.goes_on(bed);
    let acknowledged = writer.stop(bed);
    nothing_is_lost(bed, writer.name, &acknowledged);
    for earlier in ["by-master", "by-worker"] {
        let known = found(bed, other, earlier);
        nothing_is_lost(bed, earlier, &known);
    }
}

fn two_masters_are_lost_and_one_comes_back(bed: &mut Bed) {
    let [last, back, gone] = MASTERS;
    let known = found(bed, last, "replaced");
    for lost in [back, gone] {
        bed.cluster.power_off(lost).unwrap();
    }
    bed.say(&format!("{back} and {gone} are switched off"));
    for node in [last, WORKERS[0]] {
        status_says(bed, node, &["no quorum", back, gone]);
    }
    bed.cluster.power_on_again(back).unwrap();
    bed.say(&format!("{back} is switched on again, with its disk"));
    bed.cluster.wait_for_agents().unwrap();
    bed.wait_at(back, "its bring-up has ended", |machine| {
        let ended = machine.shell("systemctl is-active etcd kube-apiserver");
        ended.is_ok()
    });
    status_says(bed, last, &[gone, "not reached", "replace"]);
    let writer = writer("quorum", WORKERS[0], bed, "127.0.0.1:6440");
    writer.goes_on(bed);
    let acknowledged = writer.stop(bed);
    nothing_is_lost(bed, "quorum", &acknowledged);
    nothing_is_lost(bed, "replaced", &known);
}

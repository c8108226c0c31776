//! What an installed node is, it stays: changed settings and lost keys are refused before the first write.

use std::fs;
use std::process::Command;

use crate::harness::{Machine, said};

const ETCD_DATA: &str = "var/lib/etcd/member/snap/db";
const PKI: &str = "etc/kubernetes/ca";

/// A master whose etcd has run.
fn master() -> Machine {
    let machine = Machine::new();
    machine.installed(&[]);
    machine.put(ETCD_DATA, "the data of a cluster");
    machine
}

#[test]
fn changed_settings_make_no_other_node_of_an_installed_one() {
    let machine = master();
    for (changed, words) in [
        (
            &["--role", "worker", "--set", "master=192.168.1.110"][..],
            ["role master", "--role says worker"],
        ),
        (
            &["--set", "nodeName=other"],
            ["name server02", "says other"],
        ),
        (
            &["--set", "address=192.168.1.109"],
            ["address 192.168.1.102", "says 192.168.1.109"],
        ),
        (
            &["--set", "podCIDR=10.1.0.0/16"],
            ["podCIDR 172.20.0.0/16", "says 10.1.0.0/16"],
        ),
        (
            &["--set", "serviceCIDR=10.2.0.0/16"],
            ["serviceCIDR 10.68.0.0/16", "says 10.2.0.0/16"],
        ),
    ] {
        let refusal = machine.refusal(changed);
        for word in words.into_iter().chain(["correct it there"]) {
            assert!(refusal.contains(word), "{word}: {refusal}");
        }
        let forced = [changed, &["--change", "name", "--change", "address"]].concat();
        machine.refusal(&forced);
    }
    assert!(machine.installed(&[]).contains("nothing to change"));
}

/// `ipip: off` was the default of versions that kept no record. Their unit of calico-node tells it.
#[test]
fn a_cluster_of_an_older_version_keeps_its_way_between_pods() {
    const UNIT: &str = "etc/systemd/system/kube-calico.service";
    const RECORD: &str = "var/lib/appliance/cluster.json";
    let machine = master();
    let (always, off) = ("IPV4POOL_IPIP=always", "IPV4POOL_IPIP=off");
    let unit = machine.read(UNIT);
    assert!(unit.contains(always), "{unit}");
    fs::remove_file(machine.root().join(RECORD)).unwrap();
    machine.put(UNIT, &unit.replace(always, off));
    let told = machine.installed(&[]);
    assert!(told.contains("openstack port set"), "{told}");
    assert!(machine.read(UNIT).contains(off));
    assert!(machine.read(RECORD).contains("off"));
    machine.installed(&["--set", "ipip=always"]);
    assert!(machine.read(UNIT).contains(always));
    assert!(machine.installed(&[]).contains("nothing to change"));
}

/// A machine that the settings list as a master can get the keys of the cluster.
#[test]
fn more_masters_come_only_on_demand() {
    let machine = master();
    let masters = "masters=server02=192.168.1.102,evil=192.168.1.66,other=192.168.1.67";
    let refusal = machine.refusal(&["--set", masters]);
    for word in ["evil=192.168.1.66", "--change masters"] {
        assert!(refusal.contains(word), "{word}: {refusal}");
    }
    machine.installed(&["--set", masters, "--change", "masters"]);
    assert!(machine.refusal(&[]).contains("masters"));
}

#[test]
fn only_what_can_change_is_taken() {
    let machine = master();
    let refusal = machine.refusal(&["--change", "role"]);
    assert!(
        refusal.contains("name, address, masters, trust"),
        "{refusal}"
    );
}

#[test]
fn what_differs_is_told_by_detect() {
    let machine = master();
    let root = machine.root().display().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(["detect", "--root", &root, "--role", "master"])
        .args(["--set", "nodeName=other", "--set", "address=192.168.1.102"])
        .output()
        .unwrap();
    assert!(
        said(&output).contains("installed with name server02"),
        "{}",
        said(&output)
    );
}

#[test]
fn lost_keys_of_a_cluster_with_data_are_never_made_anew() {
    for lost in [
        &["ca.pem", "ca-key.pem", "etcd-ca", "etcd", "service-account"][..],
        &["ca.pem"],
        &["ca-key.pem"],
        &["etcd-ca/etcd-ca.pem"],
        &["etcd-ca/etcd-ca-key.pem"],
        &["service-account/service-account-key.pem"],
        &["kubernetes/encryption.yaml"],
        &["service-account"],
    ] {
        let machine = master();
        for path in lost {
            let path = machine.root().join(PKI).join(path);
            match path.is_dir() {
                true => fs::remove_dir_all(path).unwrap(),
                false => fs::remove_file(path).unwrap(),
            }
        }
        let refusal = machine.refusal(&[]);
        assert!(
            refusal.contains("Restore them from a backup"),
            "{lost:?}: {refusal}"
        );
        assert!(refusal.contains(lost[0]), "{lost:?}: {refusal}");
    }
}

#[test]
fn an_empty_key_is_a_lost_one() {
    let machine = master();
    machine.put("etc/kubernetes/ca/ca-key.pem", "");
    let refusal = machine.refusal(&[]);
    assert!(refusal.contains("Restore them from a backup"), "{refusal}");
}

#[test]
fn a_pair_of_service_accounts_that_does_not_fit_is_refused() {
    let machine = master();
    let strange = Machine::new();
    strange.installed(&[]);
    let public = "etc/kubernetes/ca/service-account/service-account.pub";
    machine.put(public, &strange.read(public));
    let refusal = machine.refusal(&[]);
    assert!(refusal.contains("do not belong together"), "{refusal}");
}

#[test]
fn without_data_a_machine_begins_anew() {
    let machine = Machine::new();
    machine.installed(&[]);
    fs::remove_dir_all(machine.root().join(PKI)).unwrap();
    machine.installed(&[]);
}

#[test]
fn a_master_of_an_older_version_gets_the_authority_of_etcd_on_demand() {
    let machine = master();
    let ca = machine.read("etc/kubernetes/ca/ca.pem");
    fs::remove_dir_all(machine.root().join(PKI).join("etcd-ca")).unwrap();
    assert!(machine.refusal(&[]).contains("Restore them from a backup"));
    // There, the cluster's CA signed etcd's certificate.
    machine.put(
        "etc/kubernetes/ca/etcd/etcd.pem",
        &machine.read("etc/kubernetes/ca/kubernetes/kubernetes.pem"),
    );
    let refusal = machine.refusal(&[]);
    assert!(
        refusal.contains("appliance install --change trust"),
        "{refusal}"
    );
    let changed = machine.installed(&["--change", "trust"]);
    assert!(changed.contains("etcd-ca"), "{changed}");
    assert_eq!(machine.read("etc/kubernetes/ca/ca.pem"), ca);
    assert!(machine.installed(&[]).contains("nothing to change"));
}

#[test]
fn a_node_that_lost_the_record_of_its_state_stays_that_node() {
    const STATE: &str = "var/lib/appliance/state.json";
    let machine = master();
    for lost in [STATE, "var/lib/appliance"] {
        let path = machine.root().join(lost);
        match path.is_dir() {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
        for (changed, word) in [
            (&["--set", "nodeName=other"][..], "name server02"),
            (&["--set", "address=192.168.1.109"], "address 192.168.1.102"),
            (&["--set", "podCIDR=10.1.0.0/16"], "podCIDR 172.20.0.0/16"),
            (
                &["--role", "worker", "--set", "master=192.168.1.110"],
                "role master",
            ),
        ] {
            let refusal = machine.refusal(changed);
            assert!(
                refusal.contains(&format!("installed with {word}")),
                "{lost}, {changed:?}: {refusal}"
            );
        }
        let again = machine.installed(&[]);
        assert!(
            again.contains("state.json is missing, but the units"),
            "{again}"
        );
        assert!(machine.root().join(STATE).exists());
    }
}

/// Its unit of calico-node has the length of the subnet's prefix, if the machine's network tells it.
#[test]
fn a_first_installation_that_was_cut_goes_on_in_a_subnet() {
    const UNIT: &str = "etc/systemd/system/kube-calico.service";
    let machine = master();
    fs::remove_file(machine.root().join("var/lib/appliance/state.json")).unwrap();
    let unit = machine.read(UNIT);
    let changed = unit.replace(" IP=192.168.1.102 ", " IP=192.168.1.102/24 ");
    assert_ne!(changed, unit);
    machine.put(UNIT, &changed);
    machine.installed(&[]);
}

/// A VM that moved to another subnet. etcd, which has to be told, runs only on the machine itself.
#[test]
fn a_master_gets_another_address_on_demand_with_everything_that_names_it() {
    let machine = Machine::new();
    machine.installed(&["--role", "single"]);
    let moved = ["--role", "single", "--set", "address=192.168.1.109"];
    let refusal = machine.refusal(&moved);
    assert!(refusal.contains("--change address"), "{refusal}");
    let authority = machine.read("etc/kubernetes/ca/ca.pem");
    let wanted = [&moved[..], &["--change", "address"]].concat();
    machine.put(ETCD_DATA, "the data of a cluster");
    let refusal = machine.refusal(&wanted);
    assert!(refusal.contains("only on the running machine"), "{refusal}");
    fs::remove_dir_all(machine.root().join("var/lib/etcd/member")).unwrap();
    let changed = machine.installed(&wanted);
    for name in ["etcd", "kubernetes", "kubelet", "calico-datastore"] {
        let path = format!("change /etc/kubernetes/ca/{name}/{name}.pem");
        assert!(changed.contains(&path), "{path}: {changed}");
    }
    assert_eq!(machine.read("etc/kubernetes/ca/ca.pem"), authority);
    for path in [
        "etc/systemd/system",
        "etc/kubernetes",
        "etc/hosts",
        "etc/calico",
    ] {
        let named = Command::new("grep")
            .args(["-rlF", "192.168.1.102", path])
            .current_dir(machine.root())
            .output()
            .unwrap();
        assert_eq!(said(&named), "", "{path}");
    }
    assert!(machine.installed(&moved).contains("nothing to change"));
}

#[test]
fn a_worker_that_lost_the_record_of_its_state_gets_another_name_on_demand() {
    let machine = Machine::new();
    let role = ["--role", "worker", "--set"];
    let worker = |more: &[&'static str]| {
        let own = ["profile=simple", "--set", "master=192.168.1.110"];
        [&role[..], &own, more].concat()
    };
    machine.installed(&worker(&[]));
    fs::remove_file(machine.root().join("var/lib/appliance/state.json")).unwrap();
    let refusal = machine.refusal(&worker(&["--set", "nodeName=other"]));
    assert!(refusal.contains("--change name"), "{refusal}");
    machine.installed(&worker(&["--set", "nodeName=other", "--change", "name"]));
}

/// A first installation that did not get to the end, because of a wrong name for example.
#[test]
fn a_master_without_data_may_get_another_name() {
    let machine = Machine::new();
    machine.installed(&[]);
    fs::remove_file(machine.root().join("var/lib/appliance/state.json")).unwrap();
    machine.installed(&["--set", "nodeName=other"]);
}

/// Puts a directory of `from` in the place of the same one of `to`.
fn put_in_place(from: &Machine, to: &Machine, directory: &str) {
    let place = to.root().join(directory);
    fs::remove_dir_all(&place).unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .args([from.root().join(directory), place])
        .status();
    assert!(copied.unwrap().success());
}

#[test]
fn the_authorities_of_another_cluster_are_refused_beside_the_data() {
    let (machine, other, backup) = (master(), Machine::new(), Machine::new());
    other.installed(&[]);
    backup.put("etc/kubernetes/ca/x", "");
    backup.put("etc/kubernetes/x", "");
    put_in_place(&machine, &backup, "etc/kubernetes");
    for (directory, word) in [
        (PKI, "ca.pem"),
        ("etc/kubernetes", "ca.pem"),
        ("etc/kubernetes/ca/etcd-ca", "etcd-ca.pem"),
    ] {
        put_in_place(&other, &machine, directory);
        let refusal = machine.refusal(&[]);
        for word in ["of another cluster than the data", word] {
            assert!(refusal.contains(word), "{directory}, {word}: {refusal}");
        }
        put_in_place(&backup, &machine, "etc/kubernetes");
        assert!(machine.installed(&[]).contains("nothing to change"));
    }
    // Without the data, they begin a cluster.
    put_in_place(&other, &machine, "etc/kubernetes");
    fs::remove_dir_all(machine.root().join("var/lib/etcd/member")).unwrap();
    machine.installed(&[]);
}

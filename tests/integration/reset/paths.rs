//! A reset knows every path that this program writes.

use std::fs;
use std::path::Path;

use appliance::apply::records::{mark_copy, note_started, note_taken, note_tokens};
use appliance::join::nodes::Nodes;
use appliance::join::tokens::Tokens;
use appliance::nodespec::token::Token;
use appliance::paths;
use appliance::pki::encryption::EncryptionKeys;
use appliance::records::nodes::NodeRecord;
use appliance::removal::ours;
use appliance::rotate::here::Here;
use appliance::rotate::masters::Alone;
use appliance::rotate::secrets::Node;
use appliance::rotate::{accounts, authority};
use appliance::sys::root::Root;
use time::OffsetDateTime;

use super::{Tree, differences, lived_in, tree, was_reset};
use crate::harness::Machine;
use crate::join::bed::record;
use crate::layout::paths::written;
use crate::rotate::prepared;
use crate::rotate_accounts::{BEGIN, NoTokens};
use crate::rotate_ca;

/// Paths that a reset leaves, or treats in its own way, each with the reason.
const OTHERS: &[(&str, &str)] = &[
    (paths::AUDIT_LOG, "a log"),
    (paths::CALICO_LOG_DIR, "logs"),
    (paths::KUBERNETES_LOG_DIR, "logs"),
    (paths::CONFD_DIR, "in a container"),
    (paths::CONFD_TEMPLATES, "in a container"),
    (paths::CONFD_CONFIG, "in a container"),
    (paths::DOCKER_SETTINGS, "goes if nobody changed it"),
    (
        paths::DOCKER_DIR,
        "docker's: it has the operator's containers",
    ),
    (paths::DOCKER_OF_MACHINE, "a package's"),
    (paths::DELIVER, "part of the server's user-data"),
    (paths::MANUALS, "part of a golden image"),
    (paths::CONFIG, "the operator's settings"),
    (paths::COPIES_DIR, "the last copies"),
    (
        paths::PATH_DIR,
        "others have programs there, and only our links go",
    ),
    (
        paths::UNITS_DIR,
        "others have units there, and only ours go",
    ),
    (paths::PROGRAM, "goes last"),
    (paths::HOSTS, "only our part goes"),
    (paths::ROOT_KUBECONFIG, "goes if it is our link"),
    (paths::SIGNER_SOCKET, "systemd removes it with its unit"),
    ("/etc", "the system's"),
    ("/etc/appliance", "the directory of the operator's settings"),
    ("/etc/modules-load.d", "the system's"),
    ("/etc/sysctl.d", "the system's"),
    ("/etc/sysusers.d", "the system's"),
    ("/root/.kube", "goes if it was not here before"),
    ("/usr/local/sbin", "the system's"),
];

fn is_in(path: &str, directories: &[&str]) -> bool {
    directories
        .iter()
        .any(|directory| Path::new(path).starts_with(directory))
}

#[test]
fn each_path_of_a_node_is_removed_or_stays_for_a_reason() {
    let all = written();
    assert!(all.len() > 80, "{all:?}");
    let trees = [
        ours::TREES,
        ours::DATA,
        ours::KEYS,
        // All that is in them is removed.
        &[paths::KUBELET_DIR, paths::BUNDLES],
        &paths::KUBECTL_CACHES,
    ]
    .concat();
    let single = [
        ours::FILES,
        ours::OF_PROGRAMS,
        ours::RECORDS,
        ours::DIRECTORIES,
        ours::SHARED_DIRECTORIES,
    ]
    .concat();
    let is_known = |path: &str| {
        is_in(path, &trees)
            || single.contains(&path)
            || OTHERS.iter().any(|(other, _)| *other == path)
    };
    let unknown: Vec<&String> = all.iter().filter(|path| !is_known(path)).collect();
    assert!(
        unknown.is_empty(),
        "add these paths to src/removal/ours.rs: {unknown:?}"
    );
}

/// Installs a node of this role and profile. `None` of its paths was there before.
fn installed(machine: &Machine, role: &str, profile: &str) {
    machine.put_metadata(&format!(r#"{{"role": "{role}", "profile": "{profile}"}}"#));
    let mut arguments = vec![];
    if role == "worker" {
        if profile == "with-ca" {
            crate::cis::issue(machine);
        }
        arguments.extend(["--set", "nodeName=server01"]);
        arguments.extend(["--set", "address=192.168.1.101"]);
        arguments.extend(["--set", "master=192.168.1.102"]);
    }
    machine.installed(&arguments);
}

/// What this program notes while the node works.
fn works(machine: &Machine) {
    let root = Root::open(&machine.root()).unwrap();
    note_started(&root, "kubelet", "digest").unwrap();
    note_taken(&root, "digest").unwrap();
    note_tokens(&root, "2026-01-02T03:04:05Z").unwrap();
    mark_copy(&root, true).unwrap();
    let join = root.resolve(paths::JOIN_DIR).unwrap();
    if !join.exists() {
        return;
    }
    let token = Token::generate().unwrap();
    Tokens::new(&join).add(token.id(), &record(&token)).unwrap();
    let node = NodeRecord {
        address: [192, 168, 1, 101].into(),
        key: "key".to_owned(),
        machine: None,
        token: "abcdef".parse().unwrap(),
        seen: OffsetDateTime::now_utc(),
    };
    Nodes::new(&join).note("server01", &node).unwrap();
}

/// What the programs of a node write. Most of it is named by flags of their units.
fn programs_work(machine: &Machine) {
    for path in [
        "etc/kubernetes/kubelet.kubeconfig",
        "usr/libexec/kubernetes/kubelet-plugins/volume/exec/.keep",
        "var/lib/appliance/addons.json",
        "var/lib/dockershim/sandbox/1",
        "var/lib/etcd/member/wal/0.wal",
        "var/lib/kube-proxy/a",
        "var/lib/kubelet/cpu_manager_state",
        "var/lib/kubelet/pki/kubelet-client.crt",
        "var/lib/kubelet/pods/a/volumes/b/data",
        "var/lib/systemd/timers/stamp-appliance-renew.timer",
        "var/log/containers/a.log",
        "var/log/pods/a/0.log",
        "var/run/calico/bird.ctl",
        "var/run/dockershim.sock",
    ] {
        machine.put(path, "");
    }
    // kubectl of the node, where it has an administrator.
    if machine.root().join("root/.kube/config").is_symlink() {
        machine.put("root/.kube/cache/discovery/a/servergroups.json", "");
        machine.put("root/.kube/http-cache/a", "");
    }
    let keep = "usr/libexec/kubernetes/kubelet-plugins/volume/exec/.keep";
    fs::remove_file(machine.root().join(keep)).unwrap();
}

/// Begins every rotation of a master that can be under way at the same time.
fn rotates(machine: &Machine, all: bool) {
    let master = prepared(machine, &[]);
    let here = Here::new(&master).unwrap();
    let keys = EncryptionKeys::read(&here.file().unwrap()).unwrap();
    assert!(here.take(&keys.with_new().unwrap().file()).unwrap());
    if all {
        let waiting = rotate_ca::Others::default();
        rotate_ca::set(&waiting.behind, &["server01"]);
        let report = rotate_ca::rotated(&master, &waiting, &rotate_ca::BEGIN).unwrap();
        assert_eq!(report.stage, authority::Stage::Both);
        return;
    }
    let tokens = NoTokens::default();
    *tokens.0.borrow_mut() = vec!["default/a".to_owned()];
    let here = accounts::here::Here(&master);
    let report = accounts::rotate(&here, &Alone::default(), &tokens, BEGIN).unwrap();
    assert_eq!(report.stage, accounts::Stage::Anew);
}

/// The directories that hold the programs' files above, on a machine that has them anyway.
fn machine() -> (Machine, Tree) {
    let machine = lived_in();
    for path in [
        "usr/libexec",
        "var/run",
        "var/lib/systemd/timers",
        "etc/kubernetes/ca",
        "root",
        "run",
    ] {
        fs::create_dir_all(machine.root().join(path)).unwrap();
    }
    let before = tree(&machine.root());
    (machine, before)
}

fn leaves_nothing(role: &str, profile: &str, has_record: bool) {
    let (machine, before) = machine();
    installed(&machine, role, profile);
    if role != "worker" && profile == "with-ca" {
        rotates(&machine, role == "single");
    }
    works(&machine);
    programs_work(&machine);
    if !has_record {
        fs::remove_file(machine.root().join("var/lib/appliance/brought.json")).unwrap();
    }
    was_reset(&machine, &["--data", "--keys"]);
    let after = tree(&machine.root());
    let mut left = differences(&before, &after);
    if !has_record {
        // It is not known who brought the program, and who made an empty directory.
        left.retain(|path| path != paths::PROGRAM);
        let is_directory =
            |tree: &Tree, path: &str| tree.get(path).is_some_and(|one| one.1.is_none());
        left.retain(|path| !is_directory(&before, path) && !is_directory(&after, path));
    }
    assert_eq!(left, Vec::<String>::new(), "{role} {profile} {has_record}");
}

#[test]
fn nothing_is_left_of_a_node_of_any_role() {
    for role in ["master", "worker", "single"] {
        for profile in ["with-ca", "simple"] {
            leaves_nothing(role, profile, true);
        }
    }
}

#[test]
fn nothing_but_the_program_is_left_of_a_node_without_a_record() {
    for role in ["master", "worker", "single"] {
        for profile in ["with-ca", "simple"] {
            leaves_nothing(role, profile, false);
        }
    }
}

#[test]
fn a_file_that_was_here_before_is_here_again() {
    const CNI: &str = "etc/cni/net.d/10-calico.conf";
    const MODULES: &str = "etc/modules-load.d/kubernetes.conf";
    let text = {
        let other = Machine::new();
        other.installed(&[]);
        other.read(MODULES)
    };
    let machine = lived_in();
    machine.put(CNI, "mine");
    // As the installation writes it.
    machine.put(MODULES, &text);
    let before = tree(&machine.root());
    machine.installed(&[]);
    assert!(machine.read(&format!("{CNI}.appliance-old")) == "mine");
    let told = was_reset(&machine, &["--data", "--keys"]);
    let back = format!("rename /{CNI}.appliance-old to /{CNI}");
    assert!(told.contains(&back), "{told}");
    let left = differences(&before, &tree(&machine.root()));
    assert_eq!(left, Vec::<String>::new());

    // What someone changed on the node is no file of the machine before.
    machine.installed(&[]);
    machine.put("etc/sysctl.d/k8s.conf", "net.ipv4.ip_forward = 1\n");
    machine.installed(&[]);
    let copy = "/etc/sysctl.d/k8s.conf.appliance-old".to_owned();
    let told = was_reset(&machine, &["--data", "--keys"]);
    assert!(
        told.contains(&format!("This stays: {copy} (a copy")),
        "{told}"
    );
    let left = differences(&before, &tree(&machine.root()));
    assert_eq!(left, [copy]);
}

//! The replacement of the authorities: on an installed master, at the door for nodes, and what pods keep.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use appliance::components::{
    AUTHORITY, ETCD_AUTHORITY, KUBELET_CLIENT, authority_of, certificate_names,
};
use appliance::install::Machine as Installed;
use appliance::join::followers::Followers;
use appliance::nodespec::{Refused, Role};
use appliance::paths;
use appliance::pki::inspect::{certificates, is_signed_by};
use appliance::rotate::authority::{Around, Cluster, Report, Stage, Wish, rotate, show};
use appliance::rotate::cluster::older;
use appliance::rotate::masters::Alone;
use appliance::rotate::members::Single;
use appliance::rotate::node::digest;
use appliance::sys::tls::Identity;
use serde_json::json;
use time::OffsetDateTime;

use crate::harness::Machine;
use crate::join::bed::{Bed, Node, authority, told};
use crate::outputs::validate;
use crate::rotate::prepared;

/// The nodes and pods of a cluster, as a test chooses.
#[derive(Default)]
pub struct Others {
    pub behind: RefCell<Vec<String>>,
    blind: RefCell<Vec<String>>,
    /// The digests for which the nodes were asked.
    asked: RefCell<Vec<String>>,
    stops: Cell<bool>,
}

impl Cluster for Others {
    fn behind(&self, digest: &str) -> Result<Vec<String>> {
        anyhow::ensure!(!self.stops.get(), "cut");
        self.asked.borrow_mut().push(digest.to_owned());
        Ok(self.behind.borrow().clone())
    }

    fn blind(&self, _pem: &str) -> Result<Vec<String>> {
        Ok(self.blind.borrow().clone())
    }
}

pub const BEGIN: Wish = Wish {
    begin: true,
    without_pods: false,
    given: None,
};
pub const GO_ON: Wish = Wish {
    begin: false,
    without_pods: false,
    given: None,
};

/// One run on the only master.
pub fn rotated(master: &Installed, cluster: &dyn Cluster, wish: &Wish) -> Result<Report> {
    let around = Around {
        cluster,
        masters: &Alone::default(),
        members: &Single,
    };
    rotate(master, around, wish)
}

pub fn set(list: &RefCell<Vec<String>>, items: &[&str]) {
    *list.borrow_mut() = items.iter().map(|&item| item.to_owned()).collect();
}

pub fn read(machine: &Machine, path: &str) -> String {
    machine.read(&path[1..])
}

/// The certificates of an authority, the issuing one first.
pub fn trusted(machine: &Machine, name: &str) -> Vec<String> {
    let pem = read(machine, &paths::certificate(name));
    certificates(&pem)
        .unwrap()
        .into_iter()
        .map(|(pem, _)| pem)
        .collect()
}

/// All certificates of a node of this role are of the first authority of the file, and its kubeconfigs have all of them.
fn is_settled(machine: &Machine, role: Role) {
    for name in certificate_names(role) {
        let (pem, above) = (
            paths::certificate(name),
            paths::certificate(authority_of(name)),
        );
        let (pem, above) = (read(machine, &pem), read(machine, &above));
        assert!(
            is_signed_by(pem.as_bytes(), above.as_bytes()).unwrap(),
            "{name}"
        );
    }
    let authorities = read(machine, paths::CA_CERTIFICATE);
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &authorities);
    for path in [
        paths::ADMIN_KUBECONFIG,
        paths::SCHEDULER_KUBECONFIG,
        paths::CALICO_KUBECONFIG,
    ] {
        assert!(read(machine, path).contains(&encoded), "{path}");
    }
}

/// The files below the directory of certificates, and their content.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.append(&mut files(&path)),
            false => drop(all.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
    all
}

pub fn ca_files(machine: &Machine) -> BTreeMap<PathBuf, Vec<u8>> {
    files(&machine.root().join(&paths::CA_DIR[1..]))
}

/// All files that depend on the authorities.
pub fn of_authorities(machine: &Machine) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = files(&machine.root().join(&paths::KUBERNETES_DIR[1..]));
    let unit = machine
        .root()
        .join("etc/systemd/system/kube-controller-manager.service");
    all.insert(unit.clone(), fs::read(unit).unwrap());
    all
}

pub fn installed() -> (Machine, Installed) {
    let machine = Machine::new();
    machine.installed(&[]);
    let prepared = prepared(&machine, &[]);
    (machine, prepared)
}

pub fn run(master: &Installed, others: &Others, wish: &Wish) -> Report {
    rotated(master, others, wish).unwrap()
}

#[test]
fn a_master_trusts_both_then_issues_anew_then_drops_the_old_one_and_waits_each_time() {
    let (machine, master) = installed();
    let others = Others::default();
    let before = ca_files(&machine);
    assert_eq!(run(&master, &others, &GO_ON).stage, Stage::None);
    let around = Around {
        cluster: &others,
        masters: &Alone::default(),
        members: &Single,
    };
    assert_eq!(show(&master, around).unwrap().stage, Stage::None);
    assert_eq!(ca_files(&machine), before);
    let old = [AUTHORITY, ETCD_AUTHORITY].map(|name| trusted(&machine, name).remove(0));
    let key = read(&machine, &paths::key(AUTHORITY));

    set(&others.behind, &["server01"]);
    let report = run(&master, &others, &BEGIN);
    validate("certs-rotate-ca", &report);
    assert_eq!(
        (report.stage, &report.behind[..]),
        (Stage::Both, &["server01".to_owned()][..])
    );
    for (name, old) in [AUTHORITY, ETCD_AUTHORITY].iter().zip(&old) {
        let both = trusted(&machine, name);
        assert_eq!((both.len(), &both[0]), (2, old));
    }
    assert_eq!(read(&machine, &paths::key(AUTHORITY)), key);
    // v1.9's controller manager takes one certificate.
    assert_eq!(
        certificates(&read(&machine, paths::ISSUER_CERTIFICATE)).unwrap()[0].0,
        old[0]
    );
    let unit = machine.read("etc/systemd/system/kube-controller-manager.service");
    assert!(
        unit.contains("--cluster-signing-cert-file=/etc/kubernetes/ca/ca-issuer.pem"),
        "{unit}"
    );
    is_settled(&machine, Role::Master);
    for name in [AUTHORITY, ETCD_AUTHORITY] {
        assert_eq!(
            machine.mode(&format!("etc/kubernetes/ca/rotation/{name}-key.pem")),
            0o600
        );
    }
    // The nodes are asked for what this master has now.
    assert_eq!(
        others.asked.borrow().last(),
        Some(&digest(&master.root).unwrap())
    );

    // The nodes followed, a pod did not.
    set(&others.behind, &[]);
    set(&others.blind, &["kube-system/kube-dns"]);
    let report = run(&master, &others, &GO_ON);
    assert_eq!((report.stage, report.pods.len()), (Stage::Both, 1));
    assert_eq!(read(&machine, &paths::key(AUTHORITY)), key);

    // The pod followed. In the next step, a node does not.
    set(&others.blind, &[]);
    let pending = Others::default();
    set(&pending.behind, &["server01"]);
    others.stops.set(true);
    let wish = Wish {
        without_pods: true,
        ..GO_ON
    };
    assert_eq!(
        rotated(&master, &others, &wish).unwrap_err().to_string(),
        "cut"
    );
    others.stops.set(false);
    let then = Then(&others, &pending, Cell::new(1));
    let report = rotated(&master, &then, &GO_ON).unwrap();
    assert_eq!((report.stage, report.behind.len()), (Stage::Anew, 1));
    for (name, old) in [AUTHORITY, ETCD_AUTHORITY].iter().zip(&old) {
        let both = trusted(&machine, name);
        assert_eq!((both.len(), &both[1]), (2, old));
    }
    assert_ne!(read(&machine, &paths::key(AUTHORITY)), key);
    is_settled(&machine, Role::Master);
    assert_eq!(run(&master, &pending, &GO_ON).stage, Stage::Anew);

    let report = run(&master, &others, &GO_ON);
    assert!(report.complete && report.stage == Stage::None, "{report:?}");
    for (name, old) in [AUTHORITY, ETCD_AUTHORITY].iter().zip(&old) {
        let new = trusted(&machine, name);
        assert!(new.len() == 1 && new[0] != *old, "{name}");
    }
    is_settled(&machine, Role::Master);
    assert!(files(&machine.root().join(&paths::ROTATION_DIR[1..])).is_empty());
    assert!(
        !machine
            .root()
            .join(&paths::ISSUER_CERTIFICATE[1..])
            .exists()
    );
    // Keys of certificates, service accounts and secrets stay.
    let after = ca_files(&machine);
    for (path, content) in &before {
        let name = path.file_name().unwrap().to_str().unwrap();
        let stays = name.ends_with("-key.pem") && !name.ends_with("ca-key.pem")
            || name == "encryption.yaml";
        assert!(!stays || after[path] == *content, "{name}");
    }
    // Nothing is left to do for an installation.
    let snapshot = machine.snapshot();
    machine.installed(&[]);
    assert_eq!(machine.snapshot(), snapshot);
}

/// The nodes of the first cluster as often as the number says, then those of the second one.
pub struct Then<'a>(pub &'a Others, pub &'a Others, pub Cell<usize>);

impl Cluster for Then<'_> {
    fn behind(&self, digest: &str) -> Result<Vec<String>> {
        match self.2.get() {
            0 => self.1.behind(digest),
            left => {
                self.2.set(left - 1);
                self.0.behind(digest)
            }
        }
    }

    fn blind(&self, pem: &str) -> Result<Vec<String>> {
        self.0.blind(pem)
    }
}

/// The files that a step of the rotation writes, in its order.
const OF_STEP: [&[&str]; 4] = [
    &[
        "rotation/ca-key.pem",
        "rotation/ca.pem",
        "rotation/etcd-ca-key.pem",
        "rotation/etcd-ca.pem",
    ],
    &["ca.pem", "etcd-ca/etcd-ca.pem"],
    &[
        "ca-key.pem",
        "ca.pem",
        "etcd-ca/etcd-ca-key.pem",
        "etcd-ca/etcd-ca.pem",
    ],
    &["ca.pem", "etcd-ca/etcd-ca.pem"],
];

#[test]
fn a_run_that_is_cut_between_two_files_is_continued_by_the_next_one() {
    for (step, paths) in OF_STEP.iter().enumerate() {
        for count in 1..=paths.len() {
            let (machine, master) = installed();
            let waiting = Others::default();
            set(&waiting.behind, &["server01"]);
            let followed = Others::default();
            let before = of_authorities(&machine);
            run(&master, &waiting, &BEGIN);
            let both = of_authorities(&machine);
            let (from, to) = match step {
                0 | 1 => (before, both),
                2 => {
                    rotated(&master, &Then(&followed, &waiting, Cell::new(1)), &GO_ON).unwrap();
                    (both, of_authorities(&machine))
                }
                _ => {
                    rotated(&master, &Then(&followed, &waiting, Cell::new(1)), &GO_ON).unwrap();
                    let anew = of_authorities(&machine);
                    // What the last step writes is the beginning of what is there.
                    let mut dropped = anew.clone();
                    let root = machine.root().join("etc/kubernetes/ca");
                    for path in *paths {
                        let pem = String::from_utf8(anew[&root.join(path)].clone()).unwrap();
                        let first = certificates(&pem).unwrap().remove(0).0.replace('\r', "");
                        dropped.insert(root.join(path), first.into_bytes());
                    }
                    (anew, dropped)
                }
            };
            let root = machine.root().join("etc/kubernetes/ca");
            for path in of_authorities(&machine).into_keys() {
                match from.get(&path) {
                    Some(content) => fs::write(&path, content).unwrap(),
                    None => fs::remove_file(&path).unwrap(),
                }
            }
            if step == 1 {
                OF_STEP[0]
                    .iter()
                    .for_each(|path| fs::write(root.join(path), &to[&root.join(path)]).unwrap());
            }
            for path in &paths[..count] {
                fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
                fs::write(root.join(path), &to[&root.join(path)]).unwrap();
            }
            let report = run(&master, &followed, &BEGIN);
            assert!(report.complete, "step {step}, {count} files: {report:?}");
            is_settled(&machine, Role::Master);
            assert_eq!(trusted(&machine, AUTHORITY).len(), 1);
            assert_eq!(trusted(&machine, ETCD_AUTHORITY).len(), 1);
        }
    }
}

#[test]
fn authorities_that_this_program_does_not_replace_are_refused_before_anything_is_written() {
    let machine = Machine::new();
    machine.installed(&[]);
    let before = ca_files(&machine);
    machine.put(
        "etc/appliance/mine.pem",
        &read(&machine, paths::CA_CERTIFICATE),
    );
    machine.put(
        "etc/appliance/mine-key.pem",
        &read(&machine, &paths::key(AUTHORITY)),
    );
    let own = "ca: {certificate: /etc/appliance/mine.pem, key: /etc/appliance/mine-key.pem}\n";
    for (config, setting, part) in [
        (own, &[][..], "certs rotate-ca --ca FILE --ca-key FILE"),
        ("", &["mtu=1400"], "run `appliance install` first"),
    ] {
        machine.put("etc/appliance/config.yaml", config);
        let master = prepared(&machine, setting);
        let error = rotated(&master, &Others::default(), &BEGIN).unwrap_err();
        assert!(
            error.is::<Refused>() && error.to_string().contains(part),
            "{error:#}"
        );
    }
    assert_eq!(ca_files(&machine), before);
}

#[test]
fn a_node_with_a_certificate_of_the_old_authority_learns_the_new_one_and_gets_its_certificates() {
    let now = OffsetDateTime::now_utc();
    let (old, new) = (authority(now - time::Duration::hours(1)), authority(now));
    let node = Node::new("server01");
    let first = Bed::with_authority(
        (old.0.clone(), old.1),
        appliance::join::nodes::Presence::Absent,
    );
    node.keep(&first.join(&node).unwrap());
    let record = first.nodes().all().unwrap().remove("server01").unwrap();

    // The master went on: the new authority issues, and both are trusted.
    let both = format!("{}{}", new.0, old.0);
    let bed = Bed::with_authority(
        (both.clone(), new.1),
        appliance::join::nodes::Presence::Absent,
    );
    bed.nodes().note("server01", &record).unwrap();
    let held = node.held(None);
    let own = held
        .iter()
        .find(|held| held.request.name == KUBELET_CLIENT)
        .unwrap();
    let certificate = pki_file(&node, &paths::certificate(KUBELET_CLIENT));
    let identity = Identity {
        certificate: &certificate,
        key: own.key_pem.expose(),
    };
    // A node that was left out cannot verify the master any longer.
    assert!(
        node.worker(bed.port, Some(&old.0))
            .trust(&identity, None)
            .is_err()
    );
    let middle = format!("{}{}", old.0, new.0);
    let worker = node.worker(bed.port, Some(&middle));
    assert_eq!(worker.trust(&identity, None).unwrap(), both);
    let followers = Followers::new(bed.path());
    assert!(followers.all().unwrap().is_empty());
    let renewed = node
        .worker(bed.port, Some(&both))
        .renew(&identity, &node.held(Some(&both)))
        .unwrap();
    assert!(
        renewed
            .certificates
            .iter()
            .all(|pem| is_signed_by(pem.as_bytes(), new.0.as_bytes()).unwrap())
    );
    worker.trust(&identity, Some("the digest")).unwrap();
    let taken = followers.all().unwrap().remove("server01").unwrap();
    assert_eq!((&*taken.digest, taken.key), ("the digest", record.key));

    // Neither does a stranger learn anything, nor a node under another name.
    let stranger = authority(now);
    let foreign = Bed::with_authority(
        (stranger.0.clone(), stranger.1),
        appliance::join::nodes::Presence::Absent,
    );
    let joined = foreign.join(&node).unwrap();
    let own = Identity {
        certificate: joined.certificates[0].as_bytes(),
        key: own.key_pem.expose(),
    };
    let (error, _) = told(worker.trust(&own, Some("x")).unwrap_err());
    assert!(!error.is_empty());
    // While both are trusted, a node that trusts the new one may join again. One that was left out does not take it from
    // whoever has the token.
    assert!(node.join(&bed.token, bed.port, Some(&middle)).is_ok());
    let (error, _) = told(node.join(&bed.token, bed.port, Some(&old.0)).unwrap_err());
    assert!(
        error.contains("not signed by the newest authority"),
        "{error}"
    );
    let (error, _) = told(
        node.join(&bed.token, bed.port, Some(&stranger.0))
            .unwrap_err(),
    );
    assert!(error.contains("another certificate authority"), "{error}");
}

#[test]
fn a_new_authority_is_newer_than_one_that_an_operator_made_a_moment_ago() {
    let (machine, master) = installed();
    let path = paths::certificate(AUTHORITY);
    let current = certificates(&read(&machine, &path)).unwrap();
    let made = appliance::enroll::next_authorities(&master.root, None, OffsetDateTime::now_utc());
    let next = certificates(&made.unwrap()[0].certificate_pem).unwrap();
    assert!(next[0].1.not_before > current[0].1.not_before);
}

fn pki_file(node: &Node, path: &str) -> Vec<u8> {
    appliance::pki::Existing::read(&node.files, path)
        .unwrap()
        .unwrap()
}

#[test]
fn pods_that_began_before_their_token_had_the_new_authority_are_found() {
    let since = OffsetDateTime::UNIX_EPOCH + time::Duration::days(365 * 50);
    let pod = |name: &str, created: &str, mount: &str, phase: &str| {
        json!({
            "metadata": { "namespace": "default", "name": name, "creationTimestamp": created },
            "spec": { "containers": [{ "volumeMounts": [{ "mountPath": mount }] }] },
            "status": { "phase": phase },
        })
    };
    const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let mut deleted = pod("deleted", "2018-01-01T00:00:00Z", TOKEN, "Running");
    deleted["metadata"]["deletionTimestamp"] = json!("2019-12-20T00:00:00Z");
    let list = json!({ "items": [
        deleted,
        pod("old", "2018-01-01T00:00:00Z", TOKEN, "Running"),
        pod("new", "2030-01-01T00:00:00Z", TOKEN, "Running"),
        pod("without-token", "2018-01-01T00:00:00Z", "/data", "Running"),
        pod("ended", "2018-01-01T00:00:00Z", TOKEN, "Succeeded"),
        pod("in-that-second", "2019-12-20T00:00:00Z", TOKEN, "Running"),
        pod("waits", "2018-01-01T00:00:00Z", TOKEN, "Pending"),
        pod("without-time", "", TOKEN, "Pending"),
    ]});
    assert_eq!(
        older(&list, since),
        ["default/old", "default/waits", "default/without-time"]
    );
}

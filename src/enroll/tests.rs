#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::Duration;

use super::{Context, Identity, Joining, due, has_to_join, resolve};
use crate::desired::Desired;
use crate::nodespec::settings::Settings;
use crate::nodespec::value::{Layer, Place};
use crate::nodespec::{HostFacts, Inputs, NodeSpec, Refused};
use crate::paths;
use crate::records::state::State;
use crate::sys::change::Change;
use crate::sys::root::Root;

const TOKEN: &str = "abcdef.a1b2c3d4e5f6g7h8i9j0k1l2m3n4";
const MASTERS: &str =
    "masters=server02=192.168.1.102,server04=192.168.1.104,server05=192.168.1.105";

/// A machine without a command: a directory, and the specification of its node.
struct Machine {
    _dir: tempfile::TempDir,
    root: Root,
    spec: NodeSpec,
}

impl Machine {
    fn new(role: &str, set: &[&str]) -> Machine {
        let dir = tempfile::tempdir().unwrap();
        Machine {
            root: Root::open(dir.path()).unwrap(),
            _dir: dir,
            spec: spec_of(vec![flags(role, set)]),
        }
    }

    fn context(&self) -> Context<'_> {
        Context {
            root: &self.root,
            spec: &self.spec,
        }
    }

    fn resolve(&self, joining: Joining) -> anyhow::Result<Identity> {
        resolve(&self.context(), joining)
    }

    /// Writes the keys and certificates to their paths on the node.
    fn keep(&self, identity: &Identity) {
        for file in Desired::of_pki(identity.pki.as_ref().unwrap()) {
            let bytes = file.content.bytes();
            self.root.write(&file.path, bytes, file.mode).unwrap();
        }
        let tokens = identity.tokens.as_ref().unwrap().expose();
        self.root.write(paths::TOKEN_FILE, tokens, 0o600).unwrap();
    }

    fn is_empty(&self) -> bool {
        let at = self.root.resolve("/").unwrap();
        fs::read_dir(at).unwrap().next().is_none()
    }

    fn refusal(&self, joining: Joining) -> String {
        let error = self.resolve(joining).err().unwrap();
        assert!(error.is::<Refused>(), "{error:#}");
        format!("{error:#}")
    }
}

fn flags(role: &str, set: &[&str]) -> Layer {
    let mut all = vec![format!("role={role}")];
    all.extend(set.iter().map(|&setting| setting.to_owned()));
    Layer::of_flags(&all, &[]).unwrap()
}

fn spec_of(layers: Vec<Layer>) -> NodeSpec {
    let inputs = Inputs {
        layers,
        host: HostFacts::default(),
        ..Inputs::default()
    };
    NodeSpec::resolve(&inputs).unwrap()
}

fn master(more: &[&str]) -> Machine {
    let own = ["nodeName=server02", "address=192.168.1.102"];
    Machine::new("master", &[&own[..], more].concat())
}

fn worker(more: &[&str]) -> Machine {
    let own = [
        "nodeName=server01",
        "address=192.168.1.101",
        "master=192.168.1.102",
    ];
    Machine::new("worker", &[&own[..], more].concat())
}

fn now() -> Joining {
    Joining::Now(Some(Duration::ZERO))
}

#[test]
fn a_master_makes_its_keys_once() {
    let machine = master(&[]);
    let made = machine.resolve(now()).unwrap();
    assert!(machine.is_empty(), "a master writes nothing by itself");
    machine.keep(&made);
    let found = machine.resolve(now()).unwrap();
    let (made, found) = (made.pki.unwrap(), found.pki.unwrap());
    assert_eq!(
        made.authority.certificate_pem,
        found.authority.certificate_pem
    );
    for issued in found.issued() {
        assert_eq!(issued.reason, None, "{}", issued.name);
    }
    assert!(made.issued().all(|issued| issued.reason.is_some()));
}

#[test]
fn without_certificates_there_is_nothing_to_enroll() {
    let machine = master(&["profile=simple"]);
    let identity = machine.resolve(now()).unwrap();
    assert!(identity.pki.is_none() && identity.tokens.is_none());
    assert!(!has_to_join(&machine.context()).unwrap());
}

#[test]
fn a_worker_that_only_looks_writes_nothing_and_asks_nobody() {
    let machine = worker(&[]);
    assert!(has_to_join(&machine.context()).unwrap());
    let identity = machine.resolve(Joining::Pretended).unwrap();
    let pki = identity.pki.unwrap();
    assert!(pki.authority.key_pem.is_none() && !pki.certificates.is_empty());
    assert!(machine.is_empty());
}

#[test]
fn without_a_token_nobody_joins_and_nothing_is_written() {
    for machine in [worker(&[]), master_that_joins()] {
        let refusal = machine.refusal(now());
        assert!(refusal.contains("appliance token create"), "{refusal}");
        assert!(machine.is_empty());
    }
}

/// One of several masters, which does not found the cluster.
fn master_that_joins() -> Machine {
    let own = ["nodeName=server04", "address=192.168.1.104", MASTERS];
    Machine::new("master", &own)
}

#[test]
fn etcd_data_of_another_cluster_is_refused_and_kept() {
    let machine = master_that_joins();
    assert!(has_to_join(&machine.context()).unwrap());
    let data = format!("{}/snap/db", paths::ETCD_MEMBER_DATA);
    machine.root.write(&data, b"data", 0o600).unwrap();
    let refusal = machine.refusal(now());
    assert!(refusal.contains(paths::ETCD_MEMBER_DATA), "{refusal}");
    assert_eq!(machine.root.read(&data).unwrap().unwrap(), b"data");
}

#[test]
fn the_token_of_the_settings_is_kept_without_its_secret() {
    let settings = format!("join: {{token: {TOKEN}}}");
    let settings = Settings::from_yaml("a test", &settings).unwrap();
    let mut machine = master(&[]);
    machine.spec = spec_of(vec![
        Layer::new(Place::Config("a test".to_owned()), settings),
        flags("master", &["nodeName=server02", "address=192.168.1.102"]),
    ]);
    let kept = machine.resolve(now()).unwrap().join_token.unwrap();
    assert_eq!(kept.id.to_string(), "abcdef");
    assert!(!format!("{:?}", kept.record).contains("a1b2c3"));
}

#[test]
fn a_certificate_that_is_missing_is_due() {
    let machine = master(&[]);
    machine.keep(&machine.resolve(now()).unwrap());
    let state = State {
        appliance: String::new(),
        bundle: String::new(),
        kubernetes: String::new(),
        digest: String::new(),
        demonstration: false,
        role: "master".to_owned(),
        profile: "with-ca".to_owned(),
        node: "server02".to_owned(),
        address: "192.168.1.102".to_owned(),
        masters: vec![],
        balancer_port: None,
    };
    assert_eq!(due(&machine.root, &state).unwrap(), Vec::<&str>::new());
    machine
        .root
        .remove_file(&paths::certificate("etcd"))
        .unwrap();
    assert_eq!(due(&machine.root, &state).unwrap(), ["etcd"]);
}

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
        pod_cidr: None,
        service_cidr: None,
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

mod by_hand {
    use std::path::Path;

    use super::super::by_hand;
    use super::{flags, fs, spec_of};
    use crate::nodespec::{NodeSpec, Refused};
    use crate::sys::lock::Patience;

    fn init(dir: &Path, common_name: &str) -> anyhow::Result<()> {
        by_hand::init(dir, common_name, Patience::None)
    }

    fn issue(ca: &Path, output: &Path, spec: &NodeSpec) -> anyhow::Result<()> {
        by_hand::issue(ca, output, spec, Patience::None)
    }

    fn worker() -> NodeSpec {
        let own = ["nodeName=a", "address=192.168.1.5", "master=192.168.1.102"];
        spec_of(vec![flags("worker", &own)])
    }

    fn refused(result: anyhow::Result<()>, part: &str) {
        let error = result.unwrap_err();
        assert!(error.is::<Refused>(), "{error:#}");
        assert!(format!("{error:#}").contains(part), "{error:#}");
    }

    fn ca(dir: &Path) -> String {
        fs::read_to_string(dir.join("etc/kubernetes/ca/ca.pem")).unwrap()
    }

    #[test]
    fn a_key_beside_the_certificates_of_a_ca_is_never_published() {
        let dir = tempfile::tempdir().unwrap();
        let (own, output) = (dir.path().join("ca"), dir.path().join("node"));
        init(&own, "kubernetes").unwrap();
        let [certificate, key] = ["ca.pem", "ca-key.pem"].map(|name| own.join(name));
        let both = [certificate.clone(), key].map(|path| fs::read_to_string(path).unwrap());
        fs::write(&certificate, both.concat()).unwrap();
        issue(&own, &output, &worker()).unwrap();
        assert_eq!(ca(&output), both[0]);
    }

    #[test]
    fn a_ca_that_is_not_there_is_never_made_up() {
        let dir = tempfile::tempdir().unwrap();
        let (own, linked) = (dir.path().join("ca"), dir.path().join("linked"));
        init(&own, "kubernetes").unwrap();
        fs::create_dir(&linked).unwrap();
        for name in ["ca.pem", "ca-key.pem"] {
            std::os::unix::fs::symlink(own.join(name), linked.join(name)).unwrap();
        }
        let output = dir.path().join("node");
        refused(issue(&linked, &output, &worker()), "ca.pem does not exist");
        fs::write(own.join("ca.pem"), "").unwrap();
        refused(issue(&own, &output, &worker()), "ca.pem does not exist");
        assert!(!output.exists());
    }

    #[test]
    fn a_cut_between_key_and_certificate_is_mended_with_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), "kubernetes").unwrap();
        let key = fs::read(dir.path().join("ca-key.pem")).unwrap();
        fs::remove_file(dir.path().join("ca.pem")).unwrap();
        init(dir.path(), "kubernetes").unwrap();
        assert_eq!(fs::read(dir.path().join("ca-key.pem")).unwrap(), key);
        refused(init(dir.path(), "kubernetes"), "already exists");
        refused(init(dir.path(), "a\nb"), "control characters");
    }

    #[test]
    fn an_empty_key_is_made_anew_and_a_mode_is_repaired() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (own, output) = (dir.path().join("ca"), dir.path().join("node"));
        init(&own, "kubernetes").unwrap();
        issue(&own, &output, &worker()).unwrap();
        let key = output.join("etc/kubernetes/ca/kubelet/kubelet-key.pem");
        let made = fs::read(&key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o666)).unwrap();
        issue(&own, &output, &worker()).unwrap();
        let mode = fs::metadata(&key).unwrap().permissions().mode();
        assert_eq!((mode & 0o777, fs::read(&key).unwrap()), (0o600, made));
        fs::write(&key, "").unwrap();
        issue(&own, &output, &worker()).unwrap();
        assert!(!fs::read(&key).unwrap().is_empty());
    }
}

#[test]
fn a_lost_key_of_service_accounts_is_not_replaced() {
    let machine = master(&[]);
    machine.keep(&machine.resolve(now()).unwrap());
    machine
        .root
        .remove_file(paths::SERVICE_ACCOUNT_PRIVATE)
        .unwrap();
    let refusal = machine.refusal(now());
    assert!(
        refusal.contains(paths::SERVICE_ACCOUNT_PRIVATE),
        "{refusal}"
    );
}

//! The files of a node: compared with golden files, and with the flags of the real programs.
//!
//! After an intended change, `APPLIANCE_BLESS=1 cargo test` writes the golden files again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use appliance::bundle::definition::Definition;
use appliance::bundle::manifest::{BundleInfo, Component, Kind, Manifest, Nodes};
use appliance::components::{self, Runs};
use appliance::desired::{Content, Desired, Sources};
use appliance::nodespec::settings::Settings;
use appliance::nodespec::value::{Layer, Place};
use appliance::nodespec::{HostFacts, Inputs, NodeSpec, Profile, Role, Shape};
use appliance::paths;
use appliance::pki::{self, Existing, PkiRequest};
use appliance::preflight::docker::daemon::CgroupDriver;

use crate::harness::PROGRAMS;

const DIGEST: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
/// The images of nodes that run pods.
const IMAGES_OF_WORKERS: [&str; 6] = [
    "pause",
    "calico-kube-controllers",
    "kube-dns",
    "dnsmasq-nanny",
    "dns-sidecar",
    "dashboard",
];
/// A kind of node: its role, and its profile or another difference of its cluster.
pub type Node = (&'static str, &'static str);
/// A cluster with three masters, which has certificates.
const THREE_MASTERS: &str = "three-masters";
/// Every kind of node.
pub const NODES: [Node; 8] = [
    ("master", "with-ca"),
    ("master", "simple"),
    ("worker", "with-ca"),
    ("worker", "simple"),
    ("single", "with-ca"),
    ("single", "simple"),
    ("master", THREE_MASTERS),
    ("worker", THREE_MASTERS),
];

struct Nothing;

impl Existing for Nothing {
    fn read(&self, _path: &str) -> anyhow::Result<Option<Vec<u8>>> {
        Ok(None)
    }
}

fn component(name: &str, kind: Kind) -> Component {
    let image = kind == Kind::Image;
    Component {
        name: name.to_owned(),
        kind,
        version: "1".to_owned(),
        path: if image {
            format!("images/{name}.tar")
        } else {
            format!("bin/{name}")
        },
        size: 1,
        sha256: DIGEST.parse().unwrap(),
        license: None,
        supplier: None,
        source: None,
        member: None,
        source_digest: None,
        reference: image.then(|| format!("quay.io/calico/{name}:v2.6.2")),
        image_id: image.then(|| format!("sha256:{DIGEST}")),
        arguments: vec![],
        on_path: name == "kubectl",
        nodes: Nodes::All,
    }
}

pub fn manifest() -> Manifest {
    let mut components: Vec<Component> = PROGRAMS
        .iter()
        .map(|name| component(name, Kind::Program))
        .collect();
    components.push(component("calico-node", Kind::Image));
    for name in IMAGES_OF_WORKERS {
        components.push(Component {
            nodes: Nodes::Workers,
            ..component(name, Kind::Image)
        });
    }
    Manifest {
        format: 1,
        bundle: BundleInfo {
            vulnerabilities: Vec::new(),
            name: "golden".to_owned(),
            kubernetes: "v1.9.0".to_owned(),
            description: "For golden files.".to_owned(),
            demonstration: false,
            settings: BTreeMap::new(),
        },
        components,
        packs: vec![],
        workloads: vec![],
    }
}

pub fn spec((role, profile): Node, settings: Settings) -> NodeSpec {
    let masters = "server02=192.168.1.102,server04=192.168.1.104,server05=192.168.1.105";
    let (profile, masters) = match profile {
        THREE_MASTERS => ("with-ca", Some(masters.to_owned())),
        _ => (profile, None),
    };
    let (name, address) = match role {
        "worker" => ("server01", "192.168.1.101"),
        _ => ("server02", "192.168.1.102"),
    };
    let settings = Settings {
        role: Some(role.to_owned()),
        profile: Some(profile.to_owned()),
        address: Some(address.to_owned()),
        master: Some("192.168.1.102".to_owned()),
        masters,
        ..settings
    };
    NodeSpec::resolve(&Inputs {
        layers: vec![Layer::new(Place::Flag, settings)],
        host: HostFacts {
            hostname: name.to_owned(),
            resolv_conf: Some("/etc/resolv.conf".to_owned()),
            ..HostFacts::default()
        },
        ..Inputs::default()
    })
    .unwrap()
}

/// The names of a node's certificates, whether the master makes them or the node requests them.
fn request(spec: &NodeSpec) -> Option<PkiRequest> {
    let own = components::pki_request(spec);
    own.or_else(|| {
        spec.tls().then(|| PkiRequest {
            authority: components::cluster_authority(),
            etcd: None,
            certificates: components::worker(&spec.name, *spec.address),
            service_account: components::service_account(),
        })
    })
}

pub fn desired(spec: &NodeSpec, manifest: &Manifest, bundled_docker: bool) -> Desired {
    let now = time::OffsetDateTime::now_utc();
    let mut pki = request(spec).map(|request| pki::resolve(&request, &Nothing, now).unwrap());
    if let Some(pki) = pki.as_mut().filter(|_| !spec.role.is_master()) {
        pki.authority.key_pem = None;
        pki.service_account = None;
    }
    let tokens = spec
        .tls()
        .then(|| pki::token::resolve_token_csv(None).unwrap());
    let encryption = spec
        .tls()
        .then(|| pki::encryption::resolve_encryption(None).unwrap());
    Desired::build(&Sources {
        spec,
        manifest,
        digest: DIGEST,
        pki: pki.as_ref(),
        tokens: tokens.as_ref(),
        encryption: encryption.as_ref(),
        join_token: None,
        bundled_docker,
        cgroup_driver: CgroupDriver::default(),
        limits_logs: true,
        workloads: &[],
        images: &[],
    })
    .unwrap()
}

/// The public files that are the same in every run, by path.
fn texts(desired: &Desired) -> BTreeMap<String, String> {
    let text = |content: &Content| match content {
        Content::Whole(bytes) => Some(String::from_utf8(bytes.clone()).unwrap()),
        Content::Block(text) => Some(text.clone()),
        Content::Secret(_) => None,
    };
    desired
        .files
        .iter()
        .filter(|file| !file.path.starts_with(paths::CA_DIR) && file.path != paths::AUTHORITIES)
        .filter_map(|file| Some((file.path.clone(), text(&file.content)?)))
        .collect()
}

pub fn units(desired: &Desired) -> BTreeMap<String, String> {
    let is_unit = |path: &str| path.starts_with("/etc/systemd/system/");
    texts(desired)
        .into_iter()
        .filter(|(path, _)| is_unit(path))
        .collect()
}

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

#[test]
fn rendered_files_equal_the_golden_ones() {
    for node in NODES {
        let dir = golden_dir().join(node.0).join(node.1);
        let texts = texts(&desired(
            &spec(node, Settings::default()),
            &manifest(),
            false,
        ));
        for (path, text) in &texts {
            let golden = dir.join(path.trim_start_matches('/'));
            if std::env::var_os("APPLIANCE_BLESS").is_some() {
                fs::create_dir_all(golden.parent().unwrap()).unwrap();
                fs::write(&golden, text).unwrap();
            }
            let expected = fs::read_to_string(&golden)
                .unwrap_or_else(|error| panic!("{}: {error}", golden.display()));
            assert_eq!(text, &expected, "{}", golden.display());
        }
        assert_eq!(
            count_files(&dir),
            texts.len(),
            "{} holds a file nothing renders",
            dir.display()
        );
    }
}

fn count_files(dir: &Path) -> usize {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { count_files(&path) } else { 1 })
        .sum()
}

/// The words of the unit's `ExecStart=`, continued lines joined.
fn command_line(unit: &str) -> Vec<String> {
    let joined = unit.replace("\\\n", " ");
    let line = joined
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_log_level_reaches_every_program_of_kubernetes_and_nothing_else() {
    let units_of = |level: Option<&str>| {
        let settings = Settings {
            log_level: level.map(str::to_owned),
            ..Settings::default()
        };
        units(&desired(&spec(NODES[4], settings), &manifest(), false))
    };
    let usual = units_of(None);
    let levels = |units: &BTreeMap<String, String>| -> Vec<String> {
        let lines = units.values().flat_map(|unit| unit.lines());
        let levels = lines.map(str::trim).filter(|line| line.starts_with("--v="));
        levels.map(str::to_owned).collect()
    };
    let of_programs = ["--v=1", "--v=2", "--v=2", "--v=2", "--v=2"];
    assert_eq!(levels(&usual), of_programs);
    for level in ["0", "10"] {
        let set = units_of(Some(level));
        assert_eq!(levels(&set), vec![format!("--v={level}"); 5]);
        let changed = usual.iter().filter(|(path, unit)| set[*path] != **unit);
        assert_eq!(changed.count(), 5);
    }
}

#[test]
fn every_flag_is_one_the_real_program_knows() {
    for node in NODES {
        let desired = desired(&spec(node, Settings::default()), &manifest(), false);
        for program in [
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
        ] {
            let Some(unit) = units(&desired).remove(&paths::unit(&format!("{program}.service")))
            else {
                continue;
            };
            let known = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(format!("tests/fixtures/flags-v1.9.0/{program}.txt"));
            let known = fs::read_to_string(known).unwrap();
            let words = command_line(&unit);
            assert!(words.len() > 3, "{program}: {words:?}");
            for word in &words[1..] {
                let flag = word.split('=').next().unwrap();
                assert!(
                    known.lines().any(|line| line == flag),
                    "{program} has no flag {flag}"
                );
            }
        }
    }
}

#[test]
fn arguments_of_the_bundle_reach_the_unit_as_one_word_each() {
    let mut manifest = manifest();
    manifest.components[0].arguments =
        vec!["--enable-v2=true".to_owned(), "--x=50% of $HOME".to_owned()];
    let desired = desired(&spec(NODES[0], Settings::default()), &manifest, false);
    let words = command_line(&units(&desired)["/etc/systemd/system/etcd.service"]);
    assert!(words.contains(&"--enable-v2=true".to_owned()), "{words:?}");
    assert!(
        words.contains(&"--x=50%%\\x20of\\x20$$HOME".to_owned()),
        "{words:?}"
    );
}

#[test]
fn no_secret_is_in_a_file_others_can_read() {
    let desired = desired(&spec(NODES[0], Settings::default()), &manifest(), false);
    for file in &desired.files {
        let secret = matches!(file.content, Content::Secret(_));
        assert_eq!(secret, file.mode == 0o600, "{}", file.path);
        if let Content::Whole(bytes) = &file.content {
            assert!(
                !String::from_utf8_lossy(bytes).contains("PRIVATE KEY"),
                "{}",
                file.path
            );
        }
    }
    assert!(!format!("{desired:?}").contains("PRIVATE KEY"));
}

#[test]
fn every_bundle_has_what_a_node_needs() {
    for bundle in ["demo", "v1.9", "v1.9.11"] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("bundle")
            .join(bundle);
        let definition = Definition::read(&dir).unwrap();
        let kind_of = |name: &str| {
            definition
                .components
                .iter()
                .find(|c| c.name == name)
                .map(|c| c.kind)
        };
        let shape = Shape {
            role: Role::Single,
            profile: Profile::WithCa,
            balanced: true,
        };
        for service in components::services(shape) {
            match service.runs {
                Runs::Program(name) => {
                    assert_eq!(kind_of(name), Some(Kind::Program), "{bundle}: {name}");
                }
                Runs::Image(name) => {
                    assert_eq!(kind_of(name), Some(Kind::Image), "{bundle}: {name}");
                }
                Runs::Docker | Runs::Appliance => {}
            }
        }
        for image in IMAGES_OF_WORKERS {
            assert_eq!(kind_of(image), Some(Kind::Image), "{bundle}: {image}");
        }
        for name in ["kubectl", "etcdctl", "calicoctl"] {
            let on_path = definition
                .components
                .iter()
                .any(|c| c.name == name && c.on_path);
            assert!(on_path, "{bundle}: {name} is not on the PATH");
        }
        assert_eq!(definition.bundle.demonstration, bundle == "demo");
    }
}

/// Interrupted runs leave temporary files beside the files that they write. The next run looks for them in
/// the directories that `paths` lists.
#[test]
fn every_directory_with_a_file_of_a_node_is_searched_for_leftovers() {
    for node in NODES {
        let desired = desired(&spec(node, Settings::default()), &manifest(), true);
        let files = desired.files.iter().map(|file| &file.path);
        for path in files.chain(desired.links.iter().map(|link| &link.path)) {
            let dir = Path::new(path).parent().unwrap();
            let is_listed = paths::WRITTEN.iter().any(|listed| Path::new(listed) == dir);
            let is_below = paths::WRITTEN_BELOW
                .iter()
                .any(|listed| dir.starts_with(listed));
            assert!(is_listed || is_below, "{path}");
        }
    }
}

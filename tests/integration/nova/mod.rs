//! Nova itself makes the metadata of generated servers: trees and images of config drives, and its own
//! handler of the metadata service. This program finds on each what Nova's model says, and cloud-init agrees
//! about the network.
//!
//! `APPLIANCE_INPUTS` is the number of servers, about.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use appliance::metadata::model::Metadata;
use appliance::metadata::{Source, directory};
use appliance::nodespec::{HostFacts, Inputs, NodeSpec, Role, user_data};
use appliance::sys::block::FileSystem;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cloud_init_reads::{ages, asked};
use crate::metadata::{fat_image, read_image};

use servers::Server;

mod servers;

/// The number of servers in `make test`, about.
const SERVERS: usize = 120;
/// Every so many servers there are an image and a served one.
const EVERY: usize = 12;

/// A Nova with these servers.
struct Nova {
    process: Child,
    dir: TempDir,
    /// What Nova's model says about each.
    said: Vec<Value>,
    /// The port of a metadata service that knows no server.
    nobody: u64,
}

impl Nova {
    fn with(servers: &[Server]) -> Nova {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let dir = tempfile::tempdir().unwrap();
        let mut process = Command::new(project.join("out/tools/bin/python"))
            .arg(project.join("tests/cloud/nova-makes.py"))
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`make tools` installs it");
        let questions = serde_json::to_string(servers).unwrap();
        writeln!(process.stdin.as_mut().unwrap(), "{questions}").unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let lines = lines.take(servers.len() + 1);
        let mut said: Vec<Value> = lines
            .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
            .collect();
        assert_eq!(
            said.len(),
            servers.len() + 1,
            "Nova's code failed; see above"
        );
        let nobody = said.pop().unwrap()["port"].as_u64().unwrap();
        Nova {
            process,
            dir,
            said,
            nobody,
        }
    }

    fn tree(&self, number: usize) -> PathBuf {
        self.dir.path().join(number.to_string())
    }
}

impl Drop for Nova {
    fn drop(&mut self) {
        // It ends with its standard input.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Generated servers; some have a drive, and some are served.
fn generated() -> Vec<Server> {
    let asked = std::env::var("APPLIANCE_INPUTS").ok();
    let number = asked.map_or(SERVERS, |asked| asked.parse::<usize>().unwrap() / 10);
    let mut runner = TestRunner::deterministic();
    let mut all: Vec<Server> = Vec::new();
    while all.len() < number {
        all.extend(servers::server().new_tree(&mut runner).unwrap().current());
    }
    for (index, server) in all.iter_mut().enumerate() {
        server.drive = index % EVERY == 0;
        server.served = index % EVERY < 2;
    }
    all
}

/// The node that this server becomes.
fn node(server: &Server, metadata: Metadata) -> Result<NodeSpec, String> {
    let layers = user_data::layers(&metadata).map_err(|error| format!("{error:#}"))?;
    NodeSpec::resolve(&Inputs {
        layers,
        metadata: vec![metadata],
        looked_at: Vec::new(),
        host: HostFacts {
            hostname: "localhost".to_owned(),
            interfaces: Some(server.interfaces()),
            resolv_conf: Some("/etc/resolv.conf".to_owned()),
            ..HostFacts::default()
        },
    })
    .map_err(|refused| format!("{refused}"))
}

/// Checks that the node is what Nova's model says.
fn check(server: &Server, said: &Value, metadata: Metadata) -> NodeSpec {
    assert_eq!(metadata.uuid, server.uuid);
    assert_eq!(metadata.name, said["name"].as_str().unwrap());
    assert_eq!(metadata.hostname, said["hostname"].as_str().unwrap());
    assert_eq!(metadata.meta, server.meta);
    let user_data = server.user_data.as_deref().map(str::as_bytes);
    assert_eq!(metadata.user_data.as_deref(), user_data);
    assert!(metadata.warnings.is_empty(), "{:?}", metadata.warnings);
    let node = node(server, metadata).unwrap_or_else(|why| panic!("{why}\n{server:?}\n{said}"));
    assert_eq!(*node.role, Role::Master, "{server:?}");
    assert_eq!(node.address.to_string(), server.address(), "{server:?}");
    assert_eq!(*node.mtu, server.mtu(), "{server:?}\n{said}");
    let (name, hostname) = (node.name.value.as_str(), said["hostname"].as_str().unwrap());
    let first = hostname.split('.').next().unwrap().to_lowercase();
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match first.len() <= 63 && first.chars().all(is_plain) && !first.starts_with('-') {
        true => assert_eq!(name, first),
        // A name that Kubernetes does not take is changed, and that is told.
        false => assert!(
            node.warnings.iter().any(|w| w.contains(name)),
            "{hostname}: {name}"
        ),
    }
    assert!(
        name.len() <= 63 && name.chars().all(is_plain) && !name.ends_with('-'),
        "{name}"
    );
    node
}

/// Whether cloud-init makes the same of the network: it gives the interface with the node's address this
/// address, or asks for one there.
fn agrees(server: &Server, node: &NodeSpec, config: &Value) -> bool {
    let port = &server.ports[0];
    let mac = server.bond.first().unwrap_or(&port.mac);
    let interfaces = config["config"].as_array().unwrap();
    // Members of a bond have no subnets.
    let mut own = interfaces.iter().filter(|interface| {
        interface["mac_address"] == **mac
            && interface["subnets"]
                .as_array()
                .is_some_and(|s| !s.is_empty())
    });
    let Some(own) = own.next() else {
        return false;
    };
    let mtu = own["mtu"].as_u64();
    let mut subnets = own["subnets"].as_array().unwrap().iter();
    let address = node.address.to_string();
    let is_own = subnets.any(|subnet| subnet["type"] == "dhcp4" || subnet["address"] == *address);
    is_own && mtu.is_none_or(|mtu| mtu == 0 || mtu == u64::from(*node.mtu))
}

#[test]
fn this_program_finds_what_nova_says() {
    let servers = generated();
    let nova = Nova::with(&servers);
    let trees: Vec<PathBuf> = (0..servers.len()).map(|number| nova.tree(number)).collect();
    let mut nodes = Vec::new();
    let mut names: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (number, server) in servers.iter().enumerate() {
        let metadata = directory::read_drive("drive", &trees[number]).unwrap();
        let node = check(server, &nova.said[number], metadata);
        // Several servers that were asked for at once have names of their own.
        let group = format!("{} {}", server.name, &server.uuid[8..]);
        *names.entry((group, node.name.value.clone())).or_default() += 1;
        nodes.push(node);
    }
    let twice: Vec<_> = names.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let questions = json!({"user_data": [], "vendor_data": [], "drives": trees});
    for python in ages() {
        let answers = asked(python, &questions);
        let mut agreed = 0;
        for (number, found) in answers["drives"].as_array().unwrap().iter().enumerate() {
            let server = &servers[number];
            assert_eq!(found["name"], nova.said[number]["name"]);
            assert_eq!(found["hostname"], nova.said[number]["hostname"]);
            // The operator chose a subport of a trunk, which Nova does not tell.
            let is_same = server.subport || agrees(server, &nodes[number], &found["network"]);
            assert!(is_same, "{server:?}\n{found}");
            agreed += 1;
        }
        writeln!(
            std::io::stderr(),
            "Nova: {} servers, {agreed} as its model says and as cloud-init {} reads them",
            servers.len(),
            answers["version"].as_str().unwrap()
        )
        .unwrap();
    }
    images_and_services(&servers, &nova);
}

/// The same from Nova's own images, and from its handler.
fn images_and_services(servers: &[Server], nova: &Nova) {
    let (mut images, mut services) = (0, 0);
    for (number, server) in servers.iter().enumerate() {
        let said = &nova.said[number];
        if server.drive {
            let image = nova.tree(number).with_extension("img");
            let fat = fat_image(&nova.tree(number));
            for (image, kind) in [
                (image.as_path(), FileSystem::Iso9660),
                (fat.path(), FileSystem::Vfat),
            ] {
                if let Some(metadata) = read_image(image, kind) {
                    check(server, said, metadata);
                    images += 1;
                }
            }
        }
        if let Some(port) = said["port"].as_u64() {
            check(server, said, served(port).unwrap());
            services += 1;
        }
    }
    let line = format!("Nova: {images} images, {services} servers of its metadata service\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    assert!(services > 0);
    let error = served(nova.nobody).unwrap_err();
    assert!(
        error.contains("404") && error.contains("does not know this server"),
        "{error}"
    );
}

/// The metadata of the service at this port.
fn served(port: u64) -> Result<Metadata, String> {
    let source: Source = format!("service=http://127.0.0.1:{port}").parse().unwrap();
    let found = appliance::metadata::find(&[source], Duration::from_secs(60));
    let found = found.map_err(|error| format!("{error:#}"))?;
    let why = found.asked[0].passed_over.clone().unwrap_or_default();
    found.metadata.into_iter().next().ok_or(why)
}

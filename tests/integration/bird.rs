//! The routes that a node takes from others, with BIRD of Debian, which knows all of the configuration but Calico's
//! tunnels. `confd` fills in the templates on a node; here, what they have in common is read.

use std::fs;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use appliance::nodespec::settings::Settings;
use appliance::paths;

use crate::harness::said;
use crate::rendered;

const NODE: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.3";
/// Another master; the way to it is the network of the nodes.
const MASTER: &str = "192.0.2.2";

/// A file of a master with these settings.
fn file(path: &str, settings: Settings) -> String {
    let spec = rendered::spec(("master", "with-ca"), settings);
    let desired = rendered::desired(&spec, &rendered::manifest(), false);
    let file = desired.file(path).unwrap();
    String::from_utf8(file.content.bytes().to_vec()).unwrap()
}

/// Two machines with a network between them, each with BIRD.
struct Machines {
    dir: tempfile::TempDir,
    namespaces: [String; 2],
    birds: Vec<Child>,
}

impl Drop for Machines {
    fn drop(&mut self) {
        for bird in &mut self.birds {
            let _ = bird.kill();
            let _ = bird.wait();
        }
        for namespace in &self.namespaces {
            let delete = ["netns", "delete", namespace];
            let _ = Command::new("ip").args(delete).status();
        }
    }
}

fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

impl Machines {
    fn new() -> Machines {
        static MACHINES: AtomicUsize = AtomicUsize::new(0);
        let number = MACHINES.fetch_add(1, Ordering::Relaxed);
        let name = |what: &str| format!("appliance-test-{what}-{}-{number}", process::id());
        let machines = Machines {
            dir: tempfile::tempdir().unwrap(),
            namespaces: [name("node"), name("other")],
            birds: Vec::new(),
        };
        let [node, other] = &machines.namespaces;
        for namespace in [node, other] {
            ip(&format!("netns add {namespace}"));
        }
        ip(&format!(
            "-n {node} link add eth0 type veth peer name eth0 netns {other}"
        ));
        for (namespace, address) in [(node, NODE), (other, OTHER)] {
            ip(&format!("-n {namespace} link set lo up"));
            ip(&format!("-n {namespace} address add {address}/24 dev eth0"));
            ip(&format!("-n {namespace} link set eth0 up"));
        }
        machines
    }

    /// Starts BIRD on a machine (0 or 1) with this configuration.
    fn start(&mut self, machine: usize, configuration: &str) {
        let path = self.dir.path().join(format!("{machine}.conf"));
        fs::write(&path, configuration).unwrap();
        let bird = Command::new("ip")
            .args(["netns", "exec", &self.namespaces[machine]])
            .args(["bird", "-f", "-c"])
            .arg(path)
            .arg("-s")
            .arg(self.dir.path().join(format!("{machine}.ctl")))
            .stderr(Stdio::null())
            .spawn();
        self.birds.push(bird.unwrap());
    }

    /// The routes of the first machine that BIRD put into the kernel, as soon as it has taken `route`.
    fn routes_with(&self, route: &str) -> Vec<String> {
        let mut routes = Vec::new();
        for _ in 0..600 {
            let listed = ip(&format!("-n {} route show proto bird", self.namespaces[0]));
            let first = |line: &str| line.replace("blackhole ", "");
            routes = listed.lines().map(first).collect();
            routes.sort();
            if routes.iter().any(|line| line.starts_with(route)) {
                return routes;
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("no {route} in {routes:?}; BIRD is in the Debian package bird");
    }
}

/// What an attacker announces, and last what a node may: BGP keeps no order, but one message holds all of them.
const ANNOUNCED: [&str; 13] = [
    "192.0.2.2/32",
    "192.0.2.1/32",
    "192.0.2.0/25",
    "10.68.0.1/32",
    "169.254.169.254/32",
    "0.0.0.0/1",
    "172.16.0.0/12",
    "172.20.0.0/16",
    "172.20.0.0/25",
    "10.30.0.0/16",
    "10.20.3.0/24",
    "172.20.7.9/32",
    "172.20.5.0/26",
];

/// BIRD on a node, with what the templates have in common: each peer and each block takes the filter `taken`.
fn node(dir: &std::path::Path, routes: &str) -> String {
    fs::write(dir.join("bird-routes.conf"), routes).unwrap();
    format!(
        "router id {NODE};\ninclude \"bird-routes.conf\";\nprotocol device {{ scan time 1; }}\nprotocol direct {{}}\n\
         protocol kernel {{ scan time 1; learn; persist; import all; export all; }}\n\
         protocol static {{ import filter taken; route 172.20.9.0/26 blackhole; route {MASTER}/32 blackhole; }}\n\
         protocol bgp Mesh_other {{ local {NODE} as 64512; neighbor {OTHER} as 64512; multihop; add paths on;\n\
         gateway recursive; import filter taken; export none; connect delay time 1; connect retry time 1;\n\
         error wait time 1, 1; }}\n"
    )
}

fn attacker() -> String {
    let routes: String = ANNOUNCED
        .iter()
        .map(|route| format!("route {route} blackhole; "))
        .collect();
    format!(
        "router id {OTHER};\nprotocol device {{}}\nprotocol static {{ {routes} }}\n\
         protocol bgp node {{ local {OTHER} as 64512; neighbor {NODE} as 64512; multihop; import none;\n\
         export where source = RTS_STATIC; next hop self; add paths on; connect delay time 1;\n\
         connect retry time 1; error wait time 1, 1; }}\n"
    )
}

/// The routes on a node with these settings, when another one announced them all.
fn taken(settings: Settings) -> Vec<String> {
    let mut machines = Machines::new();
    let configuration = node(machines.dir.path(), &file(paths::BIRD_ROUTES, settings));
    machines.start(0, &configuration);
    machines.start(1, &attacker());
    let routes = machines.routes_with("172.20.5.0/26");
    let prefix = |line: String| line.split(' ').next().unwrap_or_default().to_owned();
    routes.into_iter().map(prefix).collect()
}

#[test]
fn a_node_takes_routes_to_pods_and_to_no_machine() {
    assert_eq!(
        taken(Settings::default()),
        ["172.20.5.0/26", "172.20.7.9", "172.20.9.0/26"]
    );
}

#[test]
fn a_node_takes_routes_in_ranges_that_the_settings_name() {
    let settings = Settings {
        bgp_routes: Some("10.20.0.0/16, 10.40.0.0/16".to_owned()),
        ..Settings::default()
    };
    assert_eq!(
        taken(settings),
        [
            "10.20.3.0/24",
            "172.20.5.0/26",
            "172.20.7.9",
            "172.20.9.0/26"
        ]
    );
}

/// The blocks `protocol … { … }` and `template … { … }` of a template, with their first lines.
fn blocks(template: &str) -> Vec<(&str, Vec<&str>)> {
    let mut blocks: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in template.lines() {
        match blocks.last_mut() {
            _ if line.starts_with("protocol ") || line.starts_with("template ") => {
                blocks.push((line, Vec::new()));
            }
            Some((_, lines)) => lines.push(line.trim()),
            None => {}
        }
    }
    blocks
}

#[test]
fn every_peer_and_every_block_in_the_templates_has_the_filter() {
    let template = file(paths::BIRD_TEMPLATE, Settings::default());
    assert!(template.contains("include \"bird-routes.conf\";"));
    let mut peers = 0;
    for (first, lines) in blocks(&template) {
        let imports: Vec<&&str> = lines
            .iter()
            .filter(|line| line.starts_with("import"))
            .collect();
        if first.starts_with("template bgp peers ") {
            assert_eq!(imports, [&"import filter taken;"]);
        } else if first.starts_with("protocol bgp ") {
            assert!(
                first.ends_with(" from peers {") && imports.is_empty(),
                "{first}"
            );
            peers += 1;
        } else if first.starts_with("protocol kernel ") {
            assert_eq!(imports, [&"import all;"]);
        } else {
            assert!(
                ["protocol device {", "protocol direct {"].contains(&first),
                "{first}"
            );
        }
    }
    assert_eq!(peers, 3, "the mesh, peers of all nodes, peers of this node");
    let template = file(paths::BIRD_BLOCKS_TEMPLATE, Settings::default());
    let statics = blocks(&template);
    assert_eq!(statics[0].1[0], "import filter taken;", "{statics:?}");
    // What a pool in Calico's data names is not enough.
    let template = file(paths::BIRD_POOLS_TEMPLATE, Settings::default());
    let announced = template.split("filter to_peers\n{\n").nth(1).unwrap();
    assert!(announced.starts_with("  if ! is_taken() then reject;\n"));
    let template = file(paths::BIRD6_TEMPLATE, Settings::default());
    let only: Vec<&str> = blocks(&template).iter().map(|(first, _)| *first).collect();
    assert_eq!(only, ["protocol device {"]);
}

//! calico/node with real BIRD on nodes that are network namespaces, and calicoctl.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{command, eventually, said, start_etcd};
use crate::lab::{self, Lab, succeeds};
use crate::pki::Authority;

const MESH_OF_TWO: &str = "\
Calico process is running.

IPv4 BGP status
+--------------+-------------------+-------+-------+-------------+
| PEER ADDRESS |     PEER TYPE     | STATE | SINCE |    INFO     |
+--------------+-------------------+-------+-------+-------------+
| 10.99.0.2    | node-to-node mesh | up    | TIME  | Established |
| 10.99.0.3    | node-to-node mesh | up    | TIME  | Established |
+--------------+-------------------+-------+-------+-------------+

IPv6 BGP status
No IPv6 peers found.

";

/// The table without the time of day, whose width differs from that of its heading.
fn status(lab: &Lab, node: u8, endpoints: &str) -> String {
    let text = said(&lab.calicoctl(node, endpoints, "node status"));
    let mut lines = String::new();
    for line in text.lines() {
        let mut cells: Vec<String> = line.split('|').map(str::to_owned).collect();
        if cells.len() == 7 && cells[4].contains(':') {
            cells[4] = " TIME  ".into();
        } else if cells.len() == 7 {
            cells[4] = " SINCE ".into();
        }
        let line = cells.join("|");
        lines += &line.replace("-+----------+-", "-+-------+-");
        lines += "\n";
    }
    lines
}

fn routes(lab: &Lab, node: u8) -> String {
    succeeds(lab.on(node, "ip").args(["-4", "route"]))
}

/// The block of a node, from etcd.
fn block(lab: &Lab, endpoints: &str, node: u8) -> String {
    let name = lab.name(node);
    let path = format!("/v2/keys/calico/ipam/v2/host/{name}/ipv4/block");
    let place = endpoints.split(',').next().unwrap().to_owned() + &path;
    let answer = lab.fetch(1, place.trim_start_matches("http://")).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let blocks = answer["node"]["nodes"].as_array().unwrap();
    assert_eq!(blocks.len(), 1, "{answer}");
    let key = blocks[0]["key"].as_str().unwrap();
    key.rsplit('/').next().unwrap().replace('-', "/")
}

#[test]
fn nodes_peer_and_learn_each_others_blocks_from_bird() {
    if !lab::is_possible() {
        return;
    }
    let lab = Lab::new(3);
    let (_etcd, endpoints) = lab.etcd(1);
    assert_eq!(
        said(&lab.calicoctl(1, &endpoints, "node status")),
        "Calico process is not running.\n"
    );
    let mut nodes: Vec<_> = (1..=3)
        .map(|node| lab.calico_node(node, &endpoints, &[]))
        .collect();
    eventually("the table of established peers", || {
        status(&lab, 1, &endpoints) == MESH_OF_TWO
    });
    let blocks: Vec<String> = (1..=3).map(|n| block(&lab, &endpoints, n)).collect();
    assert!(
        blocks[0] != blocks[1] && blocks[1] != blocks[2] && blocks[0] != blocks[2],
        "{blocks:?}"
    );
    eventually("routes to the others' blocks", || {
        let routes = routes(&lab, 1);
        routes.contains(&format!("blackhole {} proto bird", blocks[0]))
            && (2..=3).all(|node| {
                let (block, address) = (&blocks[usize::from(node) - 1], lab.address(node));
                routes.contains(&format!("{block} via {address} dev eth0 proto bird"))
            })
    });

    assert!(nodes[0].stop(), "SIGTERM must end it with exit code 0");
    let left: Vec<String> = lab.processes();
    let birds = left.iter().filter(|id| {
        fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.trim() == "bird")
    });
    assert_eq!(birds.count(), 2, "BIRD must end with its node");
    assert_eq!(
        lab.calicoctl(1, &endpoints, "node status").status.code(),
        Some(1)
    );
    eventually("the route to a node that is gone goes", || {
        !routes(&lab, 2).contains(&blocks[0])
    });
}

#[test]
fn a_node_whose_bird_is_killed_gets_another_and_has_its_block_still() {
    if !lab::is_possible() {
        return;
    }
    let lab = Lab::new(1);
    let (_etcd, endpoints) = lab.etcd(1);
    let node = lab.calico_node(1, &endpoints, &[]);
    let mine = block(&lab, &endpoints, 1);
    let rules = |lab: &Lab| succeeds(&mut lab.on(1, "iptables-save"));
    let counted = |text: &str| text.lines().filter(|l| l.contains("cali-")).count();
    let before = counted(&rules(&lab));
    assert!(before > 4, "{}", rules(&lab));
    let bird = |lab: &Lab| {
        let named = |id: &String| {
            fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|n| n.trim() == "bird")
        };
        lab.processes().into_iter().find(named)
    };
    let first = bird(&lab).unwrap();
    succeeds(Command::new("kill").args(["-KILL", &first]));
    eventually("another BIRD", || {
        bird(&lab).is_some_and(|second| second != first)
    });
    lab.until_answers(1, "127.0.0.1:9099/readiness", "");
    // As Felix 2.6 does: a success without a body.
    for question in ["readiness", "liveness"] {
        assert_eq!(lab.status(1, &format!("127.0.0.1:9099/{question}")), "204");
    }
    drop(node);
    // Like `docker rm -f`, which kills both.
    succeeds(Command::new("kill").args(["-KILL", &bird(&lab).unwrap()]));
    let _node = lab.calico_node(1, &endpoints, &[]);
    assert_eq!(block(&lab, &endpoints, 1), mine);
    assert_eq!(counted(&rules(&lab)), before, "{}", rules(&lab));
}

#[test]
fn the_mesh_can_be_switched_off_and_a_global_peer_set() {
    if !lab::is_possible() {
        return;
    }
    let lab = Lab::new(3);
    let (_etcd, endpoints) = lab.etcd(1);
    let _nodes: Vec<_> = (1..=3)
        .map(|node| lab.calico_node(node, &endpoints, &[]))
        .collect();
    let calicoctl = |words: &str| said(&lab.calicoctl(1, &endpoints, words));
    assert_eq!(calicoctl("config get nodeToNodeMesh"), "on\n");
    assert_eq!(calicoctl("config set nodeToNodeMesh off"), "");
    assert_eq!(calicoctl("config get nodeToNodeMesh"), "off\n");
    eventually("no peers", || {
        status(&lab, 1, &endpoints).contains("No IPv4 peers found.")
    });
    let url = endpoints.clone() + "/v2/keys/calico/bgp/v1/global/peer_v4/10.99.0.3";
    let value = r#"value={"ip":"10.99.0.3","as_num":"64512"}"#;
    let mut put = lab.on(1, "curl");
    succeeds(put.args(["-sf", "-X", "PUT", &url, "--data-urlencode", value]));
    eventually("a session with the global peer", || {
        let line = "| 10.99.0.3    | global    | up    | TIME  | Established |";
        // The third node does not peer with the others: only they send requests to it.
        let table = status(&lab, 1, &endpoints);
        table.contains(line) || table.contains("| 10.99.0.3    | global    | start |")
    });
    let peers = calicoctl("get bgpPeer");
    assert_eq!(
        peers,
        "SCOPE    PEERIP      NODE   ASN     \nglobal   10.99.0.3          64512   \n\n"
    );
    let peers: Value = serde_json::from_str(&calicoctl("get bgpPeer -o json")).unwrap();
    let expected = json!([{"kind": "bgpPeer", "apiVersion": "v1",
        "metadata": {"scope": "global", "peerIP": "10.99.0.3"}, "spec": {"asNumber": 64512}}]);
    assert_eq!(peers, expected);
    calicoctl("config set nodeToNodeMesh on");
    eventually("the mesh", || {
        status(&lab, 1, &endpoints).contains("| 10.99.0.2    | node-to-node mesh | up ")
    });
}

#[test]
fn calicoctl_shows_the_pool_and_the_nodes() {
    if !lab::is_possible() {
        return;
    }
    let lab = Lab::new(1);
    let (_etcd, endpoints) = lab.etcd(1);
    let _node = lab.calico_node(1, &endpoints, &[]);
    let calicoctl = |words: &str| said(&lab.calicoctl(1, &endpoints, words));
    assert_eq!(
        calicoctl("get ipPool -o yaml"),
        "- apiVersion: v1\n  kind: ipPool\n  metadata:\n    cidr: 172.20.0.0/16\n  spec:\n    \
         nat-outgoing: true\n"
    );
    let pools: Value = serde_json::from_str(&calicoctl("get ipPool -o json")).unwrap();
    assert_eq!(pools[0]["metadata"]["cidr"], "172.20.0.0/16");
    assert_eq!(
        calicoctl("get ipPool -o wide"),
        "CIDR            NAT    IPIP    \n172.20.0.0/16   true   false   \n\n"
    );
    assert_eq!(calicoctl("get node"), "NAME     \nnode-1   \n\n");
    let wide = calicoctl("get nodes -o wide");
    assert!(wide.contains("node-1   (64512)   10.99.0.1/24"), "{wide}");
    let nodes: Value = serde_json::from_str(&calicoctl("get nodes -o json")).unwrap();
    let expected = json!([{"kind": "node", "apiVersion": "v1", "metadata": {"name": "node-1"},
        "spec": {"bgp": {"ipv4Address": "10.99.0.1/24"}}}]);
    assert_eq!(nodes, expected);
    assert_eq!(calicoctl("get bgpPeer -o json"), "[]\n");
}

#[test]
fn a_member_of_etcd_that_does_not_answer_is_passed_over() {
    if !lab::is_possible() {
        return;
    }
    let lab = Lab::new(3);
    let (_etcd, endpoints) = lab.etcd(3);
    let _one = lab.calico_node(1, &endpoints, &[]);
    // The firewall drops requests to the first endpoint of the list: no answer, not even a refusal.
    let rule = "-A INPUT -p tcp --dport 2379 -j DROP";
    succeeds(lab.on(1, "iptables").args(rule.split_whitespace()));
    let _two = lab.calico_node(2, &endpoints, &[]);
    let nodes = said(&lab.calicoctl(1, &endpoints, "get nodes"));
    assert_eq!(nodes, "NAME     \nnode-1   \nnode-2   \n\n");
    lab.until_answers(1, "127.0.0.1:9099/readiness", "");
    eventually("peers", || {
        status(&lab, 1, &endpoints).contains("| 10.99.0.2    | node-to-node mesh | up ")
    });
    let mut server = crate::harness::Running::start(lab.sim(1, "kube-apiserver").args([
        "--insecure-bind-address=127.0.0.1",
        "--insecure-port=8080",
        "--secure-port=0",
        &format!("--etcd-servers={endpoints}"),
    ]));
    lab.until_answers(1, "127.0.0.1:8080/healthz", "ok");
    assert!(server.stop());
}

#[test]
fn a_node_reaches_an_etcd_that_demands_a_certificate() {
    if !lab::is_possible() {
        return;
    }
    let lab = Lab::new(1);
    let authority = Authority::new(&lab.directory.path().join("pki"));
    let mut etcd = lab.on(1, "etcd");
    let (url, _etcd) = start_etcd(&mut etcd, lab.directory.path(), &authority);
    let pair = authority.issue("calico", "k8s");
    let files = [
        ("ETCD_CA_CERT_FILE", authority.certificate()),
        ("ETCD_CERT_FILE", pair.certificate),
        ("ETCD_KEY_FILE", pair.key),
    ];
    let files: Vec<(&str, &Path)> = files.iter().map(|(k, v)| (*k, v.as_path())).collect();
    let mut node = lab.calico_node(1, &url, &files);
    lab.until_answers(1, "127.0.0.1:9099/liveness", "");
    let text = said(&lab.calicoctl(1, &url, "node status"));
    assert!(text.contains("Calico process is running."), "{text}");
    assert!(text.contains("No IPv4 peers found."), "{text}");
    assert!(node.stop());
}

#[test]
fn the_image_holds_all_that_its_programs_need() {
    if !lab::is_possible() {
        return;
    }
    let lab = Lab::new(1);
    let images = lab.directory.path().join("images");
    succeeds(command("sim").arg("images").arg(&images));
    let root = lab.directory.path().join("root");
    for directory in ["saved", "root"] {
        fs::create_dir(lab.directory.path().join(directory)).unwrap();
    }
    let saved = lab.directory.path().join("saved");
    let unpack = |archive: &Path, into: &Path| {
        succeeds(
            Command::new("tar")
                .arg("-xf")
                .arg(archive)
                .arg("-C")
                .arg(into),
        );
    };
    unpack(&images.join("calico-node_v2.6.2.tar"), &saved);
    let manifest = fs::read_to_string(saved.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    for layer in manifest[0]["Layers"].as_array().unwrap() {
        unpack(&saved.join(layer.as_str().unwrap()), &root);
    }
    // It must find nothing of this machine there.
    for line in [
        "/usr/sbin/bird --version",
        "/usr/sbin/birdc -h",
        "/usr/sbin/ip -4 route show",
        "/usr/sbin/iptables-save",
        "/usr/sbin/iptables -w -t nat -A POSTROUTING -s 172.20.0.0/16 -j MASQUERADE",
        "/usr/sbin/iptables -w -A FORWARD -i cali+ -j ACCEPT",
        "/sbin/start_runit --version",
    ] {
        let mut chroot = lab.on(1, "chroot");
        let output = chroot
            .arg(&root)
            .args(line.split_whitespace())
            .output()
            .unwrap();
        let missing = said(&output).contains("shared lib");
        // birdc does not know -h, and reports that.
        let right = output.status.success() || line.starts_with("/usr/sbin/birdc");
        assert!(right && !missing, "{line}: {}", said(&output));
    }
    let rules = succeeds(&mut lab.on(1, "iptables-save"));
    assert!(rules.contains("-s 172.20.0.0/16 -j MASQUERADE"), "{rules}");
}

//! Names that are not a node's own, in every spelling: when it joins, when it renews, and in its requests.

use std::net::Ipv4Addr;

use appliance::components::{self, KUBELET_CLIENT};
use appliance::join::csr::{Allowed, check};
use appliance::join::gate::{Ask, Gate};
use appliance::join::message::{Reason, Renew};
use appliance::join::nodes::{Nodes, Presence};
use appliance::join::tokens::Tokens;
use appliance::paths;
use appliance::pki::issue::Signer;
use appliance::pki::{Existing, inspect};
use appliance::records::nodes::NodeRecord;
use pem::parse;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose};
use rcgen::{KeyPair, SanType};

use super::bed::{Node, WORKER, authority, cluster};
use super::faults::{Direct, NOW, asker, hello, reason, requests};

/// Names of the API server, of masters and of this machine, and what some program reads as one of them.
const SPELLINGS: &[&str] = &[
    "kubernetes",
    "Kubernetes",
    "KUBERNETES",
    "kubernetes.",
    "kubernetes..",
    "KuberneteS.",
    "api.example.org",
    "API.Example.ORG",
    "api.example.org.",
    "localhost",
    "LocalHost",
    "localhost.",
    "server04",
    "Server04",
    "server04.",
    "server02",
    "SERVER02.",
    // Wildcards.
    "*",
    "*.example.org",
    "*.",
    // Punycode: `kubernetes`, `localhost` and `api` in full-width letters; `kubernetes`, `server02` and `server04`
    // with Cyrillic ones; `kubernetes` with a space of no width.
    "xn--ni7cgaa0au1alhe",
    "xn--mi7cdqncpe6aj",
    "xn--pi-bz3n.example.org",
    "xn--kubrnetes-i0h",
    "xn--srver02-7gg",
    "xn--rver04-2of9w",
    "xn--kubernetes-fs6e",
    "XN--kubrnetes-2ng",
    "server01.xn--kubrnetes-i0h",
    // Addresses: the master's, this machine's, and how inet_aton(3) and browsers write them.
    "127.0.0.2",
    "127.0.0.2.",
    "192.168.1.102",
    "2130706433",
    "2130706434",
    "1234",
    "127.1",
    "127.0.1",
    "0x7f000001",
    "0X7F000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "0177.1",
    "0x7f.0.0.0x2",
    "0xa4d0066",
    "0x",
    "web.1",
    "::1",
    "::ffff:127.0.0.2",
    "::ffff:192.168.1.102",
    "::FFFF:7f00:2",
    "0:0:0:0:0:ffff:7f00:2",
    "[::1]",
    // What is not a name.
    "",
    ".",
    " kubernetes",
    "kubernetes ",
    "kubernetes\t",
    "kubernetes\0",
    "system:node:server01",
    "system:masters",
    "server01/../server02",
    "server01,kubernetes",
];

#[test]
fn no_node_joins_with_another_ones_name_in_any_spelling() {
    let bed = Direct::new();
    let mut gate = bed.gate();
    let unicode = [
        "\u{ff4b}\u{ff55}\u{ff42}\u{ff45}\u{ff52}\u{ff4e}\u{ff45}\u{ff54}\u{ff45}\u{ff53}",
        "kub\u{435}rnetes",
        "server01\u{3002}",
    ];
    for name in SPELLINGS.iter().chain(&unicode) {
        let outcome = gate.hello(&asker(), hello(&bed.token, name), NOW).unwrap();
        // A master's name is refused after the proof only: it may be that master.
        let is_masters = *name == "server04";
        match outcome {
            Ok(_) => assert!(is_masters, "{name:?} was taken"),
            Err(refusal) => assert!(
                matches!(refusal.reason, Reason::BadRequest | Reason::NotYours),
                "{name:?}: {refusal:?}"
            ),
        }
    }
    gate.hello(&asker(), hello(&bed.token, "server01"), NOW)
        .unwrap()
        .unwrap();
}

/// A gate whose records say that `node` has joined, and the node's certificate kubelet-client in DER.
fn joined_before(bed: &Direct, node: &Node) -> (Gate<'static>, Vec<u8>) {
    let (pem, key) = authority(NOW);
    let own = components::worker(node.name, WORKER);
    let own = own.iter().find(|own| own.name == KUBELET_CLIENT).unwrap();
    let issued = Signer::new(&pem, &key)
        .unwrap()
        .certificate(own, &key_of(node), NOW)
        .unwrap();
    let certificate = parse(issued).unwrap().into_contents();
    let (dir, ask) = (bed.dir.path(), |_: &str| Ok(Presence::Absent));
    let record = NodeRecord {
        address: WORKER,
        key: inspect::fingerprint(&inspect::inspect_der(&certificate).unwrap()),
        machine: None,
        token: bed.token.id().clone(),
        seen: NOW,
    };
    let nodes = Nodes::new(dir);
    nodes.note(node.name, &record).unwrap();
    let ask = Ask {
        node: Box::leak(Box::new(ask)),
        master: Box::leak(Box::new(ask)),
    };
    let gate = Gate::new(cluster((pem, key)), Tokens::new(dir), nodes, ask);
    (gate, certificate)
}

fn key_of(node: &Node) -> KeyPair {
    let pem = Existing::read(&node.files, &paths::key(KUBELET_CLIENT));
    KeyPair::from_pem(str::from_utf8(&pem.unwrap().unwrap()).unwrap()).unwrap()
}

/// A master of an older version may have let it join.
#[test]
fn no_node_renews_with_another_ones_name_in_any_spelling() {
    for &name in SPELLINGS {
        let (bed, node) = (Direct::new(), Node::new(name));
        let (mut gate, certificate) = joined_before(&bed, &node);
        let renew = Renew::signed(&key_of(&node), requests(&node), None, NOW).unwrap();
        let refused = reason(gate.renew(&asker(), &certificate, &renew, NOW));
        assert!(
            matches!(refused, Reason::BadRequest | Reason::NotYours),
            "{name:?}: {refused:?}"
        );
    }
    let (bed, node) = (Direct::new(), Node::new("server01"));
    let (mut gate, certificate) = joined_before(&bed, &node);
    let renew = Renew::signed(&key_of(&node), requests(&node), None, NOW).unwrap();
    gate.renew(&asker(), &certificate, &renew, NOW)
        .unwrap()
        .unwrap();
}

/// The request for a certificate `name` of a node, with that common name and these alternative names.
fn csr(common_name: &str, usage: ExtendedKeyUsagePurpose, names: Vec<SanType>) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in [
        (DnType::OrganizationName, "system:nodes"),
        (DnType::CommonName, common_name),
    ] {
        params.distinguished_name.push(kind, value);
    }
    params.extended_key_usages = vec![usage];
    params.subject_alt_names = names;
    let request = params.serialize_request(&KeyPair::generate().unwrap());
    request.unwrap().pem().unwrap()
}

#[test]
fn no_request_bears_another_ones_name_in_any_spelling() {
    let (server, client) = (
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    );
    let own = "system:node:server01";
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let address = || SanType::IpAddress(WORKER.into());
    let node = Node::new("server01");
    let refused = |certificate: &str, csr: String| {
        let mut requests = requests(&node);
        let other = requests.iter_mut().find(|one| one.name == certificate);
        other.unwrap().csr = csr;
        check(&requests, &Allowed::worker("server01", WORKER)).is_err()
    };
    // The requests of this test are refused for what they bear alone.
    let good = vec![dns("server01"), address()];
    assert!(!refused("kubelet", csr(own, server.clone(), good)));
    for name in SPELLINGS.iter().chain(&["SERVER01", "server01."]) {
        let common = format!("system:node:{name}");
        assert!(
            refused("kubelet-client", csr(&common, client.clone(), vec![])),
            "{name:?}"
        );
        for names in [
            vec![dns(name), address()],
            vec![dns("server01"), dns(name), address()],
        ] {
            assert!(
                refused("kubelet", csr(own, server.clone(), names)),
                "{name:?}"
            );
        }
    }
    let mapped = |address: Ipv4Addr| SanType::IpAddress(address.to_ipv6_mapped().into());
    for more in [
        mapped(WORKER),
        mapped(Ipv4Addr::new(192, 168, 1, 102)),
        SanType::IpAddress(WORKER.to_ipv6_compatible().into()),
        SanType::IpAddress(Ipv4Addr::new(127, 0, 0, 2).into()),
    ] {
        for names in [
            vec![dns("server01"), more.clone()],
            vec![dns("server01"), address(), more.clone()],
        ] {
            assert!(
                refused("kubelet", csr(own, server.clone(), names)),
                "{more:?}"
            );
        }
    }
}

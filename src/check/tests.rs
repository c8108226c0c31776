//! Tests when each check passes, when it fails, and the hint for each failure.

#![allow(clippy::unwrap_used)]

use super::super::facts::{
    Answer, CheckedNode, Component, Facts, Pair, Probes, Unprobed, Versions,
};
use super::super::{Checked, Verdict, is_sound, judge};
use ipnet::Ipv4Net;

use crate::clients::bird::Peer;
use crate::clients::calicoctl::Pool;
use crate::nodespec::Ipip;
use crate::observe::peers::PeerReport;
use crate::records::expected::Expected;

fn expected() -> Expected {
    Expected {
        kubernetes: "v1.9.0".to_owned(),
        pod_cidr: "172.20.0.0/16".to_owned(),
        service_cidr: "10.68.0.0/16".to_owned(),
        ipip: Ipip::Off,
        pod_mtu: 1450,
        tunnel: 0,
        domain: "cluster.local".to_owned(),
        api_server_ip: "10.68.0.1".to_owned(),
        pause: "gcr.io/google_containers/pause-amd64:3.0".to_owned(),
        masters: vec!["server02".to_owned(), "server04".to_owned()],
        pod_metadata: false,
        pod_security_policy: false,
    }
}

fn node(number: u8) -> CheckedNode {
    CheckedNode {
        name: format!("server0{number}"),
        address: format!("192.168.1.10{number}"),
        ready: true,
        schedulable: true,
    }
}

fn answer<T>(node: &CheckedNode, found: T) -> Answer<T> {
    Answer {
        node: node.name.clone(),
        found: Ok(found),
    }
}

fn peer(info: &str, problem: Option<&str>) -> PeerReport {
    PeerReport {
        peer: Peer {
            address: "192.168.1.101".to_owned(),
            kind: "node-to-node mesh",
            state: "up".to_owned(),
            since: "13:24:30".to_owned(),
            info: info.to_owned(),
        },
        node: Some("server01".to_owned()),
        problem: problem.map(str::to_owned),
    }
}

fn pool(cidr: &str, ipip: Ipip) -> Pool {
    Pool {
        cidr: cidr.to_owned(),
        ipip,
    }
}

fn subnet(number: u8, prefix: u8) -> (String, Ipv4Net) {
    let node = node(number);
    let address = node.address.parse().unwrap();
    (node.name, Ipv4Net::new_assert(address, prefix))
}

/// The tutorial's cluster, with nothing wrong.
fn sound() -> Facts {
    let (one, three) = (node(1), node(3));
    let pair = |from: &CheckedNode, to: &CheckedNode| Pair {
        from: from.clone(),
        to: to.clone(),
        connected: Ok(()),
        passes: Some(Ok(1450)),
    };
    Facts {
        versions: Ok(Versions {
            client: "v1.9.0".to_owned(),
            server: "v1.9.0".to_owned(),
        }),
        components: Ok(vec![Component {
            name: "scheduler".to_owned(),
            healthy: true,
            message: "ok".to_owned(),
        }]),
        nodes: Ok(vec![one.clone(), three.clone()]),
        joined: Ok(["server01".to_owned(), "server03".to_owned()].into()),
        peers: Ok(vec![peer("Established", None)]),
        pools: Ok(vec![pool("172.20.0.0/16", Ipip::Off)]),
        subnets: Ok([1, 2, 3].map(|number| subnet(number, 24)).into()),
        probes: Ok(Probes {
            pods: vec![one.clone(), three.clone()],
            dns: vec![answer(&one, vec!["10.68.0.1".to_owned()])],
            node_ports: vec![answer(&one, ()), answer(&three, ())],
            pairs: vec![pair(&one, &three), pair(&three, &one)],
            metadata: vec![answer(&one, false), answer(&three, false)],
        }),
    }
}

fn verdict(expected: &Expected, facts: &Facts, check: &str) -> Verdict {
    let checked = judge(expected, facts);
    checked
        .into_iter()
        .find(|c| c.check == check)
        .unwrap()
        .verdict
}

/// The finding and the hint of the only check that fails.
#[track_caller]
fn failure(check: &str, change: impl Fn(&mut Facts)) -> String {
    failure_of(&expected(), check, change)
}

#[track_caller]
fn failure_of(expected: &Expected, check: &str, change: impl Fn(&mut Facts)) -> String {
    let mut facts = sound();
    change(&mut facts);
    let failed: Vec<Checked> = judge(expected, &facts)
        .into_iter()
        .filter(|c| matches!(c.verdict, Verdict::Failed { .. }))
        .collect();
    let names: Vec<&str> = failed.iter().map(|c| c.check).collect();
    assert_eq!(names, [check]);
    match verdict(expected, &facts, check) {
        Verdict::Failed { found, hint } => format!("{found}\n{hint}"),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

fn probes(facts: &mut Facts) -> &mut Probes {
    facts.probes.as_mut().unwrap()
}

#[test]
fn a_sound_cluster_passes_every_check() {
    let checked = judge(&expected(), &sound());
    assert!(is_sound(&checked));
    let passed = |c: &Checked| matches!(c.verdict, Verdict::Passed { .. });
    assert!(checked.iter().all(passed), "{checked:?}");
}

#[test]
fn another_version_than_the_bundles_fails() {
    let text = failure("versions", |facts| {
        facts.versions.as_mut().unwrap().server = "v1.9.1".to_owned();
    });
    assert_holds(
        &text,
        &["client v1.9.0, server v1.9.1; the bundle has v1.9.0"],
    );
}

#[test]
fn a_sick_component_is_named_with_what_it_says() {
    let text = failure("component statuses", |facts| {
        let component = &mut facts.components.as_mut().unwrap()[0];
        component.healthy = false;
        component.message = "connection refused".to_owned();
    });
    assert_holds(&text, &["scheduler: connection refused"]);
}

#[test]
fn nodes_that_are_not_ready_or_not_there_are_named() {
    let text = failure("nodes", |facts| {
        facts.nodes.as_mut().unwrap()[1].ready = false;
    });
    assert_holds(&text, &["not ready: server03", "journalctl -u kubelet"]);
    let text = failure("nodes", |facts| {
        facts.joined.as_mut().unwrap().insert("server09".to_owned());
    });
    assert_holds(
        &text,
        &["joined, but not in the cluster: server09", "node release"],
    );
}

#[test]
fn masters_that_joined_each_other_are_not_missed() {
    let mut facts = sound();
    facts.joined.as_mut().unwrap().insert("server04".to_owned());
    assert!(is_sound(&judge(&expected(), &facts)));
}

#[test]
fn a_peer_without_a_session_fails_and_no_peer_is_skipped() {
    let text = failure("BGP peers", |facts| {
        let down = peer("Active Socket: Connection refused", Some("see the log"));
        facts.peers = Ok(vec![peer("Established", None), down]);
    });
    assert_holds(
        &text,
        &[
            "1 of 2 not established: server01 (Active Socket: Connection refused)",
            "see the log",
            "--dst-port 179",
        ],
    );
    let many = failure("BGP peers", |facts| {
        facts.peers = Ok(vec![peer("Active", Some("see the log")); 5]);
    });
    assert_holds(&many, &["5 of 5 not established", "2 more like these"]);
    let mut alone = sound();
    alone.peers = Ok(vec![]);
    let verdict = verdict(&expected(), &alone, "BGP peers");
    assert!(matches!(verdict, Verdict::Skipped { .. }), "{verdict:?}");
}

#[test]
fn a_session_that_may_still_come_up_is_neither_passed_nor_failed() {
    let mut young = sound();
    young.peers = Ok(vec![peer("Established", None), peer("Connect", None)]);
    let Verdict::Skipped { found } = verdict(&expected(), &young, "BGP peers") else {
        panic!("not skipped");
    };
    assert_holds(&found, &["1 of 2 not established", "server01 (Connect)"]);
}

#[test]
fn peers_that_cannot_be_compared_with_calicos_list_fail() {
    let text = failure("BGP peers", |facts| {
        facts.peers = Err("cannot compare".to_owned());
    });
    assert_holds(&text, &["cannot compare", "calicoctl get nodes"]);
}

#[test]
fn another_pool_than_the_pods_range_fails() {
    let text = failure("IP pool", |facts| {
        facts.pools = Ok(vec![pool("192.1.0.0/16", Ipip::Off)]);
    });
    assert_holds(&text, &["192.1.0.0/16; podCIDR is 172.20.0.0/16"]);
    failure("IP pool", |facts| facts.pools = Ok(vec![]));
}

#[test]
fn without_probes_the_deployment_fails_and_what_needs_them_is_skipped() {
    let why = "not ready after 180 s: image pause is nowhere";
    let none = || Err(Unprobed::Failed(why.to_owned()));
    let text = failure("deployment", |facts| facts.probes = none());
    assert_holds(&text, &[why]);
    let mut facts = sound();
    facts.probes = none();
    match verdict(&expected(), &facts, "pod to pod") {
        Verdict::Skipped { found } => assert_holds(&found, &["the probes do not run", why]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_pods_a_healthy_cluster_passes_and_what_needs_pods_is_skipped() {
    let mut facts = sound();
    facts.probes = Err(Unprobed::NotWanted);
    let checked = judge(&expected(), &facts);
    assert!(is_sound(&checked), "{checked:?}");
    for check in ["deployment", "DNS from pods", "metadata service"] {
        match verdict(&expected(), &facts, check) {
            Verdict::Skipped { found } => assert_holds(&found, &["--no-pods"]),
            other => panic!("{check}: {other:?}"),
        }
    }
}

#[test]
fn a_name_that_is_not_found_or_another_address_fails() {
    let text = failure("DNS from pods", |facts| {
        probes(facts).dns[0].found = Err("no name server answers".to_owned());
    });
    assert_holds(
        &text,
        &[
            "pod on server01: no name server answers",
            "k8s-app=kube-dns",
        ],
    );
    let text = failure("DNS from pods", |facts| {
        probes(facts).dns[0].found = Ok(vec!["10.68.0.9".to_owned()]);
    });
    assert_holds(&text, &["resolves to 10.68.0.9, not 10.68.0.1"]);
}

#[test]
fn a_node_at_which_the_service_does_not_answer_is_named() {
    let text = failure("NodePort service", |facts| {
        probes(facts).node_ports[1].found = Err("timed out".to_owned());
    });
    assert_holds(&text, &["server03: timed out", "nodePortRange"]);
}

fn cut(facts: &mut Facts) {
    let pair = &mut probes(facts).pairs[0];
    pair.connected = Err("no answer from 172.20.3.4:8080".to_owned());
    pair.passes = None;
}

/// The same cluster with tunnels, as expected and in Calico's pool.
fn with_tunnels(ipip: Ipip) -> (Expected, Facts) {
    let (mut expected, mut facts) = (expected(), sound());
    (expected.ipip, expected.tunnel) = (ipip, 20);
    facts.pools = Ok(vec![pool("172.20.0.0/16", ipip)]);
    (expected, facts)
}

#[track_caller]
fn found(verdict: Verdict) -> String {
    match verdict {
        Verdict::Passed { found } => found,
        Verdict::Failed { found, hint } => format!("{found}\n{hint}"),
        Verdict::Skipped { found } => panic!("{found}"),
    }
}

#[test]
fn without_tunnels_the_command_for_address_pairs_is_shown() {
    let text = failure("pod to pod", cut);
    assert_holds(
        &text,
        &[
            "1 of 2 connections fail: from server01 to server03: no answer",
            "openstack port set PORT --allowed-address ip-address=172.20.0.0/16 \
             --allowed-address ip-address=10.68.0.0/16",
            "openstack port list --fixed-ip ip-address=192.168.1.101",
            "do this for 192.168.1.101, 192.168.1.103",
            "set `ipip: always` on all nodes",
            "spec: {ipip: {enabled: true, mode: always}, nat-outgoing: true}}' | calicoctl apply",
        ],
    );
    // Between nodes of one subnet, it would change nothing.
    assert!(!text.contains("cross-subnet"), "{text}");
}

#[test]
fn with_tunnels_the_rule_for_protocol_4_is_shown() {
    let (tunnelled, mut facts) = with_tunnels(Ipip::Always);
    cut(&mut facts);
    let text = found(verdict(&tunnelled, &facts, "pod to pod"));
    assert_holds(&text, &["drops IP protocol 4", "--protocol 4"]);
    assert!(!text.contains("--allowed-address"), "{text}");
}

#[test]
fn tunnels_between_subnets_are_told_from_the_way_within_one() {
    let (crossing, mut facts) = with_tunnels(Ipip::CrossSubnet);
    cut(&mut facts);
    let within = found(verdict(&crossing, &facts, "pod to pod"));
    assert_holds(&within, &["lack address pairs"]);
    facts.subnets = Ok([1, 2, 3].map(|number| subnet(number, 31)).into());
    let across = found(verdict(&crossing, &facts, "pod to pod"));
    assert_holds(&across, &["drops IP protocol 4"]);
}

#[test]
fn what_passes_says_whether_tunnels_are_needed() {
    let direct = found(verdict(&expected(), &sound(), "pod to pod"));
    assert_holds(&direct, &["2 connections between nodes, without tunnels"]);
    let (tunnelled, mut facts) = with_tunnels(Ipip::Always);
    let one = found(verdict(&tunnelled, &facts, "pod to pod"));
    assert_holds(
        &one,
        &["All nodes are in one subnet", "`ipip: cross-subnet`"],
    );
    facts.subnets = Ok([1, 2, 3].map(|number| subnet(number, 31)).into());
    let several = found(verdict(&tunnelled, &facts, "pod to pod"));
    assert!(several.ends_with("through tunnels"), "{several}");
}

#[test]
fn a_pool_with_another_mode_than_the_settings_is_told_with_the_command() {
    let text = failure("IP pool", |facts| {
        facts.pools = Ok(vec![pool("172.20.0.0/16", Ipip::Always)]);
    });
    assert_holds(
        &text,
        &[
            "172.20.0.0/16, ipip: always; the setting is `ipip: off`",
            "echo '{apiVersion: v1, kind: ipPool, metadata: {cidr: 172.20.0.0/16}, spec: \
             {nat-outgoing: true}}' | calicoctl apply -f -",
            "set `ipip: always` on all nodes",
        ],
    );
}

#[test]
fn a_master_that_does_not_reach_a_pod_fails_although_only_one_node_runs_pods() {
    let mut facts = sound();
    probes(&mut facts).pairs = vec![Pair {
        from: node(2),
        to: node(3),
        connected: Err("timed out".to_owned()),
        passes: None,
    }];
    let text = found(verdict(&expected(), &facts, "pod to pod"));
    assert_holds(&text, &["from server02 to server03: timed out"]);
    probes(&mut facts).pairs.clear();
    let alone = verdict(&expected(), &facts, "pod to pod");
    assert!(matches!(alone, Verdict::Skipped { .. }), "{alone:?}");
}

#[test]
fn a_narrower_path_is_told_with_the_mtu_to_set() {
    let (tunnelled, mut facts) = with_tunnels(Ipip::Always);
    probes(&mut facts).pairs[1].passes = Some(Ok(1430));
    let text = found(verdict(&tunnelled, &facts, "path MTU of pods"));
    assert_holds(
        &text,
        &[
            "from server03 to server01: packets of 1430 bytes pass, larger ones are lost, but the \
             MTU of pods is 1450",
            "`mtu: 1450`",
        ],
    );
}

#[test]
fn a_pod_that_reaches_the_metadata_service_fails_unless_it_may() {
    let reached = |facts: &mut Facts| probes(facts).metadata[1].found = Ok(true);
    let text = failure("metadata service", reached);
    assert_holds(&text, &["a pod on server03 reaches 169.254.169.254"]);
    let mut allowed = expected();
    allowed.pod_metadata = true;
    let mut facts = sound();
    reached(&mut facts);
    let verdict = verdict(&allowed, &facts, "metadata service");
    assert!(matches!(verdict, Verdict::Skipped { .. }), "{verdict:?}");
}

#[test]
fn one_reason_is_told_once() {
    let mut facts = sound();
    let refused = || "The connection to the server was refused".to_owned();
    facts.versions = Err(refused());
    facts.components = Err(refused());
    facts.nodes = Err("another reason".to_owned());
    let checked = judge(&expected(), &facts);
    let failed = |check: &Checked| matches!(check.verdict, Verdict::Failed { .. });
    let failed: Vec<&str> = checked
        .iter()
        .filter(|check| failed(check))
        .map(|check| check.check)
        .collect();
    assert_eq!(failed, ["versions", "nodes"]);
    let second = verdict(&expected(), &facts, "component statuses");
    assert_eq!(second, Verdict::skipped("the same as versions"));
}

//! The script for the openstack client, run with a stand-in that records every call.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use appliance::nodespec::Ipip;
use appliance::user_data::SIZE_LIMIT;

use super::{CLIENTS, EVERY_IPIP, Rule, peer_of_range, project, protocol, wanted};
use crate::harness::said;

/// A cloud: the `openstack` on PATH records every call.
struct Cloud {
    dir: tempfile::TempDir,
}

impl Cloud {
    /// A cloud in which nothing exists yet.
    fn new() -> Cloud {
        let dir = tempfile::tempdir().unwrap();
        let openstack = dir.path().join("openstack");
        // A resource exists as soon as it is created; its identifier is its name.
        let script = r#"#!/bin/bash
set -euo pipefail
dir=${0%/*}
{ printf '%s\x1f' "$@"; echo; } >>"$dir/asked"
if [ "$*" = --version ]; then echo "openstack 3.8.0"; exit; fi
name=${!#}
case $* in
*"port show"*fixed_ips*) echo "[{'subnet_id': '5f7a1c9e', 'ip_address': '10.0.0.$(cksum <<<"$name" | cut -c1-2)'}]" ;;
*"floating ip list"*" ID") echo floating ;;
*"floating ip list"*) ;;
*" list "*) awk -v kind="$1" '$1 == kind { print $2, $2 }' "$dir/there" ;;
*" delete "*) ;;
*"floating ip create"*) echo 203.0.113.5 ;;
*" rule create"*)
    if grep -qxF -- "$*" "$dir/rules" 2>/dev/null; then echo "ConflictException: 409: Security group rule already exists." >&2; exit 1; fi
    echo "$*" >>"$dir/rules" ;;
*" show "*) grep -qxF -- "$1 $name" "$dir/there" 2>/dev/null || exit 1; echo "$name" ;;
*"server group create"*soft-*)
    # As the genuine client: without a version it asks in 2.1, which does not know the policy.
    [ "${OS_COMPUTE_API_VERSION:-2.1}" = 2.15 ] || { echo "--os-compute-api-version 2.15 or greater is required" >&2; exit 1; }
    [ ! -e "$dir/old" ] || { echo "invalid choice: 'soft-anti-affinity'" >&2; exit 2; }
    echo "$1 $name" >>"$dir/there"; echo "$name" ;;
*" create "*) [ ! -e "$dir/fails" ] || [ "$1 $2" != "server create" ] || exit 1; echo "$1 $name" >>"$dir/there"; echo "$name" ;;
*) exit 2 ;;
esac
"#;
        fs::write(&openstack, script).unwrap();
        fs::set_permissions(&openstack, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("user-data"), "#cloud-config\n").unwrap();
        Cloud { dir }
    }

    /// Runs `cluster.sh create` with the required options, and with more arguments.
    fn create(&self, arguments: &[&str]) -> Output {
        let needed = [
            "--user-data",
            "user-data",
            "--image",
            "i",
            "--flavor",
            "f",
            "--network",
            "n",
            "--subnet",
            "s",
            "--clients",
            CLIENTS,
        ];
        self.run(&[&["create"], &needed[..], arguments].concat())
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.dir.path().display());
        Command::new(project("deploy/openstack-cli/cluster.sh"))
            .args(arguments)
            .env("PATH", path)
            .current_dir(self.dir.path())
            .output()
            .unwrap()
    }

    /// All calls that begin with these words.
    fn asked(&self, words: &[&str]) -> Vec<Vec<String>> {
        let asked = fs::read_to_string(self.dir.path().join("asked")).unwrap_or_default();
        let calls = asked.lines().map(|line| {
            let words = line.trim_end_matches('\u{1f}').split('\u{1f}');
            words.map(str::to_owned).collect::<Vec<_>>()
        });
        calls
            .filter(|call| {
                call.starts_with(&words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>())
            })
            .collect()
    }
}

/// The values of an option.
fn values<'a>(call: &'a [String], option: &str) -> Vec<&'a str> {
    let pairs = call.windows(2).filter(|pair| pair[0] == option);
    pairs.map(|pair| pair[1].as_str()).collect()
}

fn rules_of_cloud(cloud: &Cloud) -> BTreeSet<Rule> {
    let rules = cloud.asked(&["security", "group", "rule", "create"]);
    let of_group = |name: &str| name.strip_prefix("kubernetes-").unwrap().to_owned();
    let found = rules.iter().map(|call| {
        let value = |option| values(call, option).first().copied();
        let from = match (value("--remote-group"), value("--remote-ip")) {
            (Some(group), None) => of_group(group),
            (None, Some(range)) => peer_of_range(range),
            other => panic!("{other:?}"),
        };
        let ports = value("--dst-port").map(|ports| {
            let (first, last) = ports.split_once(':').unwrap();
            (first.parse().unwrap(), last.parse().unwrap())
        });
        let protocol = protocol(value("--protocol").unwrap());
        (of_group(call.last().unwrap()), from, protocol, ports)
    });
    found.collect()
}

#[test]
fn the_script_opens_what_the_table_says() {
    for ipip in EVERY_IPIP {
        let cloud = Cloud::new();
        let output = cloud.create(&["--ipip", &ipip.to_string()]);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(rules_of_cloud(&cloud), wanted(ipip), "{ipip}");
        for port in cloud.asked(&["port", "create"]) {
            let pairs: &[&str] = match ipip {
                Ipip::Always => &[],
                _ => &["ip-address=172.20.0.0/16", "ip-address=10.68.0.0/16"],
            };
            assert_eq!(values(&port, "--allowed-address"), pairs, "{ipip}");
        }
    }
}

#[test]
fn the_script_makes_servers_that_know_what_they_are() {
    let cloud = Cloud::new();
    let output = cloud.create(&[
        "--masters",
        "3",
        "--workers",
        "1",
        "--external-network",
        "outside",
    ]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("API server: https://203.0.113.5:6443"),
        "{}",
        said(&output)
    );
    let servers = cloud.asked(&["server", "create"]);
    assert_eq!(servers.len(), 4);
    for server in &servers {
        let name = server.last().unwrap();
        let role = if name.contains("master") {
            "master"
        } else {
            "worker"
        };
        let properties = values(server, "--property");
        assert!(
            properties.contains(&format!("role={role}").as_str()),
            "{properties:?}"
        );
        let masters = properties
            .iter()
            .find(|property| property.starts_with("masters="))
            .unwrap();
        assert_eq!(
            masters.matches("kubernetes-master-").count(),
            3,
            "{masters}"
        );
        let has_floating = properties.contains(&"apiServerSANs=203.0.113.5");
        assert_eq!(has_floating, role == "master");
        assert_eq!(values(server, "--user-data"), ["user-data"]);
        assert_eq!(values(server, "--nic"), [format!("port-id={name}")]);
        assert_eq!(
            values(server, "--hint"),
            [format!("group=kubernetes-{role}s")]
        );
    }
}

#[test]
fn the_script_goes_on_where_it_failed_and_makes_nothing_twice() {
    let cloud = Cloud::new();
    fs::write(cloud.dir.path().join("fails"), "").unwrap();
    assert!(!cloud.create(&[]).status.success());
    fs::remove_file(cloud.dir.path().join("fails")).unwrap();
    let again = cloud.create(&[]);
    assert!(again.status.success(), "{}", said(&again));
    let names = |kind: &[&str]| -> Vec<String> {
        let calls = cloud.asked(&[kind, &["create"]].concat());
        calls
            .into_iter()
            .map(|mut call| call.pop().unwrap())
            .collect()
    };
    assert_eq!(names(&["port"]).len(), 3);
    assert_eq!(names(&["security", "group"]).len(), 3);
    let there = fs::read_to_string(cloud.dir.path().join("there")).unwrap();
    let servers: Vec<&str> = there
        .lines()
        .filter(|line| line.starts_with("server kubernetes-"))
        .collect();
    assert_eq!(servers.len(), 3 + 2, "two groups of servers: {there}");
}

#[test]
fn the_script_refuses_what_cannot_be_before_it_asks_for_anything() {
    let cloud = Cloud::new();
    let large = cloud.dir.path().join("large");
    fs::write(&large, "x".repeat(SIZE_LIMIT + 1)).unwrap();
    let cases: &[(&str, &str, &str)] = &[
        ("--masters", "2", "use 1 or 3"),
        ("--ipip", "sometimes", "cross-subnet"),
        ("--clients", "everyone", "not an IPv4 range"),
        ("--clients", "2001:db8::/32", "not an IPv4 range"),
        ("--clients", "192.0.2.0/33", "not an IPv4 range"),
        ("--clients", "192.0.256.0/24", "not an IPv4 range"),
        ("--clients", "192.0.2.0", "not an IPv4 range"),
        ("--clients", "192.0.2.5/24", "did you mean 192.0.2.0/24?"),
        ("--pod-cidr", "172.20.0.0/12", "did you mean 172.16.0.0/12?"),
        ("--service-cidr", "10.68.0.1/0", "did you mean 0.0.0.0/0?"),
        ("--name", "Big Cluster", "lower-case"),
        ("--workers", "many", "not a number"),
        ("--workers", "2.5", "not a number"),
        ("--workers", "08", "not a number"),
        ("--user-data", "none", "no such file"),
        ("--user-data", large.to_str().unwrap(), "49149"),
        ("--node-ports", "30000", "20000-40000"),
        ("--node-ports", "40000-20000", "20000-40000"),
        ("--node-ports", "0-1", "20000-40000"),
        ("--node-ports", "1-65536", "20000-40000"),
        ("--security-group", "", "needs a value"),
        ("--colour", "blue", "no such option"),
    ];
    for (option, value, why) in cases {
        let output = cloud.create(&[option, value]);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{option} {value}: {said}");
        assert!(said.contains(why), "{option} {value}: {said}");
    }
    assert!(cloud.asked(&[]).is_empty());
}

#[test]
fn a_client_that_is_not_there_is_told_with_the_command_that_installs_it() {
    let cloud = Cloud::new();
    fs::remove_file(cloud.dir.path().join("openstack")).unwrap();
    let output = cloud.create(&[]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let words = "apt-get install python3-openstackclient; nothing was changed";
    assert!(said(&output).contains(words), "{}", said(&output));
}

#[test]
fn a_soft_policy_is_asked_for_in_its_version_and_a_client_without_it_is_named() {
    let cloud = Cloud::new();
    let soft = ["--policy", "soft-anti-affinity"];
    let output = cloud.create(&soft);
    assert!(output.status.success(), "{}", said(&output));

    let cloud = Cloud::new();
    fs::write(cloud.dir.path().join("old"), "").unwrap();
    let output = cloud.create(&soft);
    assert_eq!(output.status.code(), Some(1));
    for word in [
        "soft-anti-affinity",
        "openstack 3.8.0",
        "--policy anti-affinity",
    ] {
        assert!(said(&output).contains(word), "{}", said(&output));
    }
    assert!(cloud.asked(&["security"]).is_empty());
    assert!(!cloud.dir.path().join("there").exists());
}

#[test]
fn the_script_removes_what_it_made_and_nothing_else() {
    let cloud = Cloud::new();
    let there = cloud.dir.path().join("there");
    assert!(cloud.create(&[]).status.success());
    let others = "server kubernetes-master-1-old\nserver my-kubernetes-worker-1\nport kubernetes\nsecurity default\n";
    let made = fs::read_to_string(&there).unwrap();
    fs::write(&there, format!("{others}{made}")).unwrap();
    let output = cloud.run(&["delete"]);
    assert!(output.status.success(), "{}", said(&output));
    let calls = cloud.asked(&[]);
    let deleted = calls
        .iter()
        .filter(|call| call.contains(&"delete".to_owned()));
    let deleted: Vec<String> = deleted.map(|call| call.join(" ")).collect();
    let servers = ["master-1", "worker-1", "worker-2"];
    let mut wanted = vec!["floating ip delete floating".to_owned(); 3];
    wanted.extend(servers.map(|name| format!("server delete --wait kubernetes-{name}")));
    wanted.extend(servers.map(|name| format!("port delete kubernetes-{name}")));
    for role in ["workers", "masters"] {
        wanted.push(format!("server group delete kubernetes-{role}"));
        wanted.push(format!("security group delete kubernetes-{role}"));
    }
    wanted.push("security group delete kubernetes-nodes".to_owned());
    assert_eq!(deleted, wanted);
}

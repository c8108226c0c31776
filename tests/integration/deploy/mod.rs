//! The templates in `deploy/`: each opens exactly the ports of the table in the code, and is valid
//! for its own tool.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use appliance::nodespec::ports::{OPENINGS, Opening, Peer};
use appliance::nodespec::{Ipip, Profile};

mod heat;
mod script;
mod terraform;

const EVERY_IPIP: [Ipip; 3] = [Ipip::Off, Ipip::CrossSubnet, Ipip::Always];
const POD_CIDR: &str = "172.20.0.0/16";
const SERVICE_CIDR: &str = "10.68.0.0/16";
const CLIENTS: &str = "192.0.2.0/24";

/// A rule of a security group: the group, the source, the protocol's number, ports.
type Rule = (String, String, Option<u8>, Option<(u16, u16)>);

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The rules of the table in the code.
fn wanted(ipip: Ipip) -> BTreeSet<Rule> {
    let openings = OPENINGS.iter();
    let openings = openings.filter(|opening| opening.when.holds(Profile::WithCa, ipip));
    openings.map(rule).collect()
}

fn rule(opening: &Opening) -> Rule {
    (
        opening.on.to_string(),
        opening.from.to_string(),
        opening.traffic.protocol(),
        opening.traffic.ports(),
    )
}

/// The number of a protocol, from its name in a tool.
fn protocol(name: &str) -> Option<u8> {
    match name {
        "tcp" => Some(6),
        "udp" => Some(17),
        "any" => None,
        number => Some(number.parse().unwrap()),
    }
}

/// The name of the source that a range of addresses belongs to.
fn peer_of_range(range: &str) -> String {
    match range {
        POD_CIDR => Peer::Pods.to_string(),
        CLIENTS => Peer::Clients.to_string(),
        other => panic!("unknown range {other}"),
    }
}

/// Runs a script of `tests/deploy` with the Python that has Heat and the HCL parser.
fn python(script: &str, arguments: &[&str]) -> Output {
    Command::new(project("out/tools/bin/python"))
        .arg(project("tests/deploy").join(script))
        .args(arguments)
        .current_dir(project(""))
        .output()
        .expect("`make tools` installs it")
}

#[test]
fn the_table_in_the_manual_is_the_codes() {
    let text = fs::read_to_string(project("docs/deploying.md")).unwrap();
    let rows: BTreeSet<&str> = text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    for opening in OPENINGS {
        let Opening {
            name,
            on,
            from,
            traffic,
            when,
            purpose,
        } = opening;
        let when = format!("{when:?}").to_lowercase();
        let row = format!("| `{name}` | {on} | {from} | {traffic} | {when} | {purpose} |");
        assert!(
            rows.contains(row.as_str()),
            "docs/deploying.md lacks: {row}"
        );
    }
    assert_eq!(rows.len(), OPENINGS.len());
}

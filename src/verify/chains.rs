//! The rules of iptables without which pods and services have no network.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{Found, Kind, Node, Wrong};
use crate::clients::iptables::{self, Jump};
use crate::language::tr;
use crate::paths;

/// The rules of Calico's Felix, on every node. Each leads from a chain of the kernel to one of its own, which therefore
/// exists.
const OF_CALICO: &[(&str, &str, &str)] = &[("filter", "FORWARD", "cali-FORWARD")];
/// The rules of kube-proxy v1.9.
const OF_PROXY: &[(&str, &str, &str)] = &[
    ("nat", "PREROUTING", "KUBE-SERVICES"),
    ("nat", "OUTPUT", "KUBE-SERVICES"),
    ("nat", "POSTROUTING", "KUBE-POSTROUTING"),
    ("filter", "FORWARD", "KUBE-FORWARD"),
];
/// The unit that keeps pods from the metadata service.
const POD_METADATA: &str = "appliance-pod-metadata.service";
/// A part of the rule in that unit, and the rule as iptables prints it.
const TO_METADATA: (&str, &str) = (
    "-I PREROUTING -i cali+ -d 169.254.169.254/32 -j DROP",
    "-d 169.254.169.254/32 -i cali+ -j DROP",
);

/// Compares them. A rule counts in whichever tables of the kernel it is: nftables, or the older ones.
pub fn compare(node: &Node<'_>, found: &mut Found) -> Result<()> {
    let saved = iptables::saved(node.runner);
    if saved.is_empty() {
        let wrong = Wrong::new(
            tr!("iptables-save does not work, so the rules are not known"),
            "apt-get install iptables",
        );
        found.compared(Kind::Rule, "iptables", Some(wrong));
        return Ok(());
    }
    let jumps: BTreeSet<Jump> = saved
        .iter()
        .flat_map(|saved| iptables::jumps(&saved.text))
        .collect();
    let of_calico = OF_CALICO.iter().map(|jump| (jump, "kube-calico"));
    let of_proxy = OF_PROXY.iter().map(|jump| (jump, "kube-proxy"));
    let of_proxy = of_proxy.filter(|_| node.shape.role.is_worker());
    for (&(table, from, to), service) in of_calico.chain(of_proxy) {
        let wanted = Jump {
            table: table.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
        };
        let wrong = (!jumps.contains(&wanted)).then(|| missing(service));
        found.compared(Kind::Rule, &format!("{table}: {from} to {to}"), wrong);
    }
    let unit = node.root.read(&paths::unit(POD_METADATA)).ok().flatten();
    if unit.is_some_and(|unit| String::from_utf8_lossy(&unit).contains(TO_METADATA.0)) {
        let is_there = saved.iter().any(|saved| saved.text.contains(TO_METADATA.1));
        let wrong = (!is_there).then(|| missing("appliance-pod-metadata"));
        let name = tr!("raw: pods to the metadata service");
        found.compared(Kind::Rule, &name, wrong);
    }
    Ok(())
}

fn missing(service: &str) -> Wrong {
    Wrong::new(tr!("missing"), format!("systemctl restart {service}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::paths::unit;
    use crate::sys::change::Change;
    use crate::sys::process::{Command, Output, Runner};
    use crate::verify::tests::{root, with_node};

    /// Calico's rules are in the older tables, those of kube-proxy in the ones of nftables.
    struct Split {
        nft: &'static str,
    }

    const LEGACY: &str = "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -j cali-FORWARD\nCOMMIT\n";
    const NFT: &str = "*nat\n-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n\
                       -A POSTROUTING -j KUBE-POSTROUTING\nCOMMIT\n*filter\n-A FORWARD -j KUBE-FORWARD\nCOMMIT\n";

    impl Runner for Split {
        fn run(&self, command: &Command) -> Result<Output> {
            let text = match command.to_string().trim() {
                "iptables-legacy-save" => LEGACY,
                "iptables-nft-save" => self.nft,
                other => panic!("{other}"),
            };
            Ok(Output {
                code: Some(0),
                stdout: text.to_owned(),
                stderr: String::new(),
            })
        }
    }

    fn found(nft: &'static str, deny: bool) -> Found {
        let (_dir, root) = root();
        if deny {
            let text = format!("ExecStart=/sbin/iptables -w -t raw {}\n", TO_METADATA.0);
            root.write(&unit(POD_METADATA), text.as_bytes(), 0o644)
                .unwrap();
        }
        with_node(&root, &Split { nft }, |node, found| {
            compare(node, found).unwrap();
        })
    }

    #[test]
    fn rules_count_in_whichever_tables_they_are() {
        let found = found(NFT, false);
        assert_eq!((found.checked, found.differences), (5, Vec::new()));
    }

    #[test]
    fn a_missing_chain_and_a_missing_rule_against_pods_are_found() {
        let found = found("*nat\nCOMMIT\n", true);
        let told: Vec<&str> = found
            .differences
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        let expected = [
            "nat: PREROUTING to KUBE-SERVICES",
            "nat: OUTPUT to KUBE-SERVICES",
            "nat: POSTROUTING to KUBE-POSTROUTING",
            "filter: FORWARD to KUBE-FORWARD",
            "raw: pods to the metadata service",
        ];
        assert_eq!(told, expected);
        assert_eq!(found.differences[0].fix, "systemctl restart kube-proxy");
        assert_eq!(
            found.differences[4].fix,
            "systemctl restart appliance-pod-metadata"
        );
    }
}

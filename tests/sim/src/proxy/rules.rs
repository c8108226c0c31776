//! The packet filter rules of services, in kube-proxy's own chains.

use std::collections::BTreeSet;
use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::services::Port;

/// The built-in chains that jump to kube-proxy's: table, chain, target.
pub const JUMPS: [(&str, &str, &str); 6] = [
    ("filter", "INPUT", "KUBE-SERVICES"),
    ("filter", "OUTPUT", "KUBE-SERVICES"),
    ("filter", "FORWARD", "KUBE-FORWARD"),
    ("nat", "PREROUTING", "KUBE-SERVICES"),
    ("nat", "OUTPUT", "KUBE-SERVICES"),
    ("nat", "POSTROUTING", "KUBE-POSTROUTING"),
];

/// The settings of the rules, from the flags.
pub struct Options {
    /// The pods' network: packets to services from other addresses are masqueraded.
    pub pods: Option<String>,
    /// The packet mark for masquerading, such as `0x4000/0x4000`.
    pub mark: String,
    /// Whether all packets to services are masqueraded.
    pub masquerade_all: bool,
}

/// The input of `iptables-restore` for these ports; `old` are the chains of the nat table:
/// kube-proxy's own chains among them that are no longer needed are removed.
pub fn tables(options: &Options, ports: &[Port], old: &[String]) -> String {
    let mut nat = Nat::default();
    for name in [
        "KUBE-SERVICES",
        "KUBE-NODEPORTS",
        "KUBE-POSTROUTING",
        "KUBE-MARK-MASQ",
    ] {
        nat.chain(name);
    }
    let mark = &options.mark;
    nat.rule(&format!("KUBE-MARK-MASQ -j MARK --set-xmark {mark}"));
    nat.rule(&format!(
        "KUBE-POSTROUTING -m mark --mark {mark} -j MASQUERADE"
    ));
    for port in ports.iter().filter(|port| !port.endpoints.is_empty()) {
        nat.service(options, port);
    }
    nat.rule("KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS");
    let mut gone = String::new();
    for chain in old.iter().filter(|chain| is_own(chain)) {
        if !nat.names.contains(chain) {
            // Declaring a chain empties it; no new rule jumps to it.
            nat.chain(chain);
            gone += &format!("-X {chain}\n");
        }
    }
    let Nat { chains, rules, .. } = nat;
    format!(
        "{}*nat\n{chains}{rules}{gone}COMMIT\n",
        filter(options, ports)
    )
}

/// Whether a chain is one of a service or an endpoint.
fn is_own(chain: &str) -> bool {
    chain.starts_with("KUBE-SVC-") || chain.starts_with("KUBE-SEP-")
}

/// Refuses packets to services without endpoints, and accepts masqueraded packets.
fn filter(options: &Options, ports: &[Port]) -> String {
    let mut text = "*filter\n:KUBE-SERVICES - [0:0]\n:KUBE-FORWARD - [0:0]\n".to_owned();
    for port in ports.iter().filter(|port| port.endpoints.is_empty()) {
        let protocol = port.protocol;
        let mut refuse = |matched: String, number: u16| {
            text += &format!(
                "-A KUBE-SERVICES {matched} -p {protocol} -m {protocol} --dport {number} \
                 -m comment --comment \"{} has no endpoints\" -j REJECT \
                 --reject-with icmp-port-unreachable\n",
                port.name
            );
        };
        refuse(format!("-d {}/32", port.address), port.port);
        if let Some(number) = port.node_port {
            refuse("-m addrtype --dst-type LOCAL".to_owned(), number);
        }
    }
    // Packets of pods to a service without endpoints are forwarded; those of the node itself are
    // not.
    text += "-A KUBE-FORWARD -j KUBE-SERVICES\n";
    text += &format!(
        "-A KUBE-FORWARD -m mark --mark {} -j ACCEPT\n",
        options.mark
    );
    if let Some(pods) = &options.pods {
        for side in ["-s", "-d"] {
            text += &format!(
                "-A KUBE-FORWARD {side} {pods} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
            );
        }
    }
    text + "COMMIT\n"
}

#[derive(Default)]
struct Nat {
    names: BTreeSet<String>,
    chains: String,
    rules: String,
}

impl Nat {
    fn chain(&mut self, name: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.chains, ":{name} - [0:0]");
        self.names.insert(name.to_owned());
    }

    fn rule(&mut self, rule: &str) {
        let _ = writeln!(self.rules, "-A {rule}");
    }

    fn service(&mut self, options: &Options, port: &Port) {
        let (name, protocol) = (&port.name, port.protocol);
        let matched = |number: u16| format!("-p {protocol} -m {protocol} --dport {number}");
        let comment = format!("-m comment --comment \"{name}\"");
        let chain = hashed("KUBE-SVC-", &[name, protocol]);
        self.chain(&chain);
        let to = format!("-d {}/32 {} {comment}", port.address, matched(port.port));
        if options.masquerade_all {
            self.rule(&format!("KUBE-SERVICES {to} -j KUBE-MARK-MASQ"));
        } else if let Some(pods) = &options.pods {
            self.rule(&format!("KUBE-SERVICES ! -s {pods} {to} -j KUBE-MARK-MASQ"));
        }
        self.rule(&format!("KUBE-SERVICES {to} -j {chain}"));
        if let Some(number) = port.node_port {
            // The answer must return through this node.
            for target in ["KUBE-MARK-MASQ", &chain] {
                let matched = matched(number);
                self.rule(&format!("KUBE-NODEPORTS {matched} {comment} -j {target}"));
            }
        }
        self.endpoints(port, &chain, &comment);
    }

    fn endpoints(&mut self, port: &Port, chain: &str, comment: &str) {
        let protocol = port.protocol;
        for (index, (address, number)) in port.endpoints.iter().enumerate() {
            let place = format!("{address}:{number}");
            let endpoint = hashed("KUBE-SEP-", &[&port.name, protocol, &place]);
            self.chain(&endpoint);
            let left = port.endpoints.len() - index;
            // Each of the remaining endpoints has the same probability.
            let chance = if left == 1 {
                String::new()
            } else {
                #[expect(clippy::cast_precision_loss, reason = "a service has few endpoints")]
                let probability = 1.0 / left as f64;
                format!(" -m statistic --mode random --probability {probability:.5}")
            };
            self.rule(&format!("{chain} {comment}{chance} -j {endpoint}"));
            // A pod that connects to itself must not see its own address as the source.
            self.rule(&format!("{endpoint} -s {address}/32 -j KUBE-MARK-MASQ"));
            self.rule(&format!(
                "{endpoint} -p {protocol} -m {protocol} -j DNAT --to-destination {place}"
            ));
        }
    }
}

/// A chain's name: chains have at most 28 characters.
fn hashed(prefix: &str, parts: &[&str]) -> String {
    let digest = hex::encode_upper(Sha256::digest(parts.join(" ")));
    format!("{prefix}{}", &digest[..16])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn port(endpoints: &[&str]) -> Port {
        Port {
            name: "n/a:web".to_owned(),
            protocol: "tcp",
            address: "10.68.0.9".parse().unwrap(),
            port: 80,
            node_port: Some(20080),
            endpoints: endpoints
                .iter()
                .map(|ip| (ip.parse().unwrap(), 8080))
                .collect(),
        }
    }

    fn options() -> Options {
        Options {
            pods: Some("172.20.0.0/16".to_owned()),
            mark: "0x4000/0x4000".to_owned(),
            masquerade_all: false,
        }
    }

    #[test]
    fn every_endpoint_is_as_likely() {
        let text = tables(
            &options(),
            &[port(&["172.20.0.1", "172.20.0.2", "172.20.0.3"])],
            &[],
        );
        let chances: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("-A KUBE-SVC-"))
            .map(|line| {
                line.split("--probability ")
                    .nth(1)
                    .map_or("1", |rest| &rest[..7])
            })
            .collect();
        assert_eq!(chances, ["0.33333", "0.50000", "1"]);
        assert!(!text.contains("REJECT"));
    }

    #[test]
    fn a_service_without_endpoints_is_refused_at_both_its_ports() {
        let text = tables(&options(), &[port(&[])], &[]);
        let refused = text.lines().filter(|line| line.contains("-j REJECT"));
        assert_eq!(refused.count(), 2);
        assert!(!text.contains("KUBE-SVC-"));
    }

    #[test]
    fn chains_that_nothing_needs_any_more_are_removed_and_only_own_ones() {
        let old = ["PREROUTING", "KUBE-SVC-OLD", "DOCKER", "KUBE-MARK-DROP"].map(str::to_owned);
        let text = tables(&options(), &[port(&["172.20.0.1"])], &old);
        let removed: Vec<&str> = text.lines().filter(|line| line.starts_with("-X")).collect();
        assert_eq!(removed, ["-X KUBE-SVC-OLD"]);
        assert!(text.contains(":KUBE-SVC-OLD - [0:0]"));
    }
}

//! Which rules and chains of iptables are Kubernetes' or Calico's. Pure.
//!
//! Names of chains: `pkg/proxy/iptables` and `pkg/kubelet` of Kubernetes v1.9 (`KUBE-`), Felix 2.x `rules` (`cali-`,
//! before version 2.0 `felix-`). Felix marks each of its rules with a comment (`cali:` and a hash).

/// The beginnings of the names of chains.
const CHAINS: [&str; 3] = ["KUBE-", "cali-", "felix-"];
/// The beginnings of the names of sets of addresses (ipset): Felix, and kube-proxy in its mode for IPVS.
const SETS: [&str; 5] = ["cali4", "cali6", "cali-", "felix-", "KUBE-"];
/// The beginning of the comments of Felix' rules.
const COMMENT: &str = "cali:";
/// The rule of the unit `appliance-pod-metadata`.
const POD_METADATA: [&str; 7] = [
    "PREROUTING",
    "-d",
    "169.254.169.254/32",
    "-i",
    "cali+",
    "-j",
    "DROP",
];

/// What removes every rule and every chain of Kubernetes and Calico from the tables of one family of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undo {
    /// The input of `iptables-restore --noflush`, which changes each table as a whole or not at all.
    pub input: String,
    /// How many rules it removes from chains of others.
    pub rules: usize,
    /// How many chains it removes.
    pub chains: usize,
}

/// Finds them in the output of `iptables-save`. `None` if there is nothing to remove.
pub fn undo(saved: &str) -> Option<Undo> {
    let mut undo = Undo {
        input: String::new(),
        rules: 0,
        chains: 0,
    };
    let mut table = Table::default();
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = Table {
                name: name.to_owned(),
                ..Table::default()
            };
        } else if let Some(chain) = line.strip_prefix(':') {
            let name = chain.split_whitespace().next().unwrap_or_default();
            if has_prefix(name, &CHAINS) {
                table.chains.push(name.to_owned());
            }
        } else if let Some(rule) = line.strip_prefix("-A ") {
            if is_of_us_elsewhere(rule) {
                table.rules.push(rule.to_owned());
            }
        } else if line == "COMMIT" {
            table.end(&mut undo);
        }
    }
    (undo.rules + undo.chains > 0).then_some(undo)
}

/// Whether a set of addresses with this name is Calico's or Kubernetes'.
pub fn is_our_set(name: &str) -> bool {
    has_prefix(name, &SETS)
}

#[derive(Default)]
struct Table {
    name: String,
    chains: Vec<String>,
    rules: Vec<String>,
}

impl Table {
    /// Rules first: a chain cannot go while a rule jumps to it.
    fn end(&self, undo: &mut Undo) {
        if self.chains.is_empty() && self.rules.is_empty() {
            return;
        }
        let lines = [format!("*{}", self.name)]
            .into_iter()
            .chain(self.rules.iter().map(|rule| format!("-D {rule}")))
            .chain(self.chains.iter().map(|chain| format!("-F {chain}")))
            .chain(self.chains.iter().map(|chain| format!("-X {chain}")))
            .chain(["COMMIT".to_owned()]);
        for line in lines {
            undo.input.push_str(&line);
            undo.input.push('\n');
        }
        undo.rules += self.rules.len();
        undo.chains += self.chains.len();
    }
}

/// Whether a rule in a chain of others is Kubernetes' or Calico's. It begins with the name of its chain.
fn is_of_us_elsewhere(rule: &str) -> bool {
    let words = words(rule);
    if words.first().is_none_or(|chain| has_prefix(chain, &CHAINS)) {
        return false;
    }
    let after = |option: &str| {
        let pairs = words.windows(2);
        pairs
            .filter(|pair| pair[0] == option)
            .map(|pair| pair[1].as_str())
            .collect::<Vec<_>>()
    };
    let jumps = [after("-j"), after("-g")].concat();
    let is_chain = |name: &&str| has_prefix(name, &CHAINS);
    jumps.iter().any(is_chain)
        || after("--comment").iter().any(|c| c.starts_with(COMMENT))
        || after("--match-set").iter().any(|set| is_our_set(set))
        || words == POD_METADATA
}

fn has_prefix(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// The words of a line of `iptables-save`, which quotes words with blanks and escapes `"` and `\` in them.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut quoted = false;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SAVED: &str = r#"# Generated by iptables-save v1.8.9
*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING -d 169.254.169.254/32 -i cali+ -j DROP
-A PREROUTING -d 169.254.169.254/32 -j ACCEPT
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:KUBE-FIREWALL - [0:0]
:cali-FORWARD - [0:0]
:mine - [0:0]
-A INPUT -m comment --comment "cali:Cz_u1IQiXIMmKD4c" -j cali-INPUT
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A INPUT -m comment --comment "say \"cali:\" -j KUBE-FIREWALL" -j ACCEPT
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m comment --comment "cali:S93hcgKJrXEqnTfs" -m mark --mark 0x10000/0x10000 -j ACCEPT
-A FORWARD -m set --match-set cali40all-hosts src -j ACCEPT
-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP
-A mine -g KUBE-FIREWALL
-A mine -j LOG --log-prefix "KUBE-"
COMMIT
*nat
:DOCKER - [0:0]
-A DOCKER -i docker0 -j RETURN
COMMIT
"#;

    #[test]
    fn only_rules_and_chains_of_kubernetes_and_calico_go() {
        let undo = undo(SAVED).unwrap();
        let expected = r#"*raw
-D PREROUTING -d 169.254.169.254/32 -i cali+ -j DROP
COMMIT
*filter
-D INPUT -m comment --comment "cali:Cz_u1IQiXIMmKD4c" -j cali-INPUT
-D INPUT -j KUBE-FIREWALL
-D FORWARD -m comment --comment "cali:S93hcgKJrXEqnTfs" -m mark --mark 0x10000/0x10000 -j ACCEPT
-D FORWARD -m set --match-set cali40all-hosts src -j ACCEPT
-D mine -g KUBE-FIREWALL
-F KUBE-FIREWALL
-F cali-FORWARD
-X KUBE-FIREWALL
-X cali-FORWARD
COMMIT
"#;
        assert_eq!(undo.input, expected);
        assert_eq!((undo.rules, undo.chains), (6, 2));
    }

    #[test]
    fn a_machine_without_them_needs_nothing() {
        let others = "*filter\n:INPUT DROP [0:0]\n:DOCKER - [0:0]\n-A INPUT -j DOCKER\nCOMMIT\n";
        assert_eq!(undo(others), None);
        assert_eq!(undo(""), None);
    }

    #[test]
    fn sets_of_others_stay() {
        for (name, ours) in [
            ("cali40masq-ipam-pools", true),
            ("cali4-s:abc", true),
            ("KUBE-CLUSTER-IP", true),
            ("california", false),
            ("allowed", false),
        ] {
            assert_eq!(is_our_set(name), ours, "{name}");
        }
    }
}

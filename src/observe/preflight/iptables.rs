//! The rules of iptables, of both backends, and of nftables.

use crate::clients::iptables::{LEGACY, NFT, ONLY, printed, saved};
use crate::preflight::facts::{Firewall, Rules};
use crate::preflight::firewall::iptables::{KUBERNETES, PROGRAMS, hooks};
use crate::preflight::firewall::nft;
use crate::sys::process::Runner;

/// Asks both backends and nftables for their rules.
pub fn read(runner: &dyn Runner) -> Firewall {
    let all = saved(runner);
    let rules = |program| {
        let one = all.iter().find(|one| one.program == program);
        one.map(|one| parse(&one.text))
    };
    let native = printed(runner, "nft", &["--json", "list", "ruleset"]);
    let native = native.and_then(|text| nft::hooks(&text));
    let of_iptables = all.iter().flat_map(|one| hooks(one.program, &one.text));
    Firewall {
        reads_nftables: native.is_some(),
        legacy: rules(LEGACY),
        nft: rules(NFT),
        only: rules(ONLY),
        hooks: of_iptables.chain(native.into_iter().flatten()).collect(),
    }
}

/// Reads the output of `iptables-save`.
fn parse(text: &str) -> Rules {
    let mut rules = Rules::default();
    let is_of = |names: &[&str], word: &str| names.iter().any(|name| word.starts_with(name));
    let mut table = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(chain) = line.strip_prefix(':') {
            let name = chain.split(' ').next().unwrap_or_default();
            if is_of(KUBERNETES, name) {
                rules.chains.push(name.to_owned());
            }
            rules.drops_input |= table == "filter" && chain.starts_with("INPUT DROP");
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let words: Vec<&str> = rule.split(' ').map(|word| word.trim_matches('"')).collect();
            let of_programs = words.iter().any(|word| {
                is_of(KUBERNETES, word) || is_of(PROGRAMS, word) || word.starts_with("docker")
            });
            let is_own = !of_programs && !rule.contains("cali:") && !rule.contains("kubernetes");
            let target = words.iter().skip_while(|word| **word != "-j").nth(1);
            rules.own += usize::from(is_own);
            let drops = is_own && target.is_some_and(|to| *to == "DROP" || *to == "REJECT");
            rules.drops += usize::from(drops);
        }
    }
    rules.chains.sort();
    rules.chains.dedup();
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_rules_are_told_from_those_of_programs() {
        let text = "# Generated\n*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n:KUBE-SERVICES - [0:0]\n\
                    -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
                    -A PREROUTING -m comment --comment \"cali:6gwbT8clXdHdC1b1\" -j cali-PREROUTING\n\
                    -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\nCOMMIT\n\
                    *filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:cali-INPUT - [0:0]\n\
                    -A INPUT -i lo -j ACCEPT\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n\
                    -A INPUT -j REJECT --reject-with icmp-host-prohibited\nCOMMIT\n";
        let rules = parse(text);
        assert_eq!((rules.own, rules.drops), (3, 1));
        assert!(rules.drops_input);
        assert_eq!(rules.chains, ["KUBE-SERVICES", "cali-INPUT"]);
        assert_eq!(parse(""), Rules::default());
        assert!(!parse("*filter\n:INPUT ACCEPT [1:2]\n:FORWARD DROP [0:0]\n").drops_input);
    }
}

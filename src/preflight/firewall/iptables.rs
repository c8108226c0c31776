//! Reads what `iptables-save` prints (iptables(8), iptables-extensions(8)).

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use crate::language::tr;

use super::{Hook, Match, Rule, Verdict};

/// The chains through which packets to this machine go, and that may drop them.
const HOOKS: [(&str, &str); 4] = [
    ("raw", "PREROUTING"),
    ("mangle", "PREROUTING"),
    ("mangle", "INPUT"),
    ("filter", "INPUT"),
];
/// How the chains of a Kubernetes begin.
pub const KUBERNETES: &[&str] = &["KUBE-", "cali-", "CILIUM", "FLANNEL", "WEAVE"];
/// How the chains of programs begin that make their rules themselves.
pub const PROGRAMS: &[&str] = &["DOCKER", "CNI-", "NETAVARK"];
/// Targets after which the next rule decides.
const CONTINUE: &[&str] = &[
    "AUDIT", "CHECKSUM", "CLASSIFY", "CONNMARK", "CT", "DSCP", "HL", "LOG", "MARK", "NFLOG",
    "NOTRACK", "SET", "TCPMSS", "TOS", "TRACE", "TTL", "ULOG",
];
/// Modules that look at nothing by themselves, but by their options.
const MODULES: &[&str] = &[
    "addrtype",
    "comment",
    "conntrack",
    "icmp",
    "multiport",
    "state",
    "tcp",
    "udp",
];

/// The hooks in the output of the program of that name that drop something.
pub fn hooks(program: &str, text: &str) -> Vec<Hook> {
    let mut tables: BTreeMap<&str, Table<'_>> = BTreeMap::new();
    let mut name = "";
    for line in text.lines() {
        if let Some(table) = line.strip_prefix('*') {
            name = table;
            continue;
        }
        let table = tables.entry(name).or_default();
        if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split(' ');
            if let (Some(chain), Some(policy)) = (words.next(), words.next()) {
                table.policies.insert(chain, policy);
            }
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let (chain, rest) = rule.split_once(' ').unwrap_or((rule, ""));
            table.rules.push((chain, line, rest));
        }
    }
    let hook = |(table, chain): &(&str, &str)| tables.get(table)?.hook(program, chain);
    HOOKS.iter().filter_map(hook).collect()
}

#[derive(Default)]
struct Table<'a> {
    policies: BTreeMap<&'a str, &'a str>,
    /// The chain, the line, and the line after the chain.
    rules: Vec<(&'a str, &'a str, &'a str)>,
}

impl Table<'_> {
    fn hook(&self, program: &str, chain: &str) -> Option<Hook> {
        let drops = *self.policies.get(chain)? == "DROP";
        let mut chains: BTreeMap<String, Vec<Rule>> = BTreeMap::new();
        for (chain, line, rest) in &self.rules {
            let rule = self.rule(program, line, rest);
            chains.entry((*chain).to_owned()).or_default().extend(rule);
        }
        (drops || chains.contains_key(chain)).then(|| Hook {
            chain: chain.to_owned(),
            drops,
            policy: tr!("the policy of {chain} in {program}", chain, program),
            chains,
        })
    }

    /// The rule, unless its chain is one of a program that makes the rules itself: it opens what it needs.
    fn rule(&self, program: &str, line: &str, rest: &str) -> Option<Rule> {
        let words = words(rest);
        let mut words = words.iter().map(String::as_str);
        let (mut matches, mut not) = (Vec::new(), false);
        let mut verdict = Verdict::Continue;
        while let Some(word) = words.next() {
            if word == "!" {
                not = true;
                continue;
            }
            if matches!(word, "-j" | "-g") {
                verdict = self.verdict(word, words.next()?)?;
                break;
            }
            matches.extend(condition(word, not, &mut words));
            not = false;
        }
        Some(Rule {
            matches,
            verdict,
            name: tr!("`{line}` of {program}", line, program),
        })
    }

    fn verdict(&self, option: &str, target: &str) -> Option<Verdict> {
        let mut names = KUBERNETES.iter().chain(PROGRAMS);
        if names.any(|name| target.starts_with(name)) {
            return None;
        }
        Some(match (option, target) {
            ("-g", chain) => Verdict::Goto(chain.to_owned()),
            (_, "ACCEPT") => Verdict::Accept,
            (_, "DROP" | "REJECT") => Verdict::Drop,
            (_, "RETURN") => Verdict::Return,
            (_, chain) if self.policies.contains_key(chain) => Verdict::Jump(chain.to_owned()),
            (_, target) if CONTINUE.contains(&target) => Verdict::Continue,
            _ => Verdict::Unknown,
        })
    }
}

/// What an option looks at.
fn condition<'a>(
    option: &str,
    not: bool,
    values: &mut impl Iterator<Item = &'a str>,
) -> Option<Match> {
    let mut value = || values.next().unwrap_or_default();
    Some(match option {
        "-m" => match MODULES.contains(&value()) {
            true => return None,
            false => Match::Unknown,
        },
        "--comment" => {
            value();
            return None;
        }
        "-p" => Match::Protocol(protocol(value()), not),
        "--dport" | "--dports" | "--destination-port" | "--destination-ports" => {
            ports(value()).map_or(Match::Unknown, |ports| Match::Port(ports, not))
        }
        // The packets come from another machine.
        "-i" if value() == "lo" => Match::known(not),
        "-s" => source(value(), not),
        "-d" => match value().parse::<Ipv4Net>() {
            Ok(range) => Match::To(vec![range], not),
            Err(_) => Match::Unknown,
        },
        "-f" => Match::known(not),
        "--syn" => Match::known(!not),
        "--tcp-flags" => {
            let (looked_at, set) = (value(), value());
            let has_syn = looked_at
                .split(',')
                .any(|flag| matches!(flag, "SYN" | "ALL"));
            let fits = if has_syn { set == "SYN" } else { set == "NONE" };
            Match::known(fits != not)
        }
        "--ctstate" | "--state" => {
            let is_new = value().split(',').any(|state| state == "NEW");
            Match::known(is_new != not)
        }
        "--dst-type" => match value() {
            "LOCAL" => Match::known(!not),
            "BROADCAST" | "MULTICAST" | "ANYCAST" => Match::known(not),
            _ => Match::Unknown,
        },
        // Values of unknown options are read as options, and unknown, too.
        _ => Match::Unknown,
    })
}

/// The number of a protocol, by number or by the name in /etc/protocols; none if it is of no use here. No number
/// stands for all.
fn protocol(name: &str) -> Vec<u8> {
    match name {
        "all" | "0" => (0..=u8::MAX).collect(),
        "tcp" => vec![6],
        "udp" => vec![17],
        "ipencap" => vec![4],
        name => name.parse().into_iter().collect(),
    }
}

/// Ports such as `80`, `80,443:450`.
fn ports(text: &str) -> Option<Vec<(u16, u16)>> {
    let range = |text: &str| {
        let (first, last) = text.split_once(':').unwrap_or((text, text));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    text.split(',').map(range).collect()
}

fn source(text: &str, not: bool) -> Match {
    match text.parse::<Ipv4Net>() {
        Ok(range) if range.prefix_len() == 0 => Match::known(!not),
        Ok(range) if range.addr().is_loopback() => Match::known(not),
        _ => Match::Unknown,
    }
}

/// The words of a line. It quotes words with blanks, and escapes `"` and `\` in them.
pub fn words(line: &str) -> Vec<String> {
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
    use super::words;

    #[test]
    fn a_word_in_quotes_is_one_word_even_if_it_is_empty() {
        let line = r#"-A INPUT  -m comment --comment "say \"-j DROP\"" --comment "" -j ACCEPT"#;
        let expected = [
            "-A",
            "INPUT",
            "-m",
            "comment",
            "--comment",
            "say \"-j DROP\"",
            "--comment",
            "",
            "-j",
            "ACCEPT",
        ];
        assert_eq!(words(line), expected);
    }
}

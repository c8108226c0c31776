//! Reads the rules of iptables, of both backends.

use std::time::Duration;

use crate::sys::process::{Command, Runner};

/// How long `iptables-save` may take: it waits for the lock of iptables.
const LIMIT: Duration = Duration::from_secs(20);
/// The programs that print the rules of one backend, and the program of machines with only one.
const BACKENDS: [&str; 2] = ["iptables-legacy-save", "iptables-nft-save"];
const ONLY: &str = "iptables-save";

/// A rule that leads from one chain to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Jump {
    /// The table.
    pub table: String,
    /// The chain of the rule.
    pub from: String,
    /// The chain that it leads to, or another target.
    pub to: String,
}

/// What the program of each backend prints; none if no program works.
pub fn saved(runner: &dyn Runner) -> Vec<String> {
    let both: Vec<String> = BACKENDS
        .iter()
        .filter_map(|name| save(runner, name))
        .collect();
    match both.is_empty() {
        true => save(runner, ONLY).into_iter().collect(),
        false => both,
    }
}

fn save(runner: &dyn Runner, program: &str) -> Option<String> {
    let output = runner.run(&Command::new(program, &[]).within(LIMIT));
    let output = output.map_err(|error| log::debug!("{error:#}")).ok()?;
    output.success().then_some(output.stdout)
}

/// The jumps in the output of `iptables-save`.
pub fn jumps(saved: &str) -> Vec<Jump> {
    let mut table = "";
    let mut jumps = Vec::new();
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name.trim();
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let words: Vec<&str> = rule.split_whitespace().collect();
            let to = words.iter().skip_while(|word| **word != "-j").nth(1);
            jumps.extend(words.first().zip(to).map(|(from, to)| Jump {
                table: table.to_owned(),
                from: (*from).to_owned(),
                to: (*to).to_owned(),
            }));
        }
    }
    jumps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_are_read_with_their_table() {
        let text = "*nat\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -m comment --comment \"kubernetes service portals\" \
                    -j KUBE-SERVICES\nCOMMIT\n*filter\n:FORWARD DROP [0:0]\n\
                    -A FORWARD -m comment --comment \"cali:wUHhoiAYhphO9Mso\" -j cali-FORWARD\n-A INPUT -i lo\nCOMMIT\n";
        let jump = |table: &str, from: &str, to: &str| Jump {
            table: table.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
        };
        assert_eq!(
            jumps(text),
            [
                jump("nat", "PREROUTING", "KUBE-SERVICES"),
                jump("filter", "FORWARD", "cali-FORWARD")
            ]
        );
    }
}

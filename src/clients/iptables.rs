//! Reads the rules of a machine: those of iptables, of both backends, and those of other programs.

use std::time::Duration;

use crate::preflight::firewall::iptables::words;
use crate::sys::process::{Command, Runner};

/// How long `iptables-save` may take: it waits for the lock of iptables.
const LIMIT: Duration = Duration::from_secs(20);
/// The program that prints the rules of the older tables.
pub const LEGACY: &str = "iptables-legacy-save";
/// The program that prints those of nftables which iptables made.
pub const NFT: &str = "iptables-nft-save";
/// The program of machines with only one backend.
pub const ONLY: &str = "iptables-save";

/// The rules of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The program that printed them.
    pub program: &'static str,
    /// What it printed.
    pub text: String,
}

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
pub fn saved(runner: &dyn Runner) -> Vec<Saved> {
    let save = |program| {
        let text = printed(runner, program, &[])?;
        Some(Saved { program, text })
    };
    let both: Vec<Saved> = [LEGACY, NFT].into_iter().filter_map(save).collect();
    match both.is_empty() {
        true => save(ONLY).into_iter().collect(),
        false => both,
    }
}

/// What a program that lists rules prints; `None` if there is no such program, or if it fails.
pub fn printed(runner: &dyn Runner, program: &str, arguments: &[&str]) -> Option<String> {
    let output = runner.run(&Command::new(program, arguments).within(LIMIT));
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
            let words = words(rule);
            let to = words.iter().skip_while(|word| *word != "-j").nth(1);
            jumps.extend(words.first().zip(to).map(|(from, to)| Jump {
                table: table.to_owned(),
                from: from.clone(),
                to: to.clone(),
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

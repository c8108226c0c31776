//! Packet filter rules, in separate chains.

use anyhow::Result;

/// Loads `tables`, the input of `iptables-restore`, completely or not at all. A chain that is
/// declared in it is emptied; others stay as they are.
///
/// # Errors An error of `iptables-restore`.
pub fn restore(tables: &str) -> Result<()> {
    super::run("iptables-restore", &["--noflush"], tables).map(|_| ())
}

/// The names of the chains in `table`.
///
/// # Errors An error of `iptables-save`.
pub fn chains(table: &str) -> Result<Vec<String>> {
    let saved = super::run("iptables-save", &["-t", table], "")?;
    let names = saved.lines().filter_map(|line| line.strip_prefix(':'));
    Ok(names
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect())
}

/// Inserts the rule `-j target` first into a built-in chain, unless it has this rule.
///
/// # Errors An error of `iptables`.
pub fn jump(table: &str, chain: &str, target: &str) -> Result<()> {
    let rule = |verb| ["-w", "-t", table, verb, chain, "-j", target];
    if super::run("iptables", &rule("-C"), "").is_ok() {
        return Ok(());
    }
    super::run("iptables", &rule("-I"), "").map(|_| ())
}

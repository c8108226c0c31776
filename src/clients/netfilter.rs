//! Runs iptables and ipset. Kubernetes and Calico may write to both kinds of tables of one kernel: those of nftables
//! (`iptables-nft`), and the older ones (`iptables-legacy`).

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::removal::network::{Undo, is_our_set, undo};
use crate::sys::process::{Command, Output, Runner, argument};
use crate::sys::retry::{Failure, Schedule, permanent, retried, transient};
use crate::sys::root::Root;
use crate::sys::scratch;

/// Where programs for administrators are.
const DIRECTORIES: [&str; 5] = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"];
/// The programs that print and change the tables of one kind. An older distribution has one kind, without a name.
const KINDS: [[&str; 2]; 4] = [
    ["iptables-legacy-save", "iptables-legacy-restore"],
    ["iptables-nft-save", "iptables-nft-restore"],
    ["ip6tables-legacy-save", "ip6tables-legacy-restore"],
    ["ip6tables-nft-save", "ip6tables-nft-restore"],
];
const ONLY_KIND: [[&str; 2]; 2] = [
    ["iptables-save", "iptables-restore"],
    ["ip6tables-save", "ip6tables-restore"],
];
/// How often a change is tried again, because another program has the lock of the tables.
const TRIES: usize = 5;

/// How long the kernel may take to release a set.
const RELEASE: Duration = Duration::from_secs(20);
/// The longest pause between two attempts.
const LOOK: Duration = Duration::from_secs(1);

/// The path of a program for administrators; `None` if this machine does not have it.
pub fn program(root: &Root, name: &str) -> Result<Option<String>> {
    for directory in DIRECTORIES {
        let path = format!("{directory}/{name}");
        if root.exists(&path)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// For each kind of tables of this machine: the path of the program that prints it, and of the one that changes it.
pub fn kinds(root: &Root) -> Result<Vec<[String; 2]>> {
    let both = |names: &[&str; 2]| -> Result<Option<[String; 2]>> {
        let found = (program(root, names[0])?, program(root, names[1])?);
        Ok(match found {
            (Some(save), Some(restore)) => Some([save, restore]),
            _ => None,
        })
    };
    let mut kinds = Vec::new();
    for names in &KINDS {
        kinds.extend(both(names)?);
    }
    if kinds.is_empty() {
        for names in &ONLY_KIND {
            kinds.extend(both(names)?);
        }
    }
    Ok(kinds)
}

/// What removes the rules and chains of Kubernetes and Calico from the tables that `save` prints. `None` also if the
/// kernel has no tables of this kind.
pub fn found(runner: &dyn Runner, save: &str) -> Result<Option<Undo>> {
    let output = runner.run(&Command::new(save, &[]))?;
    if !output.success() {
        log::debug!("{save}: {}", output.stderr.trim());
        return Ok(None);
    }
    Ok(undo(&output.stdout))
}

/// Removes them. The tables are read again: others may have changed them.
pub fn remove(runner: &dyn Runner, save: &str, restore: &str) -> Result<()> {
    for tries_left in (0..TRIES).rev() {
        let Some(undo) = found(runner, save)? else {
            return Ok(());
        };
        let file = scratch::named(undo.input.as_bytes()).context("cannot write a file for it")?;
        let change = Command::new(restore, &["--noflush", argument(file.path())?]);
        match runner.run(&change)? {
            output if output.success() => {}
            output if tries_left > 0 => log::debug!("{restore}: {}", output.stderr.trim()),
            output => return output.of(&change).map(drop),
        }
    }
    Ok(())
}

/// The policy of the chain FORWARD; `None` without iptables.
pub fn forward_policy(runner: &dyn Runner, root: &Root) -> Result<Option<String>> {
    let Some(iptables) = program(root, "iptables")? else {
        return Ok(None);
    };
    let output = runner.run(&Command::new(&iptables, &["-w", "-S", "FORWARD"]))?;
    let policy = |output: &Output| {
        let line = output.stdout.lines().next()?;
        Some(line.strip_prefix("-P FORWARD ")?.trim().to_owned())
    };
    Ok(policy(&output))
}

/// Sets the policy of the chain FORWARD.
pub fn set_forward_policy(runner: &dyn Runner, root: &Root, policy: &str) -> Result<()> {
    let iptables = program(root, "iptables")?.context("iptables is missing")?;
    let set = Command::new(&iptables, &["-w", "-P", "FORWARD", policy]);
    runner.check(&set).map(drop)
}

/// The names of the sets of addresses that are Calico's or Kubernetes'. None without ipset, with a note if the
/// kernel may have some.
pub fn sets(runner: &dyn Runner, root: &Root) -> Result<Vec<String>> {
    let Some(ipset) = program(root, "ipset")? else {
        if Path::new("/sys/module/ip_set").exists() {
            log::debug!("this machine has no ipset: sets of addresses stay until the next boot");
        }
        return Ok(Vec::new());
    };
    let output = runner.run(&Command::new(&ipset, &["list", "-n"]))?;
    let names = output.stdout.lines().map(str::trim);
    Ok(names
        .filter(|name| is_our_set(name))
        .map(str::to_owned)
        .collect())
}

/// Removes those sets of addresses. A set of sets goes before its members can, and the kernel releases the sets of a rule
/// some time after the rule.
pub fn remove_sets(runner: &dyn Runner, root: &Root) -> Result<()> {
    let Some(ipset) = program(root, "ipset")? else {
        return Ok(());
    };
    let schedule = Schedule::until(Instant::now() + RELEASE, LOOK);
    let outcome = retried("removing ipsets", schedule, || {
        let mut failed = Ok(());
        for name in sets(runner, root).map_err(permanent)? {
            let destroy = Command::new(&ipset, &["destroy", &name]);
            failed = failed.and(runner.check(&destroy).map(drop));
        }
        failed.map_err(transient)
    });
    outcome.map_err(Failure::into_error)
}

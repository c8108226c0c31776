//! The rules of the layout. Each returns what breaks it, in words; nothing if it holds.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{Segments, Tree, room};

/// The rooms that are given everything they look at.
pub const PURE: &[&str] = &[
    "addons",
    "components",
    "desired",
    "digest",
    "kubeconfig",
    "nodespec",
    "paths",
    "plan",
    "preflight",
    "records",
    "render",
    "user_data",
    "workloads",
];
/// The rooms that reach the machine or the network.
const MACHINE: &[&str] = &["apply", "clients", "observe", "sys"];
/// What reaches them without a room of the program.
const MACHINE_CRATES: &[&str] = &[
    "axum",
    "docker_credential",
    "hickory_resolver",
    "hyper",
    "hyper_util",
    "indicatif",
    "nix",
    "oci_client",
    "procfs",
    "reqwest",
    "std::env",
    "std::fs",
    "std::net",
    "std::os::unix::net",
    "std::process",
    "std::thread",
    "tempfile",
    "tokio",
    "tokio_rustls",
];
/// The rooms that know how the command line is read.
const COMMAND_LINE: &[&str] = &["cli", "commands"];
/// The rooms that write files: `apply` the node's, `enroll` its keys, `image` golden images and
/// `bundle` payloads. `join` notes tokens and nodes while it serves, when no command runs.
const WRITERS: &[&str] = &["apply", "bundle", "enroll", "image", "join", "sys"];
/// What writes.
const WRITING: &[&str] = &[
    "crate::sys::atomic",
    "crate::sys::change",
    "std::fs::DirBuilder",
    "std::fs::File::create",
    "std::fs::File::create_new",
    "std::fs::File::options",
    "std::fs::OpenOptions",
    "std::fs::copy",
    "std::fs::create_dir",
    "std::fs::create_dir_all",
    "std::fs::hard_link",
    "std::fs::remove_dir",
    "std::fs::remove_dir_all",
    "std::fs::remove_file",
    "std::fs::rename",
    "std::fs::set_permissions",
    "std::fs::write",
    "std::os::unix::fs::symlink",
    "tempfile",
];

/// A rule: what breaks it in a tree.
pub type Rule = fn(&Tree) -> Vec<String>;

/// All rules.
pub const RULES: &[Rule] = &[
    no_circle_between_rooms,
    no_circle_between_files,
    pure_rooms_stay_pure,
    only_commands_know_the_command_line,
    only_writers_write,
    sys_is_a_leaf,
    readers_do_not_reach_the_writer,
];

/// Rooms import each other in one direction only.
pub fn no_circle_between_rooms(tree: &Tree) -> Vec<String> {
    let named = tree.rooms_named();
    let mut broken = Vec::new();
    for (room, others) in &named {
        for (other, file) in others {
            if let Some(way) = way(&named, other, room) {
                let way = way.join(" -> ");
                broken.push(format!("{file} imports {other}, but {way}"));
            }
        }
    }
    broken
}

/// Files import each other in one direction only; a module and those below it are one.
pub fn no_circle_between_files(tree: &Tree) -> Vec<String> {
    let is_part = |one: &str, other: &str| one.starts_with(&format!("{other}::"));
    let mut named: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for (name, module) in tree.modules() {
        let others = module.own.iter().map(String::as_str);
        let others = others.filter(|other| !is_part(other, name) && !is_part(name, other));
        named.insert(name, others.map(|other| (other, name.as_str())).collect());
    }
    let mut broken = Vec::new();
    for (name, others) in &named {
        for other in others.keys() {
            if let Some(way) = way(&named, other, name) {
                broken.push(format!("{name} imports {}", way.join(" -> ")));
            }
        }
    }
    broken
}

fn way<'a>(
    named: &BTreeMap<&'a str, BTreeMap<&'a str, &str>>,
    from: &'a str,
    to: &'a str,
) -> Option<Vec<&'a str>> {
    let mut seen = BTreeSet::from([from]);
    let mut ways = vec![vec![from]];
    while let Some(way) = ways.pop() {
        let last = *way.last()?;
        if last == to {
            return Some(way);
        }
        for next in named.get(last).into_iter().flatten().map(|(next, _)| *next) {
            if seen.insert(next) {
                ways.push([&way[..], &[next]].concat());
            }
        }
    }
    None
}

/// Pure rooms reach neither the machine nor the network, by any way.
pub fn pure_rooms_stay_pure(tree: &Tree) -> Vec<String> {
    let modules: BTreeMap<_, _> = tree.modules().collect();
    let mut broken = Vec::new();
    for name in modules.keys().filter(|name| PURE.contains(&room(name))) {
        for (reached, way) in tree.reached(name) {
            let way = way.join(" -> ");
            if MACHINE.contains(&room(reached)) {
                broken.push(format!("{name} reaches the machine: {way}"));
            }
            let foreign = &modules[&reached.to_owned()].foreign;
            for path in foreign.iter().filter(|path| is_any(path, MACHINE_CRATES)) {
                broken.push(format!("{name} reaches {}: {way}", path.join("::")));
            }
        }
    }
    broken
}

/// Only `cli` and `commands` know the command line, and nobody imports those two.
pub fn only_commands_know_the_command_line(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, module) in tree.modules() {
        if COMMAND_LINE.contains(&room(name)) {
            continue;
        }
        let clap = |path: &&Segments| path[0].starts_with("clap");
        let foreign = module.foreign.iter().filter(clap);
        broken.extend(foreign.map(|path| format!("{name} names {}", path.join("::"))));
        let own = module.own.iter();
        let own = own.filter(|other| COMMAND_LINE.contains(&room(other)));
        broken.extend(own.map(|other| format!("{name} imports {other}")));
    }
    broken
}

/// Only the writers' rooms write files.
pub fn only_writers_write(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, module) in tree.modules() {
        if WRITERS.contains(&room(name)) {
            continue;
        }
        let foreign = module.foreign.iter();
        let foreign = foreign.filter(|path| is_any(path, WRITING));
        broken.extend(foreign.map(|path| format!("{name} writes with {}", path.join("::"))));
        let own = module.own.iter().map(|other| format!("crate::{other}"));
        let own = own.filter(|other| WRITING.contains(&other.as_str()));
        broken.extend(own.map(|other| format!("{name} writes with {other}")));
    }
    broken
}

/// `sys` knows the machine, and nothing of Kubernetes: it imports digests only.
pub fn sys_is_a_leaf(tree: &Tree) -> Vec<String> {
    let named = tree.rooms_named();
    let others = named.get("sys").into_iter().flatten();
    let others = others.filter(|(other, _)| **other != "digest");
    others
        .map(|(other, file)| format!("{file} imports {other}"))
        .collect()
}

/// Whoever only reads does not reach what writes the node.
pub fn readers_do_not_reach_the_writer(tree: &Tree) -> Vec<String> {
    const READERS: &[&str] = &["check", "clients", "metadata", "observe", "status"];
    let mut broken = Vec::new();
    for (name, _) in tree.modules() {
        if !READERS.contains(&room(name)) {
            continue;
        }
        for (reached, way) in tree.reached(name) {
            if room(reached) == "apply" {
                broken.push(format!("{name} reaches the writer: {}", way.join(" -> ")));
            }
        }
    }
    broken
}

/// Whether the path is one of `names` or leads into one, or takes all of what one is in.
fn is_any(path: &[String], names: &[&str]) -> bool {
    names.iter().any(|name| {
        let name: Vec<&str> = name.split("::").collect();
        if path.last().is_some_and(|last| last == "*") {
            let before = &path[..path.len() - 1];
            return name.starts_with(&before.iter().map(String::as_str).collect::<Vec<_>>());
        }
        path.len() >= name.len() && name.iter().zip(path).all(|(one, other)| one == other)
    })
}

//! The rules of the layout. Each returns its violations, in words; nothing if there are none.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{METHOD, Segments, Tree, room};

/// The pure rooms, which get all their input as arguments.
pub const PURE: &[&str] = &[
    "addons",
    "components",
    "desired",
    "digest",
    "formats",
    "doctor",
    "kubeconfig",
    "language",
    "nodespec",
    "paths",
    "plan",
    "preflight",
    "records",
    "removal",
    "render",
    "timeline",
    "user_data",
    "workloads",
];
/// The rooms that reach the machine or the network.
const MACHINE: &[&str] = &["apply", "clients", "observe", "sys"];
/// The imports that reach them directly.
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
    "rustix",
    "std::env",
    "std::fs",
    "std::net",
    "std::io::stdin",
    "std::os::unix",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "tempfile",
    "tokio",
    "tokio_rustls",
];
/// The methods of paths that read the file system.
const PATH_METHODS: &[&str] = &[
    "canonicalize",
    "exists",
    "is_dir",
    "is_file",
    "is_symlink",
    "metadata",
    "read_dir",
    "read_link",
    "symlink_metadata",
    "try_exists",
];
/// The rooms that know clap.
const COMMAND_LINE: &[&str] = &["cli", "commands"];
/// The rooms that write files: `apply` those of the node, `enroll` its keys, `image` golden images
/// and `bundle` payloads, `backup` backups, and `restore` what is in them. `join` records tokens and nodes while it serves, when no command runs.
const WRITERS: &[&str] = &[
    "apply", "backup", "bundle", "enroll", "image", "join", "restore", "sys",
];
/// The imports that write.
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
    "nix::unistd::mkdir",
    "nix::unistd::unlink",
    "std::os::unix::fs::chown",
    "std::os::unix::fs::fchown",
    "std::os::unix::fs::symlink",
    "tempfile",
];

/// A rule: its violations in a tree.
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

/// Files import each other in one direction only; a module and the modules below it count as one.
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

/// Pure rooms reach neither the machine nor the network, also not through other rooms.
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
            let reaches = |path: &&Segments| is_any(path, MACHINE_CRATES) || asks_disk(path);
            for path in foreign.iter().filter(reaches) {
                broken.push(format!("{name} reaches {}: {way}", path.join("::")));
            }
        }
    }
    broken
}

/// Only `cli` and `commands` import clap, and no other room imports those two.
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

/// Only the rooms that may write do so.
pub fn only_writers_write(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, module) in tree.modules() {
        let output = module.own.contains("sys::out") && room(name) != "commands";
        broken.extend(output.then(|| format!("{name} writes with crate::sys::out")));
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

/// `sys` depends on the machine, not on Kubernetes: it imports digests and the language of messages.
pub fn sys_is_a_leaf(tree: &Tree) -> Vec<String> {
    let named = tree.rooms_named();
    let others = named.get("sys").into_iter().flatten();
    let others = others.filter(|(other, _)| !["digest", "language"].contains(other));
    others
        .map(|(other, file)| format!("{file} imports {other}"))
        .collect()
}

/// Rooms that only read do not reach the code that changes the node.
pub fn readers_do_not_reach_the_writer(tree: &Tree) -> Vec<String> {
    const READERS: &[&str] = &[
        "check", "clients", "metadata", "observe", "status", "support",
    ];
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

/// Whether it is a method of paths that reads the file system.
fn asks_disk(path: &[String]) -> bool {
    matches!(path, [of, method] if of == METHOD && PATH_METHODS.contains(&method.as_str()))
}

/// Whether the path is one of `names` or is below one, or imports everything of its parent.
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

//! The layout of the source: which room imports which, directly or through others.

pub mod paths;
mod rules;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use rules::{
    RULES, Rule, no_circle_between_files, no_circle_between_rooms,
    only_commands_know_the_command_line, only_writers_write, pure_rooms_stay_pure,
    readers_do_not_reach_the_writer, sys_is_a_leaf,
};
use tree::{Tree, sources};

#[test]
fn the_layout_holds() {
    let tree = Tree::of(&sources());
    let broken: Vec<String> = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// With `text` added to the module, the rule must fail with `complaint`.
#[track_caller]
fn plant(rule: Rule, module: &str, text: &str, complaint: &str) {
    static READ: LazyLock<(BTreeMap<String, String>, Tree)> = LazyLock::new(|| {
        let sources = sources();
        let tree = Tree::of(&sources);
        (sources, tree)
    });
    let (sources, tree) = &*READ;
    let source = format!("{}\n{text}\n", sources[module]);
    let broken = rule(&tree.with(module, &source, sources));
    assert!(
        broken.iter().any(|problem| problem.contains(complaint)),
        "`{text}` in {module} was not found: {broken:?}"
    );
}

#[test]
fn a_circle_between_rooms_is_found() {
    let rule = no_circle_between_rooms;
    plant(
        rule,
        "records::state",
        "use crate::observe::records;",
        "records::state imports observe",
    );
    // In a group, and through a third room.
    plant(
        rule,
        "nodespec::mtu",
        "use crate::{desired::{Content, File}, digest};",
        "nodespec::mtu imports desired",
    );
    // Without an import.
    plant(
        rule,
        "sys::http",
        "fn f() { crate::join::registry::open(); }",
        "sys::http imports join",
    );
}

#[test]
fn a_circle_between_files_is_found() {
    plant(
        no_circle_between_files,
        "nodespec::network",
        "use super::labels::Label;",
        "nodespec::network imports nodespec::labels -> nodespec::network",
    );
}

#[test]
fn a_pure_room_that_reaches_the_machine_is_found() {
    let rule = pure_rooms_stay_pure;
    let planted = [
        ("plan", "use crate::sys::root::Root;", "plan -> sys::root"),
        (
            "desired::files",
            "use std::{collections::BTreeSet as S, fs};",
            "reaches std::fs: desired::files",
        ),
        ("records::names", "use std::fs as files;", "std::fs"),
        (
            "components",
            "use std as all; fn f() { all::process::id(); }",
            "std::process::id",
        ),
        (
            "render",
            "fn f() { std::net::TcpStream::connect(1); }",
            "render reaches std::net::TcpStream",
        ),
        (
            "nodespec::value",
            "fn f() -> String { format!(\"{}\", std::env::temp_dir().display()) }",
            "std::env::temp_dir",
        ),
        ("paths", "use std::*;", "paths reaches std::*"),
        ("paths", "use nix::unistd::getuid;", "nix::unistd::getuid"),
        (
            "workloads",
            "fn f(path: &std::path::Path) -> bool { path.exists() }",
            "workloads reaches (method)::exists",
        ),
        (
            "paths",
            "extern crate nix as n; fn f() { n::unistd::getuid(); }",
            "paths reaches nix::unistd::getuid",
        ),
        // Through two more rooms: `desired` imports `addons`, and `plan` imports `desired`.
        (
            "addons::object",
            "use reqwest::blocking::Client;",
            "plan reaches reqwest::blocking::Client: plan -> desired",
        ),
        (
            "metadata::model",
            "use super::service::Service;",
            "nodespec reaches the machine: nodespec -> metadata::model -> metadata::service",
        ),
    ];
    for (module, text, complaint) in planted {
        plant(rule, module, text, complaint);
    }
}

#[test]
fn a_domain_that_knows_the_command_line_is_found() {
    let rule = only_commands_know_the_command_line;
    plant(
        rule,
        "metadata",
        "#[derive(clap::ValueEnum)] enum E {}",
        "metadata names clap::ValueEnum",
    );
    plant(rule, "check", "use clap::Args;", "check names clap::Args");
    plant(
        rule,
        "enroll",
        "use crate::{cli::Output, paths};",
        "enroll imports cli",
    );
}

#[test]
fn a_writer_in_another_room_is_found() {
    let rule = only_writers_write;
    let planted = [
        (
            "observe::node",
            "fn f() { std::fs::write(\"a\", \"b\"); }",
            "std::fs::write",
        ),
        (
            "status",
            "use std::fs::File as F; fn f() { F::create(\"a\"); }",
            "std::fs::File::create",
        ),
        (
            "clients::kubectl",
            "use crate::sys::{change::Change, root};",
            "crate::sys::change",
        ),
        (
            "commands::status",
            "use crate::sys::atomic;",
            "crate::sys::atomic",
        ),
        (
            "status",
            "use crate::sys::out; fn f() { let _ = out::file(p, 0, b\"\"); }",
            "crate::sys::out",
        ),
        (
            "status",
            "type F = std::fs::File; fn f() { F::create(\"a\"); }",
            "std::fs::File::create",
        ),
        (
            "status",
            "use std as s; use s::fs as f; fn g() { f::write(\"a\", \"b\"); }",
            "std::fs::write",
        ),
        (
            "clients::mtls",
            "fn f() { nix::unistd::unlink(\"/x\"); }",
            "nix::unistd::unlink",
        ),
        (
            "observe::software",
            "use std::fs::*;",
            "observe::software writes",
        ),
    ];
    for (module, text, complaint) in planted {
        plant(rule, module, text, complaint);
    }
}

#[test]
fn a_machine_that_knows_of_kubernetes_is_found() {
    plant(
        sys_is_a_leaf,
        "sys::process",
        "use crate::paths;",
        "sys::process imports paths",
    );
    plant(
        sys_is_a_leaf,
        "sys::host",
        "fn f() { let _ = crate::components::BOOT_UNIT; }",
        "sys::host imports components",
    );
}

#[test]
fn a_reader_that_reaches_the_writer_is_found() {
    plant(
        readers_do_not_reach_the_writer,
        "clients::docker",
        "use crate::apply::images;",
        "status reaches the writer: status -> clients::docker -> apply::images",
    );
}

#[test]
fn the_documentation_lists_every_room() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    let tree = Tree::of(&sources());
    let unique: BTreeSet<&str> = listed.iter().copied().collect();
    assert_eq!(unique, tree.rooms());
    assert_eq!(unique.len(), listed.len(), "a room is listed twice");
    // In order: each room imports only rooms that are listed below it.
    let place = |room: &str| listed.iter().position(|other| *other == room);
    for (room, others) in tree.rooms_named() {
        for (other, file) in others {
            assert!(
                place(room) < place(other),
                "docs/architecture.md lists {other} above {room}, which imports it in {file}"
            );
        }
    }
}

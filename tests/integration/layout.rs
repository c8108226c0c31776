//! The direction of data: pure stages cannot reach the machine.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules that are given everything they look at.
const PURE: &[&str] = &[
    "spec",
    "addons",
    "workloads",
    "components",
    "render",
    "desired",
    "plan",
    "preflight",
    "user_data",
];
/// What they must not name.
const MACHINE: &[&str] = &[
    "crate::sys",
    "crate::apply",
    "std::fs",
    "std::process",
    "std::net",
    "std::env",
];

fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries.flat_map(|entry| sources(&entry)).collect()
}

fn files_of(module: &str) -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let file = src.join(format!("{module}.rs"));
    sources(&if file.is_file() {
        file
    } else {
        src.join(module)
    })
}

#[test]
fn pure_stages_do_not_reach_the_machine() {
    for module in PURE {
        for file in files_of(module) {
            let text = fs::read_to_string(&file).unwrap();
            for name in MACHINE {
                assert!(!text.contains(name), "{} names {name}", file.display());
            }
        }
    }
}

#[test]
fn the_domain_does_not_know_the_command_line() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let outer = [
        src.join("main.rs"),
        src.join("lib.rs"),
        src.join("cli"),
        src.join("commands"),
    ];
    for file in sources(&src) {
        if outer.iter().any(|outer| file.starts_with(outer)) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for name in ["crate::cli", "crate::commands", "clap::"] {
            assert!(!text.contains(name), "{} names {name}", file.display());
        }
    }
}

#[test]
fn the_machine_knows_nothing_of_kubernetes() {
    for file in files_of("sys") {
        let text = fs::read_to_string(&file).unwrap().to_lowercase();
        assert!(
            !text.contains("use crate::") || text.contains("use crate::sys"),
            "{}",
            file.display()
        );
    }
}

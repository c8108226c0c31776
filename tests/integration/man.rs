//! `appliance man`: a manual page for every command.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use appliance::cli::Cli;
use clap::CommandFactory;

use crate::harness::said;

/// The names of pages: the command's words, joined.
fn names(command: &clap::Command, above: &str, all: &mut BTreeSet<String>) {
    let name = format!("{above}{}", command.get_name());
    for below in command.get_subcommands() {
        names(below, &format!("{name}-"), all);
    }
    all.insert(format!("{name}.1"));
}

#[test]
fn every_command_has_a_page_with_its_options_and_examples() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(["man", "--output"])
        .arg(dir.path().join("new/man1"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let pages = dir.path().join("new/man1");
    let written: BTreeSet<String> = fs::read_dir(&pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut expected = BTreeSet::new();
    names(&Cli::command(), "", &mut expected);
    assert_eq!(written, expected);
    for name in &written {
        let page = fs::read_to_string(pages.join(name)).unwrap();
        for section in [
            ".TH ",
            ".SH NAME",
            ".SH SYNOPSIS",
            ".SH OPTIONS",
            ".SH EXAMPLES",
        ] {
            assert!(page.contains(section), "{name} has no {section}");
        }
    }
    let fetch = fs::read_to_string(pages.join("appliance-bundle-fetch.1")).unwrap();
    assert!(
        fetch.contains("appliance bundle fetch \\-\\-bundle v1.9.11\n"),
        "{fetch}"
    );
}

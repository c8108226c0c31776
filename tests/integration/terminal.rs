//! What a person sees: columns, units, time zones, colours.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{Machine, said};
use crate::workshop::Workshop;

fn appliance(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The lines of the tables in this output: each begins with a line in capitals and ends with an empty one.
fn tables(text: &str) -> Vec<&str> {
    let is_head = |line: &str| {
        line.starts_with(|c: char| c.is_ascii_uppercase()) && line == line.to_uppercase()
    };
    let mut inside = false;
    let lines = text.lines().filter(|line| {
        inside = !line.is_empty() && (inside || is_head(line));
        inside
    });
    lines.collect()
}

#[test]
fn tables_fit_80_columns() {
    let machine = Machine::new();
    machine.installed(&[]);
    let root = machine.root().to_str().unwrap().to_owned();
    let metadata = machine.metadata().to_str().unwrap().to_owned();
    let workshop = Workshop::packed();
    let payload = workshop.path("payload").to_str().unwrap().to_owned();
    for arguments in [
        &[
            "detect",
            "--explain",
            "--root",
            &root,
            "--metadata-dir",
            &metadata,
        ][..],
        &["certs", "show", "--root", &root],
        &["bundle", "list", &payload],
        &["bundle", "list", "--bundle", "v1.9.11"],
        &["bundle", "verify", &payload],
    ] {
        let text = text(&appliance(arguments));
        let lines = tables(&text);
        assert!(lines.len() > 2, "{arguments:?}: {text}");
        for line in lines {
            assert!(line.chars().count() <= 80, "{arguments:?}: {line}");
        }
    }
    let dry_run = said(&machine.install(&["--set", "mtu=1400", "--dry-run"]));
    let lines = tables(&dry_run);
    assert!(
        lines.iter().any(|line| line.starts_with("mtu")),
        "{dry_run}"
    );
    assert!(
        lines.iter().all(|line| line.chars().count() <= 80),
        "{dry_run}"
    );
}

#[test]
fn sizes_have_units() {
    let workshop = Workshop::packed();
    let list = workshop.succeed(&["bundle", "list", "@payload"]);
    assert!(list.contains("SIZE"), "{list}");
    assert!(list.contains(" KiB"), "{list}");
}

#[test]
fn times_are_in_the_zone_of_the_machine() {
    let machine = Machine::new();
    machine.installed(&[]);
    let shown = |zone: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_appliance"))
            .args(["certs", "show", "--root"])
            .arg(machine.root())
            .env("TZ", zone)
            .output()
            .unwrap();
        text(&output)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert!(shown("UTC").contains(" +00:00"), "{}", shown("UTC"));
    // A rule of POSIX: three hours and a half behind.
    assert!(
        shown("<-0330>3:30").contains(" -03:30"),
        "{}",
        shown("<-0330>3:30")
    );
}

/// The output of a command on a terminal, with these variables. `CI` is set: where it is, libraries
/// colour what a dumb terminal gets.
fn on_a_terminal(line: &str, variables: &[(&str, &str)]) -> String {
    let program = env!("CARGO_BIN_EXE_appliance");
    let output = Command::new("script")
        .args(["-qec", &format!("{program} {line}"), "/dev/null"])
        .env("TERM", "xterm")
        .env("PAGER", "cat")
        .env("CI", "true")
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    said(&output)
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    assert!(
        Path::new("/usr/bin/script").exists(),
        "Debian package bsdutils"
    );
    for line in [
        "help token create",
        "help join",
        "--help",
        "status --nonsense",
    ] {
        assert!(on_a_terminal(line, &[]).contains('\u{1b}'), "{line}");
        for variable in [("NO_COLOR", "1"), ("CLICOLOR", "0"), ("TERM", "dumb")] {
            let shown = on_a_terminal(line, &[variable]);
            assert!(!shown.contains('\u{1b}'), "{line}, {variable:?}: {shown:?}");
        }
        let words: Vec<&str> = line.split(' ').collect();
        assert!(!said(&appliance(&words)).contains('\u{1b}'), "{line}");
    }
}

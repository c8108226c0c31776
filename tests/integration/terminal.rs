//! What a person sees: columns, units, time zones, colours.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{Machine, document, said};
use crate::living::Living;
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

/// Asserts that these lines fit 80 columns. What is longer ends with a word that fits no line.
fn fits(what: &str, text: &str) {
    for line in text.lines() {
        let last = line.split("  ").last().unwrap_or_default();
        let is_word = !last.trim().contains(' ');
        assert!(line.chars().count() <= 80 || is_word, "{what}: {line}");
    }
}

/// The names, addresses and the like in a document.
fn names(document: &Value) -> Vec<&str> {
    const KEYS: [&str; 5] = ["name", "endpoint", "reference", "id", "subject"];
    match document {
        Value::Array(all) => all.iter().flat_map(names).collect(),
        Value::Object(all) => all
            .iter()
            .flat_map(|(key, value)| match value {
                Value::String(text) if KEYS.contains(&key.as_str()) => vec![text.as_str()],
                _ => names(value),
            })
            .collect(),
        _ => vec![],
    }
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
        // The description of a bundle is a text of its author.
        let (_, tables) = text.split_once("\n\n").unwrap();
        fits(&arguments.join(" "), tables);
    }
    let dry_run = said(&machine.install(&["--set", "mtu=1400", "--dry-run"]));
    let settings = dry_run.lines().skip_while(|line| !line.contains("SETTING"));
    let settings: Vec<&str> = settings.take_while(|line| !line.is_empty()).collect();
    assert!(
        settings.iter().any(|line| line.contains("mtu")),
        "{dry_run}"
    );
    fits("dry run", &settings.join("\n"));
}

#[test]
fn a_node_is_shown_in_80_columns_and_no_name_is_cut() {
    let living = Living::new(&["--role", "single"]);
    let created = living.run(&["token", "create"]);
    assert!(created.status.success(), "{}", said(&created));
    let summary = living.run(&["status"]);
    fits("status", &String::from_utf8_lossy(&summary.stdout));
    for arguments in [
        &["status", "--all"][..],
        &["token", "list"],
        &["certs", "show"],
    ] {
        let output = |format: &str| living.run(&[arguments, &["-o", format]].concat());
        let text = output("text");
        let text = String::from_utf8_lossy(&text.stdout);
        fits(&arguments.join(" "), &text);
        let document = document(&output("json"));
        let names = names(&document);
        assert!(!names.is_empty(), "{document}");
        // `status --all` shows images without their identifiers, and certificates without their subjects.
        let shown = |name: &&str| {
            arguments[0] != "status" || !(name.contains('=') || name.starts_with("sha256:"))
        };
        for name in names.into_iter().filter(shown) {
            assert!(text.contains(name), "{arguments:?}: {name}: {text}");
        }
    }
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

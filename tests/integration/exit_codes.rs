//! The exit codes of the program, each from a real run, and the table that documents them. Module `usable` has 8.

use std::process::{Command, Output};

use appliance::sys::lock::{Lock, Patience};
use appliance::sys::root::Root;

use crate::harness::{Machine, said};
use crate::living::Living;

fn appliance(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(arguments)
        .output()
        .unwrap()
}

/// The codes in the help page.
fn documented() -> Vec<(i32, String)> {
    let help = said(&appliance(&["--help"]));
    let lines = help
        .lines()
        .skip_while(|line| *line != "Exit codes:")
        .skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let split = |line: &str| {
        let (code, meaning) = line.trim().split_once("  ").unwrap();
        (code.parse().unwrap(), meaning.to_owned())
    };
    lines.map(split).collect()
}

/// That this run ends with `code`.
fn assert_ends(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
}

#[test]
fn all_codes_are_documented_in_order() {
    let codes: Vec<i32> = documented().into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn done_is_0_and_failed_is_1_and_refused_is_2() {
    assert_ends(&appliance(&["version"]), 0);
    assert_ends(&appliance(&["bundle", "verify", "/dev/null"]), 1);
    let machine = Machine::new();
    assert_ends(&machine.install(&["--role", "nonsense"]), 2);
    assert_ends(&appliance(&["--nonsense"]), 2);
}

#[test]
fn a_node_that_is_not_sound_is_3_and_no_node_is_4() {
    let machine = Machine::new();
    let cis = || {
        Command::new(env!("CARGO_BIN_EXE_appliance"))
            .args(["check", "--cis", "--root"])
            .arg(machine.root())
            .output()
            .unwrap()
    };
    assert_ends(&cis(), 4);
    machine.installed(&["--profile", "simple"]);
    assert_ends(&cis(), 3);
}

#[test]
fn another_run_is_5() {
    let machine = Machine::new();
    let root = Root::open(&machine.root()).unwrap();
    let _lock = Lock::take(&root, Patience::None).unwrap();
    let output = machine.install(&["--wait", "0"]);
    assert_ends(&output, 5);
}

#[test]
fn a_node_that_is_not_healthy_is_3() {
    assert_ends(&Living::new(&[]).run(&["status"]), 3);
}

#[test]
fn a_machine_that_differs_is_7() {
    let machine = Machine::new();
    assert_ends(&machine.install(&["--dry-run"]), 7);
    machine.installed(&[]);
    assert_ends(&machine.install(&["--dry-run"]), 0);
}

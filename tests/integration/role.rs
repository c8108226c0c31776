//! `appliance node promote` and `demote` in a root directory: what is shown, and what is refused before anything is
//! written.

use std::process::{Command, Output};

use crate::harness::{Machine, document, payload, said};

const CONFIG: &str = "etc/appliance/config.yaml";
const TOKEN: &str = "abcdef.0123456789abcdefghijklmnopqrstuv";
const MASTERS: &str = "server02=192.168.1.102,server04=192.168.1.104,server05=192.168.1.105";

fn run(machine: &Machine, command: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(["node", command, "--root"])
        .arg(machine.root())
        .arg("--metadata-dir")
        .arg(machine.metadata())
        .arg("--payload")
        .arg(payload())
        .args(arguments)
        .output()
        .unwrap()
}

/// It must be refused, and nothing may be written. Returns what was said.
#[track_caller]
fn refusal(machine: &Machine, command: &str, settings: &str) -> String {
    machine.put(CONFIG, settings);
    let before = machine.snapshot();
    let output = run(machine, command, &["--yes"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert_eq!(machine.snapshot(), before, "{}", said(&output));
    said(&output)
}

/// A worker of the master at 192.168.1.110, with certificates that were made for it.
fn worker() -> Machine {
    let machine = Machine::new();
    machine.put_metadata("{}");
    machine.put(CONFIG, "role: worker\nmaster: 192.168.1.110\n");
    let authority = tempfile::tempdir().unwrap();
    let ca = authority.path().to_str().unwrap();
    for arguments in [
        &["certs", "init", "--ca", ca][..],
        &[
            "certs",
            "issue",
            "--ca",
            ca,
            "--role",
            "worker",
            "--set",
            "master=192.168.1.110",
        ],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_appliance"));
        command.args(arguments);
        if arguments.contains(&"issue") {
            command.args([
                "--set",
                "nodeName=server02",
                "--set",
                "address=192.168.1.102",
            ]);
            command.arg("--dir").arg(machine.root());
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    machine.installed(&[]);
    machine
}

/// One of three masters, which began as the only one.
fn master() -> Machine {
    let machine = Machine::new();
    machine.put_metadata("{}");
    machine.put(CONFIG, "role: master\n");
    machine.installed(&[]);
    machine.put(CONFIG, &format!("role: master\nmasters: {MASTERS}\n"));
    machine.installed(&["--change", "masters"]);
    machine
}

#[test]
fn a_worker_becomes_a_master_only_of_several_with_a_token_and_nothing_else_changes() {
    let machine = worker();
    let whole = format!("role: master\nmasters: {MASTERS}\njoin: {{token: {TOKEN}}}\n");
    for (settings, words) in [
        (
            "role: worker\nmaster: 192.168.1.110\n",
            "write `role: master`",
        ),
        (
            &*format!("role: master\njoin: {{token: {TOKEN}}}\n"),
            "`masters`",
        ),
        (
            &format!("role: master\nmasters: {MASTERS}\n"),
            "has no token",
        ),
        (
            &format!("{whole}podCIDR: 10.9.0.0/16\n"),
            "installed with podCIDR",
        ),
    ] {
        let told = refusal(&machine, "promote", settings);
        assert!(told.contains(words), "{words}: {told}");
        assert!(!told.contains("0123456789"), "{told}");
    }
    let told = refusal(&machine, "demote", &whole);
    assert!(told.contains("this node is a worker"), "{told}");
    // The cluster has to be told.
    let told = refusal(&machine, "promote", &whole);
    assert!(told.contains("only on the running machine"), "{told}");

    let before = machine.snapshot();
    let shown = run(&machine, "promote", &["--dry-run", "-o", "json"]);
    assert_eq!(shown.status.code(), Some(7), "{}", said(&shown));
    let shown = document(&shown);
    assert_eq!(
        (&shown["from"], &shown["to"]),
        (&"worker".into(), &"master".into())
    );
    let removal = shown["removal"].to_string();
    assert!(removal.contains("copy /etc/kubernetes/ca"), "{removal}");
    assert!(
        !removal.contains("remove /usr/local/bin/appliance"),
        "{removal}"
    );
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn a_master_becomes_a_worker_only_if_others_stay_and_do_not_list_it() {
    let machine = master();
    let join = format!("join: {{token: {TOKEN}}}\n");
    let whole = format!("role: worker\nmaster: 192.168.1.104\n{join}");
    for (settings, words) in [
        (
            format!("role: master\nmasters: {MASTERS}\n{join}"),
            "write `role: worker`",
        ),
        (
            format!("role: worker\nmasters: {MASTERS}\n{join}"),
            "also the address of the master server02",
        ),
        (
            "role: worker\nmaster: 192.168.1.104\n".to_owned(),
            "has no token",
        ),
        (whole.clone(), "only on the running machine"),
    ] {
        let told = refusal(&machine, "demote", &settings);
        assert!(told.contains(words), "{words}: {told}");
    }
    let shown = run(&machine, "demote", &["--dry-run"]);
    assert_eq!(shown.status.code(), Some(7), "{}", said(&shown));
    assert!(
        said(&shown).contains("installed as a worker"),
        "{}",
        said(&shown)
    );

    let only = Machine::new();
    only.installed(&[]);
    only.put_metadata("{}");
    let told = refusal(&only, "demote", &whole);
    assert!(told.contains("the only master"), "{told}");
    let none = run(&Machine::new(), "promote", &["--yes"]);
    assert_eq!(none.status.code(), Some(4), "{}", said(&none));
}

//! The logs of containers: docker gets a limit for them, unless the operator has settings of docker.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::harness::Machine;

const SETTINGS: &str = "etc/docker/daemon.json";
/// Settings of an operator, in a form that no program would write.
const THEIRS: &str = "{ \"bip\":\"10.9.0.1/24\" }";

fn settings(machine: &Machine) -> Option<String> {
    fs::read_to_string(machine.root().join(SETTINGS)).ok()
}

#[test]
fn docker_gets_a_limit_for_logs_if_it_has_no_settings() {
    let machine = Machine::new();
    machine.installed(&["--role", "single"]);
    let written: Value = serde_json::from_str(&settings(&machine).unwrap()).unwrap();
    assert_eq!(written["log-opts"]["max-size"], "20m");
    assert_eq!(written["log-opts"]["max-file"], "5");
    let unit = machine
        .root()
        .join("etc/systemd/system/kube-calico.service");
    let unit = fs::read_to_string(unit).unwrap();
    assert!(unit.contains("--log-driver=none"), "{unit}");
}

#[test]
fn settings_of_the_operator_stay_as_they_are() {
    let machine = Machine::new();
    machine.put(SETTINGS, THEIRS);
    machine.installed(&["--role", "single"]);
    assert_eq!(settings(&machine).as_deref(), Some(THEIRS));
}

#[test]
fn options_on_the_command_line_are_not_given_twice() {
    let machine = Machine::new();
    machine.put("usr/bin/docker", "");
    machine.put(
        "lib/systemd/system/docker.service",
        "[Service]\nExecStart=/usr/bin/dockerd -H fd:// --log-opt max-size=1m\n",
    );
    machine.installed(&["--role", "single"]);
    assert_eq!(settings(&machine), None);
}

#[test]
fn settings_that_the_operator_changed_stay_also_after_a_reset() {
    let machine = Machine::new();
    machine.installed(&["--role", "single"]);
    machine.put(SETTINGS, THEIRS);
    machine.installed(&["--role", "single"]);
    assert_eq!(settings(&machine).as_deref(), Some(THEIRS));
    let root = machine.root().display().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(["reset", "--yes", "--data", "--keys", "--root", &root])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(settings(&machine).as_deref(), Some(THEIRS));
}

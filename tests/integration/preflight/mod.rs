//! `appliance preflight`: each check passes on a sound machine, and says what is wrong with one that is not.

mod cases;
mod dockerd;
mod firewall;
pub mod machine;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use appliance::preflight::{Ignored, Level, Weight, checks, document};
use serde_json::Value;

use crate::harness::{Machine, SmallDisk, said};
use cases::CASES;
use machine::Booted;

#[test]
fn a_sound_machine_passes_every_check() {
    for role in ["master", "worker", "single"] {
        let checked = Booted::new().checked(role);
        assert!(checked.fit, "{role}: {:?}", checked.checks);
        for (name, check) in &checked.checks {
            let level = check["level"].as_str().unwrap();
            assert!(
                ["pass", "not-applicable"].contains(&level),
                "{role} {name}: {check}"
            );
            assert_eq!(check["command"], "", "{role} {name}: {check}");
        }
    }
}

#[test]
fn each_check_tells_what_is_wrong_and_what_to_type() {
    for case in CASES {
        let booted = Booted::new();
        (case.spoil)(&booted);
        let checked = booted.checked(case.role);
        let check = &checked.checks[case.check];
        let (level, words) = case.expected;
        let text = check.to_string();
        assert_eq!(check["level"], level, "{}: {text}", case.check);
        for word in words {
            assert!(
                text.contains(word),
                "{}: {word} is missing in {text}",
                case.check
            );
        }
        assert_ne!(check["command"], "", "{text}");
        assert_eq!(checked.fit, level != "fail", "{text}");
    }
}

/// Those that need the running system have tests of their own beside the code.
#[test]
fn every_check_has_a_case() {
    const LIVE: &[&str] = &[
        "iptables-backends",
        "other-chains",
        "docker-answers",
        "space",
        "inodes",
    ];
    for check in checks().filter(|check| !LIVE.contains(&check.name)) {
        let mut cases = CASES.iter().filter(|case| case.check == check.name);
        assert!(cases.next().is_some(), "{} has no case", check.name);
    }
}

#[test]
fn a_failure_refuses_the_installation_before_the_first_write() {
    for case in CASES.iter().filter(|case| case.expected.0 == "fail") {
        if case.check == "settings" {
            continue;
        }
        let booted = Booted::new();
        (case.spoil)(&booted);
        let arguments = [&["--role", case.role], machine::master(case.role)].concat();
        let text = booted.machine.refusal(&arguments);
        assert!(
            text.contains(&format!("{}: ", case.check)),
            "{}: {text}",
            case.check
        );
        let ignorable = case.check.parse::<Ignored>().is_ok();
        let ignored = ["--dry-run", "--ignore-preflight", case.check];
        let output = booted.machine.install(&[&arguments[..], &ignored].concat());
        let code = if ignorable { 7 } else { 2 };
        assert_eq!(
            output.status.code(),
            Some(code),
            "{}: {}",
            case.check,
            said(&output)
        );
    }
}

#[test]
fn cgroups_are_not_judged_where_the_mounts_cannot_be_read() {
    for text in ["", "20 1 nonsense\n"] {
        let booted = Booted::new();
        booted.machine.put("proc/self/mountinfo", text);
        let checked = booted.checked("worker");
        assert_eq!(
            checked.checks["cgroups"]["level"], "not-applicable",
            "{text}"
        );
        assert!(checked.fit);
    }
}

#[test]
fn an_ignored_failure_is_a_warning() {
    let booted = Booted::new();
    booted.machine.put("etc/rancher/k3s/config.yaml", "");
    let output = booted.run(
        "worker",
        &["-o", "json", "--ignore-preflight", "other-kubernetes"],
    );
    assert!(output.status.success(), "{}", said(&output));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = document["checks"].as_array().unwrap();
    let check = checks
        .iter()
        .find(|check| check["name"] == "other-kubernetes")
        .unwrap();
    assert_eq!(
        (&check["level"], &check["ignored"]),
        (&"warn".into(), &true.into())
    );
    let text = booted
        .machine
        .planned(&["--ignore-preflight=other-kubernetes"]);
    assert!(text.contains("warning: other-kubernetes: k3s"), "{text}");

    for (name, why) in [
        ("cgroups", "cannot be ignored"),
        ("portz", "did you mean `ports`"),
    ] {
        let output = booted.machine.install(&["--ignore-preflight", name]);
        assert_eq!(output.status.code(), Some(2));
        let text = said(&output);
        assert!(text.contains(why), "{text}");
    }
}

#[test]
fn a_node_without_changes_is_not_examined_and_one_with_changes_is_before_the_first_write() {
    let machine = Machine::new();
    machine.put("etc/docker/daemon.json", "{}");
    machine.installed(&[]);
    machine.put("etc/docker/daemon.json", "{");
    let before = machine.snapshot();
    let text = machine.installed(&[]);
    assert!(text.contains("nothing to change"), "{text}");
    assert!(!text.contains("docker"), "{text}");
    assert_eq!(machine.snapshot(), before);

    machine.put("etc/appliance/config.yaml", "hosts: {ntp: 10.9.8.1}\n");
    for arguments in [&[][..], &["--dry-run"]] {
        let text = machine.refusal(arguments);
        assert!(text.contains("docker-settings: "), "{text}");
    }
    let text = machine.installed(&["--ignore-preflight=docker-settings"]);
    assert!(text.contains("docker-settings: "), "{text}");
}

#[test]
fn the_output_has_a_fixed_form() {
    let booted = Booted::new();
    booted.machine.put(
        "proc/swaps",
        "Filename Type Size Used Priority\n/dev/vdb partition 8 0 -2\n",
    );
    let output = booted.run("worker", &["-o", "json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(keys(&document), ["checks", "fit", "role", "summary"]);
    assert_eq!(
        keys(&document["summary"]),
        ["fail", "not-applicable", "pass", "warn"]
    );
    let listed = document["checks"].as_array().unwrap();
    assert_eq!(listed.len(), checks().count());
    for check in listed {
        assert_eq!(
            keys(check),
            ["command", "ignored", "level", "name", "needed", "seen"]
        );
    }
    let text = said(&booted.run("worker", &[]));
    for part in [
        "warn swap",
        "/dev/vdb",
        "`swapoff -a`",
        "can become a worker",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_system_that_is_not_booted_is_judged_by_its_files_alone() {
    let machine = Machine::new();
    let output = machine::preflight(&machine, "single", &["-o", "json"]);
    assert!(output.status.success(), "{}", said(&output));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks: BTreeMap<String, Value> = document["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| {
            (
                check["name"].as_str().unwrap().to_owned(),
                check["level"].clone(),
            )
        })
        .collect();
    let without = machine::preflight_of_image(&machine);
    assert!(without.status.success(), "{}", said(&without));
    let text = said(&without);
    assert!(text.contains("warn settings"), "{text}");
    for name in [
        "cgroups",
        "clock",
        "kernel-modules",
        "ports",
        "swap",
        "exec",
    ] {
        assert_eq!(checks[name], "not-applicable", "{name}");
    }
}

#[test]
fn the_kubelet_gets_the_cgroup_driver_of_docker() {
    let driver = |spoil: &dyn Fn(&Machine)| {
        let machine = Machine::new();
        spoil(&machine);
        machine.installed(&["--role", "single"]);
        let unit = machine.read("etc/systemd/system/kubelet.service");
        let mut words = unit.split_whitespace();
        let flag = words.find_map(|word| word.strip_prefix("--cgroup-driver="));
        flag.unwrap().to_owned()
    };
    let systemd = r#"{"exec-opts": ["native.cgroupdriver=systemd"]}"#;
    assert_eq!(driver(&|_| {}), "cgroupfs");
    assert_eq!(
        driver(&|machine| machine.put("etc/docker/daemon.json", systemd)),
        "systemd"
    );
    let drop_in = "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd --exec-opt native.cgroupdriver=systemd\n";
    let path = "etc/systemd/system/docker.service.d/driver.conf";
    assert_eq!(driver(&|machine| machine.put(path, drop_in)), "systemd");
}

/// Docker's directory is on another disk, directly or through a link.
#[test]
fn room_is_looked_for_where_docker_keeps_its_images() {
    for link in [false, true] {
        let machine = Machine::new();
        let disk = machine.root().join("srv/disk");
        fs::create_dir_all(&disk).unwrap();
        let _disk = SmallDisk::at(disk, "64m");
        let data_root = if link {
            "/var/lib/images"
        } else {
            "/srv/disk/docker"
        };
        if link {
            machine.put("var/lib/x", "");
            symlink("/srv/disk", machine.root().join("var/lib/images")).unwrap();
        }
        machine.put(
            "etc/docker/daemon.json",
            &format!("{{\"data-root\": \"{data_root}\"}}"),
        );
        let text = machine.refusal(&[]);
        let words = format!("space: {data_root} needs 1 MiB and 256 MiB to spare, but only 64 MiB");
        assert!(text.contains(&words), "{text}");
    }
}

#[test]
fn few_free_inodes_are_told() {
    let machine = Machine::new();
    let opt = machine.root().join("opt");
    fs::create_dir_all(&opt).unwrap();
    let _disk = SmallDisk::at(opt, "1g,nr_inodes=500");
    let text = machine.planned(&[]);
    assert!(
        text.contains("warning: inodes: /opt/appliance has room for"),
        "{text}"
    );
}

#[test]
fn the_documentation_has_every_check() {
    let page = document();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/preflight.md");
    if std::env::var_os("APPLIANCE_BLESS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/preflight.md is not the table; write it again: APPLIANCE_BLESS=1 cargo test --test integration \
         preflight::"
    );
}

#[test]
fn what_only_warns_never_fails() {
    let warning =
        |name: &str| checks().any(|check| check.name == name && check.weight == Weight::Warning);
    for case in CASES.iter().filter(|case| warning(case.check)) {
        assert_eq!(case.expected.0, "warn", "{}", case.check);
    }
    assert_eq!(Level::ALL.map(Level::words)[0], "FAIL");
}

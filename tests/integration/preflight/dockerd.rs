//! The genuine dockerd decides with which settings it starts; `preflight` says the same.

use std::fs;
use std::process::{Command, Stdio};

use appliance::preflight::docker::command_line::Unit;
use appliance::preflight::docker::daemon::Settings;

use crate::harness::said;

/// How dockerd complains about its settings.
const COMPLAINTS: &[&str] = &[
    "unable to configure the Docker daemon with file",
    "unknown flag",
    "invalid argument",
];

/// Files, and more words on the command line.
const SETTINGS: &[(&str, &str)] = &[
    ("{}", ""),
    ("null", ""),
    ("", ""),
    (" \n", ""),
    ("[]", ""),
    ("\"text\"", ""),
    ("{} }", ""),
    ("{}\n{}", ""),
    ("\u{feff}{}", ""),
    ("{\n  // a comment\n  \"debug\": true\n}", ""),
    ("{\"debug\": true} # a comment", ""),
    ("{\"debug\": true,}", ""),
    ("{'debug': true}", ""),
    ("{\"debug\": true", ""),
    ("{\"debug\": true, \"debug\": false}", ""),
    ("{\"debug\": true, \"debug\": \"no\"}", ""),
    ("{\"debug\": \"true\"}", ""),
    ("{\"debug\": null}", ""),
    ("{\"Debug\": true}", ""),
    ("{\"nonsense\": true}", ""),
    ("{\"nonsense\": null}", ""),
    ("{\"mtu\": \"1450\"}", ""),
    ("{\"mtu\": 1450}", ""),
    ("{\"hosts\": \"fd://\"}", ""),
    ("{\"hosts\": [\"unix:///var/run/docker.sock\"]}", "-H fd://"),
    ("{\"hosts\": []}", "-H fd://"),
    ("{\"debug\": true}", "--debug"),
    ("{\"debug\": true}", "--debug=false"),
    (
        "{\"iptables\": false, \"ip-masq\": false, \"userland-proxy\": false, \"live-restore\": true}",
        "",
    ),
    ("{\"iptables\": false}", "--iptables=false"),
    ("{\"registry-mirrors\": [\"https://mirror.example\"]}", ""),
    ("{\"registry-mirrors\": \"https://mirror.example\"}", ""),
    (
        "{\"registry-mirrors\": [\"https://mirror.example\"]}",
        "--registry-mirror https://other.example",
    ),
    ("{\"exec-opts\": [\"native.cgroupdriver=systemd\"]}", ""),
    (
        "{\"exec-opts\": [\"native.cgroupdriver=systemd\"]}",
        "--exec-opt native.cgroupdriver=cgroupfs",
    ),
    ("{\"exec-opts\": \"native.cgroupdriver=systemd\"}", ""),
    ("{\"log-opts\": {\"max-size\": \"10m\"}}", ""),
    (
        "{\"log-opts\": {\"max-size\": \"10m\"}}",
        "--log-opt max-file=3",
    ),
    ("{\"log-opts\": []}", ""),
    ("{\"features\": {\"buildkit\": true}}", ""),
    (
        "{\"default-address-pools\": [{\"base\": \"10.250.0.0/16\", \"size\": 24}]}",
        "",
    ),
    (
        "{\"default-ulimits\": {\"nofile\": {\"Name\": \"nofile\", \"Hard\": 64000, \"Soft\": 64000}}}",
        "",
    ),
    (
        "{\"bip\": \"10.250.0.1/24\", \"dns\": [\"192.0.2.1\"], \"labels\": [\"a=b\"]}",
        "",
    ),
    ("{\"bip\": 10}", ""),
    ("{\"caf\u{e9}\": true}", ""),
];

/// Whether dockerd takes the settings. It goes no further: it cannot make its file of its process ID.
fn takes(file: &str, words: &str) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("daemon.json"), file).unwrap();
    let output = Command::new("dockerd")
        .args([
            "--pidfile=/dev/null/pid",
            "--config-file",
            &path("daemon.json"),
        ])
        .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
        .args(words.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .expect("dockerd; `make tools` installs it");
    let text = said(&output);
    assert!(!output.status.success(), "{text}");
    let complains = COMPLAINTS.iter().any(|complaint| text.contains(complaint));
    assert!(
        complains || text.contains("/dev/null"),
        "{file} {words}: {text}"
    );
    (!complains, text)
}

#[test]
fn settings_are_refused_where_dockerd_refuses_them() {
    let version = Command::new("dockerd").arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    // Docker version 20.10.24+dfsg1, build …
    let version = version.split_whitespace().nth(2).unwrap();
    let mut agreed = 0;
    let mut differ = Vec::new();
    for (file, words) in SETTINGS {
        let unit = format!("[Service]\nExecStart=/usr/bin/dockerd {words}\n");
        let line = Unit::of([unit.as_str()]).words(&[]);
        let ours = Settings::read(Some(file.as_bytes()), &line, Some(version));
        let (takes, text) = takes(file, words);
        if ours.problems.is_empty() == takes {
            agreed += 1;
        } else {
            differ.push(format!(
                "{file} {words}: {:?}; dockerd {version}: {text}",
                ours.problems
            ));
        }
    }
    println!(
        "dockerd {version} and preflight agree on {agreed} of {} settings",
        SETTINGS.len()
    );
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

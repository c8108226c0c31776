//! The genuine dockerd decides with which settings it starts; `preflight` says the same.

use std::fs;
use std::process::{Command, Stdio};

use appliance::preflight::docker::command_line::Unit;
use appliance::preflight::docker::daemon::Settings;

use crate::harness::said;

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
    ("true", ""),
    ("1", ""),
    ("[{}]", ""),
    ("{}[]", ""),
    ("{}x", ""),
    ("{}\u{0}", ""),
    ("{\"debug\": True}", ""),
    ("{\"debug\": 1}", ""),
    ("{\"debug\": NaN}", ""),
    ("{\"mtu\": 1450.5}", ""),
    ("{\"mtu\": 1e3}", ""),
    ("{\"mtu\": -1}", ""),
    ("{\"mtu\": 1e99}", ""),
    ("{\"mtu\": 99999999999999999999}", ""),
    ("{\"max-concurrent-downloads\": 3}", ""),
    ("{\"max-concurrent-downloads\": -3}", ""),
    ("{\"max-concurrent-downloads\": \"3\"}", ""),
    ("{\"shutdown-timeout\": 3.0}", ""),
    ("{\"DEBUG\": true}", ""),
    ("{\"Debug\": \"x\"}", ""),
    ("{\"debug\": true, \"Debug\": false}", ""),
    ("{\"LogLevel\": \"debug\"}", ""),
    ("{\"log-level\": \"loud\"}", ""),
    ("{\"log-level\": \"\"}", ""),
    ("{\"labels\": [1]}", ""),
    ("{\"labels\": [\"a\"]}", ""),
    ("{\"labels\": [\"a=b\", \"a=c\"]}", ""),
    ("{\"labels\": [null]}", ""),
    ("{\"dns\": [\"not an address\"]}", ""),
    ("{\"dns\": [\"2001:db8::1\"]}", ""),
    ("{\"dns-search\": [\".\"]}", ""),
    ("{\"insecure-registries\": [\"http://r.example\"]}", ""),
    ("{\"registry-mirrors\": [\"mirror.example\"]}", ""),
    ("{\"registry-mirrors\": [\"https://mirror.example/a\"]}", ""),
    (
        "{\"registry-mirrors\": [\"https://mirror.example/\", \"https://u:p@mirror.example\"]}",
        "",
    ),
    ("{\"exec-opts\": [\"native.cgroupdriver=nonsense\"]}", ""),
    ("{\"exec-opts\": [\"nonsense=1\"]}", ""),
    ("{\"exec-opts\": [\"native.cgroupdriver\"]}", ""),
    (
        "{\"exec-opts\": {\"native.cgroupdriver\": \"systemd\"}}",
        "",
    ),
    ("{\"log-opts\": {\"max-size\": 10}}", ""),
    ("{\"log-opts\": {\"max-file\": 3}}", ""),
    ("{\"log-opts\": {\"nonsense\": \"x\"}}", ""),
    ("{\"log-opts\": null}", "--log-opt max-file=3"),
    (
        "{\"storage-opts\": [\"overlay2.override_kernel_check=true\"]}",
        "",
    ),
    ("{\"storage-opts\": {\"a\": \"b\"}}", ""),
    ("{\"default-runtime\": \"runc\"}", ""),
    ("{\"default-runtime\": \"nvidia\"}", ""),
    (
        "{\"runtimes\": {\"nvidia\": {\"path\": \"/usr/bin/nvidia\", \"runtimeArgs\": []}}}",
        "",
    ),
    (
        "{\"runtimes\": {\"runc\": {\"path\": \"/usr/bin/runc\"}}}",
        "",
    ),
    ("{\"runtimes\": [\"nvidia\"]}", ""),
    ("{\"runtimes\": {\"nvidia\": \"/usr/bin/nvidia\"}}", ""),
    (
        "{\"runtimes\": {\"a\": {\"path\": \"/a\"}}}",
        "--add-runtime b=/b",
    ),
    ("{\"default-ulimits\": {\"nofile\": 64000}}", ""),
    ("{\"default-ulimits\": [\"nofile=64000\"]}", ""),
    (
        "{\"default-ulimits\": {\"nofile\": {\"Hard\": 1}}}",
        "--default-ulimit nproc=5",
    ),
    ("{\"features\": {\"buildkit\": \"true\"}}", ""),
    ("{\"features\": []}", ""),
    (
        "{\"builder\": {\"gc\": {\"enabled\": true, \"defaultKeepStorage\": \"10GB\"}}}",
        "",
    ),
    ("{\"builder\": {\"gc\": \"on\"}}", ""),
    ("{\"builder\": \"x\"}", ""),
    (
        "{\"default-address-pools\": {\"base\": \"10.250.0.0/16\", \"size\": 24}}",
        "",
    ),
    (
        "{\"default-address-pools\": [{\"base\": \"nonsense\", \"size\": 24}]}",
        "",
    ),
    (
        "{\"default-address-pools\": [{\"base\": \"10.250.0.0/16\", \"size\": \"24\"}]}",
        "",
    ),
    ("{\"default-address-pools\": [\"10.250.0.0/16\"]}", ""),
    (
        "{\"default-address-pools\": [{\"base\": \"10.250.0.0/16\", \"size\": 24}]}",
        "--default-address-pool base=10.251.0.0/16,size=24",
    ),
    ("{\"bip\": \"10.250.0.1\"}", ""),
    ("{\"bip\": \"\"}", ""),
    ("{\"bridge\": \"none\"}", ""),
    ("{\"bridge\": \"none\", \"bip\": \"10.250.0.1/24\"}", ""),
    ("{\"fixed-cidr\": \"10.250.0.0/25\"}", ""),
    ("{\"userns-remap\": \"default\"}", ""),
    ("{\"live-restore\": \"yes\"}", ""),
    ("{\"live-restore\": true}", "--live-restore"),
    (
        "{\"hosts\": [\"unix:///var/run/docker.sock\", \"tcp://127.0.0.1:2375\"]}",
        "",
    ),
    ("{\"hosts\": [\"nonsense\"]}", ""),
    ("{\"hosts\": [\"nonsense://x\"]}", ""),
    ("{\"hosts\": []}", ""),
    ("{\"hosts\": null}", "-H fd://"),
    ("{\"tls\": true}", ""),
    ("{\"tlsverify\": true, \"tlscacert\": \"/nonexistent\"}", ""),
    ("{\"data-root\": 1}", ""),
    ("{\"graph\": \"/srv/docker\"}", ""),
    ("{\"ipv6\": true}", ""),
    ("{\"ipv6\": true, \"fixed-cidr-v6\": \"2001:db8::/64\"}", ""),
    ("{\"experimental\": true}", ""),
    ("{\"metrics-addr\": \"127.0.0.1:9323\"}", ""),
    ("{\"cluster-store\": \"etcd://127.0.0.1:2379\"}", ""),
    (
        "{\"allow-nondistributable-artifacts\": [\"r.example\"]}",
        "",
    ),
    ("{\"seccomp-profile\": \"/nonexistent\"}", ""),
    ("{\"node-generic-resources\": [\"gpu=1\"]}", ""),
    ("{\"authorization-plugins\": [\"x\"]}", ""),
    (
        "{\"cgroup-parent\": \"/x\", \"init\": true, \"icc\": false, \"no-new-privileges\": true}",
        "",
    ),
    ("{\"raw-logs\": true}", ""),
    ("{}", "--nonsense"),
    ("{}", "--mtu x"),
    ("{}", "--debug=maybe"),
    ("{}", "--label a"),
    ("{}", "extra"),
    (
        "{}",
        "-D --icc=0 --mtu=1450 -l warn --label a=b --dns 192.0.2.1",
    ),
    ("{}", "-X"),
    ("{}", "--dns nonsense"),
    ("{}", "--log-level loud"),
    ("{}", "--default-runtime nvidia"),
    (
        "{}",
        "--default-runtime nvidia --add-runtime nvidia=/usr/bin/nvidia",
    ),
    ("{}", "--default-shm-size 64M"),
    ("{\"default-shm-size\": \"64M\"}", ""),
    ("{\"dns-opts\": [\"ndots:1\"]}", "--dns-opt ndots:2"),
    ("{\"default-runtime\": \"io.containerd.runc.v2\"}", ""),
    ("{\"log-level\": \"WARN\"}", ""),
    (
        "{\"builder\": {\"gc\": {\"policy\": [{\"keepStorage\": \"1GB\", \"filter\": [\"unused-for=1h\"]}]}}}",
        "",
    ),
    ("{\"labels\": [\"a=b\", \"a=b\", \"c=\"]}", ""),
    ("{\"dns\": [\" 192.0.2.1 \"]}", ""),
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
    // It takes them, and then cannot make its file of its process ID.
    (text.contains("/dev/null"), text)
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

//! `appliance reset` on a running system, in namespaces of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::lived_in;
use crate::harness::{Machine, said};

/// docker: containers of pods, and images, are files in `/run`.
const DOCKER: &str = r#"#!/bin/sh
echo "docker $*" >>/var/log/asked
[ ! -e /run/docker-hangs ] || exec sleep 600
[ -e /run/units/docker.service ] || exit 1
last=
for last; do :; done
image=/run/image-${last%%/*}-${last#*/}
case $1 in
version) echo 17.03 ;;
ps) [ ! -e /run/pods ] || echo c1 ;;
images) [ ! -e "$image" ] || echo sha256:1 ;;
inspect) false ;;
rm) rm -f /run/pods ;;
rmi) rm "$image" ;;
esac
"#;

/// systemctl: units that run are files in `/run/units`.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "systemctl $*" >>/var/log/asked
command=$1
shift
for unit; do
    case $command,$unit in
    *,--*) ;;
    start,*) : >"/run/units/$unit" ;;
    stop,*) rm -f "/run/units/$unit" ;;
    show,*)
        loaded=not-found state=inactive
        [ ! -e "/etc/systemd/system/$unit" ] || loaded=loaded
        [ "$unit" != docker.service ] || loaded=loaded
        [ ! -e "/run/units/$unit" ] || state=active
        printf 'Id=%s\nLoadState=%s\nActiveState=%s\nSubState=x\n\n' "$unit" "$loaded" "$state"
        ;;
    esac
done
"#;

fn program(root: &Path, name: &str, text: &str) {
    let path = root.join("usr/bin").join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The machine of the scenes, with a node that ran.
fn node() -> Machine {
    let machine = lived_in();
    machine.installed(&[]);
    machine.put("var/lib/etcd/member/wal/0.wal", "acknowledged");
    machine.put("var/lib/kubelet/pki/kubelet.key", "");
    let user = "appliance-join:x:990:990::/nonexistent:/usr/sbin/nologin\n";
    machine.put("etc/passwd", &format!("root:x:0:0::/root:/bin/sh\n{user}"));
    machine.put("etc/group", "root:x:0:\nappliance-join:x:990:\n");
    machine.put(
        "etc/shadow",
        "root:*:19000::::::\nappliance-join:!:19000::::::\n",
    );
    machine.put("etc/gshadow", "root:*::\nappliance-join:!::\n");
    machine.put("etc/login.defs", "USERGROUPS_ENAB yes\n");
    // What an installation of a running system notes in addition.
    let record = "var/lib/appliance/brought.json";
    let mut brought: Value = serde_json::from_str(&machine.read(record)).unwrap();
    brought["sysctls"] =
        json!({"net.ipv4.ip_local_reserved_ports": "", "net.ipv4.ip_default_ttl": "77"});
    brought["forward"] = json!("DROP");
    brought["images"] = json!(["example.org/pause:3.0"]);
    machine.put(record, &brought.to_string());
    let root = machine.root();
    program(&root, "docker", DOCKER);
    program(&root, "systemctl", SYSTEMCTL);
    machine
}

/// Plays these scenes. Returns what was said.
fn play(scenes: &[&str]) -> String {
    let machine = node();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::rename(machine.root(), path("node")).unwrap();
    fs::create_dir(path("volume")).unwrap();
    fs::write(path("volume").join("data"), "theirs").unwrap();
    fs::copy(env!("CARGO_BIN_EXE_appliance"), path("program")).unwrap();
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/integration/reset/scene.sh"
    );
    let step = match std::env::var_os("THOROUGH") {
        Some(_) => "1",
        None => "11",
    };
    let output = Command::new("unshare")
        .args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            script,
        ])
        .arg(dir.path())
        .args(scenes)
        .env("STEP", step)
        .output()
        .expect("unshare of util-linux");
    let text = said(&output);
    assert!(
        output.status.success() && text.contains("ALL SCENES PLAYED\n"),
        "{text}"
    );
    text
}

#[test]
fn what_belongs_to_others_survives() {
    let said = play(&["plain"]);
    for step in [
        "stop kubelet.service",
        "remove the containers of all pods",
        "remove image example.org/pause:3.0",
        "remove interfaces cali12345678901",
        "set net.ipv4.ip_local_reserved_ports to an empty value, as before",
        "set net.ipv4.ip_default_ttl = 77, as before",
        "remove user appliance-join",
    ] {
        assert!(said.contains(step), "{step}: {said}");
    }
}

#[test]
fn it_works_when_docker_is_stopped_or_hangs_and_says_who_uses_a_mount() {
    play(&["stopped", "silent", "busy"]);
}

#[test]
fn killed_at_the_start_of_any_program_it_continues() {
    let said = play(&["cuts"]);
    let cuts = said.matches("killed at start").count();
    println!("{cuts} cuts");
    assert!(cuts >= 8, "{said}");
}

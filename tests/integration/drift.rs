//! What differs between a machine and what it should be: `appliance plan`, and the copies of files that someone
//! changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{Machine, document, payload, said};

/// Runs `appliance plan` on the machine, with more arguments.
fn plan(machine: &Machine, arguments: &[&str]) -> Output {
    let mut plan = machine.command("plan", &payload(), arguments);
    plan.output().unwrap()
}

/// What `appliance plan` says, which must end with `code` and change nothing.
fn planned(machine: &Machine, code: i32, arguments: &[&str]) -> String {
    let before = machine.snapshot();
    let output = plan(machine, arguments);
    assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    assert_eq!(machine.snapshot(), before, "{}", said(&output));
    said(&output)
}

fn as_json(machine: &Machine) -> Value {
    document(&plan(machine, &["-o", "json"]))
}

#[test]
fn a_machine_that_is_as_it_should_be_ends_with_0_and_another_with_7() {
    let machine = Machine::new();
    let text = planned(&machine, 7, &[]);
    assert!(
        text.contains("create /etc/systemd/system/etcd.service (0644)"),
        "{text}"
    );
    assert!(
        text.contains("programs to bring: /usr/local/bin/appliance"),
        "{text}"
    );
    machine.installed(&[]);
    let text = planned(&machine, 0, &[]);
    assert!(text.contains("nothing to change"), "{text}");
    let shown = as_json(&machine);
    assert_eq!(shown["changed"], false);
    for empty in ["steps", "files", "units", "programs", "images"] {
        assert_eq!(shown[empty], Value::Array(vec![]), "{empty}");
    }
}

#[test]
fn a_changed_file_is_a_unified_diff() {
    let machine = Machine::new();
    machine.installed(&[]);
    let path = "etc/systemd/system/etcd.service";
    let unit = machine.read(path);
    machine.put(
        path,
        &unit.replace("--data-dir=/var/lib/etcd", "--data-dir=/srv/etcd"),
    );
    let text = planned(&machine, 7, &[]);
    assert!(
        text.contains(
            "--- /etc/systemd/system/etcd.service\n+++ /etc/systemd/system/etcd.service\n@@ -"
        ),
        "{text}"
    );
    assert!(
        text.contains("-  --data-dir=/srv/etcd") || text.contains("-ExecStart"),
        "{text}"
    );
    assert!(text.contains("--data-dir=/var/lib/etcd"), "{text}");
    assert!(
        text.contains("change /etc/systemd/system/etcd.service (0644)"),
        "{text}"
    );
    // The diff is one that patch(1) can apply.
    let diff = as_json(&machine)["files"][0]["diff"]
        .as_str()
        .unwrap()
        .to_owned();
    let edited = machine.root().join(path);
    let patch = machine.root().join("patch");
    fs::write(&patch, diff).unwrap();
    let patched = Command::new("patch")
        .arg(&edited)
        .arg(&patch)
        .output()
        .unwrap();
    assert!(patched.status.success(), "{}", said(&patched));
    assert_eq!(machine.read(path), unit);
}

#[test]
fn the_content_of_new_files_is_shown_if_someone_asks() {
    let machine = Machine::new();
    let text = planned(&machine, 7, &[]);
    assert!(!text.contains("/dev/null"), "{text}");
    let text = planned(&machine, 7, &["--new-files"]);
    assert!(
        text.contains("--- /dev/null\n+++ /etc/kubernetes/audit-policy.yaml\n@@ -0,0 +1,"),
        "{text}"
    );
}

/// Every secret of the node, with a part of it that must be nowhere.
#[test]
fn no_secret_is_ever_shown() {
    let machine = Machine::new();
    machine.installed(&[]);
    let secrets = [
        "etc/kubernetes/ca/ca-key.pem",
        "etc/kubernetes/ca/etcd/etcd-key.pem",
        "etc/kubernetes/ca/kubernetes/token.csv",
        "etc/kubernetes/ca/kubernetes/encryption.yaml",
        "etc/kubernetes/admin.kubeconfig",
    ];
    // Others can see the file, someone added to it, and a person wrote a password into a unit.
    for path in &secrets[2..] {
        machine.put(path, &format!("{}# old-marker\n", machine.read(path)));
        let at = machine.root().join(path);
        fs::set_permissions(at, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let unit = "etc/systemd/system/etcd.service";
    let text = machine.read(unit);
    machine.put(
        unit,
        &text.replace(
            "[Service]\n",
            "[Service]\nEnvironment=PASSWORD=old-marker\n",
        ),
    );
    for text in [
        planned(&machine, 7, &["--new-files"]),
        as_json(&machine).to_string(),
    ] {
        for line in secrets.iter().flat_map(|path| {
            let text = machine.read(path);
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        }) {
            let is_public = line.starts_with("-----")
                || line.len() < 24
                || line.contains("certificate-authority-data");
            assert!(is_public || !text.contains(line.trim()), "{line} in {text}");
        }
        assert!(!text.contains("old-marker"), "{text}");
        assert!(text.contains("(a line that may hold a secret)"), "{text}");
    }
    let shown = as_json(&machine);
    let files = shown["files"].as_array().unwrap();
    let file = |path: &str| files.iter().find(|file| file["path"] == path).unwrap();
    for path in [
        "/etc/kubernetes/admin.kubeconfig",
        "/etc/kubernetes/ca/kubernetes/encryption.yaml",
    ] {
        assert_eq!(file(path)["notShown"], "secret");
        assert_eq!(file(path)["diff"], Value::Null);
        assert_eq!(file(path)["mode"], "0600");
    }
}

#[test]
fn a_changed_mode_is_told() {
    let machine = Machine::new();
    machine.installed(&[]);
    let unit = machine.root().join("etc/systemd/system/etcd.service");
    fs::set_permissions(unit, fs::Permissions::from_mode(0o666)).unwrap();
    let text = planned(&machine, 7, &[]);
    let words = "/etc/systemd/system/etcd.service: only its mode or its owner changes";
    assert!(text.contains(words), "{text}");
}

#[test]
fn another_bundle_brings_only_what_the_installed_one_does_not_have() {
    let machine = Machine::new();
    let shown = as_json(&machine);
    let names = |shown: &Value| -> Vec<String> {
        let programs = shown["programs"].as_array().unwrap();
        programs
            .iter()
            .map(|program| program["name"].as_str().unwrap().to_owned())
            .collect()
    };
    for name in ["/usr/local/bin/appliance", "etcd", "kubelet"] {
        assert!(names(&shown).iter().any(|found| found == name), "{shown}");
    }
    assert!(!shown["images"].as_array().unwrap().is_empty());
    machine.installed(&[]);
    // The bundle in use is damaged: all of it is unpacked again.
    let current = machine.root().join("opt/appliance/current");
    let directory = fs::read_link(&current).unwrap();
    let kubelet = machine
        .root()
        .join("opt/appliance")
        .join(directory)
        .join("bin/kubelet");
    fs::write(kubelet, "short").unwrap();
    let shown = as_json(&machine);
    assert!(names(&shown).contains(&"kubelet".to_owned()), "{shown}");
}

const UNIT: &str = "etc/systemd/system/etcd.service";
const COPY: &str = "etc/systemd/system/etcd.service.appliance-old";
const KEPT: &str = "keep /etc/systemd/system/etcd.service, which someone else wrote or changed, as \
                    /etc/systemd/system/etcd.service.appliance-old";

/// All copies below the root.
fn copies(machine: &Machine) -> Vec<String> {
    let all = machine.snapshot();
    let names = all.keys().map(|path| path.display().to_string());
    names
        .filter(|name| name.contains("appliance-old"))
        .collect()
}

#[test]
fn a_file_that_someone_edited_is_kept_once_and_told_once() {
    let machine = Machine::new();
    machine.installed(&[]);
    assert_eq!(copies(&machine), Vec::<String>::new());
    let unit = machine.read(UNIT);
    let edited = format!("{unit}# mine\n");
    machine.put(UNIT, &edited);
    fs::set_permissions(machine.root().join(UNIT), fs::Permissions::from_mode(0o640)).unwrap();
    let shown = as_json(&machine);
    assert_eq!(shown["files"][0]["keptAs"], format!("/{COPY}"), "{shown}");
    assert!(planned(&machine, 7, &[]).contains(KEPT));

    let told = machine.installed(&[]);
    assert!(told.contains(KEPT), "{told}");
    assert_eq!(machine.read(UNIT), unit);
    assert_eq!(
        (machine.read(COPY), machine.mode(COPY)),
        (edited.clone(), 0o640)
    );

    // The same edit again: nothing new to keep, nothing to tell.
    machine.put(UNIT, &edited);
    let told = machine.installed(&[]);
    assert!(!told.contains("appliance-old"), "{told}");
    assert_eq!(machine.read(UNIT), unit);
    // Another edit replaces the copy.
    machine.put(UNIT, &format!("{unit}# other\n"));
    assert!(machine.installed(&[]).contains(KEPT));
    assert!(machine.read(COPY).ends_with("# other\n"));
    assert_eq!(copies(&machine).len(), 1);
    assert!(planned(&machine, 0, &[]).contains("nothing to change"));
}

#[test]
fn a_file_that_only_the_appliance_changed_is_not_kept() {
    let machine = Machine::new();
    machine.installed(&[]);
    // Other settings, another mode, a missing file, a missing certificate: nobody's text is lost.
    machine.installed(&["--set", "mtu=1400"]);
    fs::set_permissions(machine.root().join(UNIT), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(machine.root().join("etc/sysctl.d/k8s.conf")).unwrap();
    fs::remove_file(machine.root().join("etc/kubernetes/ca/etcd/etcd.pem")).unwrap();
    machine.installed(&["--set", "mtu=1400"]);
    assert_eq!(copies(&machine), Vec::<String>::new());
}

#[test]
fn a_secret_that_someone_edited_is_kept_for_root_alone() {
    let machine = Machine::new();
    machine.installed(&[]);
    let path = "etc/kubernetes/admin.kubeconfig";
    let edited = format!("{}# mine\n", machine.read(path));
    machine.put(path, &edited);
    fs::set_permissions(machine.root().join(path), fs::Permissions::from_mode(0o644)).unwrap();
    machine.installed(&[]);
    let copy = format!("{path}.appliance-old");
    assert_eq!((machine.read(&copy), machine.mode(&copy)), (edited, 0o600));
    assert_eq!(machine.mode(path), 0o600);
}

#[test]
fn a_file_that_was_there_before_is_kept_and_the_operators_keys_are_not_copied() {
    let machine = Machine::new();
    machine.put("etc/sysctl.d/k8s.conf", "vm.swappiness = 1\n");
    machine.installed(&[]);
    let copy = "etc/sysctl.d/k8s.conf.appliance-old";
    assert_eq!(machine.read(copy), "vm.swappiness = 1\n");
    assert_eq!(copies(&machine).len(), 1);
}

#[test]
fn a_node_of_a_version_without_the_record_gets_no_copies_of_the_old_versions_files() {
    let machine = Machine::new();
    machine.installed(&[]);
    fs::remove_file(machine.root().join("var/lib/appliance/written.json")).unwrap();
    let text = planned(&machine, 7, &[]);
    assert!(
        text.contains("write the records of the installation"),
        "{text}"
    );
    machine.installed(&["--set", "mtu=1400"]);
    assert_eq!(copies(&machine), Vec::<String>::new());
    // From now on, it is known what was written.
    machine.put(UNIT, "# mine\n");
    machine.installed(&["--set", "mtu=1400"]);
    assert_eq!(machine.read(COPY), "# mine\n");
}

#[test]
fn an_edit_of_this_programs_part_of_a_file_of_others_is_kept() {
    let machine = Machine::new();
    machine.installed(&[]);
    let hosts = machine.read("etc/hosts");
    // A line of others is not this program's.
    machine.put("etc/hosts", &format!("{hosts}10.0.0.9 mine\n"));
    machine.installed(&[]);
    assert_eq!(copies(&machine), Vec::<String>::new());
    let edited = machine
        .read("etc/hosts")
        .replace("192.168.1.102 server02", "192.168.1.102 server02 db");
    machine.put("etc/hosts", &edited);
    machine.installed(&[]);
    assert_eq!(machine.read("etc/hosts.appliance-old"), edited);
    assert!(machine.read("etc/hosts").contains("10.0.0.9 mine"));
}

/// No program reads a copy as what it is a copy of.
#[test]
fn a_copy_of_a_unit_is_no_unit() {
    let name = COPY.rsplit('/').next().unwrap();
    let kinds = [
        "service", "timer", "socket", "target", "path", "mount", "slice", "conf",
    ];
    assert!(!kinds.iter().any(|kind| name.ends_with(&format!(".{kind}"))));
}

#[test]
fn the_record_of_what_was_written_is_for_root_alone_and_the_same_after_a_cut() {
    let machine = Machine::new();
    machine.installed(&[]);
    let path = "var/lib/appliance/written.json";
    assert_eq!(machine.mode(path), 0o600);
    let record: Value = serde_json::from_str(&machine.read(path)).unwrap();
    let digests = |record: &Value| {
        record["files"][format!("/{UNIT}")]["sha256"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(digests(&record), 1);
    // As after a cut between the first note and the first file: what was there before is still this program's.
    let unit = machine.read(UNIT);
    machine.put(UNIT, "");
    machine.put(UNIT, &unit);
    let before = machine.read(path);
    machine.installed(&["--set", "mtu=1400"]);
    machine.installed(&[]);
    assert_eq!(machine.read(path), before);
    assert_eq!(copies(&machine), Vec::<String>::new());
}

//! `appliance apply`: new settings for an installed node, what is refused, and the way back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use serde_json::Value;

use crate::chroot::{has_booted, inside};
use crate::cuts::network;
use crate::cuts::scenes::running;
use crate::harness::{Machine, document, payload, payload_of, said};
use crate::living::Living;

const CONFIG: &str = "etc/appliance/config.yaml";
const KEPT: &str = "etc/appliance/config.yaml.appliance-old";
const UPGRADE: &str = "var/lib/appliance/upgrade.json";
const CERTIFICATE: &str = "etc/kubernetes/ca/kubernetes/kubernetes.pem";
const OTHER_CERTIFICATE: &str = "etc/kubernetes/ca/etcd/etcd.pem";
const UNIT: &str = "etc/systemd/system/kube-apiserver.service";
const FORMER: &str = "# settings of the site\nrole: master\n";
const NEW: &str = "role: master\napiServerSANs: k8s.example.org\nlogLevel: 4\n";

/// An installed master whose settings are all in its file.
fn master() -> Machine {
    let machine = Machine::new();
    machine.put_metadata("{}");
    machine.put(CONFIG, FORMER);
    machine.installed(&[]);
    machine
}

fn apply(machine: &Machine, settings: &str, arguments: &[&str]) -> Output {
    let file = machine.metadata().join("new.yaml");
    fs::write(&file, settings).unwrap();
    let arguments = [&[file.to_str().unwrap()], arguments].concat();
    machine
        .command("apply", &payload(), &arguments)
        .output()
        .unwrap()
}

fn applied(machine: &Machine, settings: &str) -> String {
    let output = apply(machine, settings, &["--yes"]);
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

/// The settings must be refused, and nothing may be written. Returns what was said.
#[track_caller]
fn refusal(machine: &Machine, settings: &str) -> String {
    let before = machine.snapshot();
    let output = apply(machine, settings, &["--yes"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert_eq!(machine.snapshot(), before, "{}", said(&output));
    said(&output)
}

fn rollback(machine: &Machine) -> Output {
    Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(["rollback", "--yes", "--root"])
        .arg(machine.root())
        .output()
        .unwrap()
}

fn set_stage(machine: &Machine, stage: &str) {
    let mut record: Value = serde_json::from_str(&machine.read(UPGRADE)).unwrap();
    record["stage"] = stage.into();
    machine.put(UPGRADE, &record.to_string());
}

#[test]
fn new_settings_are_shown_and_installed_and_a_rollback_undoes_them() {
    let machine = master();
    let before = machine.snapshot();
    let (unit, certificate) = (machine.read(UNIT), machine.read(CERTIFICATE));
    let of_etcd = machine.read(OTHER_CERTIFICATE);

    let shown = apply(&machine, NEW, &["--dry-run"]);
    assert_eq!(shown.status.code(), Some(7), "{}", said(&shown));
    let text = said(&shown);
    for words in [
        "--- /etc/appliance/config.yaml",
        "-# settings of the site",
        "+logLevel: 4",
        "-  --v=1",
        "+  --v=4",
        "keep /etc/appliance/config.yaml",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(machine.snapshot(), before);
    // Nobody answers a question here.
    let asked = apply(&machine, NEW, &[]);
    assert_eq!(asked.status.code(), Some(2), "{}", said(&asked));
    assert_eq!(machine.snapshot(), before);

    let text = applied(&machine, NEW);
    assert!(text.contains("config.yaml.appliance-old"), "{text}");
    assert_eq!(machine.read(CONFIG), NEW);
    assert_eq!(machine.read(KEPT), FORMER);
    assert!(machine.read(UNIT).contains("--v=4"));
    assert_ne!(machine.read(CERTIFICATE), certificate);
    assert_eq!(machine.read(OTHER_CERTIFICATE), of_etcd);
    assert!(machine.installed(&[]).contains("nothing to change"));
    let again = applied(&machine, NEW);
    assert!(again.contains("nothing to change"), "{again}");

    let back = rollback(&machine);
    assert!(back.status.success(), "{}", said(&back));
    assert!(
        said(&back).contains("its former settings"),
        "{}",
        said(&back)
    );
    assert_eq!(machine.read(CONFIG), FORMER);
    assert_eq!(machine.read(UNIT), unit);
    assert!(!machine.root().join(KEPT).exists());
    // The certificate has a name more than it needs.
    let after = machine.installed(&[]);
    assert!(!after.contains("change /etc/systemd"), "{after}");
    let none = rollback(&machine);
    assert_eq!(none.status.code(), Some(2), "{}", said(&none));
}

#[test]
fn there_is_no_way_back_over_another_address_or_over_a_file_that_someone_changed() {
    let machine = master();
    applied(&machine, NEW);
    let edited = format!("{NEW}# mine\n");
    machine.put(CONFIG, &edited);
    let refused = rollback(&machine);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    let text = said(&refused);
    assert!(
        text.contains("/etc/appliance/config.yaml.appliance-old"),
        "{text}"
    );
    assert_eq!(machine.read(CONFIG), edited);
    assert_eq!(machine.read(KEPT), FORMER);

    machine.put(CONFIG, NEW);
    machine.installed(&["--set", "address=192.168.1.109", "--change", "address"]);
    let before = machine.snapshot();
    let refused = rollback(&machine);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    let text = said(&refused);
    assert!(
        text.contains("`appliance install --change` made another node"),
        "{text}"
    );
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn a_new_file_of_settings_is_for_root_only_and_one_that_exists_keeps_its_mode() {
    let machine = Machine::new();
    machine.installed(&[]);
    applied(&machine, "logLevel: 3\n");
    assert_eq!(machine.mode(CONFIG), 0o600);
    assert!(!machine.root().join(KEPT).exists());
    let token = "join: {token: abcdef.0123456789abcdefghijklmnopqrstuv}\n";
    let text = applied(&machine, token);
    assert!(!text.contains("0123456789"), "{text}");
    assert_eq!(machine.read(KEPT), "logLevel: 3\n");
    assert_eq!(machine.mode(KEPT), 0o600);
    // A file that others may read gets no token.
    let path = machine.root().join(CONFIG);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    applied(&machine, "logLevel: 5\n");
    assert_eq!(machine.mode(CONFIG), 0o644);
    applied(&machine, token);
    assert_eq!(machine.mode(CONFIG), 0o600);
    applied(&machine, "logLevel: 3\n");
    applied(&machine, token);
    // Only the last ones are kept.
    let back = rollback(&machine);
    assert!(back.status.success(), "{}", said(&back));
    assert_eq!(machine.read(CONFIG), "logLevel: 3\n");
}

#[test]
fn settings_that_cannot_be_or_have_no_effect_are_refused_before_anything_is_written() {
    let machine = Machine::new();
    machine.put_metadata(r#"{"logLevel": "3"}"#);
    machine.put(CONFIG, FORMER);
    machine.installed(&[]);
    for (settings, words) in [
        ("role: [", "new.yaml"),
        ("role: master\nlogLevle: 4\n", "logLevel"),
        ("role: master\nlogLevel: 11\n", "meta.logLevel"),
        ("role: master\nmtu: 1\n", "mtu"),
        (
            "role: worker\nmaster: 192.168.1.101\n",
            "installed with role master",
        ),
        ("role: master\nnodeName: other\n", "installed with name"),
        (
            "role: master\naddress: 192.168.1.109\n",
            "installed with address",
        ),
        (
            "role: master\npodCIDR: 10.9.0.0/16\n",
            "installed with podCIDR",
        ),
        ("role: master\nlogLevel: 4\n", "wins over the file"),
        ("", "role"),
    ] {
        let told = refusal(&machine, settings);
        assert!(told.contains(words), "{words}: {told}");
    }
    let told = refusal(&machine, "role: master\nlogLevel: 4\n");
    assert!(told.contains("openstack server set --property"), "{told}");

    let missing = machine
        .command("apply", &payload(), &["/nonexistent.yaml", "--yes"])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(2), "{}", said(&missing));
    let none = apply(&Machine::new(), FORMER, &["--yes"]);
    assert_eq!(none.status.code(), Some(4), "{}", said(&none));

    let file = machine.metadata().join("new.yaml");
    fs::write(&file, "role: master\nhub: hub.example.org\n").unwrap();
    let file = file.to_str().unwrap();
    let other = payload_of("v1.9.11");
    let other = other.path().join("payload");
    let told = machine.command("apply", &other, &[file, "--yes"]);
    let told = { told }.output().unwrap();
    assert_eq!(told.status.code(), Some(2), "{}", said(&told));
    assert!(said(&told).contains("another bundle"), "{}", said(&told));

    let mut told = machine.command("apply", &payload(), &[file, "--yes"]);
    let told = told.env("APPLIANCE_MTU", "1400").output().unwrap();
    assert_eq!(told.status.code(), Some(2), "{}", said(&told));
    assert!(said(&told).contains("APPLIANCE_MTU"), "{}", said(&told));
}

/// The file wins over user-data. What the file does not have comes from there.
#[test]
fn a_setting_that_would_come_from_user_data_again_is_refused() {
    let machine = Machine::new();
    machine.put_metadata("{}");
    let user_data = "#cloud-config\nappliance:\n  role: master\n  logLevel: 5\n  dashboard: on\n";
    fs::write(
        machine.metadata().join("openstack/latest/user_data"),
        user_data,
    )
    .unwrap();
    machine.put(CONFIG, "logLevel: 3\n");
    machine.installed(&[]);
    let told = refusal(&machine, "mtu: 1400\n");
    assert!(told.contains("leaves out `logLevel`"), "{told}");
    assert!(!told.contains("`dashboard`"), "{told}");
    applied(&machine, "logLevel: 2\nmtu: 1400\n");
    assert!(machine.read(UNIT).contains("--v=2"));
}

/// A power cut: the record is there, and the file of settings is the former or the new one.
#[test]
fn a_change_that_was_cut_is_completed_or_undone_before_another_one_begins() {
    let machine = master();
    applied(&machine, NEW);
    for stage in ["under-way", "going-back", "back"] {
        set_stage(&machine, stage);
        let told = refusal(&machine, "role: master\nlogLevel: 9\n");
        assert!(told.contains("is not finished"), "{told}");
        let upgrade = payload_of("v1.9.11");
        let mut upgrade = machine.command("upgrade", &upgrade.path().join("payload"), &["--yes"]);
        let told = upgrade.output().unwrap();
        assert_eq!(told.status.code(), Some(2), "{}", said(&told));
        assert!(said(&told).contains("is not finished"), "{}", said(&told));
    }
    set_stage(&machine, "under-way");
    applied(&machine, NEW);
    let record: Value = serde_json::from_str(&machine.read(UPGRADE)).unwrap();
    assert_eq!(record["stage"], "done");
    // Before the file was replaced.
    set_stage(&machine, "under-way");
    machine.put(CONFIG, FORMER);
    applied(&machine, NEW);
    assert_eq!(machine.read(CONFIG), NEW);
    // The boot after a power cut on the way back.
    set_stage(&machine, "going-back");
    let output = machine.install(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("is done now"), "{}", said(&output));
    assert_eq!(machine.read(CONFIG), FORMER);
    assert!(machine.read(UNIT).contains("--v=1"));
    applied(&machine, NEW);
}

#[test]
fn settings_that_are_in_the_file_already_have_no_way_back() {
    let machine = master();
    machine.put(CONFIG, NEW);
    let told = refusal(&machine, NEW);
    assert!(told.contains("`appliance install`"), "{told}");
    machine.installed(&[]);
    assert!(applied(&machine, NEW).contains("nothing to change"));
}

/// On a running system: exactly what has to restart is named.
#[test]
fn only_what_reads_a_changed_setting_restarts() {
    let restarts = |settings: &str| -> Vec<String> {
        let living = Living::with_api_server(&[]);
        has_booted(&living.machine);
        let started = living.run(&["install", "--wait", "0", "--metadata-dir", "/config-drive"]);
        assert!(started.status.success(), "{}", said(&started));
        living.machine.put("new.yaml", settings);
        let arguments = [
            "apply",
            "/new.yaml",
            "--metadata-dir",
            "/config-drive",
            "--force",
            "--dry-run",
            "-o",
            "json",
        ];
        let told = document(&living.run(&arguments));
        let names = told["restarts"].as_array().unwrap().iter();
        names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    };
    // The signer gives no node a name of the API server.
    let reads_names = ["kube-apiserver", "appliance-signer"];
    assert_eq!(restarts("apiServerSANs: k8s.example.org"), reads_names);
    let programs = [
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
    ];
    assert_eq!(restarts("logLevel: 4"), programs);
}

/// On a running system whose kernel takes no settings: a step fails after the file was replaced.
#[test]
fn a_node_whose_new_settings_fail_goes_back_by_itself() {
    network::enter_alone();
    let machine = running();
    machine.put(CONFIG, FORMER);
    machine.put("new.yaml", NEW);
    has_booted(&machine);
    let (unit, certificate) = (machine.read(UNIT), machine.read(OTHER_CERTIFICATE));
    let inside = |arguments: &[&str]| inside(&machine, "/usr/local/bin/appliance", arguments);
    let arguments = [
        "apply",
        "/new.yaml",
        "--metadata-dir",
        "/config-drive",
        "--limit",
        "1s",
        "--yes",
    ];
    let refused = inside(&arguments);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(
        said(&refused).contains("not healthy before the change"),
        "{}",
        said(&refused)
    );
    assert_eq!(machine.read(CONFIG), FORMER);
    let output = inside(&[&arguments[..], &["--force"]].concat());
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("change /etc/appliance/config.yaml"), "{text}");
    assert!(text.contains("went back to its former settings"), "{text}");
    assert!(text.contains("what failed: step "), "{text}");
    assert_eq!(machine.read(CONFIG), FORMER);
    assert_eq!(machine.read(UNIT), unit);
    assert_eq!(machine.read(OTHER_CERTIFICATE), certificate);
    assert!(!machine.root().join(UPGRADE).exists());
}

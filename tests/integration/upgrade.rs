//! Upgrades in a root directory: another bundle, the way back, old bundles.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use appliance::bundle::payload::Payload;
use appliance::bundle::repack::repack;
use serde_json::Value;

use crate::chroot::{has_booted, inside};
use crate::cuts::network;
use crate::cuts::scenes::{running, with_root};
use crate::harness::{Machine, document, payload, payload_of, said};

const NEWER: &str = "v1.9.11";
/// The appliance with the next bundle, on a machine.
const NEW: &str = "/appliance-new";
const PROGRAM: &str = "usr/local/bin/appliance";
const UPGRADE: &str = "var/lib/appliance/upgrade.json";

/// What an upgrade or a rollback may leave beside what was there: the record of what was brought, and the new bundle.
fn may_differ(path: &Path, new: &str) -> bool {
    let text = path.to_string_lossy();
    text.ends_with("brought.json") || text.contains(&format!("opt/appliance/{new}"))
}

/// Every file below the root: its mode and its content, or the target of a link.
fn contents(root: &Path, except: &str) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    collect(root, root, &mut all);
    all.retain(|path, _| !may_differ(path, except));
    all
}

fn collect(root: &Path, path: &Path, all: &mut BTreeMap<PathBuf, (u32, Vec<u8>)>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let below = path.strip_prefix(root).unwrap();
    if ["proc", "dev", "tmp", "run"]
        .iter()
        .any(|dir| below.starts_with(dir))
    {
        return;
    }
    let content = if metadata.is_symlink() {
        let target = fs::read_link(path).unwrap();
        target.to_string_lossy().into_owned().into_bytes()
    } else if metadata.is_file() {
        fs::read(path).unwrap()
    } else {
        Vec::new()
    };
    all.insert(below.to_owned(), (metadata.permissions().mode(), content));
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(root, &entry.unwrap().path(), all);
        }
    }
}

fn digest(payload: &Path) -> String {
    Payload::open(payload).unwrap().digest().to_string()
}

fn upgrade(machine: &Machine, payload: &Path, arguments: &[&str]) -> Output {
    machine
        .command("upgrade", payload, arguments)
        .output()
        .unwrap()
}

fn upgraded(machine: &Machine, payload: &Path) -> String {
    let output = upgrade(machine, payload, &["--yes"]);
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

/// A command that takes only the root.
fn at_root(machine: &Machine, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(arguments)
        .arg("--root")
        .arg(machine.root())
        .output()
        .unwrap()
}

fn state(machine: &Machine) -> Value {
    serde_json::from_str(&machine.read("var/lib/appliance/state.json")).unwrap()
}

fn current(machine: &Machine) -> String {
    let link = machine.root().join("opt/appliance/current");
    fs::read_link(link).unwrap().to_string_lossy().into_owned()
}

/// Nothing differs from what an installation of the payload makes.
#[track_caller]
fn is_as_installed(machine: &Machine, payload: &Path) {
    let output = machine.command("plan", payload, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn an_upgrade_is_the_installation_of_another_bundle_and_a_rollback_undoes_it() {
    let new = payload_of(NEWER);
    let new = new.path().join("payload");
    let machine = Machine::new();
    machine.installed(&[]);
    let before = contents(&machine.root(), &digest(&new));
    assert_eq!(current(&machine), digest(&payload()));

    let shown = upgrade(&machine, &new, &["--dry-run"]);
    assert_eq!(shown.status.code(), Some(7), "{}", said(&shown));
    let text = said(&shown);
    for words in [
        "Kubernetes v1.9.0",
        "Kubernetes v1.9.11",
        "etcd: 1 -> 1v1.9.11",
        "`appliance rollback` leads back",
    ] {
        assert!(text.contains(words), "{text}");
    }
    assert_eq!(contents(&machine.root(), &digest(&new)), before);

    upgraded(&machine, &new);
    assert_eq!(current(&machine), digest(&new));
    assert_eq!(state(&machine)["kubernetes"], NEWER);
    let program = Payload::of_program(&machine.root().join(PROGRAM)).unwrap();
    assert_eq!(program.unwrap().digest().as_str(), digest(&new));
    is_as_installed(&machine, &new);
    let record: Value = serde_json::from_str(&machine.read(UPGRADE)).unwrap();
    assert_eq!(record["stage"], "done");
    assert_eq!(machine.mode(UPGRADE), 0o600);
    assert_eq!(machine.mode("var/lib/appliance/former"), 0o700);
    let again = upgraded(&machine, &new);
    assert!(again.contains("nothing to change"), "{again}");

    let back = at_root(&machine, &["rollback", "--yes"]);
    assert!(back.status.success(), "{}", said(&back));
    let after = contents(&machine.root(), &digest(&new));
    for (path, found) in &after {
        assert!(
            before.get(path) == Some(found),
            "{} differs",
            path.display()
        );
    }
    assert_eq!(after.len(), before.len());
    is_as_installed(&machine, &payload());
    let none = at_root(&machine, &["rollback", "--yes"]);
    assert_eq!(none.status.code(), Some(2), "{}", said(&none));
    assert!(
        said(&none).contains("no upgrade to go back from"),
        "{}",
        said(&none)
    );
}

#[test]
fn what_someone_changed_after_the_upgrade_stays_and_so_do_newer_keys() {
    let new = payload_of(NEWER);
    let new = new.path().join("payload");
    let machine = Machine::new();
    machine.installed(&[]);
    let unit = "etc/systemd/system/kube-calico.service";
    let certificate = "etc/kubernetes/ca/admin/admin.pem";
    let old = machine.read(unit);
    fs::remove_file(machine.root().join(certificate)).unwrap();
    upgraded(&machine, &new);
    let issued = machine.read(certificate);
    assert_ne!(machine.read(unit), old);
    machine.put(unit, "by hand\n");
    let shown = at_root(&machine, &["rollback", "--dry-run"]);
    assert_eq!(shown.status.code(), Some(7), "{}", said(&shown));
    assert!(
        said(&shown)
            .contains("someone changed it afterwards: /etc/systemd/system/kube-calico.service"),
        "{}",
        said(&shown)
    );
    let back = at_root(&machine, &["rollback", "--yes"]);
    assert!(back.status.success(), "{}", said(&back));
    assert_eq!(machine.read(unit), "by hand\n");
    assert_eq!(machine.read(certificate), issued);
    assert_eq!(current(&machine), digest(&payload()));
}

#[test]
fn an_upgrade_that_does_not_fit_is_refused_and_changes_nothing() {
    let machine = Machine::new();
    let new = payload_of(NEWER);
    let none = upgrade(&machine, &new.path().join("payload"), &["--yes"]);
    assert_eq!(none.status.code(), Some(4), "{}", said(&none));
    machine.installed(&[]);
    for (version, words) in [
        ("v1.11.0", "more than one minor version newer than v1.9.0"),
        ("v1.8.5", "is older than v1.9.0 on this node"),
    ] {
        let other = payload_of(version);
        let before = machine.snapshot();
        let output = upgrade(&machine, &other.path().join("payload"), &["--yes"]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(words), "{}", said(&output));
        assert_eq!(machine.snapshot(), before);
    }
    // Nobody answers a question here.
    let output = upgrade(&machine, &new.path().join("payload"), &[]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert_eq!(current(&machine), digest(&payload()));
}

/// A power cut: the record of the upgrade is there, and nothing else of it, or all of it.
#[test]
fn an_upgrade_that_is_not_finished_goes_on_or_back_before_another_one_begins() {
    let (new, other) = (payload_of(NEWER), payload_of("v1.10.0"));
    let (new, other) = (new.path().join("payload"), other.path().join("payload"));
    let machine = Machine::new();
    machine.installed(&[]);
    upgraded(&machine, &new);
    let set = |stage: &str| {
        let mut record: Value = serde_json::from_str(&machine.read(UPGRADE)).unwrap();
        record["stage"] = stage.into();
        machine.put(UPGRADE, &record.to_string());
    };
    for stage in ["under-way", "going-back", "back"] {
        set(stage);
        let output = upgrade(&machine, &other, &["--yes"]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(
            said(&output).contains("is not finished"),
            "{}",
            said(&output)
        );
    }
    set("under-way");
    upgraded(&machine, &new);
    let record: Value = serde_json::from_str(&machine.read(UPGRADE)).unwrap();
    assert_eq!(record["stage"], "done");
    assert_eq!(record["from"]["kubernetes"], "v1.9.0");
    // The boot after a power cut in a rollback, with the program of either bundle.
    set("going-back");
    let output = machine.install_from(&new, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("is done now"), "{}", said(&output));
    assert_eq!(state(&machine)["kubernetes"], "v1.9.0");
    is_as_installed(&machine, &payload());
}

#[test]
fn the_bundle_in_use_and_the_one_before_it_stay_and_older_ones_go() {
    let (second, third) = (payload_of(NEWER), payload_of("v1.10.0"));
    let (second, third) = (second.path().join("payload"), third.path().join("payload"));
    let machine = Machine::new();
    machine.installed(&[]);
    let nothing = at_root(&machine, &["prune", "--yes"]);
    assert!(
        said(&nothing).contains("nothing to remove"),
        "{}",
        said(&nothing)
    );
    upgraded(&machine, &second);
    upgraded(&machine, &third);
    let exists = |payload: &Path| {
        let bundles = machine.root().join("opt/appliance");
        bundles.join(digest(payload)).exists()
    };
    let shown = at_root(&machine, &["prune", "--dry-run", "-o", "json"]);
    let shown = document(&shown);
    assert_eq!(shown["bundles"][0]["digest"], digest(&payload()), "{shown}");
    assert!(exists(&payload()));
    let output = at_root(&machine, &["prune", "--yes"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(!exists(&payload()) && exists(&second) && exists(&third));
    let back = at_root(&machine, &["rollback", "--yes"]);
    assert!(back.status.success(), "{}", said(&back));
    is_as_installed(&machine, &second);
    // The copies of both upgrades are gone.
    assert!(!machine.root().join("var/lib/appliance/former").exists());
}

/// A running master, and the appliance with the payload `new` on it.
fn booted_with(new: &Path) -> Machine {
    network::enter_alone();
    let machine = running();
    let program = Path::new(env!("CARGO_BIN_EXE_appliance"));
    repack(program, new, &machine.root().join("appliance-new")).unwrap();
    has_booted(&machine);
    machine
}

#[test]
fn a_master_makes_a_backup_first_if_its_settings_say_where_and_changes_nothing_without_one() {
    let new = payload_of(NEWER);
    let new = new.path().join("payload");
    let machine = booted_with(&new);
    let upgrade = |more: &str| {
        let arguments = [
            "upgrade",
            "--metadata-dir",
            "/config-drive",
            "--force",
            more,
        ];
        inside(&machine, NEW, &arguments)
    };
    let refused = upgrade("--yes");
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("this master made no backup of the cluster; make one"));

    let schedule = r#"{"recipients": [], "passphraseFile": "/passphrase", "to": "/"}"#;
    machine.put("etc/kubernetes/appliance-backup.json", schedule);
    machine.put("passphrase", "correct horse battery staple\n");
    let path = machine.root().join("passphrase");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let shown = upgrade("--dry-run");
    assert_eq!(shown.status.code(), Some(7), "{}", said(&shown));
    assert!(
        said(&shown).contains("one is made first in"),
        "{}",
        said(&shown)
    );

    // No etcd runs here.
    let before = current(&machine);
    let failed = upgrade("--yes");
    assert_eq!(failed.status.code(), Some(1), "{}", said(&failed));
    let text = said(&failed);
    assert!(
        text.contains("the backup before the upgrade failed, so nothing was changed"),
        "{text}"
    );
    assert!(text.contains("etcd"), "{text}");
    assert_eq!(current(&machine), before);
}

/// On a running system whose kernel takes no settings: a step fails after the switch.
#[test]
fn a_node_whose_upgrade_fails_goes_back_by_itself() {
    let new = payload_of(NEWER);
    let new = new.path().join("payload");
    let machine = booted_with(&new);
    let before = contents(&machine.root(), &digest(&new));
    let arguments = [
        "upgrade",
        "--metadata-dir",
        "/config-drive",
        "--limit",
        "1s",
        "--yes",
    ];
    let refused = inside(&machine, NEW, &arguments);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(
        said(&refused).contains("not healthy before the change"),
        "{}",
        said(&refused)
    );
    let output = inside(
        &machine,
        NEW,
        &[&arguments[..], &["--force", "--without-backup"]].concat(),
    );
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let text = said(&output);
    assert!(
        text.contains("went back to bundle tiny (Kubernetes v1.9.0"),
        "{text}"
    );
    let switched = format!("link /opt/appliance/current -> {}", digest(&new));
    assert!(text.contains(&switched), "{text}");
    assert!(text.contains("what failed: step "), "{text}");
    let after = contents(&machine.root(), &digest(&new));
    for (path, found) in &before {
        // What the programs that were only named here would have started with.
        if path.ends_with("services.json") {
            continue;
        }
        assert!(
            after.get(path) == Some(found),
            "{} differs: {text}",
            path.display()
        );
    }
    assert!(!machine.root().join(UPGRADE).exists());
    let again = with_root(&machine.root(), &["rollback", "--yes"])
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(2), "{}", said(&again));
}

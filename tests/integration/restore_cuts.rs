//! `appliance restore` on a machine, with a real etcd: whole, begun and not ended, and refused. `cuts` cuts it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use appliance::backup::{Target as To, names};
use appliance::observe::records;
use appliance::paths;
use appliance::records::restored::Phase;
use appliance::restore::begin;
use appliance::sys::root::Root;
use serde_json::Value;
use time::OffsetDateTime;

use crate::backup::Bed;
use crate::harness::{Machine, payload_with_etcd, said};
use crate::objects::swift::{SECRET, Swift};
use crate::restore::backed_up;

struct Bench {
    bed: Bed,
    backup: PathBuf,
    key: PathBuf,
}

impl Bench {
    fn new(network: u8) -> Bench {
        let bed = Bed::new(network);
        let backup = backed_up(&bed);
        Bench::of(bed, backup)
    }

    fn of(mut bed: Bed, backup: PathBuf) -> Bench {
        bed.shared.members[0].stop();
        let key = bed.dir.path().join("key");
        fs::write(&key, &bed.key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        Bench { bed, backup, key }
    }

    fn command(&self, machine: &Machine, more: &[&str]) -> Command {
        let mut command = machine.command("restore", &payload_with_etcd(), more);
        command.arg(&self.backup).arg("--identity").arg(&self.key);
        command
    }

    fn restore(&self, machine: &Machine, more: &[&str]) -> Output {
        self.command(machine, more).output().unwrap()
    }

    /// Everything is in its place: the keys of the backup, and etcd's data. Nothing else is left.
    #[track_caller]
    fn is_restored(&self, machine: &Machine) {
        let own = self.bed.root();
        let root = Root::open(&machine.root()).unwrap();
        for path in [
            paths::key("ca"),
            paths::certificate("etcd-ca"),
            paths::SERVICE_ACCOUNT_PRIVATE.to_owned(),
            paths::ENCRYPTION.to_owned(),
        ] {
            assert_eq!(
                root.read(&path).unwrap(),
                own.read(&path).unwrap(),
                "{path}"
            );
        }
        assert_eq!(root.list(paths::ETCD_DIR).unwrap(), ["member"]);
        assert!(root.exists("/var/lib/etcd/member/snap/db").unwrap());
        let record = records::restored(&root).unwrap().unwrap();
        assert_eq!(record.phase, Phase::Placed);
        assert_eq!(
            records::state(&root).unwrap().unwrap().node,
            "server02",
            "it is installed"
        );
    }
}

#[test]
fn a_machine_becomes_the_master_of_the_backup() {
    let bench = Bench::new(48);
    let machine = Machine::new();
    let before = machine.snapshot();
    let shown = bench.restore(&machine, &["--dry-run"]);
    assert!(shown.status.success(), "{}", said(&shown));
    for line in [
        "restore etcd's data",
        "install this machine as the master server02",
    ] {
        assert!(said(&shown).contains(line), "{}", said(&shown));
    }
    // Nothing was changed, also not without a confirmation.
    let asked = bench.restore(&machine, &[]);
    assert_eq!(asked.status.code(), Some(2), "{}", said(&asked));
    assert_eq!(machine.snapshot(), before);

    let restored = bench.restore(&machine, &["--yes", "-o", "json"]);
    assert!(restored.status.success(), "{}", said(&restored));
    let document: Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert_eq!(document["manifest"]["master"]["node"], "server02");
    bench.is_restored(&machine);
    // Once more, it is a cluster already.
    let again = bench.restore(&machine, &["--yes"]);
    assert_eq!(again.status.code(), Some(2), "{}", said(&again));
    assert!(said(&again).contains("--replace"), "{}", said(&again));
    let replaced = bench.restore(&machine, &["--yes", "--replace"]);
    assert!(replaced.status.success(), "{}", said(&replaced));
    let names = fs::read_dir(machine.root().join("var/lib/etcd")).unwrap();
    let mut names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[1].starts_with("member.replaced-"), "{names:?}");
}

#[test]
fn a_machine_becomes_the_master_of_a_backup_in_a_bucket() {
    let swift = Swift::with_tls();
    let bed = Bed::new(52);
    let place = swift.place("cluster1");
    bed.back_up(&To::Place(place.clone())).unwrap();
    let kept = place.list(&names(&bed.root(), "server02").unwrap());
    let backup = place.shown(&kept.unwrap()[0].name).into();
    let bench = Bench::of(bed, backup);
    let machine = Machine::new();
    let spec = swift.spec();
    let endpoint = spec.endpoint.to_string();
    let credentials = spec.credentials.to_str().unwrap();
    let store = ["--s3-endpoint", &endpoint, "--s3-credentials", credentials];
    let before = machine.snapshot();
    // Its certificate is not of an authority that the system trusts.
    let refused = bench.restore(&machine, &[&store[..], &["--yes"]].concat());
    assert!(!refused.status.success(), "{}", said(&refused));
    assert!(said(&refused).contains("--s3-ca"), "{}", said(&refused));
    assert_eq!(machine.snapshot(), before);

    let ca = spec.ca.unwrap();
    let trusted = ["--s3-ca", ca.to_str().unwrap(), "--yes"];
    let restored = bench.restore(&machine, &[&store[..], &trusted].concat());
    assert!(restored.status.success(), "{}", said(&restored));
    assert!(!said(&restored).contains(SECRET), "{}", said(&restored));
    bench.is_restored(&machine);
}

#[test]
fn while_a_restoration_is_begun_and_not_ended_no_installation_begins() {
    let bench = Bench::new(49);
    let machine = Machine::new();
    let snapshot = bench.bed.dir.path().join("snapshot");
    let manifest = bench.bed.read(&bench.backup, &snapshot).unwrap().manifest;
    let root = Root::open(&machine.root()).unwrap();
    begin(&root, &manifest, OffsetDateTime::now_utc()).unwrap();
    let mut install = machine.install_from(&payload_with_etcd(), &[]);
    let install = install.output().unwrap();
    assert_eq!(install.status.code(), Some(2), "{}", said(&install));
    assert!(said(&install).contains("a restoration from a backup was interrupted"));
    let next = bench.restore(&machine, &["--yes"]);
    assert!(next.status.success(), "{}", said(&next));
    bench.is_restored(&machine);
}

#[test]
fn what_is_no_backup_changes_nothing() {
    let bench = Bench::new(50);
    let machine = Machine::new();
    let before = machine.snapshot();
    let good = fs::read(&bench.backup).unwrap();
    let damaged = |name: &str, content: &[u8]| {
        let path = bench.bed.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for path in [
        damaged("cut", &good[..good.len() - 1000]),
        damaged("flipped", &flipped),
        damaged("other", b"not a backup"),
        Path::new("/dev/zero").to_owned(),
        Path::new("/nonexistent").to_owned(),
    ] {
        let mut command = machine.command("restore", &payload_with_etcd(), &["--yes"]);
        let output = command
            .arg(&path)
            .arg("--identity")
            .arg(&bench.key)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(
            said(&output).contains(&path.display().to_string()),
            "{}",
            said(&output)
        );
        assert_eq!(machine.snapshot(), before, "{}", path.display());
    }
}

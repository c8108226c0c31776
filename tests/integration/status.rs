//! What `appliance status` reports about certificates, images and units.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Result;
use appliance::bundle::manifest::Manifest;
use appliance::clients::docker::Docker;
use appliance::components;
use appliance::nodespec::Role;
use appliance::observe::records;
use appliance::status::{InstalledNode, Overall, Report};
use appliance::sys::lock::{self, Lock, Patience};
use appliance::sys::process::{Command, Output, Runner};
use appliance::sys::root::Root;
use time::{Duration, OffsetDateTime};

use crate::harness::{Machine, said};

/// A machine on which systemd has started only docker, and docker has the image `id`.
struct Fake {
    id: Option<String>,
}

impl Runner for Fake {
    fn run(&self, command: &Command) -> Result<Output> {
        let units = |names: &[String]| -> String {
            let state = |unit: &String| {
                let active = if unit == "docker.service" {
                    "active"
                } else {
                    "inactive"
                };
                format!("Id={unit}\nLoadState=loaded\nActiveState={active}\nSubState=x\n")
            };
            names.iter().map(state).collect::<Vec<_>>().join("\n")
        };
        let (code, stdout) = match command.program.as_str() {
            "systemctl" => (0, units(&command.arguments[2..])),
            "journalctl" => {
                let unit = command.arguments.last().unwrap();
                (0, format!("{unit} began\n{unit} password: hidden\n"))
            }
            _ => self.id.clone().map_or((1, String::new()), |id| (0, id)),
        };
        Ok(Output {
            code: Some(code),
            stdout,
            stderr: String::new(),
        })
    }
}

fn manifest(machine: &Machine) -> Manifest {
    serde_json::from_str(&machine.read("opt/appliance/current/manifest.json")).unwrap()
}

fn ask(machine: &Machine, fake: &Fake, now: OffsetDateTime) -> Report {
    let root = Root::open(&machine.root()).unwrap();
    let state = records::state(&root).unwrap().unwrap();
    let docker = Docker::new("/usr/bin/docker");
    let node = InstalledNode::with(&root, fake, &state, manifest(machine), docker);
    node.report(now).unwrap()
}

fn certificate_problem(report: &Report, name: &str) -> String {
    let found = report
        .certificates
        .iter()
        .find(|certificate| certificate.name == name)
        .unwrap();
    found.problem.clone().unwrap_or_default()
}

fn installed() -> (Machine, Fake) {
    let machine = Machine::new();
    machine.installed(&[]);
    let manifest = manifest(&machine);
    let id = manifest
        .images_of(Role::Master)
        .next()
        .unwrap()
        .image_id
        .clone();
    (machine, Fake { id })
}

#[test]
fn sound_certificates_have_no_problem_and_their_names_are_told() {
    let (machine, fake) = installed();
    let report = ask(&machine, &fake, OffsetDateTime::now_utc());
    for name in components::certificate_names(Role::Master) {
        assert_eq!(certificate_problem(&report, name), "", "{name}");
    }
    let server = report
        .certificates
        .iter()
        .find(|c| c.name == "kubernetes")
        .unwrap();
    for san in [
        "127.0.0.1",
        "192.168.1.102",
        "10.68.0.1",
        "server02",
        "kubernetes.default.svc.cluster.local",
    ] {
        assert!(
            server.sans.iter().any(|name| name == san),
            "{san}: {:?}",
            server.sans
        );
    }
    let admin = report
        .certificates
        .iter()
        .find(|c| c.name == "admin")
        .unwrap();
    assert_eq!(admin.subject, "O=system:masters, CN=admin");
}

#[test]
fn every_fault_of_a_certificate_is_told() {
    let (machine, fake) = installed();
    let (other, _) = installed();
    let ca = |name: &str, file: &str| format!("etc/kubernetes/ca/{name}/{file}");
    machine.put(
        &ca("etcd", "etcd.pem"),
        &other.read(&ca("etcd", "etcd.pem")),
    );
    fs::remove_file(machine.root().join(ca("admin", "admin.pem"))).unwrap();
    let key = machine.root().join(ca("calico", "calico-key.pem"));
    fs::set_permissions(key, fs::Permissions::from_mode(0o644)).unwrap();

    let report = ask(&machine, &fake, OffsetDateTime::now_utc());
    assert_eq!(report.overall, Overall::Degraded);
    assert!(
        certificate_problem(&report, "etcd").contains("not signed by"),
        "{report:?}"
    );
    assert!(
        certificate_problem(&report, "admin").contains("missing"),
        "{report:?}"
    );
    assert!(
        certificate_problem(&report, "calico").contains("mode 0644; expected 0600"),
        "{report:?}"
    );

    let years = |count: i64| OffsetDateTime::now_utc() + Duration::days(365 * count);
    assert!(certificate_problem(&ask(&machine, &fake, years(2)), "kubernetes").contains("expired"));
    let soon = years(1) - Duration::days(20);
    assert!(
        certificate_problem(&ask(&machine, &fake, soon), "kubernetes").contains("expires soon")
    );
    assert!(
        certificate_problem(&ask(&machine, &fake, years(-1)), "kubernetes")
            .contains("is the clock right?")
    );
}

#[test]
fn an_image_that_is_missing_or_another_one_is_told() {
    let (machine, fake) = installed();
    let problem = |fake: &Fake| {
        ask(&machine, fake, OffsetDateTime::now_utc()).images[0]
            .problem
            .clone()
    };
    assert_eq!(problem(&fake), None);
    assert!(problem(&Fake { id: None }).unwrap().contains("not loaded"));
    let other = Fake {
        id: Some("sha256:other".to_owned()),
    };
    assert!(problem(&other).unwrap().contains("not the bundle's image"));
}

#[test]
fn a_unit_that_does_not_run_is_told_with_where_to_look() {
    let (machine, fake) = installed();
    let report = ask(&machine, &fake, OffsetDateTime::now_utc());
    assert_eq!(report.overall, Overall::Degraded);
    let problem = |name: &str| {
        report
            .services
            .iter()
            .find(|s| s.name == name)
            .unwrap()
            .problem
            .clone()
    };
    assert_eq!(problem("etcd").unwrap(), "see journalctl -u etcd");
    assert_eq!(problem("docker"), None);
}

#[test]
fn a_unit_that_does_not_run_shows_the_end_of_its_journal() {
    let (machine, fake) = installed();
    let report = ask(&machine, &fake, OffsetDateTime::now_utc()).with_journal(&fake);
    let of = |name: &str| {
        let mut services = report.services.iter();
        services
            .find(|service| service.name == name)
            .unwrap()
            .journal
            .clone()
    };
    assert_eq!(
        of("etcd"),
        ["etcd.service began", "(a line that may hold a secret)"]
    );
    assert_eq!(of("docker"), Vec::<String>::new());
}

fn status(program: &Path, user: Option<&str>) -> std::process::Output {
    let mut command = std::process::Command::new(match user {
        Some(_) => Path::new("setpriv"),
        None => program,
    });
    if let Some(user) = user {
        command
            .args(["--reuid", user, "--regid", user, "--clear-groups"])
            .arg(program);
    }
    command.arg("status").output().unwrap()
}

#[test]
fn a_machine_that_is_no_node_says_so_to_everyone() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("appliance");
    fs::copy(env!("CARGO_BIN_EXE_appliance"), &program).unwrap();
    for user in [None, Some("65534")] {
        let output = status(&program, user);
        assert_eq!(output.status.code(), Some(4), "{}", said(&output));
        assert!(
            said(&output).starts_with("this machine is not installed"),
            "{}",
            said(&output)
        );
    }
}

#[test]
fn a_run_that_changes_the_machine_is_told_with_its_step() {
    let root = Root::open(Path::new("/")).unwrap();
    let lock = Lock::take(&root, Patience::Endless).unwrap();
    lock::note(&root, "step 3 of 9: load image");
    let output = status(Path::new(env!("CARGO_BIN_EXE_appliance")), None);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    let process = format!("a run is changing it: process {}", std::process::id());
    assert!(said(&output).contains(&process), "{}", said(&output));
    assert!(
        said(&output).contains(", now: step 3 of 9: load image"),
        "{}",
        said(&output)
    );
    drop(lock);
}

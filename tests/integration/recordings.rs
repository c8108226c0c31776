//! What commands show on a terminal, recorded on the nodes of a real cluster. docs/recordings.sh draws the pictures of the
//! documentation from it.

use std::fs;
use std::path::{Path, PathBuf};

use appliance_vm::cluster::{FIVE, Server};
use appliance_vm::drive;
use appliance_vm::machine::Clock;
use rcgen::{CertificateParams, Issuer, KeyPair};
use time::{Duration, OffsetDateTime};

use crate::changes::{bring_appliance, gives_up};
use crate::vms::{APPLIANCE, Bed, Flavor, address};

/// The size of the terminal, as docs/recordings.py has it.
const SIZE: &str = "stty cols 100 rows 48";
/// No properties set the roles: the recording does.
const MASTER: &str = "server02";
const WORKER: &str = "server03";
const SERVERS: &[Server] = FIVE.split_at(1).1.split_at(2).0;
const FLAVOR: Flavor = Flavor {
    memory: drive::MEMORY,
    cpus: drive::CPUS,
    clock: Clock::OfTheWall,
    beside: None,
};
/// The unit of the command whose end the test decides.
const WATCH: &str = "recorded-watch";

/// The directory of all recordings.
fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("out/recordings")
}

/// The arguments with which `script`, in a VM, runs a command on a terminal and records what it shows, and when.
fn recorder(command: &str) -> Vec<String> {
    let arguments = [
        "/usr/bin/env",
        "-C",
        "/root",
        "HOME=/root",
        "TERM=xterm-256color",
        "LC_ALL=C.UTF-8",
        "script",
        "--quiet",
        "--return",
        "--flush",
        "--logging-format=classic",
        "--log-out=/root/recorded.output",
        "--log-timing=/root/recorded.times",
        "--command",
    ];
    let mut arguments: Vec<String> = arguments.map(str::to_owned).into();
    arguments.push(format!("{SIZE}; {command}"));
    arguments
}

/// Keeps what was recorded in a VM as the next command of a recording.
fn keep(bed: &mut Bed, name: &str, recording: &str, command: &str) {
    let directory = place().join(recording);
    fs::create_dir_all(&directory).unwrap();
    let number = fs::read_dir(&directory).unwrap().count() / 3;
    fs::write(directory.join(format!("{number}.command")), command).unwrap();
    for kind in ["output", "times"] {
        let text = bed.shell(name, &format!("cat /root/recorded.{kind}"));
        fs::write(directory.join(format!("{number}.{kind}")), text).unwrap();
    }
    bed.shell(name, "rm /root/recorded.*");
}

/// Records a command to its end. Returns its exit code.
fn record(bed: &mut Bed, name: &str, recording: &str, command: &str) -> i64 {
    let arguments = recorder(command);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = bed.machine(name).run(&arguments).unwrap();
    bed.say(&format!("{name}# {command}: exit code {}", output.code));
    println!("{}", output.stdout);
    keep(bed, name, recording, command);
    output.code
}

/// Records a command that goes on while other things happen.
fn begin(bed: &mut Bed, name: &str, command: &str) {
    let arguments = recorder(&format!("exec {command}"));
    let unit = format!("--unit={WATCH}");
    let mut all = vec!["systemd-run", "--quiet", &unit];
    all.extend(arguments.iter().map(String::as_str));
    assert_eq!(bed.machine(name).run(&all).unwrap().code, 0);
}

/// Ends it as Ctrl-C does.
fn end(bed: &mut Bed, name: &str, recording: &str, command: &str) {
    let ends = format!("pkill -INT --parent $(systemctl show --property=MainPID --value {WATCH})");
    bed.shell(name, &ends);
    bed.wait_at(name, "the recording has ended", |machine| {
        let state = machine.run(&["systemctl", "is-active", "--quiet", WATCH]);
        state.is_ok_and(|state| state.code != 0)
    });
    keep(bed, name, recording, command);
}

/// VMs that have the appliance and are no nodes.
fn machines() -> Bed {
    let settings = |token: &str| format!("  join: {{token: {token}, ttl: 2h, uses: 1}}\n");
    let mut bed = Bed::new(SERVERS, &FLAVOR, settings);
    bed.switch_on(&[MASTER, WORKER]);
    for name in [MASTER, WORKER] {
        // They have no role: their boot ends with that.
        bring_appliance(&mut bed, name);
        gives_up(&mut bed, name);
    }
    bed
}

/// These lines are among the settings of a VM.
fn has_role(bed: &mut Bed, name: &str, lines: &str) {
    let add = format!("echo '{lines}' >>/etc/appliance/config.yaml");
    bed.shell(name, &add);
}

/// The certificate of the API server has expired, and it was started again since.
fn expire(bed: &mut Bed) {
    let directory = "/etc/kubernetes/ca";
    let file = format!("{directory}/kubernetes/kubernetes.pem");
    let [authority, signing, own] = ["ca.pem", "ca-key.pem", "kubernetes/kubernetes-key.pem"]
        .map(|name| bed.shell(MASTER, &format!("cat {directory}/{name}")));
    let [signing, own] = [signing, own].map(|key| KeyPair::from_pem(&key).unwrap());
    let mut params = CertificateParams::new([address(MASTER)]).unwrap();
    params.not_before = OffsetDateTime::now_utc() - Duration::days(366);
    params.not_after = OffsetDateTime::now_utc() - Duration::days(1);
    let issuer = Issuer::from_ca_cert_pem(&authority, signing).unwrap();
    let expired = params.signed_by(&own, &issuer).unwrap().pem();
    bed.shell(MASTER, &format!("cat >{file} <<'END'\n{expired}END"));
    bed.shell(MASTER, "systemctl restart kube-apiserver");
}

/// The cluster is ready, by the status of its master.
fn wait_until_ready(bed: &mut Bed) {
    bed.wait_at(MASTER, "the cluster is ready", |machine| {
        let status = machine.run(&[APPLIANCE, "status"]);
        status.is_ok_and(|status| status.code == 0)
    });
}

#[test]
#[ignore = "boots virtual machines; docs/recordings.sh runs it"]
fn a_cluster_is_recorded() {
    let _ = fs::remove_dir_all(place());
    let mut bed = machines();
    has_role(&mut bed, MASTER, "role: single");
    assert_eq!(record(&mut bed, MASTER, "install", "appliance install"), 0);

    let watch = "appliance status --watch";
    begin(&mut bed, MASTER, watch);
    has_role(
        &mut bed,
        WORKER,
        &format!("role: worker\nmaster: {}", address(MASTER)),
    );
    println!("{}", bed.shell(WORKER, &format!("{APPLIANCE} install")));
    bed.wait_at(MASTER, "the recording shows it", |machine| {
        let last = machine.shell("tail -n 12 /root/recorded.output");
        last.is_ok_and(|last| last.contains("2 of 2 Ready") && last.contains("cluster ready"))
    });
    end(&mut bed, MASTER, "watch", watch);

    for (name, file) in [(MASTER, "timeline.svg"), (WORKER, "timeline-worker.svg")] {
        bed.shell(name, &format!("{APPLIANCE} timeline --file /root/{file}"));
        let picture = bed.shell(name, &format!("cat /root/{file}"));
        fs::write(place().join(file), picture).unwrap();
    }

    expire(&mut bed);
    let doctor = |bed: &mut Bed, command| record(bed, MASTER, "doctor", command);
    assert_ne!(doctor(&mut bed, "kubectl get nodes"), 0);
    assert_eq!(doctor(&mut bed, "appliance doctor"), 3);
    assert_eq!(doctor(&mut bed, "appliance install"), 0);
    wait_until_ready(&mut bed);
    assert_eq!(doctor(&mut bed, "appliance doctor"), 0);

    let apply = |bed: &mut Bed, command| record(bed, MASTER, "apply", command);
    assert_eq!(apply(&mut bed, "cp /etc/appliance/config.yaml new.yaml"), 0);
    let add = "echo 'apiServerSANs: api.example.org' >>new.yaml";
    assert_eq!(apply(&mut bed, add), 0);
    assert_eq!(apply(&mut bed, "appliance apply new.yaml --dry-run"), 7);
    assert_eq!(apply(&mut bed, "appliance apply new.yaml --yes"), 0);
}

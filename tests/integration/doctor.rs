//! `appliance doctor`: real faults, and what is told of them. The table has tests of its own beside the code.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use appliance::cli::parse;
use appliance::doctor::{document, known};
use appliance::paths;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rcgen::{CertificateParams, Issuer, KeyPair};
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use crate::harness::{Machine, SmallDisk, document as parsed, said};
use crate::living::Living;

/// What is found on the disk of this machine.
fn examined(machine: &Machine) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(["doctor", "-o", "json", "--root"])
        .arg(machine.root())
        .output()
        .unwrap();
    read(&output)
}

/// The document of a run, whose exit code must fit to it.
fn read(output: &Output) -> Value {
    let document = parsed(output);
    let code = if document["sound"] == true { 0 } else { 3 };
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
    document
}

/// The names of all that was found, without what follows. The disk of the machine with the tests may be nearly full.
fn names(document: &Value) -> Vec<&str> {
    let found = document["found"].as_array().unwrap().iter();
    let names = found.map(|one| one["name"].as_str().unwrap());
    names.filter(|name| *name != "disk-nearly-full").collect()
}

/// What was found with this name.
#[track_caller]
fn one<'a>(document: &'a Value, name: &str) -> &'a Value {
    let mut found = document["found"].as_array().unwrap().iter();
    let one = found.find(|one| one["name"] == name);
    one.unwrap_or_else(|| panic!("{name} was not found: {document:#}"))
}

#[test]
fn a_machine_without_a_node_is_told_and_nothing_changes() {
    let machine = Machine::new();
    let before = machine.snapshot();
    let document = examined(&machine);
    assert_eq!(names(&document), ["not-a-node"]);
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn nothing_is_found_on_the_disk_of_a_node_and_nothing_changes() {
    let machine = Machine::new();
    machine.installed(&[]);
    let before = machine.snapshot();
    let document = examined(&machine);
    assert_eq!(names(&document), [""; 0], "{document:#}");
    assert_eq!(document["node"], "server02");
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn an_expired_certificate_is_told_with_its_path() {
    let machine = Machine::new();
    machine.installed(&[]);
    let key = KeyPair::from_pem(&machine.read("etc/kubernetes/ca/ca-key.pem")).unwrap();
    let authority = machine.read("etc/kubernetes/ca/ca.pem");
    let issuer = Issuer::from_ca_cert_pem(&authority, key).unwrap();
    let mut params = CertificateParams::default();
    params.not_before = OffsetDateTime::now_utc() - Duration::days(400);
    params.not_after = OffsetDateTime::now_utc() - Duration::days(1);
    let own = KeyPair::from_pem(&machine.read("etc/kubernetes/ca/admin/admin-key.pem")).unwrap();
    let expired = params.signed_by(&own, &issuer).unwrap();
    machine.put("etc/kubernetes/ca/admin/admin.pem", &expired.pem());
    let document = examined(&machine);
    assert_eq!(names(&document), ["certificate-expired"]);
    let seen = one(&document, "certificate-expired")["seen"].to_string();
    assert!(
        seen.contains("/etc/kubernetes/ca/admin/admin.pem ended on 20"),
        "{seen}"
    );

    // One of another authority.
    let other = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let foreign = CertificateParams::default()
        .signed_by(&own, &Issuer::new(params, other))
        .unwrap();
    machine.put("etc/kubernetes/ca/admin/admin.pem", &foreign.pem());
    machine.put(
        "etc/kubernetes/ca/kubernetes/kubernetes.pem",
        "-----BEGIN CERT",
    );
    fs::remove_file(machine.root().join("etc/kubernetes/ca/etcd/etcd-key.pem")).unwrap();
    let document = examined(&machine);
    let found: BTreeSet<&str> = names(&document).into_iter().collect();
    let expected = [
        "certificate-foreign",
        "certificate-unreadable",
        "key-missing",
    ];
    assert_eq!(found, BTreeSet::from(expected));
}

#[test]
fn a_full_disk_is_told() {
    let machine = Machine::new();
    machine.installed(&[]);
    let etcd = machine.root().join("var/lib/etcd");
    let disk = SmallDisk::at(etcd.clone(), "1m");
    assert_eq!(names(&examined(&machine)), [""; 0]);
    assert!(fs::write(etcd.join("all"), vec![1; 2 << 20]).is_err());
    let document = examined(&machine);
    drop(disk);
    assert_eq!(names(&document), ["disk-full"]);
    let seen = one(&document, "disk-full")["seen"].to_string();
    assert!(
        seen.contains("/var/lib/etcd has 0 MiB of 1 MiB left"),
        "{seen}"
    );
}

#[test]
fn units_that_someone_changed_are_told() {
    let machine = Machine::new();
    machine.installed(&[]);
    let units = machine.root().join("etc/systemd/system");
    fs::remove_file(units.join("etcd.service")).unwrap();
    symlink("/dev/null", units.join("etcd.service")).unwrap();
    fs::remove_file(units.join("kube-scheduler.service")).unwrap();
    machine.put("etc/systemd/system/kube-apiserver.service", "[Service]\n");
    machine.put(
        "etc/systemd/system/kube-calico.service.d/a.conf",
        "[Service]\n",
    );
    let document = examined(&machine);
    let found: BTreeSet<&str> = names(&document).into_iter().collect();
    assert_eq!(
        found,
        BTreeSet::from(["unit-masked", "unit-missing", "unit-changed"])
    );
    assert!(
        one(&document, "unit-masked")["command"]
            .to_string()
            .contains("unmask etcd.service")
    );
}

#[test]
fn files_of_any_shape_are_told_and_stop_nothing() {
    type Shape = fn(&Path);
    let shapes: [(&str, Shape); 7] = [
        ("empty", |path| fs::write(path, "").unwrap()),
        ("cut", |path| fs::write(path, "{").unwrap()),
        ("bytes", |path| fs::write(path, b"\xff\xfe\0\0").unwrap()),
        ("directory", |path| fs::create_dir(path).unwrap()),
        ("FIFO", |path| mkfifo(path, Mode::S_IRWXU).unwrap()),
        ("link to itself", |path| {
            symlink(path.file_name().unwrap(), path).unwrap();
        }),
        ("link to nothing", |path| symlink("/nothing", path).unwrap()),
    ];
    for (name, shape) in shapes {
        let machine = Machine::new();
        machine.installed(&[]);
        let records = [
            paths::STATE,
            paths::RUN,
            paths::UPGRADE,
            paths::WRITTEN_RECORD,
            paths::CLUSTER,
        ];
        for path in
            records
                .iter()
                .chain([&paths::IMAGES, &paths::CA_CERTIFICATE, &paths::CNI_CONFIG])
        {
            let at = machine.root().join(&path[1..]);
            drop(fs::remove_file(&at));
            shape(&at);
        }
        let document = examined(&machine);
        let seen = one(&document, "record-damaged")["seen"].to_string();
        assert!(
            seen.contains(paths::STATE) && seen.contains(paths::RUN),
            "{name}: {seen}"
        );
    }
}

#[test]
fn a_half_installed_node_is_told_with_its_step() {
    let machine = Machine::new();
    machine.put("var/lib/appliance/services.json", "{}");
    assert_eq!(names(&examined(&machine)), ["installation-failed"]);
    let run = r#"{"command": "install", "begun": "2026-11-30T00:00:00Z", "at": "2026-11-30T00:00:00Z",
        "step": 41, "of": 91, "what": "start etcd", "process": null}"#;
    machine.put("var/lib/appliance/run.json", run);
    let document = examined(&machine);
    assert_eq!(names(&document), ["interrupted-run"]);
    let one = one(&document, "interrupted-run");
    assert!(
        one["seen"]
            .to_string()
            .contains("step 41 of 91 (start etcd)"),
        "{one}"
    );
    assert_eq!(one["command"], "appliance install");
}

#[test]
fn a_root_that_does_not_exist_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(["doctor", "--root", "/nonexistent"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

/// What is found by a program that runs in the living system, after a script.
fn living(living: &Living, script: &str) -> Value {
    let script = format!("{NODE}\n{script}\nappliance doctor -o json");
    read(&living.script(&script, &[]))
}

/// The interface of the node, to another machine with the address of the master.
const NODE: &str = "
bind /usr/sbin/ip
ip link set lo up
# That of the machine with the tests has other interfaces.
mount -t sysfs none \"$root/sys\"
mkdir -p /run/netns
mount -t tmpfs none /run/netns
ip netns add other
ip link add ens3 type veth peer name eth0 netns other
ip link set ens3 up
ip address add 192.168.1.102/24 dev ens3
ip -n other link set lo up
ip -n other link set eth0 up
ip -n other address add 192.168.1.101/24 dev eth0
other() { ip netns exec other \"$@\"; }
listen() { other python3 -c '
import os, signal, socket, sys
all = [socket.create_server((\"192.168.1.101\", int(port))) for port in sys.argv[1:]]
if os.fork() == 0: signal.pause()
' \"$@\" >/dev/null 2>&1; }
";

/// A worker of the master at 192.168.1.101.
fn worker() -> Living {
    let living = Living::new(&["--role", "single"]);
    let path = "var/lib/appliance/state.json";
    let state = living.machine.read(path);
    let mut state: Value = serde_json::from_str(&state).unwrap();
    state["role"] = "worker".into();
    living.machine.put(path, &state.to_string());
    let kubeconfig = "clusters:\n- cluster:\n    server: https://192.168.1.101:6443\n";
    living
        .machine
        .put("etc/kubernetes/kubelet.kubeconfig", kubeconfig);
    living
}

#[test]
fn a_port_that_is_dropped_is_told_from_one_at_which_nothing_listens() {
    let worker = worker();
    let script = "listen 2378 6443; other iptables -A INPUT -p tcp --dport 2378 -j DROP";
    let document = living(&worker, script);
    let dropped = &one(&document, "port-dropped");
    assert!(
        dropped["seen"].to_string().contains("192.168.1.101:2378"),
        "{dropped}"
    );
    assert!(!dropped["seen"].to_string().contains(":6443"), "{dropped}");
    let refused = &one(&document, "port-refused")["seen"].to_string();
    assert!(refused.contains("192.168.1.101:179"), "{refused}");

    let document = living(&worker, "other iptables -P INPUT DROP");
    let root = one(&document, "masters-unreachable");
    assert_eq!(root["likely"], true, "{root}");
    let follows = root["follows"].to_string();
    assert!(follows.contains("node-silent"), "{follows}");
    assert!(!names(&document).contains(&"node-silent"), "{document:#}");
}

#[test]
fn a_network_that_passes_only_small_packets_is_told() {
    let worker = worker();
    let small = "listen 179 2378 6443";
    assert!(!names(&living(&worker, small)).contains(&"path-mtu"));
    // A network that drops them, and says nothing.
    let drops = "other iptables -A INPUT -m length --length 1431:65535 -j DROP";
    let document = living(&worker, &format!("{small}; {drops}"));
    let path = one(&document, "path-mtu");
    assert!(
        path["seen"]
            .to_string()
            .contains("packets of 1430 bytes do"),
        "{path}"
    );
    assert_eq!(
        path["command"],
        "echo 'mtu: 1430' >>/etc/appliance/config.yaml && appliance install"
    );
    // A route that the kernel knows to be narrow.
    let narrow = "ip route add 192.168.1.101/32 dev ens3 mtu 1400";
    let document = living(&worker, &format!("{small}; {narrow}"));
    let path = one(&document, "path-mtu");
    assert_eq!(
        path["command"],
        "echo 'mtu: 1400' >>/etc/appliance/config.yaml && appliance install"
    );
    // A network without UDP says nothing.
    let silent = "other iptables -A INPUT -p udp -j DROP";
    let document = living(&worker, &format!("{small}; {silent}"));
    assert!(!names(&document).contains(&"path-mtu"));
}

/// BGP with the other machine, by real BIRDs, and a tunnel to its pods: packets go through it in IP protocol 4, as the
/// kernel's `ipip` sends them, which not every machine with tests has.
const TUNNEL: &str = r#"
birdc=$2
# A program of the node, and none that took its port.
bird=$root/opt/appliance/bird
cp "$1" "$bird"
health='
import http.server
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200); self.end_headers()
http.server.HTTPServer(("127.0.0.1", 9099), Ready).serve_forever()
'
python3 -c "$health" >/dev/null 2>&1 &
configure() {
    printf 'router id %s; log "%s/bird.log" all; protocol device {} protocol bgp Mesh_%s { local as 64512; neighbor %s as 64512; }' \
        "$1" "$root/run" "$(echo "$2" | tr . _)" "$2"
}
mkdir -p "$root/var/run/calico"
rm -f "$root/var/run/calico/bird.ctl" "$root/run/other.ctl"
configure 192.168.1.102 192.168.1.101 >"$root/run/node.conf"
configure 192.168.1.101 192.168.1.102 >"$root/run/other.conf"
"$bird" -c "$root/run/node.conf" -s "$root/var/run/calico/bird.ctl"
other "$bird" -c "$root/run/other.conf" -s "$root/run/other.ctl"
tunnel='
import fcntl, os, select, socket, struct, sys
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH", b"tunl0", 0x1001))
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 4)
if os.fork(): sys.exit()
while True:
    ready, _, _ = select.select([tun, raw], [], [])
    if tun in ready: raw.sendto(os.read(tun, 65536), (sys.argv[1], 0))
    if raw in ready:
        packet = raw.recv(65536)
        if packet[20] >> 4 == 4: os.write(tun, packet[20:])
'
python3 -c "$tunnel" 192.168.1.101 >/dev/null 2>&1
other python3 -c "$tunnel" 192.168.1.102 >/dev/null 2>&1
ip address add 10.233.65.0/32 dev tunl0
ip link set tunl0 up
ip route add 10.233.64.0/26 via 192.168.1.101 dev tunl0 onlink
ip -n other address add 10.233.64.0/32 dev tunl0
ip -n other link set tunl0 up
ip -n other route add 10.233.65.0/26 dev tunl0
until "$birdc" -s "$root/var/run/calico/bird.ctl" show protocols | grep -q Established; do :; done
"#;

#[test]
fn a_network_that_drops_protocol_4_is_told_as_likely() {
    let worker = worker();
    let [bird, birdc] = ["bird", "birdc"].map(in_path);
    let with = |more: &str| {
        let script =
            format!("{NODE}\n{TUNNEL}\nlisten 2378 6443\n{more}\nappliance doctor -o json");
        read(&worker.script(&script, &[&bird, &birdc]))
    };
    let document = with("");
    assert!(
        !names(&document).contains(&"tunnel-dropped"),
        "{document:#}"
    );
    assert!(!names(&document).contains(&"bgp-down"), "{document:#}");
    let document = with("other iptables -A INPUT -p 4 -j DROP");
    let tunnel = one(&document, "tunnel-dropped");
    assert_eq!(tunnel["likely"], true);
    assert!(
        tunnel["seen"]
            .to_string()
            .contains("10.233.64.0/26 behind 192.168.1.101"),
        "{tunnel}"
    );
    assert!(
        tunnel["command"].to_string().contains("--protocol 4"),
        "{tunnel}"
    );
}

/// The path of a program.
fn in_path(name: &str) -> String {
    let path = std::env::var("PATH").unwrap();
    let mut all = std::env::split_paths(&path).map(|dir| dir.join(name));
    let found = all.find(|path| path.exists());
    found
        .unwrap_or_else(|| panic!("{name}: run `make tools`"))
        .display()
        .to_string()
}

#[test]
fn a_docker_that_hangs_is_told_and_stops_nothing() {
    let master = Living::new(&[]);
    let script = "printf '#!/bin/sh\\nread x <>/run/hangs\\n' >\"$root/usr/bin/docker\"; mkfifo \"$root/run/hangs\"";
    let document = living(&master, script);
    one(&document, "docker-hangs");
    let unread = document["unread"].to_string();
    assert!(unread.contains("did not end within 15 s"), "{unread}");
    assert!(names(&document).contains(&"etcd-down"), "{document:#}");
}

#[test]
fn only_the_root_is_told_if_everything_is_down() {
    let master = Living::new(&["--role", "single"]);
    for unit in [
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "appliance-addons",
    ] {
        master
            .machine
            .put(&format!("run/stopped/{unit}.service"), "");
    }
    let document = living(&master, "");
    let root = one(&document, "etcd-down");
    let follows = root["follows"].to_string();
    for name in [
        "api-server-down",
        "scheduler-down",
        "controller-manager-down",
        "other-service-down",
    ] {
        assert!(follows.contains(name), "{name}: {follows}");
        assert!(!names(&document).contains(&name), "{document:#}");
    }
}

#[test]
fn every_command_of_the_table_is_one_that_a_shell_and_this_program_take() {
    for fault in known() {
        let command = fault.command;
        let checked = Command::new("sh")
            .args(["-n", "-c", command])
            .output()
            .unwrap();
        assert!(
            checked.status.success(),
            "{}: {}",
            fault.name,
            said(&checked)
        );
        for part in command
            .split(" && ")
            .filter(|part| part.starts_with("appliance "))
        {
            let is_help = part.starts_with("appliance RUN");
            let parses = parse(part.split(' ').map(Into::into)).is_ok();
            assert!(parses || is_help, "{}: {part}", fault.name);
        }
    }
}

#[test]
fn the_documentation_has_every_fault() {
    let page = document();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md");
    if std::env::var_os("APPLIANCE_BLESS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/faults.md is not the table; write it again: APPLIANCE_BLESS=1 cargo test --test integration doctor::"
    );
}

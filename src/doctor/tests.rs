#![allow(clippy::unwrap_used)]

use core::net::Ipv4Addr;
use std::collections::{BTreeMap, BTreeSet};

use ::time::{Duration, OffsetDateTime};

use super::facts::{
    Answer, Boot, Certificate, DockerSays, Etcd, Facts, FileSystem, Held, KernelLog, Node,
    NodeObject, PathOf, Reached, Runs, Session, Tunnel, Unit, UnitFile,
};
use super::{Diagnosis, Level, diagnose, known};
use crate::nodespec::{Profile, Role, Shape};
use crate::paths;
use crate::preflight::DockerSource;
use crate::preflight::docker::daemon::{Docker, Running};
use crate::preflight::facts::{
    Booted, Cgroups, Clock, Facts as Machine, Listener, Place, System, Wanted,
};

const OWN: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 103);
const MASTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 101);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 104);

fn now() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::days(20_000)
}

/// What is read of a node on which everything works.
fn sound(role: Role) -> Facts {
    Facts {
        now: now(),
        live: true,
        node: Some(node(role)),
        begun: true,
        damaged: Vec::new(),
        runs: Runs::default(),
        machine: Some(machine(role)),
        kernel: KernelLog::default(),
        addresses: Some(vec![OWN]),
        switched_off: Vec::new(),
        bundle_lost: false,
        file_systems: vec![disk()],
        synchronized: Some(true),
        offsets: vec![(MASTER, 1)],
        certificates: ["ca", "etcd"].map(certificate).to_vec(),
        units: units(),
        unit_files: Vec::new(),
        docker: Some(docker()),
        docker_hangs: false,
        images_missing: Vec::new(),
        etcd: Some(Etcd {
            answers: true,
            has_leader: Some(true),
            alarms: Vec::new(),
        }),
        object: Some(NodeObject::Found {
            conditions: Vec::new(),
            cordoned: false,
        }),
        peers: vec![
            session(MASTER, "Established"),
            session(OTHER, "Established"),
        ],
        reached: vec![
            reached(MASTER, 6443, Answer::Open),
            reached(MASTER, 179, Answer::Open),
            reached(OTHER, 179, Answer::Open),
        ],
        paths: vec![PathOf {
            address: OTHER,
            mtu: 1450,
            passes: Some(1450),
        }],
        tunnels: vec![tunnel(true)],
        pod_mtu: Some(1430),
        own_mtu: Some(1450),
        install_log: vec!["info: this node is installed".to_owned()],
        unread: Vec::new(),
    }
}

fn node(role: Role) -> Node {
    Node {
        shape: Shape {
            role,
            profile: Profile::WithCa,
            balanced: false,
        },
        name: "server03".to_owned(),
        address: Some(OWN),
        masters: vec![MASTER],
        tunnelled: true,
    }
}

fn disk() -> FileSystem {
    FileSystem {
        place: "/".to_owned(),
        used: 10 << 30,
        available: 10 << 30,
        files: Some(1_000_000),
    }
}

fn docker() -> DockerSays {
    DockerSays {
        cgroup_driver: "cgroupfs".to_owned(),
        kubelet_driver: Some("cgroupfs".to_owned()),
        storage_driver: "overlay2".to_owned(),
    }
}

fn units() -> BTreeMap<String, Unit> {
    let running = |name: &str| {
        let unit = Unit {
            load: "loaded".to_owned(),
            active: "active".to_owned(),
            sub: "running".to_owned(),
            enabled: "enabled".to_owned(),
            ..Unit::default()
        };
        (name.to_owned(), unit)
    };
    let names = [
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "docker",
        "kube-calico",
        "kubelet",
        "kube-proxy",
        "appliance-signer",
    ];
    names.map(running).into()
}

fn machine(role: Role) -> Machine {
    Machine {
        wanted: Wanted {
            address: Some(OWN),
            ..Wanted::without_settings(role, Vec::new())
        },
        installed: true,
        system: System {
            has_systemd: true,
            systemd: Some(252),
            knows_own_name: true,
            name_servers: vec!["192.0.2.53".to_owned()],
            ..System::default()
        },
        booted: Some(Booted {
            release: "6.1.0".to_owned(),
            knows_modules: true,
            cgroups: Some(Cgroups::default()),
            hostname: "server03".to_owned(),
            places: vec![place()],
            conntrack: Some((12, 262_144)),
            ..Booted::default()
        }),
        clock: Some(Clock {
            now: now(),
            newest: None,
            keeper: None,
        }),
        firewall: None,
        room: None,
        docker_source: DockerSource::Machine,
        docker: Docker::default(),
    }
}

fn place() -> Place {
    Place {
        path: "/var/lib".to_owned(),
        mount: "/srv/my data".to_owned(),
        noexec: false,
        read_only: false,
    }
}

fn certificate(name: &str) -> Certificate {
    Certificate {
        name: name.to_owned(),
        path: format!("/etc/kubernetes/ca/{name}.pem"),
        found: Held::Valid {
            not_before: now() - Duration::days(300),
            not_after: now() + Duration::days(60),
            signed: true,
            key: None,
        },
    }
}

fn session(address: Ipv4Addr, info: &str) -> Session {
    Session {
        address: address.to_string(),
        established: info == "Established",
        refused: info == "Bad peer AS",
        info: info.to_owned(),
    }
}

fn reached(address: Ipv4Addr, port: u16, answer: Answer) -> Reached {
    Reached {
        address,
        master: address == MASTER,
        port,
        purpose: "a service",
        answer,
    }
}

fn tunnel(answers: bool) -> Tunnel {
    Tunnel {
        gateway: OTHER,
        range: "10.233.64.0/26".to_owned(),
        answers,
    }
}

fn booted(facts: &mut Facts) -> &mut Booted {
    facts.machine.as_mut().unwrap().booted.as_mut().unwrap()
}

fn held(
    facts: &mut Facts,
    index: usize,
    change: impl Fn(&mut OffsetDateTime, &mut OffsetDateTime, &mut bool, &mut Option<String>),
) {
    if let Held::Valid {
        not_before,
        not_after,
        signed,
        key,
    } = &mut facts.certificates[index].found
    {
        change(not_before, not_after, signed, key);
    }
}

/// Stops these services; the journal of the first one ends with this line.
fn stop(facts: &mut Facts, names: &[&str], line: &str) {
    for (index, name) in names.iter().enumerate() {
        let unit = facts.units.get_mut(*name).unwrap();
        (unit.active, unit.sub) = ("failed".to_owned(), "failed".to_owned());
        unit.lines = if index == 0 {
            vec![line.to_owned()]
        } else {
            Vec::new()
        };
    }
}

/// A fault: its name, what spoils a sound node, what else follows, and words of the command.
struct Case(
    &'static str,
    fn(&mut Facts),
    &'static [&'static str],
    &'static str,
);

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case("not-a-node", |f| { f.node = None; f.begun = false; f.units.clear(); f.etcd = None; f.object = None; f.reached.clear(); f.peers.clear(); f.tunnels.clear(); f.certificates.clear(); }, &[], "appliance install"),
    Case("copy-of-a-node", |f| { f.runs.is_copy = true; stop(f, &["etcd", "kubelet"], ""); }, &["etcd-down", "kubelet-down"], "appliance reset"),
    Case("interrupted-run", |f| { f.runs.interrupted = Some(("install was interrupted".to_owned(), "appliance install".to_owned())); f.images_missing.push("pause".to_owned()); }, &["images-lost"], "appliance install"),
    Case("settings-refused", |f| { f.runs.boot = Boot::Refused; f.install_log = vec!["a".to_owned(), "error: nothing was changed, because:".to_owned(), "  - this node is installed with role master".to_owned()]; }, &[], "appliance plan"),
    Case("installation-failed", |f| { f.runs.boot = Boot::Failed; f.install_log.push("error: x".to_owned()); stop(f, &["appliance-signer"], ""); }, &["other-service-down"], "appliance install"),
    Case("installation-failed", |f| { f.node = None; f.units.clear(); }, &[], "appliance install"),
    Case("record-damaged", |f| f.damaged.push((paths::STATE.to_owned(), "EOF while parsing".to_owned())), &[], "mv /var/lib/appliance/state.json /var/lib/appliance/state.json.damaged"),
    Case("record-damaged", |f| f.damaged.push((paths::CONFIG.to_owned(), "unknown field".to_owned())), &[], "appliance config validate /etc/appliance/config.yaml"),
    Case("bundle-lost", |f| { f.bundle_lost = true; stop(f, &["kubelet"], "No such file"); }, &["kubelet-down"], "appliance install"),
    Case("address-lost", |f| { f.addresses = Some(vec![OTHER]); stop(f, &["etcd"], "cannot assign requested address"); }, &["etcd-down"], "--change address"),
    Case("upgrade-unfinished", |f| f.runs.upgrade = Some("the upgrade is not finished".to_owned()), &[], "appliance rollback"),
    Case("run-waits", |f| f.runs.active = Some(("process 7".to_owned(), 4000)), &[], "appliance logs install"),
    Case("token-refused", |f| { f.node = None; f.units.clear(); f.runs.boot = Boot::Failed; f.install_log.push("error: master 192.168.1.101 refuses: token abcdef has expired; make another".to_owned()); }, &["installation-failed"], "appliance token create"),
    Case("token-differs", |f| { f.node = None; f.units.clear(); f.runs.active = Some(("process 7".to_owned(), 4000)); f.install_log.push("warn: master does not prove that it knows token abcdef".to_owned()); }, &["run-waits"], "appliance token create"),
    Case("master-not-reached", |f| { f.node = None; f.units.clear(); f.runs.active = Some(("process 7".to_owned(), 4000)); f.install_log.push("warn: cannot reach the master 192.168.1.101: timed out".to_owned()); }, &["run-waits"], "appliance logs install"),
    Case("name-taken", |f| { f.node = None; f.units.clear(); f.runs.active = Some(("process 7".to_owned(), 4000)); f.install_log.push("a node server03 is in the cluster, and ready".to_owned()); }, &["run-waits"], "kubectl delete node server03"),
    Case("authority-differs", |f| { f.runs.boot = Boot::Failed; f.install_log.push("error: the master has another certificate authority".to_owned()); }, &["installation-failed"], "mv /etc/kubernetes/ca "),
    Case("disk-full", |f| { f.file_systems[0].available = 0; stop(f, &["etcd", "kube-apiserver", "docker"], "x"); f.images_missing.push("pause".to_owned()); }, &["docker-down", "etcd-down", "api-server-down", "images-lost"], "--vacuum-size"),
    Case("disk-full", |f| stop(f, &["docker"], "write /x: no space left on device"), &["docker-down"], "--vacuum-size"),
    Case("disk-nearly-full", |f| (f.file_systems[0].used, f.file_systems[0].available) = (92 << 30, 8 << 30), &[], "appliance prune"),
    Case("inodes-full", |f| { f.file_systems[0].files = Some(0); stop(f, &["docker"], "x"); }, &["docker-down"], "du --inodes"),
    Case("read-only", |f| { booted(f).places[0].read_only = true; stop(f, &["etcd"], "x"); }, &["etcd-down"], "mount -o remount,rw '/srv/my data'"),
    Case("no-exec", |f| { booted(f).places[0].noexec = true; stop(f, &["kubelet"], "permission denied"); }, &["kubelet-down"], "mount -o remount,exec '/srv/my data'"),
    Case("clock-behind", |f| { f.machine.as_mut().unwrap().clock.as_mut().unwrap().newest = Some(("/x".to_owned(), now() + Duration::days(400))); held(f, 1, |before, _, _, _| *before = now() + Duration::days(1)); f.synchronized = Some(false); }, &["clock-unsynchronized", "certificate-not-yet-valid"], "timedatectl set-ntp true"),
    Case("clock-differs", |f| { f.offsets = vec![(MASTER, -7200)]; f.synchronized = Some(false); }, &["clock-unsynchronized"], "timedatectl set-ntp true"),
    Case("clock-unsynchronized", |f| f.synchronized = Some(false), &[], "timedatectl set-ntp true"),
    Case("cgroup-v2", |f| { booted(f).cgroups.as_mut().unwrap().unified = true; stop(f, &["kubelet"], "x"); }, &["kubelet-down"], "systemd.unified_cgroup_hierarchy=0"),
    Case("modules-missing", |f| { booted(f).missing_modules = vec!["ip_set".to_owned()]; stop(f, &["kube-calico"], "x"); }, &["calico-down"], "linux-modules-extra-$(uname -r)"),
    Case("out-of-memory", |f| { f.kernel.killed.push("Out of memory: Kill process 812 (etcd)".to_owned()); stop(f, &["etcd"], "x"); }, &["etcd-down"], "--sort=-rss"),
    Case("disk-errors", |f| { f.kernel.disk.push("EXT4-fs error".to_owned()); booted(f).places[0].read_only = true; stop(f, &["etcd"], "wal: crc mismatch"); }, &["read-only", "etcd-corrupt", "etcd-down"], "appliance backup"),
    Case("disk-slow", |f| { f.kernel.hung.push("blocked for more than 120 seconds".to_owned()); f.etcd.as_mut().unwrap().has_leader = Some(false); }, &["etcd-no-leader"], "journalctl -k"),
    Case("access-denied", |f| { f.kernel.denied.push("apparmor=\"DENIED\" comm=\"runc\"".to_owned()); stop(f, &["docker"], "x"); }, &["docker-down"], "journalctl -k"),
    Case("connections-full", |f| booted(f).conntrack = Some((262_144, 262_144)), &[], "nf_conntrack_max=524288"),
    Case("forwarding-off", |f| f.switched_off.push("net.ipv4.ip_forward".to_owned()), &[], "sysctl -w net.ipv4.ip_forward=1"),
    Case("container-out-of-memory", |f| f.kernel.killed_in_container.push("Memory cgroup out of memory".to_owned()), &[], "journalctl -k"),
    Case("swap-on", |f| booted(f).swaps.push("/swapfile".to_owned()), &[], "swapoff -a"),
    Case("authority-expired", |f| { for index in [0, 1] { held(f, index, |_, after, _, _| *after = now() - Duration::days(1)); } }, &["certificate-expired"], "appliance help certificates"),
    Case("certificate-expired", |f| { held(f, 1, |_, after, _, _| *after = now() - Duration::days(1)); stop(f, &["etcd", "kube-apiserver"], "x"); }, &["etcd-down", "api-server-down"], "appliance install"),
    Case("certificate-not-yet-valid", |f| held(f, 1, |before, _, _, _| *before = now() + Duration::days(1)), &[], "timedatectl"),
    Case("certificate-foreign", |f| held(f, 1, |_, _, signed, _| *signed = false), &[], "appliance install"),
    Case("certificate-unreadable", |f| f.certificates[1].found = Held::Unreadable("no PEM".to_owned()), &[], "mv /etc/kubernetes/ca/etcd.pem "),
    Case("certificate-missing", |f| f.certificates[1].found = Held::Missing, &[], "appliance install"),
    Case("key-missing", |f| held(f, 1, |_, _, _, key| *key = Some("etcd-key.pem is not there".to_owned())), &[], "appliance install"),
    Case("certificate-expires-soon", |f| held(f, 1, |_, after, _, _| *after = now() + Duration::days(2)), &[], "appliance install"),
    Case("unit-masked", |f| { f.unit_files.push(("etcd.service".to_owned(), UnitFile::Masked)); stop(f, &["etcd"], "x"); }, &["etcd-down"], "systemctl unmask etcd.service"),
    Case("unit-missing", |f| { f.unit_files.push(("etcd.service".to_owned(), UnitFile::Missing)); stop(f, &["etcd"], "x"); }, &["etcd-down"], "appliance install"),
    Case("unit-disabled", |f| { f.units.get_mut("kubelet").unwrap().enabled = "disabled".to_owned(); stop(f, &["kubelet"], "x"); }, &["kubelet-down"], "systemctl enable --now kubelet"),
    Case("port-taken", |f| { booted(f).listeners.push(Listener { port: 10_250, program: "nginx, process 812".to_owned(), is_ours: false }); stop(f, &["kubelet"], "bind: address already in use"); }, &["kubelet-down"], "kill 812"),
    Case("port-taken", |f| stop(f, &["kubelet"], "bind: address already in use"), &["kubelet-down"], "ss -ltnp"),
    Case("proxy-set", |f| f.machine.as_mut().unwrap().system.unit_proxies.push(("kubelet.service".to_owned(), "/etc/systemd/system/kubelet.service.d/p.conf".to_owned())), &[], "rm /etc/systemd/system/kubelet.service.d/p.conf && systemctl daemon-reload"),
    Case("unit-changed", |f| f.unit_files.push(("etcd.service".to_owned(), UnitFile::Changed)), &[], "appliance verify"),
    Case("unit-changed", |f| f.unit_files.push(("etcd.service".to_owned(), UnitFile::Stale)), &[], "systemctl daemon-reload"),
    Case("docker-settings", |f| { f.machine.as_mut().unwrap().docker.settings.problems.push(("line 1 is no JSON".to_owned(), "correct it".to_owned())); stop(f, &["docker", "kubelet"], "x"); }, &["docker-down", "kubelet-down"], "appliance preflight"),
    Case("docker-replaced", |f| { f.machine.as_mut().unwrap().docker.instead.push(("docker.service is masked".to_owned(), "`systemctl unmask docker.service`".to_owned())); stop(f, &["docker"], "x"); }, &["docker-down"], "systemctl unmask docker.service"),
    Case("docker-hangs", |f| { f.machine.as_mut().unwrap().docker.running = Running::Hangs; f.object = Some(NodeObject::Found { conditions: vec![("Ready".to_owned(), "PLEG is not healthy".to_owned())], cordoned: false }); }, &["node-not-ready"], "systemctl restart docker"),
    Case("docker-hangs", |f| f.docker_hangs = true, &[], "systemctl restart docker"),
    Case("cgroup-driver", |f| { f.docker.as_mut().unwrap().cgroup_driver = "systemd".to_owned(); stop(f, &["kubelet"], "x"); }, &["kubelet-down"], "appliance install"),
    Case("images-lost", |f| { f.images_missing.push("pause".to_owned()); stop(f, &["kube-calico"], "x"); }, &["calico-down"], "appliance images ensure"),
    Case("storage-driver", |f| f.docker.as_mut().unwrap().storage_driver = "vfs".to_owned(), &[], "docker info"),
    Case("etcd-no-space", |f| { f.etcd.as_mut().unwrap().alarms.push("NOSPACE".to_owned()); stop(f, &["kube-apiserver"], "x"); }, &["api-server-down"], "appliance etcd maintain"),
    Case("etcd-corrupt", |f| stop(f, &["etcd", "kube-apiserver"], "panic: freepages: failed to get all reachable pages"), &["etcd-down", "api-server-down"], "appliance help"),
    Case("etcd-removed", |f| stop(f, &["etcd"], "rafthttp: the member has been permanently removed from the cluster"), &["etcd-down"], "mv /var/lib/etcd/member "),
    Case("etcd-other-cluster", |f| stop(f, &["etcd"], "rafthttp: request sent was ignored (cluster ID mismatch: remote[a])"), &["etcd-down"], "mv /var/lib/etcd/member "),
    Case("etcd-no-leader", |f| { f.etcd.as_mut().unwrap().has_leader = Some(false); stop(f, &["kube-apiserver"], "x"); }, &["api-server-down"], "appliance etcd status"),
    Case("masters-unreachable", |f| { f.reached = vec![reached(MASTER, 6443, Answer::Silent), reached(MASTER, 179, Answer::Silent)]; f.peers[0] = session(MASTER, "Connect"); }, &["node-silent", "bgp-down"], "--dst-port 6443"),
    Case("firewall-drops", |f| f.machine.as_mut().unwrap().firewall = Some(drops()), &[], "iptables -nvL"),
    Case("port-dropped", |f| { f.reached[1].answer = Answer::Silent; f.peers[0] = session(MASTER, "Connect"); }, &["bgp-down"], "--dst-port 179"),
    Case("node-silent", |f| { f.reached[2].answer = Answer::Silent; f.peers[1] = session(OTHER, "Connect"); }, &["bgp-down"], "openstack server list"),
    Case("port-refused", |f| f.reached[2].answer = Answer::Refused, &[], "ssh 192.168.1.104 appliance doctor"),
    Case("bgp-refused", |f| f.peers[1] = session(OTHER, "Bad peer AS"), &[], "calicoctl get nodes"),
    Case("bgp-down", |f| f.peers[1] = session(OTHER, "Active"), &[], "calicoctl node status"),
    Case("tunnel-dropped", |f| f.tunnels = vec![tunnel(false)], &[], "--protocol 4"),
    Case("path-mtu", |f| f.paths[0].passes = Some(1400), &[], "mtu: 1400"),
    Case("pod-mtu", |f| f.own_mtu = Some(1400), &[], "appliance install"),
    Case("name-servers", |f| f.machine.as_mut().unwrap().system.name_servers = vec!["127.0.0.53".to_owned()], &[], "systemd-resolved"),
    Case("own-name", |f| f.machine.as_mut().unwrap().system.knows_own_name = false, &[], "/etc/hosts"),
    Case("etcd-down", |f| stop(f, &["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-calico", "appliance-signer"], "x"), &["api-server-down", "controller-manager-down", "scheduler-down", "calico-down", "other-service-down"], "systemctl restart etcd"),
    Case("docker-down", |f| { stop(f, &["docker", "kubelet", "kube-calico"], "x"); f.peers.clear(); }, &["calico-down", "kubelet-down"], "systemctl restart docker && appliance install"),
    Case("api-server-down", |f| f.units.get_mut("kube-apiserver").unwrap().unhealthy = Some("answers 500".to_owned()), &[], "systemctl restart kube-apiserver"),
    Case("controller-manager-down", |f| stop(f, &["kube-controller-manager"], "x"), &[], "systemctl restart kube-controller-manager"),
    Case("scheduler-down", |f| stop(f, &["kube-scheduler"], "x"), &[], "systemctl restart kube-scheduler"),
    Case("calico-down", |f| stop(f, &["kube-calico"], "x"), &[], "systemctl restart kube-calico"),
    Case("kubelet-down", |f| { stop(f, &["kubelet"], "x"); f.object = Some(NodeObject::Found { conditions: vec![("Ready".to_owned(), "Kubelet stopped posting node status.".to_owned())], cordoned: false }); }, &["node-not-ready"], "systemctl restart kubelet"),
    Case("kube-proxy-down", |f| stop(f, &["kube-proxy"], "x"), &[], "systemctl restart kube-proxy"),
    Case("other-service-down", |f| stop(f, &["appliance-signer"], "x"), &[], "systemctl restart appliance-signer"),
    Case("node-missing", |f| f.object = Some(NodeObject::Missing), &[], "systemctl restart kubelet"),
    Case("node-pressure", |f| f.object = Some(NodeObject::Found { conditions: vec![("DiskPressure".to_owned(), "x".to_owned()), ("Ready".to_owned(), "y".to_owned())], cordoned: false }), &["node-not-ready"], "appliance status"),
    Case("node-not-ready", |f| f.object = Some(NodeObject::Found { conditions: vec![("Ready".to_owned(), "x".to_owned())], cordoned: false }), &[], "appliance logs kubelet"),
    Case("node-cordoned", |f| f.object = Some(NodeObject::Found { conditions: Vec::new(), cordoned: true }), &[], "kubectl uncordon server03"),
];

/// Rules of a machine that drop everything to it.
fn drops() -> crate::preflight::facts::Firewall {
    let hook = crate::preflight::firewall::Hook {
        chain: "INPUT".to_owned(),
        drops: true,
        policy: "policy DROP of INPUT".to_owned(),
        chains: BTreeMap::from([("INPUT".to_owned(), Vec::new())]),
    };
    crate::preflight::facts::Firewall {
        hooks: vec![hook],
        reads_nftables: true,
        ..Default::default()
    }
}

/// The role on which a fault is shown: a master of one node reaches itself.
fn role(name: &str) -> Role {
    match name {
        "masters-unreachable" => Role::Worker,
        _ => Role::Single,
    }
}

fn found(case: &Case) -> Diagnosis {
    let mut facts = sound(role(case.0));
    (case.1)(&mut facts);
    diagnose(&facts)
}

#[test]
fn nothing_is_found_on_a_sound_node() {
    for role in [Role::Single, Role::Worker, Role::Master] {
        let diagnosis = diagnose(&sound(role));
        assert!(
            diagnosis.sound && diagnosis.found.is_empty(),
            "{role}: {:?}",
            diagnosis.found
        );
    }
}

#[test]
fn each_fault_is_told_once_with_what_follows_from_it() {
    for case in CASES {
        let Case(name, _, follows, command) = case;
        let diagnosis = found(case);
        let names: Vec<&str> = diagnosis.found.iter().map(|one| one.name).collect();
        assert_eq!(names, [*name], "{:?}", diagnosis.found);
        let one = &diagnosis.found[0];
        let below: BTreeSet<&str> = one.follows.iter().map(|next| next.name).collect();
        assert_eq!(below, follows.iter().copied().collect(), "{name}");
        assert!(one.command.contains(command), "{name}: {}", one.command);
        assert!(
            !one.seen.is_empty() && !one.command.contains('\n'),
            "{name}"
        );
        assert_eq!(diagnosis.sound, one.level == Level::Notice, "{name}");
    }
}

#[test]
fn every_fault_has_a_case() {
    for fault in known() {
        assert!(
            CASES.iter().any(|case| case.0 == fault.name),
            "{} has no case",
            fault.name
        );
    }
}

#[test]
fn no_command_has_a_word_in_place_of_what_was_seen() {
    for case in CASES {
        let command = &found(case).found[0].command;
        let mut words = command.split([' ', '=', '.']);
        let is_word = |word: &str| {
            word.len() > 3
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte == b'-')
        };
        assert!(!words.any(is_word), "{}: {command}", case.0);
    }
}

#[test]
fn the_table_names_each_fault_once_and_has_no_circle() {
    let all: BTreeMap<&str, &[&str]> = known().map(|fault| (fault.name, fault.explains)).collect();
    assert_eq!(all.len(), known().count());
    for fault in known() {
        assert!(
            fault.level == Level::Cause || fault.explains.is_empty(),
            "{}: a notice explains nothing",
            fault.name
        );
        let mut reached = BTreeSet::new();
        let mut waiting = fault.explains.to_vec();
        while let Some(name) = waiting.pop() {
            assert_ne!(name, fault.name, "{name} follows from itself");
            assert!(
                all.contains_key(name),
                "{} explains {name}, which is not known",
                fault.name
            );
            if reached.insert(name) {
                waiting.extend(all[name]);
            }
        }
    }
}

#[test]
fn two_faults_that_have_nothing_to_do_with_each_other_are_both_told() {
    let mut facts = sound(Role::Single);
    booted(&mut facts).swaps.push("/swapfile".to_owned());
    stop(&mut facts, &["kube-proxy"], "x");
    stop(&mut facts, &["etcd", "kube-apiserver"], "x");
    let names: Vec<&str> = diagnose(&facts).found.iter().map(|one| one.name).collect();
    // kube-proxy needs an API server; the cause that explains most is first, a notice last.
    assert_eq!(names, ["etcd-down", "swap-on"]);
}

#[test]
fn an_empty_range_of_pods_is_no_fault() {
    let mut facts = sound(Role::Single);
    facts.tunnels.push(tunnel(false));
    assert!(diagnose(&facts).sound);
    // Nor is a tunnel to a node without BGP: that is told of BGP.
    facts.tunnels = vec![tunnel(false)];
    facts.peers[1] = session(OTHER, "Active");
    let names: Vec<&str> = diagnose(&facts).found.iter().map(|one| one.name).collect();
    assert_eq!(names, ["bgp-down"]);
}

//! What can be wrong with a machine, and what the check of it says.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use super::machine::{Booted, RELEASE};

/// One thing that is wrong.
pub struct Case {
    pub check: &'static str,
    pub role: &'static str,
    pub spoil: fn(&Booted),
    /// The level, and words in the result.
    pub expected: (&'static str, &'static [&'static str]),
}

const fn case(
    check: &'static str,
    role: &'static str,
    spoil: fn(&Booted),
    level: &'static str,
    words: &'static [&'static str],
) -> Case {
    Case {
        check,
        role,
        spoil,
        expected: (level, words),
    }
}

const DAEMON: &str = "etc/docker/daemon.json";

fn put(booted: &Booted, path: &str, text: &str) {
    booted.machine.put(path, text);
}

fn link(booted: &Booted, path: &str, target: &str) {
    let at = booted.machine.root().join(path);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    // It may take the place of another file.
    if at.symlink_metadata().is_ok() {
        fs::remove_file(&at).unwrap();
    }
    symlink(target, at).unwrap();
}

fn remove(booted: &Booted, path: &str) {
    fs::remove_file(booted.machine.root().join(path)).unwrap();
}

/// Makes the kernel one that is built without modules.
fn loads_none(booted: &Booted) {
    remove(booted, "proc/modules");
    remove(booted, &format!("lib/modules/{RELEASE}/modules.dep"));
}

/// The start of an ELF file for a type of machine.
fn elf(machine: u8) -> String {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend([3, 0, machine, 0]);
    String::from_utf8(bytes).unwrap()
}

#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("settings", "worker", |m| put(m, "etc/appliance/config.yaml", "podCIDR: 10.0.0.0/33\n"), "fail", &["podCIDR", "appliance detect --explain"]),
    case("architecture", "worker", |m| put(m, "bin/sh", &elf(40)), "fail", &["for arm", "amd64"]),
    case("systemd", "worker", |m| remove(m, "usr/lib/systemd/systemd"), "fail", &["systemd does not run", "229"]),
    case("systemd", "worker", |m| put(m, "var/lib/dpkg/status", "Package: systemd\nStatus: install ok installed\nVersion: 215-17+deb8u13\n"), "fail", &["systemd 215"]),
    case("systemd", "worker", |m| put(m, "var/lib/dpkg/status", "Package: systemd\nStatus: install ok installed\nVersion: 259~rc1-1\n"), "fail", &["systemd 259", "cgroup v1"]),
    case("distribution", "worker", |m| put(m, "etc/os-release", "ID=ubuntu\nVERSION_ID=\"26.04\"\n"), "fail", &["ubuntu 26.04", "cgroup v1"]),
    case("distribution", "worker", |m| put(m, "etc/os-release", "ID=debian\nVERSION_ID=13\n"), "warn", &["docker is newer", "help support"]),
    case("distribution", "worker", |m| put(m, "etc/os-release", "ID=arch\n"), "warn", &["arch", "nobody tested"]),
    case("programs", "worker", |m| remove(m, "usr/bin/ipset"), "fail", &["lacks ipset", "apt-get install ipset"]),
    case("memory", "master", |m| put(m, "proc/meminfo", "MemTotal: 1020000 kB\n"), "warn", &["996 MiB", "1700 MiB", "flavor"]),
    case("processors", "single", |m| fs::remove_dir_all(m.machine.root().join("sys/devices/system/cpu/cpu1")).unwrap(), "warn", &["needs 2"]),
    case("clock", "worker", |m| {
        let later = SystemTime::now() + Duration::from_secs(90 * 24 * 3600);
        let file = File::options().write(true).open(m.machine.root().join("var/lib/dpkg/status")).unwrap();
        file.set_modified(later).unwrap();
    }, "fail", &["/var/lib/dpkg/status is from", "timedatectl"]),
    case("clock-synchronization", "worker", |m| remove(m, "run/systemd/timesync/synchronized"), "warn", &["timedatectl set-ntp true"]),
    case("machine-id", "worker", |m| put(m, "etc/machine-id", "uninitialized\n"), "warn", &["systemd-machine-id-setup"]),
    case("product-uuid", "worker", |m| put(m, "sys/class/dmi/id/product_uuid", "03000200-0400-0500-0006-000700080009\n"), "warn", &["many machines"]),
    case("hostname", "worker", |m| put(m, "etc/hosts", "127.0.0.1 localhost\n# made\n"), "warn", &["/etc/hosts", "127.0.1.1 made"]),
    case("fips", "worker", |m| put(m, "proc/sys/crypto/fips_enabled", "1\n"), "warn", &["FIPS"]),
    case("kernel", "worker", |m| {
        let modules = m.machine.root().join("lib/modules");
        fs::rename(modules.join(RELEASE), modules.join("3.2.0-4")).unwrap();
        put(m, "proc/sys/kernel/osrelease", "3.2.0-4\n");
    }, "fail", &["3.2.0-4"]),
    case("kernel-modules", "master", |m| {
        let path = format!("lib/modules/{RELEASE}/modules.dep");
        let text = m.machine.read(&path).replace("br_netfilter", "br_nothing");
        put(m, &path, &text);
    }, "fail", &["br_netfilter", "linux-modules-extra"]),
    case("kernel-modules", "master", |m| {
        loads_none(m);
        put(m, &format!("boot/config-{RELEASE}"), "CONFIG_MODULES=n\nCONFIG_IP_SET=y\n");
    }, "fail", &["no modules br_netfilter, ip_tables, ip6_tables, xt_set"]),
    case("kernel-modules", "master", loads_none, "warn", &["loads no modules", "built in: br_netfilter", "/boot/config-"]),
    case("kernel-features", "master", |m| {
        let path = format!("lib/modules/{RELEASE}/modules.dep");
        let text = m.machine.read(&path).replace("overlay", "underlay");
        put(m, &path, &text);
    }, "warn", &["overlay"]),
    case("cgroups", "worker", |m| put(m, "proc/self/mountinfo", "20 1 254:0 / / rw - ext4 /dev/vda rw\n21 20 0:20 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"), "fail", &["cgroup v2", "systemd.unified_cgroup_hierarchy=0"]),
    case("cgroups", "single", |m| put(m, "proc/cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t0\t1\t0\n"), "fail", &["disable memory", "cgroup_enable=memory"]),
    case("cgroups", "worker", |m| {
        let text = m.machine.read("proc/self/mountinfo").replace("cpuset", "blkio");
        put(m, "proc/self/mountinfo", &text);
    }, "fail", &["not mounted: cpuset"]),
    case("swap", "worker", |m| put(m, "proc/swaps", "Filename Type Size Used Priority\n/swap.img file 2097148 0 -2\n"), "warn", &["/swap.img", "swapoff -a"]),
    case("conntrack", "worker", |m| put(m, "proc/sys/net/netfilter/nf_conntrack_count", "65000\n"), "warn", &["65000", "nf_conntrack_max="]),
    case("selinux", "worker", |m| put(m, "sys/fs/selinux/enforce", "1"), "warn", &["enforcing", "setenforce 0"]),
    case("exec", "master", |m| m.mounted(&[("/opt", "rw,noexec")]), "fail", &["/opt/appliance", "noexec", "mount -o remount,exec /opt"]),
    case("exec", "master", |m| { link(m, "opt", "/srv/opt"); m.mounted(&[("/srv", "rw,noexec")]); }, "fail", &["/opt/appliance", "mount -o remount,exec /srv"]),
    case("exec", "worker", |m| m.mounted(&[("/var", "rw,nosuid,noexec")]), "warn", &["/var/lib/docker", "remount,exec /var"]),
    case("writable", "worker", |m| m.mounted(&[("/var", "ro")]), "fail", &["read-only", "mount -o remount,rw /var"]),
    case("name-servers", "worker", |m| put(m, "etc/resolv.conf", "nameserver 127.0.0.1\nsearch lan\n"), "warn", &["127.0.0.1", "systemd-resolved"]),
    case("proxies", "worker", |m| put(m, "etc/systemd/system/kubelet.service.d/proxy.conf", "[Service]\nEnvironment=\"HTTPS_PROXY=http://user:secret@proxy:3128\"\n"), "warn", &["kubelet.service", "proxy.conf"]),
    case("ports", "master", |m| m.listening(&[(8443, "/usr/bin/other"), (6443, "/usr/sbin/haproxy")]), "fail", &["port 6443 (haproxy, process 401)", "ss -ltnp sport = :6443"]),
    case("ports", "worker", |m| m.listening(&[(6443, "/usr/sbin/haproxy"), (10250, "/usr/bin/kubelet")]), "fail", &["port 10250 (kubelet, process 401)"]),
    case("firewall", "master", |m| put(m, "etc/ufw/ufw.conf", "# ufw\nENABLED=yes\n"), "warn", &["ufw", "TCP 6443 from clients", "TCP 2380 from masters"]),
    case("firewall", "worker", |m| {
        put(m, "etc/nftables.conf", "table inet filter { chain input { type filter hook input priority 0; policy drop; } }\n");
        link(m, "etc/systemd/system/sysinit.target.wants/nftables.service", "/lib/systemd/system/nftables.service");
    }, "warn", &["nftables", "TCP 10250 from masters"]),
    case("cni", "worker", |m| put(m, "etc/cni/net.d/05-cilium.conflist", "{}"), "fail", &["05-cilium.conflist", "mv /etc/cni/net.d"]),
    case("other-kubernetes", "worker", |m| put(m, "etc/kubernetes/manifests/kube-apiserver.yaml", ""), "fail", &["kubeadm", "kubeadm reset"]),
    case("other-kubernetes", "worker", |m| put(m, "var/lib/rancher/k3s/agent/x", ""), "fail", &["k3s", "uninstall.sh"]),
    case("other-kubernetes", "master", |m| put(m, "etc/systemd/system/k0scontroller.service", ""), "fail", &["k0s reset"]),
    case("other-kubernetes", "master", |m| put(m, "snap/microk8s/current", ""), "fail", &["snap remove"]),
    case("other-kubernetes", "master", |m| put(m, "etc/systemd/system/etcd.service", "[Service]\nExecStart=/root/bin/etcd\n"), "fail", &["etcd.service", "systemctl disable"]),
    case("docker", "worker", |m| remove(m, "usr/bin/docker"), "fail", &["docker is neither", "apt-get install docker.io"]),
    case("docker", "worker", |m| link(m, "etc/systemd/system/docker.service", "/dev/null"), "fail", &["masked", "systemctl unmask docker.service"]),
    case("docker", "worker", |m| put(m, "snap/docker/current", ""), "fail", &["snap", "snap remove docker"]),
    case("docker", "worker", |m| {
        remove(m, "lib/systemd/system/docker.service");
        put(m, "usr/bin/docker", "#!/bin/sh\nexec /usr/bin/podman \"$@\"\n");
    }, "fail", &["podman", "apt-get purge podman-docker"]),
    case("docker", "worker", |m| {
        remove(m, "usr/bin/docker");
        put(m, "usr/bin/containerd", "");
    }, "fail", &["containerd is here without docker"]),
    case("docker", "worker", |m| {
        remove(m, "lib/systemd/system/docker.service");
        put(m, "home/ann/.config/systemd/user/docker.service", "");
    }, "fail", &["without root"]),
    case("docker-settings", "worker", |m| put(m, DAEMON, "{\n  // images\n  \"debug\": true\n}\n"), "fail", &["line 2: a comment"]),
    case("docker-settings", "worker", |m| put(m, "etc/docker/daemon.json/x", ""), "fail", &["not a regular file", "ls -l /etc/docker/daemon.json"]),
    case("docker-settings", "worker", |m| put(m, DAEMON, "{\"debug\": true,}"), "fail", &["line 1: a comma"]),
    case("docker-settings", "worker", |m| put(m, DAEMON, "\u{feff}{}"), "fail", &["byte order mark", "sed -i"]),
    case("docker-settings", "worker", |m| put(m, DAEMON, "{\"iptables\": \"false\"}"), "fail", &["iptables", "true or false"]),
    case("docker-settings", "worker", |m| put(m, DAEMON, "{\"data_root\": \"/srv\"}"), "fail", &["did you mean `data-root`"]),
    case("docker-settings", "worker", |m| {
        put(m, "lib/systemd/system/docker.service", "[Service]\nExecStart=/usr/bin/dockerd -H fd://\n");
        put(m, DAEMON, "{\"hosts\": [\"unix:///var/run/docker.sock\"]}");
    }, "fail", &["`hosts` both in /etc/docker/daemon.json", "remove `hosts`"]),
    case("docker-settings", "worker", |m| put(m, DAEMON, "{\"debug\": true, \"debug\": false}"), "warn", &["`debug` twice"]),
    case("docker-socket", "worker", |m| put(m, DAEMON, "{\"hosts\": [\"tcp://127.0.0.1:2375\"]}"), "fail", &["listens only at tcp://127.0.0.1:2375", "unix:///var/run/docker.sock"]),
    case("docker-socket", "worker", |m| put(m, DAEMON, "{\"hosts\": [\"unix:///var/run/docker.sock\", \"tcp://0.0.0.0:2375\"]}"), "warn", &["tlsverify"]),
    case("docker-cgroup-driver", "worker", |m| put(m, DAEMON, "{\"exec-opts\": [\"native.cgroupdriver=sytemd\"]}"), "fail", &["sytemd", "native.cgroupdriver=cgroupfs"]),
    case("docker-networks", "worker", |m| put(m, DAEMON, "{\"bip\": \"172.20.0.1/16\"}"), "fail", &["172.20.0.0/16", "podCIDR", "\\\"bip\\\": "]),
    case("docker-networks", "worker", |m| put(m, DAEMON, "{\"default-address-pools\": [{\"base\": \"192.168.0.0/16\", \"size\": 20}, {\"base\": \"10.68.0.0/14\", \"size\": 24}]}"), "fail", &["192.168.0.0/20", "the address of this node"]),
    case("docker-networks", "worker", |m| put(m, DAEMON, "{\"bip\": \"10.250.0.1/24\", \"default-address-pools\": [{\"base\": \"10.68.0.0/14\", \"size\": 24}]}"), "warn", &["10.68.0.0/14", "serviceCIDR"]),
    case("docker-features", "worker", |m| put(m, DAEMON, "{\"userns-remap\": \"default\"}"), "fail", &["userns-remap", "privileged"]),
    case("docker-features", "worker", |m| put(m, DAEMON, "{\"features\": {\"containerd-snapshotter\": true}}"), "fail", &["containerd-snapshotter"]),
    case("docker-features", "worker", |m| put(m, DAEMON, "{\"log-driver\": \"syslog\"}"), "warn", &["kubectl logs"]),
    case("docker-features", "worker", |m| put(m, DAEMON, "{\"storage-driver\": \"vfs\"}"), "warn", &["vfs"]),
    case("docker-logs", "worker", |m| put(m, DAEMON, "{\"live-restore\": true}"), "warn", &["without a limit", "max-size"]),
    case("docker-version", "worker", |m| put(m, "var/lib/dpkg/status", "Package: docker-ce\nStatus: install ok installed\nVersion: 5:28.0.1-1~debian.12~bookworm\n"), "warn", &["docker 5:28.0.1"]),
];

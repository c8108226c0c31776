//! The table of checks.

use super::checks::{docker, kernel, network, others, storage, system};
use super::facts::Facts;
use super::{Check, Finding, Weight};

type Judge = fn(&Facts) -> Finding;

const fn check(name: &'static str, weight: Weight, needed: &'static str, judge: Judge) -> Check {
    Check {
        name,
        needed,
        weight,
        judge,
    }
}

const fn binding(name: &'static str, needed: &'static str, judge: Judge) -> Check {
    check(name, Weight::Binding, needed, judge)
}

const fn ignorable(name: &'static str, needed: &'static str, judge: Judge) -> Check {
    check(name, Weight::Ignorable, needed, judge)
}

const fn warning(name: &'static str, needed: &'static str, judge: Judge) -> Check {
    check(name, Weight::Warning, needed, judge)
}

/// The checks, in groups with a heading.
#[rustfmt::skip]
pub const GROUPS: &[(&str, &[Check])] = &[
    ("The system", &[
        binding("settings", "settings that describe this node", system::settings),
        binding("architecture", "programs for x86-64", system::architecture),
        binding("systemd", "systemd 229 or newer, which can start with cgroup v1 (to 257)", system::systemd),
        ignorable("distribution", "a release that is known to work", system::distribution),
        binding("programs", "the programs that pods need: iptables, ipset, conntrack and others", system::programs),
        warning("memory", "1700 MiB on masters, 1000 MiB on workers", system::memory),
        warning("processors", "2 on masters", system::processors),
        ignorable("clock", "a clock that is not behind the files of this machine by more than a day", system::clock),
        warning("clock-synchronization", "a service that keeps the clock right", system::synchronization),
        warning("machine-id", "a machine ID of its own", system::machine_id),
        warning("product-uuid", "a UUID of its own in the firmware", system::uuid),
        warning("hostname", "a host name that has an address", system::hostname),
        warning("fips", "a kernel that is not in FIPS mode", system::fips),
    ]),
    ("The kernel", &[
        ignorable("kernel", "Linux 3.10 or newer", kernel::release),
        binding("kernel-modules", "the modules that the node loads: br_netfilter, ip_set, ipip and others", kernel::modules),
        warning("kernel-features", "the modules that docker and kube-proxy load: overlay, veth, xt_conntrack and others", kernel::features),
        binding("cgroups", "cgroup v1 with cpu, cpuacct, cpuset and memory, on nodes that run pods", kernel::cgroups),
        warning("swap", "no swap, on nodes that run pods", kernel::swap),
        warning("conntrack", "room in the table of connections", kernel::conntrack),
        warning("selinux", "SELinux permissive or disabled", kernel::selinux),
    ]),
    ("File systems", &[
        binding("exec", "programs run in /opt/appliance, in docker's directory and in the kubelet's", storage::programs_run),
        binding("writable", "the directories of the node can be written to", storage::writable),
        binding("space", "room for the bundle, for the images where docker keeps them, and 256 MiB to spare", storage::space),
        warning("inodes", "room for 50,000 more files", storage::inodes),
    ]),
    ("The network", &[
        warning("name-servers", "name servers that pods can reach", network::name_servers),
        warning("proxies", "no proxy between the cluster's own programs", network::proxies),
        ignorable("ports", "the ports of the node's services", network::ports),
        warning("firewall", "a firewall that accepts the cluster's traffic", network::firewall),
        warning("iptables-backends", "your rules in one backend of iptables", network::backends),
        ignorable("cni", "no network configuration of pods before Calico's", network::networks),
    ]),
    ("Another Kubernetes", &[
        ignorable("other-kubernetes", "no other Kubernetes, and nothing left of one", others::kubernetes),
        warning("other-chains", "no rules of another Kubernetes", others::chains),
    ]),
    ("Docker", &[
        binding("docker", "docker of this machine or of the bundle, as a service of systemd", docker::source),
        ignorable("docker-settings", "settings with which docker starts", docker::settings),
        ignorable("docker-socket", "docker at /var/run/docker.sock, and not open to the network", docker::socket),
        ignorable("docker-cgroup-driver", "a cgroup driver that the kubelet can use, too", docker::cgroup_driver),
        ignorable("docker-networks", "networks of docker beside the ranges of the cluster", docker::networks),
        ignorable("docker-features", "no setting with which pods do not work", docker::features),
        warning("docker-logs", "a limit for the logs of containers", docker::logs),
        warning("docker-version", "docker 1.11 to 20.10", docker::version),
        ignorable("docker-answers", "a docker that answers, if it runs", docker::answers),
    ]),
];

//! What the kernel lacks, and what it says.

use super::super::facts::Facts;
use super::super::{Fault, Seen, seen};
use super::{cause, shortened};
use crate::language::tr;
use crate::preflight::{Level, judge};

#[rustfmt::skip]
pub const FAULTS: &[Fault] = &[
    cause("cgroup-v2", "the mount at /sys/fs/cgroup",
        "The system was booted with cgroup v2, which Kubernetes v1.9 does not know. The kubelet does not start. Reboot afterwards.",
        "sed -i 's/^GRUB_CMDLINE_LINUX=\"/&systemd.unified_cgroup_hierarchy=0 /' /etc/default/grub && update-grub", cgroups).explains(&["kubelet-down", "docker-down"]),
    cause("modules-missing", "the modules that the node loads",
        "The kernel lacks modules that Calico, docker or kube-proxy need. Minimal kernels of clouds leave them out.",
        "apt-get install linux-modules-extra-$(uname -r)", modules).explains(&["calico-down", "kube-proxy-down", "docker-down", "installation-failed"]),
    cause("out-of-memory", "the kernel's log of the last day",
        "The machine had no memory left, and the kernel killed a process. Take a flavor with more memory, or run fewer pods here.",
        "ps -eo rss,comm --sort=-rss | head", oom).explains(&["etcd-down", "api-server-down", "docker-down", "kubelet-down", "calico-down", "kube-proxy-down", "other-service-down", "node-pressure"]),
    cause("disk-errors", "the kernel's log of the last day",
        "The disk, or the storage of the cloud behind it, has errors. What is on it may be lost: back it up, and replace the volume.",
        "appliance backup", disk).explains(&[
            "read-only", "etcd-corrupt", "etcd-down", "docker-down", "docker-hangs", "kubelet-down", "api-server-down",
            "other-service-down", "record-damaged",
        ]),
    cause("disk-slow", "the kernel's log of the last day",
        "Processes waited for the disk for minutes. etcd loses its leader on such a disk.",
        "journalctl -k --since=-1d --grep='blocked for more than'", hung).explains(&["etcd-no-leader", "etcd-down", "docker-hangs", "api-server-down", "kubelet-down"]),
    cause("access-denied", "the kernel's log of the last day",
        "AppArmor or SELinux refused something to a program of the node.",
        "journalctl -k --since=-1d --grep='DENIED|avc:'", denied).explains(&["docker-down", "kubelet-down", "calico-down", "etcd-down"]),
    cause("connections-full", "the kernel's log of the last day, and its table of connections",
        "The table of connections is full, so the kernel drops new ones, to services and from pods.",
        "sysctl -w net.netfilter.nf_conntrack_max=524288", conntrack),
    cause("forwarding-off", "the switches of the kernel that pods need",
        "Somebody switched off what lets this machine pass on packets of pods: another file in /etc/sysctl.d, or a tool.",
        "sysctl -w SWITCH=1", forwarding),
    cause("container-out-of-memory", "the kernel's log of the last day",
        "A container reached the limit of memory in its pod, and was killed. The machine itself has memory.",
        "journalctl -k --since=-1d --grep='Memory cgroup out of memory'", container_oom).notice(),
    cause("swap-on", "the files and devices with swap",
        "The machine swaps. Pods become slow instead of being ended, and limits of memory are not kept.",
        "swapoff -a", swap).notice(),
];

fn cgroups(facts: &Facts) -> Option<Seen> {
    let role = facts.node.as_ref()?.shape.role;
    let cgroups = facts.machine.as_ref()?.booted.as_ref()?.cgroups.as_ref()?;
    let what = &tr!("/sys/fs/cgroup is cgroup v2");
    (role.is_worker() && cgroups.unified).then(|| Seen::of(what))
}

fn modules(facts: &Facts) -> Option<Seen> {
    let machine = facts
        .machine
        .as_ref()
        .filter(|_| facts.node.is_some() || facts.begun)?;
    let judged = judge(machine, &[]);
    let failed = judged
        .into_iter()
        .find(|one| one.name == "kernel-modules" && one.level == Level::Fail)?;
    Some(Seen::of(failed.seen))
}

/// The newest line, and how many there are.
fn newest(lines: &[String]) -> Option<Seen> {
    let last = lines.last()?;
    Some(Seen::of(match lines.len() {
        1 => shortened(last),
        many => tr!("{} ({many} such lines in a day)", shortened(last), many),
    }))
}

fn oom(facts: &Facts) -> Option<Seen> {
    newest(&facts.kernel.killed)
}

fn container_oom(facts: &Facts) -> Option<Seen> {
    newest(&facts.kernel.killed_in_container)
}

fn disk(facts: &Facts) -> Option<Seen> {
    newest(&facts.kernel.disk)
}

fn hung(facts: &Facts) -> Option<Seen> {
    newest(&facts.kernel.hung)
}

fn denied(facts: &Facts) -> Option<Seen> {
    newest(&facts.kernel.denied).map(Seen::likely)
}

fn conntrack(facts: &Facts) -> Option<Seen> {
    let booted = facts
        .machine
        .as_ref()
        .and_then(|machine| machine.booted.as_ref());
    let table = booted.and_then(|booted| booted.conntrack);
    let now = table.filter(|(count, most)| count * 100 >= most * 98);
    let now = now.map(|(count, most)| {
        tr!(
            "{count} of {most} connections are in the table",
            count,
            most
        )
    });
    let found = seen(now).or_else(|| newest(&facts.kernel.conntrack))?;
    let doubled = table.map(|(_, most)| most.max(131_072) * 2);
    Some(match doubled {
        Some(most) => found.mended_by(format!("sysctl -w net.netfilter.nf_conntrack_max={most}")),
        None => found,
    })
}

fn forwarding(facts: &Facts) -> Option<Seen> {
    let off = &facts.switched_off;
    let found = seen(off.iter().map(|key| tr!("{key} is 0", key)))?;
    let set: Vec<String> = off.iter().map(|key| format!("{key}=1")).collect();
    Some(found.mended_by(format!("sysctl -w {}", set.join(" "))))
}

fn swap(facts: &Facts) -> Option<Seen> {
    let runs_pods = facts.node.as_ref()?.shape.role.is_worker();
    let booted = facts
        .machine
        .as_ref()?
        .booted
        .as_ref()
        .filter(|_| runs_pods)?;
    seen(
        booted
            .swaps
            .iter()
            .map(|swap| tr!("{swap} is in use", swap)),
    )
}

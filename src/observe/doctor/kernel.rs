//! What the kernel says, and its settings and addresses.

use anyhow::Result;

use super::{Place, Put, text};
use crate::clients::journal;
use crate::doctor::facts::KernelLog;
use crate::nodespec::hidden;
use crate::paths;
use crate::sys::host;
use crate::sys::process::Runner;

/// Programs of a node. What is refused to others is not ours.
const OURS: &[&str] = &[
    "dockerd",
    "containerd",
    "runc",
    "kubelet",
    "etcd",
    "kube-",
    "calico",
    "felix",
    "bird",
    "appliance",
];
/// How the kernel tells of a disk or a file system with errors.
const DISK: &[&str] = &[
    "EXT4-fs error",
    "Remounting filesystem read-only",
    "Buffer I/O error",
    "I/O error, dev ",
    "metadata I/O error",
    "Corruption detected",
    "Corruption of in-memory data",
];
/// Drives without a medium.
const EMPTY: &[&str] = &["dev fd0", "dev sr0", "dev sr1"];

/// The kernel's log of the last day, since the boot.
pub fn log<R: Runner>(place: &Place<R>) -> Result<Put> {
    let log = sorted(&journal::kernel(&place.runner)?);
    Ok(Box::new(|facts| facts.kernel = log))
}

/// The lines by what they are about.
pub fn sorted(text: &str) -> KernelLog {
    let mut log = KernelLog::default();
    for line in text.lines() {
        let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
        let denied = (has(&["apparmor=\"DENIED\""]) && !has(&["profile=\"docker-default\""]))
            || has(&["avc:  denied"]);
        let of = if has(&["Memory cgroup out of memory"]) {
            &mut log.killed_in_container
        } else if has(&["Out of memory: Kill"]) {
            &mut log.killed
        } else if denied && has(OURS) {
            &mut log.denied
        } else if has(DISK) && !has(EMPTY) {
            &mut log.disk
        } else if has(&["nf_conntrack: table full"]) {
            &mut log.conntrack
        } else if has(&["blocked for more than"]) {
            &mut log.hung
        } else {
            continue;
        };
        of.push(hidden::line(line));
    }
    log
}

/// The switches that pods need, the addresses, and the MTU of the interface with the node's address and of pods.
pub fn settings<R: Runner>(place: &Place<R>) -> Result<Put> {
    const SWITCHES: &[&str] = &["net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"];
    let node = place.node.as_ref();
    let runs_pods = node.is_some_and(|node| node.shape.role.is_worker());
    let is_off = |key: &&&str| {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        text(&place.root, &path).is_some_and(|value| value.trim() == "0")
    };
    let off = SWITCHES.iter().filter(|_| runs_pods).filter(is_off);
    let off: Vec<String> = off.map(|key| (*key).to_owned()).collect();
    let addresses = host::addresses()?;
    let own = node.and_then(|node| node.address);
    let interfaces = host::interfaces()?.into_iter();
    let mut with_own = interfaces.filter(|one| {
        one.addresses
            .iter()
            .any(|net| Some(net.addr()) == own.map(Into::into))
    });
    let own_mtu = with_own
        .next()
        .filter(|one| !one.is_loopback)
        .and_then(|one| one.mtu);
    let cni = text(&place.root, paths::CNI_CONFIG);
    let pod_mtu = cni.and_then(|text| {
        let config: serde_json::Value = serde_json::from_str(&text).ok()?;
        u32::try_from(config["mtu"].as_u64()?).ok()
    });
    Ok(Box::new(move |facts| {
        facts.switched_off = off;
        facts.addresses = Some(addresses);
        facts.own_mtu = own_mtu;
        facts.pod_mtu = pod_mtu;
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_told_apart() {
        // As Linux 4.4 to 6.1 write them.
        let log = sorted(
            "Out of memory: Kill process 812 (etcd) score 900 or sacrifice child\n\
             Out of memory: Killed process 813 (etcd) total-vm:1kB\n\
             Memory cgroup out of memory: Killed process 9 (nginx)\n\
             audit: type=1400 apparmor=\"DENIED\" operation=\"mount\" profile=\"x\" comm=\"runc\"\n\
             audit: type=1400 apparmor=\"DENIED\" operation=\"ptrace\" profile=\"docker-default\" comm=\"runc\"\n\
             audit: type=1400 apparmor=\"DENIED\" operation=\"open\" profile=\"/usr/sbin/ntpd\" comm=\"ntpd\"\n\
             EXT4-fs error (device vda1): ext4_find_entry:1455: reading directory lblock 0\n\
             blk_update_request: I/O error, dev fd0, sector 0\n\
             blk_update_request: I/O error, dev vda, sector 99\n\
             nf_conntrack: table full, dropping packet\n\
             INFO: task jbd2/vda1-8:211 blocked for more than 120 seconds.\n\
             eth0: link up\n",
        );
        assert_eq!(log.killed.len(), 2);
        assert_eq!(log.killed_in_container.len(), 1);
        assert_eq!(log.denied.len(), 1);
        assert_eq!(log.disk.len(), 2);
        assert_eq!((log.conntrack.len(), log.hung.len()), (1, 1));
    }
}

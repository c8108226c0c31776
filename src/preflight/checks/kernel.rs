//! The kernel: modules, cgroups, swap, connections, SELinux.

use super::{booted, of_workers};
use crate::language::{message, tr, translated};
use crate::preflight::Finding;
use crate::preflight::facts::{Booted, Facts};

/// What the kubelet of v1.9 requires of cgroup v1.
const CONTROLLERS: &[&str] = &["cpu", "cpuacct", "cpuset", "memory"];
/// The oldest kernel with overlayfs and what docker needs.
const KERNEL: (u32, u32) = (3, 10);

pub fn release(facts: &Facts) -> Finding {
    booted(facts, |booted| {
        let release = super::shown(&booted.release);
        let mut numbers = booted.release.split(['.', '-']).map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < KERNEL => {
                Finding::fail(release, tr!("boot a newer kernel"))
            }
            _ => Finding::pass(release),
        }
    })
}

pub fn modules(facts: &Facts) -> Finding {
    booted(facts, |booted| match &booted.missing_modules[..] {
        [] => Finding::pass(tr!("the kernel has all")),
        missing if !booted.knows_modules => unknown(booted, missing),
        missing => Finding::fail(
            tr!("the running kernel has no modules {}", missing.join(", ")),
            tr!(
                "install its full module package (`apt-get install linux-modules-extra-$(uname -r)` on \
             Ubuntu), or boot a kernel that has them"
            ),
        ),
    })
}

pub fn features(facts: &Facts) -> Finding {
    booted(facts, |booted| match &booted.missing_features[..] {
        [] => Finding::pass(tr!("the kernel has all")),
        missing if !booted.knows_modules => unknown(booted, missing),
        missing => Finding::warn(
            tr!("the running kernel has no modules {}", missing.join(", ")),
            tr!(
                "`apt-get install linux-modules-extra-$(uname -r)` on Ubuntu, or boot another kernel"
            ),
        ),
    })
}

/// A kernel that loads no modules does not tell whether it has these.
fn unknown(booted: &Booted, missing: &[String]) -> Finding {
    Finding::warn(
        tr!(
            "the running kernel loads no modules, and does not tell whether these are built in: {}",
            missing.join(", ")
        ),
        tr!(
            "put the kernel's configuration into /boot/config-{}, or boot a kernel of the distribution",
            super::shown(&booted.release)
        ),
    )
}

pub fn cgroups(facts: &Facts) -> Finding {
    const GRUB: &str = message!(
        "add `systemd.unified_cgroup_hierarchy=0` to GRUB_CMDLINE_LINUX in \
                        /etc/default/grub, then `update-grub && reboot`; from systemd 256 on, also \
                        `SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1`"
    );
    // Other controllers are mounted, so the kernel lacks these.
    const BUILT: &str = message!(
        "boot a kernel that has them: `cut -f 1 /proc/cgroups` lists those of this one. Kernels \
                         built without CONFIG_MEMCG_V1 and CONFIG_CPUSETS_V1, as Debian 13's, do not have \
                         memory and cpuset"
    );
    of_workers(facts, || {
        booted(facts, |booted| {
            let Some(cgroups) = &booted.cgroups else {
                return Finding::elsewhere(tr!("the list of mounts cannot be read"));
            };
            let disabled: Vec<&str> = CONTROLLERS
                .iter()
                .copied()
                .filter(|name| cgroups.disabled.contains(*name))
                .collect();
            if let [first, ..] = &disabled[..] {
                return Finding::fail(
                    tr!("the kernel was told to disable {}", disabled.join(", ")),
                    tr!(
                        "remove `cgroup_disable={first}` from the kernel's command line and add \
                         `cgroup_enable={first}`: /etc/default/grub, then `update-grub && reboot`",
                        first
                    ),
                );
            }
            if cgroups.unified {
                return Finding::fail(tr!("/sys/fs/cgroup is cgroup v2"), translated(GRUB));
            }
            let mut missing = CONTROLLERS.iter().copied();
            let missing: Vec<&str> = missing
                .by_ref()
                .filter(|name| !cgroups.mounted.contains(*name))
                .collect();
            match missing.is_empty() {
                true => Finding::pass(tr!("cgroup v1 with all controllers")),
                false => Finding::fail(
                    tr!(
                        "these controllers of cgroup v1 are not mounted: {}",
                        missing.join(", ")
                    ),
                    if missing.len() < CONTROLLERS.len() {
                        translated(BUILT)
                    } else {
                        translated(GRUB)
                    },
                ),
            }
        })
    })
}

pub fn swap(facts: &Facts) -> Finding {
    of_workers(facts, || {
        booted(facts, |booted| match &booted.swaps[..] {
            [] => Finding::pass(tr!("there is none")),
            swaps => Finding::warn(
                tr!(
                    "{} is used: pods become slow instead of ending",
                    super::shown(&swaps.join(", "))
                ),
                tr!("`swapoff -a`, and remove it from /etc/fstab"),
            ),
        })
    })
}

pub fn conntrack(facts: &Facts) -> Finding {
    booted(facts, |booted| match booted.conntrack {
        None => Finding::elsewhere(tr!("the kernel does not track connections yet")),
        Some((count, most)) if count >= most / 4 * 3 => Finding::warn(
            tr!(
                "{count} connections of {most} are tracked; the kernel drops packets of more",
                count,
                most
            ),
            format!("`sysctl -w net.netfilter.nf_conntrack_max={}`", most * 4),
        ),
        Some((count, most)) => Finding::pass(tr!("{count} connections of {most}", count, most)),
    })
}

pub fn selinux(facts: &Facts) -> Finding {
    booted(facts, |booted| match booted.selinux {
        true => Finding::warn(
            tr!("SELinux is enforcing; Kubernetes v1.9 and Calico were not tested with it"),
            tr!("`setenforce 0`, and SELINUX=permissive in /etc/selinux/config"),
        ),
        false => Finding::pass(tr!("SELinux is not enforcing")),
    })
}

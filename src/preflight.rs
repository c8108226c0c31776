//! Checks the machine before anything is written: a table of small checks.

use crate::bundle::manifest::Manifest;

pub mod stays;

/// The space in bytes that must stay free on a file system, for etcd, logs and the system itself.
pub const RESERVE: u64 = 256 * 1024 * 1024;

/// Where docker comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DockerSource {
    /// From the machine.
    Machine,
    /// From the payload: the machine has none.
    Payload,
    /// Neither has docker.
    Nowhere,
}

/// The space that one file system needs, and the space it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The directories on it, for the message.
    pub place: String,
    /// Bytes that will be written.
    pub needed: u64,
    /// Bytes that are free.
    pub free: u64,
}

/// The facts about the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whether systemd manages the system.
    pub has_systemd: bool,
    /// Where docker comes from.
    pub docker: DockerSource,
    /// Kernel modules that are neither loaded nor installed.
    pub missing_modules: Vec<String>,
    /// Programs that pods need and that are missing on the PATH.
    pub missing_tools: Vec<&'static Tool>,
    /// Each file system that is written to.
    pub room: Vec<Room>,
    /// The port of the balancer, if another program uses it.
    pub taken_port: Option<u16>,
    /// Whether programs may run in the directory of unpacked bundles.
    pub exec: bool,
}

type Check = fn(&Facts) -> Option<String>;

const CHECKS: &[Check] = &[
    systemd_is_there,
    docker_is_there,
    modules_are_there,
    tools_are_there,
    port_is_free,
    programs_may_run,
    there_is_room,
];

/// Every reason to refuse this machine, each with its next step. Empty if there is none.
pub fn problems(facts: &Facts) -> Vec<String> {
    CHECKS.iter().filter_map(|check| check(facts)).collect()
}

fn systemd_is_there(facts: &Facts) -> Option<String> {
    (!facts.has_systemd).then(|| {
        "systemd does not run on this system, but the node's services are systemd units; \
         use a distribution with systemd 229 or newer"
            .to_owned()
    })
}

fn docker_is_there(facts: &Facts) -> Option<String> {
    (facts.docker == DockerSource::Nowhere).then(|| {
        "docker is neither on this machine (/usr/bin/docker and docker.service) nor in the bundle; \
         install docker.io or docker-ce in the image (`apt-get install docker.io` on Debian and \
         Ubuntu), or build the appliance with docker's static binaries"
            .to_owned()
    })
}

fn modules_are_there(facts: &Facts) -> Option<String> {
    (!facts.missing_modules.is_empty()).then(|| {
        format!(
            "the running kernel has no modules {}; install its full module package (`apt-get \
             install linux-modules-extra-$(uname -r)` on Ubuntu), or boot a kernel that has them",
            facts.missing_modules.join(", ")
        )
    })
}

/// A program that the kubelet, kube-proxy or Calico run, and the package it comes in.
#[derive(Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// The package of Debian and Ubuntu.
    pub package: &'static str,
}

const fn tool(name: &'static str, package: &'static str) -> Tool {
    Tool { name, package }
}

/// Docker needs this program if the kernel has AppArmor: without it, docker starts no container.
pub const APPARMOR: Tool = tool("apparmor_parser", "apparmor");

/// The programs that a node with pods needs (kubelet and kube-proxy v1.9, Calico v2.6).
pub const TOOLS: &[Tool] = &[
    APPARMOR,
    tool("conntrack", "conntrack"),
    tool("ethtool", "ethtool"),
    tool("ip", "iproute2"),
    tool("ipset", "ipset"),
    tool("iptables", "iptables"),
    tool("mount", "mount"),
    tool("nsenter", "util-linux"),
    tool("socat", "socat"),
];

fn tools_are_there(facts: &Facts) -> Option<String> {
    let missing = &facts.missing_tools;
    if missing.is_empty() {
        return None;
    }
    let list = |word: fn(&Tool) -> &'static str, between| {
        let words: Vec<&str> = missing.iter().map(|tool| word(tool)).collect();
        words.join(between)
    };
    Some(format!(
        "pods need programs that this machine lacks: {}; on Debian and Ubuntu, add their packages \
         to the image: `apt-get install {}`",
        list(|tool| tool.name, ", "),
        list(|tool| tool.package, " ")
    ))
}

fn port_is_free(facts: &Facts) -> Option<String> {
    let port = facts.taken_port?;
    Some(format!(
        "the balancer cannot listen at 127.0.0.1:{port}: another program uses this port; find it \
         with `ss -ltnp sport = :{port}` and stop it, or set `balancerPort` to another port on all \
         nodes"
    ))
}

fn programs_may_run(facts: &Facts) -> Option<String> {
    (!facts.exec).then(|| {
        "/opt/appliance is on a file system mounted noexec, so the node's programs cannot run; \
         remount it: `mount -o remount,exec $(findmnt -no TARGET -T /opt)`, and change /etc/fstab"
            .to_owned()
    })
}

fn there_is_room(facts: &Facts) -> Option<String> {
    let short = facts
        .room
        .iter()
        .find(|room| room.needed + RESERVE > room.free)?;
    Some(format!(
        "{} needs {} MiB and {} MiB to spare, but only {} MiB are free; delete files there, or \
         boot this VM with a flavor or volume that has a bigger disk",
        short.place,
        mebibytes(short.needed),
        mebibytes(RESERVE),
        mebibytes(short.free)
    ))
}

/// Bytes in MiB, rounded up.
pub fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1024 * 1024)
}

/// The space that the payload takes, in bytes: unpacked, and again in docker for the images.
pub fn needed(manifest: &Manifest, unpacked: bool) -> (u64, u64) {
    let images = manifest.images().map(|image| image.size).sum();
    if unpacked {
        (0, 0)
    } else {
        (manifest.unpacked_size(), images)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sound() -> Facts {
        Facts {
            has_systemd: true,
            docker: DockerSource::Machine,
            missing_modules: vec![],
            missing_tools: vec![],
            taken_port: None,
            room: vec![Room {
                place: "/opt/appliance".to_owned(),
                needed: 1 << 30,
                free: 4 << 30,
            }],
            exec: true,
        }
    }

    fn only_problem(facts: &Facts) -> String {
        let problems = problems(facts);
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].clone()
    }

    #[test]
    fn a_sound_machine_has_no_problem() {
        assert_eq!(problems(&sound()), Vec::<String>::new());
    }

    #[test]
    fn a_system_without_systemd_is_refused() {
        assert!(
            only_problem(&Facts {
                has_systemd: false,
                ..sound()
            })
            .contains("systemd 229")
        );
    }

    #[test]
    fn docker_may_come_with_the_bundle_but_not_from_nowhere() {
        assert!(
            problems(&Facts {
                docker: DockerSource::Payload,
                ..sound()
            })
            .is_empty()
        );
        let nowhere = Facts {
            docker: DockerSource::Nowhere,
            ..sound()
        };
        assert!(only_problem(&nowhere).contains("install docker.io"));
    }

    #[test]
    fn missing_modules_are_named() {
        let facts = Facts {
            missing_modules: vec!["br_netfilter".to_owned()],
            ..sound()
        };
        assert!(only_problem(&facts).contains("br_netfilter"));
    }

    #[test]
    fn missing_tools_are_named_with_their_packages() {
        let [conntrack, nsenter] = ["conntrack", "nsenter"]
            .map(|name| TOOLS.iter().find(|tool| tool.name == name).unwrap());
        let facts = Facts {
            missing_tools: vec![conntrack, nsenter],
            ..sound()
        };
        let problem = only_problem(&facts);
        assert!(problem.contains("conntrack, nsenter"), "{problem}");
        assert!(
            problem.contains("install conntrack util-linux"),
            "{problem}"
        );
    }

    #[test]
    fn a_port_that_another_program_has_is_named() {
        let facts = Facts {
            taken_port: Some(6440),
            ..sound()
        };
        assert!(only_problem(&facts).contains("balancerPort"));
    }

    #[test]
    fn noexec_is_refused() {
        assert!(
            only_problem(&Facts {
                exec: false,
                ..sound()
            })
            .contains("noexec")
        );
    }

    #[test]
    fn too_small_a_disk_is_refused_with_the_numbers() {
        let room = vec![Room {
            place: "/opt/appliance".to_owned(),
            needed: 1 << 30,
            free: 1 << 30,
        }];
        let problem = only_problem(&Facts { room, ..sound() });
        assert!(
            problem.contains("needs 1024 MiB and 256 MiB to spare, but only 1024 MiB"),
            "{problem}"
        );
    }
}

//! The system on the disk, and its clock.

use anyhow::Result;
use time::OffsetDateTime;

use super::{is_there, names, others, package_version, text};
use crate::bundle::elf;
use crate::components;
use crate::language::tr;
use crate::nodespec::Shape;
use crate::observe::software::{has_systemd, missing_tools};
use crate::paths;
use crate::preflight::facts::{Clock, Release, System, Wanted};
use crate::sys::http::PROXIES;
use crate::sys::root::Root;

/// Directories of units, those that win first.
pub const UNIT_DIRS: &[&str] = &[
    paths::UNITS_DIR,
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Reads it.
pub fn read(root: &Root, wanted: &Wanted, installed: bool) -> Result<System> {
    let hostname = text(root, "/proc/sys/kernel/hostname").unwrap_or_default();
    let resolv_conf = wanted.resolv_conf.as_deref().unwrap_or("/etc/resolv.conf");
    Ok(System {
        foreign: foreign(root),
        has_systemd: has_systemd(root)?,
        systemd: systemd(root),
        release: release(root),
        machine_id: text(root, "/etc/machine-id"),
        missing_tools: missing_tools(root)?,
        others: match installed {
            true => Vec::new(),
            false => others::read(root),
        },
        networks: others::networks(root),
        knows_own_name: knows(root, hostname.trim()),
        name_servers: name_servers(&text(root, resolv_conf).unwrap_or_default()),
        proxies: proxies(root),
        unit_proxies: unit_proxies(root, wanted),
        firewalls: firewalls(root),
    })
}

/// Why the system's programs are not for x86-64; `None` if they are, or if no program is there.
fn foreign(root: &Root) -> Option<String> {
    const CANDIDATES: &[&str] = &[
        "/usr/lib/systemd/systemd",
        "/lib/systemd/systemd",
        "/bin/sh",
    ];
    let mut there = CANDIDATES.iter().filter_map(|path| {
        let machine = elf::machine(&root.resolve(path).ok()?).ok()??;
        Some((path, machine))
    });
    let (path, machine) = there.next()?;
    let name = match machine {
        elf::X86_64 => return None,
        183 => "arm64".to_owned(),
        40 => "arm".to_owned(),
        3 => "i386".to_owned(),
        other => tr!("another machine ({other})", other),
    };
    Some(tr!("{path} is a program for {name}", path, name))
}

/// The version of systemd: of its package, or of its library, whose name has it.
fn systemd(root: &Root) -> Option<u32> {
    const DIRS: &[&str] = &[
        "/usr/lib/systemd",
        "/lib/systemd",
        "/usr/lib64/systemd",
        "/usr/lib/x86_64-linux-gnu/systemd",
    ];
    let number = |text: &str| {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    let package = package_version(root, &["systemd"]);
    package.and_then(|version| number(&version)).or_else(|| {
        let libraries = DIRS.iter().flat_map(|dir| names(root, dir));
        let mut versions = libraries.filter_map(|name| {
            let version = name.strip_prefix("libsystemd-shared-")?;
            number(version)
        });
        versions.next()
    })
}

fn release(root: &Root) -> Release {
    let text = text(root, "/etc/os-release").or_else(|| text(root, "/usr/lib/os-release"));
    let text = text.unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.map_or("", |line| line.trim().trim_matches(['"', '\'']))
            .to_owned()
    };
    Release {
        id: value("ID="),
        version: value("VERSION_ID="),
        name: value("PRETTY_NAME="),
    }
}

/// Whether the system finds an address for its own name without asking a server.
fn knows(root: &Root, name: &str) -> bool {
    let hosts = text(root, paths::HOSTS).unwrap_or_default();
    let mut lines = hosts
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let switch = text(root, "/etc/nsswitch.conf").unwrap_or_default();
    let mut rules = switch
        .lines()
        .filter_map(|line| line.trim().strip_prefix("hosts:"));
    lines.any(|line| {
        line.split_whitespace()
            .skip(1)
            .any(|word| word.eq_ignore_ascii_case(name))
    }) || rules.any(|rule| rule.contains("myhostname"))
}

fn name_servers(text: &str) -> Vec<String> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next())?
    });
    servers.map(str::to_owned).collect()
}

/// The variables that name a proxy, without their values, each with the file that sets it.
fn proxies(root: &Root) -> Vec<(String, String)> {
    const MANAGER: &str = "/etc/systemd/system.conf";
    const MORE: &str = "/etc/systemd/system.conf.d";
    let drop_ins = names(root, MORE)
        .into_iter()
        .map(|name| format!("{MORE}/{name}"));
    let of_docker = drop_ins_of(root, "docker.service");
    let files = ["/etc/environment".to_owned(), MANAGER.to_owned()];
    let files = files.into_iter().chain(drop_ins).chain(of_docker);
    files
        .flat_map(|path| {
            let set = variables(&text(root, &path).unwrap_or_default());
            set.into_iter()
                .map(move |name| (name, path.clone()))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The drop-ins of the node's own units that name a proxy and no exception from it, each with its unit.
fn unit_proxies(root: &Root, wanted: &Wanted) -> Vec<(String, String)> {
    let services = components::services(Shape {
        role: wanted.role,
        profile: wanted.profile,
        balanced: wanted.balancer.is_some(),
    });
    let units = services.iter().flat_map(|service| service.units());
    let units = units.filter(|unit| unit != "docker.service");
    units
        .flat_map(|unit| {
            let files = drop_ins_of(root, &unit);
            let files = files.into_iter().filter(|path| {
                let text = text(root, path).unwrap_or_default();
                !variables(&text).is_empty() && !text.to_lowercase().contains("no_proxy=")
            });
            files.map(|path| (unit.clone(), path)).collect::<Vec<_>>()
        })
        .collect()
}

/// The drop-ins of a unit.
fn drop_ins_of(root: &Root, unit: &str) -> Vec<String> {
    let dirs = UNIT_DIRS.iter().map(|dir| format!("{dir}/{unit}.d"));
    dirs.flat_map(|dir| {
        let files = names(root, &dir)
            .into_iter()
            .filter(|name| name.ends_with(".conf"));
        files
            .map(|name| format!("{dir}/{name}"))
            .collect::<Vec<_>>()
    })
    .collect()
}

/// The variables of a proxy that a file sets to something.
fn variables(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', ';']));
    let lines: Vec<&str> = lines.collect();
    let is_set = |name: &&&str| {
        let assignment = format!("{name}=");
        lines.iter().any(|line| {
            let mut places = line.match_indices(&assignment);
            places.any(|(at, _)| {
                let before = line[..at].chars().next_back();
                let after = line[at + assignment.len()..].trim_start_matches(['"', '\'']);
                before.is_none_or(|c| " =\"'\t".contains(c))
                    && !after.is_empty()
                    && !after.starts_with(char::is_whitespace)
            })
        })
    };
    let set = PROXIES.iter().filter(is_set);
    set.map(|name| (*name).to_owned()).collect()
}

/// Firewalls that start at boot.
fn firewalls(root: &Root) -> Vec<String> {
    let has = |path: &str, word: &str| {
        let text = text(root, path).unwrap_or_default();
        let mut lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with('#'));
        lines.any(|line| line.to_lowercase().replace(' ', "").contains(word))
    };
    let enabled = |unit: &str| {
        let targets = ["multi-user", "sysinit", "basic"];
        let mut links = targets
            .iter()
            .map(|target| format!("{}/{target}.target.wants/{unit}.service", paths::UNITS_DIR));
        links.any(|link| is_there(root, &link))
    };
    let all = [
        ("ufw", has("/etc/ufw/ufw.conf", "enabled=yes")),
        ("firewalld", enabled("firewalld")),
        (
            "nftables",
            enabled("nftables") && has("/etc/nftables.conf", "policydrop"),
        ),
        (
            "netfilter-persistent",
            enabled("netfilter-persistent") && has("/etc/iptables/rules.v4", ":inputdrop"),
        ),
    ];
    let active = all.iter().filter(|(_, is_active)| *is_active);
    active.map(|(name, _)| (*name).to_owned()).collect()
}

/// The clock of the machine, and what says whether it is right.
pub fn clock(root: &Root) -> Clock {
    const FILES: &[&str] = &[
        "/etc/os-release",
        "/usr/lib/os-release",
        "/var/lib/dpkg/status",
        "/var/lib/systemd/timesync/clock",
        "/var/lib/systemd/clock",
        paths::CA_CERTIFICATE,
        paths::STATE,
    ];
    let times = FILES.iter().filter_map(|path| {
        let time = root.resolve(path).ok()?.metadata().ok()?.modified().ok()?;
        Some(((*path).to_owned(), OffsetDateTime::from(time)))
    });
    Clock {
        now: OffsetDateTime::now_utc(),
        newest: times.max_by_key(|(_, time)| *time),
        keeper: keeper(root),
    }
}

/// The service that keeps the clock right.
pub fn keeper(root: &Root) -> Option<String> {
    const SERVICES: &[&str] = &[
        "systemd-timesyncd",
        "chrony",
        "chronyd",
        "ntp",
        "ntpd",
        "ntpsec",
        "openntpd",
    ];
    const TARGETS: &[&str] = &["sysinit.target.wants", "multi-user.target.wants"];
    if is_there(root, "/run/systemd/timesync/synchronized") {
        return Some(tr!("the clock is synchronized"));
    }
    let is_enabled = |service: &&&str| {
        let mut links = UNIT_DIRS.iter().flat_map(|dir| {
            TARGETS
                .iter()
                .map(move |target| format!("{dir}/{target}/{service}.service"))
        });
        links.any(|link| is_there(root, &link))
    };
    let found = SERVICES.iter().find(is_enabled);
    found.map(|service| tr!("{service} is enabled", service))
}

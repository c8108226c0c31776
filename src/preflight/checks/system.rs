//! The system: settings, architecture, systemd, distribution, programs, memory, clock, identity.

use time::{Duration, OffsetDateTime};

use super::{booted, of_workers, shown};
use crate::language::{message, tr, translated};
use crate::preflight::Finding;
use crate::preflight::facts::{Facts, Release};

/// The oldest systemd whose units are used.
const SYSTEMD: u32 = 229;
/// From this version on, systemd has no cgroup v1.
const WITHOUT_V1: u32 = 258;
/// From this version on, systemd starts with cgroup v1 only if it is forced.
const FORCED_V1: u32 = 256;
/// Memory that a node needs, in KiB: of masters, and of workers.
const MEMORY: (u64, u64) = (1700 * 1024, 1000 * 1024);
/// How far a clock may be behind a file: no harm is done by a day.
const BEHIND: Duration = Duration::DAY;

pub fn settings(facts: &Facts) -> Finding {
    match &facts.wanted.problems[..] {
        [] => Finding::pass(tr!("they are those of a {}", facts.wanted.role)),
        // An image gets its settings when a VM boots it.
        problems if facts.booted.is_none() => Finding::warn(
            tr!("they do not describe a node yet: {}", problems.join("; ")),
            tr!("give them in the metadata of each VM, or as options: `appliance help install`"),
        ),
        problems => Finding::fail(
            problems.join("; "),
            tr!("`appliance detect --explain` shows them"),
        ),
    }
}

pub fn architecture(facts: &Facts) -> Finding {
    match &facts.system.foreign {
        None => Finding::pass(tr!("nothing is for another architecture")),
        Some(why) => Finding::fail(why, tr!("use the distribution's image for amd64")),
    }
}

pub fn systemd(facts: &Facts) -> Finding {
    let system = &facts.system;
    if !system.has_systemd {
        return Finding::fail(
            tr!("systemd does not run on this system, but the node's services are systemd units"),
            tr!("use a distribution with systemd 229 or newer"),
        );
    }
    match system.systemd {
        None => Finding::pass(tr!("systemd; its version is not known")),
        Some(version) if version < SYSTEMD => Finding::fail(
            tr!("systemd {version}", version),
            tr!("use a newer release of the distribution"),
        ),
        Some(version) if version >= WITHOUT_V1 && facts.wanted.role.is_worker() => Finding::fail(
            tr!(
                "systemd {version}, which cannot start with cgroup v1",
                version
            ),
            tr!("use an older release of the distribution: `appliance help support`"),
        ),
        Some(version) if version >= FORCED_V1 && facts.booted.is_none() => Finding::warn(
            tr!(
                "systemd {version}, which starts with cgroup v1 only if it is forced",
                version
            ),
            tr!(
                "add `systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1` to \
             GRUB_CMDLINE_LINUX in /etc/default/grub, then `update-grub`"
            ),
        ),
        Some(version) => Finding::pass(tr!("systemd {version}", version)),
    }
}

/// What is known about a release of a distribution.
enum Known {
    /// It is tested, or near to one that is.
    Fits,
    /// It may work; why nobody is sure.
    Doubt(&'static str),
    /// It cannot work; why.
    No(&'static str),
}

const TOO_OLD: Known = Known::No(message!("its systemd is older than 229"));
const WITHOUT: Known = Known::No(message!("its systemd cannot start with cgroup v1"));
const UNTESTED: Known = Known::Doubt(message!("no test starts a node on it"));
const NEWER_DOCKER: Known = Known::Doubt(message!(
    "its package of docker is newer than those that Kubernetes v1.9 was used with"
));

/// Releases: `ID`, `VERSION_ID`, what is known.
const RELEASES: &[(&str, &str, Known)] = &[
    ("debian", "8", TOO_OLD),
    ("debian", "9", UNTESTED),
    ("debian", "10", UNTESTED),
    ("debian", "11", Known::Fits),
    ("debian", "12", Known::Fits),
    ("debian", "13", NEWER_DOCKER),
    ("debian", "14", WITHOUT),
    ("ubuntu", "14.04", TOO_OLD),
    ("ubuntu", "16.04", Known::Fits),
    ("ubuntu", "18.04", Known::Fits),
    ("ubuntu", "20.04", Known::Fits),
    ("ubuntu", "22.04", Known::Fits),
    ("ubuntu", "24.04", NEWER_DOCKER),
    ("ubuntu", "25.10", WITHOUT),
    ("ubuntu", "26.04", WITHOUT),
    ("centos", "7", TOO_OLD),
    ("rhel", "7", TOO_OLD),
    ("alpine", "", Known::No(message!("it has no systemd"))),
];

pub fn distribution(facts: &Facts) -> Finding {
    const COMMAND: &str = message!("`appliance help support` lists what was tested");
    let Release { id, version, name } = &facts.system.release;
    if id.is_empty() {
        return Finding::warn(
            tr!("/etc/os-release is missing or names no system"),
            translated(COMMAND),
        );
    }
    let name = match name.is_empty() {
        true => shown(&format!("{id} {version}")),
        false => shown(name),
    };
    let major = version.split('.').next().unwrap_or_default();
    let known = RELEASES.iter().find(|(known, release, _)| {
        known == id && (release.is_empty() || release == version || *release == major)
    });
    match known.map(|(_, _, known)| known) {
        Some(Known::Fits) => Finding::pass(name),
        Some(Known::Doubt(why)) => {
            Finding::warn(format!("{name}: {}", translated(why)), translated(COMMAND))
        }
        Some(Known::No(why)) => {
            Finding::fail(format!("{name}: {}", translated(why)), translated(COMMAND))
        }
        None => Finding::warn(tr!("{name}: nobody tested it", name), translated(COMMAND)),
    }
}

pub fn programs(facts: &Facts) -> Finding {
    of_workers(facts, || {
        let missing = &facts.system.missing_tools;
        if missing.is_empty() {
            return Finding::pass(tr!("all are there"));
        }
        let names: Vec<&str> = missing.iter().map(|tool| tool.name).collect();
        let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
        Finding::fail(
            tr!("this machine lacks {}", names.join(", ")),
            tr!(
                "`apt-get install {}` in the image, on Debian and Ubuntu",
                packages.join(" ")
            ),
        )
    })
}

pub fn memory(facts: &Facts) -> Finding {
    booted(facts, |booted| {
        let (role, has) = (facts.wanted.role, booted.memory);
        let needed = if role.is_master() { MEMORY.0 } else { MEMORY.1 };
        let seen = format!("{} MiB", has / 1024);
        match has < needed {
            true => Finding::warn(
                tr!("{seen}; a {role} needs {} MiB", needed / 1024, seen, role),
                tr!("use a bigger flavor: `openstack server resize --flavor FLAVOR SERVER`"),
            ),
            false => Finding::pass(seen),
        }
    })
}

pub fn processors(facts: &Facts) -> Finding {
    booted(facts, |booted| {
        let count = booted.processors;
        match facts.wanted.role.is_master() && count < 2 {
            true => Finding::warn(
                tr!("{count}; a {} needs 2", facts.wanted.role, count),
                tr!("use a bigger flavor: `openstack server resize --flavor FLAVOR SERVER`"),
            ),
            false => Finding::pass(count.to_string()),
        }
    })
}

/// A time to the second, in UTC.
fn moment(time: OffsetDateTime) -> String {
    let (hour, minute, second) = time.to_hms();
    format!("{} {hour:02}:{minute:02}:{second:02} UTC", time.date())
}

pub fn clock(facts: &Facts) -> Finding {
    let Some(clock) = &facts.clock else {
        return Finding::elsewhere(translated(super::NOT_BOOTED));
    };
    let now = moment(clock.now);
    match &clock.newest {
        Some((path, time)) if clock.now + BEHIND < *time => Finding::fail(
            tr!(
                "it shows {now}, but {path} is from {}",
                moment(*time),
                now,
                path
            ),
            tr!("`timedatectl set-ntp true`, or `timedatectl set-time 'YYYY-MM-DD hh:mm:ss'`"),
        ),
        _ => Finding::pass(now),
    }
}

pub fn synchronization(facts: &Facts) -> Finding {
    let Some(clock) = &facts.clock else {
        return Finding::elsewhere(translated(super::NOT_BOOTED));
    };
    match &clock.keeper {
        Some(keeper) => Finding::pass(keeper),
        None => Finding::warn(
            tr!(
                "nothing keeps the clock right: neither systemd-timesyncd nor chrony nor ntp is enabled"
            ),
            tr!(
                "install one (`apt-get install chrony`), or switch on the one that is there: `timedatectl set-ntp true`"
            ),
        ),
    }
}

pub fn machine_id(facts: &Facts) -> Finding {
    booted(facts, |_| {
        let id = facts.system.machine_id.as_deref().map(str::trim);
        match id {
            Some(id) if id.len() == 32 && id.bytes().all(|c| c.is_ascii_hexdigit()) => {
                Finding::pass(tr!("/etc/machine-id is set"))
            }
            _ => Finding::warn(
                tr!("/etc/machine-id is missing, empty or damaged"),
                "`rm -f /etc/machine-id && systemd-machine-id-setup`",
            ),
        }
    })
}

/// UUIDs that boards and hypervisors show on every machine.
const COPIED: &[&str] = &[
    "00020003-0004-0005-0006-000700080009",
    "03000200-0400-0500-0006-000700080009",
    "12345678-1234-5678-90ab-cddeefaabbcc",
    "fefefefe-fefe-fefe-fefe-fefefefefefe",
];

pub fn uuid(facts: &Facts) -> Finding {
    booted(facts, |booted| {
        let Some(uuid) = booted
            .uuid
            .as_deref()
            .map(|uuid| uuid.trim().to_lowercase())
        else {
            return Finding::elsewhere(tr!("the firmware shows no UUID"));
        };
        let mut digits = uuid.bytes().filter(|byte| *byte != b'-');
        let first = digits.next();
        let is_alike = digits.all(|digit| Some(digit) == first);
        match is_alike || COPIED.contains(&uuid.as_str()) {
            true => Finding::warn(
                tr!("the firmware shows {}, as on many machines", shown(&uuid)),
                tr!("set `uuid` of the VM: a copy of this node cannot be told from it"),
            ),
            false => Finding::pass(shown(&uuid)),
        }
    })
}

pub fn hostname(facts: &Facts) -> Finding {
    booted(facts, |booted| {
        let name = shown(&booted.hostname);
        match facts.system.knows_own_name || booted.hostname.is_empty() {
            true => Finding::pass(tr!("{name} has an address", name)),
            false => Finding::warn(
                tr!(
                    "{name} is neither in /etc/hosts nor found by `myhostname`: sudo and others wait",
                    name
                ),
                format!("`echo '127.0.1.1 {name}' >>/etc/hosts`"),
            ),
        }
    })
}

pub fn fips(facts: &Facts) -> Finding {
    booted(facts, |booted| match booted.fips {
        true => Finding::warn(
            tr!(
                "the kernel is in FIPS mode; the cryptography of Kubernetes v1.9 and of this program has no \
             validation"
            ),
            tr!("boot without `fips=1`, if your rules allow it"),
        ),
        false => Finding::pass(tr!("the kernel is not in FIPS mode")),
    })
}

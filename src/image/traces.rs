//! Traces of the machine on which an image was made, which the image must not contain: a table of
//! small functions that search below a root directory. `image prepare` removes what they find,
//! `image check` reports it.
//!
//! A trace in an image would give all its VMs the same identity, allow someone to log in, reveal
//! private data, or waste space.

use anyhow::Result;
use wildmatch::WildMatch;

use crate::sys::change::Change;
use crate::sys::root::Root;

/// A kind of trace.
pub struct Trace {
    /// Its name for the operator.
    pub name: &'static str,
    /// The consequence of a copy in every VM.
    pub why: &'static str,
    /// What a running system does with it.
    pub running: Running,
    find: fn(&Root) -> Result<Vec<Found>>,
}

/// What a running system does with a trace that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// It does not write it again before its next boot.
    Leaves,
    /// It may write it again at any time.
    Rewrites,
    /// It uses it, so it is not removed there.
    Uses,
}

/// One trace, and how to remove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its path.
    pub path: String,
    mend: Mend,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Mend {
    /// Remove it with everything in it.
    Remove,
    /// Keep the file without content.
    Empty,
    /// Keep the file with this content.
    Rewrite(Vec<u8>),
}

impl Trace {
    /// All traces of this kind below the root. Changes nothing.
    pub fn find(&self, root: &Root) -> Result<Vec<Found>> {
        (self.find)(root)
    }
}

impl Found {
    /// Removes it.
    pub fn mend(&self, root: &Root) -> Result<()> {
        match &self.mend {
            Mend::Remove => root.remove_tree(&self.path),
            Mend::Empty if !root.exists(&self.path)? => root.create(&self.path, b"", 0o444),
            Mend::Empty => root.rewrite(&self.path, b""),
            Mend::Rewrite(content) => root.rewrite(&self.path, content),
        }
    }
}

/// Every kind of trace.
pub const TRACES: &[Trace] = &[
    Trace {
        name: "machine ID",
        why: "systemd, DHCP and the journal would treat all VMs as the same machine",
        running: Running::Leaves,
        find: machine_id,
    },
    Trace {
        name: "host name",
        why: "a VM without a name would get the name of the machine on which the image was made",
        running: Running::Leaves,
        find: host_name,
    },
    Trace {
        name: "SSH host keys",
        why: "the owner of one VM could impersonate all others",
        running: Running::Leaves,
        find: |root| removed(root, &["/etc/ssh/ssh_host_*"]),
    },
    Trace {
        name: "authorized keys",
        why: "their owners could log in to every VM",
        running: Running::Leaves,
        find: |root| {
            let keys = [
                "/root/.ssh/authorized_keys*",
                "/home/*/.ssh/authorized_keys*",
            ];
            removed(root, &keys)
        },
    },
    Trace {
        name: "passwords",
        why: "everyone who knows one could log in to every VM",
        running: Running::Leaves,
        find: passwords,
    },
    Trace {
        name: "cloud-init's state",
        why: "cloud-init could treat a new VM as one that it has already set up",
        running: Running::Leaves,
        find: cloud_init,
    },
    Trace {
        name: "network settings",
        why: "a VM would use the interfaces and addresses of another machine",
        running: Running::Leaves,
        find: |root| removed(root, NETWORK),
    },
    Trace {
        name: "DHCP leases",
        why: "a VM would request the address of another machine",
        running: Running::Rewrites,
        find: |root| removed(root, LEASES),
    },
    Trace {
        name: "random seeds",
        why: "all VMs would start with the same seed",
        running: Running::Leaves,
        find: |root| removed(root, SEEDS),
    },
    Trace {
        name: "docker's identity",
        why: "docker would have the same identity on all VMs",
        running: Running::Leaves,
        find: |root| removed(root, &["/etc/docker/key.json", "/var/lib/docker/engine-id"]),
    },
    Trace {
        name: "iSCSI name",
        why: "two VMs with the same name corrupt their shared disks",
        running: Running::Leaves,
        find: iscsi,
    },
    Trace {
        name: "shell histories",
        why: "they contain typed commands, possibly with passwords",
        running: Running::Leaves,
        find: |root| removed(root, HISTORIES),
    },
    Trace {
        name: "logs",
        why: "they are the logs of another machine",
        running: Running::Rewrites,
        find: logs,
    },
    Trace {
        name: "package caches",
        why: "they waste space, and are outdated when the image boots",
        running: Running::Rewrites,
        find: package_caches,
    },
    Trace {
        name: "temporary files",
        why: "they waste space, and may contain private data",
        running: Running::Uses,
        find: |root| removed(root, &["/tmp/*", "/var/tmp/*"]),
    },
];

/// Files that cloud-init and udev write for the interfaces of one machine.
const NETWORK: &[&str] = &[
    "/etc/netplan/50-cloud-init.yaml",
    "/etc/network/interfaces.d/50-cloud-init*",
    "/etc/systemd/network/10-cloud-init-*.network",
    "/etc/systemd/network/50-cloud-init-*.link",
    "/etc/NetworkManager/system-connections/cloud-init-*",
    "/etc/udev/rules.d/70-persistent-net.rules",
    "/etc/udev/rules.d/85-persistent-net-cloud-init.rules",
];

const LEASES: &[&str] = &[
    "/var/lib/dhcp/*lease*",
    "/var/lib/dhclient/*lease*",
    "/var/lib/dhcpcd/*lease*",
    "/var/lib/dhcpcd5/*lease*",
    "/var/lib/NetworkManager/*lease*",
    "/var/lib/NetworkManager/secret_key",
];

/// Random seeds. The last file is the key that encrypts systemd credentials of one machine.
const SEEDS: &[&str] = &[
    "/var/lib/systemd/random-seed",
    "/var/lib/urandom/random-seed",
    "/var/lib/random-seed",
    "/var/lib/systemd/credential.secret",
];

const HISTORIES: &[&str] = &[
    "/root/.*history",
    "/root/.lesshst",
    "/root/.viminfo",
    "/root/.wget-hsts",
    "/home/*/.*history",
    "/home/*/.lesshst",
    "/home/*/.viminfo",
    "/home/*/.wget-hsts",
];

/// Removes every trace below the root that can be removed there, and calls `note` for each.
pub fn clean(root: &Root, note: impl Fn(&Trace, &Found)) -> Result<()> {
    for trace in TRACES {
        if root.is_live() && trace.running == Running::Uses {
            continue;
        }
        for found in trace.find(root)? {
            found.mend(root)?;
            note(trace, &found);
        }
    }
    Ok(())
}

/// The paths below the root that match the pattern; `*` matches any part of a name.
pub fn matching(root: &Root, pattern: &str) -> Result<Vec<String>> {
    let mut paths = vec![String::new()];
    for part in pattern.split('/').skip(1) {
        let mut longer = Vec::new();
        for path in paths {
            if part.contains('*') {
                let wanted = WildMatch::new(part);
                let names = root.list(&format!("{path}/"))?;
                let names = names.into_iter().filter(|name| wanted.matches(name));
                longer.extend(names.map(|name| format!("{path}/{name}")));
            } else if root.exists(&format!("{path}/{part}"))? {
                longer.push(format!("{path}/{part}"));
            }
        }
        paths = longer;
    }
    Ok(paths)
}

fn removed(root: &Root, patterns: &[&str]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for pattern in patterns {
        found.extend(matching(root, pattern)?.into_iter().map(gone));
    }
    found.dedup();
    Ok(found)
}

fn gone(path: String) -> Found {
    Found {
        path,
        mend: Mend::Remove,
    }
}

/// Empties the file: for systemd 229, a missing file or the word `uninitialized` is an error.
fn machine_id(root: &Root) -> Result<Vec<Found>> {
    const OWN: &str = "/etc/machine-id";
    const OF_DBUS: &str = "/var/lib/dbus/machine-id";
    let mut found = Vec::new();
    if root.read(OWN)?.is_none_or(|id| !id.is_empty()) {
        found.push(Found {
            path: OWN.to_owned(),
            mend: Mend::Empty,
        });
    }
    // A link to the other file may stay.
    if root.entry(OF_DBUS)?.is_some_and(|entry| entry.is_file()) {
        found.push(gone(OF_DBUS.to_owned()));
    }
    Ok(found)
}

fn host_name(root: &Root) -> Result<Vec<Found>> {
    const PATH: &str = "/etc/hostname";
    const NOBODY: &str = "localhost";
    let name = root.read(PATH)?.unwrap_or_default();
    let name = String::from_utf8_lossy(&name).trim().to_owned();
    if name.is_empty() || name == NOBODY {
        return Ok(vec![]);
    }
    Ok(vec![Found {
        path: PATH.to_owned(),
        mend: Mend::Rewrite(format!("{NOBODY}\n").into_bytes()),
    }])
}

fn passwords(root: &Root) -> Result<Vec<Found>> {
    const PATH: &str = "/etc/shadow";
    let mut found = Vec::new();
    if let Some(locked) = locked(root, PATH)? {
        found.push(Found {
            path: PATH.to_owned(),
            mend: Mend::Rewrite(locked),
        });
    }
    // The backup that the tools of shadow keep.
    let old = format!("{PATH}-");
    if locked(root, &old)?.is_some() {
        found.push(gone(old));
    }
    Ok(found)
}

/// The table of passwords (shadow(5)) with every user locked; `None` if every user already is. All
/// else stays, byte for byte.
fn locked(root: &Root, path: &str) -> Result<Option<Vec<u8>>> {
    let table = root.read(path)?.unwrap_or_default();
    let mut changed = false;
    let mut lock = |line: &[u8]| {
        let mut fields: Vec<&[u8]> = line.split(|&byte| byte == b':').collect();
        // A field with only `!` and `*` is locked. After such a character, a hash may still follow,
        // which `usermod -U` would enable again.
        let is_locked = |hash: &[u8]| !hash.is_empty() && hash.iter().all(|c| b"!*".contains(c));
        if let Some(hash) = fields.get_mut(1).filter(|hash| !is_locked(hash)) {
            *hash = b"!";
            changed = true;
        }
        fields.join(&b':')
    };
    let lines: Vec<Vec<u8>> = table.split(|&byte| byte == b'\n').map(&mut lock).collect();
    Ok(changed.then(|| lines.join(&b'\n')))
}

/// Everything except the seed, which may be in the base on purpose.
fn cloud_init(root: &Root) -> Result<Vec<Found>> {
    let mut found = removed(
        root,
        &[
            "/var/lib/cloud/*",
            // This file allowed logins with the password that was set while the image was made.
            "/etc/ssh/sshd_config.d/50-cloud-init.conf",
        ],
    )?;
    found.retain(|found| found.path != "/var/lib/cloud/seed");
    Ok(found)
}

/// The line with which open-iscsi makes a new name for each machine.
fn iscsi(root: &Root) -> Result<Vec<Found>> {
    const PATH: &str = "/etc/iscsi/initiatorname.iscsi";
    let text = root.read(PATH)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    if !text.lines().any(|line| line.starts_with("InitiatorName=")) {
        return Ok(vec![]);
    }
    Ok(vec![Found {
        path: PATH.to_owned(),
        mend: Mend::Rewrite(b"GenerateName=yes\n".to_vec()),
    }])
}

/// Empties logs, because some programs do not create the file again. Removes journals, crash dumps
/// and rotated logs.
fn logs(root: &Root) -> Result<Vec<Found>> {
    let whole = [
        "/var/log/journal/*",
        "/var/crash/*",
        "/var/lib/systemd/coredump/*",
        "/var/mail/*",
    ];
    let mut found = removed(root, &whole)?;
    logs_below(root, "/var/log", &mut found)?;
    Ok(found)
}

fn logs_below(root: &Root, dir: &str, found: &mut Vec<Found>) -> Result<()> {
    for name in root.list(dir)? {
        let path = format!("{dir}/{name}");
        let Some(entry) = root.entry(&path)? else {
            continue;
        };
        if entry.is_dir() && name != "journal" {
            logs_below(root, &path, found)?;
        } else if entry.is_file() && (is_rotated(&name) || name.starts_with("cloud-init")) {
            found.push(gone(path));
        } else if entry.is_file() && entry.len() > 0 {
            found.push(Found {
                path,
                mend: Mend::Empty,
            });
        }
    }
    Ok(())
}

fn is_rotated(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    matches!(last, "gz" | "xz" | "old")
        || (name != last && last.chars().all(|c| c.is_ascii_digit()))
}

fn package_caches(root: &Root) -> Result<Vec<Found>> {
    let caches = [
        "/var/lib/apt/lists/*",
        "/var/cache/apt/archives/*.deb",
        "/var/cache/apt/*.bin",
    ];
    let mut found = removed(root, &caches)?;
    let kept = ["lock", "partial", "auxfiles"].map(|name| format!("/var/lib/apt/lists/{name}"));
    found.retain(|found| !kept.contains(&found.path));
    Ok(found)
}

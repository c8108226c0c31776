//! The files of the archive. It is a list of names: no directory is walked, except those with units.

use super::Text;
use crate::components;
use crate::nodespec::{Profile, Role, Shape};
use crate::paths;
use crate::sys::root::Root;

/// The files.
const FILES: &[&str] = &[
    paths::STATE,
    paths::RUN,
    paths::UPGRADE,
    paths::MACHINE,
    paths::CLUSTER,
    paths::BROUGHT,
    paths::STARTED_WITH,
    paths::ADDONS_NOTES,
    paths::LAST_BACKUP,
    paths::RESTORED,
    paths::EXPECTED,
    paths::IMAGES,
    paths::JOIN_NAMES,
    paths::BACKUP_SCHEDULE,
    paths::ADDONS_INDEX,
    paths::ETCD_ENVIRONMENT,
    paths::CNI_CONFIG,
    paths::CALICOCTL_CONFIG,
    paths::DOCKER_SETTINGS,
    paths::MODULES,
    paths::SYSCTL,
    paths::HOSTS,
    paths::CONFIG,
    "/etc/os-release",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/fstab",
    "/proc/cmdline",
    "/proc/version",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/swaps",
    "/proc/cgroups",
    "/proc/self/mountinfo",
    "/proc/modules",
    "/proc/sys/net/netfilter/nf_conntrack_count",
    "/proc/sys/net/netfilter/nf_conntrack_max",
    "/proc/sys/net/ipv4/ip_forward",
];

/// The text of each file that exists, or why it cannot be read. Those in `left_out` are not read.
pub fn read(root: &Root, left_out: &[(String, String)]) -> Vec<Text> {
    let files = FILES.iter().map(|path| (*path).to_owned());
    let all = files.chain(units(root));
    let wanted = all.filter(|path| left_out.iter().all(|(one, _)| one != path));
    wanted
        .filter_map(|path| {
            let text = match root.read(&path) {
                Ok(bytes) => Ok(String::from_utf8_lossy(&bytes?).into_owned()),
                Err(error) => Err(format!("{error:#}")),
            };
            Some((format!("files{path}"), text))
        })
        .collect()
}

/// The units that a node can have, and their drop-ins.
fn units(root: &Root) -> Vec<String> {
    let shape = Shape {
        role: Role::Single,
        profile: Profile::WithCa,
        balanced: true,
    };
    let services = components::services(shape);
    let names = services.iter().flat_map(|service| service.units());
    let names = names.chain([components::BOOT_UNIT.to_owned()]);
    names
        .flat_map(|name| {
            let path = paths::unit(&name);
            let dir = format!("{path}.d");
            let drop_ins = root.list(&dir).unwrap_or_default().into_iter();
            let drop_ins = drop_ins.filter(|name| name.ends_with(".conf"));
            let drop_ins: Vec<String> = drop_ins.map(|name| format!("{dir}/{name}")).collect();
            [path].into_iter().chain(drop_ins)
        })
        .collect()
}

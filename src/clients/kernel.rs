//! Kernel modules and settings of the running system.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use crate::sys::root::Root;

/// Modules, each with the options of the kernel's configuration that build it in.
const OPTIONS: &[(&str, &[&str])] = &[
    ("br_netfilter", &["BRIDGE_NETFILTER"]),
    ("bridge", &["BRIDGE"]),
    ("ip6_tables", &["IP6_NF_IPTABLES", "IP6_NF_IPTABLES_LEGACY"]),
    ("ip_set", &["IP_SET"]),
    ("ip_tables", &["IP_NF_IPTABLES", "IP_NF_IPTABLES_LEGACY"]),
    ("ipip", &["NET_IPIP"]),
    ("ipt_REJECT", &["IP_NF_TARGET_REJECT"]),
    ("ipt_rpfilter", &["IP_NF_MATCH_RPFILTER"]),
    ("nf_conntrack", &["NF_CONNTRACK"]),
    ("nf_conntrack_netlink", &["NF_CT_NETLINK"]),
    ("overlay", &["OVERLAY_FS"]),
    ("veth", &["VETH"]),
    ("xt_addrtype", &["NETFILTER_XT_MATCH_ADDRTYPE"]),
    ("xt_comment", &["NETFILTER_XT_MATCH_COMMENT"]),
    ("xt_conntrack", &["NETFILTER_XT_MATCH_CONNTRACK"]),
    ("xt_mark", &["NETFILTER_XT_MARK"]),
    ("xt_multiport", &["NETFILTER_XT_MATCH_MULTIPORT"]),
    ("xt_nat", &["NETFILTER_XT_NAT"]),
    ("xt_set", &["NETFILTER_XT_SET"]),
    ("xt_statistic", &["NETFILTER_XT_MATCH_STATISTIC"]),
];

/// Where the running kernel shows its modules.
const SHOWN: &str = "/sys/module";

/// The modules of the running kernel.
pub struct Modules<'a> {
    root: &'a Root,
    /// Those that are built in, by the lists of `make modules_install` and by the kernel's configuration.
    built_in: BTreeSet<String>,
    /// Those that can be loaded.
    loadable: BTreeSet<String>,
    /// Whether the kernel can load modules at all.
    is_modular: bool,
}

impl Modules<'_> {
    /// Those of the kernel of that release. Not every built-in module is in `/sys/module`, and a kernel that loads no
    /// modules has no lists of them: then its configuration tells.
    pub fn of<'a>(root: &'a Root, release: &str) -> Modules<'a> {
        let directory = format!("/lib/modules/{release}");
        let list = |name: &str| -> BTreeSet<String> {
            let text = text(root, &format!("{directory}/{name}"));
            text.lines().filter_map(module).collect()
        };
        let config = match bytes(root, "/proc/config.gz") {
            packed if packed.is_empty() => text(root, &format!("/boot/config-{release}")),
            packed => unpacked(&packed),
        };
        let is_set = |option: &&str| {
            let line = format!("CONFIG_{option}=y");
            config.lines().any(|one| one == line)
        };
        let configured = OPTIONS
            .iter()
            .filter(|(_, options)| options.iter().any(is_set));
        let mut built_in = list("modules.builtin");
        built_in.extend(configured.map(|(module, _)| (*module).to_owned()));
        Modules {
            root,
            built_in,
            loadable: list("modules.dep"),
            is_modular: root.exists("/proc/modules").unwrap_or_default(),
        }
    }

    /// Those of the running kernel.
    pub fn of_running(root: &Root) -> Modules<'_> {
        Modules::of(root, text(root, "/proc/sys/kernel/osrelease").trim())
    }

    /// Whether the kernel has the module: it is loaded or built in.
    pub fn has(&self, module: &str) -> bool {
        let plain = module.replace('-', "_");
        self.built_in.contains(&plain)
            || self
                .root
                .exists(&format!("{SHOWN}/{plain}"))
                .unwrap_or_default()
    }

    /// Whether the kernel has the module, or can load it.
    pub fn can_have(&self, module: &str) -> bool {
        self.loadable.contains(&module.replace('-', "_")) || self.has(module)
    }

    /// Whether there is nothing to load: the kernel has the module, or loads none.
    pub fn is_settled(&self, module: &str) -> bool {
        !self.is_modular || self.has(module)
    }

    /// Whether it is known what the kernel has.
    pub fn is_known(&self) -> bool {
        self.is_modular || !self.built_in.is_empty()
    }
}

/// The module that a line such as `kernel/net/bridge/br_netfilter.ko.xz: …` is about.
fn module(line: &str) -> Option<String> {
    let path = line.split(':').next()?;
    let file = path.rsplit('/').next()?;
    let (name, _) = file.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

/// A file of the kernel; empty if it cannot be read.
fn bytes(root: &Root, path: &str) -> Vec<u8> {
    let read = root.read(path);
    let read = read.inspect_err(|error| log::debug!("{error:#}"));
    read.ok().flatten().unwrap_or_default()
}

fn text(root: &Root, path: &str) -> String {
    String::from_utf8_lossy(&bytes(root, path)).into_owned()
}

/// The kernel's configuration, which is some 200 KiB.
fn unpacked(packed: &[u8]) -> String {
    const LIMIT: u64 = 4 << 20;
    let mut config = Vec::new();
    let mut reader = GzDecoder::new(packed).take(LIMIT);
    if let Err(error) = reader.read_to_end(&mut config) {
        log::debug!("/proc/config.gz: {error}");
    }
    String::from_utf8_lossy(&config).into_owned()
}

/// Whether AppArmor is enabled in the running kernel. Docker uses the same test.
pub fn has_apparmor() -> bool {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    enabled.is_ok_and(|enabled| enabled.starts_with('Y'))
}

/// The value of a setting such as `net.ipv4.ip_forward`; `None` if the kernel has no such setting.
pub fn sysctl(key: &str) -> Option<String> {
    let value = fs::read_to_string(sysctl_path(key)).ok()?;
    Some(value.trim().to_owned())
}

/// The file of a setting.
pub fn sysctl_path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key.replace('.', "/"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const RELEASE: &str = "6.1.0";

    /// What is there with these files: whether it is known, and of each module whether the kernel has it, can have it,
    /// and whether there is nothing to load.
    fn seen(files: &[(&str, &str)]) -> (bool, [(bool, bool, bool); 3]) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if path.ends_with("config.gz") {
                let mut packed =
                    GzEncoder::new(fs::File::create(path).unwrap(), Compression::fast());
                packed.write_all(text.as_bytes()).unwrap();
            } else {
                fs::write(path, text).unwrap();
            }
        }
        let root = Root::open(dir.path()).unwrap();
        let modules = Modules::of(&root, RELEASE);
        let of = |name| {
            (
                modules.has(name),
                modules.can_have(name),
                modules.is_settled(name),
            )
        };
        (
            modules.is_known(),
            ["overlay", "br_netfilter", "ipip"].map(of),
        )
    }

    #[test]
    fn modules_are_loaded_or_built_in_or_can_be_loaded() {
        let there = (true, true, true);
        let lacking = (false, false, false);
        let files = [
            ("proc/modules", ""),
            ("sys/module/overlay/x", ""),
            (
                "lib/modules/6.1.0/modules.dep",
                "kernel/net/bridge/br-netfilter.ko.xz: x\n",
            ),
        ];
        assert_eq!(seen(&files), (true, [there, (false, true, false), lacking]));
        let files = [
            ("proc/modules", ""),
            (
                "lib/modules/6.1.0/modules.builtin",
                "kernel/fs/overlayfs/overlay.ko\n",
            ),
            (
                "lib/modules/6.2.0/modules.builtin",
                "kernel/net/ipv4/ipip.ko\n",
            ),
        ];
        assert_eq!(seen(&files), (true, [there, lacking, lacking]));
    }

    #[test]
    fn a_kernel_without_modules_tells_by_its_configuration_what_it_has() {
        let there = (true, true, true);
        let lacking = (false, false, true);
        let config =
            "CONFIG_OVERLAY_FS=y\nCONFIG_BRIDGE_NETFILTER=y\n# CONFIG_NET_IPIP is not set\n";
        for path in ["proc/config.gz", "boot/config-6.1.0"] {
            assert_eq!(
                seen(&[(path, config)]),
                (true, [there, there, lacking]),
                "{path}"
            );
        }
        assert_eq!(seen(&[]), (false, [lacking; 3]));
        let shown = [("sys/module/overlay/x", "")];
        assert_eq!(seen(&shown), (false, [there, lacking, lacking]));
    }
}

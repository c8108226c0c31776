//! A booted machine: the files of its kernel below the root.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use appliance::desired;
use appliance::nodespec::Ipip;
use serde_json::Value;

use crate::harness::{Machine, payload, said};

/// The release of its kernel.
pub const RELEASE: &str = "6.1.0-made";
/// Modules that are not loaded by the node itself.
const FEATURES: &[&str] = &[
    "overlay",
    "veth",
    "bridge",
    "nf_conntrack",
    "xt_comment",
    "xt_conntrack",
    "xt_statistic",
    "xt_nat",
];

/// A machine on which everything is as needed.
pub struct Booted {
    pub machine: Machine,
}

/// What `preflight` printed.
pub struct Checked {
    pub fit: bool,
    pub checks: BTreeMap<String, Value>,
}

/// What a worker has to know beside its role.
pub fn master(role: &str) -> &'static [&'static str] {
    match role {
        "worker" => &["--set", "master=192.168.1.101"],
        _ => &[],
    }
}

/// Runs `appliance preflight` on the machine.
pub fn preflight(machine: &Machine, role: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(["preflight", "--role", role, "--root"])
        .arg(machine.root())
        .arg("--metadata-dir")
        .arg(machine.metadata())
        .arg("--payload")
        .arg(payload())
        .args(master(role))
        .args(arguments)
        .output()
        .unwrap()
}

/// Runs it on the machine as on an image, whose settings are not known.
pub fn preflight_of_image(machine: &Machine) -> Output {
    Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(["preflight", "--root"])
        .arg(machine.root())
        .arg("--payload")
        .arg(payload())
        .output()
        .unwrap()
}

impl Booted {
    pub fn new() -> Booted {
        let booted = Booted {
            machine: Machine::new(),
        };
        booted.disk();
        booted.kernel();
        booted
    }

    fn disk(&self) {
        let put = |path: &str, text: &str| self.machine.put(path, text);
        put(
            "etc/os-release",
            "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
        );
        put(
            "var/lib/dpkg/status",
            "Package: systemd\nStatus: install ok installed\nVersion: 252.38-1~deb12u1\n\n\
             Package: docker.io\nStatus: install ok installed\nVersion: 20.10.24+dfsg1-1\n",
        );
        put("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        put(
            "etc/hosts",
            "127.0.0.1 localhost\n127.0.1.1 made.example made\n",
        );
        put("etc/resolv.conf", "nameserver 192.0.2.53\n");
        put("run/systemd/timesync/synchronized", "");
    }

    fn kernel(&self) {
        let put = |path: &str, text: &str| self.machine.put(path, text);
        let loads = desired::modules(Ipip::Always);
        let modules = loads
            .iter()
            .map(String::as_str)
            .chain(FEATURES.iter().copied());
        let lines: Vec<String> = modules
            .map(|name| format!("kernel/net/{name}.ko.xz:\n"))
            .collect();
        put(
            &format!("lib/modules/{RELEASE}/modules.dep"),
            &lines.concat(),
        );
        put("proc/modules", "");
        put("proc/sys/kernel/osrelease", RELEASE);
        put("proc/sys/kernel/hostname", "made\n");
        put("proc/sys/crypto/fips_enabled", "0\n");
        put("proc/sys/net/netfilter/nf_conntrack_count", "12\n");
        put("proc/sys/net/netfilter/nf_conntrack_max", "65536\n");
        put(
            "proc/swaps",
            "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n",
        );
        put(
            "proc/meminfo",
            "MemTotal:        4030544 kB\nMemFree: 1 kB\n",
        );
        put(
            "proc/cgroups",
            "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t5\t80\t1\n",
        );
        put(
            "sys/class/dmi/id/product_uuid",
            "5f7a1c9e-3b0d-4a52-9c77-0e8f6d2b4a02\n",
        );
        put("sys/devices/system/cpu/cpu0/x", "");
        put("sys/devices/system/cpu/cpu1/x", "");
        self.mounted(&[]);
        self.listening(&[]);
    }

    /// Writes the list of mounts, with more lines: mount point, options.
    pub fn mounted(&self, more: &[(&str, &str)]) {
        let mut lines = vec![
            "20 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw".to_owned(),
            "21 20 0:20 / /sys/fs/cgroup ro,nosuid,nodev,noexec - tmpfs tmpfs ro,mode=755"
                .to_owned(),
        ];
        for (number, names) in ["cpu,cpuacct", "cpuset", "memory", "pids"]
            .iter()
            .enumerate()
        {
            lines.push(format!(
                "{} 21 0:3{number} / /sys/fs/cgroup/{names} rw,nosuid shared:{number} - cgroup cgroup rw,{names}",
                30 + number
            ));
        }
        for (number, (point, options)) in more.iter().enumerate() {
            lines.push(format!(
                "{} 20 254:{number} / {point} {options},relatime shared:9 - ext4 /dev/vdb rw",
                50 + number
            ));
        }
        self.machine
            .put("proc/self/mountinfo", &(lines.join("\n") + "\n"));
    }

    /// Writes the list of sockets that listen, and the process of each: port, program.
    pub fn listening(&self, programs: &[(u16, &str)]) {
        let mut table =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  \
                         timeout inode\n"
                .to_owned();
        for (number, (port, program)) in programs.iter().enumerate() {
            let socket = 7700 + number;
            table += &format!(
                "   {number}: 00000000:{port:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0  \
                 0 {socket} 1 0000000000000000 100 0 0 10 0\n"
            );
            let process = self.machine.root().join(format!("proc/{}", 400 + number));
            std::fs::create_dir_all(process.join("fd")).unwrap();
            let name = program.rsplit('/').next().unwrap();
            std::fs::write(process.join("comm"), format!("{name}\n")).unwrap();
            symlink(program, process.join("exe")).unwrap();
            symlink(format!("socket:[{socket}]"), process.join("fd/3")).unwrap();
        }
        self.machine.put("proc/net/tcp", &table);
    }

    /// Runs `appliance preflight` on it.
    pub fn run(&self, role: &str, arguments: &[&str]) -> Output {
        preflight(&self.machine, role, arguments)
    }

    /// Every check by its name.
    pub fn checked(&self, role: &str) -> Checked {
        let output = self.run(role, &["-o", "json"]);
        let document: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", said(&output)));
        let fit = document["fit"] == true;
        let code = if fit { 0 } else { 2 };
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        let checks = document["checks"].as_array().unwrap().iter();
        Checked {
            fit,
            checks: checks
                .map(|check| (check["name"].as_str().unwrap().to_owned(), check.clone()))
                .collect(),
        }
    }
}

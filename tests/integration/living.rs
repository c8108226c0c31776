//! A running system in namespaces of its own: its programs run with its root directory as `/`; docker and systemctl
//! are scripts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use appliance::bundle::repack::repack;
use appliance::join::registry;
use appliance::records::nodes::NodeRecord;
use appliance::sys::root::Root;
use serde_json::Value;
use time::OffsetDateTime;

use crate::harness::{Machine, directory, payload};

/// docker: each image is a file in `/run/images` with its identifier.
const DOCKER: &str = r#"#!/bin/sh
[ ! -e /run/docker-is-down ] || exit 1
case $1 in
version) echo 17.03 ;;
inspect)
    for last; do :; done
    [ -e "/run/images/$last" ] || exit 1
    read -r id <"/run/images/$last"
    echo "$id"
    ;;
esac
"#;

/// systemctl: units run, except those with a file in `/run/stopped`; those in `/run/stale` were changed. It never ends
/// while there is the file `/run/systemd-hangs`.
const SYSTEMCTL: &str = r#"#!/bin/sh
while [ -e /run/systemd-hangs ]; do :; done
if [ "$1" = is-active ]; then
    shift
    for unit; do
        if [ -e "/run/stopped/$unit" ]; then echo failed; else echo active; fi
    done
fi
[ "$1" = show ] || exit 0
for unit; do
    case $unit in
    show | --*) continue ;;
    esac
    state=active sub=running stale=no
    [ ! -e "/run/stopped/$unit" ] || state=failed sub=failed
    [ ! -e "/run/stale/$unit" ] || stale=yes
    printf 'Id=%s\nLoadState=loaded\nActiveState=%s\nSubState=%s\n' "$unit" "$state" "$sub"
    printf 'FragmentPath=/etc/systemd/system/%s\nNeedDaemonReload=%s\n\n' "$unit" "$stale"
done
"#;

/// kubectl: the API server is healthy and has no objects.
const KUBECTL: &str = r#"#!/bin/sh
case "$*" in
*/healthz) echo ok ;;
*"-o json") echo '{"items": []}' ;;
esac
"#;

/// How long a script may take before it is ended, in seconds. It waits for what the program says, which it may never say.
const LIMIT: &str = "300";

/// Gives the directory `$1` a copy of itself on a disk that is large and hardly used, whatever the disk of the machine
/// with the tests is.
const ROOM: &str = r#"
mount --make-rprivate /
mount -t tmpfs -o size=64g,mode=755 disk /mnt
cp -a "$1/." /mnt
mount --move /mnt "$1"
"#;

/// Makes the directory `$1` a running system, in which `appliance` is a command of the script.
const SYSTEM: &str = r#"
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
root=$1
shift
mount --make-rprivate /
bind() {
    mkdir -p "$root${1%/*}"
    if [ -d "$1" ]; then
        mkdir -p "$root$1"
    else
        rm -f "$root$1"
        : >"$root$1"
    fi
    mount --bind "$(readlink -f "$1")" "$root$1"
}
for path in /usr/lib/x86_64-linux-gnu /lib/x86_64-linux-gnu /lib64 /bin/sh /dev/null /sys \
    /usr/sbin/iptables-legacy-save /usr/sbin/iptables-nft-save; do
    bind "$path"
done
mkdir -p "$root/proc" "$root/run/stopped" "$root/run/stale"
mount -t proc proc "$root/proc"
appliance() {
    chroot "$root" /usr/local/bin/appliance "$@"
}
"#;

/// A machine whose docker has all images of the node that it is.
pub struct Living {
    /// Its directory.
    pub machine: Machine,
}

impl Living {
    /// A machine that was installed with these arguments.
    pub fn new(arguments: &[&str]) -> Living {
        let machine = Machine::new();
        machine.installed(arguments);
        let metadata = machine.root().join("config-drive");
        let copied = Command::new("cp")
            .arg("-r")
            .args([machine.metadata(), metadata])
            .status();
        assert!(copied.unwrap().success());
        program(&machine, "usr/bin/docker", DOCKER);
        program(&machine, "usr/bin/systemctl", SYSTEMCTL);
        machine.put(
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nappliance-join:x:990:990::/:/bin/sh\n",
        );
        let living = Living { machine };
        for image in living.images() {
            let text = |key: &str| image[key].as_str().unwrap().to_owned();
            let path = format!("run/images/{}", text("reference"));
            living.machine.put(&path, &format!("{}\n", text("id")));
        }
        living
    }

    /// The same with an API server that is healthy and has no objects.
    pub fn with_api_server(arguments: &[&str]) -> Living {
        let living = Living::new(arguments);
        // As large as the program in its place: the size tells whether the bundle is unpacked.
        let kubectl = format!("{KUBECTL:\n<4096}");
        let path = "opt/appliance/current/bin/kubectl";
        program(&living.machine, path, &kubectl);
        living
    }

    /// Notes that a worker joined this master.
    pub fn joined(&self, worker: &str) {
        let root = Root::open(&self.machine.root()).unwrap();
        let record = NodeRecord {
            address: "192.0.2.7".parse().unwrap(),
            key: "its key".to_owned(),
            machine: None,
            token: "abcdef".parse().unwrap(),
            seen: OffsetDateTime::now_utc(),
        };
        let nodes = registry::open(&root).unwrap().1;
        nodes.note(worker, &record).unwrap();
    }

    /// The record of the images that the node needs.
    pub fn images(&self) -> Vec<Value> {
        let images = self.machine.read("etc/kubernetes/appliance-images.json");
        serde_json::from_str(&images).unwrap()
    }

    /// Runs a script beside the running system: `$root` is its directory, and `appliance` runs in it.
    pub fn script(&self, script: &str, arguments: &[&str]) -> Output {
        self.sh(&format!("{SYSTEM}\n{script}"), arguments)
    }

    /// The same where the report on the node does not depend on the disk of the machine with the tests. What the script
    /// writes is gone after it.
    pub fn script_with_room(&self, script: &str, arguments: &[&str]) -> Output {
        self.sh(&format!("set -eu\n{ROOM}\n{SYSTEM}\n{script}"), arguments)
    }

    fn sh(&self, script: &str, arguments: &[&str]) -> Output {
        Command::new("timeout")
            .args([LIMIT, "unshare", "--mount", "--net", "--pid"])
            .args(["--fork", "--kill-child", "sh", "-c", script, "sh"])
            .arg(self.machine.root())
            .args(arguments)
            .output()
            .expect("timeout of coreutils")
    }

    /// Runs the program in it. It has the address in its metadata, and the kernel's settings of a master.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let script = "\
            cd /proc/sys/net/ipv4; echo 1 >ip_forward; echo 1 >conf/all/rp_filter; \
            echo 20000-40000 >ip_local_reserved_ports; cd /; \
            ip link set lo up; ip link add ens3 type veth peer name wire; ip link set wire up; \
            ip link set ens3 up; ip address add 192.168.1.102/24 dev ens3; appliance \"$@\"";
        self.script(script, arguments)
    }
}

fn program(machine: &Machine, path: &str, text: &str) {
    machine.put(path, text);
    let path = machine.root().join(path);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// This build of the program with the payload of the harness.
pub fn whole_appliance() -> PathBuf {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let dir = directory();
        let program = Path::new(env!("CARGO_BIN_EXE_appliance"));
        repack(program, &payload(), &dir.path().join("appliance")).unwrap();
        dir
    });
    made.path().join("appliance")
}

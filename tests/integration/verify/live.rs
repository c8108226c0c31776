//! `appliance verify` on a running system, in namespaces of its own: real iptables and kernel settings; docker and
//! systemctl are scripts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Machine, said};

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

/// systemctl: units run, except those with a file in `/run/stopped`; those in `/run/stale` were changed.
const SYSTEMCTL: &str = r#"#!/bin/sh
for unit; do
    case $unit in
    show | --*) continue ;;
    esac
    state=active stale=no
    [ ! -e "/run/stopped/$unit" ] || state=failed
    [ ! -e "/run/stale/$unit" ] || stale=yes
    printf 'Id=%s\nLoadState=loaded\nActiveState=%s\nSubState=x\n' "$unit" "$state"
    printf 'FragmentPath=/etc/systemd/system/%s\nNeedDaemonReload=%s\n\n' "$unit" "$stale"
done
"#;

/// Makes the directory `$1` a running system with the rules of a node.
const SYSTEM: &str = r#"
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
root=$1
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
iptables-legacy -N cali-FORWARD
iptables-legacy -A FORWARD -m comment --comment cali:wUHhoiAYhphO9Mso -j cali-FORWARD
iptables-legacy -t raw -A PREROUTING -i cali+ -d 169.254.169.254/32 -j DROP
for chain in SERVICES POSTROUTING; do
    iptables-nft -t nat -N "KUBE-$chain"
done
iptables-nft -t nat -A PREROUTING -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES
iptables-nft -t nat -A OUTPUT -j KUBE-SERVICES
iptables-nft -t nat -A POSTROUTING -j KUBE-POSTROUTING
iptables-nft -N KUBE-FORWARD
iptables-nft -A FORWARD -j KUBE-FORWARD
sysctl() {
    echo "$2" >"/proc/sys/net/ipv4/$1"
}
sysctl ip_forward 1
sysctl conf/all/rp_filter 1
sysctl ip_local_reserved_ports "$ports"
verify() {
    echo "=== $1"
    chroot "$root" /usr/local/bin/appliance verify -o json || [ $? = 7 ]
}
verify as-it-is
"#;

/// What is done to the system, what undoes it, and the difference that it makes: its kind and its name.
const CHANGES: [(&str, &str, &str, &str); 9] = [
    (
        "sysctl ip_local_reserved_ports ''",
        "sysctl ip_local_reserved_ports \"$ports\"",
        "sysctl",
        "net.ipv4.ip_local_reserved_ports",
    ),
    (
        "iptables-legacy -F FORWARD",
        "iptables-legacy -A FORWARD -j cali-FORWARD",
        "rule",
        "filter: FORWARD to cali-FORWARD",
    ),
    (
        "iptables-nft -t nat -F POSTROUTING; iptables-nft -t nat -X KUBE-POSTROUTING",
        "iptables-nft -t nat -N KUBE-POSTROUTING; iptables-nft -t nat -A POSTROUTING -j KUBE-POSTROUTING",
        "rule",
        "nat: POSTROUTING to KUBE-POSTROUTING",
    ),
    (
        "iptables-legacy -t raw -F",
        "iptables-legacy -t raw -A PREROUTING -i cali+ -d 169.254.169.254/32 -j DROP",
        "rule",
        "raw: pods to the metadata service",
    ),
    (
        ": >\"$root/run/stopped/kubelet.service\"",
        "rm \"$root/run/stopped/kubelet.service\"",
        "unit",
        "kubelet.service",
    ),
    (
        ": >\"$root/run/stale/etcd.service\"",
        "rm \"$root/run/stale/etcd.service\"",
        "unit",
        "etcd.service",
    ),
    (
        "mv \"$root/run/images/$image\" \"$root/image\"",
        "mv \"$root/image\" \"$root/run/images/$image\"",
        "image",
        "",
    ),
    (
        "mv \"$root/run/images/$image\" \"$root/image\"; echo sha256:other >\"$root/run/images/$image\"",
        "mv \"$root/image\" \"$root/run/images/$image\"",
        "image",
        "",
    ),
    (
        "mv \"$root/etc/passwd\" \"$root/etc/passwd-\"",
        "mv \"$root/etc/passwd-\" \"$root/etc/passwd\"",
        "user",
        "appliance-join",
    ),
];

fn program(machine: &Machine, path: &str, text: &str) {
    machine.put(path, text);
    let path = machine.root().join(path);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A machine whose docker has all images. Also the reference of one of them.
fn node() -> (Machine, String) {
    let machine = Machine::new();
    machine.installed(&["--role", "single"]);
    program(&machine, "usr/bin/docker", DOCKER);
    program(&machine, "usr/bin/systemctl", SYSTEMCTL);
    machine.put(
        "etc/passwd",
        "root:x:0:0::/root:/bin/sh\nappliance-join:x:990:990::/:/bin/sh\n",
    );
    let images = machine.read("etc/kubernetes/appliance-images.json");
    let images: Value = serde_json::from_str(&images).unwrap();
    let images = images.as_array().unwrap();
    let text = |image: &Value, key: &str| image[key].as_str().unwrap().to_owned();
    for image in images {
        let path = format!("run/images/{}", text(image, "reference"));
        machine.put(&path, &format!("{}\n", text(image, "id")));
    }
    (machine, text(&images[0], "reference"))
}

/// The differences in each part of the output, as kinds and names.
fn differences(output: &str) -> BTreeMap<String, BTreeSet<(String, String)>> {
    let parts = output.split("=== ").skip(1);
    let read = |part: &str| {
        let (name, text) = part.split_once('\n').unwrap();
        let report: Value =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let all = report["differences"].as_array().unwrap().iter();
        let word = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
        let all = all.map(|one| (word(one, "kind"), word(one, "name")));
        (name.to_owned(), all.collect())
    };
    parts.map(read).collect()
}

#[test]
fn each_change_of_the_running_system_is_one_difference() {
    let (machine, image) = node();
    let record: Value =
        serde_json::from_str(&machine.read("var/lib/appliance/written.json")).unwrap();
    let ports = &record["sysctls"]["net.ipv4.ip_local_reserved_ports"];
    let mut script = format!("image={image}\nports={ports}\n{SYSTEM}");
    for (number, (change, undo, ..)) in CHANGES.iter().enumerate() {
        script += &format!("{change}\nverify {number}\n{undo}\n");
    }
    script += "verify as-it-was\n";
    let output = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child"])
        .args(["sh", "-c", &script, "sh"])
        .arg(machine.root())
        .output()
        .expect("unshare of util-linux");
    assert!(output.status.success(), "{}", said(&output));
    let found = differences(&String::from_utf8_lossy(&output.stdout));
    let before = &found["as-it-is"];
    // The kernel of the test machine has its own modules and settings; all else is as installed.
    let of_kernel = ["module", "sysctl"];
    assert!(
        before
            .iter()
            .all(|(kind, _)| of_kernel.contains(&kind.as_str())),
        "{before:?}"
    );
    for (number, (change, _, kind, name)) in CHANGES.iter().enumerate() {
        let new: Vec<_> = found[&number.to_string()].difference(before).collect();
        let name = if name.is_empty() { &image } else { *name };
        assert_eq!(new, [&((*kind).to_owned(), name.to_owned())], "{change}");
    }
    assert_eq!(&found["as-it-was"], before);
}

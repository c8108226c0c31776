//! `appliance verify` on a running system, in namespaces of its own: real iptables and kernel settings; docker and
//! systemctl are scripts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::harness::said;
use crate::living::Living;

/// Gives the running system the rules of a node.
const RULES: &str = r#"
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
    appliance verify -o json || [ $? = 7 ]
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
    let living = Living::new(&["--role", "single"]);
    let image = living.images()[0]["reference"].as_str().unwrap().to_owned();
    let record: Value =
        serde_json::from_str(&living.machine.read("var/lib/appliance/written.json")).unwrap();
    let ports = &record["sysctls"]["net.ipv4.ip_local_reserved_ports"];
    let mut script = format!("image={image}\nports={ports}\n{RULES}");
    for (number, (change, undo, ..)) in CHANGES.iter().enumerate() {
        script += &format!("{change}\nverify {number}\n{undo}\n");
    }
    script += "verify as-it-was\n";
    let output = living.script(&script, &[]);
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

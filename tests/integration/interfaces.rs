//! The node's address on machines with bonds, VLANs and containers: `detect` reads the interfaces of
//! a network of its own.
//!
//! This kernel may lack bonds and VLANs. Pairs of virtual interfaces stand for them, and the test
//! writes what `/sys/class/net` shows about them.

use std::fs;
use std::path::Path;
use std::process::Output;

use nix::mount::{MsFlags, mount};
use tempfile::TempDir;

use crate::harness::{document, said, setting};
use crate::service::{appliance, ip, on_a_network_of_its_own};

const MAC: &str = "fa:16:3e:77:00:05";
const CLASS: &str = "/sys/class/net";

/// A server with this MAC address on a DHCP network, as a directory of metadata.
fn server() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let latest = directory.path().join("openstack/latest");
    fs::create_dir_all(&latest).unwrap();
    fs::write(
        latest.join("meta_data.json"),
        r#"{"uuid": "77000000-0000-4000-8000-000000000005", "name": "lorry",
            "hostname": "lorry.novalocal", "meta": {"role": "worker"}}"#,
    )
    .unwrap();
    let links = format!(
        r#"{{"links": [{{"id": "tap", "type": "ovs", "ethernet_mac_address": "{MAC}"}}],
             "networks": [{{"id": "n", "type": "ipv4_dhcp", "link": "tap"}}]}}"#
    );
    fs::write(latest.join("network_data.json"), links).unwrap();
    directory
}

/// Makes `/sys/class/net` show the NIC ens3, a VLAN on it, and docker's bridge.
fn show_devices() {
    let nothing = None::<&str>;
    mount(
        Some("class"),
        CLASS,
        Some("tmpfs"),
        MsFlags::empty(),
        nothing,
    )
    .unwrap();
    for path in [
        "ens3/device",
        "ens3.101/lower_ens3",
        "docker0/bridge",
        "cali77aa",
    ] {
        fs::create_dir_all(Path::new(CLASS).join(path)).unwrap();
    }
    for (name, mtu) in [("ens3", "1500"), ("ens3.101", "1380")] {
        fs::write(Path::new(CLASS).join(name).join("mtu"), mtu).unwrap();
    }
}

/// What `detect` says with these settings, after these `ip` commands.
fn detected(commands: &[&str], settings: &[&str]) -> Output {
    let server = server();
    on_a_network_of_its_own(MAC, || {
        for command in [
            "link add ens3.101 type veth peer name tagged",
            &format!("link set ens3.101 address {MAC} up"),
            "link set tagged up",
            "link add docker0 type bridge",
            "link set docker0 up",
            "address add 172.17.0.1/16 dev docker0",
            "link add cali77aa type veth peer name pod",
            "link set cali77aa up",
            "address add 169.254.1.1/32 dev cali77aa",
        ]
        .iter()
        .chain(commands)
        {
            ip(command);
        }
        show_devices();
        let directory = server.path().to_str().unwrap();
        let mut detect = appliance(&["detect", "-o", "json", "--metadata-dir", directory]);
        for setting in settings {
            detect.args(["--set", setting]);
        }
        detect.output().unwrap()
    })
}

#[track_caller]
fn assert_address(output: &Output, address: &str, from: &str, mtu: &str) {
    let document = document(output);
    assert_eq!(
        setting(&document, "address"),
        (address.to_owned(), from.to_owned())
    );
    assert_eq!(setting(&document, "mtu").0, mtu);
}

const BOTH: [&str; 3] = [
    "address add 10.0.0.5/24 dev ens3",
    "address add 10.20.0.5/24 dev ens3.101",
    "route add default via 10.20.0.1",
];

#[test]
fn a_vlan_beside_its_nic_is_used_where_master_and_default_route_are() {
    assert_address(
        &detected(&BOTH, &["master=10.20.0.4"]),
        "10.20.0.5",
        "this machine's interface ens3.101, whose subnet contains the master",
        "1380",
    );
    assert_address(
        &detected(&BOTH, &["master=10.99.0.4"]),
        "10.20.0.5",
        "this machine's interface ens3.101, which has the default route",
        "1380",
    );
    assert_address(
        &detected(&BOTH, &["master=10.20.0.4", "interface=ens3"]),
        "10.0.0.5",
        "this machine's interface ens3, chosen by flag --set interface",
        "1500",
    );
    assert_address(
        &detected(&BOTH, &["master=10.20.0.4", "address=10.20.0.5"]),
        "10.20.0.5",
        "flag --set address",
        "1380",
    );
    let output = detected(&BOTH, &["master=10.20.0.4", "address=172.17.0.1"]);
    assert!(
        said(&output).contains("docker0, which leads to containers"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_vlan_may_have_the_only_address_though_its_nic_has_a_link_local_one() {
    let commands = [
        "address add fe80::77/64 dev ens3 nodad",
        "address add 10.20.0.5/24 dev ens3.101",
    ];
    assert_address(
        &detected(&commands, &["master=10.20.0.4"]),
        "10.20.0.5",
        "this machine's interface ens3.101, the only address",
        "1380",
    );
}

#[test]
fn containers_never_give_the_nodes_address_while_dhcp_is_silent() {
    let output = detected(&[], &["master=10.20.0.4"]);
    let text = said(&output);
    assert!(
        text.contains("no IPv4 address found") && text.contains("ip address show ens3"),
        "{text}"
    );
    assert!(!text.contains("172.17.0.1"), "{text}");
}

#[test]
fn an_address_on_the_loopback_is_used_if_it_is_named_and_never_chosen() {
    let routed = [
        "link set lo up",
        "address add 192.0.2.5/32 dev lo",
        "address add 169.254.9.2/30 dev ens3.101",
        "route add default via 169.254.9.1",
    ];
    let named = detected(&routed, &["master=10.20.0.4", "address=192.0.2.5"]);
    assert_address(&named, "192.0.2.5", "flag --set address", "1380");
    // As a virtual IP of a load balancer that answers directly.
    let virtual_ip = ["link set lo up", "address add 10.20.0.9/32 dev lo"];
    for settings in [
        &["master=10.20.0.4"][..],
        &["master=10.20.0.4", "network=10.20.0.0/24"],
    ] {
        let output = detected(&[&BOTH[..], &virtual_ip].concat(), settings);
        let chosen = setting(&document(&output), "address").0;
        assert_eq!(chosen, "10.20.0.5", "{settings:?}");
    }
    let only = ["link set lo up", "address add 192.0.2.5/32 dev lo"];
    let text = said(&detected(&only, &["master=10.20.0.4"]));
    assert!(text.contains("DHCP"), "{text}");
}

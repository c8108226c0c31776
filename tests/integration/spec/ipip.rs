//! When pods' packets go through tunnels: the setting, the cluster, the machine.

use appliance::nodespec::{Inputs, Ipip, NodeSpec};

use super::{PORT, assert_holds, config, configured, interface, master, resolved};

/// The same machine without OpenStack.
fn bare_metal() -> Inputs {
    let mut inputs = master();
    inputs.metadata.clear();
    inputs.host.hostname = "server02".to_owned();
    inputs.host.interfaces = Some(vec![interface("ens3", 2, &["192.168.1.102/24"])]);
    inputs.layers.push(config("role: master"));
    inputs
}

/// The mode, and where it came from.
fn told(spec: &NodeSpec) -> (Ipip, String) {
    let ipip = &spec.cluster.ipip;
    (ipip.value, ipip.origin.to_string())
}

#[test]
fn a_vm_of_openstack_uses_tunnels_and_needs_no_address_pairs() {
    let spec = resolved(&master());
    let why = "default, on a VM of OpenStack".to_owned();
    assert_eq!(told(&spec), (Ipip::Always, why));
    assert_eq!((*spec.mtu, spec.pod_mtu()), (1450, 1430));
    assert_eq!(spec.warnings, Vec::<String>::new());
    // Its firmware says so, although no source of metadata was read.
    let mut inputs = bare_metal();
    inputs.host.is_openstack = true;
    assert_eq!(told(&resolved(&inputs)).0, Ipip::Always);
}

#[test]
fn other_machines_use_tunnels_only_between_subnets() {
    let spec = resolved(&bare_metal());
    let why = "default, not on a VM of OpenStack".to_owned();
    assert_eq!(told(&spec), (Ipip::CrossSubnet, why));
    assert_eq!(spec.pod_mtu(), *spec.mtu - 20);
    assert_eq!(spec.warnings, Vec::<String>::new());
    let subnet = spec.subnet.unwrap();
    assert_eq!(subnet.to_string(), "192.168.1.102/24");
}

#[test]
fn a_cluster_keeps_what_it_has_unless_the_settings_change_it() {
    for layers in [vec![], vec![config("ipip: auto")]] {
        let mut inputs = master();
        inputs.layers.extend(layers);
        inputs.host.ipip = Some(Ipip::Off);
        let spec = resolved(&inputs);
        let (ipip, origin) = told(&spec);
        assert_eq!(ipip, Ipip::Off);
        assert_holds(&origin, &["record of its cluster"]);
        assert_eq!(spec.pod_mtu(), *spec.mtu);
        inputs.layers.insert(0, config("ipip: always"));
        assert_eq!(told(&resolved(&inputs)).0, Ipip::Always);
    }
}

#[test]
fn a_node_that_joins_takes_what_the_master_tells() {
    let spec = resolved(&master());
    let joined = spec.in_cluster(Ipip::Off);
    assert_eq!(
        told(&joined),
        (Ipip::Off, "this machine's master".to_owned())
    );
    assert_eq!(joined.pod_mtu(), *spec.mtu);
    assert_eq!(spec.in_cluster(Ipip::Always), spec);
    // An explicit setting is not changed behind the back of its author.
    let explicit = resolved(&configured("ipip: cross-subnet"));
    let joined = explicit.in_cluster(Ipip::Always);
    assert_eq!(told(&joined).0, Ipip::CrossSubnet);
    assert_holds(
        joined.warnings.last().unwrap(),
        &[
            "ipip is cross-subnet (configuration site.yaml: `ipip`)",
            "the master of this cluster uses always",
        ],
    );
}

#[test]
fn without_tunnels_the_command_for_address_pairs_is_shown() {
    let pairs = format!(
        "openstack port set --allowed-address ip-address=172.20.0.0/16 --allowed-address \
         ip-address=10.68.0.0/16 {PORT}"
    );
    for (ipip, between) in [
        ("off", "packets of pods unless"),
        (
            "cross-subnet",
            "packets of pods between nodes of one subnet",
        ),
    ] {
        let spec = resolved(&configured(&format!("ipip: {ipip}")));
        assert_holds(&spec.warnings.join("\n"), &[&pairs, between]);
    }
    let spec = resolved(&configured("ipip: always"));
    assert_eq!(spec.warnings, Vec::<String>::new());
    let mut inputs = bare_metal();
    inputs.layers.push(config("ipip: off"));
    assert_eq!(resolved(&inputs).warnings, Vec::<String>::new());
}

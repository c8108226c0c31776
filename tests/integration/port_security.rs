//! Neutron's port security and a cluster: what works on ports that nobody changed, and what `appliance check`
//! tells where it does not. Containers have no tunnels, and their ports have address pairs from the beginning: with them,
//! nothing is tested here.

use appliance_vm::cluster::reaches;
use appliance_vm::container;
use appliance_vm::machine::Machine;
use appliance_vm::network::PODS_AND_SERVICES;

use crate::site::Site;
use crate::vms::{APPLIANCE, Bed};

/// A port at which no pod listens: a refused connection is an answer, too.
const CLOSED: u16 = 9;

/// Packets between nodes go through tunnels, so the master reaches pods on the worker, although no port
/// allows the addresses of pods. With a pool without tunnels, the network drops these packets.
pub fn pods_are_reached_on_untouched_ports(site: &Site, bed: &mut Bed) {
    if container::are_wanted() {
        return;
    }
    for name in site.nodes() {
        let record = bed.shell(name, "cat /var/lib/appliance/cluster.json");
        assert!(record.contains("always"), "{name}: {record}");
    }
    tunnels_are_used(site, bed, true);
    is_reached(site, bed, true);
    set_mode(site, bed, "");
    tunnels_are_used(site, bed, false);
    is_reached(site, bed, false);
    set_mode(site, bed, "ipip: {enabled: true, mode: always}, ");
    tunnels_are_used(site, bed, true);
    is_reached(site, bed, true);
}

/// `appliance check` names the cause of each fault of the network, and what it says helps.
pub fn each_cause_is_named(site: &Site, bed: &mut Bed) {
    if container::are_wanted() {
        return;
    }
    bed.say("the network drops protocol 4");
    bed.cluster.network().drop_tunnels().unwrap();
    is_told(site, bed, &["drops IP protocol 4", "--protocol 4"]);
    bed.cluster.network().pass_tunnels().unwrap();

    bed.say("the pool has no tunnels, and the ports have no address pairs");
    set_mode(site, bed, "");
    tunnels_are_used(site, bed, false);
    let lacking = [
        "ipip: off; the setting is `ipip: always`",
        "the ports lack address pairs",
        "openstack port set PORT --allowed-address ip-address=172.20.0.0/16",
    ];
    is_told(site, bed, &lacking);

    bed.say("the ports have address pairs");
    for member in &bed.cluster.members {
        member.port.allow(&PODS_AND_SERVICES).unwrap();
    }
    is_reached(site, bed, true);
    let passes = "without tunnels: the network lets packets with the addresses of pods pass";
    is_told(site, bed, &[passes]);

    for member in &bed.cluster.members {
        member.port.forbid(&PODS_AND_SERVICES).unwrap();
    }
    set_mode(site, bed, "ipip: {enabled: true, mode: always}, ");
    tunnels_are_used(site, bed, true);
    is_reached(site, bed, true);
}

/// The check fails, and its table has these words.
fn is_told(site: &Site, bed: &mut Bed, words: &[&str]) {
    let table = bed.machine(site.master).run(&[APPLIANCE, "check"]).unwrap();
    println!("{}{}", table.stdout, table.stderr);
    assert_eq!(table.code, 3, "{table:?}");
    let said = table
        .stdout
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
}

fn set_mode(site: &Site, bed: &mut Bed, tunnels: &str) {
    let pool = format!(
        "{{apiVersion: v1, kind: ipPool, metadata: {{cidr: {}}}, spec: {{{tunnels}nat-outgoing: true}}}}",
        PODS_AND_SERVICES[0]
    );
    bed.shell(
        site.master,
        &format!("echo '{pool}' | calicoctl apply -f -"),
    );
}

/// Waits until all nodes have routes to the others' pods, through tunnels or not.
fn tunnels_are_used(site: &Site, bed: &mut Bed, wanted: bool) {
    let what = format!("its routes lead into tunnels: {wanted}");
    for name in site.nodes() {
        bed.wait_at(name, &what, |machine| {
            let routes = machine.shell("ip route show | grep -w via | grep ^172.20; true");
            // The master has no pods, so the others need no route to it.
            let is_enough = |routes: &str| name != site.master || !routes.is_empty();
            routes.is_ok_and(|routes| routes.contains("dev tunl0") == wanted && is_enough(&routes))
        });
    }
}

fn is_reached(site: &Site, bed: &mut Bed, wanted: bool) {
    let what = format!("it reaches a pod on another node: {wanted}");
    bed.wait_at(site.master, &what, |machine| {
        pod(machine).is_some_and(|pod| reaches(machine, &pod, CLOSED).is_ok_and(|it| it == wanted))
    });
    bed.say(&what);
}

/// The address of a pod in the network of pods.
fn pod(machine: &mut Machine) -> Option<String> {
    let pods = machine.shell("HOME=/root kubectl get pods --all-namespaces -o wide");
    let pods = pods.ok()?;
    let mut words = pods.split_whitespace();
    words
        .find(|word| word.starts_with("172.20."))
        .map(str::to_owned)
}

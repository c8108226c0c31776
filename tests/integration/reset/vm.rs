//! One machine that becomes a node with the role `single`, and then an ordinary machine again, twice: real systemd,
//! docker, iptables and Calico's network. What the operator has survives.
//!
//! `make e2e-reset` runs it; APPLIANCE names the appliance to boot.

use appliance_vm::cluster::SINGLE;
use appliance_vm::drive::MEMORY;

use super::ground::{OF_NODE, OF_OPERATOR, install, pods_run, reset, switched_on};

const NODE: &str = "server02";

#[test]
#[ignore = "boots a virtual machine; make e2e-reset runs it"]
fn a_reset_machine_is_as_before_and_becomes_a_node_again() {
    let mut bed = switched_on(&SINGLE, MEMORY);
    // The program of the node removes itself.
    for program in [OF_NODE, OF_OPERATOR] {
        install(&mut bed, &[NODE], "--role single");
        pods_run(&mut bed, NODE, &[NODE]);
        reset(&mut bed, NODE, program, "--data --keys");
    }
    let again = bed.shell(NODE, &format!("{OF_OPERATOR} reset --yes 2>&1"));
    assert!(again.contains("this machine is not a node"), "{again}");
    install(&mut bed, &[NODE], "--role single");
}

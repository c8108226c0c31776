//! Role `single`: one VM that is a whole cluster, with the tutorial's first and last service.
//!
//! `make e2e-single` runs it; APPLIANCE names the appliance to boot, KEEP a directory for the disk,
//! the console's log and captured packets.

use appliance_vm::genuine;

use crate::at_work;
use crate::rotations;
use crate::site::ALONE;

#[test]
#[ignore = "boots a virtual machine; make e2e-single runs it"]
fn one_vm_is_a_cluster_of_its_own() {
    let site = &ALONE;
    let mut bed = site.bed(|_| String::new());
    bed.switch_on(&site.nodes());
    bed.wait_for_bring_up();
    bed.wait_until_healthy();
    bed.say("the node is healthy");
    at_work::everything_is_available(site, &mut bed);
    at_work::every_check_passes(site, &mut bed);
    at_work::no_item_of_the_benchmark_fails(site, &mut bed);
    at_work::the_services_are_reached_from_outside(site, &mut bed);
    at_work::an_image_that_docker_lost_comes_back(site, &mut bed);
    if genuine::is_genuine() {
        rotations::the_key_of_secrets_is_replaced(site, &mut bed);
    }
    rotations::the_authorities_are_replaced(site, &mut bed);
    at_work::everything_is_available(site, &mut bed);
    at_work::every_check_passes(site, &mut bed);
    println!("kept: {}", bed.keep.display());
}

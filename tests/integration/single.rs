//! Role `single`: one VM that is a whole cluster, with the tutorial's first and last service.
//!
//! `make e2e-single` runs it; APPLIANCE names the appliance to boot, SYSTEM another release of Debian, KEEP a
//! directory for the disk, the console's log and captured packets.

use appliance_vm::cluster::journal;
use appliance_vm::genuine;

use crate::at_work;
use crate::rotations;
use crate::runbooks;
use crate::site::{ALONE, Site};
use crate::vms::Bed;

/// What the VM runs on, for the table in docs/support.md.
const SYSTEM: &str = "grep PRETTY_NAME /etc/os-release; uname -r; systemctl --version | head -n 1; \
    for docker in /usr/bin/docker /opt/appliance/current/docker/docker; do \
    test ! -x $docker || $docker version --format \"$docker {{.Server.Version}}\"; done; \
    cut -f 1,4 /proc/cgroups";

/// Debian 13's kernel lacks what the kubelet needs, which is told before anything is written.
fn it_is_refused(site: &Site, bed: &mut Bed) {
    println!("{}", bed.shell(site.master, SYSTEM));
    bed.wait_at(site.master, "the system is refused", |machine| {
        let said = journal(machine).unwrap_or_default();
        said.contains("cgroup v1 are not mounted: cpuset, memory")
    });
    bed.shell(site.master, "test ! -e /opt/appliance");
}

#[test]
#[ignore = "boots a virtual machine; make e2e-single runs it"]
fn one_vm_is_a_cluster_of_its_own() {
    let site = &ALONE;
    let mut bed = site.bed(|_| String::new());
    bed.switch_on(&site.nodes());
    if std::env::var("SYSTEM").is_ok_and(|system| system == "trixie") {
        return it_is_refused(site, &mut bed);
    }
    bed.wait_for_bring_up();
    bed.wait_until_healthy();
    bed.say("the node is healthy");
    println!("{}", bed.shell(site.master, SYSTEM));
    at_work::everything_is_available(site, &mut bed);
    at_work::every_check_passes(site, &mut bed);
    at_work::no_item_of_the_benchmark_fails(site, &mut bed);
    at_work::the_services_are_reached_from_outside(site, &mut bed);
    at_work::an_image_that_docker_lost_comes_back(site, &mut bed);
    if genuine::is_genuine() {
        runbooks::work(
            site,
            &mut bed,
            &[
                "A setting is changed",
                "The API does not answer",
                "A certificate has expired",
                "The disk is full",
                "etcd: database space exceeded",
            ],
        );
        at_work::a_container_that_writes_without_end_is_bounded(site, &mut bed);
        rotations::the_key_of_secrets_is_replaced(&mut bed, &site.keys());
    }
    rotations::the_authorities_are_replaced(&mut bed, &site.keys());
    rotations::the_key_of_service_accounts_is_replaced(&mut bed, &site.keys());
    at_work::pods_start_again(site, &mut bed);
    at_work::everything_is_available(site, &mut bed);
    at_work::every_check_passes(site, &mut bed);
    println!("kept: {}", bed.keep.display());
}

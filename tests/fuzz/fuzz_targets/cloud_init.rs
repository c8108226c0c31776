//! Parses any bytes as cloud-init's instance data.
#![no_main]

use appliance::metadata::{cloud_init, openstack};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok((_, files)) = cloud_init::parse(data) {
        drop(openstack::parse("fuzz", &files));
    }
});

//! Parses any bytes as the files of a config drive: `meta_data.json`, `network_data.json` and EC2's
//! floating IP, separated by a NUL; and as the metadata service's list of formats.
#![no_main]

use appliance::metadata::openstack::{self, RawFile, RawFiles};
use appliance::metadata::service::negotiate;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(version) = negotiate(data) {
        assert!(!version.contains('/'), "{version}");
    }
    let mut parts = data.split(|byte| *byte == 0);
    let mut file = |name: &str| {
        parts.next().map(|content| RawFile {
            name: name.to_owned(),
            content: content.to_vec(),
        })
    };
    let Some(meta_data) = file("meta_data.json") else {
        return;
    };
    let files = RawFiles {
        meta_data,
        network_data: file("network_data.json"),
        user_data: None,
        vendor_data: vec![],
        public_ipv4: file("public-ipv4"),
        passed_over: Vec::new(),
    };
    // The parser may return an error, but must not panic.
    if let Err(error) = openstack::parse("fuzz", &files) {
        assert!(format!("{error:#}").len() < 2_000);
    }
});

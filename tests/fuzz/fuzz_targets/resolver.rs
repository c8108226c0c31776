//! Makes a whole VM from any bytes: `meta_data.json`, `network_data.json`, user-data, the machine's
//! host name and its address, separated by a NUL. If the specification resolves, its files must
//! render.
#![no_main]

use appliance::metadata::openstack::{self, RawFile, RawFiles};
use appliance::nodespec::{HostFacts, HostInterface, Inputs, NodeSpec, user_data};
use appliance::render::render;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|data: &[u8]| {
    let parts: Vec<&[u8]> = data.split(|byte| *byte == 0).collect();
    let file = |index: usize, name: &str| {
        parts.get(index).map(|content| RawFile {
            name: name.to_owned(),
            content: content.to_vec(),
        })
    };
    let text = |index: usize| String::from_utf8_lossy(parts.get(index).unwrap_or(&&[][..]));
    let files = RawFiles {
        meta_data: RawFile {
            name: "meta_data.json".to_owned(),
            content: parts[0].to_vec(),
        },
        network_data: file(1, "network_data.json").filter(|file| !file.content.is_empty()),
        user_data: file(2, "user_data"),
        vendor_data: vec![],
        public_ipv4: None,
        passed_over: Vec::new(),
    };
    let Ok(metadata) = openstack::parse("fuzz", &files) else {
        return;
    };
    let Ok(layers) = user_data::layers(&metadata) else {
        return;
    };
    let interfaces = text(4).parse().ok().map(|address| {
        vec![HostInterface {
            name: "ens3".to_owned(),
            mac: metadata.interfaces.first().map(|i| i.mac.clone()),
            addresses: vec![address],
            ..HostInterface::default()
        }]
    });
    let inputs = Inputs {
        layers,
        metadata: vec![metadata],
        host: HostFacts {
            uuid: None,
            hostname: text(3).into_owned(),
            interfaces,
            clock: None,
            resolv_conf: None,
            ..HostFacts::default()
        },
        ..Inputs::default()
    };
    match NodeSpec::resolve(&inputs) {
        Ok(spec) => {
            let hosts = spec
                .cluster
                .hosts
                .iter()
                .map(|(name, address)| json!({"name": name, "address": address.to_string()}));
            let mut hosts: Vec<_> = hosts.collect();
            hosts.push(json!({"name": *spec.name, "address": spec.address.to_string()}));
            let block = render("config/hosts.block", &json!({ "hosts": hosts }));
            let lines = block.map(|block| block.lines().filter(|l| !l.starts_with('#')).count());
            assert_eq!(lines.ok(), Some(hosts.len()));
            assert!(!spec.explain().is_empty());
        }
        Err(refused) => assert!(!refused.problems.is_empty()),
    }
});

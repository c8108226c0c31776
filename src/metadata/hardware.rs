//! The machine's hardware, as the kernel shows it.

use std::fs;
use std::path::PathBuf;

/// The product names and asset tags in the firmware of OpenStack VMs: Nova's own, and those of
/// clouds that renamed it (the same list as cloud-init's).
const OPENSTACK: [&str; 6] = [
    "OpenStack Nova",
    "OpenStack Compute",
    "OpenTelekomCloud",
    "SAP CCloud VM",
    "HUAWEICLOUD",
    "Samsung Cloud Platform",
];

/// Where the kernel shows the machine's hardware.
#[derive(Clone, Debug)]
pub struct Hardware {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
}

impl Default for Hardware {
    fn default() -> Self {
        Self {
            sys: "/sys".into(),
            dev: "/dev".into(),
        }
    }
}

impl Hardware {
    /// Whether the firmware shows that this machine is an OpenStack VM.
    pub fn is_openstack_guest(&self) -> bool {
        let dmi = self.sys.join("class/dmi/id");
        ["product_name", "chassis_asset_tag"].iter().any(|name| {
            fs::read_to_string(dmi.join(name))
                .is_ok_and(|text| OPENSTACK.iter().any(|known| text.contains(known)))
        })
    }
}

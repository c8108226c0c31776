//! What OpenStack says about this VM. Sources only find and return data; they write nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// What one source said about this VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The source, as an error message names it: `config drive /dev/sr0`.
    pub source: String,
    /// The instance's UUID.
    pub uuid: String,
    /// The server's display name.
    pub name: String,
    /// The host name: display name and DHCP domain.
    pub hostname: String,
    /// The server's properties (`openstack server set --property KEY=VALUE`).
    pub meta: BTreeMap<String, String>,
    /// The network interfaces OpenStack gave this VM, in its order; empty if it said nothing.
    pub interfaces: Vec<Interface>,
}

/// One network interface as `network_data.json` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its MAC address in lower case; the only thing that identifies it inside the VM.
    pub mac: String,
    /// The MTU in bytes, if OpenStack said one (it says null on DHCP subnets).
    pub mtu: Option<u32>,
    /// Its static addresses; a DHCP network has none here.
    pub addresses: Vec<IpAddr>,
}

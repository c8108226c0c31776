//! The metadata of this VM from one source, as data. Pure.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::BTreeMap;
use std::fmt;

use time::OffsetDateTime;

/// The metadata of this VM from one source.
#[derive(Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The source, as an error message names it: `config drive /dev/sr0`.
    pub source: String,
    /// The instance's UUID; empty if the source does not say it.
    pub uuid: String,
    /// The server's display name; empty if the source does not say it.
    pub name: String,
    /// The host name: display name and DHCP domain; empty if the source does not say it.
    pub hostname: String,
    /// The server's properties (`openstack server set --property KEY=VALUE`).
    pub meta: BTreeMap<String, String>,
    /// Properties whose value is not text, with the kind of their value: `a list`. Nova makes none.
    pub unusable: BTreeMap<String, &'static str>,
    /// The availability zone.
    pub availability_zone: Option<String>,
    /// The project the server belongs to.
    pub project_id: Option<String>,
    /// The server's place among those that one request created, from 0.
    pub launch_index: Option<u64>,
    /// The network interfaces that OpenStack lists, in its order; empty if it lists none.
    pub interfaces: Vec<Interface>,
    /// The floating IP. It is seen on the metadata service only.
    pub public_ipv4: Option<Ipv4Addr>,
    /// The server's user-data, unchanged.
    pub user_data: Option<Vec<u8>>,
    /// The vendor-data, which is the same for all servers of the cloud, the newer format first.
    pub vendor_data: Vec<VendorData>,
    /// The time on the source's clock, if it sent one.
    pub date: Option<OffsetDateTime>,
    /// Whether the source shows a property that is set later. The metadata service does; a config
    /// drive is written when Nova creates, rebuilds or resizes the server.
    pub is_live: bool,
    /// What the source has and this program does not understand: one sentence each.
    pub warnings: Vec<String>,
}

/// Shows no user-data and no values of properties, because people also store passwords in them.
impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("source", &self.source)
            .field("uuid", &self.uuid)
            .field("name", &self.name)
            .field("hostname", &self.hostname)
            .field("meta", &self.meta.keys())
            .field("availability_zone", &self.availability_zone)
            .field("project_id", &self.project_id)
            .field("launch_index", &self.launch_index)
            .field("interfaces", &self.interfaces)
            .field("public_ipv4", &self.public_ipv4)
            .field("user_data", &self.user_data.as_ref().map(Vec::len))
            .field("date", &self.date)
            .finish_non_exhaustive()
    }
}

/// A format of vendor-data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VendorFormat {
    /// `vendor_data.json`: the cloud's static data.
    First,
    /// `vendor_data2.json`: one part for each service that adds data.
    Second,
    /// cloud-init's copy of either, in a format of user-data.
    CloudInit,
}

/// Vendor-data, unchanged.
#[derive(Clone, PartialEq, Eq)]
pub struct VendorData {
    /// The file, as an error message names it.
    pub name: String,
    /// Its format.
    pub format: VendorFormat,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// One network interface as `network_data.json` describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its MAC address in lower case; the only thing that identifies it inside the VM.
    pub mac: String,
    /// The MTU in bytes, if OpenStack gives one (it writes null for DHCP subnets).
    pub mtu: Option<u32>,
    /// Its static addresses; a DHCP network has none here.
    pub addresses: Vec<IpAddr>,
    /// Whether it gets an IPv4 address by DHCP.
    pub dhcp: bool,
    /// Whether a default route uses it.
    pub default_route: bool,
    /// The number of its VLAN, if it is one on another interface.
    pub vlan: Option<u16>,
    /// The UUIDs of the Neutron networks that it is in, as OpenStack lists them.
    pub networks: Vec<String>,
    /// The UUID of its Neutron port, if it has the form of one.
    pub port: Option<String>,
}

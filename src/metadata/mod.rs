//! What OpenStack says about this VM. Sources only find and return data; they write nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Result;

pub mod config_drive;
pub mod directory;
pub mod openstack;

/// A place where metadata may be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory the operator named; that it holds none is an error.
    Directory(PathBuf),
    /// The block device labelled `config-2`.
    ConfigDrive,
}

/// Asks the sources in that order; the first that knows this VM wins. Nothing if none does.
///
/// # Errors
/// If a source is there but broken: a later source is then not asked, for its word may be older.
pub fn find(sources: &[Source]) -> Result<Option<Metadata>> {
    for source in sources {
        let metadata = match source {
            Source::Directory(dir) => Some(directory::read(dir)?),
            Source::ConfigDrive => config_drive::read()?,
        };
        if metadata.is_some() {
            return Ok(metadata);
        }
    }
    Ok(None)
}

/// What one source said about this VM.
#[derive(Clone, PartialEq, Eq)]
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

/// Shows the properties' keys but not their values, which people also use for passwords.
impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("source", &self.source)
            .field("uuid", &self.uuid)
            .field("name", &self.name)
            .field("hostname", &self.hostname)
            .field("meta", &self.meta.keys())
            .field("interfaces", &self.interfaces)
            .finish()
    }
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

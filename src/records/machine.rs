//! The machine on which a node was installed. Pure.

use core::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The machine on which a node was installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineRecord {
    /// The UUID in its firmware, which on OpenStack is the UUID of the instance; `None` if it shows
    /// none.
    pub uuid: Option<String>,
    /// The address of the node.
    pub address: Ipv4Addr,
}

/// What a machine is to the machine on which its node was installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Likeness {
    /// The same machine, as far as can be known.
    Same,
    /// Another machine at the address of the node: no two machines of a network can have one
    /// address, so it replaces the first.
    Replacement,
    /// Another machine at another address, with the same disk: both would be one node.
    Copy,
}

impl MachineRecord {
    /// What a copy of this machine is told.
    pub fn copied(&self) -> String {
        format!(
            "this machine is a copy of the node that was installed at {address}: it has another UUID \
             and not that address. Two machines cannot be one node. To add a node, make a VM from an \
             image without a node. If this machine replaces that one, which is gone: give it the \
             address {address}, or run `appliance install --change address` (workers only)",
            address = self.address
        )
    }

    /// What the machine with this UUID and these addresses is to the recorded machine.
    pub fn likeness(&self, uuid: Option<&str>, addresses: &[Ipv4Addr]) -> Likeness {
        match (self.uuid.as_deref(), uuid) {
            (Some(recorded), Some(uuid)) if recorded != uuid => {
                match addresses.contains(&self.address) {
                    true => Likeness::Replacement,
                    false => Likeness::Copy,
                }
            }
            _ => Likeness::Same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 101);
    const THERE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 111);

    #[test]
    fn only_another_machine_at_another_address_is_a_copy() {
        let record = |uuid: Option<&str>| MachineRecord {
            uuid: uuid.map(str::to_owned),
            address: HERE,
        };
        for (recorded, uuid, address, expected) in [
            (Some("a"), Some("a"), HERE, Likeness::Same),
            // The address of a machine can change.
            (Some("a"), Some("a"), THERE, Likeness::Same),
            (Some("a"), Some("b"), HERE, Likeness::Replacement),
            (Some("a"), Some("b"), THERE, Likeness::Copy),
            (None, Some("b"), THERE, Likeness::Same),
            (Some("a"), None, THERE, Likeness::Same),
        ] {
            assert_eq!(record(recorded).likeness(uuid, &[address]), expected);
        }
    }
}

//! What a node keeps of its cluster, so that a later version with other defaults does not change it.
//! Pure.

use serde::{Deserialize, Serialize};

use crate::nodespec::Ipip;

/// The values of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// When Calico uses tunnels.
    pub ipip: Ipip,
}

impl ClusterRecord {
    /// The text of the file.
    pub fn text(self) -> String {
        let ClusterRecord { ipip } = self;
        format!("{{\n  \"ipip\": \"{ipip}\"\n}}\n")
    }

    /// What the unit of calico-node tells about a node that an older version installed: the value of
    /// Calico's variable for new pools. `None` if the unit has none.
    pub fn of_unit(unit: &str) -> Option<ClusterRecord> {
        let (_, rest) = unit.split_once("CALICO_IPV4POOL_IPIP=")?;
        let value = rest.split_whitespace().next()?;
        Some(ClusterRecord {
            ipip: value.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_text_is_read_again() {
        let record = ClusterRecord {
            ipip: Ipip::CrossSubnet,
        };
        let read: ClusterRecord = serde_json::from_str(&record.text()).unwrap();
        assert_eq!(read, record);
    }

    #[test]
    fn the_unit_of_an_older_version_tells_its_mode() {
        let unit = "ExecStart=docker run \\\n  -e CALICO_IPV4POOL_IPIP=off \\\n  image\n";
        assert_eq!(ClusterRecord::of_unit(unit).unwrap().ipip, Ipip::Off);
        assert_eq!(ClusterRecord::of_unit("ExecStart=true"), None);
        assert_eq!(ClusterRecord::of_unit("CALICO_IPV4POOL_IPIP=x\n"), None);
    }
}

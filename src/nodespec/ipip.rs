//! When pods' packets go through tunnels, and the addresses that Neutron must allow where they do not.

use core::net::Ipv4Addr;

use super::resolver::Resolver;
use super::value::{Origin, Sourced};
use super::{ClusterSpec, Ipip, NodeSpec};
use crate::language::tr;
use crate::paths;

/// The value of the setting that leaves the decision to this program.
const AUTO: &str = "auto";

impl Resolver<'_> {
    /// The configured value. `auto`, the default, is what this node's cluster uses already; else
    /// `always` on a VM of OpenStack, where Neutron drops packets with the addresses of pods; else
    /// `cross-subnet`: the network of other machines rarely drops such packets, but a router between
    /// two subnets does not know where pods are.
    pub(super) fn ipip(&mut self) -> Option<Sourced<Ipip>> {
        let wanted = self.setting("ipip", |s| &s.ipip, wanted)?;
        let (origin, overrode) = (wanted.origin, wanted.overrode);
        let (value, origin) = match (wanted.value, self.inputs.host.ipip) {
            (Some(value), _) => (value, origin),
            (None, Some(kept)) => {
                let record = tr!("record of its cluster, {}", paths::CLUSTER);
                (kept, Origin::Host(record))
            }
            (None, None) if self.is_on_openstack() => (
                Ipip::Always,
                Origin::Chosen(Box::new(origin), tr!("on a VM of OpenStack")),
            ),
            (None, None) => (
                Ipip::CrossSubnet,
                Origin::Chosen(Box::new(origin), tr!("not on a VM of OpenStack")),
            ),
        };
        Some(Sourced {
            value,
            origin,
            overrode,
        })
    }

    fn is_on_openstack(&self) -> bool {
        self.inputs.host.is_openstack || !self.inputs.metadata.is_empty()
    }

    /// Where pods' packets go between nodes with the addresses of pods, Neutron drops them unless the
    /// port allows these addresses.
    pub(super) fn warn_of_address_pairs(&mut self, cluster: &ClusterSpec, address: Ipv4Addr) {
        let between = match *cluster.ipip {
            Ipip::Always => return,
            Ipip::CrossSubnet => tr!(" between nodes of one subnet"),
            Ipip::Off => String::new(),
        };
        if !self.is_on_openstack() {
            return;
        }
        let interface = self.metadata_interface(Some(address));
        let port = interface.and_then(|(_, interface)| interface.port.clone());
        self.warnings.push(tr!(
            "ipip is {} ({}), so Neutron drops packets of pods{between} unless this server's port \
             allows their addresses. If it does not yet, run `openstack port set --allowed-address \
             ip-address={} --allowed-address ip-address={} {}`. Or set ipip to always on all nodes",
            *cluster.ipip,
            cluster.ipip.origin,
            *cluster.pod_cidr,
            *cluster.service_cidr,
            port.as_deref().unwrap_or("PORT"),
            between
        ));
    }
}

/// Reads the setting `ipip`; `None` for `auto`.
fn wanted(text: &str) -> Result<Option<Ipip>, String> {
    if text == AUTO {
        return Ok(None);
    }
    let value = text.parse::<Ipip>();
    value
        .map(Some)
        .map_err(|_| tr!("expected auto, off, always or cross-subnet"))
}

impl NodeSpec {
    /// This node in a cluster whose master told it when tunnels are used. An explicit setting stays,
    /// with a warning: Calico's pool decides, so the setting can only make the MTU wrong.
    #[must_use]
    pub fn in_cluster(&self, told: Ipip) -> NodeSpec {
        let mut spec = self.clone();
        let ipip = &mut spec.cluster.ipip;
        if ipip.value == told {
            return spec;
        }
        if matches!(ipip.origin, Origin::Setting { .. }) {
            spec.warnings.push(tr!("ipip is {} ({}), but the master of this cluster uses {told}; set the same value on \
                 all nodes", ipip.value, ipip.origin, told));
        } else {
            *ipip = Sourced::new(told, Origin::Host("master".to_owned()));
        }
        spec
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_setting_is_auto_or_a_mode() {
        assert_eq!(wanted("auto").unwrap(), None);
        assert_eq!(wanted("always").unwrap(), Some(Ipip::Always));
        assert_eq!(
            wanted("sometimes").unwrap_err(),
            "expected auto, off, always or cross-subnet"
        );
    }
}

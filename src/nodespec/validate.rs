//! Checks settings without the node that they are for.

use crate::language::tr;

use super::identity::Inventory;
use super::mtu::parse_mtu;
use super::network;
use super::resolver::{Resolver, named_range};
use super::value::Layer;
use super::{Inputs, Refused, Role};

/// Checks every setting that can be checked without the VM. If several layers set one, the value of
/// the strongest is used.
///
/// # Errors
/// All problems together, each with its place.
pub fn validate(layers: &[Layer]) -> Result<(), Refused> {
    let inputs = Inputs::default();
    let mut layers = layers.to_vec();
    Layer::sort(&mut layers);
    let mut resolver = Resolver::new(&inputs, &layers);
    resolver.check_layer();
    if resolver.problems.is_empty() {
        return Ok(());
    }
    Err(Refused {
        problems: resolver.problems,
    })
}

impl Resolver<'_> {
    fn check_layer(&mut self) {
        if let Some(role) = self.said("role", |s| &s.role) {
            self.parsed(role, str::parse::<Role>);
        }
        if let Some(name) = self.said("nodeName", |s| &s.node_name) {
            self.parsed(name, network::node_name);
        }
        if let Some(address) = self.said("address", |s| &s.address) {
            self.parsed(address, network::node_address);
        }
        if let Some(mtu) = self.said("mtu", |s| &s.mtu) {
            self.parsed(mtu, parse_mtu);
        }
        self.profile();
        self.labels(None);
        self.taints();
        self.ca();
        self.join();
        self.addons();
        self.admission();
        self.log_level();
        self.backup();
        let inventory = self.inventory();
        let masters = self.masters(inventory.as_ref());
        let master = self.master(inventory.as_ref(), masters.as_ref());
        self.role_by_rule();
        let Some(cluster) = self.cluster(inventory.as_ref(), master, masters) else {
            return;
        };
        let mut ranges = vec![
            named_range("podCIDR", &cluster.pod_cidr),
            named_range("serviceCIDR", &cluster.service_cidr),
        ];
        let nodes = inventory.iter().flat_map(Inventory::hosts);
        ranges.extend(nodes.map(|(name, address)| {
            let net = ipnet::Ipv4Net::from(*address);
            (
                tr!(
                    "node {name}'s address {} ({})",
                    *address,
                    address.origin,
                    name
                ),
                net,
            )
        }));
        self.refuse_overlaps(&ranges);
        self.check_bgp_routes(&cluster, &ranges);
    }
}

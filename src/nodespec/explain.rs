//! The specification as a table: each value, where it came from, and what it overrode.

use std::fmt::Display;

use schemars::JsonSchema;
use serde::Serialize;

use super::network::SubjectAltName;
use super::value::{Overridden, Sourced};
use super::{NodeSpec, masters};
use crate::language::tr;

/// One value of a specification, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The name of the setting or of the value.
    pub name: &'static str,
    /// The value; `none` if there is none.
    pub value: String,
    /// Where it came from.
    pub from: String,
    /// What it overrode, the strongest first.
    pub overrode: Vec<OverriddenRow>,
}

/// A value that another overrode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OverriddenRow {
    /// The value.
    pub value: String,
    /// Where it came from.
    pub from: String,
}

impl From<&Overridden> for OverriddenRow {
    fn from(overridden: &Overridden) -> OverriddenRow {
        OverriddenRow {
            value: overridden.value.clone(),
            from: overridden.origin.to_string(),
        }
    }
}

fn row<T>(name: &'static str, value: &Sourced<T>, text: impl Display) -> Row {
    Row {
        name,
        value: text.to_string(),
        from: value.origin.to_string(),
        overrode: value.overrode.iter().map(OverriddenRow::from).collect(),
    }
}

fn displayed<T: Display>(name: &'static str, value: &Sourced<T>) -> Row {
    row(name, value, &value.value)
}

fn or_none(text: &str) -> String {
    if text.is_empty() {
        tr!("none")
    } else {
        text.to_owned()
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() {
        tr!("none")
    } else {
        items.join(", ")
    }
}

impl NodeSpec {
    /// All values with their names.
    pub fn explain(&self) -> Vec<Row> {
        let cluster = &self.cluster;
        let sans = cluster.api_server_sans.iter().map(|san| match san {
            SubjectAltName::Dns(name) => name.clone(),
            SubjectAltName::Ip(address) => address.to_string(),
        });
        let hosts = cluster
            .hosts
            .iter()
            .map(|(name, address)| format!("{name}={address}"));
        let mut rows = vec![
            displayed("role", &self.role),
            displayed("profile", &self.profile),
            displayed("nodeName", &self.name),
            displayed("address", &self.address),
        ];
        let optional = [
            ("master", &cluster.master),
            ("floatingIP", &self.floating_ip),
        ];
        for (name, value) in optional {
            rows.extend(value.as_ref().map(|value| displayed(name, value)));
        }
        if self.has_several_masters() {
            let masters = &cluster.masters;
            rows.push(row("masters", masters, masters::joined(masters)));
            rows.push(displayed("balancerPort", &cluster.balancer_port));
        }
        rows.extend(self.ca.as_ref().map(|ca| row("ca", ca, &ca.certificate)));
        // Show only the token's identifier: the rest is secret.
        let token = self.join.token.as_ref();
        rows.extend(token.map(|token| row("joinToken", token, token.id())));
        rows.extend([
            displayed("mtu", &self.mtu),
            displayed("ipip", &cluster.ipip),
            row(
                "bgpRoutes",
                &cluster.bgp_routes,
                list(cluster.bgp_routes.iter().map(ToString::to_string)),
            ),
            row("podMTU", &self.mtu, self.pod_mtu()),
            row(
                "nodeLabels",
                &self.labels,
                list(self.labels.iter().map(ToString::to_string)),
            ),
            row(
                "nodeTaints",
                &self.taints,
                list(self.taints.iter().map(ToString::to_string)),
            ),
            displayed("dashboard", &self.addons.dashboard),
            displayed("defaultDeny", &self.addons.default_deny),
            displayed("podSecurityPolicy", &self.admission.pod_security_policy),
            displayed("alwaysPullImages", &self.admission.always_pull_images),
            displayed("podMetadataAccess", &self.addons.pod_metadata),
        ]);
        let level = self.log_level.as_ref();
        rows.extend(level.map(|level| displayed("logLevel", level)));
        rows.extend([
            row("hub", &self.addons.hub, or_none(&self.addons.hub)),
            displayed("joinPort", &self.join.port),
            displayed("clusterName", &cluster.name),
            displayed("podCIDR", &cluster.pod_cidr),
            displayed("serviceCIDR", &cluster.service_cidr),
            displayed("clusterDomain", &cluster.domain),
            displayed("nodePortRange", &cluster.node_ports),
            row("apiServerSANs", &cluster.api_server_sans, list(sans)),
            row("hosts", &cluster.hosts, list(hosts)),
        ]);
        if self.role.is_worker() {
            rows.push(displayed("resolvConf", &self.resolv_conf));
        }
        for workload in &self.addons.workloads {
            rows.push(row("workload", workload, &workload.name));
        }
        rows
    }
}

//! What this machine says about its node besides the record of its state.

use anyhow::Result;

use crate::components::KUBELET_CLIENT;
use crate::nodespec::{Profile, Role};
use crate::paths;
use crate::records::state::Installed;
use crate::sys::root::Root;

/// The unit that every node has, with the node's name and address.
const UNIT: &str = "kube-calico.service";

/// An address without the length of its subnet's prefix, which Calico gets with it.
fn bare(address: &str) -> &str {
    address.split_once('/').map_or(address, |(bare, _)| bare)
}

/// What others rely on in the node of this machine, according to its units; `None` if it has none of this program, or if
/// no other machine knows the node yet: a master without data, or a worker that has not joined.
pub fn installed(root: &Root) -> Result<Option<Installed>> {
    let Some(node) = units(root)? else {
        return Ok(None);
    };
    let is_worker = node.role == Role::Worker.to_string();
    let tls = node.profile == Profile::WithCa.to_string();
    let is_known = match (is_worker, tls) {
        (false, _) => root.exists(paths::ETCD_MEMBER_DATA)?,
        (true, true) => root.exists(&paths::certificate(KUBELET_CLIENT))?,
        // `convert` has removed it when a node of profile simple is taken down.
        (true, false) => root.exists(paths::KUBELET_KUBECONFIG)?,
    };
    Ok(is_known.then_some(node))
}

/// The node of this machine according to its units, also if no other machine knows it yet.
pub fn units(root: &Root) -> Result<Option<Installed>> {
    let text = root.read(&paths::unit(UNIT))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    // Another tool may have a unit of this name.
    let is_ours = text.contains(paths::COPY);
    let value = |name: &str| {
        let mut words = text.split_whitespace();
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let (Some(node), Some(address), true) = (value("NODENAME"), value("IP"), is_ours) else {
        return Ok(None);
    };
    let has_unit = |name: &str| root.exists(&paths::unit(name));
    let role = match (has_unit("etcd.service")?, has_unit("kubelet.service")?) {
        (true, true) => Role::Single,
        (true, false) => Role::Master,
        (false, _) => Role::Worker,
    };
    let tls = value("ETCD_CERT_FILE").is_some();
    let profile = if tls {
        Profile::WithCa
    } else {
        Profile::Simple
    };
    Ok(Some(Installed {
        role: role.to_string(),
        profile: profile.to_string(),
        node: node.to_owned(),
        address: bare(address).to_owned(),
        pod_cidr: value("CALICO_IPV4POOL_CIDR").map(str::to_owned),
        service_cidr: None,
        masters: None,
    }))
}

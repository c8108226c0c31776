//! What the cluster knows of this machine.

use core::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use reqwest::Url;

use super::Records;
use crate::clients::etcd::{Member, is_healthy, known_members, peer_url};
use crate::clients::mtls;
use crate::clients::own_node::OwnNode;
use crate::components::ETCD_CERTIFICATE;
use crate::language::tr;
use crate::nodespec::Role;
use crate::nodespec::master::Master;
use crate::observe::{records, trace};
use crate::paths;
use crate::records::state::{Installed, State};
use crate::removal::{Etcd, Found, Membership};
use crate::sys::root::Root;

/// How long a member of etcd may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The setting of etcd with all members at its first start, each as `NAME=URL`.
const MEMBERS: &str = "ETCD_INITIAL_CLUSTER=";

/// Reads it.
pub fn read(root: &Root, records: &Records, found: &mut Found) -> Result<()> {
    let Some(node) = &records.node else {
        return Ok(());
    };
    found.etcd = etcd_of(root, node)?;
    if node.role != Role::Worker.to_string() {
        return Ok(());
    }
    if !root.exists(paths::KUBELET_KUBECONFIG)? {
        // It had joined. If it is an interrupted run that goes on, the cluster was told.
        let has_joined = !root.list(paths::KUBELET_PKI_DIR)?.is_empty();
        let was_told = records::run(root).is_ok_and(|run| run.is_some_and(|run| run.ends_node()));
        found.unreachable = (has_joined && !was_told).then(|| {
            let path = paths::KUBELET_KUBECONFIG;
            tr!(
                "{path} is missing, so this machine cannot ask whether the cluster has its node",
                path
            )
        });
        return Ok(());
    }
    let exists = OwnNode::of(root, &node.node).and_then(|own| match own {
        Some(own) => own.exists(),
        None => Ok(false),
    });
    match exists {
        Ok(true) => found.joined = Some(node.node.clone()),
        Ok(false) => {}
        Err(error) => {
            found.unreachable = Some(tr!(
                "no API server answers this node ({error})",
                error = format_args!("{error:#}")
            ));
        }
    }
    Ok(())
}

/// The node of this machine: by its record, or by its units if the record is gone or damaged.
pub fn node(root: &Root, state: Option<&State>) -> Result<Option<Installed>> {
    if let Some(state) = state {
        return Ok(Some(state.into()));
    }
    let Some(node) = trace::units(root)? else {
        return Ok(None);
    };
    let text = root.read(paths::ETCD_ENVIRONMENT)?.unwrap_or_default();
    let masters = Some(masters(&String::from_utf8_lossy(&text)));
    Ok(Some(Installed { masters, ..node }))
}

/// The masters in the environment of etcd.
fn masters(environment: &str) -> Vec<Master> {
    let line = environment
        .lines()
        .find_map(|line| line.strip_prefix(MEMBERS));
    let members = line.unwrap_or_default().split(',');
    let master = |member: &str| {
        let (name, url) = member.split_once('=')?;
        let address = Url::parse(url).ok()?.host_str()?.parse().ok()?;
        let name = name.to_owned();
        Some(Master { name, address })
    };
    members.filter_map(master).collect()
}

/// The addresses of the other masters.
pub fn other_masters(node: &Installed) -> Vec<Ipv4Addr> {
    let own = node.address.parse().ok();
    let masters = node.masters.iter().flatten();
    let addresses = masters.map(|master| master.address);
    addresses.filter(|address| Some(*address) != own).collect()
}

/// What etcd's cluster says of the member on this machine.
pub fn etcd(root: &Root) -> Result<Etcd> {
    match Records::of(root)?.node {
        Some(node) => etcd_of(root, &node),
        None => Ok(Etcd::Alone),
    }
}

fn etcd_of(root: &Root, node: &Installed) -> Result<Etcd> {
    let others = other_masters(node);
    let own = node.address.parse();
    let (false, Ok(own)) = (
        others.is_empty() || node.role == Role::Worker.to_string(),
        own,
    ) else {
        return Ok(Etcd::Alone);
    };
    let asked = mtls::client(root, ETCD_CERTIFICATE, ANSWER)
        .and_then(|client| Ok((known_members(&client, &others)?, client)));
    let (members, client) = match asked {
        Ok(answer) => answer,
        // Without data, there is nothing that the others could lose.
        Err(_) if !root.exists(paths::ETCD_MEMBER_DATA)? => return Ok(Etcd::Alone),
        Err(error) => return Ok(Etcd::Unknown(format!("{error:#}"))),
    };
    let own_url = peer_url(own);
    let is_own = |member: &&Member| member.peer_urls.contains(&own_url);
    let Some(here) = members.iter().find(is_own) else {
        return Ok(Etcd::Left);
    };
    let others = members.iter().filter(|member| !is_own(member));
    let healthy = others.filter(|member| is_healthy(&client, &member.client_urls));
    Ok(Etcd::Member(Membership {
        id: here.id.clone(),
        name: match here.name.is_empty() {
            true => node.node.clone(),
            false => here.name.clone(),
        },
        members: members.len(),
        healthy: healthy.map(|member| member.name.clone()).collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::masters;

    #[test]
    fn the_environment_of_etcd_names_all_masters() {
        let text = "ETCD_INITIAL_CLUSTER_STATE=new\n\
                    ETCD_INITIAL_CLUSTER=server02=https://192.168.1.102:2380,server04=https://192.168.1.104:2380\n";
        let all = masters(text);
        let told: Vec<String> = all
            .iter()
            .map(|master| format!("{} {}", master.name, master.address))
            .collect();
        assert_eq!(told, ["server02 192.168.1.102", "server04 192.168.1.104"]);
        assert!(masters("").is_empty() && masters("ETCD_INITIAL_CLUSTER=a=b,c").is_empty());
    }
}

//! What runs, and what the kernel has, of a node: units, mounts, the network, users, settings.

use anyhow::Result;
use ipnet::Ipv4Net;

use super::{Observer, Records, has_our_unit};
use crate::clients::links::{Links, range};
use crate::clients::{kernel, netfilter, systemd};
use crate::observe::node::users;
use crate::paths;
use crate::plan::UnitState;
use crate::removal::ours::{FORWARDING, TUNNEL_MODULE, USERS, units};
use crate::removal::{DOCKER_UNIT, Docker, Found, Tables};
use crate::sys::mount;
use crate::sys::process::argument;

/// Reads it.
pub fn read(observer: &Observer<'_>, records: &Records, found: &mut Found) -> Result<()> {
    services(observer, found)?;
    let kubelet = observer.root.resolve(paths::KUBELET_DIR)?;
    for point in mount::below(&kubelet)? {
        found.mounts.push(argument(&point)?.to_owned());
    }
    // The kubelet does this where mounts are not shared. A volume of the operator stays.
    if mount::is_onto_itself(&kubelet)? {
        found.mounts.push(paths::KUBELET_DIR.to_owned());
    }
    network(observer, records, found)?;
    let all = users(observer.root)?;
    let ours = USERS.iter().map(|&user| user.to_owned());
    found.users = ours.filter(|user| all.contains(user)).collect();
    settings(records, found);
    Ok(())
}

/// The units of the node that run, and those that systemd knows although their files are gone.
fn services(observer: &Observer<'_>, found: &mut Found) -> Result<()> {
    let mut names = units();
    if has_our_unit(observer.root, DOCKER_UNIT)? {
        names.push(DOCKER_UNIT.to_owned());
    }
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let shown = systemd::show(observer.runner, &all)?;
    for name in names {
        let Some(unit) = shown.get(name.trim_end_matches(".service")) else {
            continue;
        };
        if unit.state() == UnitState::Running || unit.active_state == "deactivating" {
            found.running.push(name.clone());
        }
        // One whose file was here before the node stays.
        let is_stale = unit.load_state == "loaded" && !observer.root.exists(&paths::unit(&name))?;
        if is_stale || unit.active_state == "failed" {
            found.known.push(name);
        }
    }
    Ok(())
}

fn network(observer: &Observer<'_>, records: &Records, found: &mut Found) -> Result<()> {
    let (root, runner) = (observer.root, observer.runner);
    for [save, restore] in netfilter::kinds(root)? {
        if let Some(undo) = netfilter::found(runner, &save)? {
            found.tables.push(Tables {
                save,
                restore,
                rules: undo.rules,
                chains: undo.chains,
            });
        }
    }
    let before = records
        .brought
        .as_ref()
        .and_then(|brought| brought.forward.clone());
    if let Some(before) = before {
        let now = netfilter::forward_policy(runner, root)?;
        found.forward = Some(before).filter(|before| now.is_some_and(|now| now != *before));
    }
    found.sets = netfilter::sets(runner, root)?;
    let Some(links) = Links::of(runner, root)? else {
        return Ok(());
    };
    found.interfaces = links.interfaces()?;
    let net = |text: Option<&String>| -> Option<Ipv4Net> { text.and_then(|text| range(text).ok()) };
    let node = records.node.as_ref();
    let pods = net(node.and_then(|node| node.pod_cidr.as_ref()));
    let services = net(node.and_then(|node| node.service_cidr.as_ref()));
    let brought = records.brought.as_ref();
    let loaded = brought.is_some_and(|brought| brought.modules.contains(TUNNEL_MODULE));
    found.tunnel = links.tunnel(pods, loaded)?;
    found.routes = links.routes(pods, services)?;
    Ok(())
}

/// The kernel settings that differ from those before the installation.
fn settings(records: &Records, found: &mut Found) {
    let docker_runs = matches!(found.docker, Docker::Answers { .. } | Docker::Silent);
    let before = records.brought.iter().flat_map(|brought| &brought.sysctls);
    let differs = before.filter(|(key, value)| {
        // Without it, containers of others would lose the network.
        let is_needed = docker_runs && *value == "0";
        let is_needed = is_needed && (*key == FORWARDING || key.starts_with("net.bridge."));
        !is_needed && kernel::sysctl(key).is_some_and(|now| now != **value)
    });
    found.sysctls = differs
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
}

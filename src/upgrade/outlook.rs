//! What an upgrade changes, and what that means for a cluster.

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;

use crate::bundle::manifest::{Component, Kind};
use crate::install::Machine;
use crate::language::tr;
use crate::observe::software::installed_manifest;
use crate::observe::versions::etcd_in;
use crate::plan::{Plan, Step};
use crate::preflight::skew::storage_grows;
use crate::records::state::State;

/// A component whose version changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Changed {
    /// Its name.
    pub name: String,
    /// Its version before; `null` if it is new.
    pub from: Option<String>,
    /// Its version after.
    pub to: String,
}

/// What an upgrade changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Outlook {
    /// The programs and images that are not the same in both bundles.
    pub components: Vec<Changed>,
    /// The services that restart, in order.
    pub restarts: Vec<String>,
    /// What this means, in sentences.
    pub notes: Vec<String>,
}

impl Outlook {
    /// What `plan` means for the node `from`, whose bundle has etcd `etcd`.
    pub fn of(machine: &Machine, from: &State, plan: &Plan, etcd: Option<&str>) -> Result<Outlook> {
        let before = installed_manifest(&machine.root, from).ok();
        let old = |component: &Component| {
            let before = before.as_ref()?.component(&component.name)?;
            Some(before.clone())
        };
        let manifest = machine.payload.manifest();
        let components = manifest.components.iter().filter_map(|component| {
            let before = old(component);
            let is_same = before
                .as_ref()
                .is_some_and(|old| old.sha256 == component.sha256);
            (!is_same).then(|| Changed {
                name: match component.kind {
                    Kind::Image => tr!("image {}", component.name),
                    Kind::Program | Kind::CniPlugin => component.name.clone(),
                },
                from: before.map(|old| old.version),
                to: component.version.clone(),
            })
        });
        let restarts = plan.steps.iter().filter_map(|step| match step {
            Step::Start {
                service,
                restart: true,
            } => Some(service.name.to_owned()),
            _ => None,
        });
        let restarts: Vec<String> = restarts.collect();
        let is_only = from.masters.is_empty();
        let grows = storage_grows(etcd, etcd_in(manifest).as_deref());
        let is_master = from.shape()?.role.is_master();
        Ok(Outlook {
            components: components.collect(),
            notes: notes(&restarts, is_only, is_master && grows),
            restarts,
        })
    }
}

/// What the restarts mean. `is_only` says that no other master answers meanwhile, `grows` that nothing leads back.
fn notes(restarts: &[String], is_only: bool, grows: bool) -> Vec<String> {
    let has = |name: &str| restarts.iter().any(|one| one == name);
    let mut notes = Vec::new();
    if has("etcd") || has("kube-apiserver") {
        notes.push(match is_only {
            true => tr!("The API of the cluster is away while etcd and kube-apiserver restart: usually for less than a \
                     minute. Pods keep running, and services keep their addresses"),
            false => tr!("The API server and etcd of this master are away for a while; the other masters answer"),
        });
    }
    if has("docker") {
        notes.push(tr!(
            "docker restarts, and with it every container of this node"
        ));
    } else if has("kubelet") || has("kube-calico") || has("kube-proxy") {
        notes.push(tr!(
            "Pods of this node keep running, with their connections"
        ));
    }
    notes.push(match grows {
        true => tr!("etcd's data becomes that of a newer version: when all masters have it, `appliance rollback` is refused, and \
                 only a snapshot leads back"),
        false => tr!("`appliance rollback` leads back. Keys and certificates that are new stay"),
    });
    notes
}

#[cfg(test)]
mod tests {
    use super::notes;

    #[test]
    fn what_restarts_is_told_by_its_effect() {
        let of = |names: &[&str], is_only, grows| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            notes(&names, is_only, grows).join("\n")
        };
        assert!(of(&["etcd"], true, false).contains("The API of the cluster is away"));
        assert!(of(&["etcd"], false, true).contains("the other masters answer"));
        assert!(of(&["etcd"], false, true).contains("only a snapshot leads back"));
        assert!(of(&["docker", "kubelet"], true, false).contains("every container"));
        assert!(of(&["kubelet"], true, false).contains("keep running"));
    }
}

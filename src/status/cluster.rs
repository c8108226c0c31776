//! Checks the cluster around a node: its BGP peers, whether Kubernetes calls the nodes Ready, and on a master the add-ons
//! and workloads.

use std::sync::Once;

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::nodes::{self, NodesReport};
use super::{InstalledNode, Report};
use crate::addons::{Addon, Cluster, Notes, Standing};
use crate::language::tr;
use crate::observe::addons;
use crate::observe::peers::{Own, PeerReport, peers};

/// Whether it was told that the BGP peers cannot be compared.
static TOLD: Once = Once::new();

/// One add-on or workload.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddonReport {
    /// Its name.
    pub name: String,
    /// Its state in words: `available, 1 of 1`.
    pub state: String,
    /// Whether all of it is available.
    pub available: bool,
    /// Since when it is not available (RFC 3339), if the cluster says so.
    pub since: Option<String>,
    /// The problem, if it has one. It has none while it can still become available by itself.
    pub problem: Option<String>,
}

/// The state of the cluster around a node.
#[derive(Clone, Debug)]
pub struct ClusterReport {
    /// The node's BGP peers.
    pub peers: Vec<PeerReport>,
    /// All nodes of the cluster, or on a worker its own.
    pub nodes: NodesReport,
    /// Add-ons and workloads, on a master.
    pub addons: Vec<AddonReport>,
}

/// The cluster as a master sees it; `None` if the API server cannot be asked.
struct Seen {
    cluster: Option<Cluster>,
    now: OffsetDateTime,
}

impl InstalledNode<'_> {
    /// Checks the cluster around an installed node. On a master, it asks the API for every add-on; on a worker, only for
    /// its own node.
    pub fn cluster(&self, now: OffsetDateTime) -> Result<ClusterReport> {
        let role = self.state.shape()?.role;
        let list = match role.is_master() {
            true => nodes::list(self.runner),
            false => nodes::own(self.root, &self.state.node),
        };
        let list = list.map_err(|error| format!("{error:#}"));
        let seen = Seen {
            cluster: list.as_ref().ok().map(Cluster::of),
            now,
        };
        let own = role.is_worker().then_some(self.state.node.as_str());
        Ok(ClusterReport {
            peers: self.peers(),
            nodes: NodesReport::of(list, own, now),
            addons: self.addons(&seen)?,
        })
    }

    /// The BGP peers of this node, compared with Calico's own list of nodes.
    fn peers(&self) -> Vec<PeerReport> {
        let own = Own {
            name: &self.state.node,
            address: &self.state.address,
        };
        let peers = peers(self.root, self.runner, own);
        if let Some(why) = peers.not_compared {
            // Whoever waits for the cluster, or watches it, asks again and again.
            TOLD.call_once(|| {
                log::warn!("{}", tr!("cannot compare the BGP peers with Calico's list of nodes: {why}; see `calicoctl \
                     get nodes`", why));
            });
        }
        peers.reports
    }

    /// The state of the add-ons and workloads, on a master.
    fn addons(&self, seen: &Seen) -> Result<Vec<AddonReport>> {
        let index = addons::index(self.root)?;
        let notes = addons::notes(self.root)?;
        let report = |addon: &Addon| self.addon(addon, &notes, seen);
        Ok(index.iter().map(report).collect())
    }

    fn addon(&self, addon: &Addon, notes: &Notes, seen: &Seen) -> AddonReport {
        let of = |state: String, available: bool, problem: Option<String>| AddonReport {
            name: addon.name.clone(),
            state,
            available,
            since: None,
            problem,
        };
        let Some(cluster) = &seen.cluster else {
            return of(tr!("the API server does not answer"), false, None);
        };
        let note = notes.get(&addon.name);
        if let Some(refused) = note.and_then(|note| note.refused.clone()) {
            return of(tr!("refused"), false, Some(refused));
        }
        let late = cluster.is_up(seen.now);
        let see = &tr!("see journalctl -u appliance-addons");
        let (standing, since) = match addons::look(self.runner, addon, cluster) {
            Ok((standing, since)) => (Ok(standing), since),
            Err(error) => (Err(error), None),
        };
        let report = match standing {
            Ok(Standing::Available(words)) => {
                let applied = note.and_then(|note| note.applied.as_deref());
                let current = applied.is_none_or(|digest| digest == addon.digest);
                let words = if current {
                    words
                } else {
                    tr!("{words}; an older manifest is applied", words)
                };
                of(words, true, None)
            }
            Ok(Standing::Waiting(why)) => of(
                tr!("waiting: {why}", why),
                false,
                late.then(|| see.to_owned()),
            ),
            Ok(Standing::Stuck(why)) => of(tr!("stuck"), false, Some(why)),
            Err(error) => of(
                tr!("unknown: {error}", error = format_args!("{error:#}")),
                false,
                late.then(|| see.to_owned()),
            ),
        };
        AddonReport {
            since: since.and_then(|since| since.format(&Rfc3339).ok()),
            ..report
        }
    }
}

impl ClusterReport {
    /// The same without the problems of the peers: an installation waits only for its own node, and
    /// other nodes may start later.
    #[must_use]
    pub fn of_own_node(mut self) -> ClusterReport {
        for peer in &mut self.peers {
            peer.problem = None;
        }
        self
    }
}

impl Report {
    /// The report with the state of the cluster.
    #[must_use]
    pub fn with_cluster(self, cluster: ClusterReport) -> Report {
        let ClusterReport {
            peers,
            nodes,
            addons,
        } = cluster;
        let report = Report {
            peers,
            nodes: Some(nodes),
            addons,
            ..self
        };
        report.judged()
    }
}

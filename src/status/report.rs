//! The report on a node: what was seen, and the verdict on it.

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;
use time::format_description::well_known::Rfc3339;

use super::verdict::Verdict;
use super::{
    AddonReport, BackupReport, CertificateReport, ImageReport, MastersReport, NodesReport,
    ServiceReport,
};
use crate::clients::{journal, systemd};
use crate::components;
use crate::join::rollout::Progress;
use crate::language::tr;
use crate::maintenance::storage::StorageReport;
use crate::nodespec::token::redacted;
use crate::observe::peers::PeerReport;
use crate::records::state::State;
use crate::sys::lock::Holder;
use crate::sys::process::Runner;

/// The overall state of the node and of the cluster around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Overall {
    /// The node is healthy, and so is the cluster, as far as it was asked.
    Healthy,
    /// The node is healthy. The cluster is not, or not yet.
    ClusterNotReady,
    /// The node is not healthy.
    Degraded,
    /// No installation has completed on this machine.
    NotInstalled,
}

/// The report on the running node.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The overall state, from everything below.
    pub overall: Overall,
    /// The same for the node and for the cluster, with what each lacks.
    pub verdict: Verdict,
    /// The version of this program.
    pub appliance: &'static str,
    /// The recorded state of the node; absent if it is not installed.
    pub node: Option<State>,
    /// The node's services.
    pub services: Vec<ServiceReport>,
    /// The images that docker needs.
    pub images: Vec<ImageReport>,
    /// The node's certificates.
    pub certificates: Vec<CertificateReport>,
    /// The node's BGP peers, and those that it should have. An installation does not judge them: it
    /// waits only for its own node.
    pub peers: Vec<PeerReport>,
    /// The room on the node's file systems, and in etcd's database. An installation does not judge it.
    pub storage: Vec<StorageReport>,
    /// The backups of this master. An installation does not judge them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupReport>,
    /// Whether Kubernetes calls the nodes Ready; `null` if that was not asked.
    pub nodes: Option<NodesReport>,
    /// Add-ons and workloads of the cluster, on a master.
    pub addons: Vec<AddonReport>,
    /// The masters, if there are several. An installation does not check them: it waits only for
    /// its own node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masters: Option<MastersReport>,
    /// A run that was interrupted before it completed, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<String>,
    /// An upgrade or a rollback that is not finished, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<String>,
    /// The upgrade of the whole cluster, on a master.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Progress>,
    /// What went wrong at the last boot, though the node may be healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// The run that is changing this machine now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changing: Option<Changing>,
}

/// A run that is changing this machine.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Changing {
    /// The ID of its process.
    pub process: i32,
    /// Its command line, without secrets.
    pub command: String,
    /// When it began (RFC 3339).
    pub since: String,
    /// What it does now; `null` if that is not known.
    pub step: Option<String>,
    /// All of it, for people.
    pub words: String,
}

impl Changing {
    /// The run that has the lock.
    pub fn of(holder: &Holder) -> Changing {
        Changing {
            process: holder.process,
            command: redacted(&holder.command),
            since: holder.since.format(&Rfc3339).unwrap_or_default(),
            step: holder.step.clone(),
            words: redacted(&holder.to_string()),
        }
    }
}

impl Report {
    /// The report of a machine on which no installation has completed.
    pub fn not_installed() -> Report {
        Report {
            overall: Overall::NotInstalled,
            verdict: Verdict::default(),
            appliance: env!("CARGO_PKG_VERSION"),
            node: None,
            services: Vec::new(),
            images: Vec::new(),
            certificates: Vec::new(),
            peers: Vec::new(),
            storage: Vec::new(),
            backup: None,
            nodes: None,
            addons: Vec::new(),
            masters: None,
            interrupted: None,
            upgrade: None,
            cluster: None,
            boot: None,
            changing: None,
        }
    }

    /// Adds the last lines of the journal of each service that does not run.
    #[must_use]
    pub fn with_journal(mut self, runner: &dyn Runner) -> Report {
        for service in &mut self.services {
            if service.problem.is_some() && !service.state.starts_with("active") {
                service.journal = journal::last_lines(runner, &service.name);
            }
        }
        self
    }

    /// Adds the room of the node.
    #[must_use]
    pub fn with_storage(self, storage: Vec<StorageReport>) -> Report {
        Report { storage, ..self }.judged()
    }

    /// Whether the node is healthy, whatever the cluster is.
    pub fn is_node_healthy(&self) -> bool {
        matches!(self.overall, Overall::Healthy | Overall::ClusterNotReady)
    }

    /// Adds what went wrong at the last boot.
    pub fn with_boot(self, runner: &dyn Runner) -> Result<Report> {
        let refused = systemd::was_refused(runner, components::BOOT_UNIT)?;
        let boot = refused.then(|| {
            tr!(
                "The installation at the last boot was refused, and the node stays as it is; see \
                 `journalctl -b -u {}`",
                components::BOOT_UNIT
            )
        });
        Ok(Report { boot, ..self })
    }
}

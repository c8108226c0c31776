//! Checks the running node: services, health endpoints, images, certificates; and the cluster around it.

use std::time::Duration;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::bundle::manifest::Manifest;
use crate::clients::docker::Docker;
use crate::clients::mtls;
use crate::clients::systemd::{self, Unit};
use crate::components::{self, AUTHORITY, Health, Service, UnitKind};
use crate::join::tokens::Tokens;
use crate::language::tr;
use crate::maintenance::storage::{self, StorageReport};
use crate::nodespec::{Profile, Reach, Role, Shape};
use crate::observe::images;
use crate::observe::preflight::docker::settings;
use crate::observe::records;
use crate::observe::software::{docker_source, installed_manifest};
use crate::paths;
use crate::pki::inspect::{self, CertificateInfo};
use crate::records::state::State;
use crate::sys::http;
use crate::sys::process::Runner;
use crate::sys::root::Root;

pub mod backup;
pub mod certificates;
mod cluster;
mod coming_up;
mod judge;
mod masters;
mod nodes;
mod report;
mod runs;
mod verdict;
mod whole;

pub use backup::BackupReport;
pub use cluster::{AddonReport, ClusterReport};
pub use coming_up::{Goal, until, until_healthy};
pub use judge::{NO_NODE, READY, is_master_fine, is_peer_fine};
pub use masters::{MasterReport, MastersReport, ask as ask_masters};
pub use nodes::{NodeReport, NodesReport};
pub use report::{Changing, Overall, Report};
pub use verdict::{Condition, Kind, Lack, Part, Verdict};

/// How long a health endpoint may take to answer.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// A certificate that expires sooner is reported while there is still time to renew it.
const EXPIRES_SOON: time::Duration = time::Duration::days(30);

/// How long before its expiry a certificate should have been renewed.
fn expires_soon(info: &CertificateInfo) -> time::Duration {
    EXPIRES_SOON.min((info.not_after - info.not_before) / 5)
}

/// One service.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceReport {
    /// The unit's name without `.service`.
    pub name: String,
    /// Its state in systemd, such as `active (running)`.
    pub state: String,
    /// The URL of its health endpoint.
    pub endpoint: Option<String>,
    /// The problem, if it has one.
    pub problem: Option<String>,
    /// If it does not run: the last lines of its journal, the newest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub journal: Vec<String>,
}

/// One image.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageReport {
    /// Its reference.
    pub reference: String,
    /// Docker's identifier of the image with that reference.
    pub id: Option<String>,
    /// The problem, if it has one.
    pub problem: Option<String>,
}

/// One certificate.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateReport {
    /// Its name, such as `etcd`.
    pub name: String,
    /// Its path.
    pub path: String,
    /// Its subject, such as `O=system:masters, CN=admin`.
    pub subject: String,
    /// Its subject alternative names.
    pub sans: Vec<String>,
    /// When it expires, in the format of RFC 3339.
    pub not_after: String,
    /// The problem, if it has one.
    pub problem: Option<String>,
}

/// An installed node, to ask as often as you like.
pub struct InstalledNode<'a> {
    root: &'a Root,
    runner: &'a dyn Runner,
    state: &'a State,
    manifest: Manifest,
    docker: Docker,
}

impl<'a> InstalledNode<'a> {
    /// The node of `state`.
    ///
    /// # Errors
    /// If the manifest of its bundle is missing or damaged.
    pub fn of(
        root: &'a Root,
        runner: &'a dyn Runner,
        state: &'a State,
    ) -> Result<InstalledNode<'a>> {
        let manifest = installed_manifest(root, state)?;
        let docker = Docker::of(docker_source(root, Some(&manifest))?);
        Ok(InstalledNode::with(root, runner, state, manifest, docker))
    }

    /// The node of `state`, whose bundle has `manifest` and whose images are in `docker`.
    pub fn with(
        root: &'a Root,
        runner: &'a dyn Runner,
        state: &'a State,
        manifest: Manifest,
        docker: Docker,
    ) -> InstalledNode<'a> {
        InstalledNode {
            root,
            runner,
            state,
            manifest,
            docker,
        }
    }

    /// Asks the node about itself at the time `now`.
    pub fn report(&self, now: OffsetDateTime) -> Result<Report> {
        let shape = self.state.shape()?;
        let reach = Reach {
            address: self.state.own_address()?,
            tls: shape.profile == Profile::WithCa,
            balancer: self.state.balancer_port.unwrap_or_default(),
        };
        let services = self.services(shape, reach)?;
        let images = self.images(shape.role)?;
        let certificates = if reach.tls {
            self.certificates(shape.role, now)
        } else {
            Vec::new()
        };
        let report = Report {
            node: Some(self.state.clone()),
            services,
            images,
            certificates,
            ..Report::not_installed()
        };
        Ok(report.judged())
    }

    /// The room on its file systems, and in etcd's database.
    pub fn storage(&self) -> Result<Vec<StorageReport>> {
        let source = docker_source(self.root, Some(&self.manifest))?;
        let docker = settings(self.root, source, None).data_root();
        storage::read(self.root, self.state.shape()?.role, &docker)
    }

    fn services(&self, shape: Shape, reach: Reach) -> Result<Vec<ServiceReport>> {
        let services = components::services(shape);
        let names: Vec<&str> = services.iter().map(|service| service.name).collect();
        let units = systemd::show(self.runner, &names)?;
        let report = |service: &&Service| {
            let unit = units.get(service.name).cloned().unwrap_or_default();
            self.service(service, &unit, reach)
        };
        Ok(services.iter().map(report).collect())
    }

    fn service(&self, service: &Service, unit: &Unit, reach: Reach) -> ServiceReport {
        let health = service.health.map(|health| health(reach));
        let resting = service.unit == UnitKind::MayEnd && unit.active_state == "inactive";
        let problem = if resting && !self.any_live_token() {
            None
        } else if unit.active_state == "active" {
            health
                .as_ref()
                .and_then(|health| self.health(health, reach).err())
                .map(|e| format!("{e:#}"))
        } else {
            Some(tr!("see journalctl -u {}", service.name))
        };
        ServiceReport {
            name: service.name.to_owned(),
            state: format!("{} ({})", unit.active_state, unit.sub_state),
            endpoint: health.map(|health| health.url),
            problem,
            journal: Vec::new(),
        }
    }

    fn any_live_token(&self) -> bool {
        let dir = self.root.resolve(paths::JOIN_DIR);
        // If this is unknown, report a service that has ended as a problem.
        dir.and_then(|dir| Tokens::new(&dir).any_live(OffsetDateTime::now_utc()))
            .unwrap_or(true)
    }

    /// Requests the health endpoint over TLS with the node's certificates.
    fn health(&self, health: &Health, reach: Reach) -> Result<()> {
        let client = match health.client.filter(|_| reach.tls) {
            Some(name) => mtls::client(self.root, name, HEALTH_TIMEOUT)?,
            None => http::client(&[], None, HEALTH_TIMEOUT)?,
        };
        http::get(&client, &health.url)
    }

    /// The images that the last run recorded, or those of the bundle without such a record.
    fn images(&self, role: Role) -> Result<Vec<ImageReport>> {
        let wanted = records::images(self.root)?;
        let mut wanted: Vec<_> = wanted
            .into_iter()
            .map(|image| (image.reference, Some(image.id)))
            .collect();
        if wanted.is_empty() {
            let of_bundle = self.manifest.images_of(role);
            let named = of_bundle.filter_map(|i| Some((i.reference.clone()?, i.image_id.clone())));
            wanted.extend(named);
        }
        let references = wanted.iter().map(|(reference, _)| reference.clone());
        let mut present = images::ids(self.root, self.runner, &self.docker, references)?;
        let mut reports = Vec::new();
        for (reference, wanted) in wanted {
            let id = present.remove(&reference);
            let problem = match &id {
                None => Some(tr!("not loaded; run `appliance images ensure`")),
                Some(_) if id != wanted => {
                    Some(tr!("not the bundle's image; run `appliance images ensure`"))
                }
                Some(_) => None,
            };
            reports.push(ImageReport {
                reference,
                id,
                problem,
            });
        }
        Ok(reports)
    }

    fn certificates(&self, role: Role, now: OffsetDateTime) -> Vec<CertificateReport> {
        let names = components::certificate_names(role);
        names
            .into_iter()
            .map(|name| self.certificate(name, role, now))
            .collect()
    }

    fn certificate(&self, name: &str, role: Role, now: OffsetDateTime) -> CertificateReport {
        let path = paths::certificate(name);
        let above = paths::certificate(components::authority_of(name));
        let mut report = CertificateReport {
            name: name.to_owned(),
            path: path.clone(),
            subject: String::new(),
            sans: Vec::new(),
            not_after: String::new(),
            problem: None,
        };
        let inspected = self.root.read(&path).and_then(|pem| {
            let pem = pem.context(tr!("missing; run `appliance install`"))?;
            let authority = self.root.read(&above)?.unwrap_or_default();
            Ok((
                inspect::inspect(&pem)?,
                inspect::is_signed_by(&pem, &authority)?,
            ))
        });
        match inspected {
            Err(error) => report.problem = Some(format!("{error:#}")),
            Ok((info, signed)) => {
                report.problem = if !signed {
                    Some(tr!(
                        "not signed by {above}; run `appliance install` to issue a new one",
                        above
                    ))
                } else if now < info.not_before {
                    Some(tr!("not yet valid; is the clock right? see `timedatectl`"))
                } else if now > info.not_after {
                    Some(tr!("expired; run `appliance install` to renew it"))
                } else if info.not_after - now < expires_soon(&info) {
                    Some(tr!("expires soon; run `appliance install` to renew it"))
                } else if name == AUTHORITY && !role.is_master() {
                    // Only masters have the key of the CA.
                    None
                } else {
                    self.key_problem(name)
                };
                report.not_after = info.not_after.format(&Rfc3339).unwrap_or_default();
                report.sans = info.sans();
                report.subject = info.subject;
            }
        }
        report
    }

    fn key_problem(&self, name: &str) -> Option<String> {
        let path = paths::key(name);
        match self.root.mode(&path) {
            Ok(Some(0o600)) => None,
            Ok(Some(mode)) => Some(tr!(
                "its key {path} has mode {mode}; expected 0600: chmod 0600 {path}",
                mode = format_args!("{mode:04o}"),
                path
            )),
            Ok(None) => Some(tr!(
                "its key {path} is missing; run `appliance install`",
                path
            )),
            Err(error) => Some(format!("{error:#}")),
        }
    }
}

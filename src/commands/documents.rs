//! The JSON documents of commands whose result has no type of its own elsewhere. [`super::schema`] lists all.

mod support;
mod upgrade;

pub use support::{Supported, Within};
pub use upgrade::{Applied, Pruned, RolledBack, Upgraded};

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::Serialize;
use std::path::Path;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::failure::Problem;
use crate::bundle::manifest::{BundleInfo, Kind};
use crate::check::Checked;
use crate::cis::{Judged, Verdict};
use crate::components;
use crate::digest::Sha256;
use crate::formats::Format;
use crate::nodespec::Role;
use crate::nodespec::explain::Row;
use crate::nodespec::token::TokenId;
use crate::paths;
use crate::plan::NotShown;
use crate::preflight::{self, Level};
use crate::records::machine::Likeness;
use crate::records::nodes::NodeRecord;
use crate::records::tokens::{Standing, TokenRecord};
use crate::status::Report;
use crate::status::certificates::HeldCertificate;

pub mod backup;

/// A command that has done what its name says.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// Always true: a failure is another document.
    pub done: bool,
    /// What was done, in words.
    pub message: String,
}

/// A text that is the result. It may be a secret.
#[derive(Serialize, JsonSchema)]
pub struct Text {
    /// The text, with its line ends.
    pub text: String,
}

/// A file that was written.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    /// Its path.
    pub file: String,
    /// Its size, in bytes.
    pub bytes: u64,
    /// Its checksum.
    pub sha256: Option<Sha256>,
    /// The name of the bundle in it, if it has one.
    pub bundle: Option<String>,
}

impl Written {
    /// The file at `path`.
    pub fn of(path: &Path, sha256: Option<Sha256>, bundle: Option<&str>) -> Result<Written> {
        let found = std::fs::metadata(path).with_context(|| path.display().to_string())?;
        Ok(Written {
            file: path.display().to_string(),
            bytes: found.len(),
            sha256,
            bundle: bundle.map(str::to_owned),
        })
    }
}

/// Files that were written into a directory.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Files {
    /// The directory.
    pub directory: String,
    /// The names of the files in it.
    pub files: Vec<String>,
}

/// The program and its payload.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Version {
    /// The version of the program.
    pub appliance: &'static str,
    /// The payload that it carries; `null` for the builder.
    pub payload: Option<VersionOfPayload>,
    /// The architecture that the program was built for, such as `x86_64`.
    pub architecture: &'static str,
    /// The formats that versions of the program read from each other. It reads those with a lower or the same number,
    /// as `appliance help releases` says.
    pub formats: &'static [Format],
}

/// A payload.
#[derive(Debug, Serialize, JsonSchema)]
pub struct VersionOfPayload {
    /// Its digest.
    pub digest: Sha256,
    /// The bundle that it was packed from.
    pub bundle: BundleInfo,
}

/// What this VM would become.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Detected {
    /// The sources of metadata, in the order in which they were asked.
    pub sources: Vec<Source>,
    /// The VM's identity in OpenStack, from the first source.
    pub instance: Option<Instance>,
    /// The settings of the node; `null` if they make no node.
    pub settings: Option<Vec<Row>>,
    /// What someone should look at.
    pub warnings: Option<Vec<String>>,
    /// Where an installed node differs from the settings.
    pub differences: Vec<String>,
    /// Why the settings make no node; absent if they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// A source of metadata.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Its name.
    pub source: String,
    /// Why it was passed over; `null` if it was used.
    pub passed_over: Option<String>,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
}

/// A VM in OpenStack. What its source does not say is `null`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// Its UUID.
    pub uuid: Option<String>,
    /// Its display name.
    pub name: Option<String>,
    /// Its host name.
    pub hostname: Option<String>,
    /// Its availability zone.
    pub availability_zone: Option<String>,
    /// Its project.
    #[serde(rename = "projectID")]
    pub project_id: Option<String>,
    /// Its number among those that one request created, from 0.
    pub launch_index: Option<u64>,
}

/// What an installation changed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Installed {
    /// Whether there is any change.
    pub changed: bool,
    /// The settings of the node.
    pub settings: Vec<Row>,
    /// What someone should look at.
    pub warnings: Vec<String>,
    /// The changes in their order, in words.
    pub steps: Vec<String>,
    /// The node after the installation; `null` if it was not waited for.
    pub status: Option<Report>,
}

/// What an installation would change.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    /// Whether there is any change.
    pub changed: bool,
    /// The settings of the node.
    pub settings: Vec<Row>,
    /// What someone should look at.
    pub warnings: Vec<String>,
    /// The changes in their order, in words.
    pub steps: Vec<String>,
    /// The files that would be written.
    pub files: Vec<PlannedFile>,
    /// The units that would be started or restarted.
    pub units: Vec<PlannedUnit>,
    /// The programs that would be brought to this machine.
    pub programs: Vec<PlannedProgram>,
    /// The references of the images that would be brought to this machine, or loaded into docker.
    pub images: Vec<String>,
    /// The kernel modules that would be loaded.
    pub modules: Vec<String>,
    /// The kernel settings that would be changed, with their new values.
    pub sysctls: BTreeMap<String, String>,
}

/// A file that would be written.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedFile {
    /// Its path.
    pub path: String,
    /// Whether it does not exist yet.
    pub new: bool,
    /// Its permission bits afterwards, in octal; `null` if they stay.
    pub mode: Option<String>,
    /// The change as a unified diff. Empty if only the mode or the owner changes; `null` if it is not shown.
    pub diff: Option<String>,
    /// Why the change is not shown; `null` if it is.
    pub not_shown: Option<NotShown>,
    /// Where a copy of the file would be kept, because someone else wrote or changed it; `null` if none would be.
    pub kept_as: Option<String>,
}

/// A unit that would be started or restarted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlannedUnit {
    /// Its name.
    pub name: String,
    /// Whether it runs now.
    pub restart: bool,
}

/// A program that would be brought.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlannedProgram {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What a conversion changed, or would change.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Converted {
    /// The steps that take the old cluster down, in words.
    pub teardown: Vec<String>,
    /// The installation that follows; `null` with `--dry-run`.
    pub installation: Option<Installed>,
}

/// A node that got another role, or would.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RoleChanged {
    /// The role before.
    pub from: String,
    /// The role after.
    pub to: String,
    /// The steps that make an ordinary machine of it, in words.
    pub removal: Vec<String>,
    /// The installation that follows; `null` with `--dry-run`.
    pub installation: Option<Installed>,
}

/// What a reset removed, or would remove.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Removed {
    /// Whether anything was removed, or would be.
    pub changed: bool,
    /// The steps, in words.
    pub steps: Vec<String>,
    /// What stays on purpose.
    pub kept: Vec<Kept>,
    /// The last copy of data and keys; `null` if none is removed.
    pub copy: Option<String>,
    /// What someone has to do on other machines, in words.
    pub follow: Vec<String>,
}

/// Something that a reset keeps.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Kept {
    /// Its path.
    pub path: String,
    /// Why it is kept.
    pub why: &'static str,
}

/// A new token.
#[derive(Serialize, JsonSchema)]
pub struct Created {
    /// The token: a secret.
    pub token: String,
    /// When it expires (RFC 3339); `null` for never, or not before there is a master.
    pub expires: Option<String>,
}

/// The tokens of a master, without their secrets.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Tokens(pub Vec<TokenOfMaster>);

/// A token.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TokenOfMaster {
    /// The part before its dot.
    pub id: TokenId,
    /// Its state.
    pub standing: Standing,
    /// When it was added (RFC 3339).
    pub created: String,
    /// When it expires (RFC 3339); `null` for never.
    pub expires: Option<String>,
    /// How many nodes may join with it; `null` for any number.
    pub uses: Option<u32>,
    /// How many nodes have joined with it.
    pub used: u32,
    /// Where it comes from.
    pub from: String,
}

impl TokenOfMaster {
    /// The token of this record, at the time `now`.
    pub fn of(id: &TokenId, token: &TokenRecord, now: OffsetDateTime) -> Result<TokenOfMaster> {
        Ok(TokenOfMaster {
            id: id.clone(),
            standing: token.standing(now),
            created: token.created.format(&Rfc3339)?,
            expires: token.expires.map(|end| end.format(&Rfc3339)).transpose()?,
            uses: token.uses,
            used: token.used,
            from: token.from.clone(),
        })
    }
}

/// The nodes that joined a master, by name.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Nodes(pub BTreeMap<String, NodeRecord>);

/// Whether this machine is the one on which the node was installed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Guarded {
    /// What this machine is.
    pub likeness: Likeness,
    /// The same in words.
    pub message: String,
}

/// The certificates of a node.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Certificates(pub Vec<CertificateOfNode>);

/// A certificate.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateOfNode {
    /// Its name, such as `etcd`.
    pub name: &'static str,
    /// Its path.
    pub path: String,
    /// Its subject.
    pub subject: String,
    /// Its subject alternative names.
    pub sans: Vec<String>,
    /// When it begins to be valid (RFC 3339).
    pub not_before: String,
    /// When it expires (RFC 3339).
    pub not_after: String,
    /// Whether its authority on this node signed it.
    pub signed_by_authority: bool,
    /// The name of that authority.
    pub authority: &'static str,
    /// The services that its renewal restarts.
    pub restarts: Vec<&'static str>,
}

impl CertificateOfNode {
    /// The certificate as a document.
    pub fn of(held: &HeldCertificate) -> Result<CertificateOfNode> {
        Ok(CertificateOfNode {
            name: held.name,
            path: paths::certificate(held.name),
            subject: held.info.subject.clone(),
            sans: held.info.sans(),
            not_before: held.info.not_before.format(&Rfc3339)?,
            not_after: held.info.not_after.format(&Rfc3339)?,
            signed_by_authority: held.signed,
            authority: components::authority_of(held.name),
            restarts: held.restarts.clone(),
        })
    }
}

/// The certificates that a renewal replaced.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Renewed {
    /// Their names; empty if none expires soon.
    pub renewed: Vec<String>,
}

/// The verdicts of checks.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Checks {
    /// Whether no check failed.
    pub sound: bool,
    /// Every check.
    pub checks: Vec<Checked>,
}

/// A node by the CIS Kubernetes Benchmark.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Benchmark {
    /// The benchmark and its version.
    pub benchmark: &'static str,
    /// The node's name.
    pub node: String,
    /// The node's role.
    pub role: String,
    /// The cluster's profile.
    pub profile: String,
    /// Whether no item failed.
    pub sound: bool,
    /// How many items have each result.
    pub summary: BTreeMap<Verdict, usize>,
    /// Every item.
    pub items: Vec<Judged>,
}

/// Whether a machine can become a node.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Fitness {
    /// The role that was judged.
    pub role: Role,
    /// Whether no check failed.
    pub fit: bool,
    /// How many checks have each result.
    pub summary: BTreeMap<Level, usize>,
    /// Every check.
    pub checks: Vec<preflight::Judged>,
}

/// A golden image that was built.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Built {
    /// Its file.
    pub file: String,
    /// Its size, in bytes.
    pub bytes: u64,
    /// Its checksum.
    pub sha256: Sha256,
    /// The parts of the build.
    pub stages: Vec<BuildStage>,
    /// Every check of the image.
    pub checks: Vec<Checked>,
}

/// A part of a build.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BuildStage {
    /// What was done.
    pub stage: &'static str,
    /// How long it took, in seconds.
    pub seconds: u64,
}

/// A bundle that is not packed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Definition {
    /// The bundle.
    pub bundle: BundleInfo,
    /// Its components.
    pub components: Vec<DefinedComponent>,
}

/// A component of a bundle that is not packed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DefinedComponent {
    /// Its name.
    pub name: String,
    /// The kind of its file.
    pub kind: Kind,
    /// Its version.
    pub version: String,
    /// Its licence, as an SPDX expression.
    pub license: Option<String>,
    /// Where it is published.
    pub source: Option<String>,
    /// What it is in `source`, if it is not the whole.
    pub member: Option<String>,
}

/// The commands that print a result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outputs {
    /// Their names, as `appliance schema` takes them.
    pub outputs: Vec<String>,
}

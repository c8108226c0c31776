//! What people see of a step: its words, and the change of a file.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::diff::unified;
use super::{Step, with_part};
use crate::desired::{Content, Purpose};
use crate::paths::PROGRAM;

/// Why the change of a file is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NotShown {
    /// Its content is secret.
    Secret,
    /// It is a certificate, or says which ones there are: the text says nothing to a person, and the certificate
    /// that is issued later is another one.
    Certificate,
}

impl NotShown {
    /// The reason in words.
    pub fn words(self) -> &'static str {
        match self {
            NotShown::Secret => "its content is secret, and not shown",
            NotShown::Certificate => "certificates are not shown",
        }
    }
}

impl Step {
    /// Why the change of the file that this step writes is not shown; `None` if it is shown, or if there is no file.
    pub fn not_shown(&self) -> Option<NotShown> {
        match self {
            Step::WriteFile {
                content: Content::Secret(_),
                ..
            } => Some(NotShown::Secret),
            Step::WriteFile {
                purpose: Purpose::Identity,
                ..
            } => Some(NotShown::Certificate),
            _ => None,
        }
    }

    /// The change of the file that this step writes, as a unified diff. Empty if its text may not be shown, or does
    /// not change.
    pub fn diff(&self) -> String {
        if self.not_shown().is_some() {
            return String::new();
        }
        match self {
            Step::WriteFile {
                path,
                content,
                replaces,
                ..
            } => unified(path, replaces.as_deref(), content.bytes()),
            Step::EditFile {
                path,
                lines,
                replaces,
            } => unified(path, Some(replaces), &with_part(replaces, lines)),
            _ => String::new(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Unpack { digest } => {
                write!(f, "unpack bundle {}", &digest[..12.min(digest.len())])
            }
            Step::CreateDirectory(directory) => {
                write!(f, "directory {} ({:04o})", directory.path, directory.mode)
            }
            Step::WriteFile {
                path, mode, new, ..
            } => {
                write!(
                    f,
                    "{} {path} ({mode:04o})",
                    if *new { "create" } else { "change" }
                )
            }
            Step::EditFile { path, .. } => write!(f, "change this program's part of {path}"),
            Step::KeepCopy { path, to, .. } => {
                write!(
                    f,
                    "keep {path}, which someone else wrote or changed, as {to}"
                )
            }
            Step::SetLink(link) => write!(f, "link {} -> {}", link.path, link.target),
            Step::LoadModule(module) => write!(f, "load kernel module {module}"),
            Step::SetSysctl { key, value } => write!(f, "set {key} = {value}"),
            Step::InstallProgram => write!(f, "install {PROGRAM}"),
            Step::CreateUsers(path) => write!(f, "create the system users in {path}"),
            Step::AddToken(token) => write!(f, "add join token {}", token.id),
            Step::PrepareEtcd(member) => {
                write!(f, "find out how etcd's member {} starts", member.name)
            }
            Step::ApplyObjects(objects) => write!(f, "apply {} to the cluster", objects.path),
            Step::EndContainers(name) => write!(f, "restart the containers {name}"),
            Step::Remove(step) => step.fmt(f),
            Step::RemoveContent(path) => write!(f, "remove everything in {path}"),
            Step::RemoveFile(path) => write!(f, "remove {path}"),
            Step::ReloadUnits => write!(f, "reload systemd's units"),
            Step::LoadImage(image) => write!(f, "load image {}", image.reference),
            Step::Start { service, restart } => {
                write!(
                    f,
                    "{} {}",
                    if *restart { "restart" } else { "start" },
                    service.name
                )
            }
        }
    }
}

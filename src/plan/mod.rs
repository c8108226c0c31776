//! The plan: the changes that a machine needs. Pure: it compares [`Desired`] with [`Current`]. A
//! machine that already is as desired needs an empty plan.

use std::collections::{BTreeMap, BTreeSet};

use crate::desired::{
    Content, Desired, Directory, EtcdMember, File, JoinToken, Link, Objects, Purpose,
    RunningService,
};
use crate::nodespec::token::TokenId;
use crate::paths;
use crate::records::images::NodeImage;
use crate::records::written::KEPT;
use crate::removal;

mod block;
mod diff;
mod graph;
mod kubelet;
mod needs;
mod services;
mod shown;
pub mod upgrade;

pub use block::{part_of, with_part, without_part};
pub use graph::Form;
pub use needs::{Load, Need};
use services::{lets_pods_in, services};
pub use shown::NotShown;

/// The name of the cluster's objects in the record of started services.
pub const OBJECTS: &str = "cluster-objects";

/// A file on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentFile {
    /// Its permission bits.
    pub mode: u32,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Its bytes, unless they are secret.
    pub content: Option<Vec<u8>>,
    /// Whether it belongs to the user who runs this program, as everything that it writes does.
    pub is_owned: bool,
    /// Whether it is not as this program wrote it: someone changed it, or it was there before.
    pub is_edited: bool,
    /// SHA-256 of the copy of it that an earlier run kept.
    pub copy: Option<[u8; 32]>,
}

/// The state of a unit in systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// Running, or starting.
    Running,
    /// Not running.
    Stopped,
}

/// The state of a running system. A directory that is being prepared has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Kernel modules that are loaded or built in.
    pub modules: BTreeSet<String>,
    /// Kernel settings: key with dots, value.
    pub sysctls: BTreeMap<String, String>,
    /// The state of each service that is known to systemd.
    pub units: BTreeMap<String, UnitState>,
    /// Docker's identifier of each image reference; `None` if docker does not run.
    pub images: Option<BTreeMap<String, String>>,
    /// The users that exist.
    pub users: BTreeSet<String>,
    /// Whether the API server reports that an applied object is missing.
    pub lacks_objects: bool,
}

/// The present state of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Current {
    /// The mode of each directory that exists.
    pub directories: BTreeMap<String, u32>,
    /// Each file that exists.
    pub files: BTreeMap<String, CurrentFile>,
    /// The target of each link that exists.
    pub links: BTreeMap<String, String>,
    /// Whether the bundle is unpacked and whole.
    pub bundle_is_whole: bool,
    /// Whether the installed program is the same as the running one, with the same payload.
    pub program_is_there: bool,
    /// For each service, the digest of its inputs at its last start; also the digest of the
    /// applied objects.
    pub started_with: BTreeMap<String, String>,
    /// The tokens that the master knows, valid or not.
    pub tokens: BTreeSet<TokenId>,
    /// Whether any token is valid.
    pub any_live_token: bool,
    /// The kubeconfig that the kubelet wrote for itself, if it has.
    pub kubelet_kubeconfig: Option<Vec<u8>>,
    /// Whether its member of etcd has data.
    pub etcd_has_data: bool,
    /// The running system; `None` if the root is a directory that is being prepared.
    pub live: Option<Live>,
}

/// One change. Each step of a plan is idempotent: if it is interrupted, it can run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Unpack the bundle.
    Unpack {
        /// The digest that names its directory.
        digest: String,
    },
    /// Create a directory, or set its mode.
    CreateDirectory(Directory),
    /// Write a file.
    WriteFile {
        /// Its path.
        path: String,
        /// Its permission bits.
        mode: u32,
        /// Its whole new content.
        content: Content,
        /// The content that it replaces, if neither is secret.
        replaces: Option<Vec<u8>>,
        /// Whether the file does not exist yet.
        new: bool,
        /// Its purpose.
        purpose: Purpose,
    },
    /// Write this program's part of a file that belongs to others. All else stays.
    EditFile {
        /// Its path.
        path: String,
        /// The lines of the part.
        lines: String,
        /// The whole file as it was when the plan was made.
        replaces: Vec<u8>,
    },
    /// Keep a copy of a file that someone changed, before it is replaced.
    KeepCopy {
        /// Its path.
        path: String,
        /// The path of the copy.
        to: String,
        /// The permission bits that the copy may have.
        most: u32,
        /// The purpose of the file.
        purpose: Purpose,
    },
    /// Create or change a link.
    SetLink(Link),
    /// Load a kernel module.
    LoadModule(String),
    /// Change a kernel setting.
    SetSysctl {
        /// The key, with dots.
        key: String,
        /// The value.
        value: String,
    },
    /// Write the running program, with the payload, to the path that the units use.
    InstallProgram,
    /// Create the system users that the file at this path describes.
    CreateUsers(String),
    /// Add a join token.
    AddToken(JoinToken),
    /// Make systemd read the units again.
    ReloadUnits,
    /// Load an image into docker if it is missing.
    LoadImage(NodeImage),
    /// Start or restart a service.
    Start {
        /// The service.
        service: RunningService,
        /// Whether it runs now with older inputs.
        restart: bool,
    },
    /// Find out how the member of etcd starts, and add it to the running cluster if necessary.
    PrepareEtcd(EtcdMember),
    /// Apply the cluster's objects as soon as its API answers.
    ApplyObjects(Objects),
    /// Stop the containers of this name in pods. The kubelet then restarts them.
    EndContainers(&'static str),
    /// Take something off the machine.
    Remove(removal::Step),
    /// Unmount everything below a directory, and remove its content.
    RemoveContent(&'static str),
    /// Remove a file.
    RemoveFile(&'static str),
}

/// All changes, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes.
    pub steps: Vec<Step>,
}

impl Plan {
    /// The images to load.
    pub fn images(&self) -> impl Iterator<Item = &NodeImage> {
        self.steps.iter().filter_map(|step| match step {
            Step::LoadImage(image) => Some(image),
            _ => None,
        })
    }

    /// The steps in words.
    pub fn words(&self) -> Vec<String> {
        self.steps.iter().map(ToString::to_string).collect()
    }

    /// The changes from `current` to `desired`.
    pub fn build(desired: &Desired, current: &Current) -> Plan {
        let mut steps = Vec::new();
        if !current.bundle_is_whole {
            steps.push(Step::Unpack {
                digest: desired.bundle.clone(),
            });
        }
        steps.extend(directories(desired, current));
        let files = desired.files.iter().flat_map(|file| write(file, current));
        let (network, files): (Vec<Step>, Vec<Step>) =
            files.partition(|step| current.live.is_some() && lets_pods_in(step));
        steps.extend(files);
        steps.extend(kubelet::pointed(desired, current));
        steps.extend(links(desired, current));
        let units_changed = steps.iter().any(changes_units);
        let new = |token: &&JoinToken| !current.tokens.contains(&token.id);
        let tokens: Vec<JoinToken> = desired.tokens.iter().filter(new).cloned().collect();
        let any_token = current.any_live_token || !tokens.is_empty();
        steps.extend(tokens.into_iter().map(Step::AddToken));
        if !current.program_is_there {
            steps.push(Step::InstallProgram);
        }
        if let Some(live) = &current.live {
            steps.extend(system(desired, live));
            if units_changed {
                steps.push(Step::ReloadUnits);
            }
            steps.extend(kernel(desired, live));
            let member = desired.etcd.clone().filter(|_| !current.etcd_has_data);
            steps.extend(member.map(Step::PrepareEtcd));
            steps.extend(services(desired, current, live, any_token, network));
        }
        Plan { steps }
    }

    /// The part of the plan that renews certificates: the files that hold them, and the services and
    /// containers that read these files only when they start.
    #[must_use]
    pub fn of_renewal(self) -> Plan {
        let steps = self.steps.into_iter().filter(Step::is_of_renewal);
        Plan {
            steps: steps.collect(),
        }
    }

    /// The part of the plan that changes the file at `path`, and starts the services `readers`, which read it.
    #[must_use]
    pub fn of_file(self, path: &str, readers: &[&str]) -> Plan {
        let is_wanted = |step: &Step| match step {
            Step::WriteFile { path: written, .. } | Step::KeepCopy { path: written, .. } => {
                written == path
            }
            Step::Start { service, .. } => readers.contains(&service.name),
            _ => false,
        };
        Plan {
            steps: self.steps.into_iter().filter(is_wanted).collect(),
        }
    }

    /// The first step that changes the machine's disk, other than a file at one of `paths`.
    pub fn writes_beside(&self, paths: &[&str]) -> Option<&Step> {
        self.steps.iter().find(|step| match step {
            Step::WriteFile { path, .. } => !paths.contains(&path.as_str()),
            Step::Unpack { .. } | Step::SetLink(_) | Step::InstallProgram => true,
            _ => false,
        })
    }

    /// Whether a step takes something from the payload.
    pub fn uses_payload(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| matches!(step, Step::Unpack { .. } | Step::InstallProgram))
    }

    /// The plan that takes these things off the machine, in this order.
    pub fn of_removal(steps: Vec<removal::Step>) -> Plan {
        Plan {
            steps: steps.into_iter().map(Step::Remove).collect(),
        }
    }

    /// Whether the machine needs no changes.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

fn directories(desired: &Desired, current: &Current) -> impl Iterator<Item = Step> {
    let lacks = |d: &&Directory| current.directories.get(&d.path) != Some(&d.mode);
    desired
        .directories
        .iter()
        .filter(lacks)
        .cloned()
        .map(Step::CreateDirectory)
}

/// Writes a file that is not as desired. If someone changed it, a copy is kept first, unless an earlier run has kept
/// the same one.
fn write(file: &File, current: &Current) -> Vec<Step> {
    let before = current.files.get(&file.path);
    let Some(written) = replace(file, before) else {
        return Vec::new();
    };
    let lost = before.filter(|before| {
        before.is_edited && !has_content(before, file) && before.copy != Some(before.sha256)
    });
    let most = match file.content {
        Content::Secret(_) => file.mode,
        Content::Whole(_) | Content::Block(_) => 0o7777,
    };
    let kept = lost.map(|_| Step::KeepCopy {
        path: file.path.clone(),
        to: format!("{}{KEPT}", file.path),
        most,
        purpose: file.purpose,
    });
    kept.into_iter().chain([written]).collect()
}

fn has_content(before: &CurrentFile, file: &File) -> bool {
    before.sha256 == file.content.sha256()
}

fn replace(file: &File, before: Option<&CurrentFile>) -> Option<Step> {
    let text = before.and_then(|before| before.content.clone());
    let content = match (&file.content, text) {
        (Content::Block(lines), Some(whole)) => {
            return (with_part(&whole, lines) != whole).then(|| Step::EditFile {
                path: file.path.clone(),
                lines: lines.clone(),
                replaces: whole,
            });
        }
        (Content::Block(lines), None) => Content::Whole(with_part(b"", lines)),
        (content, _) => content.clone(),
    };
    let same = before.is_some_and(|before| {
        before.is_owned && before.mode == file.mode && before.sha256 == content.sha256()
    });
    (!same).then(|| Step::WriteFile {
        path: file.path.clone(),
        mode: file.mode,
        content,
        replaces: before.and_then(|before| before.content.clone()),
        new: before.is_none(),
        purpose: file.purpose,
    })
}

fn links(desired: &Desired, current: &Current) -> impl Iterator<Item = Step> {
    let lacks = |link: &&Link| current.links.get(&link.path) != Some(&link.target);
    desired
        .links
        .iter()
        .filter(lacks)
        .cloned()
        .map(Step::SetLink)
}

fn changes_units(step: &Step) -> bool {
    match step {
        Step::WriteFile { purpose, .. } | Step::SetLink(Link { purpose, .. }) => {
            *purpose == Purpose::Unit
        }
        _ => false,
    }
}

/// The changes of the system that the units need.
fn system(desired: &Desired, live: &Live) -> Vec<Step> {
    let mut steps = Vec::new();
    if desired.users.iter().any(|user| !live.users.contains(*user)) {
        steps.push(Step::CreateUsers(paths::USERS.to_owned()));
    }
    steps
}

/// Modules come first: the settings of bridges exist only while `br_netfilter` is loaded.
fn kernel(desired: &Desired, live: &Live) -> Vec<Step> {
    let modules = desired
        .modules
        .iter()
        .filter(|&module| !live.modules.contains(module));
    let settings = desired
        .sysctls
        .iter()
        .filter(|(key, value)| live.sysctls.get(key) != Some(value));
    modules
        .cloned()
        .map(Step::LoadModule)
        .chain(
            settings
                .cloned()
                .map(|(key, value)| Step::SetSysctl { key, value }),
        )
        .collect()
}

impl Step {
    /// Whether it writes a file with a key or a certificate.
    pub fn is_of_identity(&self) -> bool {
        matches!(
            self,
            Step::WriteFile {
                purpose: Purpose::Identity,
                ..
            }
        )
    }

    fn is_of_renewal(&self) -> bool {
        match self {
            Step::WriteFile { path, .. } if path == paths::KUBELET_KUBECONFIG => true,
            Step::WriteFile { purpose, .. } | Step::KeepCopy { purpose, .. } => {
                *purpose == Purpose::Identity
            }
            Step::Start { restart, .. } => *restart,
            Step::EndContainers(_) => true,
            _ => false,
        }
    }
}

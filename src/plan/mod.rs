//! What has to change so that the machine becomes what it is to be. Pure: compares
//! [`Desired`] with [`Current`]; an unchanged machine yields an empty plan.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::components;
use crate::desired::{
    Content, Desired, Directory, EtcdMember, File, JoinToken, Link, Objects, Purpose,
    RunningService,
};
use crate::nodespec::token::TokenId;
use crate::paths::{self, PROGRAM};
use crate::records::images::NodeImage;

mod block;
mod teardown;

pub use teardown::teardown;

/// What the cluster's objects are noted as among the services.
pub const OBJECTS: &str = "cluster-objects";

/// A file on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentFile {
    /// Its permission bits.
    pub mode: u32,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Its text, if it is text and not secret.
    pub text: Option<String>,
}

/// The state of a unit, as systemd tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// Running, or about to: systemd sees to it.
    Running,
    /// Not running.
    Stopped,
}

/// The parts of a running system that a directory being prepared does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Kernel modules that are loaded or built in.
    pub modules: BTreeSet<String>,
    /// Kernel settings: key with dots, value.
    pub sysctls: BTreeMap<String, String>,
    /// The state of each service that is known to systemd.
    pub units: BTreeMap<String, UnitState>,
    /// Docker's identifier of each reference it has; `None` if docker does not run.
    pub images: Option<BTreeMap<String, String>>,
    /// The users that exist.
    pub users: BTreeSet<String>,
    /// Whether the program at its place on a node is the one that runs.
    pub program_is_there: bool,
    /// Whether the API server answers that it lacks an object it had been given.
    pub lacks_objects: bool,
}

/// What the machine has of all that it is to have.
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
    /// For each service, the digest of what it was last started with; and that of the objects
    /// the cluster was given.
    pub started_with: BTreeMap<String, String>,
    /// The tokens that are or were known.
    pub tokens: BTreeSet<TokenId>,
    /// Whether any token can be used.
    pub any_live_token: bool,
    /// Whether its member of etcd has data.
    pub etcd_has_data: bool,
    /// The running system; `None` if the root is a directory being prepared.
    pub live: Option<Live>,
}

/// One change. Carried out in the plan's order, each of them can be cut and done again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Unpack the bundle.
    Unpack {
        /// The digest whose directory it goes to.
        digest: String,
    },
    /// Make a directory, or give it its mode.
    CreateDirectory(Directory),
    /// Write a file.
    WriteFile {
        /// Its path.
        path: String,
        /// Its permission bits.
        mode: u32,
        /// Its whole new content.
        content: Content,
        /// The text it replaces, where a person may see both.
        replaces: Option<String>,
        /// Whether nothing is there yet.
        new: bool,
        /// What it is for.
        purpose: Purpose,
    },
    /// Point a link.
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
    /// Copy the running program to where the units look for it.
    InstallProgram,
    /// Make the system users that the file at this path describes.
    CreateUsers(String),
    /// Take a token to join with.
    AddToken(JoinToken),
    /// Make systemd read the units again.
    ReloadUnits,
    /// Load an image into docker, unless it has it.
    LoadImage(NodeImage),
    /// Start or restart a service.
    Start {
        /// The service.
        service: RunningService,
        /// Whether it runs with older inputs now.
        restart: bool,
    },
    /// Find out how the member of etcd begins, and make the others ready for it.
    PrepareEtcd(EtcdMember),
    /// Give the cluster its objects, once its API answers.
    ApplyObjects(Objects),
    /// End the containers of that name in pods: the kubelet starts them anew.
    EndContainers(&'static str),
    /// Stop a service.
    Stop(&'static str),
    /// Remove the containers of all pods.
    RemovePods,
    /// Remove all that is in a directory, and what is mounted there.
    RemoveContent(&'static str),
    /// Remove a file.
    RemoveFile(&'static str),
    /// Give a directory another name, under which nothing looks for it.
    PutAside {
        /// Its path.
        path: &'static str,
        /// Its new path.
        to: String,
    },
    /// Forget what earlier runs made of the machine.
    ForgetNode,
}

/// All changes, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes.
    pub steps: Vec<Step>,
}

impl Plan {
    /// What `current` lacks to be `desired`.
    pub fn build(desired: &Desired, current: &Current) -> Plan {
        let mut steps = Vec::new();
        if !current.bundle_is_whole {
            steps.push(Step::Unpack {
                digest: desired.bundle.clone(),
            });
        }
        steps.extend(directories(desired, current));
        steps.extend(desired.files.iter().filter_map(|file| write(file, current)));
        steps.extend(links(desired, current));
        let units_changed = steps.iter().any(changes_units);
        let new = |token: &&JoinToken| !current.tokens.contains(&token.id);
        let tokens: Vec<JoinToken> = desired.tokens.iter().filter(new).cloned().collect();
        let any_token = current.any_live_token || !tokens.is_empty();
        steps.extend(tokens.into_iter().map(Step::AddToken));
        if let Some(live) = &current.live {
            steps.extend(system(desired, live));
            if units_changed {
                steps.push(Step::ReloadUnits);
            }
            steps.extend(kernel(desired, live));
            let member = desired.etcd.clone().filter(|_| !current.etcd_has_data);
            steps.extend(member.map(Step::PrepareEtcd));
            steps.extend(services(desired, current, live, any_token));
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

    /// Whether the machine is already as it should be.
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

fn write(file: &File, current: &Current) -> Option<Step> {
    let before = current.files.get(&file.path);
    let text = before.and_then(|before| before.text.clone());
    let content = match &file.content {
        Content::Block(lines) => {
            let whole = block::replace(text.as_deref().unwrap_or_default(), lines);
            Content::Whole(whole.into_bytes())
        }
        content => content.clone(),
    };
    // A file we share keeps the mode it has.
    let mode = match (&file.content, before) {
        (Content::Block(_), Some(before)) => before.mode,
        _ => file.mode,
    };
    let same =
        before.is_some_and(|before| before.mode == mode && before.sha256 == content.sha256());
    (!same).then(|| Step::WriteFile {
        path: file.path.clone(),
        mode,
        content,
        replaces: text,
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

/// What the units need of the system.
fn system(desired: &Desired, live: &Live) -> Vec<Step> {
    let mut steps = Vec::new();
    if !live.program_is_there {
        steps.push(Step::InstallProgram);
    }
    if desired.users.iter().any(|user| !live.users.contains(*user)) {
        steps.push(Step::CreateUsers(paths::USERS.to_owned()));
    }
    steps
}

fn objects(desired: &Desired, current: &Current, live: &Live) -> Option<Step> {
    let objects = desired.objects.as_ref()?;
    let given = current.started_with.get(OBJECTS) == Some(&objects.digest);
    (!given || live.lacks_objects).then(|| Step::ApplyObjects(objects.clone()))
}

/// Modules first: the settings of bridges exist only with `br_netfilter` loaded.
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

/// Services in their order, and before the first that needs images: the cluster's objects, then the
/// images. Loading them takes long enough for a kubelet to ask for its certificate, and where the
/// roles for that are missing v1.9's approver looks again only minutes later.
fn services(desired: &Desired, current: &Current, live: &Live, any_token: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut before_images: Vec<Step> = objects(desired, current, live).into_iter().collect();
    before_images.extend(images(desired, live));
    for service in &desired.services {
        if service.needs_images {
            steps.append(&mut before_images);
        }
        let running = live.units.get(service.name) == Some(&UnitState::Running);
        // It has nothing to do, and if a boot has just started it, it finds that out by itself.
        if service.may_end && !any_token {
            continue;
        }
        let as_desired = current.started_with.get(service.name) == Some(&service.inputs);
        if !(running && as_desired) {
            steps.push(Step::Start {
                service: service.clone(),
                restart: running,
            });
            if running {
                let beside = components::containers_beside(service.name).iter();
                steps.extend(beside.copied().map(Step::EndContainers));
            }
        }
    }
    steps.append(&mut before_images);
    steps
}

fn images(desired: &Desired, live: &Live) -> Vec<Step> {
    let present = |image: &NodeImage| {
        live.images
            .as_ref()
            .and_then(|images| images.get(&image.reference))
            == Some(&image.id)
    };
    desired
        .images
        .iter()
        .filter(|image| !present(image))
        .cloned()
        .map(Step::LoadImage)
        .collect()
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
            Step::SetLink(link) => write!(f, "link {} -> {}", link.path, link.target),
            Step::LoadModule(module) => write!(f, "load kernel module {module}"),
            Step::SetSysctl { key, value } => write!(f, "set {key} = {value}"),
            Step::InstallProgram => write!(f, "install {PROGRAM}"),
            Step::CreateUsers(path) => write!(f, "create the users of {path}"),
            Step::AddToken(token) => write!(f, "take join token {}", token.id),
            Step::PrepareEtcd(member) => {
                write!(f, "prepare etcd's members for {}", member.name)
            }
            Step::ApplyObjects(objects) => write!(f, "apply {} to the cluster", objects.path),
            Step::EndContainers(name) => write!(f, "have {name} started anew"),
            Step::Stop(service) => write!(f, "stop {service}"),
            Step::RemovePods => write!(f, "remove the containers of all pods"),
            Step::RemoveContent(path) => write!(f, "remove everything in {path}"),
            Step::RemoveFile(path) => write!(f, "remove {path}"),
            Step::PutAside { path, to } => write!(f, "put {path} aside as {to}"),
            Step::ForgetNode => write!(f, "forget what this node was"),
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

impl Step {
    fn is_of_renewal(&self) -> bool {
        match self {
            Step::WriteFile { purpose, .. } => *purpose == Purpose::Identity,
            Step::Start { restart, .. } => *restart,
            Step::EndContainers(_) => true,
            _ => false,
        }
    }

    /// What the change looks like to a person: the lines that go (`-`) and come (`+`).
    /// Empty for anything but a change of a file's public text.
    pub fn diff(&self) -> String {
        let Step::WriteFile {
            content: Content::Whole(new),
            replaces: Some(old),
            ..
        } = self
        else {
            return String::new();
        };
        let new = String::from_utf8_lossy(new);
        similar::TextDiff::from_lines(old.as_str(), &new)
            .unified_diff()
            .context_radius(1)
            .to_string()
    }
}

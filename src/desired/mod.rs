//! Everything that a node of a given specification has: directories, files, links, kernel
//! settings, images and services. Pure.

use core::net::Ipv4Addr;

use anyhow::Result;
use sha2::{Digest, Sha256};

use crate::bundle::manifest::{Component, Kind, Manifest};
use crate::components::{self, Runs, Service, UnitKind};
use crate::nodespec::NodeSpec;
use crate::nodespec::token::TokenId;
use crate::paths::{self, CURRENT, PATH_DIR};
use crate::pki::{Pki, Secret};
use crate::preflight::docker::daemon::CgroupDriver;
use crate::records::images::NodeImage;
use crate::records::tokens::TokenRecord;
use crate::workloads::Workload;

mod addons;
mod file;
mod files;
mod kernel;
mod record;
mod values;

pub use file::{Content, File, Purpose};
pub use kernel::modules;

/// A directory with its permission bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Its absolute path.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
}

/// A symbolic link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its absolute path.
    pub path: String,
    /// Its target.
    pub target: String,
    /// Whether it yields to an existing file or link, which belongs to the operator.
    pub yields: bool,
    /// Its purpose.
    pub purpose: Purpose,
}

/// Where the program of a service comes from: it has to be there before the service starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgramOf {
    /// The machine itself.
    Machine,
    /// This file of the bundle, a path below the bundle's directory.
    File(String),
    /// Several files of the bundle.
    Bundle,
    /// The image that it needs.
    Image,
    /// This program.
    Appliance,
}

/// A service of the node, with a digest of all its inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningService {
    /// The unit's name without `.service`.
    pub name: &'static str,
    /// Where its program comes from.
    pub program: ProgramOf,
    /// Whether it runs containers.
    pub needs_images: bool,
    /// The reference of the image that docker must have before it starts.
    pub image: Option<String>,
    /// Whether it may end when it has nothing left to do.
    pub may_end: bool,
    /// The paths of its unit and of the files that it reads when it starts.
    pub files: Vec<String>,
    /// SHA-256 over its unit, its files and its program. If it differs from the digest at its last
    /// start, the service must be restarted.
    pub inputs: String,
}

/// A join token that the master accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// Its ID.
    pub id: TokenId,
    /// Its stored record.
    pub record: TokenRecord,
}

/// One of several members of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdMember {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// The addresses of the others.
    pub others: Vec<Ipv4Addr>,
    /// All members in the form for etcd (`NAME=URL,…`), for their first start together.
    pub cluster: String,
    /// Whether it may start before any other.
    pub founds: bool,
}

/// Objects that the cluster needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objects {
    /// The file with the objects, for `kubectl apply`.
    pub path: String,
    /// SHA-256 of the file.
    pub digest: String,
}

/// Everything that a node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The digest of the bundle to unpack and use.
    pub bundle: String,
    /// Directories, parents first.
    pub directories: Vec<Directory>,
    /// Files; units come last.
    pub files: Vec<File>,
    /// Links.
    pub links: Vec<Link>,
    /// Kernel modules.
    pub modules: Vec<String>,
    /// Kernel settings: key with dots, value.
    pub sysctls: Vec<(String, String)>,
    /// Images.
    pub images: Vec<NodeImage>,
    /// System users, described in [`paths::USERS`].
    pub users: Vec<&'static str>,
    /// The tokens that workers may join with.
    pub tokens: Vec<JoinToken>,
    /// Services, in starting order.
    pub services: Vec<RunningService>,
    /// Where the kubelet reaches the API server, if it writes its kubeconfig itself.
    pub kubelet_server: Option<String>,
    /// Its member of etcd, if there are several.
    pub etcd: Option<EtcdMember>,
    /// The objects to apply as soon as the cluster's API answers.
    pub objects: Option<Objects>,
}

/// The inputs of the files.
pub struct Sources<'a> {
    /// The specification of the node.
    pub spec: &'a NodeSpec,
    /// The manifest of the payload.
    pub manifest: &'a Manifest,
    /// The payload's digest.
    pub digest: &'a str,
    /// Keys and certificates, if the profile uses them.
    pub pki: Option<&'a Pki>,
    /// The tokens that kube-apiserver accepts, if the profile uses them.
    pub tokens: Option<&'a Secret>,
    /// The key with which kube-apiserver encrypts secrets, if the profile uses it.
    pub encryption: Option<&'a Secret>,
    /// The token that workers may join with, if the settings have one.
    pub join_token: Option<JoinToken>,
    /// Whether docker comes from the payload because the machine has none.
    pub bundled_docker: bool,
    /// How docker puts containers into cgroups: the kubelet does it in the same way.
    pub cgroup_driver: CgroupDriver,
    /// Whether docker gets a limit for the logs of containers: the operator has no settings of docker.
    pub limits_logs: bool,
    /// The workloads that a master applies in addition to its add-ons.
    pub workloads: &'a [Workload],
    /// Images from tarballs outside the payload.
    pub images: &'a [NodeImage],
}

impl Desired {
    /// Builds everything that a node of `sources` has. Fails if a template does not fit the values,
    /// or if the payload lacks a program that the role needs.
    pub fn build(sources: &Sources<'_>) -> Result<Desired> {
        let services = components::services(sources.spec.shape());
        let files = files::all(sources, &services)?;
        let has_join = services
            .iter()
            .any(|service| service.unit == UnitKind::MayEnd);
        let running = services
            .iter()
            .map(|service| running_service(sources, service, &files))
            .collect::<Result<Vec<_>>>()?;
        Ok(Desired {
            bundle: sources.digest.to_owned(),
            directories: directories(sources.spec),
            modules: modules(*sources.spec.cluster.ipip),
            sysctls: kernel::settings(sources.spec),
            links: links(sources, &services),
            users: has_join
                .then_some(components::JOIN_USER)
                .into_iter()
                .collect(),
            tokens: sources
                .join_token
                .clone()
                .filter(|_| has_join)
                .into_iter()
                .collect(),
            kubelet_server: kubelet_server(sources.spec),
            etcd: etcd_member(sources.spec),
            objects: objects(&files),
            images: images(sources),
            services: running,
            files,
        })
    }

    /// Only the files of keys and certificates, keys before their certificates.
    pub fn of_pki(pki: &Pki) -> Vec<File> {
        files::pki_files(pki)
    }

    /// The file at `path`, if the node has one.
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }
}

fn directories(spec: &NodeSpec) -> Vec<Directory> {
    let (all, master, worker) = (true, spec.role.is_master(), spec.role.is_worker());
    let directories = [
        (all, paths::KUBERNETES_DIR, 0o755),
        (all, paths::CA_DIR, 0o755),
        (all, paths::CALICO_DIR, 0o755),
        (all, paths::BIRD_DIR, 0o755),
        (all, paths::CNI_DIR, 0o755),
        (all, paths::CALICO_LOG_DIR, 0o755),
        (master, paths::ETCD_DIR, 0o700),
        (master, paths::KUBERNETES_LOG_DIR, 0o700),
        (master && spec.tls(), paths::JOIN_DIR, 0o700),
        (master, paths::ADDONS_DIR, 0o755),
        (worker, paths::KUBELET_DIR, 0o700),
    ];
    let wanted = directories.iter().filter(|(wanted, ..)| *wanted);
    wanted
        .map(|&(_, path, mode)| Directory {
            path: path.to_owned(),
            mode,
        })
        .collect()
}

fn kubelet_server(spec: &NodeSpec) -> Option<String> {
    (spec.tls() && spec.role.is_worker()).then(|| values::api_server(spec))
}

fn etcd_member(spec: &NodeSpec) -> Option<EtcdMember> {
    (spec.has_several_masters() && spec.role.is_master()).then(|| EtcdMember {
        name: spec.name.value.clone(),
        address: *spec.address,
        others: spec.other_masters(),
        cluster: values::initial_cluster(spec),
        founds: spec.is_founder(),
    })
}

fn objects(files: &[File]) -> Option<Objects> {
    let file = files
        .iter()
        .find(|file| file.path == paths::CLUSTER_OBJECTS)?;
    Some(Objects {
        path: file.path.clone(),
        digest: hex::encode(file.content.sha256()),
    })
}

/// The links: to the bundle in use, to programs on the PATH, to enabled units, and root's
/// kubeconfig.
fn links(sources: &Sources<'_>, services: &[&Service]) -> Vec<Link> {
    let link = |path: String, target: String| Link {
        path,
        target,
        yields: false,
        purpose: Purpose::Other,
    };
    let mut links = vec![link(CURRENT.to_owned(), sources.digest.to_owned())];
    for program in sources.manifest.components.iter().filter(|c| c.on_path) {
        links.push(link(
            format!("{PATH_DIR}/{}", program.name),
            format!("{CURRENT}/{}", program.path),
        ));
    }
    let ours = |service: &&&Service| service.runs != Runs::Docker || sources.bundled_docker;
    for service in services.iter().filter(ours) {
        let unit = service.unit();
        let wants = format!("{}.wants/{unit}", service.wanted_by());
        links.push(Link {
            purpose: Purpose::Unit,
            ..link(paths::unit(&wants), paths::unit(&unit))
        });
    }
    if sources.spec.role.is_master() {
        links.push(Link {
            path: paths::ROOT_KUBECONFIG.to_owned(),
            target: paths::ADMIN_KUBECONFIG.to_owned(),
            yields: true,
            purpose: Purpose::Other,
        });
    }
    links
}

fn images(sources: &Sources<'_>) -> Vec<NodeImage> {
    let image = |component: &Component| {
        Some(NodeImage {
            reference: component.reference.clone()?,
            id: component.image_id.clone()?,
            tarball: format!("{CURRENT}/{}", component.path),
        })
    };
    let own = sources.manifest.images_of(*sources.spec.role);
    own.filter_map(image)
        .chain(sources.images.iter().cloned())
        .collect()
}

fn program_of(sources: &Sources<'_>, service: &Service) -> Result<ProgramOf> {
    Ok(match service.runs {
        Runs::Program(name) => {
            ProgramOf::File(sources.manifest.require(Kind::Program, name)?.path.clone())
        }
        Runs::Image(_) => ProgramOf::Image,
        Runs::Docker if sources.bundled_docker => ProgramOf::Bundle,
        Runs::Docker => ProgramOf::Machine,
        Runs::Appliance => ProgramOf::Appliance,
    })
}

fn running_service(
    sources: &Sources<'_>,
    service: &Service,
    files: &[File],
) -> Result<RunningService> {
    let image = match service.runs {
        Runs::Image(name) => Some(name),
        // Its first pod needs it, and an air-gapped node cannot pull it.
        Runs::Program("kubelet") => Some("pause"),
        _ => None,
    };
    let image = image.map(|name| sources.manifest.require(Kind::Image, name));
    let image = image.transpose()?.and_then(|image| image.reference.clone());
    let units = service.units();
    let mut paths: Vec<String> = units.iter().map(|unit| paths::unit(unit)).collect();
    for name in service.certificates {
        paths.extend([paths::certificate(name), paths::key(name)]);
    }
    paths.extend(service.files.iter().map(|&path| path.to_owned()));
    let mut hash = Sha256::new();
    for file in files.iter().filter(|file| paths.contains(&file.path)) {
        hash.update(&file.path);
        hash.update(file.content.sha256());
    }
    if let Runs::Program(name) = service.runs {
        hash.update(
            sources
                .manifest
                .require(Kind::Program, name)?
                .sha256
                .as_str(),
        );
    }
    if service.runs == Runs::Appliance {
        hash.update(env!("CARGO_PKG_VERSION"));
    }
    if let Runs::Image(name) = service.runs {
        hash.update(sources.manifest.require(Kind::Image, name)?.sha256.as_str());
    }
    Ok(RunningService {
        name: service.name,
        program: program_of(sources, service)?,
        needs_images: image.is_some(),
        image,
        may_end: service.unit == UnitKind::MayEnd,
        files: paths,
        inputs: hex::encode(hash.finalize()),
    })
}

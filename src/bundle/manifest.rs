//! The payload's table of contents, written by `appliance bundle pack` and read at every start.

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// The name of the manifest among the embedded files.
pub const FILE_NAME: &str = "manifest.json";

/// What a payload holds: its bundle, every file with its digest, and the packs the files are in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The layout of the payload; a reader refuses a number it does not know.
    pub format: u32,
    /// The bundle the payload was packed from.
    pub bundle: BundleInfo,
    /// Every file, sorted by path.
    pub components: Vec<Component>,
    /// The compressed archives, in the order they are to be read.
    pub packs: Vec<Pack>,
}

/// The `[bundle]` table of `bundle.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BundleInfo {
    /// The bundle's name, such as `v1.9`.
    pub name: String,
    /// The Kubernetes version of the components, such as `v1.9.0`.
    pub kubernetes: String,
    /// One sentence for people.
    pub description: String,
    /// True when some components are stand-ins: never for production.
    #[serde(default)]
    pub demonstration: bool,
}

/// One file of the payload.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Component {
    /// The name that templates, checks and people use, such as `kube-apiserver`.
    pub name: String,
    /// What the file is.
    pub kind: Kind,
    /// The component's own version, such as `3.1.10`.
    pub version: String,
    /// Where it is unpacked, relative to the bundle's directory, such as `bin/etcd`.
    pub path: String,
    /// Bytes when unpacked.
    pub size: u64,
    /// SHA-256 of the unpacked file, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// For an image: the reference it is known by to docker, such as `calico/node:v2.6.2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// For an image: docker's identifier of it (`sha256:` and the digest of its configuration).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// For a program: arguments its unit adds to its own, for builds that need them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// For a program: whether a link in `/usr/local/bin` puts it on the PATH.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_path: bool,
}

/// What a component is, and so how the node treats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An executable of a service or for people.
    Program,
    /// An executable the kubelet calls to attach a pod to the network.
    CniPlugin,
    /// A tarball as `docker save` writes it, to be loaded into docker.
    Image,
}

/// One compressed archive of the payload.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Pack {
    /// The embedded file's name, such as `pack-0.tar.xz`.
    pub name: String,
    /// Bytes of the compressed archive.
    pub size: u64,
    /// SHA-256 of the compressed archive.
    pub sha256: String,
    /// The paths of the components in it, in archive order.
    pub components: Vec<String>,
}

impl Manifest {
    /// The component of that name, if the payload has one.
    pub fn component(&self, name: &str) -> Option<&Component> {
        self.components.iter().find(|c| c.name == name)
    }

    /// The component of that kind and name; an error that tells how to add it if there is none.
    pub fn require(&self, kind: Kind, name: &str) -> anyhow::Result<&Component> {
        self.component(name)
            .filter(|component| component.kind == kind)
            .with_context(|| {
                format!(
                    "bundle {} has no {name}; add it to bundle.toml",
                    self.bundle.name
                )
            })
    }

    /// All images, in the order of their paths.
    pub fn images(&self) -> impl Iterator<Item = &Component> {
        self.components.iter().filter(|c| c.kind == Kind::Image)
    }

    /// Bytes of all files once unpacked.
    pub fn unpacked_size(&self) -> u64 {
        self.components.iter().map(|c| c.size).sum()
    }
}

//! The payload's table of contents, written by `appliance bundle pack` and read at every start.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::{check_path, is_file_name};
use super::workload::Workload;
use crate::digest::{Digest, Sha256};
use crate::formats::PAYLOAD;
use crate::nodespec::Role;

/// The name of the manifest in a payload, and on a node.
pub const FILE_NAME: &str = "manifest.json";
/// The path of the directory of the bundle itself, among the paths of its files.
pub const DIRECTORY: &str = "";
/// The layout of payloads that this program reads and writes.
pub const FORMAT: u32 = PAYLOAD.number;
/// The limit for the size of a file, in bytes. It also prevents overflows of sums.
const MAX_SIZE: u64 = 1 << 40;

/// The content of a payload: its bundle, every file with its digest, and the packs with the files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The layout of the payload; a reader refuses a number it does not know.
    pub format: u32,
    /// The bundle the payload was packed from.
    pub bundle: BundleInfo,
    /// Every file, sorted by path.
    pub components: Vec<Component>,
    /// The compressed archives, in reading order.
    pub packs: Vec<Pack>,
    /// The workloads, which are applied once the cluster works, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<Workload>,
}

/// The `[bundle]` table of `bundle.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
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
    /// Security problems of its versions that a later version solves, each in one sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vulnerabilities: Vec<String>,
    /// Settings for every node, with the lowest precedence.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// One file of the payload.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Component {
    /// The name that templates, checks and people use, such as `kube-apiserver`.
    pub name: String,
    /// The kind of file.
    pub kind: Kind,
    /// The component's own version, such as `3.1.10`.
    pub version: String,
    /// Where it is unpacked, relative to the bundle's directory, such as `bin/etcd`.
    pub path: String,
    /// Bytes when unpacked.
    pub size: u64,
    /// SHA-256 of the unpacked file.
    pub sha256: Sha256,
    /// Its licence, as an SPDX expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Its supplier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supplier: Option<String>,
    /// Where it is published, the first of its sources: `https://…`, or `docker://…` for an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What it is in `source`, if it is not the whole: a member of an archive, a file in an image, or
    /// `MEMBER:FILE` for a file in an image in an archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The digest of the published file, or of the image's manifest, from `bundle.lock` at the time of
    /// packing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_digest: Option<Digest>,
    /// For an image: its reference in docker, such as `calico/node:v2.6.2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// For an image: docker's image ID (`sha256:` and the digest of its configuration).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// For a program: arguments its unit adds to its own, for builds that need them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// For a program: whether a link in `/usr/local/bin` puts it on the PATH.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_path: bool,
    /// For an image: the nodes it is loaded on.
    #[serde(default, skip_serializing_if = "Nodes::is_all")]
    pub nodes: Nodes,
}

/// The nodes an image is loaded on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Nodes {
    /// Every node.
    #[default]
    All,
    /// Those that run the control plane.
    Masters,
    /// Those that run pods.
    Workers,
}

impl Nodes {
    /// Whether a node of that role is among them.
    pub fn have(self, role: Role) -> bool {
        match self {
            Nodes::All => true,
            Nodes::Masters => role.is_master(),
            Nodes::Workers => role.is_worker(),
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    fn is_all(&self) -> bool {
        *self == Nodes::All
    }
}

/// The kind of a component, which decides how the node treats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An executable of a service or for people.
    Program,
    /// An executable the kubelet calls to attach a pod to the network.
    CniPlugin,
    /// A tarball from `docker save`, which is loaded into docker.
    Image,
}

impl Kind {
    /// The permission bits of the unpacked file.
    pub fn mode(self) -> u32 {
        match self {
            Kind::Image => 0o644,
            Kind::Program | Kind::CniPlugin => 0o755,
        }
    }
}

/// One compressed stream of the payload: parts of files, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Pack {
    /// The entry's name, such as `code.xz`.
    pub name: String,
    /// Bytes when compressed.
    pub size: u64,
    /// SHA-256 of the compressed stream.
    pub sha256: Sha256,
    /// Bytes of memory that decompressing it takes.
    pub memory: u64,
    /// What comes out of it, in this order.
    pub parts: Vec<Part>,
}

/// A section of one file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Part {
    /// The path of the component it belongs to.
    pub path: String,
    /// Where in the file it begins.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of it.
    pub sha256: Sha256,
    /// The paths of other components whose file is the same: the part is in the payload once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<String>,
}

impl Part {
    /// The paths of all components that it belongs to.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let copies = self.copies.iter().map(String::as_str);
        std::iter::once(self.path.as_str()).chain(copies)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Manifest {
    /// Reads a manifest. Refuses one with a path outside the bundle's directory, or with a file whose
    /// parts do not cover it.
    pub fn parse(text: &[u8]) -> Result<Manifest> {
        PAYLOAD.check(text)?;
        let manifest: Manifest = serde_json::from_slice(text)?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<()> {
        ensure!(
            self.format == FORMAT,
            "the payload has layout {}, but this program supports only {FORMAT}; pack it again with \
             `appliance bundle pack` of this version",
            self.format
        );
        let mut parts: BTreeMap<&str, Vec<&Part>> = BTreeMap::new();
        let mut names = BTreeSet::new();
        for component in &self.components {
            let name = &component.name;
            ensure!(
                is_file_name(name),
                "component name {name:?} is not a file name"
            );
            ensure!(names.insert(name), "component {name} is listed twice");
            check_path(&component.path)?;
            ensure!(
                component.size < MAX_SIZE,
                "the size of {name} is not plausible"
            );
            let first = parts.insert(&component.path, Vec::new()).is_none();
            ensure!(first, "{} is listed twice", component.path);
        }
        let mut packs = BTreeSet::new();
        for pack in &self.packs {
            let name = &pack.name;
            ensure!(is_file_name(name), "pack name {name:?} is not a file name");
            ensure!(packs.insert(name), "pack {name} is listed twice");
            for part in &pack.parts {
                for path in part.paths() {
                    let of = parts.get_mut(path);
                    let problem =
                        || format!("{name} has a part of {path}, which is not a component");
                    of.with_context(problem)?.push(part);
                }
            }
        }
        for component in &self.components {
            let parts = parts.remove(component.path.as_str()).unwrap_or_default();
            check_parts(component, parts)?;
        }
        Ok(())
    }

    /// The component of that name, if the payload has one.
    pub fn component(&self, name: &str) -> Option<&Component> {
        self.components.iter().find(|c| c.name == name)
    }

    /// The component of that kind and name. If there is none, the error says how to add it.
    pub fn require(&self, kind: Kind, name: &str) -> Result<&Component> {
        self.component(name)
            .filter(|component| component.kind == kind)
            .with_context(|| {
                format!(
                    "bundle {} has no {name}; add it to bundle.toml and pack the bundle again",
                    self.bundle.name
                )
            })
    }

    /// All images, in the order of their paths.
    pub fn images(&self) -> impl Iterator<Item = &Component> {
        self.components.iter().filter(|c| c.kind == Kind::Image)
    }

    /// All images with their references.
    pub fn named_images(&self) -> impl Iterator<Item = (&str, &Component)> {
        self.images()
            .filter_map(|image| Some((image.reference.as_deref()?, image)))
    }

    /// The images a node of that role has.
    pub fn images_of(&self, role: Role) -> impl Iterator<Item = &Component> {
        self.images().filter(move |image| image.nodes.have(role))
    }

    /// The component that is unpacked to that path.
    pub fn at(&self, path: &str) -> Option<&Component> {
        self.components.iter().find(|c| c.path == path)
    }

    /// Bytes of all files once unpacked.
    pub fn unpacked_size(&self) -> u64 {
        self.components.iter().map(|c| c.size).sum()
    }
}

/// Checks that the parts cover the file from its first byte to its last.
fn check_parts(component: &Component, mut parts: Vec<&Part>) -> Result<()> {
    let path = &component.path;
    if component.size == 0 {
        ensure!(parts.is_empty(), "{path} is empty and has parts");
        return Ok(());
    }
    parts.sort_by_key(|part| part.offset);
    let mut end = 0;
    for part in parts {
        if part.offset != end || part.size == 0 || part.size >= MAX_SIZE {
            bail!("the parts of {path} have a gap or an overlap at byte {end}")
        }
        end += part.size;
    }
    ensure!(
        end == component.size,
        "the parts of {path} end at byte {end} of {}",
        component.size
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn manifest() -> Manifest {
        let part = |offset, size| Part {
            path: "bin/etcd".to_owned(),
            offset,
            size,
            sha256: Sha256::of(b""),
            copies: vec![],
        };
        let pack = |name: &str, parts| Pack {
            name: name.to_owned(),
            size: 1,
            sha256: Sha256::of(b""),
            memory: 1,
            parts,
        };
        let text = r#"{"name": "etcd", "kind": "program", "version": "3", "path": "bin/etcd", "size": 10,
            "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}"#;
        Manifest {
            format: FORMAT,
            bundle: BundleInfo {
                vulnerabilities: Vec::new(),
                name: "t".to_owned(),
                kubernetes: "v1.9.0".to_owned(),
                description: "d".to_owned(),
                demonstration: false,
                settings: BTreeMap::new(),
            },
            components: vec![serde_json::from_str(text).unwrap()],
            packs: vec![
                pack("code.xz", vec![part(4, 3)]),
                pack("data.xz", vec![part(0, 4), part(7, 3)]),
            ],
            workloads: vec![],
        }
    }

    fn refusal(change: impl Fn(&mut Manifest)) -> String {
        let mut manifest = manifest();
        change(&mut manifest);
        manifest.check().unwrap_err().to_string()
    }

    #[test]
    fn a_sound_manifest_is_taken() {
        manifest().check().unwrap();
    }

    #[test]
    fn a_manifest_that_could_lead_astray_is_refused() {
        assert!(refusal(|m| m.format = 1).contains("layout 1"));
        assert!(refusal(|m| m.components[0].path = "../x".to_owned()).contains("leads outside"));
        assert!(
            refusal(|m| m.components[0].name = "./../x".to_owned()).contains("not a file name")
        );
        assert!(refusal(|m| m.packs[0].name = "../p".to_owned()).contains("not a file name"));
        assert!(
            refusal(|m| m.packs[1].name = "code.xz".to_owned()).contains("code.xz is listed twice")
        );
        let twice = refusal(|m| m.components.push(m.components[0].clone()));
        assert!(twice.contains("etcd is listed twice"), "{twice}");
        let unknown = refusal(|m| m.packs[0].parts[0].path = "bin/x".to_owned());
        assert!(
            unknown.contains("part of bin/x, which is not a component"),
            "{unknown}"
        );
    }

    #[test]
    fn a_file_whose_parts_do_not_make_it_whole_is_refused() {
        assert!(refusal(|m| m.packs[0].parts.clear()).contains("a gap or an overlap at byte 4"));
        assert!(refusal(|m| m.packs[0].parts[0].size = 4).contains("at byte 8"));
        assert!(refusal(|m| m.packs[0].parts[0].size = u64::MAX).contains("at byte 4"));
        assert!(refusal(|m| m.packs[1].parts[1].size = 2).contains("end at byte 9 of 10"));
        let again = refusal(|m| {
            let part = m.packs[0].parts[0].clone();
            m.packs[0].parts.push(part);
        });
        assert!(again.contains("at byte 7"), "{again}");
        assert!(refusal(|m| m.components[0].size = 0).contains("is empty and has parts"));
    }
}

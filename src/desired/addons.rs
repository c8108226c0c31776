//! The manifests a master applies to its cluster, in their order.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::files::{public, secret, values, with};
use super::{File, Sources};
use crate::addons::Addon;
use crate::bundle::manifest::Kind;
use crate::nodespec::NodeSpec;
use crate::nodespec::addons::Switch;
use crate::paths::{self, ADDONS_DIR};
use crate::pki::Secret;
use crate::render::render;

/// Where workloads begin to be numbered: their own order is kept behind the cluster's add-ons.
const FIRST_WORKLOAD: usize = 50;
/// The add-on that every workload waits for.
const DNS: &str = "kube-dns";

/// One of the cluster's own add-ons.
struct Own {
    name: &'static str,
    number: usize,
    /// The template it is made of.
    template: &'static str,
    /// The images its template names, as the bundle calls them.
    images: &'static [&'static str],
    /// What has to be available before.
    after: &'static [&'static str],
    /// Whether a cluster has it.
    wanted: fn(&NodeSpec) -> bool,
}

const OWN: &[Own] = &[
    Own {
        name: "calico",
        number: 10,
        template: "manifests/calico.yaml",
        images: &["calico-kube-controllers"],
        after: &[],
        wanted: NodeSpec::tls,
    },
    Own {
        name: DNS,
        number: 20,
        template: "manifests/kube-dns.yaml",
        images: &["kube-dns", "dnsmasq-nanny", "dns-sidecar"],
        after: &["calico"],
        wanted: |_| true,
    },
    Own {
        name: "dashboard",
        number: 30,
        template: "manifests/dashboard.yaml",
        images: &["dashboard"],
        after: &[DNS],
        wanted: |spec| *spec.addons.dashboard == Switch::On,
    },
    Own {
        name: "default-deny",
        number: 40,
        template: "manifests/default-deny.yaml",
        images: &[],
        after: &["calico"],
        wanted: |spec| *spec.addons.default_deny == Switch::On,
    },
];

/// The manifests, and the file that tells their order; nothing on a node that is no master.
pub fn files(sources: &Sources<'_>) -> Result<Vec<File>> {
    let spec = sources.spec;
    if !spec.role.is_master() {
        return Ok(vec![]);
    }
    let wanted: Vec<&Own> = OWN.iter().filter(|own| (own.wanted)(spec)).collect();
    let mut files = Vec::new();
    let mut index = Vec::new();
    for own in &wanted {
        let text = render(own.template, &own_values(sources, own)?)?;
        let after = own.after.iter().copied();
        let after = after.filter(|name| wanted.iter().any(|own| own.name == *name));
        let after = after.map(str::to_owned).collect();
        let numbered = (own.name, own.number);
        add(
            &mut files,
            &mut index,
            numbered,
            |path| public(path, text),
            after,
        );
    }
    for (place, workload) in sources.workloads.iter().enumerate() {
        ensure!(
            OWN.iter().all(|own| own.name != workload.name),
            "workload {}: the cluster's own add-on has this name; choose another",
            workload.name
        );
        let after = [&[DNS.to_owned()], &workload.after[..]].concat();
        let numbered = (workload.name.as_str(), FIRST_WORKLOAD + place);
        // An operator's manifest may hold a password.
        let text = Secret::new(workload.manifest.clone().into_bytes());
        add(
            &mut files,
            &mut index,
            numbered,
            |path| secret(path, text),
            after,
        );
    }
    files.push(public(
        paths::ADDONS_INDEX,
        serde_json::to_string_pretty(&index)? + "\n",
    ));
    Ok(files)
}

fn add(
    files: &mut Vec<File>,
    index: &mut Vec<Addon>,
    (name, number): (&str, usize),
    make: impl FnOnce(&str) -> File,
    after: Vec<String>,
) {
    let path = format!("{ADDONS_DIR}/{number:02}-{name}.yaml");
    let file = make(&path);
    index.push(Addon {
        name: name.to_owned(),
        path,
        digest: hex::encode(file.content.sha256()),
        after,
    });
    files.push(file);
}

/// The values every template has, and the images of this one.
fn own_values(sources: &Sources<'_>, own: &Own) -> Result<Value> {
    let mut images = serde_json::Map::new();
    for name in own.images {
        let image = sources.manifest.require(Kind::Image, name)?;
        images.insert(name.replace('-', "_"), json!(image.reference));
    }
    Ok(with(values(sources), json!({ "images": images })))
}

//! The manifests that a master applies to its cluster, in order.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::values::{values, with};
use super::{File, Sources};
use crate::addons::{Addon, CALICO};
use crate::bundle::manifest::Kind;
use crate::language::tr;
use crate::nodespec::NodeSpec;
use crate::nodespec::addons::Switch;
use crate::paths::{self, ADDONS_DIR};
use crate::pki::Secret;
use crate::render::render;

/// The number of the first workload. Workloads come after the cluster's add-ons, in their own
/// order.
const FIRST_WORKLOAD: usize = 50;

/// The add-on without which pods find no service.
const DNS: &str = "kube-dns";

/// The add-ons that have to be available before every workload, as far as the cluster has them.
const BEFORE_WORKLOADS: [&str; 2] = [CALICO, DNS];

/// The add-on with the policies of pods.
const POD_SECURITY: &str = "pod-security";

/// One of the cluster's own add-ons.
struct Own {
    name: &'static str,
    number: usize,
    /// Its template.
    template: &'static str,
    /// The names of its images in the bundle.
    images: &'static [&'static str],
    /// The add-ons that have to be available before it.
    after: &'static [&'static str],
    /// Whether a cluster of this specification has it.
    wanted: fn(&NodeSpec) -> bool,
}

const OWN: &[Own] = &[
    // The API server takes no pod before it has a policy.
    Own {
        name: POD_SECURITY,
        number: 5,
        template: "manifests/pod-security.yaml",
        images: &[],
        after: &[],
        wanted: |spec| *spec.admission.pod_security_policy == Switch::On,
    },
    Own {
        name: CALICO,
        number: 10,
        template: "manifests/calico.yaml",
        images: &["calico-kube-controllers"],
        after: &[POD_SECURITY],
        wanted: NodeSpec::tls,
    },
    Own {
        name: DNS,
        number: 20,
        template: "manifests/kube-dns.yaml",
        images: &["kube-dns", "dnsmasq-nanny", "dns-sidecar"],
        // Its pods get their network from the node; what calico adds are policies.
        after: &[POD_SECURITY],
        wanted: |_| true,
    },
    Own {
        name: "dashboard",
        number: 30,
        template: "manifests/dashboard.yaml",
        images: &["dashboard"],
        after: &[CALICO, DNS],
        wanted: |spec| *spec.addons.dashboard == Switch::On,
    },
    Own {
        name: "default-deny",
        number: 40,
        template: "manifests/default-deny.yaml",
        images: &[],
        after: &[CALICO],
        wanted: |spec| *spec.addons.default_deny == Switch::On,
    },
];

/// The manifests, and the file with their order; none on a node that is no master.
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
        let numbered = (own.name, own.number);
        add(
            &mut files,
            &mut index,
            numbered,
            |path| File::public(path, text),
            present(own.after, &wanted),
        );
    }
    for (place, workload) in sources.workloads.iter().enumerate() {
        ensure!(
            OWN.iter().all(|own| own.name != workload.name),
            tr!(
                "workload {}: an add-on of the cluster has this name; change `name` of the workload",
                workload.name
            )
        );
        let mut after = present(&BEFORE_WORKLOADS, &wanted);
        after.extend(workload.after.iter().cloned());
        let numbered = (workload.name.as_str(), FIRST_WORKLOAD + place);
        // An operator's manifest may hold a password.
        let text = Secret::new(workload.manifest.clone().into_bytes());
        add(
            &mut files,
            &mut index,
            numbered,
            |path| File::secret(path, text),
            after,
        );
    }
    files.push(File::public(
        paths::ADDONS_INDEX,
        serde_json::to_string_pretty(&index)? + "\n",
    ));
    Ok(files)
}

/// Those of these add-ons that the cluster has.
fn present(names: &[&str], wanted: &[&Own]) -> Vec<String> {
    let wanted = |name: &&&str| wanted.iter().any(|own| own.name == **name);
    let present = names.iter().filter(wanted);
    present.map(|name| (*name).to_owned()).collect()
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

/// The values of every template, and the images of this one.
fn own_values(sources: &Sources<'_>, own: &Own) -> Result<Value> {
    let mut images = serde_json::Map::new();
    for name in own.images {
        let image = sources.manifest.require(Kind::Image, name)?;
        images.insert(name.replace('-', "_"), json!(image.reference));
    }
    Ok(with(values(sources), json!({ "images": images })))
}

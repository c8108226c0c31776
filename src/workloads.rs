//! Workloads: the operator's manifests. Their variables are filled in, and manifests that could
//! never run are refused before anything is written. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::language::tr;
use crate::nodespec::{NodeSpec, Refused};

/// A manifest as its author wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Its name.
    pub name: String,
    /// Its source, for errors.
    pub place: String,
    /// Its text.
    pub manifest: String,
    /// The workloads that have to be available before it is applied.
    pub after: Vec<String>,
}

/// A manifest with its variables filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// Its text.
    pub manifest: String,
    /// The workloads that have to be available before it is applied.
    pub after: Vec<String>,
}

/// The images that nodes have without a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// Their references.
    pub there: BTreeSet<String>,
    /// Whether other nodes may have more images, from tarballs that are not on this machine.
    pub perhaps_more: bool,
}

/// Fills in and checks all workloads, in the order in which they are applied.
///
/// # Errors
/// All problems together, each with its place and line.
pub fn prepare(
    given: &[Given],
    spec: &NodeSpec,
    images: &Images,
) -> Result<Vec<Workload>, Refused> {
    let mut checker = Checker {
        spec,
        images,
        values: values(spec),
        node_ports: BTreeMap::new(),
        problems: Vec::new(),
    };
    let mut prepared: Vec<Workload> = Vec::new();
    for (index, workload) in given.iter().enumerate() {
        for name in &workload.after {
            if !given[..index].iter().any(|earlier| earlier.name == *name) {
                checker.problems.push(tr!(
                    "{}: `after` names {name}, but no workload of this name comes before this \
                     one; correct the name, or move that workload before this one",
                    workload.place,
                    name = format_args!("{name:?}")
                ));
            }
        }
        if let Some(manifest) = checker.fill(workload) {
            checker.check(workload, &manifest);
            prepared.push(Workload {
                name: workload.name.clone(),
                manifest,
                after: workload.after.clone(),
            });
        }
    }
    if checker.problems.is_empty() {
        return Ok(prepared);
    }
    Err(Refused {
        problems: checker.problems,
    })
}

/// The values of `{{ NAME }}` in a manifest. Each value was checked with the node's specification,
/// and contains no YAML syntax.
fn values(spec: &NodeSpec) -> BTreeMap<&'static str, String> {
    let cluster = &spec.cluster;
    BTreeMap::from([
        ("API_SERVER_IP", cluster.api_server_ip().to_string()),
        ("CLUSTER_DOMAIN", cluster.domain.value.clone()),
        ("CLUSTER_NAME", cluster.name.value.clone()),
        ("DNS_IP", cluster.dns_ip().to_string()),
        ("HUB", spec.addons.hub.value.clone()),
        ("MASTER", spec.master_addresses()[0].to_string()),
        ("NODE_PORT_RANGE", cluster.node_ports.to_string()),
        ("POD_CIDR", cluster.pod_cidr.to_string()),
        ("POD_MTU", spec.pod_mtu().to_string()),
        ("SERVICE_CIDR", cluster.service_cidr.to_string()),
    ])
}

struct Checker<'a> {
    spec: &'a NodeSpec,
    images: &'a Images,
    values: BTreeMap<&'static str, String>,
    /// The service that uses each nodePort.
    node_ports: BTreeMap<u64, String>,
    problems: Vec<String>,
}

impl Checker<'_> {
    /// The manifest with every `{{ NAME }}` replaced; `{{ "{{" }}` becomes two braces.
    fn fill(&mut self, workload: &Given) -> Option<String> {
        let problems = self.problems.len();
        let mut text = String::with_capacity(workload.manifest.len());
        for (index, line) in workload.manifest.split_inclusive('\n').enumerate() {
            let mut rest = line;
            while let Some((before, after)) = rest.split_once("{{") {
                text.push_str(before);
                let Some((name, end)) = after.split_once("}}") else {
                    rest = after;
                    let why = &tr!(
                        "`{{` without `}}` in the same line; for two literal braces, write \
                               `{{ \"{{\" }}`"
                    );
                    self.refuse(workload, index + 1, why);
                    continue;
                };
                rest = end;
                match self.value(name.trim()) {
                    Ok(value) => text.push_str(value),
                    Err(why) => self.refuse(workload, index + 1, &why),
                }
            }
            text.push_str(rest);
        }
        (self.problems.len() == problems).then_some(text)
    }

    fn value(&self, name: &str) -> Result<&str, String> {
        if matches!(name, "'{{'" | "\"{{\"") {
            return Ok("{{");
        }
        match self.values.get(name) {
            Some(value) if value.is_empty() => Err(tr!(
                "`{name}` is not set; set your registry in the setting `hub`",
                name
            )),
            Some(value) => Ok(value),
            None => {
                let known: Vec<&str> = self.values.keys().copied().collect();
                Err(tr!(
                    "`{name}` is not a variable; the variables are {}",
                    known.join(", "),
                    name
                ))
            }
        }
    }

    fn refuse(&mut self, workload: &Given, line: usize, why: &str) {
        let place = &workload.place;
        self.problems
            .push(tr!("{place}: line {line}: {why}", place, line, why));
    }

    fn check(&mut self, workload: &Given, manifest: &str) {
        let options = serde_saphyr::options! { with_snippet: false };
        let documents: Vec<Option<Value>> =
            match serde_saphyr::from_multiple_with_options(manifest, options) {
                Ok(documents) => documents,
                Err(error) => {
                    let why = tr!("{}: not valid YAML: {error}", workload.place, error);
                    self.problems.push(why);
                    return;
                }
            };
        let objects: Vec<&Value> = documents
            .iter()
            .flatten()
            .flat_map(|document| match document["items"].as_array() {
                Some(items) => items.iter().collect(),
                None => vec![document],
            })
            .collect();
        if objects.is_empty() {
            let why = tr!(
                "{}: the manifest is empty; add an object, or remove the workload",
                workload.place
            );
            self.problems.push(why);
        }
        for object in objects {
            let has = |field: &str| object[field].as_str().is_some_and(|text| !text.is_empty());
            if !has("kind") || !has("apiVersion") || object["metadata"]["name"].as_str().is_none() {
                self.problems.push(format!(
                    "{}: not every document is a Kubernetes object; each needs apiVersion, kind \
                     and metadata.name",
                    workload.place
                ));
                return;
            }
            self.check_ports(workload, object);
            self.check_images(workload, object);
        }
    }

    fn check_ports(&mut self, workload: &Given, object: &Value) {
        if object["kind"] != "Service" {
            return;
        }
        let range = *self.spec.cluster.node_ports;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let owner = tr!("service {name} of {}", workload.place, name);
        let ports = object["spec"]["ports"].as_array();
        let ports = ports.into_iter().flatten();
        for port in ports.filter_map(|port| port["nodePort"].as_u64()) {
            if !(u64::from(range.first)..=u64::from(range.last)).contains(&port) {
                self.problems.push(tr!(
                    "{owner}: nodePort {port} is outside the range {range}; choose another, or \
                     change the setting `nodePortRange`",
                    owner,
                    port,
                    range
                ));
            }
            if let Some(other) = self.node_ports.insert(port, owner.clone()) {
                self.problems.push(tr!(
                    "{owner}: nodePort {port} is already used by {other}; choose another",
                    owner,
                    port,
                    other
                ));
            }
        }
    }

    fn check_images(&mut self, workload: &Given, object: &Value) {
        let mut containers = Vec::new();
        find_containers(object, &mut containers);
        for container in containers {
            let Some(image) = container["image"].as_str() else {
                continue;
            };
            let policy = container["imagePullPolicy"].as_str();
            if let Some(why) = self.image_problem(image, policy) {
                let why = format!("{}: {why}", workload.place);
                if !self.problems.contains(&why) {
                    self.problems.push(why);
                }
            }
        }
    }

    /// The problem with the image of a container with this pull policy, if there is one.
    fn image_problem(&self, image: &str, policy: Option<&str>) -> Option<String> {
        let hub = &self.spec.addons.hub.value;
        let from_hub = !hub.is_empty() && image.starts_with(&format!("{hub}/"));
        let full = in_full(image);
        let there = self.images.there.iter().any(|known| in_full(known) == full);
        if !there {
            if from_hub || self.images.perhaps_more {
                return None;
            }
            let known: Vec<&str> = self.images.there.iter().map(String::as_str).collect();
            let or_hub = if hub.is_empty() {
                tr!("and no `hub` is set")
            } else {
                tr!("and it is not from the registry in `hub`")
            };
            return Some(tr!(
                "image {image} is neither in the bundle nor in a tarball of `images`, {or_hub}; \
                 write a tarball with `docker save -o FILE {image}` and add it to `images` of the \
                 workload, or use one of: {}",
                known.join(", "),
                image = format_args!("{image:?}"),
                or_hub
            ));
        }
        // With policy Always, the kubelet pulls from a registry at every start.
        let pulls = policy.unwrap_or(if full.ends_with(":latest") {
            "Always"
        } else {
            "IfNotPresent"
        });
        (pulls == "Always" && !from_hub).then(|| {
            tr!(
                "image {image} is on the nodes, but the kubelet would still pull it from a \
                 registry; set `imagePullPolicy: IfNotPresent`, or use another tag than latest",
                image = format_args!("{image:?}")
            )
        })
    }
}

/// All containers in the object, at any depth.
fn find_containers<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| find_containers(item, found)),
        Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_array() {
                    Some(items) if matches!(name.as_str(), "containers" | "initContainers") => {
                        found.extend(items);
                    }
                    _ => find_containers(field, found),
                }
            }
        }
        _ => {}
    }
}

/// An image's full reference, with the parts that docker adds by itself.
fn in_full(reference: &str) -> String {
    let (repository, tag) = match reference.rsplit_once('/') {
        Some((path, last)) => (Some(path), last),
        None => (None, reference),
    };
    let first = reference.split('/').next().unwrap_or_default();
    let has_host = repository.is_some() && (first.contains(['.', ':']) || first == "localhost");
    let prefix = match (repository, has_host) {
        (Some(_), true) => "",
        (Some(_), false) => "docker.io/",
        (None, _) => "docker.io/library/",
    };
    let suffix = if tag.contains([':', '@']) {
        ""
    } else {
        ":latest"
    };
    format!("{prefix}{reference}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::in_full;

    #[test]
    fn a_reference_in_full_is_what_docker_makes_of_it() {
        for (short, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("a/b:1", "docker.io/a/b:1"),
            ("hub:5000/a", "hub:5000/a:latest"),
            ("localhost/a@sha256:0", "localhost/a@sha256:0"),
            ("docker.io/library/nginx", "docker.io/library/nginx:latest"),
        ] {
            assert_eq!(in_full(short), full);
        }
    }
}

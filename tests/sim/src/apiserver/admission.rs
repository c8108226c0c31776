//! The changes and checks of objects before they are stored, by kind.

use anyhow::Result;
use serde_json::{Value, json};

use crate::etcd::Store;
use crate::flags::Flags;
use crate::kinds::Kind;
use crate::server::Response;

use super::services::Ranges;
use super::{answers, pods};

/// The settings of objects from the flags.
#[derive(Clone)]
pub struct Rules {
    /// The ranges of services' addresses and ports.
    pub ranges: Ranges,
    accounts: bool,
    policies: bool,
    privileged: bool,
}

impl Rules {
    /// From the flags.
    ///
    /// # Errors Invalid ranges.
    pub fn read(flags: &Flags) -> Result<Self> {
        Ok(Self {
            ranges: Ranges::read(flags)?,
            accounts: flags.list("admission-control").contains(&"ServiceAccount"),
            policies: flags
                .list("admission-control")
                .contains(&"PodSecurityPolicy"),
            privileged: flags.boolean("allow-privileged", false),
        })
    }

    /// Completes and checks a new object.
    ///
    /// # Errors
    /// etcd does not answer.
    pub fn admit(
        &self,
        store: &Store,
        kind: &Kind,
        mut object: Value,
    ) -> Result<Result<Value, Response>> {
        let name = text(&object["metadata"]["name"]);
        if let Some(refusal) = namespace(store, kind, &object)? {
            return Ok(Err(refusal));
        }
        if kind.has_generation() {
            object["metadata"]["generation"] = json!(1);
        }
        if let Err(problem) = self.check(kind, &mut object) {
            return Ok(Err(answers::invalid(kind, &name, &problem)));
        }
        match kind.resource {
            "services" => self.ranges.complete(store, None, object),
            "pods" => {
                pods::begin(&mut object);
                if self.accounts {
                    return pods::account(store, object);
                }
                Ok(Ok(object))
            }
            _ => Ok(Ok(object)),
        }
    }

    /// Whether a policy must allow a new object of this kind.
    pub fn asks_policies(&self, kind: &Kind) -> bool {
        self.policies && kind.resource == "pods"
    }

    /// Completes and checks the new state of the object `old`.
    ///
    /// # Errors etcd does not answer.
    pub fn amend(
        &self,
        store: &Store,
        kind: &Kind,
        old: &Value,
        mut object: Value,
    ) -> Result<Result<Value, Response>> {
        let name = text(&object["metadata"]["name"]);
        let mut problem = self.check(kind, &mut object).err();
        if kind.resource == "pods" {
            problem = problem.or_else(|| pods::amend(old, &mut object).err());
        }
        if kind.resource == "pods" || kind.resource == "namespaces" {
            let dies = &old["metadata"]["deletionTimestamp"];
            if !dies.is_null() {
                object["metadata"]["deletionTimestamp"] = dies.clone();
            }
        }
        if old["spec"]["selector"] != object["spec"]["selector"]
            && kind.version != "v1beta1"
            && kind.group == "apps"
        {
            problem = Some(format!(
                "spec.selector: Invalid value: {}: field is immutable",
                object["spec"]["selector"]
            ));
        }
        if let Some(problem) = problem {
            return Ok(Err(answers::invalid(kind, &name, &problem)));
        }
        if kind.has_generation() {
            let before = old["metadata"]["generation"].as_u64().unwrap_or(1);
            let changed = u64::from(old["spec"] != object["spec"]);
            object["metadata"]["generation"] = json!(before + changed);
        }
        match kind.resource {
            "services" => self.ranges.complete(store, Some(old), object),
            _ => Ok(Ok(object)),
        }
    }

    fn check(&self, kind: &Kind, object: &mut Value) -> Result<(), String> {
        let name = text(&object["metadata"]["name"]);
        match kind.resource {
            "pods" => pods::complete(&mut object["spec"], "spec", self.privileged),
            "deployments" | "daemonsets" | "replicasets" => self.workload(kind, object),
            "namespaces" if !pods::is_label(&name) => Err(format!(
                "metadata.name: Invalid value: {name:?}: {}",
                pods::LABEL
            )),
            "services" if !is_service_name(&name) => {
                let rule = "a DNS-1035 label must consist of lower case alphanumeric characters \
                    or '-', start with an alphabetic character, and end with an alphanumeric \
                    character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
                    '[a-z]([-a-z0-9]*[a-z0-9])?')";
                Err(format!("metadata.name: Invalid value: {name:?}: {rule}"))
            }
            "networkpolicies" if !object["spec"]["podSelector"].is_object() => {
                Err("spec.podSelector: Required value".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn workload(&self, kind: &Kind, object: &mut Value) -> Result<(), String> {
        let spec = &mut object["spec"];
        let labels = spec["template"]["metadata"]["labels"].clone();
        if kind.resource != "daemonsets" {
            if spec["replicas"].is_null() {
                spec["replicas"] = json!(1);
            }
            if spec["replicas"].as_u64().is_none() {
                return Err(format!(
                    "spec.replicas: Invalid value: {}: must be greater than or equal to 0",
                    spec["replicas"]
                ));
            }
        }
        // Only the first versions used the labels of the template as the selector.
        if kind.version == "v1beta1" && spec["selector"].is_null() && labels.is_object() {
            spec["selector"] = json!({"matchLabels": labels});
        }
        let selector = spec["selector"].clone();
        let wanted = selector["matchLabels"].as_object();
        if wanted.is_none_or(serde_json::Map::is_empty)
            && selector["matchExpressions"]
                .as_array()
                .is_none_or(Vec::is_empty)
        {
            return Err("spec.selector: Required value".to_owned());
        }
        if wanted
            .into_iter()
            .flatten()
            .any(|(name, value)| labels[name] != *value)
        {
            return Err(format!(
                "spec.template.metadata.labels: Invalid value: {labels}: `selector` does not \
                 match template `labels`"
            ));
        }
        let path = "spec.template.spec";
        pods::complete(&mut spec["template"]["spec"], path, self.privileged)?;
        if spec["template"]["spec"]["restartPolicy"] != "Always" {
            let found = &spec["template"]["spec"]["restartPolicy"];
            return Err(format!(
                "{path}.restartPolicy: Unsupported value: {found}: supported values: \"Always\""
            ));
        }
        Ok(())
    }
}

/// The refusal of an object whose namespace does not exist or is being deleted.
fn namespace(store: &Store, kind: &Kind, object: &Value) -> Result<Option<Response>> {
    if !kind.namespaced {
        return Ok(None);
    }
    let namespace = text(&object["metadata"]["namespace"]);
    let name = text(&object["metadata"]["name"]);
    let Some(entry) = store.get(&format!("/namespaces/{namespace}"))? else {
        let message = format!("namespaces {namespace:?} not found");
        return Ok(Some(answers::status(404, "NotFound", &message)));
    };
    let found: Value = serde_json::from_slice(&entry.value)?;
    if found["status"]["phase"] == "Terminating" {
        let message = format!(
            "{} {name:?} is forbidden: unable to create new content in namespace {namespace} \
             because it is being terminated.",
            kind.full_resource()
        );
        return Ok(Some(answers::status(403, "Forbidden", &message)));
    }
    Ok(None)
}

fn is_service_name(name: &str) -> bool {
    pods::is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

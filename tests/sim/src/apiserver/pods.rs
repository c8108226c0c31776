//! Pods as the server stores them: missing parts are added, invalid pods are refused.

use anyhow::Result;
use serde_json::{Value, json};

use crate::etcd::Store;
use crate::lifecycle;
use crate::server::Response;

use super::answers;

/// The path of a service account's token in every container.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The place of a pod's containers in its spec.
const LISTS: [&str; 2] = ["initContainers", "containers"];

/// Completes and checks a pod's spec, which is at `path` in its object.
///
/// # Errors The problem with it, in the words of the real server.
pub fn complete(spec: &mut Value, path: &str, privileged: bool) -> Result<(), String> {
    for (member, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("schedulerName", json!("default-scheduler")),
    ] {
        if spec[member].is_null() {
            spec[member] = value;
        }
    }
    let known = |member: &str, values: &[&str]| {
        let found = spec[member].as_str().unwrap_or_default();
        if values.contains(&found) {
            return Ok(());
        }
        Err(format!("{path}.{member}: Unsupported value: {found:?}"))
    };
    known("restartPolicy", &["Always", "OnFailure", "Never"])?;
    known(
        "dnsPolicy",
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default"],
    )?;
    if spec["containers"].as_array().is_none_or(Vec::is_empty) {
        return Err(format!("{path}.containers: Required value"));
    }
    let volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
    let host = spec["hostNetwork"] == true;
    for list in LISTS {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for (index, container) in containers.into_iter().flatten().enumerate() {
            let path = format!("{path}.{list}[{index}]");
            container_of(container, &path, &volumes, privileged)?;
            for port in container
                .get_mut("ports")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                if host && port["hostPort"].is_null() {
                    port["hostPort"] = port["containerPort"].clone();
                }
            }
        }
    }
    Ok(())
}

fn container_of(
    container: &mut Value,
    path: &str,
    volumes: &[Value],
    privileged: bool,
) -> Result<(), String> {
    let name = container["name"].as_str().unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err(format!("{path}.name: Required value"));
    }
    if !is_label(&name) {
        return Err(format!("{path}.name: Invalid value: {name:?}: {LABEL}"));
    }
    let image = container["image"].as_str().unwrap_or_default().to_owned();
    if image.is_empty() {
        return Err(format!("{path}.image: Required value"));
    }
    if container["imagePullPolicy"].is_null() {
        let last = image.rsplit('/').next().unwrap_or_default();
        let latest = !last.contains(':') || last.ends_with(":latest");
        container["imagePullPolicy"] = json!(if latest { "Always" } else { "IfNotPresent" });
    }
    if container["securityContext"]["privileged"] == true && !privileged {
        return Err(format!(
            "{path}.securityContext.privileged: Forbidden: disallowed by cluster policy"
        ));
    }
    let mounts = container["volumeMounts"].as_array().into_iter().flatten();
    for (index, mount) in mounts.enumerate() {
        if !volumes.iter().any(|volume| volume["name"] == mount["name"]) {
            return Err(format!(
                "{path}.volumeMounts[{index}].name: Not found: {}",
                mount["name"]
            ));
        }
    }
    Ok(())
}

/// The characters of a DNS label, in the words of the real server.
pub const LABEL: &str = "a DNS-1123 label must consist of lower case alphanumeric characters or \
    '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', \
    regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

/// Whether a text is a DNS label.
pub fn is_label(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 63
        && text.starts_with(plain)
        && text.ends_with(plain)
        && text.chars().all(|c| plain(c) || c == '-')
}

/// A new pod's first status.
pub fn begin(pod: &mut Value) {
    pod["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
}

/// Gives a pod its service account and the account's token, as the admission plugin
/// `ServiceAccount` does.
///
/// # Errors
/// etcd does not answer.
pub fn account(store: &Store, mut pod: Value) -> Result<Result<Value, Response>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (name, namespace) = (
        text(&pod["metadata"]["name"]),
        text(&pod["metadata"]["namespace"]),
    );
    let spec = &mut pod["spec"];
    let mut account = text(&spec["serviceAccountName"]);
    if account.is_empty() {
        account = text(&spec["serviceAccount"]);
    }
    if account.is_empty() {
        account = "default".to_owned();
    }
    spec["serviceAccountName"] = json!(account);
    spec["serviceAccount"] = json!(account);
    let refused = |what: String| {
        let message = format!("pods {name:?} is forbidden: {what}");
        Ok(Err(answers::status(403, "Forbidden", &message)))
    };
    let Some(entry) = store.get(&format!("/serviceaccounts/{namespace}/{account}"))? else {
        return refused(format!(
            "error looking up service account {namespace}/{account}: serviceaccount {account:?} \
             not found"
        ));
    };
    let found: Value = serde_json::from_slice(&entry.value)?;
    if spec["automountServiceAccountToken"] == false
        || (spec["automountServiceAccountToken"].is_null()
            && found["automountServiceAccountToken"] == false)
    {
        return Ok(Ok(pod));
    }
    let Some(secret) = found["secrets"][0]["name"].as_str() else {
        return refused(format!(
            "no API token found for service account {account:?}, retry after the token is \
             automatically created and added to the service account"
        ));
    };
    mount(spec, secret);
    Ok(Ok(pod))
}

fn mount(spec: &mut Value, secret: &str) {
    let mut used = false;
    for list in LISTS {
        for container in containers(spec, list) {
            let mounts = push_into(&mut container["volumeMounts"]);
            if mounts.iter().any(|mount| mount["mountPath"] == TOKEN) {
                continue;
            }
            used = true;
            mounts.push(json!({"name": secret, "readOnly": true, "mountPath": TOKEN}));
        }
    }
    if used {
        let volume = json!({"name": secret, "secret": {"secretName": secret, "defaultMode": 420}});
        push_into(&mut spec["volumes"]).push(volume);
    }
}

fn containers<'a>(spec: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    let list = spec.get_mut(list).and_then(Value::as_array_mut);
    list.into_iter().flatten()
}

fn push_into(list: &mut Value) -> &mut Vec<Value> {
    if !list.is_array() {
        *list = json!([]);
    }
    match list {
        Value::Array(items) => items,
        _ => unreachable!("it was made a list"),
    }
}

/// A changed pod: only its images may differ.
///
/// # Errors The problem with the change.
pub fn amend(old: &Value, new: &mut Value) -> Result<(), String> {
    let rest = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for list in LISTS {
            for container in containers(&mut spec, list) {
                container["image"] = Value::Null;
                container["imagePullPolicy"] = Value::Null;
            }
        }
        for member in ["activeDeadlineSeconds", "tolerations"] {
            spec[member] = Value::Null;
        }
        spec
    };
    if !covers(&rest(new), &rest(old)) {
        return Err(
            "spec: Forbidden: pod updates may not change fields other than \
             `spec.containers[*].image`, `spec.initContainers[*].image`, \
             `spec.activeDeadlineSeconds` or `spec.tolerations` (only additions to existing \
             tolerations)"
                .to_owned(),
        );
    }
    let mut spec = old["spec"].clone();
    for list in LISTS {
        let containers = spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten();
        for (index, container) in containers.enumerate() {
            if new["spec"][list][index]["image"].is_string() {
                container["image"] = new["spec"][list][index]["image"].clone();
            }
        }
    }
    new["spec"] = spec;
    Ok(())
}

/// Whether everything in `wanted` is also in `found`. A list may be shorter than the one that the
/// server made of it.
fn covers(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), _) => wanted
            .iter()
            .all(|(name, value)| value.is_null() || covers(value, &found[name])),
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() <= found.len() && wanted.iter().zip(found).all(|(w, f)| covers(w, f))
        }
        _ => wanted == found,
    }
}

/// Binds a pod to a node.
///
/// # Errors The pod is bound already.
pub fn bind(pod: &mut Value, node: &str) -> Result<(), String> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    if let Some(bound) = pod["spec"]["nodeName"].as_str() {
        return Err(format!(
            "Operation cannot be fulfilled on pods/binding {name:?}: pod {name} is already \
             assigned to node {bound:?}"
        ));
    }
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return Err(format!(
            "Operation cannot be fulfilled on pods/binding {name:?}: pod {name} is being deleted, \
             cannot be assigned to a host"
        ));
    }
    pod["spec"]["nodeName"] = json!(node);
    let others = pod["status"]["conditions"].as_array().into_iter().flatten();
    let mut conditions: Vec<Value> = others
        .filter(|condition| condition["type"] != "PodScheduled")
        .cloned()
        .collect();
    conditions.push(json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": lifecycle::now(),
    }));
    pod["status"]["conditions"] = json!(conditions);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_completed_or_refused() {
        let complete = |mut spec: Value| complete(&mut spec, "spec", false).map(|()| spec);
        let made = complete(json!({"containers": [{"name": "a", "image": "r:5000/b"}]}));
        let made = made.unwrap_or_default();
        assert_eq!(made["restartPolicy"], "Always");
        assert_eq!(made["containers"][0]["imagePullPolicy"], "Always");
        let problem = |spec: Value| complete(spec).err().unwrap_or_default();
        assert!(problem(json!({})).contains("spec.containers: Required"));
        let container = |more: Value| {
            let mut container = json!({"name": "a", "image": "b:1"});
            container[more[0].as_str().unwrap_or_default()] = more[1].clone();
            problem(json!({"containers": [container]}))
        };
        assert_eq!(container(json!(["ports", []])), "");
        assert!(container(json!(["name", "A_b"])).contains("DNS-1123"));
        assert!(container(json!(["volumeMounts", [{"name": "x"}]])).contains("Not found: \"x\""));
        assert!(
            container(json!(["securityContext", {"privileged": true}])).contains("cluster policy")
        );
    }

    #[test]
    fn only_the_images_of_a_pod_change() {
        let pod = |image: &str, node: Value| json!({"spec": {"nodeName": node, "containers": [{"name": "a", "image": image}]}});
        let old = pod("a", json!("n"));
        let mut new = pod("b", json!(null));
        assert_eq!(amend(&old, &mut new), Ok(()));
        assert_eq!(new, pod("b", json!("n")));
        assert!(amend(&old, &mut pod("a", json!("m"))).is_err());
    }

    #[test]
    fn a_pod_is_bound_once() {
        let mut pod = json!({"metadata": {"name": "p"}, "status": {}});
        assert!(bind(&mut pod, "n").is_ok());
        assert_eq!(pod["status"]["conditions"][0]["type"], "PodScheduled");
        assert!(bind(&mut pod, "m").is_err());
    }
}

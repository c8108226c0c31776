//! The environment of a container.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::settings::Settings;
use super::volumes;

/// The variables of a container, by name: first those of existing services, then those of the
/// container's spec.
///
/// # Errors A reference to a missing object.
pub fn of(
    settings: &Settings,
    pod: &Value,
    ip: &str,
    container: &Value,
) -> Result<BTreeMap<String, String>> {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
    let services = settings.api.list("/api/v1/services")?;
    let mut all = of_services(&services, namespace);
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap_or_default().to_owned();
        let from = &variable["valueFrom"];
        let value = if from.is_object() {
            let found = referred(settings, pod, ip, from);
            found.with_context(|| format!("the variable {name}"))?
        } else {
            let text = variable["value"].as_str().unwrap_or_default();
            Some(expand(text, &all))
        };
        if let Some(value) = value {
            all.insert(name, value);
        }
    }
    Ok(all)
}

/// The variables of the services of a namespace, and of the API.
fn of_services(services: &[Value], namespace: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for service in services {
        let (metadata, spec) = (&service["metadata"], &service["spec"]);
        let is_api = metadata["name"] == "kubernetes" && metadata["namespace"] == "default";
        let address = spec["clusterIP"]
            .as_str()
            .filter(|address| *address != "None");
        let (Some(address), Some(first)) = (address, spec["ports"][0]["port"].as_u64()) else {
            continue;
        };
        if metadata["namespace"] != namespace && !is_api {
            continue;
        }
        let upper = |text: &str| text.to_uppercase().replace('-', "_");
        let name = upper(metadata["name"].as_str().unwrap_or_default());
        all.insert(format!("{name}_SERVICE_HOST"), address.to_owned());
        all.insert(format!("{name}_SERVICE_PORT"), first.to_string());
        for port in spec["ports"].as_array().into_iter().flatten() {
            if let (Some(label), Some(number)) = (port["name"].as_str(), port["port"].as_u64()) {
                let label = upper(label);
                all.insert(format!("{name}_SERVICE_PORT_{label}"), number.to_string());
            }
        }
    }
    all
}

fn referred(settings: &Settings, pod: &Value, ip: &str, from: &Value) -> Result<Option<String>> {
    if let Some(path) = from["fieldRef"]["fieldPath"].as_str() {
        return field(settings, pod, ip, path).map(Some);
    }
    let (resource, reference) = if from["secretKeyRef"].is_object() {
        ("secrets", &from["secretKeyRef"])
    } else if from["configMapKeyRef"].is_object() {
        ("configmaps", &from["configMapKeyRef"])
    } else {
        bail!("the stand-in knows only fieldRef, secretKeyRef and configMapKeyRef");
    };
    let text = |member: &str| reference[member].as_str().unwrap_or_default();
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
    let (name, key) = (text("name"), text("key"));
    let path = format!("/api/v1/namespaces/{namespace}/{resource}/{name}");
    let reply = settings.api.get(&path)?;
    let value = if reply.status == 404 {
        None
    } else {
        volumes::data(&reply.json()?)?.remove(key)
    };
    match value {
        Some(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        None if reference["optional"] == true => Ok(None),
        None if reply.status == 404 => bail!("{resource} {name:?} not found"),
        None => bail!("couldn't find key {key} in {resource} {namespace}/{name}"),
    }
}

fn field(settings: &Settings, pod: &Value, ip: &str, path: &str) -> Result<String> {
    let host = settings.address.map(|address| address.to_string());
    let found = match path {
        "metadata.name"
        | "metadata.namespace"
        | "metadata.uid"
        | "spec.nodeName"
        | "spec.serviceAccountName" => {
            let value = path.split('.').fold(pod, |value, part| &value[part]);
            value.as_str().map(str::to_owned)
        }
        "status.podIP" => Some(ip.to_owned()),
        "status.hostIP" => host,
        _ => None,
    };
    found.with_context(|| format!("field {path:?} is not supported or not known"))
}

/// Replaces `$(NAME)` by variables; `$$(NAME)` becomes `$(NAME)`, and unknown names stay as they
/// are.
pub fn expand(text: &str, all: &BTreeMap<String, String>) -> String {
    let mut made = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        made.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            made.push('$');
            rest = after;
            continue;
        }
        let name = rest
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'));
        match name.and_then(|(name, after)| Some((all.get(name)?, after))) {
            Some((value, after)) => {
                made.push_str(value);
                rest = after;
            }
            None => made.push('$'),
        }
    }
    made + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_are_expanded_as_the_api_says() {
        let all = BTreeMap::from([("A".to_owned(), "x".to_owned())]);
        for (text, expected) in [
            ("a $(A) b", "a x b"),
            ("$(A)$(A)", "xx"),
            ("$$(A)", "$(A)"),
            ("$(B) $A $", "$(B) $A $"),
        ] {
            assert_eq!(expand(text, &all), expected, "{text}");
        }
    }

    #[test]
    fn services_of_the_namespace_and_the_api_are_told() {
        let service = |namespace: &str, name: &str| {
            json!({
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"clusterIP": "10.68.0.1", "ports": [{"name": "https", "port": 443}]},
            })
        };
        let services = [
            service("default", "kubernetes"),
            service("a", "my-s"),
            service("b", "o"),
        ];
        let all = of_services(&services, "a");
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "KUBERNETES_SERVICE_HOST",
                "KUBERNETES_SERVICE_PORT",
                "KUBERNETES_SERVICE_PORT_HTTPS",
                "MY_S_SERVICE_HOST",
                "MY_S_SERVICE_PORT",
                "MY_S_SERVICE_PORT_HTTPS",
            ]
        );
    }
}

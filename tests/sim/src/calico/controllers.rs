//! calico/kube-controllers: copies the API's network policies to etcd, where the real Felix would
//! find them. It leaves out the peers and ports that a rule allows.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::datastore::{Datastore, variable};
use crate::client::Client;
use crate::program::usage;
use crate::{kubeconfig, lifecycle, tls};

const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const LIST: &str = "/apis/networking.k8s.io/v1/networkpolicies";
const POLICIES: &str = "/calico/v1/policy/tier/default/policy";
/// The prefix of the names of policies from the API.
const PREFIX: &str = "knp.default.";
/// All controllers of v1.0.0.
const CONTROLLERS: [&str; 3] = ["policy", "profile", "workloadendpoint"];
const PERIOD: Duration = Duration::from_secs(3);

/// Runs until it is stopped.
///
/// # Errors An environment with which the real program would not run, or missing files.
pub fn run(arguments: &[String]) -> Result<()> {
    if let Some(argument) = arguments.first() {
        return Err(usage(format!("unexpected argument {argument:?}")));
    }
    let enabled = variable("ENABLED_CONTROLLERS").unwrap_or(CONTROLLERS.join(","));
    for name in enabled.split(',') {
        if !CONTROLLERS.contains(&name) {
            bail!("Invalid controller '{name}' provided in ENABLED_CONTROLLERS");
        }
    }
    let mirrors = enabled.split(',').any(|name| name == "policy");
    let store = Datastore::of_environment()?;
    let api = api()?;
    lifecycle::run_until_stopped(move || {
        let mut failure = String::new();
        loop {
            let said = match synchronize(&store, &api, mirrors) {
                Ok(()) => "in sync".to_owned(),
                Err(error) => format!("{error:#}; trying again"),
            };
            if said != failure {
                eprintln!("{said}");
                failure = said;
            }
            thread::sleep(PERIOD);
        }
    })
}

/// The API that a kubeconfig, `K8S_API` or the pod's own environment names.
fn api() -> Result<Client> {
    if let Some(path) = variable("KUBECONFIG") {
        return kubeconfig::client(path.as_ref()).context("KUBECONFIG");
    }
    let host = variable("KUBERNETES_SERVICE_HOST");
    let port = variable("KUBERNETES_SERVICE_PORT").unwrap_or("443".to_owned());
    let own = host.map(|host| format!("https://{host}:{port}"));
    let server = match variable("K8S_API") {
        // With CONFIGURE_ETC_HOSTS, the real one writes this name into its /etc/hosts.
        Some(url) if url.contains("//kubernetes.default") => {
            if variable("CONFIGURE_ETC_HOSTS").as_deref() != Some("true") {
                bail!("K8S_API: {url} needs CONFIGURE_ETC_HOSTS=true: the stand-in asks no DNS");
            }
            own.context("KUBERNETES_SERVICE_HOST is not set: this is not a pod")?
        }
        Some(url) => url,
        None => own.context("neither K8S_API nor KUBERNETES_SERVICE_HOST is set")?,
    };
    if server.starts_with("http://") {
        return Client::plain(&server).context("K8S_API");
    }
    let file = |name: &str| {
        let path = Path::new(ACCOUNT).join(name);
        std::fs::read(&path).with_context(|| path.display().to_string())
    };
    let authorities = tls::authorities(crate::keys::certificates_in(&file("ca.crt")?)?)?;
    let token = String::from_utf8(file("token")?).context("the token is not text")?;
    let config = tls::client(Some(authorities), None)?;
    Client::new(&server, config, Some(token.trim().to_owned())).context("K8S_API")
}

fn synchronize(store: &Datastore, api: &Client, mirrors: bool) -> Result<()> {
    store.get("/calico/v1/Ready")?;
    let list = api.list(LIST)?;
    if !mirrors {
        return Ok(());
    }
    let wanted: BTreeMap<String, String> = list.iter().filter_map(policy).collect();
    let mut found = store.tree(POLICIES)?;
    found.retain(|leaf| leaf.key.starts_with(&format!("{POLICIES}/{PREFIX}")));
    for leaf in &found {
        if !wanted.contains_key(&leaf.key) {
            store.delete(&leaf.key)?;
        }
    }
    for (key, value) in &wanted {
        let same = |leaf: &&super::datastore::Leaf| &leaf.key == key && &leaf.value == value;
        if !found.iter().any(|leaf| same(&leaf)) {
            store.put(key, value)?;
        }
    }
    Ok(())
}

/// The key and the value of a policy.
fn policy(object: &Value) -> Option<(String, String)> {
    let namespace = object["metadata"]["namespace"].as_str()?;
    let name = object["metadata"]["name"].as_str()?;
    let spec = &object["spec"];
    let labels = spec["podSelector"]["matchLabels"].as_object();
    let labels = labels.into_iter().flatten();
    let selected: String = labels
        .filter_map(|(key, value)| Some(format!(" && {key} == '{}'", value.as_str()?)))
        .collect();
    let rules = |field: &str| {
        let rules = spec[field].as_array().map_or(0, Vec::len);
        vec![json!({"action": "allow"}); rules]
    };
    let types = spec["policyTypes"].as_array().cloned();
    let types = types.unwrap_or_else(|| vec![json!("Ingress")]);
    let types = types.iter().filter_map(Value::as_str);
    let value = json!({
        "order": 1000,
        "selector": format!("calico/k8s_ns == '{namespace}'{selected}"),
        "types": types.map(str::to_lowercase).collect::<Vec<_>>(),
        "inbound_rules": rules("ingress"),
        "outbound_rules": rules("egress"),
    });
    let key = format!("{POLICIES}/{PREFIX}{namespace}.{name}");
    Some((key, value.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_policy_selects_its_namespaces_pods() {
        let (key, value) = policy(&json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{}]},
        }))
        .unwrap();
        assert_eq!(
            key,
            "/calico/v1/policy/tier/default/policy/knp.default.shop.web"
        );
        let value: Value = serde_json::from_str(&value).unwrap();
        assert_eq!(value["selector"], "calico/k8s_ns == 'shop' && app == 'web'");
        assert_eq!(value["types"], json!(["ingress"]));
        assert_eq!(value["inbound_rules"], json!([{"action": "allow"}]));
        assert_eq!(value["outbound_rules"], json!([]));
    }
}

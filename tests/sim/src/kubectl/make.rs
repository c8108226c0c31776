//! `run`, `expose`, `create namespace` and `create service`: objects made from a command line.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::kinds::Kind;

use super::command::{Command, accepted};
use super::{get, write};

fn make(command: &Command, object: &Value, done: &str) -> Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = Kind::of(&text(&object["apiVersion"]), &text(&object["kind"]));
    let kind = kind.context("an object of an unknown kind")?;
    let path = kind.path(Some(command.namespace()), None);
    accepted(command.send(|client| client.post(&path, object))?)?;
    write::tell(command, kind, &text(&object["metadata"]["name"]), done);
    Ok(())
}

/// `create namespace NAME`.
///
/// # Errors The server does not accept it.
pub fn namespace(command: &Command, name: &str) -> Result<()> {
    let object = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}});
    make(command, &object, "created")
}

/// `create service clusterip NAME --tcp=PORT`, with `--clusterip=None` if it has no address.
///
/// # Errors No port, or a server that does not accept the object.
pub fn service(command: &Command, name: &str) -> Result<()> {
    let Some(port) = number(command, "--tcp")? else {
        bail!("error: at least one tcp port specifier must be provided");
    };
    let labels = json!({"app": name});
    let mut object = json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "selector": labels, "type": "ClusterIP",
            "ports": [{"name": port.to_string(), "port": port, "targetPort": port, "protocol": "TCP"}],
        },
    });
    if let Some(address) = command.option("--clusterip") {
        object["spec"]["clusterIP"] = json!(address);
    }
    make(command, &object, "created")
}

fn number(command: &Command, option: &str) -> Result<Option<u64>> {
    let stated = command.option(option).map(str::parse).transpose();
    stated.with_context(|| format!("error: invalid argument for {option}"))
}

/// `run NAME --image=IMAGE`: a deployment, or with `--restart=Never` a pod.
///
/// # Errors No image, or a server that does not accept the object.
pub fn run(command: &Command, name: &str) -> Result<()> {
    let Some(image) = command.option("--image") else {
        bail!("error: --image is required");
    };
    let mut labels = json!({"run": name});
    if let Some(stated) = command.option("--labels") {
        labels = json!({});
        for pair in stated.split(',') {
            let (label, value) = pair
                .split_once('=')
                .context("error: unexpected label spec")?;
            labels[label] = json!(value);
        }
    }
    let mut container = json!({"name": name, "image": image});
    if let Some(port) = number(command, "--port")? {
        container["ports"] = json!([{"containerPort": port}]);
    }
    if let Some(policy) = command.option("--image-pull-policy") {
        container["imagePullPolicy"] = json!(policy);
    }
    let variables = command
        .options("--env")
        .filter_map(|pair| pair.split_once('='));
    let variables: Vec<Value> = variables
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    if !variables.is_empty() {
        container["env"] = json!(variables);
    }
    if !command.rest.is_empty() {
        let is_command = command.option("--command") == Some("true");
        container[if is_command { "command" } else { "args" }] = json!(command.rest);
    }
    let metadata = json!({"name": name, "labels": labels});
    let object = match command.option("--restart").unwrap_or("Always") {
        "Always" => json!({
            "kind": "Deployment", "apiVersion": "apps/v1beta1", "metadata": metadata,
            "spec": {
                "replicas": number(command, "--replicas")?.unwrap_or(1),
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        }),
        "Never" => json!({
            "kind": "Pod", "apiVersion": "v1", "metadata": metadata,
            "spec": {"restartPolicy": "Never", "containers": [container]},
        }),
        other => bail!("error: the stand-in runs nothing with --restart={other}"),
    };
    make(command, &object, "created")
}

/// `expose KIND NAME --port=PORT`: a service for the pods of an object.
///
/// # Errors A missing object, one that selects no pods, or a server that does not accept the
/// service.
pub fn expose(command: &Command, wanted: &[&str]) -> Result<()> {
    let [(kind, Some(name))] = get::named(wanted)?[..] else {
        bail!("error: name one object");
    };
    let found = command
        .ask(&kind.path(Some(command.namespace()), Some(name)))?
        .json()?;
    let selector = match kind.resource {
        "pods" => &found["metadata"]["labels"],
        "services" => &found["spec"]["selector"],
        _ => &found["spec"]["selector"]["matchLabels"],
    };
    if !selector.is_object() {
        bail!("error: couldn't retrieve selectors via --selector flag or introspection");
    }
    let port = number(command, "--port")?.or_else(|| {
        let spec = &found["spec"];
        let pod = if kind.resource == "pods" {
            spec
        } else {
            &spec["template"]["spec"]
        };
        pod["containers"][0]["ports"][0]["containerPort"].as_u64()
    });
    let Some(port) = port else {
        bail!("error: couldn't find port via --port flag or introspection");
    };
    let target = command.option("--target-port");
    let target = target.map_or(json!(port), |text| {
        text.parse::<u64>()
            .map_or_else(|_| json!(text), |number| json!(number))
    });
    let object = json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {
            "name": command.option("--name").unwrap_or(name),
            "labels": found["metadata"]["labels"],
        },
        "spec": {
            "selector": selector, "type": command.option("--type").unwrap_or("ClusterIP"),
            "ports": [{
                "port": port, "targetPort": target,
                "protocol": command.option("--protocol").unwrap_or("TCP"),
            }],
        },
    });
    make(command, &object, "exposed")
}

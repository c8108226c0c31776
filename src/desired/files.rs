//! The content of every file of a node.

use core::net::Ipv4Addr;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    CURRENT, Content, DOCKER_OF_MACHINE, DOCKER_OF_PAYLOAD, File, HOSTS_FILE, MODULES_FILE,
    SYSCTL_FILE, Sources,
};
use crate::bundle::manifest::Kind;
use crate::components::{self, Runs, Service};
use crate::pki::Secret;
use crate::render::render;
use crate::spec::{Ipip, NodeSpec};

const CALICOCTL_CONFIG: &str = "/etc/calico/calicoctl.cfg";
const CNI_CONFIG: &str = "/etc/cni/net.d/10-calico.conf";

/// Every file, units last: what a unit reads is there before systemd can start it.
pub fn all(sources: &Sources<'_>, services: &[Service]) -> Result<Vec<File>> {
    let mut files = config_files(sources)?;
    files.extend(pki_files(sources));
    files.extend(kubeconfigs(sources)?);
    files.extend(units(sources, services)?);
    Ok(files)
}

fn public(path: &str, text: String) -> File {
    File {
        path: path.to_owned(),
        mode: 0o644,
        content: Content::Whole(text.into_bytes()),
    }
}

fn secret(path: &str, secret: Secret) -> File {
    File {
        path: path.to_owned(),
        mode: 0o600,
        content: Content::Secret(secret),
    }
}

/// The values every template may use.
fn values(sources: &Sources<'_>) -> Value {
    let spec = sources.spec;
    let cluster = &spec.cluster;
    let docker_dir = format!("{CURRENT}/docker");
    let docker = if sources.bundled_docker {
        DOCKER_OF_PAYLOAD
    } else {
        DOCKER_OF_MACHINE
    };
    json!({
        "bin": format!("{CURRENT}/bin"),
        "docker": docker,
        "docker_dir": docker_dir,
        "tls": spec.tls(),
        "scheme": spec.reach().scheme(),
        "ipip": *cluster.ipip != Ipip::Off,
        "pod_mtu": spec.pod_mtu(),
        "node": { "name": *spec.name, "address": spec.address.to_string() },
        "cluster": {
            "name": *cluster.name,
            "pod_cidr": cluster.pod_cidr.to_string(),
            "service_cidr": cluster.service_cidr.to_string(),
            "node_ports": cluster.node_ports.to_string(),
            "ipip": cluster.ipip.to_string(),
        },
        "hosts": hosts(spec),
    })
}

#[derive(Serialize)]
struct Host {
    name: String,
    address: String,
}

/// This node and the ones it is told of, sorted by name.
fn hosts(spec: &NodeSpec) -> Vec<Host> {
    let mut entries = spec.cluster.hosts.value.clone();
    entries.insert(spec.name.value.clone(), *spec.address);
    let host = |(name, address): (String, Ipv4Addr)| Host {
        name,
        address: address.to_string(),
    };
    entries.into_iter().map(host).collect()
}

fn with(mut values: Value, more: Value) -> Value {
    if let (Value::Object(values), Value::Object(more)) = (&mut values, more) {
        values.extend(more);
    }
    values
}

fn config_files(sources: &Sources<'_>) -> Result<Vec<File>> {
    let values = values(sources);
    let file = |path: &str, template: &str| {
        Ok::<_, anyhow::Error>(public(path, render(template, &values)?))
    };
    let hosts = File {
        path: HOSTS_FILE.to_owned(),
        mode: 0o644,
        content: Content::Block(render("config/hosts.block", &values)?),
    };
    Ok(vec![
        file(MODULES_FILE, "config/modules.conf")?,
        file(SYSCTL_FILE, "config/sysctl.conf")?,
        hosts,
        file(components::AUDIT_POLICY, "config/audit-policy.yaml")?,
        file(CALICOCTL_CONFIG, "config/calicoctl.cfg.yaml")?,
        file(CNI_CONFIG, "config/10-calico.json")?,
    ])
}

/// Keys before the certificates made for them: a run that is cut between the two finds
/// the key and makes the certificate again.
fn pki_files(sources: &Sources<'_>) -> Vec<File> {
    let Some(pki) = sources.pki else {
        return Vec::new();
    };
    let mut files = Vec::new();
    for issued in pki.issued() {
        files.push(secret(&issued.key_path, issued.key_pem.clone()));
        files.push(public(
            &issued.certificate_path,
            issued.certificate_pem.clone(),
        ));
    }
    let account = &pki.service_account;
    files.push(secret(&account.private_path, account.private_pem.clone()));
    files.push(public(&account.public_path, account.public_pem.clone()));
    files.extend(
        sources
            .tokens
            .map(|tokens| secret(components::TOKEN_FILE, tokens.clone())),
    );
    files
}

fn kubeconfigs(sources: &Sources<'_>) -> Result<Vec<File>> {
    let address = *sources.spec.address;
    let Some(pki) = sources.pki else {
        let server = format!("http://{address}:8080");
        return Ok(vec![kubeconfig(
            sources,
            components::ADMIN_KUBECONFIG,
            "admin",
            &server,
            json!({}),
        )?]);
    };
    let for_user = |path: &str, name: &str, server: String| -> Result<File> {
        let issued = pki
            .named(name)
            .with_context(|| format!("no certificate {name}"))?;
        let identity = json!({
            "authority": BASE64.encode(&pki.authority.certificate_pem),
            "certificate": BASE64.encode(&issued.certificate_pem),
            "key": BASE64.encode(issued.key_pem.expose()),
        });
        kubeconfig(sources, path, name, &server, identity)
    };
    let local = || "https://127.0.0.1:6443".to_owned();
    Ok(vec![
        for_user(
            components::ADMIN_KUBECONFIG,
            "admin",
            format!("https://{address}:6443"),
        )?,
        for_user(
            components::CONTROLLER_MANAGER_KUBECONFIG,
            "kube-controller-manager",
            local(),
        )?,
        for_user(components::SCHEDULER_KUBECONFIG, "kube-scheduler", local())?,
    ])
}

fn kubeconfig(
    sources: &Sources<'_>,
    path: &str,
    user: &str,
    server: &str,
    identity: Value,
) -> Result<File> {
    let values = with(
        with(values(sources), json!({ "user": user, "server": server })),
        identity,
    );
    Ok(secret(
        path,
        Secret::new(render("config/kubeconfig.yaml", &values)?.into_bytes()),
    ))
}

fn units(sources: &Sources<'_>, services: &[Service]) -> Result<Vec<File>> {
    let values = values(sources);
    let mut files = Vec::new();
    for service in services {
        let own = match service.runs {
            Runs::Program(name) => {
                let program = sources.manifest.require(Kind::Program, name)?;
                json!({ "arguments": program.arguments })
            }
            Runs::Image(name) => {
                let image = sources.manifest.require(Kind::Image, name)?;
                json!({ "image": image.reference })
            }
            Runs::Docker => json!({}),
        };
        if service.runs == Runs::Docker {
            files.push(public(
                components::DOCKER_DROP_IN,
                render("units/docker-forward.conf", &values)?,
            ));
            if !sources.bundled_docker {
                continue;
            }
        }
        let unit = render(&service.template(), &with(values.clone(), own))?;
        files.push(public(&service.unit_path(), unit));
    }
    Ok(files)
}

//! The container that holds a pod's network, and the network itself.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::cni::Attachment;
use super::container::{NAME, SANDBOX, labels, name};
use super::settings::Settings;

/// A pod's network.
pub struct Sandbox {
    /// The container that holds it.
    pub id: String,
    /// The pod's address.
    pub ip: String,
}

/// The sandboxes among a pod's containers.
pub fn is_one(container: &Value) -> bool {
    container["Labels"][NAME] == SANDBOX
}

/// The pod's network: the existing one, else a new one. A network that ended or is incomplete is
/// removed first, with all containers that used it.
///
/// # Errors Docker or a plugin fails.
pub fn ensure(settings: &Settings, pod: &Value, containers: &[Value]) -> Result<Sandbox> {
    let old: Vec<&Value> = containers.iter().filter(|one| is_one(one)).collect();
    if let [only] = &old[..]
        && only["State"] == "running"
        && let Some(ip) = address(settings, pod)
    {
        let id = only["Id"].as_str().unwrap_or_default().to_owned();
        return Ok(Sandbox { id, ip });
    }
    let attempt = old
        .iter()
        .filter_map(|one| super::status::restarts(one))
        .max();
    for container in containers.iter().filter(|one| !is_one(one)) {
        settings
            .docker
            .remove(container["Id"].as_str().unwrap_or_default())?;
    }
    for sandbox in old {
        remove(settings, pod, sandbox)?;
    }
    make(settings, pod, attempt.map_or(0, |attempt| attempt + 1))
}

fn on_host(pod: &Value) -> bool {
    pod["spec"]["hostNetwork"] == true
}

fn host_address(settings: &Settings) -> String {
    settings
        .address
        .map(|ip| ip.to_string())
        .unwrap_or_default()
}

fn uid(pod: &Value) -> &str {
    pod["metadata"]["uid"].as_str().unwrap_or_default()
}

/// The address that was recorded when the network was set up.
fn address(settings: &Settings, pod: &Value) -> Option<String> {
    if on_host(pod) {
        return Some(host_address(settings));
    }
    fs::read_to_string(settings.directory(uid(pod)).join("address")).ok()
}

fn make(settings: &Settings, pod: &Value, attempt: u64) -> Result<Sandbox> {
    let docker = &settings.docker;
    let directory = settings.directory(uid(pod));
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(&directory)
        .with_context(|| directory.display().to_string())?;
    if !docker.has_image(&settings.pause)? {
        let pulled = docker.pull(&settings.pause);
        pulled.with_context(|| format!("failed pulling image {:?}", settings.pause))?;
    }
    let mode = match &settings.network {
        _ if on_host(pod) => "host",
        Some(_) => "none",
        None => "default",
    };
    let hostname = pod["spec"]["hostname"].as_str();
    let hostname = hostname.or_else(|| pod["metadata"]["name"].as_str());
    let hostname: String = hostname.unwrap_or_default().chars().take(63).collect();
    let hostname = if on_host(pod) { "" } else { &hostname };
    let id = docker.create(
        &name(pod, SANDBOX, attempt),
        &json!({
            "Image": settings.pause, "Hostname": hostname,
            "Labels": labels(pod, SANDBOX, attempt),
            "HostConfig": {"NetworkMode": mode},
        }),
    )?;
    let made = docker.start(&id).and_then(|()| connect(settings, pod, &id));
    match made {
        Ok(ip) => Ok(Sandbox { id, ip }),
        Err(error) => {
            // Remove the rest before the next attempt.
            if let Err(left) = take_down(settings, pod, &id) {
                eprintln!("network of the failed sandbox {id}: {left:#}");
            }
            docker.remove(&id)?;
            Err(error)
        }
    }
}

fn connect(settings: &Settings, pod: &Value, id: &str) -> Result<String> {
    if on_host(pod) {
        return Ok(host_address(settings));
    }
    let ip = match &settings.network {
        Some(_) => attachment(settings, pod, id)?.add()?,
        None => {
            let found = settings.docker.inspect(id)?;
            let ip = found["NetworkSettings"]["IPAddress"].as_str();
            ip.context("docker returned no address")?.to_owned()
        }
    };
    fs::write(settings.directory(uid(pod)).join("address"), &ip)?;
    Ok(ip)
}

fn attachment<'a>(settings: &'a Settings, pod: &'a Value, id: &'a str) -> Result<Attachment<'a>> {
    let Some(network) = &settings.network else {
        bail!("no network plugin is used");
    };
    let found = settings.docker.inspect(id)?;
    let process = found["State"]["Pid"]
        .as_u64()
        .filter(|&process| process != 0);
    let text = |member: &str| pod["metadata"][member].as_str().unwrap_or_default();
    Ok(Attachment {
        network,
        container: id,
        namespace: process.map_or(String::new(), |process| format!("/proc/{process}/ns/net")),
        pod: (text("namespace"), text("name")),
    })
}

fn take_down(settings: &Settings, pod: &Value, id: &str) -> Result<()> {
    if settings.network.is_some() && !on_host(pod) {
        attachment(settings, pod, id)?.remove()?;
    }
    let written = settings.directory(uid(pod)).join("address");
    if written.exists() {
        fs::remove_file(written)?;
    }
    Ok(())
}

/// Removes a pod's network, and the container that held it.
///
/// # Errors Docker or a plugin fails.
pub fn remove(settings: &Settings, pod: &Value, sandbox: &Value) -> Result<()> {
    let id = sandbox["Id"].as_str().unwrap_or_default();
    // The plugin is not called for a pod in the host's network, even if only the sandbox of the pod
    // is left.
    let hosts = sandbox["HostConfig"]["NetworkMode"] == "host";
    if !hosts {
        take_down(settings, pod, id)?;
    }
    settings.docker.stop(id, 0)?;
    settings.docker.remove(id)
}

//! The stand-in for the kubelet: checks docker, serves its ports, keeps its node registered, and
//! runs the pods that are bound to it.

mod bootstrap;
mod cni;
mod container;
mod environment;
mod files;
mod kernel;
mod network;
mod node;
mod pod;
mod pods;
mod ports;
mod probes;
mod sandbox;
mod settings;
mod status;
mod volumes;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::client::Client;
use crate::docker::Docker;
use crate::flags::Flags;
use crate::server::Server;
use crate::{kubeconfig, lifecycle};
use bootstrap::Bootstrap;
use node::Node;
use ports::Ports;
use settings::Settings;

/// Runs until it is stopped.
///
/// # Errors Flags, files or a machine with which the real program would not run.
pub fn run(flags: &Flags) -> Result<()> {
    // With a bootstrap kubeconfig, the other one is written later; if the other one exists, the
    // bootstrap one is not read.
    flags.check_files(&["kubeconfig", "bootstrap-kubeconfig"])?;
    let name = node::name(flags)?;
    let api = api_client(flags, &name)?;
    let (docker, runtime) = check_machine(flags)?;
    let settings = Arc::new(Settings::read(flags, &name, &api, docker)?);
    let node = Node::read(flags, name.clone(), runtime)?;
    let ports = Ports::read(flags, &name, &api)?;
    lifecycle::run_until_stopped(move || {
        let server = Server::new()?;
        ports.listen(&server, &settings)?;
        std::thread::spawn(move || pods::keep(&settings));
        node.keep_registered(&api)
    })
}

/// The client of the kubelet, after a bootstrap if necessary.
fn api_client(flags: &Flags, node: &str) -> Result<Client> {
    let directory = Path::new(flags.text("cert-dir").unwrap_or("/var/lib/kubelet/pki"));
    let Some(path) = flags.text("kubeconfig").map(Path::new) else {
        bail!("no --kubeconfig: the stand-in runs no standalone kubelet");
    };
    if let Some(bootstrap) = flags.text("bootstrap-kubeconfig") {
        let bootstrap = Bootstrap {
            kubeconfig: path,
            bootstrap: Path::new(bootstrap),
            directory,
            node,
        };
        bootstrap.run().context("failed to run Kubelet")?;
    }
    // If a rotation wrote a certificate, use it instead of the one in the kubeconfig.
    let rotated = directory.join("kubelet-client-current.pem");
    let client = if flags.boolean("rotate-certificates", false) && rotated.exists() {
        kubeconfig::client_with(path, &rotated)
    } else {
        kubeconfig::client(path)
    };
    client.context("--kubeconfig")
}

/// Checks the requirements of the real kubelet. Returns the container runtime and its version.
fn check_machine(flags: &Flags) -> Result<(Docker, String)> {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    if flags.boolean("fail-swap-on", true) && swaps.lines().count() > 1 {
        bail!(
            "Running with swap on is not supported, please disable swap! or set \
             --fail-swap-on flag to false. /proc/swaps contained: {swaps}"
        );
    }
    if flags.boolean("protect-kernel-defaults", false) {
        kernel::check(Path::new("/proc/sys")).context("Failed to start ContainerManager")?;
    }
    match flags.text("container-runtime").unwrap_or("docker") {
        "docker" => {
            let endpoint = flags.text("docker-endpoint");
            let docker = Docker::new(endpoint.unwrap_or("unix:///var/run/docker.sock"))?;
            let version = docker.check(flags.text("cgroup-driver").unwrap_or("cgroupfs"))?;
            Ok((docker, version))
        }
        other => bail!("--container-runtime: the stand-in knows only docker, not {other:?}"),
    }
}

//! `sim components DIR` and `sim images DIR`: what a bundle is packed from.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::archive::Image;
use crate::program::usage;

const COMPONENTS: [&str; 10] = [
    "calico",
    "calico-ipam",
    "calicoctl",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
    "loopback",
];

const IMAGES: [Image; 7] = [
    Image {
        file: "calico-kube-controllers_v1.0.0.tar",
        repository: "quay.io/calico/kube-controllers",
        tag: "v1.0.0",
        program: "/usr/bin/kube-controllers",
        entrypoint: &["/usr/bin/kube-controllers"],
        command: &[],
    },
    Image {
        file: "calico-node_v2.6.2.tar",
        repository: "quay.io/calico/node",
        tag: "v2.6.2",
        program: "/sbin/start_runit",
        entrypoint: &[],
        command: &["start_runit"],
    },
    Image {
        file: "k8s-dns-dnsmasq-nanny-amd64_1.14.5.tar",
        repository: "gcr.io/google_containers/k8s-dns-dnsmasq-nanny-amd64",
        tag: "1.14.5",
        program: "/dnsmasq-nanny",
        entrypoint: &["/dnsmasq-nanny"],
        command: &[],
    },
    Image {
        file: "k8s-dns-kube-dns-amd64_1.14.5.tar",
        repository: "gcr.io/google_containers/k8s-dns-kube-dns-amd64",
        tag: "1.14.5",
        program: "/kube-dns",
        entrypoint: &["/kube-dns"],
        command: &[],
    },
    Image {
        file: "k8s-dns-sidecar-amd64_1.14.5.tar",
        repository: "gcr.io/google_containers/k8s-dns-sidecar-amd64",
        tag: "1.14.5",
        program: "/sidecar",
        entrypoint: &["/sidecar"],
        command: &[],
    },
    Image {
        file: "kubernetes-dashboard-amd64_v1.8.1.tar",
        repository: "gcr.io/google_containers/kubernetes-dashboard-amd64",
        tag: "v1.8.1",
        program: "/dashboard",
        entrypoint: &["/dashboard"],
        command: &[],
    },
    Image {
        file: "pause-amd64_3.0.tar",
        repository: "gcr.io/google_containers/pause-amd64",
        tag: "3.0",
        program: "/pause",
        entrypoint: &["/pause"],
        command: &[],
    },
];

/// Runs one command.
///
/// # Errors
/// Another command line, or a directory that cannot be written to.
pub fn run(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ["components" | "images", directory] = words[..] else {
        return Err(usage("usage: sim components DIR | sim images DIR"));
    };
    let directory = Path::new(directory);
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let own = std::env::current_exe().context("the running program")?;
    let program = fs::read(&own).with_context(|| own.display().to_string())?;
    if words[0] == "images" {
        return IMAGES
            .iter()
            .try_for_each(|image| image.write(directory, &program));
    }
    for name in COMPONENTS {
        let path = directory.join(name);
        fs::write(&path, &program)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

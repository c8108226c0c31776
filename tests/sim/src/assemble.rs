//! `sim components DIR` and `sim images DIR`: the components of a bundle; `sim services DIR`: the
//! images of the tutorial's own services.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::archive::{Extra, Image};
use crate::gather;
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

/// The image of one of the tutorial's own services, with its port.
macro_rules! example {
    ($name:literal, $port:literal) => {
        Image {
            file: concat!($name, ".tar"),
            repository: concat!("hub.example.org/micro-service/", $name),
            tag: "latest",
            program: concat!("/", $name),
            entrypoint: &[concat!("/", $name)],
            command: &[],
            environment: &[concat!("PORT=", $port)],
        }
    };
}

const IMAGES: [Image; 7] = [
    Image {
        file: "calico-kube-controllers_v1.0.0.tar",
        repository: "quay.io/calico/kube-controllers",
        tag: "v1.0.0",
        program: "/usr/bin/kube-controllers",
        entrypoint: &["/usr/bin/kube-controllers"],
        command: &[],
        environment: &[],
    },
    Image {
        file: "calico-node_v2.6.2.tar",
        repository: "quay.io/calico/node",
        tag: "v2.6.2",
        program: "/sbin/start_runit",
        entrypoint: &[],
        command: &["start_runit"],
        environment: &[],
    },
    Image {
        file: "k8s-dns-dnsmasq-nanny-amd64_1.14.5.tar",
        repository: "gcr.io/google_containers/k8s-dns-dnsmasq-nanny-amd64",
        tag: "1.14.5",
        program: "/dnsmasq-nanny",
        entrypoint: &["/dnsmasq-nanny"],
        command: &[],
        environment: &[],
    },
    Image {
        file: "k8s-dns-kube-dns-amd64_1.14.5.tar",
        repository: "gcr.io/google_containers/k8s-dns-kube-dns-amd64",
        tag: "1.14.5",
        program: "/kube-dns",
        entrypoint: &["/kube-dns"],
        command: &[],
        environment: &[],
    },
    Image {
        file: "k8s-dns-sidecar-amd64_1.14.5.tar",
        repository: "gcr.io/google_containers/k8s-dns-sidecar-amd64",
        tag: "1.14.5",
        program: "/sidecar",
        entrypoint: &["/sidecar"],
        command: &[],
        environment: &[],
    },
    Image {
        file: "kubernetes-dashboard-amd64_v1.8.1.tar",
        repository: "gcr.io/google_containers/kubernetes-dashboard-amd64",
        tag: "v1.8.1",
        program: "/dashboard",
        entrypoint: &["/dashboard"],
        command: &["--auto-generate-certificates"],
        environment: &[],
    },
    Image {
        file: "pause-amd64_3.0.tar",
        repository: "gcr.io/google_containers/pause-amd64",
        tag: "3.0",
        program: "/pause",
        entrypoint: &["/pause"],
        command: &[],
        environment: &[],
    },
];

const SERVICES: [Image; 6] = [
    example!("message-service", 9090),
    example!("course-service", 20880),
    example!("course-edge-service", 8081),
    example!("user-service", 7911),
    example!("user-edge-service", 8082),
    example!("api-gateway-zuul", 8080),
];

const USAGE: &str = "usage: sim components DIR | sim images DIR | sim services DIR";

/// Runs one command.
///
/// # Errors An unknown command line, or a directory that cannot be written to.
pub fn run(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ["components" | "images" | "services", directory] = words[..] else {
        return Err(usage(USAGE));
    };
    let directory = Path::new(directory);
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let own = std::env::current_exe().context("the running program")?;
    let program = fs::read(&own).with_context(|| own.display().to_string())?;
    let images = match words[0] {
        "images" => Some(&IMAGES[..]),
        "services" => Some(&SERVICES[..]),
        _ => None,
    };
    if let Some(images) = images {
        return images
            .iter()
            .try_for_each(|image| image.write(directory, &program, &beside(image)?));
    }
    for name in COMPONENTS {
        let path = directory.join(name);
        fs::write(&path, &program)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// The files of an image in addition to the stand-in: calico/node has BIRD, and the programs that
/// configure the kernel.
fn beside(image: &Image) -> Result<Vec<Extra>> {
    if image.repository == "quay.io/calico/node" {
        return gather::programs(&gather::OF_CALICO_NODE);
    }
    Ok(Vec::new())
}

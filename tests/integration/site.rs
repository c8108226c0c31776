//! The VMs of a cluster, and the services of the tutorial's last chapter that run on it.

use std::path::{Path, PathBuf};

use appliance_vm::cluster::{SINGLE, Server, TUTORIAL};
use appliance_vm::drive;
use appliance_vm::machine::Clock;

use crate::vms::{Bed, Flavor, VOLUME};

/// The directory of the services' manifests, in the project.
const EXAMPLE: &str = "bundle/examples/micro-services";

/// One of the tutorial's manifests.
pub struct Workload {
    pub name: &'static str,
    pub after: &'static [&'static str],
    images: &'static [&'static str],
}

/// A cluster of the tutorial's VMs.
pub struct Site {
    pub master: &'static str,
    /// The VMs that run pods; the one without a config drive comes last.
    pub workers: &'static [&'static str],
    pub workloads: &'static [Workload],
    servers: &'static [Server],
}

/// The tutorial's three VMs and six services.
pub const WHOLE: Site = Site {
    master: "server02",
    workers: &["server01", "server03"],
    servers: &TUTORIAL,
    workloads: &[
        MESSAGE,
        Workload {
            name: "user-service",
            after: &["message-service"],
            images: &["user-service", "user-edge-service"],
        },
        Workload {
            name: "course-service",
            after: &["user-service"],
            images: &["course-service", "course-edge-service"],
        },
        gateway(&["user-service", "course-service"]),
    ],
};
/// The master, and the worker that has only DHCP and the metadata service: one VM for each of two
/// cores. The first and the last of the services.
pub const SMALL: Site = Site {
    workers: &["server03"],
    servers: TUTORIAL.split_at(1).1,
    ..SERVICES_OF_TWO
};
/// A master and two workers, with the services of [`SMALL`].
pub const THREE: Site = SERVICES_OF_TWO;
/// One VM that is a whole cluster.
pub const ALONE: Site = Site {
    workers: &["server02"],
    servers: &SINGLE,
    ..SERVICES_OF_TWO
};

const SERVICES_OF_TWO: Site = Site {
    workloads: &[MESSAGE, gateway(&["message-service"])],
    ..WHOLE
};
const MESSAGE: Workload = Workload {
    name: "message-service",
    after: &[],
    images: &["message-service"],
};

/// The service in front of the others.
const fn gateway(after: &'static [&'static str]) -> Workload {
    Workload {
        name: "api-gateway",
        after,
        images: &["api-gateway-zuul"],
    }
}

impl Site {
    /// All VMs, the master first.
    pub fn nodes(&self) -> Vec<&'static str> {
        let others = self.workers.iter().filter(|name| **name != self.master);
        [self.master].iter().chain(others).copied().collect()
    }

    /// Its VMs, switched off. `joining` makes the settings by which workers join, from a token.
    pub fn bed(&self, joining: impl FnOnce(&str) -> String) -> Bed {
        self.bed_beside(self.services(), joining)
    }

    /// The same with what is in `directory`, which gets the images and the manifests of the services, too.
    pub fn bed_with(&self, directory: &Path, joining: impl FnOnce(&str) -> String) -> Bed {
        for entry in std::fs::read_dir(self.services()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
        }
        self.bed_beside(directory.to_owned(), joining)
    }

    fn bed_beside(&self, directory: PathBuf, joining: impl FnOnce(&str) -> String) -> Bed {
        let flavor = Flavor {
            memory: drive::MEMORY,
            cpus: drive::CPUS,
            clock: Clock::OfTheWall,
            beside: Some(directory),
        };
        // The user-data does not depend on the server.
        Bed::new(self.servers, &flavor, |token| {
            format!("{}{}", joining(token), self.settings())
        })
    }

    /// A directory with the services' images, and their manifests.
    fn services(&self) -> PathBuf {
        let images = std::env::var_os("SERVICES").expect("SERVICES names it: run `make e2e`");
        let images = PathBuf::from(images);
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join(EXAMPLE);
        for workload in self.workloads {
            let file = format!("{}.yaml", workload.name);
            std::fs::copy(manifests.join(&file), images.join(&file)).unwrap();
        }
        images
    }

    /// The settings of the services in the user-data of all VMs.
    fn settings(&self) -> String {
        let list = |words: &[&str], shape: &dyn Fn(&str) -> String| {
            let words: Vec<String> = words.iter().map(|word| shape(word)).collect();
            words.join(", ")
        };
        let entry = |workload: &Workload| {
            let name = workload.name;
            format!(
                "  - {{name: {name}, file: {VOLUME}/{name}.yaml, after: [{}], images: [{}]}}\n",
                list(workload.after, &str::to_owned),
                list(workload.images, &|image| format!("{VOLUME}/{image}.tar")),
            )
        };
        let workloads: String = self.workloads.iter().map(entry).collect();
        format!("  hub: hub.example.org\n  workloads:\n{workloads}")
    }
}

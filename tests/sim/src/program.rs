//! The program that the stand-in acts as, by the name under which it was started.

use std::fmt;
use std::process::ExitCode;

use anyhow::Result;

use crate::flags::{Flags, Parsed};
use crate::{
    apiserver, assemble, calico, cni, controller, dns, kubectl, kubelet, pod, proxy, scheduler, web,
};

/// The version that all Kubernetes stand-ins report.
pub const VERSION: &str = "v1.9.0";

/// A command line that the real program's flag parser refuses: exit code 2.
#[derive(Debug)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Shorthand for an error of exit code 2.
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    UsageError(message.into()).into()
}

/// A program with the flags of v1.9.0: its name, the names of its flags, and the function that runs
/// it until it is stopped.
struct Component {
    name: &'static str,
    flags: &'static str,
    run: fn(&Flags) -> Result<()>,
}

const COMPONENTS: [Component; 5] = [
    Component {
        name: "kube-apiserver",
        flags: include_str!("../../fixtures/flags-v1.9.0/kube-apiserver.txt"),
        run: apiserver::run,
    },
    Component {
        name: "kube-controller-manager",
        flags: include_str!("../../fixtures/flags-v1.9.0/kube-controller-manager.txt"),
        run: controller::run,
    },
    Component {
        name: "kube-scheduler",
        flags: include_str!("../../fixtures/flags-v1.9.0/kube-scheduler.txt"),
        run: scheduler::run,
    },
    Component {
        name: "kubelet",
        flags: include_str!("../../fixtures/flags-v1.9.0/kubelet.txt"),
        run: kubelet::run,
    },
    Component {
        name: "kube-proxy",
        flags: include_str!("../../fixtures/flags-v1.9.0/kube-proxy.txt"),
        run: proxy::run,
    },
];

/// Acts as the program `name` with these arguments; returns its exit code.
///
/// # Errors [`UsageError`] for a command line that the program refuses; any other error that
/// prevents it from running.
pub fn run(name: &str, arguments: &[String]) -> Result<ExitCode> {
    if let Some(component) = COMPONENTS.iter().find(|component| component.name == name) {
        return run_component(component, arguments);
    }
    if is_version(arguments) {
        println!("{}", version_line(name));
        return Ok(ExitCode::SUCCESS);
    }
    match name {
        "kubectl" => kubectl::run(arguments),
        "calicoctl" => calico::ctl::run(arguments),
        "calico" | "calico-ipam" | "loopback" => Ok(cni::run(name)),
        "start_runit" => calico::node::run(arguments).map(|()| ExitCode::SUCCESS),
        "pause" => pod::run(name, arguments).map(|()| ExitCode::SUCCESS),
        "kube-dns" => dns::server::run(arguments).map(|()| ExitCode::SUCCESS),
        "dnsmasq-nanny" => dns::nanny::run(arguments).map(|()| ExitCode::SUCCESS),
        "sidecar" => dns::sidecar::run(arguments).map(|()| ExitCode::SUCCESS),
        "kube-controllers" => calico::controllers::run(arguments).map(|()| ExitCode::SUCCESS),
        "dashboard" => web::dashboard(arguments).map(|()| ExitCode::SUCCESS),
        "sim" => assemble::run(arguments).map(|()| ExitCode::SUCCESS),
        other => match web::SERVICES.iter().find(|&&service| service == other) {
            Some(service) => web::service(service).map(|()| ExitCode::SUCCESS),
            None => Err(usage(format!(
                "no stand-in is named {other:?}; call `sim components DIR`, `sim images DIR` or `sim services DIR`"
            ))),
        },
    }
}

fn run_component(component: &Component, arguments: &[String]) -> Result<ExitCode> {
    match Flags::parse(component.flags, arguments)? {
        Parsed::Version => println!("{}", version_line(component.name)),
        Parsed::Help => print!("Flags of {}:\n{}", component.name, component.flags),
        Parsed::Run(flags) => {
            eprintln!("{}", version_line(component.name));
            (component.run)(&flags)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `--version` alone; `kubectl version` and `calicoctl version` are commands.
fn is_version(arguments: &[String]) -> bool {
    matches!(arguments, [only] if only == "--version")
}

fn version_line(name: &str) -> String {
    format!("Kubernetes {VERSION} (appliance test stand-in; not the real {name})")
}

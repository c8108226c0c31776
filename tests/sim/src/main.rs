//! Stand-ins for the Kubernetes v1.9 programs, for tests and the demonstration bundle. The name of
//! this static program decides which of them it is. It checks flags, files, certificates, keys and
//! addresses as strictly as the real programs, so that a wrong start fails.

mod apiserver;
mod archive;
mod assemble;
mod calico;
mod checks;
mod client;
mod cni;
mod controller;
mod csr;
mod dns;
mod docker;
mod etcd;
mod events;
mod fit;
mod flag_kinds;
mod flags;
mod gather;
mod keys;
mod kinds;
mod kubeconfig;
mod kubectl;
mod kubelet;
mod lease;
mod lifecycle;
mod names;
mod net;
mod pod;
mod program;
mod proxy;
mod scheduler;
mod server;
mod signing;
mod tls;
mod user;
mod web;

use std::path::Path;
use std::process::ExitCode;

use program::UsageError;

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let called = arguments.next().unwrap_or_default();
    let name = Path::new(&called)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("sim")
        .to_owned();
    let arguments: Vec<String> = arguments.collect();
    match program::run(&name, &arguments) {
        Ok(code) => code,
        Err(error) => {
            // kubectl is the only one that does not log its name.
            if name == "kubectl" {
                eprintln!("{error:#}");
            } else {
                eprintln!("{name}: {error:#}");
            }
            let code = if error.is::<UsageError>() { 2 } else { 1 };
            ExitCode::from(code)
        }
    }
}

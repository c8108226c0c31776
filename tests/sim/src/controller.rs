//! The stand-in for kube-controller-manager: checks its keys and ranges, and
//! holds its lease. It runs no controllers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::flags::Flags;
use crate::{checks, keys, lease, lifecycle};

/// Runs until told to stop.
///
/// # Errors
/// Flags or files the real program would not run with.
pub fn run(flags: &Flags) -> Result<()> {
    flags.check_files(&[])?;
    check_networks(flags)?;
    check_keys(flags)?;
    let api = lease::api_client(flags)?;
    let address = flags.address("address", IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
    let address = SocketAddr::new(address, flags.port("port", 10252)?);
    lifecycle::run_until_stopped(move || lease::hold("kube-controller-manager", &api, address))
}

fn check_networks(flags: &Flags) -> Result<()> {
    let cluster = flags.network("cluster-cidr")?;
    if let Some(service) = flags.network("service-cluster-ip-range")? {
        checks::service_range(&service)?;
    }
    let mask = flags.text("node-cidr-mask-size").unwrap_or("24");
    let mask: u8 = mask.parse().context("--node-cidr-mask-size")?;
    match cluster {
        _ if !flags.boolean("allocate-node-cidrs", false) => Ok(()),
        None => bail!("must specify --cluster-cidr if --allocate-node-cidrs is true"),
        Some(cluster) if cluster.prefix_len() > mask => bail!(
            "invalid --cluster-cidr {cluster}: its mask must be less than --node-cidr-mask-size {mask}"
        ),
        Some(_) => Ok(()),
    }
}

fn check_keys(flags: &Flags) -> Result<()> {
    if let Some(path) = flags.text("root-ca-file") {
        keys::certificates(Path::new(path)).context("--root-ca-file")?;
    }
    if let Some(path) = flags.text("service-account-private-key-file") {
        keys::check_signing_key(Path::new(path)).context("--service-account-private-key-file")?;
    }
    match (
        flags.text("cluster-signing-cert-file"),
        flags.text("cluster-signing-key-file"),
    ) {
        (Some(certificate), Some(key)) => {
            keys::check_pair(Path::new(certificate), Path::new(key)).context("--cluster-signing-*")
        }
        (None, None) => Ok(()),
        _ => bail!("--cluster-signing-cert-file and --cluster-signing-key-file go together"),
    }
}

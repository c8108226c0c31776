//! The stand-in for kube-scheduler: holds its lease. It schedules nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;

use crate::flags::Flags;
use crate::{lease, lifecycle};

/// Runs until told to stop.
///
/// # Errors
/// Flags or files the real program would not run with.
pub fn run(flags: &Flags) -> Result<()> {
    flags.check_files(&[])?;
    let api = lease::api_client(flags)?;
    let address = flags.address("address", IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
    let address = SocketAddr::new(address, flags.port("port", 10251)?);
    lifecycle::run_until_stopped(move || {
        lease::hold("kube-scheduler", &api, address, &Arc::default())
    })
}

//! `appliance join`: the parts of the join service, each in a process of its own.

use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context, Result};

use super::Outcome;
use crate::cli::{Join, Serve};
use crate::components::{self, CA_CERTIFICATE, JOIN_DIR, JOIN_NAMES};
use crate::join::gate::{Cluster, Gate};
use crate::join::nodes::Nodes;
use crate::join::service::{self, Doors};
use crate::join::tokens::Tokens;
use crate::join::{cluster, signer};
use crate::pki::key;
use crate::sys::root::Root;

/// Runs one part.
pub fn run(command: &Join) -> Result<Outcome> {
    match command {
        Join::Sign { socket, user, root } => sign(socket, user, &Root::open(root)?)?,
        Join::Serve(serve) => run_service(serve, &Doors::Join)?,
        Join::ServeRenewals { serve, authority } => {
            let authorities =
                std::fs::read(authority).with_context(|| authority.display().to_string())?;
            run_service(serve, &Doors::Renew(authorities))?;
        }
    }
    Ok(Outcome::Done)
}

fn run_service(serve: &Serve, doors: &Doors) -> Result<()> {
    let place = || format!("listen at {}", serve.listen);
    let listener = TcpListener::bind(serve.listen).with_context(place)?;
    service::run(listener, &serve.socket, doors)
}

fn sign(socket: &Path, user: &str, root: &Root) -> Result<()> {
    let read = |path: &str| {
        let bytes = root.read(path)?;
        bytes
            .with_context(|| format!("{path} is missing; `appliance install` on a master makes it"))
    };
    let key_path = components::key_path("ca");
    let key = key::read(&read(&key_path)?).with_context(|| key_path.clone())?;
    let cluster = Cluster {
        authority: String::from_utf8(read(CA_CERTIFICATE)?).context(CA_CERTIFICATE)?,
        key,
        names: serde_json::from_slice(&read(JOIN_NAMES)?).context(JOIN_NAMES)?,
    };
    let dir = root.resolve(JOIN_DIR)?;
    let ask_cluster = |name: &str| cluster::presence(root, name);
    let mut gate = Gate::new(cluster, Tokens::new(&dir), Nodes::new(&dir), &ask_cluster);
    signer::serve(socket, Some(user), &mut gate)
}

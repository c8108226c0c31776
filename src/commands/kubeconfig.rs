//! `appliance kubeconfig`: the admin's kubeconfig, to use from another machine.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use super::Outcome;
use crate::cli::Kubeconfig as Arguments;
use crate::kubeconfig::{Kubeconfig, Server};
use crate::nodespec::{Profile, Refused, Role};
use crate::observe::records;
use crate::observe::user::check_user;
use crate::paths::{self, ADMIN_KUBECONFIG};
use crate::pki::inspect;
use crate::records::state::State;
use crate::sys::out;
use crate::sys::root::Root;

/// The certificate that the API server shows.
const API_SERVER: &str = "kubernetes";

/// Writes the kubeconfig.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let server = arguments.server.as_deref().map(str::parse::<Server>);
    let server = server.transpose().map_err(Refused::because)?;
    let root = Root::open(&arguments.root).map_err(Refused::because)?;
    check_user(&root)?;
    let Some(state) = records::state(&root)? else {
        log::warn!("this machine is not a node: run this on a master");
        return Ok(Outcome::NotInstalled);
    };
    check_node(&state)?;
    let kubeconfig = Kubeconfig::parse(&file(&root, ADMIN_KUBECONFIG)?)
        .with_context(|| format!("{ADMIN_KUBECONFIG} is damaged; {REPAIR}"))?;
    let path = paths::certificate(API_SERVER);
    let certificate = inspect::inspect(&file(&root, &path)?)
        .with_context(|| format!("{path} is damaged; {REPAIR}"))?;
    let text = kubeconfig.for_another_machine(server, &state.address, &certificate)?;
    match &arguments.output {
        Some(path) => write(path, &text, arguments.force)?,
        None => out::text(&text),
    }
    Ok(Outcome::Done)
}

const REPAIR: &str = "run `appliance install` to repair this node";

fn file(root: &Root, path: &str) -> Result<Vec<u8>> {
    let content = root.read(path)?;
    content.ok_or_else(|| anyhow!("{path} is missing; {REPAIR}"))
}

fn check_node(state: &State) -> Result<()> {
    let problem = if state.role == Role::Worker.to_string() {
        "this machine is a worker, which does not have the admin's kubeconfig; run this on a master"
            .to_owned()
    } else if state.profile == Profile::Simple.to_string() {
        format!(
            "this cluster has the profile simple, without certificates; use it without a kubeconfig: \
             kubectl --server http://{}:8080 get nodes",
            state.address
        )
    } else {
        return Ok(());
    };
    bail!(Refused {
        problems: vec![problem],
    })
}

/// Writes the file, readable by its owner only. Does not replace another existing file, except with
/// `force`.
fn write(path: &Path, text: &str, force: bool) -> Result<()> {
    let shown = path.display();
    match fs::read(path) {
        Ok(existing) if existing != text.as_bytes() && !force => bail!(Refused {
            problems: vec![format!(
                "{shown} exists and differs; use --force to replace it, or another file"
            )],
        }),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("read {shown}"));
        }
        _ => {}
    }
    out::file(path, 0o600, text.as_bytes())?;
    log::info!("wrote {shown}: kubectl --kubeconfig {shown} get nodes");
    Ok(())
}

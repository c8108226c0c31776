//! `appliance kubeconfig`: the admin's kubeconfig, to use from another machine.

use anyhow::{Context, Result, anyhow, bail};
use core::net::Ipv4Addr;

use super::documents::Written;
use super::failure::NotInstalled;
use super::{Outcome, files, print};
use crate::cli::{Kubeconfig as Arguments, Named};
use crate::enroll;
use crate::kubeconfig::{Kubeconfig, Server};
use crate::language::{message, tr, translated};
use crate::nodespec::{Profile, Refused, Role};
use crate::observe::records;
use crate::observe::user::check_user;
use crate::paths::{self, ADMIN_KUBECONFIG};
use crate::pki::inspect;
use crate::records::state::State;
use crate::sys::root::Root;

/// The certificate that the API server shows.
const API_SERVER: &str = "kubernetes";

/// Writes the kubeconfig.
pub fn run(arguments: &Arguments, named: &Named) -> Result<Outcome> {
    let place = files::place(arguments.file.as_deref(), named)?;
    let server = arguments.server.as_deref().map(str::parse::<Server>);
    let server = server.transpose().map_err(Refused::because)?;
    let root = Root::open(&arguments.root).map_err(Refused::because)?;
    check_user(&root)?;
    let Some(state) = records::state(&root)? else {
        let text = &tr!("this machine is not a node; run this on a master");
        bail!(NotInstalled(text.to_owned()));
    };
    let address = state.own_address()?;
    check_node(&state, address)?;
    let kubeconfig = Kubeconfig::parse(&file(&root, ADMIN_KUBECONFIG)?).with_context(|| {
        tr!(
            "{ADMIN_KUBECONFIG} is damaged; {REPAIR}",
            ADMIN_KUBECONFIG,
            REPAIR = translated(REPAIR)
        )
    })?;
    let path = paths::certificate(API_SERVER);
    let certificate = inspect::inspect(&file(&root, &path)?).with_context(|| {
        tr!(
            "{path} is damaged; {REPAIR}",
            path,
            REPAIR = translated(REPAIR)
        )
    })?;
    let admin = enroll::admin(&root)?;
    let key = admin.key_pem.context(tr!("no key was made"))?;
    let kubeconfig = kubeconfig.with_client(&admin.certificate_pem, &key);
    let text = kubeconfig.for_another_machine(server, address, &certificate)?;
    let output = named.format();
    match &place {
        Some(path) => {
            files::write_secret(path, &text, arguments.force)?;
            let shown = path.display();
            log::info!(
                "{}",
                tr!(
                    "wrote {shown}: kubectl --kubeconfig {shown} get nodes",
                    shown
                )
            );
            print::result(output, &Written::of(path, None, None)?, |_| ())?;
        }
        None => print::text(&text, output)?,
    }
    Ok(Outcome::Done)
}

const REPAIR: &str = message!("run `appliance install` to repair this node");

fn file(root: &Root, path: &str) -> Result<Vec<u8>> {
    let content = root.read(path)?;
    content.ok_or_else(|| {
        anyhow!(tr!(
            "{path} is missing; {REPAIR}",
            path,
            REPAIR = translated(REPAIR)
        ))
    })
}

fn check_node(state: &State, address: Ipv4Addr) -> Result<()> {
    let shape = state.shape()?;
    let problem = if shape.role == Role::Worker {
        tr!(
            "this machine is a worker, which does not have the admin's kubeconfig; run this on a master"
        )
    } else if shape.profile == Profile::Simple {
        tr!(
            "this cluster has the profile simple, without certificates; use it without a kubeconfig: \
             kubectl --server http://{address}:8080 get nodes",
            address
        )
    } else {
        return Ok(());
    };
    bail!(Refused::new(problem))
}

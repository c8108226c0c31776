//! `appliance certs`: makes certificates on an operator's machine, and lists or renews those of a
//! node.

use std::path::Path;

use anyhow::Result;
use serde_json::json;
use time::format_description::well_known::Rfc3339;

use super::install::Prepared;
use super::{Outcome, authority, install, print, secrets};
use crate::cli::{Certs, Output};
use crate::enroll::by_hand;
use crate::nodespec::value::{Layer, Place};
use crate::nodespec::{HostFacts, Inputs, NodeSpec, Refused};
use crate::observe::inputs::read_config;
use crate::observe::user::check_user;
use crate::paths;
use crate::rotate::authority::Wish;
use crate::status::certificates::{self, HeldCertificate};
use crate::sys::out::say;
use crate::sys::root::Root;

/// Makes, lists or renews certificates.
pub fn run(command: &Certs, required_key: Option<&str>) -> Result<Outcome> {
    match command {
        Certs::Init {
            ca,
            common_name,
            waiting,
        } => by_hand::init(ca, common_name, waiting.patience())?,
        Certs::Issue {
            ca,
            output,
            role,
            set,
            config,
            waiting,
        } => {
            let spec = spec(role, set, config.as_deref())?;
            by_hand::issue(ca, output, &spec, waiting.patience())?;
        }
        Certs::Show { root, output } => {
            let root = Root::open(root).map_err(Refused::because)?;
            return show(&root, *output);
        }
        Certs::RotateCa {
            only_continue,
            dry_run,
            without_pods,
            output,
            inputs,
            waiting,
        } => {
            let wish = Wish {
                begin: !only_continue,
                without_pods: *without_pods,
            };
            return match dry_run {
                true => authority::show(inputs, required_key, *output),
                false => {
                    let this = Prepared::new(inputs, *waiting, required_key);
                    authority::rotate(&this, wish, *output)
                }
            };
        }
        Certs::Renew { inputs, waiting } => {
            let this = Prepared::new(inputs, *waiting, required_key);
            authority::follow(&this)?;
            let outcome = install::renew(&this)?;
            if outcome == Outcome::Done {
                secrets::follow(&this)?;
            }
            return Ok(outcome);
        }
    }
    Ok(Outcome::Done)
}

/// The node that the flags and the file describe, without metadata and without this machine.
fn spec(role: &str, set: &[String], config: Option<&Path>) -> Result<NodeSpec> {
    let layers = || {
        let mut layers = vec![Layer::of_flags(set, &[("role", Some(&role.to_owned()))])?];
        if let Some(path) = config {
            let shown = path.display().to_string();
            let settings = read_config(path, &shown)?;
            layers.push(Layer::new(Place::Config(shown), settings));
        }
        Ok(layers)
    };
    let inputs = Inputs {
        layers: layers().map_err(Refused::because)?,
        host: HostFacts {
            interfaces: None,
            ..HostFacts::default()
        },
        ..Inputs::default()
    };
    Ok(NodeSpec::resolve(&inputs)?)
}

fn show(root: &Root, output: Output) -> Result<Outcome> {
    check_user(root)?;
    let held = certificates::held(root)?;
    if held.is_empty() {
        log::warn!("there are no certificates below {}", paths::CA_DIR);
        return Ok(Outcome::NotInstalled);
    }
    match output {
        Output::Text => print::certificates_of(&held),
        Output::Json => {
            let rows = held.iter().map(as_json).collect::<Result<Vec<_>>>()?;
            say!("{}", serde_json::to_string_pretty(&rows)?);
        }
    }
    Ok(Outcome::Done)
}

fn as_json(held: &HeldCertificate) -> Result<serde_json::Value> {
    Ok(json!({
        "name": held.name,
        "path": paths::certificate(held.name),
        "subject": held.info.subject,
        "sans": held.info.sans(),
        "notBefore": held.info.not_before.format(&Rfc3339)?,
        "notAfter": held.info.not_after.format(&Rfc3339)?,
        "signedByAuthority": held.signed,
        "restarts": held.restarts,
    }))
}

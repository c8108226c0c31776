//! `appliance certs`: makes certificates on an operator's machine, and lists or renews those of a
//! node.

use std::path::Path;

use anyhow::{Result, bail};

use super::authority::Asked;
use super::documents::{CertificateOfNode, Certificates, Renewed};
use super::failure::NotInstalled;
use super::install::Prepared;
use super::{Outcome, authority, files, install, print, secrets, service_accounts};
use crate::cli::{Certs, Named, Output};
use crate::enroll::by_hand;
use crate::language::tr;
use crate::nodespec::value::{Layer, Place};
use crate::nodespec::{HostFacts, Inputs, NodeSpec, Refused};
use crate::observe::inputs::read_config;
use crate::observe::user::check_user;
use crate::paths;
use crate::rotate::accounts;
use crate::status::certificates;
use crate::sys::root::Root;

/// Makes, lists or renews certificates.
pub fn run(command: &Certs, required_key: Option<&str>, named: &Named) -> Result<Outcome> {
    let output = named.format();
    match command {
        Certs::Init {
            ca,
            common_name,
            waiting,
        } => {
            by_hand::init(ca, common_name, waiting.patience())?;
            let made = tr!("{} has ca.pem and ca-key.pem", ca.display());
            print::done(made, output)?;
        }
        Certs::Issue {
            ca,
            dir,
            role,
            set,
            config,
            waiting,
        } => {
            let dir = files::needed(dir.as_deref(), named, "--dir DIR")?;
            let spec = spec(role, set, config.as_deref())?;
            by_hand::issue(ca, &dir, &spec, waiting.patience())?;
            let issued = tr!("{} has the certificates of {}", dir.display(), *spec.name);
            print::done(issued, output)?;
        }
        Certs::Show { root } => {
            let root = Root::open(root).map_err(Refused::because)?;
            return show(&root, output);
        }
        Certs::RotateCa {
            ca,
            ca_key,
            only_continue,
            dry_run,
            without_pods,
            inputs,
            waiting,
        } => {
            let asked = Asked {
                begin: !only_continue,
                without_pods: *without_pods,
                own: ca.as_deref().zip(ca_key.as_deref()),
            };
            return match dry_run {
                true => authority::show(inputs, required_key, output),
                false => {
                    let this = Prepared::new(inputs, *waiting, required_key);
                    authority::rotate(&this, &asked, output)
                }
            };
        }
        Certs::RotateServiceAccounts {
            only_continue,
            dry_run,
            without_pods,
            inputs,
            waiting,
        } => {
            let wish = accounts::Wish {
                begin: !only_continue,
                without_pods: *without_pods,
            };
            return match dry_run {
                true => service_accounts::show(inputs, required_key, output),
                false => {
                    let this = Prepared::new(inputs, *waiting, required_key);
                    service_accounts::rotate(&this, wish, output)
                }
            };
        }
        Certs::Renew { inputs, waiting } => {
            let this = Prepared::new(inputs, *waiting, required_key);
            this.settle_clock()?;
            let left_out = authority::follow(&this)?;
            let renewed = install::renew(&this)?;
            authority::follow_masters(&this)?;
            secrets::follow(&this)?;
            service_accounts::follow(&this)?;
            print::result(output, &Renewed { renewed }, |_| ())?;
            if let Some(error) = left_out {
                // The timer's unit fails, too.
                return Err(error);
            }
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
        let none = tr!("there are no certificates below {}", paths::CA_DIR);
        bail!(NotInstalled(none));
    }
    let rows = held.iter().map(CertificateOfNode::of);
    let rows = Certificates(rows.collect::<Result<_>>()?);
    print::result(output, &rows, |rows| print::certificates_of(&rows.0))?;
    Ok(Outcome::Done)
}

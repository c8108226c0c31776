//! `appliance certs`: makes certificates on an operator's machine, and lists or renews those of a
//! node.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::preflight::check_user;
use super::{Outcome, inputs, install, print};
use crate::cli::{Certs, Output};
use crate::components::{self, BALANCER_NAME, CA_CERTIFICATE, Shape};
use crate::desired::{Content, Desired, File};
use crate::pki::inspect::{self, CertificateInfo};
use crate::pki::{self, AuthorityRequest, Existing, Pki, PkiRequest};
use crate::spec::value::{Layer, Place};
use crate::spec::{HostFacts, Inputs, NodeSpec, Profile, Refused, Role};
use crate::sys::root::Root;

/// Makes, lists or renews certificates.
pub fn run(command: &Certs, required_key: Option<&str>) -> Result<Outcome> {
    match command {
        Certs::Init { ca, common_name } => init(ca, common_name),
        Certs::Issue {
            ca,
            output,
            role,
            set,
            config,
        } => {
            let spec = spec(role, set, config.as_deref())?;
            issue(ca, output, &spec)
        }
        Certs::Show { root, output } => show(&Root::open(root)?, *output),
        Certs::Renew { inputs } => install::renew(inputs, required_key),
    }
}

const CA: &str = "/ca.pem";
const CA_KEY: &str = "/ca-key.pem";

fn request(authority: &str, common_name: &str) -> PkiRequest {
    PkiRequest {
        authority: AuthorityRequest {
            common_name: common_name.to_owned(),
            path: authority.to_owned(),
            given: None,
        },
        certificates: vec![],
        service_account: components::service_account(),
    }
}

fn init(dir: &Path, common_name: &str) -> Result<Outcome> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let root = Root::open(dir)?;
    for path in [CA, CA_KEY] {
        if root.exists(path)? {
            bail!(Refused {
                problems: vec![format!(
                    "{}{path} already exists, and `certs init` never overwrites a certificate \
                     authority; choose another directory with `--ca DIR`",
                    dir.display()
                )],
            });
        }
    }
    let made = pki::resolve(&request(CA, common_name), &root, OffsetDateTime::now_utc())?;
    let authority = Pki {
        service_account: None,
        ..made
    };
    write(&root, &Desired::of_pki(&authority))?;
    log::info!(
        "made {0}{CA} and its key {0}{CA_KEY}; store the key where nobody else can read it",
        dir.display()
    );
    Ok(Outcome::Done)
}

/// The node that the flags and the file describe, without metadata and without this machine.
fn spec(role: &str, set: &[String], config: Option<&Path>) -> Result<NodeSpec> {
    let layers = || {
        let mut layers = vec![Layer::of_flags(set, &[("role", Some(&role.to_owned()))])?];
        if let Some(path) = config {
            let shown = path.display().to_string();
            let settings = inputs::read_config(path, &shown)?;
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

/// The files of the CA and of the node.
struct ByHand<'a> {
    authority: &'a Root,
    node: &'a Root,
}

impl Existing for ByHand<'_> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        if path == CA_CERTIFICATE {
            return self.authority.read(CA);
        }
        if path == components::key_path("ca") {
            return self.authority.read(CA_KEY);
        }
        self.node.read(path)
    }
}

fn issue(ca: &Path, output: &Path, spec: &NodeSpec) -> Result<Outcome> {
    let authority = Root::open(ca).map_err(Refused::because)?;
    if !authority.exists(CA)? {
        bail!(Refused {
            problems: vec![format!(
                "{}{CA} does not exist; make a certificate authority with `appliance certs init \
                 --ca {0}`, or name its directory with `--ca DIR`",
                ca.display()
            )],
        });
    }
    if !spec.tls() {
        bail!(Refused {
            problems: vec![format!(
                "{} says profile simple, which has no certificates; use profile with-ca",
                spec.profile.origin
            )],
        });
    }
    std::fs::create_dir_all(output).with_context(|| output.display().to_string())?;
    let node = Root::open(output)?;
    let existing = ByHand {
        authority: &authority,
        node: &node,
    };
    let wanted = components::pki_request(spec).unwrap_or_else(|| PkiRequest {
        certificates: components::worker(&spec.name, *spec.address),
        ..request(CA_CERTIFICATE, "")
    });
    let now = OffsetDateTime::now_utc();
    let mut made = pki::resolve(&wanted, &existing, now).map_err(Refused::because)?;
    if !spec.role.is_master() {
        made.authority.key_pem = None;
        made.service_account = None;
    }
    for issued in &made.certificates {
        if let Some(reason) = &issued.reason {
            log::info!("made {}: {reason}", issued.name);
        }
    }
    write(&node, &Desired::of_pki(&made))?;
    log::info!(
        "{} now has all keys and certificates of the {} {}; copy it to that VM before its \
         installation",
        output.display(),
        *spec.role,
        *spec.name
    );
    Ok(Outcome::Done)
}

/// Writes the files that are missing or differ. It never replaces a key.
fn write(root: &Root, files: &[File]) -> Result<()> {
    for file in files {
        let bytes = file.content.bytes();
        match root.read(&file.path)? {
            Some(found) if found == bytes => {}
            None => root.create(&file.path, bytes, file.mode)?,
            Some(_) if matches!(file.content, Content::Secret(_)) => {
                bail!(
                    "{}: a different key already exists and is not overwritten; move it away",
                    file.path
                )
            }
            Some(_) => root.write(&file.path, bytes, file.mode)?,
        }
    }
    Ok(())
}

/// One certificate with further facts.
pub struct Shown {
    /// Its name.
    pub name: &'static str,
    /// Its contents.
    pub info: CertificateInfo,
    /// Whether the CA of this node signed it.
    pub signed: bool,
    /// The services that a renewal restarts.
    pub restarts: Vec<&'static str>,
}

fn show(root: &Root, output: Output) -> Result<Outcome> {
    check_user(root)?;
    let authority = root.read(CA_CERTIFICATE)?.unwrap_or_default();
    let balancer = components::unit_path(&format!("{BALANCER_NAME}.service"));
    let shape = Shape {
        role: match root.exists(&components::certificate_path("kubernetes"))? {
            true => Role::Single,
            false => Role::Worker,
        },
        profile: Profile::WithCa,
        balanced: root.exists(&balancer)?,
    };
    let mut shown = Vec::new();
    for name in components::certificate_names(Role::Single) {
        let path = components::certificate_path(name);
        let Some(pem) = root.read(&path)? else {
            continue;
        };
        let info = inspect::inspect(&pem).with_context(|| path.clone())?;
        shown.push(Shown {
            name,
            signed: inspect::is_signed_by(&pem, &authority).unwrap_or(false) || name == "ca",
            restarts: components::restarted_for(name, shape),
            info,
        });
    }
    if shown.is_empty() {
        log::warn!(
            "there are no certificates below {}; run `appliance install`",
            components::CA_DIR
        );
        return Ok(Outcome::NotInstalled);
    }
    match output {
        Output::Text => print::certificates_of(&shown),
        Output::Json => {
            let rows = shown.iter().map(as_json).collect::<Result<Vec<_>>>()?;
            println!("{}", serde_json::to_string_pretty(&rows)?);
        }
    }
    Ok(Outcome::Done)
}

fn as_json(shown: &Shown) -> Result<serde_json::Value> {
    Ok(json!({
        "name": shown.name,
        "path": components::certificate_path(shown.name),
        "subject": shown.info.subject,
        "sans": shown.info.sans(),
        "notBefore": shown.info.not_before.format(&Rfc3339)?,
        "notAfter": shown.info.not_after.format(&Rfc3339)?,
        "signedByAuthority": shown.signed,
        "restarts": shown.restarts,
    }))
}

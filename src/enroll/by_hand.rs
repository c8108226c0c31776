//! A CA and certificates made by hand, on an operator's machine.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use time::OffsetDateTime;

use super::OnDisk;
use crate::components;
use crate::desired::{Content, Desired, File};
use crate::nodespec::{NodeSpec, Refused};
use crate::paths;
use crate::pki::{self, AuthorityRequest, Existing, Pki, PkiRequest};
use crate::sys::change::Change;
use crate::sys::root::Root;

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

/// Makes a CA with this common name in the directory `dir`. It never replaces an existing CA.
pub fn init(dir: &Path, common_name: &str) -> Result<()> {
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
    let made = pki::resolve(
        &request(CA, common_name),
        &OnDisk(&root),
        OffsetDateTime::now_utc(),
    )?;
    let authority = Pki {
        service_account: None,
        ..made
    };
    write(&root, &Desired::of_pki(&authority))?;
    log::info!(
        "made {0}{CA} and its key {0}{CA_KEY}; store the key where nobody else can read it",
        dir.display()
    );
    Ok(())
}

/// The files of the CA and of the node.
struct ByHand<'a> {
    authority: &'a Root,
    node: &'a Root,
}

impl Existing for ByHand<'_> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        if path == paths::CA_CERTIFICATE {
            return self.authority.read(CA);
        }
        if path == paths::key("ca") {
            return self.authority.read(CA_KEY);
        }
        self.node.read(path)
    }
}

/// Issues the certificates that the node of `spec` needs, from the CA in the directory `ca`, into
/// the directory `output`.
pub fn issue(ca: &Path, output: &Path, spec: &NodeSpec) -> Result<()> {
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
        ..request(paths::CA_CERTIFICATE, "")
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
    Ok(())
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

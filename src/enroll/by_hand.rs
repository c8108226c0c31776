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
    check_common_name(common_name)?;
    std::fs::create_dir_all(dir)
        .with_context(|| format!("cannot make the directory {}", dir.display()))?;
    let root = Root::open(dir)?;
    if has_content(&root, CA)? {
        bail!(Refused {
            problems: vec![format!(
                "{}{CA} already exists, and `certs init` never overwrites a certificate authority; \
                 choose another directory with `--ca DIR`",
                dir.display()
            )],
        });
    }
    if has_content(&root, CA_KEY)? {
        // As after a run that was cut.
        log::info!("using the key {}{CA_KEY}, which exists", dir.display());
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
        "made {0}{CA} and its key {0}{CA_KEY}; store the key where only you can read it",
        dir.display()
    );
    Ok(())
}

/// Whether there is a file with something in it: an empty one is what a power cut can leave.
fn has_content(root: &Root, path: &str) -> Result<bool> {
    Ok(root.read(path)?.is_some_and(|bytes| !bytes.is_empty()))
}

/// The longest common name of a certificate, in characters (RFC 5280, ub-common-name).
const MAX_COMMON_NAME: usize = 64;

fn check_common_name(name: &str) -> Result<(), Refused> {
    let length = name.chars().count();
    if (1..=MAX_COMMON_NAME).contains(&length) && !name.contains(char::is_control) {
        return Ok(());
    }
    Err(Refused {
        problems: vec![format!(
            "--common-name has {length} characters; use 1 to {MAX_COMMON_NAME}, and no control \
             characters"
        )],
    })
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
    for path in [CA, CA_KEY] {
        if !has_content(&authority, path)? {
            bail!(Refused {
                problems: vec![format!(
                    "{}{path} does not exist, is empty, or is a link out of this directory; make a \
                     certificate authority with `appliance certs init --ca {0}`, or name its \
                     directory with `--ca DIR`",
                    ca.display()
                )],
            });
        }
    }
    if !spec.tls() {
        bail!(Refused {
            problems: vec![format!(
                "{} says profile simple, which has no certificates; use profile with-ca",
                spec.profile.origin
            )],
        });
    }
    std::fs::create_dir_all(output)
        .with_context(|| format!("cannot make the directory {}", output.display()))?;
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
            log::info!("made the certificate {}: {reason}", issued.name);
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
            Some(found) if found == bytes && root.mode(&file.path)? == Some(file.mode) => {}
            // A file of no bytes is what a power cut can leave; nothing is lost.
            Some(found) if found == bytes || found.is_empty() => {
                root.write(&file.path, bytes, file.mode)?;
            }
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

//! CAs and certificates made by hand, on an operator's machine.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use time::OffsetDateTime;

use super::{OnDisk, has_content};
use crate::components::{self, AUTHORITY, ETCD_AUTHORITY};
use crate::desired::{Content, Desired, File};
use crate::language::tr;
use crate::nodespec::{NodeSpec, Refused};
use crate::paths;
use crate::pki::{self, AuthorityRequest, Existing, Issued, Pki, PkiRequest};
use crate::sys::atomic::create_directories;
use crate::sys::change::Change;
use crate::sys::lock::{Lock, Patience};
use crate::sys::root::Root;

const CA: &str = "/ca.pem";
const CA_KEY: &str = "/ca-key.pem";
const ETCD_CA: &str = "/etcd-ca.pem";
const ETCD_CA_KEY: &str = "/etcd-ca-key.pem";

/// Makes a CA for a cluster, with this common name, and one for its etcd in the directory `dir`. It never
/// replaces an existing CA.
pub fn init(dir: &Path, common_name: &str, patience: Patience) -> Result<()> {
    check_common_name(common_name)?;
    create_directories(dir).with_context(|| tr!("cannot make the directory {}", dir.display()))?;
    let root = Root::open(dir)?;
    let _lock = Lock::take(&root, patience)?;
    if has_content(&root, CA)? {
        bail!(Refused::new(tr!(
            "{}{CA} already exists, and `certs init` never overwrites a certificate authority; \
                 choose another directory with `--ca DIR`",
            dir.display(),
            CA
        )));
    }
    if has_content(&root, CA_KEY)? {
        // As after a run that was cut.
        log::info!("using the key {}{CA_KEY}, which exists", dir.display());
    }
    let request = PkiRequest {
        authority: AuthorityRequest {
            common_name: common_name.to_owned(),
            path: CA.to_owned(),
            ..components::cluster_authority()
        },
        etcd: Some(AuthorityRequest {
            path: ETCD_CA.to_owned(),
            ..components::etcd_authority()
        }),
        certificates: vec![],
        service_account: components::service_account(),
    };
    let made = pki::resolve(&request, &OnDisk(&root), OffsetDateTime::now_utc())?;
    let authorities = Pki {
        service_account: None,
        ..made
    };
    let mut files = Desired::of_pki(&authorities);
    // Who finds it, finds everything: the next run refuses to go on beside it.
    files.sort_by_key(|file| file.path == CA);
    write(&root, &files)?;
    log::info!(
        "made {0}{CA} for the cluster and {0}{ETCD_CA} for etcd, with their keys {0}{CA_KEY} and \
         {0}{ETCD_CA_KEY}; store the keys where only you can read them",
        dir.display()
    );
    Ok(())
}

/// The longest common name of a certificate, in characters (RFC 5280, ub-common-name).
const MAX_COMMON_NAME: usize = 64;

fn check_common_name(name: &str) -> Result<(), Refused> {
    let length = name.chars().count();
    if (1..=MAX_COMMON_NAME).contains(&length) && !name.contains(char::is_control) {
        return Ok(());
    }
    Err(Refused::new(tr!(
        "--common-name has {length} characters; use 1 to {MAX_COMMON_NAME}, and no control \
             characters",
        length,
        MAX_COMMON_NAME
    )))
}

/// The files of the CAs and of the node.
struct ByHand<'a> {
    authority: &'a Root,
    node: &'a Root,
}

impl Existing for ByHand<'_> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let of_authorities = [
            (paths::certificate(AUTHORITY), CA),
            (paths::key(AUTHORITY), CA_KEY),
            (paths::certificate(ETCD_AUTHORITY), ETCD_CA),
            (paths::key(ETCD_AUTHORITY), ETCD_CA_KEY),
        ];
        match of_authorities.iter().find(|(on_node, _)| on_node == path) {
            // An earlier run may have been cut before it wrote etcd's authority beside the cluster's.
            Some((_, own)) => Ok(self.authority.read(own)?.or(self.node.read(path)?)),
            None => self.node.read(path),
        }
    }
}

/// Issues the certificates that the node of `spec` needs, from the CA in the directory `ca`, into
/// the directory `output`.
pub fn issue(ca: &Path, output: &Path, spec: &NodeSpec, patience: Patience) -> Result<()> {
    let authority = Root::open(ca).map_err(Refused::because)?;
    check_authority(ca, &authority)?;
    if !spec.tls() {
        bail!(Refused::new(tr!(
            "{} says profile simple, which has no certificates; use profile with-ca",
            spec.profile.origin
        )));
    }
    create_directories(output)
        .with_context(|| tr!("cannot make the directory {}", output.display()))?;
    let node = Root::open(output)?;
    let _lock = Lock::take(&node, patience)?;
    // Another run may issue for another node with this authority at the same time.
    let is_apart = ca.canonicalize()? != output.canonicalize()?;
    let _authority_lock = is_apart
        .then(|| Lock::take(&authority, Patience::Endless))
        .transpose()?;
    let made = resolve(&authority, &node, spec)?;
    write(&node, &Desired::of_pki(&made))?;
    if let Some(etcd) = &made.etcd {
        keep_etcd_authority(&authority, etcd)?;
    }
    log::info!(
        "{} now has all keys and certificates of the {} {}; copy it to that VM before its \
         installation",
        output.display(),
        *spec.role,
        *spec.name
    );
    Ok(())
}

/// Refuses the directory `ca` of an authority that is not whole.
fn check_authority(ca: &Path, authority: &Root) -> Result<()> {
    for path in [CA, CA_KEY] {
        if !has_content(authority, path)? {
            bail!(Refused::new(tr!(
                "{}{path} does not exist, is empty, or is a link out of this directory; restore it, or \
                     make a certificate authority in an empty directory with `appliance certs init --ca DIR`",
                ca.display(),
                path
            )));
        }
    }
    if has_content(authority, ETCD_CA)? != has_content(authority, ETCD_CA_KEY)? {
        bail!(Refused::new(tr!(
            "{0} has only one of {ETCD_CA} and {ETCD_CA_KEY}; restore the other one, because all masters \
                 share both",
            ca.display(),
            ETCD_CA,
            ETCD_CA_KEY
        )));
    }
    Ok(())
}

/// What the node of `spec` needs: what `node` has, and the rest made with `authority`.
fn resolve(authority: &Root, node: &Root, spec: &NodeSpec) -> Result<Pki> {
    let existing = ByHand { authority, node };
    let wanted = components::pki_request(spec).unwrap_or_else(|| PkiRequest {
        authority: components::cluster_authority(),
        etcd: None,
        certificates: components::worker(&spec.name, *spec.address),
        service_account: components::service_account(),
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
    Ok(made)
}

/// Writes the authority of etcd beside that of the cluster: all masters share it.
fn keep_etcd_authority(dir: &Root, etcd: &Issued) -> Result<()> {
    let authority = Issued {
        certificate_path: ETCD_CA.to_owned(),
        key_path: ETCD_CA_KEY.to_owned(),
        ..etcd.clone()
    };
    let pki = Pki {
        authority,
        etcd: None,
        certificates: vec![],
        service_account: None,
    };
    write(dir, &Desired::of_pki(&pki))
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
                bail!(tr!(
                    "{}: a different key already exists and is not overwritten; move it away",
                    file.path
                ))
            }
            Some(_) => root.write(&file.path, bytes, file.mode)?,
        }
    }
    Ok(())
}

//! Keys that a cluster's data needs, and that this machine no longer has.

use anyhow::Result;

use super::{Context, has_content};
use crate::components::{AUTHORITY, ETCD_AUTHORITY, ETCD_CERTIFICATE};
use crate::language::tr;
use crate::nodespec::Refused;
use crate::paths::{self, ETCD_MEMBER_DATA};
use crate::pki::inspect;
use crate::sys::root::Root;

/// Refuses to make new keys for a master whose etcd has data already: its nodes and service accounts trust the
/// old ones. With `change_trust`, a master of an older version gets the authority of etcd.
pub fn refuse_lost(context: &Context<'_>, change_trust: bool) -> Result<()> {
    let (spec, root) = (context.spec, context.root);
    if !(spec.tls() && spec.role.is_master() && root.exists(ETCD_MEMBER_DATA)?) {
        return Ok(());
    }
    let missing = |paths: &[String]| -> Result<Vec<String>> {
        let mut missing = Vec::new();
        for path in paths {
            if !has_content(root, path)? {
                missing.push(path.clone());
            }
        }
        Ok(missing)
    };
    let of_etcd = [
        paths::certificate(ETCD_AUTHORITY),
        paths::key(ETCD_AUTHORITY),
    ];
    let mut lost = missing(&of_etcd)?;
    if lost.len() == of_etcd.len() && is_of_an_older_version(root)? {
        lost.clear();
        change_of_trust(spec.has_several_masters(), change_trust)?;
    }
    if !spec.has_several_masters() {
        // Another master would have the same ones.
        let cluster = [
            paths::certificate(AUTHORITY),
            paths::key(AUTHORITY),
            paths::SERVICE_ACCOUNT_PRIVATE.to_owned(),
        ];
        lost.extend(missing(&cluster)?);
        if has_encrypted(root)? {
            lost.extend(missing(&[paths::ENCRYPTION.to_owned()])?);
        }
        refuse(&lost)?;
    }
    Ok(())
}

/// Whether the API server that is installed encrypts secrets.
fn has_encrypted(root: &Root) -> Result<bool> {
    let unit = root.read(&paths::unit("kube-apiserver.service"))?;
    let unit = unit.unwrap_or_default();
    Ok(String::from_utf8_lossy(&unit).contains(paths::ENCRYPTION))
}

/// Whether the cluster's CA signed the certificate of etcd's member.
fn is_of_an_older_version(root: &Root) -> Result<bool> {
    let read = |name: &str| root.read(&paths::certificate(name));
    let (member, authority) = (read(ETCD_CERTIFICATE)?, read(AUTHORITY)?);
    let pair = member.zip(authority);
    Ok(pair.is_some_and(|(member, ca)| inspect::is_signed_by(&member, &ca).unwrap_or(false)))
}

fn refuse(lost: &[String]) -> Result<(), Refused> {
    if lost.is_empty() {
        return Ok(());
    }
    let problem = tr!(
        "{ETCD_MEMBER_DATA} has the data of a cluster, but this machine lost {lost}; with new ones, no node and \
         no service account could use the cluster, and no secret could be read. Restore them from a backup \
         of this machine. To give the data up and make a new cluster, move both away: \
         `mv {ETCD_MEMBER_DATA} {ETCD_MEMBER_DATA}.old; mv {0} {0}.old`",
        paths::CA_DIR,
        lost = lost.join(", "),
        ETCD_MEMBER_DATA
    );
    Err(Refused::new(problem))
}

fn change_of_trust(has_several_masters: bool, change_trust: bool) -> Result<(), Refused> {
    let why = &tr!(
        "an older version installed this master: its etcd accepts every certificate of the cluster's \
               CA, those of workers too"
    );
    let next = match (has_several_masters, change_trust) {
        (false, true) => return Ok(()),
        (false, false) => {
            tr!(
                "run `appliance install --change trust` here, and then `appliance install` with this version \
             on each worker at once: until then, new pods there get no address"
            )
        }
        (true, _) => {
            tr!(
                "this version cannot change it with several masters, because they would lose their quorum: go \
             on with the older version, or make a new cluster"
            )
        }
    };
    Err(Refused::new(format!("{why}; {next}")))
}

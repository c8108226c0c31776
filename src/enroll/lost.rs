//! Keys that a cluster's data needs, and that this machine no longer has.

use anyhow::Result;

use super::Context;
use crate::components::{AUTHORITY, ETCD_AUTHORITY, ETCD_CERTIFICATE};
use crate::nodespec::Refused;
use crate::paths::{self, ETCD_MEMBER_DATA};
use crate::records::state::State;

/// Refuses to make new keys for a master whose etcd has data already: its nodes and service accounts trust the
/// old ones. With `change_trust`, a master of an older version gets the authority of etcd.
pub fn refuse_lost(context: &Context<'_>, state: Option<&State>, change_trust: bool) -> Result<()> {
    let (spec, root) = (context.spec, context.root);
    if !(spec.tls() && spec.role.is_master() && root.exists(ETCD_MEMBER_DATA)?) {
        return Ok(());
    }
    let has = |path: &str| -> Result<bool> {
        Ok(root.read(path)?.is_some_and(|bytes| !bytes.is_empty()))
    };
    let missing = |paths: &[String]| -> Result<Vec<String>> {
        let mut missing = Vec::new();
        for path in paths {
            if !has(path)? {
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
    let is_older = lost.len() == of_etcd.len() && has(&paths::certificate(ETCD_CERTIFICATE))?;
    if is_older {
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
        if state.is_some_and(|state| state.encrypts) {
            lost.extend(missing(&[paths::ENCRYPTION.to_owned()])?);
        }
        refuse(&lost)?;
    }
    Ok(())
}

fn refuse(lost: &[String]) -> Result<(), Refused> {
    if lost.is_empty() {
        return Ok(());
    }
    let problem = format!(
        "{ETCD_MEMBER_DATA} has the data of a cluster, but this machine lost {}; with new ones, no node and \
         no service account could use the cluster. Restore them from a backup of this machine. To give the \
         data up and make a new cluster, move it away: `mv {ETCD_MEMBER_DATA} {ETCD_MEMBER_DATA}.old`",
        lost.join(", ")
    );
    Err(Refused {
        problems: vec![problem],
    })
}

fn change_of_trust(has_several_masters: bool, change_trust: bool) -> Result<(), Refused> {
    let why = "an older version installed this master: its etcd accepts every certificate of the cluster's \
               CA, those of workers too";
    let next = match (has_several_masters, change_trust) {
        (false, true) => return Ok(()),
        (false, false) => {
            "run `appliance install --change trust` here, and then `appliance install` with this version \
             on each worker at once: until then, new pods there get no address"
        }
        (true, _) => {
            "this version cannot change it with several masters, because they would lose their quorum: go \
             on with the older version, or make a new cluster"
        }
    };
    Err(Refused {
        problems: vec![format!("{why}; {next}")],
    })
}

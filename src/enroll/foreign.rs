//! Authorities of another cluster beside the data of this one.

use anyhow::{Context as _, Result};

use super::Context;
use crate::language::tr;
use crate::nodespec::Refused;
use crate::observe::records;
use crate::paths::{self, ETCD_MEMBER_DATA};
use crate::records::authorities::digests;

/// Refuses authorities that have nothing in common with those that this master had with the data of its etcd: its
/// nodes and service accounts trust the recorded ones. While a cluster replaces its authorities, both are trusted, so
/// each step has one in common with the step before.
pub fn refuse_foreign(context: &Context<'_>) -> Result<()> {
    let (spec, root) = (context.spec, context.root);
    if !(spec.tls() && spec.role.is_master() && root.exists(ETCD_MEMBER_DATA)?) {
        return Ok(());
    }
    let Some(record) = records::authorities(root)? else {
        return Ok(());
    };
    let mut foreign = Vec::new();
    for (name, known) in record.by_name() {
        let path = paths::certificate(name);
        // A file that is missing is another problem.
        let pem = root.read(&path)?.unwrap_or_default();
        let found = digests(&String::from_utf8_lossy(&pem)).with_context(|| path.clone());
        let found = found.map_err(Refused::because)?;
        let is_known = found.iter().any(|digest| known.contains(digest));
        if !(is_known || found.is_empty() || known.is_empty()) {
            foreign.push(path);
        }
    }
    match foreign.is_empty() {
        true => Ok(()),
        false => Err(refused(&foreign).into()),
    }
}

fn refused(foreign: &[String]) -> Refused {
    Refused::new(tr!(
        "these files are of another cluster than the data in {ETCD_MEMBER_DATA} (compared with {1}): {0}. No node and no service \
             account could use the cluster, and no secret could be read. Restore {dir} from a backup of this machine. \
             To give the data up and use these authorities, move it away: `mv {ETCD_MEMBER_DATA} \
             {ETCD_MEMBER_DATA}.old`",
        foreign.join(", "),
        paths::AUTHORITIES,
        dir = paths::CA_DIR,
        ETCD_MEMBER_DATA
    ))
}

//! A new certificate of the cluster's administrator, on demand.

use anyhow::{Context as _, Result};
use time::OffsetDateTime;

use crate::components::{self, AUTHORITY};
use crate::language::tr;
use crate::paths;
use crate::pki::{self, Existing, Issued, PkiRequest};
use crate::sys::root::Root;

/// The CA of a master, and nothing else of it.
struct AuthorityOnly<'a>(&'a Root);

impl Existing for AuthorityOnly<'_> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        if path == paths::certificate(AUTHORITY) || path == paths::key(AUTHORITY) {
            return self.0.read(path);
        }
        Ok(None)
    }
}

/// A certificate of the administrator for a new key, signed with the CA's key on this master. Writes
/// nothing.
pub fn admin(root: &Root) -> Result<Issued> {
    for path in [paths::certificate(AUTHORITY), paths::key(AUTHORITY)] {
        root.read(&path)?.with_context(|| {
            tr!(
                "{path} is missing; run `appliance install` to repair this master",
                path
            )
        })?;
    }
    let request = PkiRequest {
        authority: components::cluster_authority(),
        etcd: None,
        certificates: vec![components::admin()],
        service_account: components::service_account(),
    };
    let made = pki::resolve(&request, &AuthorityOnly(root), OffsetDateTime::now_utc())?;
    let admin = made.certificates.into_iter().next();
    admin.context(tr!("no certificate was made"))
}

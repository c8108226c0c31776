//! The authorities of the cluster whose data a master has. Pure.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::components::{AUTHORITY, ETCD_AUTHORITY};
use crate::digest::Sha256;
use crate::pki::{Pki, inspect};

/// SHA-256 of the certificates of the authorities, in hexadecimal. The record is not beside them, so a restored
/// directory of certificates can be compared with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AuthoritiesRecord {
    /// Those of the cluster.
    pub cluster: Vec<String>,
    /// Those of etcd.
    pub etcd: Vec<String>,
}

impl AuthoritiesRecord {
    /// The record of a master with these certificates.
    pub fn of(pki: &Pki) -> Result<AuthoritiesRecord> {
        let etcd = pki.etcd.as_ref();
        Ok(AuthoritiesRecord {
            cluster: digests(&pki.authority.certificate_pem)?,
            etcd: etcd.map_or(Ok(Vec::new()), |etcd| digests(&etcd.certificate_pem))?,
        })
    }

    /// The recorded authorities by the names of their certificates.
    pub fn by_name(&self) -> [(&'static str, &[String]); 2] {
        [(AUTHORITY, &self.cluster), (ETCD_AUTHORITY, &self.etcd)]
    }
}

/// SHA-256 of each certificate in PEM, in hexadecimal.
pub fn digests(pem: &str) -> Result<Vec<String>> {
    let all = inspect::certificates(pem)?;
    let digest = |(pem, _): &inspect::Read| Sha256::of(pem.as_bytes()).to_string();
    Ok(all.iter().map(digest).collect())
}

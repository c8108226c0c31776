//! How a cluster is backed up, as typed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a master backs the cluster up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct BackupSettings {
    /// For whom backups are encrypted: recipients of age (`age1…`), from `appliance backup key`.
    pub recipients: Option<Vec<String>>,
    /// The file with the passphrase of backups, on the master, instead of recipients.
    pub passphrase_file: Option<String>,
    /// Where backups go: a directory on the master (a volume, a file system of another machine), or `s3://BUCKET/PREFIX`.
    pub to: Option<String>,
    /// The object store of `s3://`.
    pub s3: Option<S3Settings>,
    /// How often a backup is made: `6h`, or `1day`. Without it, none is made by itself.
    pub every: Option<String>,
    /// How many backups of this master are kept. Older ones are removed.
    #[schemars(with = "Option<u32>", range(min = 1))]
    pub keep: Option<String>,
}

/// An object store with the S3 API: Swift, Ceph, MinIO.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct S3Settings {
    /// The URL of its S3 API: `https://objects.example.org:8080`.
    pub endpoint: Option<String>,
    /// Its region [default: us-east-1].
    pub region: Option<String>,
    /// The file with the credentials, on the master: lines `aws_access_key_id = …` and `aws_secret_access_key = …`, mode 0600.
    pub credentials: Option<String>,
    /// The file with the certificates of its authority (PEM), on the master, if the system does not trust it.
    pub ca: Option<String>,
}

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
    /// The directory for backups, on the master: a volume or a file system of another machine.
    pub to: Option<String>,
    /// How often a backup is made: `6h`, or `1day`. Without it, none is made by itself.
    pub every: Option<String>,
    /// How many backups of this master are kept. Older ones are removed.
    #[schemars(with = "Option<u32>", range(min = 1))]
    pub keep: Option<String>,
}

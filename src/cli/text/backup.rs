//! The last part of the help pages of backups. No line is longer than 80 characters.

pub const BACKUP: &str = "\
Examples:
  appliance backup --recipient age1… --file cluster.age
  appliance backup --passphrase-file /root/passphrase --to /srv/backups
  # with what the settings say about backups
  appliance backup
  appliance backup -o json | jq -r .file

The file has etcd's data, Calico's data, all keys, the tokens and the settings:
whoever opens it controls the cluster. It is always encrypted, in the format of
age (https://age-encryption.org).

More: appliance help backup";

pub const VERIFY: &str = "\
Examples:
  appliance backup verify cluster.age --identity backup.key
  appliance backup verify cluster.age --passphrase-file passphrase -o json

Exit codes: 0 it is whole, and its parts fit each other; 2 it is not.

More: appliance help backup";

pub const LIST: &str = "\
Examples:
  appliance backup list
  appliance backup list --to /srv/backups -o json

More: appliance help backup";

pub const KEY: &str = "\
Examples:
  appliance backup key --file backup.key

More: appliance help backup";

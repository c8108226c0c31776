//! The last part of the help pages of backups. No line is longer than 80 characters.

pub const BACKUP: &str = "\
Examples:
  appliance backup --recipient age1… --file cluster.age
  appliance backup --passphrase-file /root/passphrase --to /srv/backups
  # into object storage
  appliance backup --recipient age1… --to s3://backups/cluster1 \\
    --s3-endpoint https://objects.example.org:8080 --s3-credentials FILE
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
  # on any machine, those of every master
  appliance backup list --all --to s3://backups/cluster1 \\
    --s3-endpoint https://objects.example.org:8080 --s3-credentials FILE

More: appliance help backup";

pub const KEY: &str = "\
Examples:
  appliance backup key --file backup.key

More: appliance help backup";

pub const RESTORE: &str = "\
Examples:
  appliance restore cluster.age --identity backup.key --dry-run
  appliance restore cluster.age --identity backup.key --yes
  # from object storage
  appliance restore s3://backups/cluster1/NAME -i backup.key \\
    --s3-endpoint https://objects.example.org:8080 --s3-credentials FILE
  # on a machine that is a master already
  appliance restore cluster.age --identity backup.key --replace
  # with another name and address
  appliance restore cluster.age -i backup.key --role master --set nodeName=m2

Run this on a new machine in place of the lost master, with its settings. Workers
reconnect by themselves if it has the same address. Of several masters, restore
to the first one, and then boot the others.

Join tokens are revoked: make new ones with `appliance token create`.

Exit codes: 0 restored, and healthy; 2 refused, nothing was changed; 3 restored,
but not healthy; 5 another run is changing this machine.

More: appliance help backup";

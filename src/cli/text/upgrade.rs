//! The last part of the help pages of upgrades.

pub const UPGRADE: &str = "\
Examples:
  ./appliance-new upgrade --dry-run      # what changes, and what restarts
  ./appliance-new upgrade
  ./appliance-new upgrade --yes --limit 20m
  appliance upgrade --payload ./appliance-new --dry-run -o json

  ./appliance-new upgrade --cluster --at-once 10%
  appliance upgrade --pause

Masters come first, one after the other, then the workers. One minor version at
a time, and never back: `appliance rollback` goes back.

Exit codes: 0 done, or nothing to do; 1 it failed, and the node went back, or
could not: the output says which; 2 refused, nothing was changed; 4 there is no
node; 5 another run is changing this machine; 7 with --dry-run: something would
change.

More: appliance help upgrade";

pub const JOIN_FOLLOW: &str = "\
Examples:
  appliance join follow --master 192.168.1.102 --port 6444

A timer runs it on every worker, and on each of several masters. It runs only an
appliance that the authority of the cluster signed for this node.

More: appliance help upgrade";

pub const APPLY: &str = "\
Examples:
  cp /etc/appliance/config.yaml new.yaml   # then edit new.yaml
  appliance apply new.yaml --dry-run       # what changes, and what restarts
  appliance apply new.yaml
  appliance apply new.yaml --yes -o json
  appliance rollback                       # back to the former settings

The file has all settings, not only those that change. The former file stays as
/etc/appliance/config.yaml.appliance-old. What an installed node keeps (role,
name, address, ranges, masters) is refused: see `appliance install --change`.
Server properties win over the file, and the file wins over user-data.

Exit codes: 0 done, or nothing to do; 1 it failed, and the node went back, or
could not: the output says which; 2 refused, nothing was changed; 4 there is no
node; 5 another run is changing this machine; 7 with --dry-run: something would
change.

More: appliance help install";

pub const ROLLBACK: &str = "\
Examples:
  appliance rollback --dry-run
  appliance rollback
  appliance rollback --yes -o json

Exit codes: 0 done; 1 something failed, run it again; 2 refused, nothing was
changed; 3 done, but the node is not healthy; 4 there is no node; 5 another run
is changing this machine; 7 with --dry-run: something would change.

More: appliance help upgrade";

pub const PRUNE: &str = "\
Examples:
  appliance prune --dry-run
  appliance prune
  appliance prune --yes -o json

Exit codes: 0 done, or nothing to remove; 1 something failed, run it again; 2
refused; 4 there is no node; 5 another run is changing this machine.

More: appliance help upgrade";

//! The last part of the help pages about the role of a node.

pub const NODE_PROMOTE: &str = "\
Examples:
  appliance node promote --dry-run
  appliance node promote
  appliance node promote --yes -o json

First, the present master gets the list of all masters:
`appliance install --change masters`. If this is interrupted, run it again; if
this machine is no node any more, run `appliance install`.

Exit codes: 0 done; 1 something failed, run it again; 2 refused, nothing was
changed; 3 done, but the node is not healthy; 4 there is no node; 5 another run
is changing this machine; 7 with --dry-run: something would change.

More: appliance help high-availability";

pub const NODE_DEMOTE: &str = "\
Examples:
  appliance node demote --dry-run
  appliance node demote
  appliance node demote --yes -o json

First, the masters that stay get the list without this one:
`appliance install --change masters`. Move the last copy in /var/backups to a
safe place: it has the keys of the cluster.

Exit codes: 0 done; 1 something failed, run it again; 2 refused, for example
because etcd would lose its majority; 3 done, but the node is not healthy; 4
there is no node; 5 another run is changing this machine; 7 with --dry-run:
something would change.

More: appliance help high-availability";

//! Examples of `status` and `serve-status`.

pub const STATUS: &str = "\
Examples:
  appliance status
  appliance status --all           # every service, image and certificate
  appliance status --watch         # until Ctrl-C
  appliance status -o json | jq -r .verdict.words
  appliance status -o json | jq '.verdict.cluster.lacks'

Exit codes: 0 the node is healthy and the cluster is ready; 3 the node is not
healthy; 4 this machine is not a node; 8 the node is healthy, and the cluster is
not ready, or not yet.

More: appliance help install";

pub const SERVE_STATUS: &str = "\
Examples:
  appliance serve-status
  appliance serve-status --port 8000

The page is at http://127.0.0.1:6480/ of this machine, and nowhere else. To see
it on your own computer, run this there, and open the same address:
  ssh -L 6480:127.0.0.1:6480 debian@server01

/status.json has what `appliance status -o json` prints. /healthz answers 200 if
the node is healthy, else 503. Every user of this machine can read them while
this runs; no secrets are in them.

Exit code: 4 this machine is not a node, and no run is making it one.

More: appliance help status-page";

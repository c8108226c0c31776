//! The last part of help pages: examples, which a test runs, and the topic with more about the
//! command. No line is longer than 80 characters.

use crate::language::{Language, Say};
use crate::nodespec::reference;
use crate::topics::{self, breaks};

pub mod backup;
pub mod bundle;
pub mod doctor;
pub mod etcd;
pub mod image;
pub mod keys;
pub mod programs;
pub mod role;
pub mod status;
pub mod timeline;
pub mod upgrade;

/// How wide help pages are.
const WIDTH: usize = 80;

/// A name and its meaning as lines of a list: the meaning begins in column `column`.
fn entry(name: &str, meaning: &str, column: usize) -> String {
    let first = format!("  {name:<width$}", width = column - 2);
    let rest = " ".repeat(column);
    let options = breaks::options(WIDTH)
        .initial_indent(&first)
        .subsequent_indent(&rest)
        .break_words(false);
    textwrap::fill(meaning, options)
}

/// Every topic with its summary.
pub fn topics(language: Language, say: Say) -> String {
    let all = topics::all(language);
    let column = all.iter().map(|topic| topic.name.len()).max().unwrap_or(0) + 4;
    let entries: Vec<String> = all
        .iter()
        .map(|topic| entry(&topic.name, &topic.summary(), column))
        .collect();
    format!("{}\n{}", say(TOPICS), entries.join("\n"))
}

/// The end of the page of all commands.
pub fn root(language: Language, say: Say) -> String {
    let topics = topics(language, say);
    [say(ROOT_EXAMPLES), topics, say(EXIT_CODES)].join("\n\n")
}

const TOPICS: &str = "Topics (appliance help TOPIC):";

const ROOT_EXAMPLES: &str = "\
Examples:
  appliance help install       # the documentation on a topic
  appliance install --help     # the help of a command";

const EXIT_CODES: &str = "\
Exit codes:
  0  done; the node is healthy
  1  something failed; run the same command again to continue
  2  refused: the command line or the input is wrong; nothing was changed
  3  the node is installed, but not healthy
  4  the node is not installed
  5  another run of appliance is changing this machine; nothing was changed
  6  other nodes have to follow first; the output says what to run there
  7  the machine differs from what it should be; nothing was changed
  8  the node is healthy; the cluster around it is not, or not yet

Where things are:
  /etc/kubernetes               certificates, kubeconfigs, audit policy
  /etc/systemd/system           the node's units
  /opt/appliance/current        the installed bundle
  /var/lib/etcd                 etcd's data; deleted by `reset --data` only
  /var/lib/appliance            the program's own records

More: appliance help";

/// The end of the page of `install`: every setting, and where to write it.
pub fn install(say: Say) -> String {
    let settings = reference::help(say).into_iter();
    let settings: Vec<String> = settings
        .map(|(name, meaning)| entry(name, &meaning, 20))
        .collect();
    let (begin, end) = (say(INSTALL_BEGIN), say(INSTALL_END));
    format!("{begin}\n{}\n\n{end}", settings.join("\n"))
}

const INSTALL_BEGIN: &str = "\
Examples:
  appliance install                          # role from the server's metadata
  appliance install --role master --dry-run  # the same as appliance plan
  appliance install --config site.yaml       # settings from a file
  appliance install --set podCIDR=10.9.0.0/16 --metadata-source config-drive
  appliance install --wait cluster=1800      # until pods run, for 30 minutes
  # prepare the system of an image that is mounted at /mnt
  appliance install --root /mnt --role master --set address=192.168.1.102

Where settings come from; the first wins:
  1. options such as --role, and --set KEY=VALUE
  2. the environment: APPLIANCE_ROLE, APPLIANCE_POD_CIDR and so on
  3. server properties: openstack server set --property role=master SERVER
     (also written appliance.KEY=VALUE)
  4. /etc/appliance/config.yaml
  5. user-data, then vendor-data: the file /etc/appliance/config.yaml in
     `write_files`, or the section `appliance:`
  6. the bundle, then the defaults
`appliance detect --explain` shows where each value comes from.

Settings:";

const INSTALL_END: &str = "\
Files can also have inventory, roleRules, hosts, ca, join and workloads:
`appliance config example` explains them.

Exit codes: 0 what was waited for is healthy; 3 the node is not; 8 the node is,
and the cluster is not yet (`--wait cluster`).

More: appliance help install";

pub const PLAN: &str = "\
Examples:
  appliance plan
  # all of it, also the content of files that do not exist yet
  appliance plan --role master --new-files
  appliance plan -o json | jq -r '.units[] | select(.restart) | .name'
  # which steps need which others
  appliance plan --role master --graph > plan.dot
  # the system of an image that is mounted at /mnt
  appliance plan --root /mnt --role master --set address=192.168.1.102

Exit codes: 0 nothing would change; 2 `install` would refuse; 7 something would
change.

More: appliance help drift";

pub const VERIFY: &str = "\
Examples:
  appliance verify
  appliance verify -o json | jq -r '.differences[].name'
  # the last results of the timer
  journalctl -u appliance-verify

Exit codes: 0 all is as it was installed; 4 this machine is not a node; 5 another
run is changing it; 7 something differs.

More: appliance help drift";

pub const CONVERT: &str = "\
Examples:
  appliance convert --dry-run       # show what will be stopped and removed
  appliance convert --yes           # do not ask
  appliance convert --root /mnt --dry-run

More: appliance help install";

pub const RESET: &str = "\
Examples:
  appliance reset --dry-run          # show what will be removed
  appliance reset                    # keep etcd's data and the keys
  appliance reset --data --keys      # remove them too, after a last copy
  appliance reset --yes -o json
  appliance reset --root /mnt --dry-run

What belongs to others stays: rules, chains, routes, images, containers, and all
lines of shared files that this program did not write. On a worker, the pods
move to other nodes and the node is deleted from the cluster, if an API server
answers. One of several masters leaves etcd's cluster first.

Exit codes: 0 done, or nothing to remove; 1 something is left, run it again;
2 refused, for example because etcd would lose its majority; 5 another run is
changing this machine.

More: appliance help reset";

pub const DETECT: &str = "\
Examples:
  appliance detect --explain
  appliance detect --metadata-source service -o json
  # for the disk of another machine, mounted at /mnt
  appliance detect --root /mnt --metadata-dir ./config-drive

More: appliance help install";

pub const PREFLIGHT: &str = "\
Examples:
  appliance preflight --role worker
  appliance preflight --role worker -o json | \\
    jq '.checks[] | select(.level == \"fail\") | .command'
  # the system of an image that is mounted at /mnt
  appliance preflight --root /mnt --role worker

Exit codes: 0 `install` would continue, perhaps with warnings; 2 it would refuse.

More: appliance help preflight";

pub const CONFIG: &str = "\
Examples:
  appliance config example > config.yaml
  appliance config validate config.yaml

More: appliance help install";

pub const CONFIG_VALIDATE: &str = "\
Examples:
  appliance config validate site.yaml
  appliance config validate user-data

More: appliance help install";

pub const CONFIG_SCHEMA: &str = "\
Examples:
  appliance config schema > appliance.schema.json

More: appliance help install";

pub const CONFIG_EXAMPLE: &str = "\
Examples:
  appliance config example > config.yaml

More: appliance help install";

pub const USER_DATA: &str = "\
Use the same user-data for all servers of a cluster. Each server finds its role
in its own properties (openstack server create --property role=master SERVER),
or finds itself in the inventory of cluster.yaml:

  inventory:
  - {name: server01, role: worker, address: 192.168.1.101}
  - {name: server02, role: master, address: 192.168.1.102}
  join: {token: TOKEN, ttl: 24h, uses: 2}  # appliance token create --offline

Examples:
  # for an image that contains the appliance
  appliance user-data --cluster cluster.yaml --file user-data
  # for any cloud image; the file `appliance` is on a volume or CD:
  # genisoimage -J -r -V APPLIANCE -o appliance.iso appliance
  appliance user-data --cluster cluster.yaml --volume APPLIANCE --file user-data
  # for any cloud image that reaches an HTTP server or a Swift TempURL
  appliance user-data --cluster cluster.yaml \\
    --from https://files.example.org/appliance \\
    --sha256 $(sha256sum < appliance | cut -c1-64) --boothook --file user-data
  # a cluster of one server
  appliance user-data --role single --set clusterName=trial

The settings are those of /etc/appliance/config.yaml, which
`appliance config example` shows. They are checked as the server checks them;
unknown settings are refused. Options win over the file. Nova accepts 49,149 bytes. Secrets in the
user-data are listed on standard error.

More: appliance help deploying";

pub const CHECK: &str = "\
Examples:
  appliance check
  appliance check --no-pods
  appliance check -o json | jq '.checks[] | select(.result == \"failed\")'
  appliance check --cis        # this node, by the CIS Kubernetes Benchmark
  appliance check --cis -o json | jq '.items[] | select(.result == \"fail\")'

Exit codes: 0 no check failed, 3 a check failed, 4 this machine is not a node,
2 it is not a master. A check that is skipped shows why and does not fail.
With --cis: 3 an item failed; `appliance help cis` has all items and results.

More: appliance help checks";

pub const CHECK_SERVE: &str = "\
Examples:
  NODE_NAME=server01 appliance check serve --port 8080

More: appliance help checks";

pub const TOKEN: &str = "\
Examples:
  appliance token create --ttl 2h --uses 3
  appliance token list

More: appliance help join";

pub const TOKEN_CREATE: &str = "\
Examples:
  appliance token create --ttl 2h --uses 3   # on the master
  appliance token create --offline           # anywhere, for a new cluster

User-data of a new cluster, the same for the master and its workers:
  #cloud-config
  write_files:
  - path: /etc/appliance/config.yaml
    permissions: \"0600\"
    content: |
      master: 192.168.1.102
      join: {token: TOKEN, ttl: 24h}

More: appliance help join";

pub const TOKEN_LIST: &str = "\
Examples:
  appliance token list
  appliance token list -o json

More: appliance help join";

pub const TOKEN_REVOKE: &str = "\
Examples:
  appliance token revoke abcdef

More: appliance help join";

pub const NODE: &str = "\
Examples:
  appliance node list
  appliance node release server03
  appliance node promote --dry-run

More: appliance help join";

pub const NODE_LIST: &str = "\
Examples:
  appliance node list
  appliance node list -o json

More: appliance help join";

pub const NODE_RELEASE: &str = "\
Examples:
  kubectl delete node server03 && appliance node release server03

More: appliance help join";

pub const NODE_GUARD: &str = "\
Examples:
  appliance node guard

More: appliance help join";

pub const CERTS: &str = "\
Examples:
  appliance certs show --root /mnt
  appliance certs renew

More: appliance help certificates";

pub const CERTS_INIT: &str = "\
Examples:
  appliance certs init --ca ./ca

A master can use a CA that exists already, and its workers then join as usual.
Write it into the master's settings: ca: {certificate: FILE, key: FILE}

More: appliance help certificates";

pub const CERTS_ISSUE: &str = "\
Examples:
  appliance certs init --ca ./ca
  appliance certs issue --ca ./ca --role master --set nodeName=server02 \\
    --set address=192.168.1.102 --dir ./server02
  appliance certs issue --ca ./ca --role worker --set nodeName=server01 \\
    --set address=192.168.1.101 --set master=192.168.1.102 --dir ./server01
  appliance certs show --root ./server02

Copy each directory to its node before the installation, as
`appliance help certificates` shows. Then run `appliance install` on each node.
A worker that has its certificates needs no token.

More: appliance help certificates";

pub const CERTS_SHOW: &str = "\
Examples:
  appliance certs show
  appliance certs show --root /mnt -o json

More: appliance help certificates";

pub const CERTS_RENEW: &str = "\
Examples:
  appliance certs renew

More: appliance help certificates";

pub const KUBECONFIG: &str = "\
Examples:
  appliance kubeconfig --server 192.168.1.102 --file admin.kubeconfig
  appliance kubeconfig --server k8s.example.org:443 -f admin.kubeconfig --force
  # on the other machine
  kubectl --kubeconfig admin.kubeconfig get nodes

More: appliance help kubectl";

/// clap does not wrap this line.
pub const BALANCE_USAGE: &str = "\
appliance balance [OPTIONS] --listen <ADDRESS:PORT>
       --server <ADDRESS:PORT> --authority <FILE> --certificate <FILE>
       --key <FILE>";

pub const BALANCE: &str = "\
Examples:
  appliance balance --listen 127.0.0.1:6440 --server 192.168.1.102:6443 \\
    --server 192.168.1.103:6443 --authority ca.pem --certificate client.pem \\
    --key client-key.pem

More: appliance help high-availability";

pub const DATASTORE_USAGE: &str = "\
appliance datastore [OPTIONS] --listen <ADDRESS:PORT>
       --etcd <URL> --identity <DIR> --pods <RANGE>";

pub const DATASTORE: &str = "\
Examples:
  appliance datastore --listen 192.168.1.102:2378 \\
    --etcd https://127.0.0.1:2379 --pods 172.20.0.0/16 \\
    --identity /run/appliance-calico-datastore

More: appliance help security";

pub const JOIN: &str = "\
Examples:
  systemctl status appliance-signer appliance-join appliance-renewals
  appliance join serve --listen 192.168.1.102:6444

More: appliance help join";

pub const JOIN_SIGN: &str = "\
Examples:
  appliance join sign --socket /run/appliance-signer/socket

More: appliance help join";

pub const JOIN_SERVE: &str = "\
Examples:
  appliance join serve --listen 192.168.1.102:6444

More: appliance help join";

pub const JOIN_SERVE_RENEWALS: &str = "\
Examples:
  appliance join serve-renewals --listen 192.168.1.102:6445

More: appliance help join";

pub const ADDONS: &str = "\
Examples:
  appliance addons apply
  systemctl restart appliance-addons   # the unit that runs it

More: appliance help workloads";

pub const IMAGES: &str = "\
Examples:
  appliance images ensure

More: appliance help workloads";

pub const VERSION: &str = "\
Examples:
  appliance version
  appliance version -o json

More: appliance help support";

pub const SCHEMA: &str = "\
Examples:
  appliance schema
  appliance schema token list
  appliance schema error

With `--output json` (`-o json`), every command prints exactly one JSON document
on standard output: its result, or an object with `error`. Messages for people
are on standard error. The words of options that change the result are part of
the name: check-cis, bundle-list-bundle, user-data-file, kubeconfig-file.

More: appliance help scripts";

pub const COMPLETION: &str = "\
Examples:
  appliance completion bash > /etc/bash_completion.d/appliance
  appliance completion zsh > _appliance

More: appliance help";

pub const HELP: &str = "\
Examples:
  appliance help                 # all commands and topics
  appliance help join            # a topic
  appliance help token create    # a command

More: appliance help";

pub const MAN: &str = "\
Examples:
  appliance man --dir /usr/local/share/man/man1
  appliance man --dir ./man && man ./man/appliance-install.1

More: appliance help";

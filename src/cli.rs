//! The command line: types only. Commands resolve what was typed here into what they do.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::bundle::fetch::mirror::Mirror;
use crate::check::probe;
use crate::components;
use crate::join::signer;
use crate::metadata::Source;
use crate::spec::join::Ttl;
use crate::spec::reference;

const EXIT_CODES: &str = "\
Exit codes:
  0  done; the node is healthy
  1  something failed; running the same command again goes on from there
  2  refused: the command line or the input is wrong, and nothing was written
  3  the node is installed, but not healthy
  4  the node is not installed

Where things are:
  /etc/kubernetes               certificates, kubeconfigs, audit policy
  /etc/systemd/system           the node's units
  /opt/appliance/current        the bundle in use
  /var/lib/etcd                 etcd's data; never removed
  /var/lib/appliance            what this program remembers";

/// Turns this machine into a Kubernetes v1.9 node, with no network beyond the cluster's own.
///
/// The program carries everything the node needs. Copied to an OpenStack VM, or baked into
/// its image, it finds its role in the instance metadata, writes every configuration and
/// certificate, starts the services and tells whether they are healthy.
#[derive(Debug, Parser)]
#[command(name = "appliance", bin_name = "appliance", version, max_term_width = 100, after_long_help = EXIT_CODES)]
pub struct Cli {
    /// Say also which programs are run
    #[arg(short, long, global = true)]
    pub verbose: bool,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make this machine a node, or bring it back to what it should be
    ///
    /// Safe to run at any time: what is already as it should be is not touched, and a run
    /// that was cut goes on where it stopped. Keys and etcd's data are never overwritten.
    #[command(after_long_help = install_help())]
    Install(Install),
    /// Make a node of profile simple one of profile with-ca: take it down, then install it anew
    ///
    /// Says beforehand what will be stopped and removed, and asks. etcd's data is put aside, not
    /// removed. Begin with the workers, and end with the master.
    Convert(Convert),
    /// Show what this VM would become, and change nothing
    #[command(after_long_help = DETECT_EXAMPLES)]
    Detect(Detect),
    /// Check, describe or begin a file of settings
    #[command(subcommand)]
    Config(Config),
    /// Tell whether the node is healthy: services, endpoints, images, certificates
    Status(Status),
    /// Check the whole cluster, on a master: versions, nodes, network, DNS, services
    ///
    /// Pods of the namespace appliance-check are started on every node for it, this program in the
    /// pause image, and removed afterwards. What fails is shown with what mends it.
    #[command(after_long_help = CHECK_EXAMPLES, args_conflicts_with_subcommands = true)]
    Check(Check),
    /// Tokens by which workers join: make, list and revoke them on the master
    #[command(subcommand)]
    Token(Token),
    /// The nodes that joined this master
    #[command(subcommand)]
    Node(Node),
    /// Certificates: of this node, or made by hand
    #[command(subcommand)]
    Certs(Certs),
    /// Lead to the API servers that are healthy, as its unit runs it
    #[command(hide = true)]
    Balance(Balance),
    /// The parts of the join service, as its units run them
    #[command(subcommand, hide = true)]
    Join(Join),
    /// What runs in the cluster besides its own parts, as a unit applies it
    #[command(subcommand, hide = true)]
    Addons(Addons),
    /// The images of this node
    #[command(subcommand)]
    Images(Images),
    /// Build, on an operator's machine, what an appliance carries
    #[command(subcommand)]
    Bundle(Bundle),
    /// Make an appliance out of this program and a bundle, without a compiler
    #[command(after_long_help = REPACK_EXAMPLES)]
    Repack(Repack),
    /// Print the program's version and that of the bundle it carries
    Version {
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Print a completion script: appliance completion bash > /etc/bash_completion.d/appliance
    Completion {
        /// The shell it is for
        shell: Shell,
    },
}

const REPACK_EXAMPLES: &str = "\
Examples:
  appliance bundle fetch --bundle mine            where the internet is
  appliance repack --bundle mine -o my-appliance  there, or wherever the cache was carried to
  appliance repack --bundle mine --components ./files --sign-key my.key -o my-appliance";

const DETECT_EXAMPLES: &str = "\
Examples:
  appliance detect --explain
  appliance detect --metadata-source service -o json
  appliance detect --root /mnt --metadata-dir ./openstack   for another machine's disk";

/// Every setting, and how to make it.
fn install_help() -> String {
    format!(
        "\
Examples:
  appliance install                          the role comes from the server's metadata
  appliance install --role master --dry-run  show every change, make none
  appliance install --config site.yaml       settings from a file
  appliance install --set podCIDR=10.9.0.0/16 --metadata-source config-drive

Settings, the strongest place first: flags (--set KEY=VALUE), the environment (APPLIANCE_ROLE,
APPLIANCE_POD_CIDR and so on), server properties (openstack server set --property KEY=VALUE, plain
or as appliance.KEY), /etc/appliance/config.yaml, the section `appliance:` of user-data, then of
vendor-data, the bundle, defaults. `appliance detect --explain` shows who said what.
{}
In files also inventory, roleRules and hosts: `appliance config example` explains them.",
        reference::help()
    )
}

/// Where a node's settings come from.
#[derive(Args, Clone, Debug)]
pub struct NodeInputs {
    /// What the node is to be: master, worker or single [default: what is found]
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,

    /// How the cluster's parts trust each other: with-ca or simple [default: with-ca]
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,

    /// Make a setting; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,

    /// A file of settings [default: /etc/appliance/config.yaml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Where to look for metadata, the source that counts first
    ///
    /// config-drive, service[=URL], cloud-init[=ROOT] or directory=DIR, separated by commas.
    /// [default: config-drive,service,cloud-init; the service only where the firmware says that
    /// OpenStack runs this machine]
    #[arg(long, value_name = "SOURCE,…", value_delimiter = ',')]
    pub metadata_source: Vec<Source>,

    /// Read the metadata from this directory only, laid out like a config drive
    #[arg(long, value_name = "DIR", conflicts_with = "metadata_source")]
    pub metadata_dir: Option<PathBuf>,

    /// How long to try to reach a metadata service, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub metadata_timeout: u64,
}

/// Arguments of `detect`.
#[derive(Args, Debug)]
pub struct Detect {
    /// What the node specification is made from
    #[command(flatten)]
    pub inputs: NodeInputs,

    /// Also say who said each value, what that overrode, and how every source was found
    #[arg(long)]
    pub explain: bool,

    /// Detect for the system below this directory, as for an image
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Settings in files.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check a file of settings, or the section `appliance:` of user-data, without a VM
    Validate {
        /// The file
        file: PathBuf,
    },
    /// Print the JSON Schema of a file of settings, for editors
    Schema,
    /// Print a file with every setting, explained and commented out
    Example,
}

/// Arguments of `install`.
#[derive(Args, Debug)]
pub struct Install {
    /// What the node specification is made from
    #[command(flatten)]
    pub inputs: NodeInputs,

    /// Prepare the system below this directory and start nothing, as for an image
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// Use this payload, or that of this appliance, and not the one of this program
    #[arg(long, value_name = "FILE")]
    pub payload: Option<PathBuf>,

    /// Whose signature the payload has to have
    #[command(flatten)]
    pub trust: Trust,

    /// Show what would change and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// How long to wait for the node to become healthy, in seconds; 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub wait: u64,

    /// How long a worker tries to join its master, in seconds; 0 is for ever
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub join_timeout: u64,

    /// How to print the outcome
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Arguments of `convert`.
#[derive(Args, Debug)]
pub struct Convert {
    /// How the node is installed then
    #[command(flatten)]
    pub install: Install,

    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// Arguments of `status`.
#[derive(Args, Debug)]
pub struct Status {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

const CHECK_EXAMPLES: &str = "\
Examples:
  appliance check
  appliance check --no-pods         start none: only what can be seen without
  appliance check -o json | jq '.checks[] | select(.result == \"failed\")'

Exit codes: 0 nothing failed, 3 something did, 4 this machine is no node, 2 it is no master.
What is skipped says why, and does not count. docs/checks.md has the same checks as commands.";

/// Arguments of `check`.
#[derive(Args, Debug)]
pub struct Check {
    /// A part of the check
    #[command(subcommand)]
    pub command: Option<CheckCommand>,

    /// Start no pods: check only what can be seen without
    #[arg(long)]
    pub no_pods: bool,

    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// A part of the check.
#[derive(Debug, Subcommand)]
pub enum CheckCommand {
    /// Serve as a probe, inside a pod
    #[command(hide = true)]
    Serve {
        /// The port to listen at, over HTTP and UDP
        #[arg(long, value_name = "PORT", default_value_t = probe::PORT)]
        port: u16,
        /// The name of the node
        #[arg(long, value_name = "NAME", env = "NODE_NAME", default_value = "")]
        node: String,
    },
}

/// Tokens by which workers join.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token and print it; it is shown this once
    #[command(after_long_help = TOKEN_EXAMPLES)]
    Create {
        /// How long it serves, such as 24h, or never
        #[arg(long, value_name = "TIME", default_value = "24h")]
        ttl: Ttl,
        /// How many workers may join with it [default: any number]
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
        uses: Option<u32>,
        /// Make one before there is any master, for user-data; nothing is kept
        #[arg(long, conflicts_with_all = ["ttl", "uses"])]
        offline: bool,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// List the tokens this master knows, without their secrets
    List {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Make a token useless; workers that joined with it stay
    Revoke {
        /// The token, or the part before its dot
        token: String,
    },
}

const TOKEN_EXAMPLES: &str = "\
Examples:
  appliance token create --ttl 2h --uses 3      on the master
  appliance token create --offline              anywhere, for the user-data of a new cluster

In user-data, the same for the master and its workers:
  #cloud-config
  appliance:
    master: 192.168.1.102
    join: {token: abcdef.…, ttl: 24h}";

/// The nodes that joined this master.
#[derive(Debug, Subcommand)]
pub enum Node {
    /// List them: name, address, when last seen by the join service
    List {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Let another machine have the name of a node that is gone for good
    Release {
        /// The node's name
        name: String,
    },
}

/// Certificates.
#[derive(Debug, Subcommand)]
pub enum Certs {
    /// Make a certificate authority by hand: ca.pem and ca-key.pem, never overwritten
    #[command(after_long_help = CERTS_EXAMPLES)]
    Init {
        /// The directory to put it into
        #[arg(long, value_name = "DIR")]
        ca: PathBuf,
        /// The authority's common name
        #[arg(long, value_name = "NAME", default_value = "kubernetes")]
        common_name: String,
    },
    /// Make a node's keys and certificates by hand, to be copied to it before it is installed
    ///
    /// Run again, it keeps every key, and makes only the certificates that are missing, come to
    /// their end, or have other names than they should.
    #[command(after_long_help = CERTS_EXAMPLES)]
    Issue {
        /// The directory of the authority: ca.pem and ca-key.pem
        #[arg(long, value_name = "DIR")]
        ca: PathBuf,
        /// The directory that stands for the node's `/`
        #[arg(short, long, value_name = "DIR")]
        output: PathBuf,
        /// What the node is to be: master, worker or single
        #[arg(long, value_name = "ROLE")]
        role: String,
        /// A setting of the node, such as nodeName, address or apiServerSANs; may be given several times
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// A file of settings
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// List certificates: subjects, names, ends, and what renewing each would restart
    Show {
        /// The system whose certificates to list
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Renew this node's certificates that come to their end, and restart what uses them
    ///
    /// A timer does so daily. A worker asks its master, showing the certificate it has; a master
    /// signs its own. What has been stopped stays stopped.
    Renew {
        /// What the node specification is made from
        #[command(flatten)]
        inputs: NodeInputs,
    },
}

const CERTS_EXAMPLES: &str = "\
Examples:
  appliance certs init --ca ./ca
  appliance certs issue --ca ./ca --role master --set nodeName=server02 --set address=192.168.1.102 -o ./server02
  appliance certs issue --ca ./ca --role worker --set nodeName=server01 --set address=192.168.1.101 \\
      --set master=192.168.1.102 -o ./server01
  tar -C ./server01 -c etc | ssh server01 tar -C / -x     then, there: appliance install
  appliance certs show --root ./server02

A worker that has its certificates does not join. To let the master use an authority that is
there already, and workers join as ever, say it in the master's settings: ca: {certificate: …, key: …}";

/// The parts of the join service.
#[derive(Debug, Subcommand)]
pub enum Join {
    /// Keep the authority's key, and sign what may be signed
    Sign {
        /// Where to listen for the other parts
        #[arg(long, value_name = "PATH", default_value = signer::SOCKET)]
        socket: PathBuf,
        /// Who may ask there
        #[arg(long, value_name = "USER", default_value = components::JOIN_USER)]
        user: String,
        /// The system whose keys and tokens these are
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
    /// Let workers in that have a token, as long as there is one
    Serve(Serve),
    /// Renew the certificates of nodes
    ServeRenewals {
        /// Where to listen and whom to ask
        #[command(flatten)]
        serve: Serve,
        /// The authorities whose nodes are served
        #[arg(long, value_name = "FILE", default_value = components::CA_CERTIFICATE)]
        authority: PathBuf,
    },
}

/// What the balancer leads to, and how it asks for their health.
#[derive(Args, Debug)]
pub struct Balance {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// An API server; give it once for each
    #[arg(long = "server", value_name = "ADDRESS:PORT", required = true)]
    pub servers: Vec<SocketAddr>,
    /// The authorities of their certificates
    #[arg(long, value_name = "FILE")]
    pub authority: PathBuf,
    /// The certificate to show them
    #[arg(long, value_name = "FILE")]
    pub certificate: PathBuf,
    /// Its private key
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
}

/// Where a part of the join service listens.
#[derive(Args, Debug)]
pub struct Serve {
    /// The address and port to listen at
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// The socket of the part that signs
    #[arg(long, value_name = "PATH", default_value = signer::SOCKET)]
    pub socket: PathBuf,
}

/// What runs in the cluster besides its own parts.
#[derive(Debug, Subcommand)]
pub enum Addons {
    /// Apply everything in order, and wait until all of it is available
    Apply,
}

/// The images of this node.
#[derive(Debug, Subcommand)]
pub enum Images {
    /// Load again what docker has lost; a timer does so every five minutes
    Ensure,
}

/// Building what an appliance carries.
#[derive(Debug, Subcommand)]
pub enum Bundle {
    /// Download every artifact of a bundle into the cache, each held to bundle.lock
    ///
    /// A download that was cut goes on where it stopped. Proxies are taken from HTTPS_PROXY,
    /// HTTP_PROXY and NO_PROXY; credentials for registries from what `docker login` left.
    #[command(after_long_help = FETCH_EXAMPLES)]
    Fetch(Fetch),
    /// Fetch, and write to bundle.lock what became known: sizes, and what is inside archives
    Lock {
        /// What to fetch and how
        #[command(flatten)]
        fetch: Fetch,
        /// Believe the first download of what nobody published a checksum for, and note its own
        #[arg(long)]
        trust_on_first_use: bool,
        /// Write bundle.toml and bundle.lock to this directory [default: that of the bundle]
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
    /// Write the cache, or a bundle's part of it, as one tar to carry over an air gap
    Export {
        /// Only what this bundle needs: a directory, or a known bundle's name
        #[arg(long, value_name = "BUNDLE")]
        bundle: Option<String>,
        /// Where downloads are kept
        #[command(flatten)]
        cache: CacheDir,
        /// The tar to write
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Add what `bundle export` wrote to the cache; every file is compared with its digest
    Import {
        /// The tar to read
        file: PathBuf,
        /// Where downloads are kept
        #[command(flatten)]
        cache: CacheDir,
    },
    /// Pack a bundle's components into a payload, one file: the same files give the same bytes
    Pack {
        /// The directory of bundle.toml and bundle.lock, or a known bundle's name
        #[arg(long, value_name = "BUNDLE")]
        bundle: String,
        /// What the payload is packed from
        #[command(flatten)]
        ingredients: Ingredients,
        /// The payload to write; replaced if it is there
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Check an appliance or a payload, without running it
    ///
    /// Every file is unpacked to a temporary directory and held to the payload's own
    /// manifest, and, where a bundle is given, to its bundle.toml and bundle.lock. Ends with 1
    /// if anything differs.
    Verify {
        /// An appliance, or a payload
        file: PathBuf,
        /// The bundle it should hold: a directory, or a known bundle's name
        #[arg(long, value_name = "BUNDLE")]
        bundle: Option<String>,
        /// Whose signature it has to have
        #[command(flatten)]
        trust: Trust,
        /// How to print the findings
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// List what an appliance, a payload or this node carries
    List {
        /// Where to look
        #[command(flatten)]
        what: Carrier,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Print the software bill of materials (CycloneDX 1.5, JSON)
    Sbom {
        /// Where to look
        #[command(flatten)]
        what: Carrier,
    },
}

const FETCH_EXAMPLES: &str = "\
Examples:
  appliance bundle lock --bundle v1.9 --trust-on-first-use -o mine   once, for what has no checksum
  appliance bundle fetch --bundle mine
  appliance bundle fetch --bundle mine --mirror gcr.io=https://registry.example
  HTTPS_PROXY=http://proxy.example:3128 appliance bundle fetch --bundle mine";

/// The directory of downloads.
#[derive(Args, Clone, Debug)]
pub struct CacheDir {
    /// Where downloads are kept, for all bundles [default: ~/.cache/appliance]
    #[arg(long = "cache", value_name = "DIR", env = "APPLIANCE_CACHE")]
    pub dir: Option<PathBuf>,
}

/// Arguments of `bundle fetch`.
#[derive(Args, Debug)]
pub struct Fetch {
    /// The directory of bundle.toml and bundle.lock, or a known bundle's name
    #[arg(long, value_name = "BUNDLE")]
    pub bundle: String,

    /// Where downloads are kept
    #[command(flatten)]
    pub cache: CacheDir,

    /// Ask URL for what has an address that begins with HOST[/PATH]; may be given several times
    #[arg(long, value_name = "HOST[/PATH]=URL")]
    pub mirror: Vec<Mirror>,

    /// How many artifacts to fetch at once
    #[arg(short, long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: u8,
}

/// What a payload is packed from, and who signs it.
#[derive(Args, Debug)]
pub struct Ingredients {
    /// A directory with files or archives of components, looked at before the cache
    #[arg(long, value_name = "DIR")]
    pub components: Option<PathBuf>,

    /// Where downloads are kept
    #[command(flatten)]
    pub cache: CacheDir,

    /// Sign the payload with this minisign secret key
    #[arg(long, value_name = "FILE")]
    pub sign_key: Option<PathBuf>,

    /// The file with that key's password, where it has one
    #[arg(long, value_name = "FILE", requires = "sign_key")]
    pub sign_password_file: Option<PathBuf>,
}

/// Arguments of `repack`.
#[derive(Args, Debug)]
pub struct Repack {
    /// The directory of bundle.toml and bundle.lock, or a known bundle's name
    #[arg(long, value_name = "BUNDLE", required_unless_present = "payload")]
    pub bundle: Option<String>,

    /// Take this payload, packed before, in the place of a bundle
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bundle", "components", "sign_key"])]
    pub payload: Option<PathBuf>,

    /// What the payload is packed from
    #[command(flatten)]
    pub ingredients: Ingredients,

    /// The program to make an appliance of [default: this one]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,

    /// The appliance to write; a program that is there is replaced
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// What carries a bundle.
#[derive(Args, Debug)]
pub struct Carrier {
    /// An appliance or a payload [default: this program; in the builder, this node]
    #[arg(conflicts_with = "installed")]
    pub file: Option<PathBuf>,

    /// Look at what is installed on this node
    #[arg(long)]
    pub installed: bool,
}

/// Whose signature a payload has to have.
#[derive(Args, Clone, Debug, Default)]
pub struct Trust {
    /// Refuse a payload that this minisign public key, or the one in this file, did not sign
    #[arg(long = "trust-key", value_name = "KEY|FILE")]
    pub key: Option<String>,
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables and sentences
    #[default]
    Text,
    /// One JSON document on standard output
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}

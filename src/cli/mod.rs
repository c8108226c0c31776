//! The command line: types only. Commands resolve what was typed here into what they do.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::check::probe;
use crate::metadata::Source;
use crate::nodespec::reference;

mod bundle;
mod image;
mod join;
mod user_data;

pub use bundle::{Bundle, CacheDir, Carrier, Fetch, Ingredients, Repack, Trust};
pub use image::{Image, ImageBuild, ImageCheck, ImagePayload, ImagePrepare};
pub use join::{Certs, Join, Node, Serve, Token};
pub use user_data::UserData;

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
    /// Write what servers boot with to become nodes: cloud-init's user-data
    #[command(after_long_help = user_data::USER_DATA_HELP)]
    UserData(UserData),
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
    /// Golden images: make them, offline or of this machine, and check them
    #[command(subcommand)]
    Image(Image),
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

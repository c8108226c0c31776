//! The command line: types only. Commands resolve what was typed here into what they do.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

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
#[command(name = "appliance", version, max_term_width = 100, after_long_help = EXIT_CODES)]
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
    #[command(after_long_help = INSTALL_EXAMPLES)]
    Install(Install),
    /// Tell whether the node is healthy: services, endpoints, images, certificates
    Status(Status),
    /// Build, on an operator's machine, what an appliance carries
    #[command(subcommand)]
    Bundle(Bundle),
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

const INSTALL_EXAMPLES: &str = "\
Examples:
  appliance install                          the role comes from the server's metadata
  appliance install --role master --dry-run  show every change, make none
  appliance install --config site.yaml       settings from a file

Settings, from the file or as server properties (`openstack server set --property KEY=VALUE`,
plain or as appliance.KEY):
  role           master (worker and single follow in a later version)
  profile        with-ca, or simple: no TLS and no authorization
  nodeName       the node's name                     [default: its host name]
  address        the address other nodes reach it by [default: from the metadata]
  podCIDR        [default: 172.20.0.0/16]
  serviceCIDR    [default: 10.68.0.0/16]
  clusterName    [default: kubernetes]
  clusterDomain  [default: cluster.local]
  nodePortRange  [default: 20000-40000]
  apiServerSANs  further names of the API server, separated by commas, such as a floating IP
  ipip           off, always or cross-subnet         [default: off]
  mtu            of the nodes' network, in bytes     [default: from the metadata, else 1500]
  hosts          other nodes for /etc/hosts, name: address (file only)";

/// Arguments of `install`.
#[derive(Args, Debug)]
pub struct Install {
    /// What the node is to be; `auto` looks in the configuration file and the metadata
    #[arg(long, value_name = "ROLE", default_value = "auto")]
    pub role: String,

    /// How the cluster's parts trust each other: with-ca or simple [default: with-ca]
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,

    /// A file of settings [default: /etc/appliance/config.yaml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Read the metadata from this directory, laid out like a config drive, and not from a device
    #[arg(long, value_name = "DIR")]
    pub metadata_dir: Option<PathBuf>,

    /// Prepare the system below this directory and start nothing, as for an image
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// Use the packed payload in this directory and not the one inside this program
    #[arg(long, value_name = "DIR")]
    pub payload: Option<PathBuf>,

    /// Show what would change and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// How long to wait for the node to become healthy, in seconds; 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub wait: u64,

    /// How to print the outcome
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Arguments of `status`.
#[derive(Args, Debug)]
pub struct Status {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Building what an appliance carries.
#[derive(Debug, Subcommand)]
pub enum Bundle {
    /// Pack a bundle's components into a payload for `make appliance`
    Pack(Pack),
    /// List what this appliance, or a packed payload, carries
    List {
        /// Look at the packed payload in this directory
        #[arg(long, value_name = "DIR")]
        payload: Option<PathBuf>,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// Arguments of `bundle pack`.
#[derive(Args, Debug)]
pub struct Pack {
    /// The directory of bundle.toml and bundle.lock
    #[arg(long, value_name = "DIR")]
    pub bundle: PathBuf,

    /// The directory of the components' files
    #[arg(long, value_name = "DIR")]
    pub components: PathBuf,

    /// The directory to write the payload to; replaced if it is there
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
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

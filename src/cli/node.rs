//! The command line of one node: how to install and inspect it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Trust, Waiting, seconds};
use crate::metadata::Source;
use crate::nodespec::ports::STATUS_PAGE;
use crate::preflight::Ignored;
use crate::preflight::stays::Field;

/// The settings of a node and their sources.
#[derive(Args, Clone, Debug)]
pub struct NodeInputs {
    /// The node's role: master, worker or single [default: from the metadata]
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,

    /// with-ca: TLS and authorization; simple: neither [default: with-ca]
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,

    /// Change a setting; you can repeat this option
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,

    /// File of settings [default: /etc/appliance/config.yaml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Where metadata come from
    #[command(flatten)]
    pub metadata: MetadataInputs,
}

/// Where metadata come from.
#[derive(Args, Clone, Debug)]
pub struct MetadataInputs {
    /// Where to look for metadata; the first source wins
    ///
    /// A list of config-drive, service[=URL], cloud-init[=ROOT] and directory=DIR, separated by
    /// commas. [default: config-drive,service,cloud-init; the service only if the firmware reports
    /// that OpenStack runs this machine]
    #[arg(long, value_name = "SOURCE,…", value_delimiter = ',')]
    pub metadata_source: Vec<Source>,

    /// Read the metadata only from this directory, which has the layout of a config drive
    #[arg(long, value_name = "DIR", conflicts_with = "metadata_source")]
    pub metadata_dir: Option<PathBuf>,

    /// How many seconds to try to reach a metadata service, and to wait for a clock that is plainly wrong
    ///
    /// At a boot, a clock may show 1970 until a time service corrects it. Where nothing does, it is
    /// refused at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub metadata_timeout: u64,
}

/// Arguments of `detect`.
#[derive(Args, Debug)]
pub struct Detect {
    /// The settings of the node and their sources
    #[command(flatten)]
    pub inputs: NodeInputs,

    /// Also show where each value comes from, what it overrides, and every source of metadata
    #[arg(long)]
    pub explain: bool,

    /// Detect for the system below this directory, for example a mounted image
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

/// Settings in files.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check a file of settings, or the section `appliance:` of user-data
    ///
    /// You can run this on any machine.
    #[command(after_long_help = super::text::CONFIG_VALIDATE)]
    Validate {
        /// The file
        file: PathBuf,
    },
    /// Print the JSON Schema of a file of settings, for editors
    #[command(after_long_help = super::text::CONFIG_SCHEMA)]
    Schema,
    /// Print a file with every setting, explained and commented out
    #[command(after_long_help = super::text::CONFIG_EXAMPLE)]
    Example,
}

/// The checks of the machine that the operator ignores.
#[derive(Args, Debug)]
pub struct Ignore {
    /// Only warn if this check of `appliance preflight` fails; you can repeat this option
    #[arg(
        long = "ignore-preflight",
        value_name = "NAME",
        env = "APPLIANCE_IGNORE_PREFLIGHT",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub checks: Vec<Ignored>,
}

/// Arguments of `preflight`.
#[derive(Args, Debug)]
pub struct Preflight {
    /// The settings of the node and their sources
    #[command(flatten)]
    pub inputs: NodeInputs,

    /// Check the system below this directory, for example a mounted image
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// Check the room for this payload or appliance, not for this program
    #[arg(long, value_name = "FILE")]
    pub payload: Option<PathBuf>,

    /// The failed checks that only warn
    #[command(flatten)]
    pub ignore: Ignore,
}

/// The node that this machine should be.
#[derive(Args, Debug)]
pub struct Wanted {
    /// The settings of the node and their sources
    #[command(flatten)]
    pub inputs: NodeInputs,

    /// Use the system below this directory, for example a mounted image; start nothing
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// Install from this payload or appliance, not from this program
    #[arg(long, value_name = "FILE")]
    pub payload: Option<PathBuf>,

    /// The key that must have signed the payload
    #[command(flatten)]
    pub trust: Trust,

    /// Change this about an installed node: name, address, masters or trust; you can repeat this option
    ///
    /// Without it, an installed node keeps them, whatever the settings say. `name` is for workers only. A worker needs a
    /// token for both. When `address` changes on a master, etcd is told. `masters` changes the list of masters, which get the keys of
    /// the cluster. `trust` gives a master of an older version the authority of etcd.
    #[arg(long, value_name = "FIELD")]
    pub change: Vec<Field>,

    /// The failed checks of the machine that only warn
    #[command(flatten)]
    pub ignore: Ignore,
}

/// Arguments of `install`.
#[derive(Args, Debug)]
pub struct Install {
    /// The node
    #[command(flatten)]
    pub wanted: Wanted,

    /// Change nothing, and show what would change: the same as `appliance plan`
    #[arg(long)]
    pub dry_run: bool,

    /// How many seconds to wait for another run to end, and then until the node is healthy; 0: do not
    /// wait
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = seconds())]
    pub wait: u64,

    /// How many seconds a worker tries to join its master; 0: no limit
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = seconds())]
    pub join_timeout: u64,
}

/// Arguments of `plan`.
#[derive(Args, Debug)]
pub struct Plan {
    /// The node
    #[command(flatten)]
    pub wanted: Wanted,

    /// Also show the content of files that do not exist yet
    #[arg(short = 'N', long)]
    pub new_files: bool,
}

/// Where the status page is.
#[derive(Args, Debug)]
pub struct ServeStatus {
    /// Port on 127.0.0.1 to listen on; 0 is any free port
    #[arg(long, value_name = "PORT", default_value_t = STATUS_PAGE)]
    pub port: u16,
}

/// Arguments of `verify`.
#[derive(Args, Debug)]
pub struct Verify {
    /// Print one line, for the journal
    #[arg(long)]
    pub brief: bool,

    /// Compare the system below this directory, for example a mounted image: its files only
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// What to do while another run changes this machine
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Arguments of `convert`.
#[derive(Args, Debug)]
pub struct Convert {
    /// The options of the installation with the new profile
    #[command(flatten)]
    pub install: Install,

    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// Arguments of `reset`.
#[derive(Args, Debug)]
pub struct Reset {
    /// Also remove etcd's data, and the list of nodes that joined; a last copy is made first
    #[arg(long)]
    pub data: bool,

    /// Also remove keys and certificates; a last copy is made first
    #[arg(long)]
    pub keys: bool,

    /// Directory for the last copy
    #[arg(long, value_name = "DIR", default_value = crate::paths::COPIES_DIR)]
    pub copy_to: PathBuf,

    /// Leave containers and images in docker, for a docker that does not work any more
    #[arg(long)]
    pub without_docker: bool,

    /// Remove a master even if etcd's cluster then has no majority and stops
    #[arg(long)]
    pub force: bool,

    /// Remove the node from the system below this directory, for example a mounted image
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// Show what would be removed; change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,

    /// What to do while another run changes this machine
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Arguments of `kubeconfig`.
#[derive(Args, Debug)]
pub struct Kubeconfig {
    /// Where the other machine reaches the API server [default: as on this node]
    ///
    /// An IPv4 address or a DNS name, which must be in the API server's certificate. The default
    /// port is 6443.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub server: Option<String>,

    /// File to write, readable by its owner only [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Replace the file if it exists
    #[arg(long)]
    pub force: bool,

    /// Use the master's files below this directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

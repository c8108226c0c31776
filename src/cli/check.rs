//! The command line of checks of the cluster, and of commands that units of nodes run.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use ipnet::Ipv4Net;
use url::Url;

use super::{Waiting, text};
use crate::check::probe;

/// Arguments of `check`.
#[derive(Args, Debug)]
pub struct Check {
    /// A part of the check
    #[command(subcommand)]
    pub command: Option<CheckCommand>,

    /// Start no pods; run only the checks that need none
    #[arg(long)]
    pub no_pods: bool,

    /// Evaluate this node by the CIS Kubernetes Benchmark instead, on any node
    #[arg(long, conflicts_with = "no_pods")]
    pub cis: bool,

    /// With --cis: evaluate the system below this directory, for example a mounted image
    #[arg(long, value_name = "DIR", default_value = "/", requires = "cis")]
    pub root: PathBuf,
}

/// A part of the check.
#[derive(Debug, Subcommand)]
pub enum CheckCommand {
    /// Answer requests of the check, inside a pod
    #[command(hide = true, after_long_help = text::CHECK_SERVE)]
    Serve {
        /// Port to listen on, HTTP and UDP
        #[arg(long, value_name = "PORT", default_value_t = probe::PORT)]
        port: u16,
        /// The node's name
        #[arg(long, value_name = "NAME", env = "NODE_NAME", default_value = "")]
        node: String,
    },
}

/// Where the forwarder sends connections, and how it checks that the servers are healthy.
#[derive(Args, Debug)]
pub struct Balance {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// An API server; repeat this option for each
    #[arg(long = "server", value_name = "ADDRESS:PORT", required = true)]
    pub servers: Vec<SocketAddr>,
    /// CA certificates to verify the API servers with
    #[arg(long, value_name = "FILE")]
    pub authority: PathBuf,
    /// Client certificate for the API servers
    #[arg(long, value_name = "FILE")]
    pub certificate: PathBuf,
    /// Private key of the client certificate
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
}

/// Where the server of Calico's data listens, and the etcd behind it.
#[derive(Args, Debug)]
pub struct Datastore {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// URL of this master's etcd
    #[arg(long, value_name = "URL")]
    pub etcd: Url,
    /// Directory with the certificates and keys of the server
    #[arg(long, value_name = "DIR")]
    pub identity: PathBuf,
    /// IPv4 ranges with the addresses of pods, separated by commas
    #[arg(long, value_name = "RANGE", value_delimiter = ',', required = true)]
    pub pods: Vec<Ipv4Net>,
}

/// What runs in the cluster besides its own parts.
#[derive(Debug, Subcommand)]
pub enum Addons {
    /// Apply all add-ons and workloads in order; wait until they are available
    #[command(after_long_help = text::ADDONS)]
    Apply,
}

/// The images of this node.
#[derive(Debug, Subcommand)]
pub enum Images {
    /// Load the images that docker does not have
    ///
    /// A timer runs this every 15 minutes.
    #[command(after_long_help = text::IMAGES)]
    Ensure {
        /// What to do while another run changes this machine
        #[command(flatten)]
        waiting: Waiting,
    },
}

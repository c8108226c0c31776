//! The command line of tokens, nodes, certificates and the join service.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Install, NodeInputs, Waiting, text};
use crate::components;
use crate::nodespec::join::Ttl;
use crate::paths;

/// Tokens by which workers join.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Create a token and print it; it is shown only once
    ///
    /// The token is on standard output; what to do with it is on standard error.
    #[command(after_long_help = text::TOKEN_CREATE)]
    Create {
        /// How long workers can join with the token, for example 24h, or never
        #[arg(long, value_name = "TIME", default_value = "24h")]
        ttl: Ttl,
        /// How many workers can join with the token [default: no limit]
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
        uses: Option<u32>,
        /// Create a token for user-data before there is a master; nothing is stored
        #[arg(long, conflicts_with_all = ["ttl", "uses"])]
        offline: bool,
        /// What to do while another run changes this machine
        #[command(flatten)]
        waiting: Waiting,
    },
    /// List the tokens of this master, without their secrets
    #[command(after_long_help = text::TOKEN_LIST)]
    List,
    /// Revoke a token; workers that joined with it stay in the cluster
    #[command(after_long_help = text::TOKEN_REVOKE)]
    Revoke {
        /// The token, or the part before its dot
        token: String,
        /// What to do while another run changes this machine
        #[command(flatten)]
        waiting: Waiting,
    },
}

/// The nodes of the cluster, and the machine of this one.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List the nodes: name, address, when the join service last saw them
    #[command(after_long_help = text::NODE_LIST)]
    List,
    /// Release the name of a node that is gone, so that another machine can join with it
    #[command(after_long_help = text::NODE_RELEASE)]
    Release {
        /// The node's name
        name: String,
        /// What to do while another run changes this machine
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Make one of several masters of this worker
    ///
    /// The settings say what it becomes: `role: master`, `masters`, and a token. It is drained and leaves the cluster,
    /// its keys go after a last copy, and it joins as a master.
    #[command(after_long_help = text::role::NODE_PROMOTE)]
    Promote(NewRole),
    /// Make a worker of this master, which is one of several
    ///
    /// The settings say what it becomes: `role: worker`, `master`, and a token. It leaves etcd, its data and keys go after
    /// a last copy, and it joins as a worker. Refused if etcd would lose its majority.
    #[command(after_long_help = text::role::NODE_DEMOTE)]
    Demote(NewRole),
    /// Check that this machine is not a copy of the node that was installed
    ///
    /// A unit runs this at every boot, before the services of the node start. On a copy, it exits
    /// with 1, and the services do not start.
    #[command(after_long_help = text::NODE_GUARD)]
    Guard,
}

/// Arguments of `node promote` and `node demote`.
#[derive(Args, Debug)]
pub struct NewRole {
    /// The options of the installation with the new role
    #[command(flatten)]
    pub install: Install,

    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// Certificates.
#[derive(Debug, Subcommand)]
pub enum Certs {
    /// Create a certificate authority (CA): ca.pem and ca-key.pem
    ///
    /// Existing files are never overwritten.
    #[command(after_long_help = text::CERTS_INIT)]
    Init {
        /// Directory for the CA's certificate and key
        #[arg(long, value_name = "DIR")]
        ca: PathBuf,
        /// Common name of the CA
        #[arg(long, value_name = "NAME", default_value = "kubernetes")]
        common_name: String,
        /// What to do while another run changes this machine
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Create a node's keys and certificates, to copy to it before you install it
    ///
    /// A second run keeps every key. It creates only certificates that are missing, expire soon or
    /// have the wrong names.
    #[command(after_long_help = text::CERTS_ISSUE)]
    Issue {
        /// Directory of the CA: ca.pem and ca-key.pem
        #[arg(long, value_name = "DIR")]
        ca: PathBuf,
        /// Directory to write to, in place of the node's `/`
        #[arg(short, long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// The node's role: master, worker or single
        #[arg(long, value_name = "ROLE")]
        role: String,
        /// Change a setting, for example nodeName, address or apiServerSANs; you can repeat this
        /// option
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// File of settings
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// What to do while another run changes this machine
        #[command(flatten)]
        waiting: Waiting,
    },
    /// List a node's certificates, when they expire, and what a renewal restarts
    #[command(after_long_help = text::CERTS_SHOW)]
    Show {
        /// List the certificates of the system below this directory
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
    /// Renew this node's certificates that expire soon, and restart what uses them
    ///
    /// A timer runs this daily. A worker asks its master and authenticates with its current
    /// certificate. A master signs its own certificates. Services that are stopped stay stopped.
    #[command(after_long_help = text::CERTS_RENEW)]
    Renew {
        /// The settings of the node and their sources
        #[command(flatten)]
        inputs: NodeInputs,
        /// What to do while another run changes this machine
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Replace the certificate authorities of the cluster and of etcd, on a master
    ///
    /// First all nodes trust the old and the new ones. Then the new ones issue all certificates. Then the old ones are
    /// dropped. Each step waits until all nodes have followed. You can interrupt this at any time: run it again to
    /// continue.
    #[command(name = "rotate-ca", after_long_help = text::keys::CERTS_ROTATE_CA)]
    RotateCa {
        /// Replace the cluster's CA by your own: a file with its certificate, then those above it
        #[arg(long, value_name = "FILE", requires = "ca_key", conflicts_with_all = ["only_continue", "dry_run"])]
        ca: Option<PathBuf>,
        /// The private key of your own CA
        #[arg(long, value_name = "FILE", requires = "ca")]
        ca_key: Option<PathBuf>,
        /// Only continue a rotation that is under way; never begin one
        #[arg(long = "continue")]
        only_continue: bool,
        /// Show how far the rotation is, and what has to follow; change nothing
        #[arg(long)]
        dry_run: bool,
        /// Go on although pods do not trust the new authority yet: they lose the API server
        #[arg(long)]
        without_pods: bool,
        /// The settings of the node and their sources
        #[command(flatten)]
        inputs: NodeInputs,
        /// What to do while another run changes this machine
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Replace the key that signs the tokens of service accounts, on a master
    ///
    /// First all API servers verify with the old and the new key. Then the new one signs, and all service accounts get
    /// new tokens. When all pods have started again with them, the old key is dropped. You can interrupt this at any
    /// time: run it again to continue.
    #[command(name = "rotate-service-accounts", after_long_help = text::keys::CERTS_ROTATE_SERVICE_ACCOUNTS)]
    RotateServiceAccounts {
        /// Only continue a rotation that is under way; never begin one
        #[arg(long = "continue")]
        only_continue: bool,
        /// Show how far the rotation is, and what has to follow; change nothing
        #[arg(long)]
        dry_run: bool,
        /// Go on although pods have old tokens: they lose the API server
        #[arg(long)]
        without_pods: bool,
        /// The settings of the node and their sources
        #[command(flatten)]
        inputs: NodeInputs,
        /// What to do while another run changes this machine
        #[command(flatten)]
        waiting: Waiting,
    },
}

/// The parts of the join service.
#[derive(Debug, Subcommand)]
pub enum Join {
    /// Hold the CA's key and sign certificates for nodes
    #[command(after_long_help = text::JOIN_SIGN)]
    Sign {
        /// Socket to listen on for the other processes
        #[arg(long, value_name = "PATH", default_value = paths::SIGNER_SOCKET)]
        socket: PathBuf,
        /// User that can connect to the socket
        #[arg(long, value_name = "USER", default_value = components::JOIN_USER)]
        user: String,
        /// Use the keys and tokens below this directory
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
    /// Accept workers that have a token, until no token is left
    #[command(after_long_help = text::JOIN_SERVE)]
    Serve(Serve),
    /// Renew the certificates of nodes
    #[command(after_long_help = text::JOIN_SERVE_RENEWALS)]
    ServeRenewals {
        /// Where to listen and whom to ask
        #[command(flatten)]
        serve: Serve,
        /// CA certificates to verify the nodes' certificates with
        #[arg(long, value_name = "FILE", default_value = paths::CA_CERTIFICATE)]
        authority: PathBuf,
    },
    /// Ask the masters whether this node is to upgrade, and do it
    #[command(after_long_help = text::upgrade::JOIN_FOLLOW)]
    Follow {
        /// Address of a master; you can repeat this option
        #[arg(long = "master", value_name = "ADDRESS", required = true)]
        masters: Vec<Ipv4Addr>,
        /// Port of their join service
        #[arg(long, value_name = "PORT")]
        port: u16,
    },
}

/// Where a part of the join service listens.
#[derive(Args, Debug)]
pub struct Serve {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// Socket of `appliance join sign`
    #[arg(long, value_name = "PATH", default_value = paths::SIGNER_SOCKET)]
    pub socket: PathBuf,
}

//! The command line of tokens, nodes, certificates and the join service.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{NodeInputs, Output};
use crate::components;
use crate::nodespec::join::Ttl;
use crate::paths;

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
        #[arg(long, value_name = "PATH", default_value = paths::SIGNER_SOCKET)]
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
        #[arg(long, value_name = "FILE", default_value = paths::CA_CERTIFICATE)]
        authority: PathBuf,
    },
}

/// Where a part of the join service listens.
#[derive(Args, Debug)]
pub struct Serve {
    /// The address and port to listen at
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// The socket of the part that signs
    #[arg(long, value_name = "PATH", default_value = paths::SIGNER_SOCKET)]
    pub socket: PathBuf,
}

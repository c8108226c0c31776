//! The command line of `secrets`.

use clap::Subcommand;

use super::{NodeInputs, Waiting, text};

/// The key that encrypts secrets in etcd.
#[derive(Debug, Subcommand)]
pub enum Secrets {
    /// Replace the key that encrypts secrets in etcd
    ///
    /// Adds a new key, encrypts with it, writes all secrets again, and drops the old key. The API server is
    /// restarted at each step. You can interrupt this at any time: run it again to continue.
    #[command(after_long_help = text::keys::SECRETS_ROTATE)]
    Rotate {
        /// Only continue a rotation that is under way; never begin one
        #[arg(long = "continue")]
        only_continue: bool,
        /// The settings of the node and their sources
        #[command(flatten)]
        inputs: NodeInputs,
        /// What to do while another run changes the machine
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Show which key encrypts how many secrets, and how far a rotation is
    #[command(after_long_help = text::keys::SECRETS_SHOW)]
    Show {
        /// The settings of the node and their sources
        #[command(flatten)]
        inputs: NodeInputs,
    },
}

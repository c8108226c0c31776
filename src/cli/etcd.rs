//! The command line of `etcd`.

use clap::Subcommand;

use super::{Waiting, text};

/// The databases of etcd.
#[derive(Debug, Subcommand)]
pub enum Etcd {
    /// Show the size of each member's database, its quota, and alarms
    #[command(after_long_help = text::etcd::STATUS)]
    Status,
    /// Give back the room of what was deleted, and clear the alarm of a full database
    ///
    /// Defragments the members one after the other, the leader last. A member answers nothing while its
    /// database is written anew. If the cluster is full (NOSPACE), this first forgets all old revisions, and
    /// clears the alarm in the end.
    #[command(after_long_help = text::etcd::MAINTAIN)]
    Maintain {
        /// Do nothing unless a database has half of its quota, or the cluster is full
        #[arg(long)]
        if_due: bool,
        /// What to do while another run changes this machine
        #[command(flatten)]
        waiting: Waiting,
    },
}

//! The command line of backups.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Install, Waiting, text};
use crate::backup::place::Place;

/// Arguments of `backup`.
#[derive(Args, Debug)]
pub struct Backup {
    /// What to do with backups that exist
    #[command(subcommand)]
    pub command: Option<BackupCommand>,

    /// File to write, readable by its owner only
    #[arg(short, long, value_name = "FILE", conflicts_with = "to")]
    pub file: Option<PathBuf>,

    /// Replace the file if it exists
    #[arg(long, requires = "file")]
    pub force: bool,

    /// Directory for the backup, whose name then tells the cluster, the master and the time [default: from
    /// the settings]
    #[arg(long, value_name = "DIR")]
    pub to: Option<Place>,

    /// Encrypt for the holder of the key of this recipient (age1…); you can repeat this option [default: from
    /// the settings]
    #[arg(long = "recipient", value_name = "KEY")]
    pub recipients: Vec<String>,

    /// Encrypt with the passphrase in the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with = "recipients")]
    pub passphrase_file: Option<PathBuf>,

    /// Make one only if the settings say that it is due (run by a timer)
    #[arg(long, hide = true, conflicts_with_all = ["file", "to", "recipients", "passphrase_file"])]
    pub if_due: bool,

    /// What to do while another run changes this machine
    #[command(flatten)]
    pub waiting: Waiting,
}

/// What to do with backups that exist.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Check every part of a backup, without restoring it
    ///
    /// You can run this on any machine. Nothing is written.
    #[command(after_long_help = text::backup::VERIFY)]
    Verify {
        /// The backup
        file: PathBuf,
        /// What opens it
        #[command(flatten)]
        opening: Opening,
    },
    /// List the backups that this master has made
    #[command(after_long_help = text::backup::LIST)]
    List {
        /// The directory with the backups [default: from the settings]
        #[arg(long, value_name = "DIR")]
        to: Option<Place>,
    },
    /// Make a key that opens backups, and print its recipient
    ///
    /// Run this on a machine that is not a node, and keep the file there: whoever has it and a backup
    /// controls the cluster.
    #[command(after_long_help = text::backup::KEY)]
    Key {
        /// File to write, readable by its owner only; an existing one is never replaced
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
    },
}

/// What opens a backup.
#[derive(Args, Debug)]
pub struct Opening {
    /// File with the key of one of its recipients
    #[arg(short, long, value_name = "FILE")]
    pub identity: Option<PathBuf>,

    /// File with its passphrase in the first line
    #[arg(long, value_name = "FILE", conflicts_with = "identity")]
    pub passphrase_file: Option<PathBuf>,
}

/// Arguments of `restore`.
#[derive(Args, Debug)]
pub struct Restore {
    /// The backup
    pub file: PathBuf,

    /// What opens it
    #[command(flatten)]
    pub opening: Opening,

    /// Move data and keys that this machine has aside; nothing is deleted
    #[arg(long)]
    pub replace: bool,

    /// Leave join tokens as they are in the backup: one that was revoked since then is valid again
    #[arg(long)]
    pub keep_tokens: bool,

    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,

    /// The options of the installation
    #[command(flatten)]
    pub install: Install,
}

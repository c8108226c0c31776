//! The command line of backups.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Install, Waiting, text};
use crate::nodespec::objects::{Destination, Endpoint, Region};

/// Arguments of `backup`.
#[derive(Args, Debug, Default)]
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

    /// Directory or bucket for the backup, whose name then tells the cluster, the master and the time
    /// [default: from the settings]
    #[arg(long, value_name = "DIR|s3://BUCKET/PREFIX")]
    pub to: Option<Destination>,

    /// How a bucket is reached
    #[command(flatten)]
    pub store: ObjectStore,

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
        /// The backup: a file, or s3://BUCKET/PREFIX/NAME
        file: PathBuf,
        /// What opens it
        #[command(flatten)]
        opening: Opening,
        /// How a bucket is reached
        #[command(flatten)]
        store: ObjectStore,
    },
    /// List the backups that this master has made, or all of them
    #[command(after_long_help = text::backup::LIST)]
    List {
        /// The directory or bucket with the backups [default: from the settings]
        #[arg(long, value_name = "DIR|s3://BUCKET/PREFIX")]
        to: Option<Destination>,
        /// List those of every cluster and master, on any machine
        #[arg(long)]
        all: bool,
        /// How a bucket is reached
        #[command(flatten)]
        store: ObjectStore,
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

/// How an object store with the S3 API is reached. Each default is from the settings of this master.
#[derive(Args, Debug, Default)]
pub struct ObjectStore {
    /// URL of the S3 API, for s3://: https://HOST:PORT [default: from the settings]
    #[arg(long = "s3-endpoint", value_name = "URL")]
    pub endpoint: Option<Endpoint>,

    /// Its region [default: from the settings, else us-east-1]
    #[arg(long = "s3-region", value_name = "NAME")]
    pub region: Option<Region>,

    /// File with its credentials, readable by its owner only [default: from the settings]
    #[arg(long = "s3-credentials", value_name = "FILE")]
    pub credentials: Option<PathBuf>,

    /// File with the certificates of its authority, if this system does not trust it [default: from the
    /// settings]
    #[arg(long = "s3-ca", value_name = "FILE")]
    pub ca: Option<PathBuf>,
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
    /// The backup: a file, or s3://BUCKET/PREFIX/NAME
    pub file: PathBuf,

    /// What opens it
    #[command(flatten)]
    pub opening: Opening,

    /// How a bucket is reached
    #[command(flatten)]
    pub store: ObjectStore,

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

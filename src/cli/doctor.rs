//! The command line of `doctor` and `support-bundle`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `doctor`.
#[derive(Args, Debug)]
pub struct Doctor {
    /// Look at the system below this directory, for example a mounted disk
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

/// Arguments of `support-bundle`.
#[derive(Args, Debug)]
pub struct SupportBundle {
    /// The file to write, with mode 0600 [default: appliance-support-NODE-TIME.tar.gz in this directory]
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Read the system below this directory, for example a mounted disk
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

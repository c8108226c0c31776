//! The command line of user-data.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use crate::digest::Sha256;
use crate::user_data::{Delivery, Download, Form, Label};

/// Arguments of `user-data`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("settings").required(true).multiple(true).args(["role", "cluster"]))]
#[command(group = ArgGroup::new("delivery").args(["baked", "from", "volume"]))]
pub struct UserData {
    /// The role of every server with this user-data: master, worker or single
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,

    /// File of the cluster's settings, like /etc/appliance/config.yaml
    #[arg(long, value_name = "FILE")]
    pub cluster: Option<PathBuf>,

    /// Change a setting; you can repeat this option
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,

    /// The servers' image contains the appliance (default)
    #[arg(long)]
    pub baked: bool,

    /// The servers download the appliance from this URL; they try for two minutes
    #[arg(long, value_name = "URL", requires = "sha256")]
    pub from: Option<Download>,

    /// The appliance is the file `appliance` on a volume or CD with this label
    #[arg(long, value_name = "LABEL")]
    pub volume: Option<Label>,

    /// Run the appliance only if it has this SHA-256 checksum
    #[arg(long, value_name = "HEX", conflicts_with = "baked")]
    pub sha256: Option<Sha256>,

    /// Look for the appliance at every boot until it is installed, not only at the first
    ///
    /// If a server cannot reach the appliance at its first boot, reboot it to try again. The
    /// user-data is then a MIME message with a boothook and the settings.
    #[arg(long, requires = "delivery", conflicts_with = "baked")]
    pub boothook: bool,

    /// File to write, readable by its owner only [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Replace the file if it exists
    #[arg(long)]
    pub force: bool,
}

impl UserData {
    /// How the servers get the appliance.
    pub fn delivery(&self) -> Delivery {
        let sha256 = self
            .sha256
            .as_ref()
            .map(|sha256| sha256.as_str().to_owned());
        match (&self.from, &self.volume, sha256) {
            (Some(from), _, Some(sha256)) => Delivery::Download {
                from: from.clone(),
                sha256,
            },
            (_, Some(label), sha256) => Delivery::Volume {
                label: label.clone(),
                sha256,
            },
            _ => Delivery::Baked,
        }
    }

    /// When they look for it.
    pub fn form(&self) -> Form {
        if self.boothook {
            Form::Boothook
        } else {
            Form::CloudConfig
        }
    }
}

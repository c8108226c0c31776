//! The command line of what servers boot with.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use crate::digest::Sha256;
use crate::user_data::{Delivery, Download, Form, Label};

/// What `appliance user-data --help` ends with.
pub const USER_DATA_HELP: &str = "\
One user-data serves all servers of a cluster, and so it says nothing that only one of them is. Each
finds its role in its own properties (openstack server create --property role=master …), or finds
itself in the inventory of cluster.yaml:

  inventory:
  - {name: server01, role: worker, address: 192.168.1.101}
  - {name: server02, role: master, address: 192.168.1.102}
  join: {token: TOKEN, ttl: 24h, uses: 2}    # appliance token create --offline

Examples:
  appliance user-data --cluster cluster.yaml -o user-data
      for an image that has the appliance
  appliance user-data --cluster cluster.yaml --volume APPLIANCE -o user-data
      for any cloud image; a volume or CD labelled APPLIANCE holds the file `appliance`
      (genisoimage -J -r -V APPLIANCE -o appliance.iso appliance)
  appliance user-data --cluster cluster.yaml --from https://files.example.org/appliance \\
      --sha256 $(sha256sum < appliance | cut -c1-64) --boothook -o user-data
      for any cloud image that reaches an HTTP server or a Swift TempURL (swift tempurl GET …)
  appliance user-data --role single --set clusterName=trial
      a cluster of one server, to look at first

Settings are those of /etc/appliance/config.yaml (`appliance config example`), checked as the server
will check them; what is no setting is refused. Flags come before the file. Nova takes 49,149
bytes. What in the user-data is a secret is said on standard error, and FILE is for its owner alone.";

/// Arguments of `user-data`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("settings").required(true).multiple(true).args(["role", "cluster"]))]
#[command(group = ArgGroup::new("delivery").args(["baked", "from", "volume"]))]
pub struct UserData {
    /// What every server with this user-data is to be: master, worker or single
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,

    /// The cluster's settings: a file such as /etc/appliance/config.yaml
    #[arg(long, value_name = "FILE")]
    pub cluster: Option<PathBuf>,

    /// Make a setting; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,

    /// The servers' image has the appliance (the default)
    #[arg(long)]
    pub baked: bool,

    /// The servers download the appliance from here; tried again for two minutes
    #[arg(long, value_name = "URL", requires = "sha256")]
    pub from: Option<Download>,

    /// The appliance is on a volume or CD of this label, as a file called `appliance`
    #[arg(long, value_name = "LABEL")]
    pub volume: Option<Label>,

    /// What is not of this SHA-256 digest is never run
    #[arg(long, value_name = "HEX", conflicts_with = "baked")]
    pub sha256: Option<Sha256>,

    /// Look for the appliance at every boot, until it is there, and not only at the first
    ///
    /// A server whose first boot found no way to it then needs no more than another boot. The
    /// user-data is a MIME message, with a boothook beside the settings.
    #[arg(long, requires = "delivery", conflicts_with = "baked")]
    pub boothook: bool,

    /// The file to write, readable to its owner alone [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

impl UserData {
    /// How the servers come to the appliance.
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

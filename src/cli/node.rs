//! The command line of one node: how to install and inspect it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{MOST_SECONDS, Trust, Waiting, seconds};
use crate::language::tr;
use crate::metadata::Source;
use crate::nodespec::ports::STATUS_PAGE;
use crate::preflight::Ignored;
use crate::preflight::stays::Field;
use crate::status::Goal;

/// The settings of a node and their sources.
#[derive(Args, Clone, Debug)]
pub struct NodeInputs {
    /// The node's role: master, worker or single [default: from the metadata]
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,

    /// with-ca: TLS and authorization; simple: neither [default: with-ca]
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,

    /// Change a setting; you can repeat this option
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,

    /// File of settings [default: /etc/appliance/config.yaml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Where metadata come from
    #[command(flatten)]
    pub metadata: MetadataInputs,
}

/// Where metadata come from.
#[derive(Args, Clone, Debug)]
pub struct MetadataInputs {
    /// Where to look for metadata; the first source wins
    ///
    /// A list of config-drive, service[=URL], cloud-init[=ROOT] and directory=DIR, separated by
    /// commas. [default: config-drive,service,cloud-init; the service only if the firmware reports
    /// that OpenStack runs this machine]
    #[arg(long, value_name = "SOURCE,…", value_delimiter = ',')]
    pub metadata_source: Vec<Source>,

    /// Read the metadata only from this directory, which has the layout of a config drive
    #[arg(long, value_name = "DIR", conflicts_with = "metadata_source")]
    pub metadata_dir: Option<PathBuf>,

    /// How many seconds to try to reach a metadata service, and to wait for a clock that is plainly wrong
    ///
    /// At a boot, a clock may show 1970 until a time service corrects it. Where nothing does, it is
    /// refused at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub metadata_timeout: u64,
}

/// Arguments of `detect`.
#[derive(Args, Debug)]
pub struct Detect {
    /// The settings of the node and their sources
    #[command(flatten)]
    pub inputs: NodeInputs,

    /// Also show where each value comes from, what it overrides, and every source of metadata
    #[arg(long)]
    pub explain: bool,

    /// Detect for the system below this directory, for example a mounted image
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

/// Settings in files.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check a file of settings, or the section `appliance:` of user-data
    ///
    /// You can run this on any machine.
    #[command(after_long_help = super::text::CONFIG_VALIDATE)]
    Validate {
        /// The file
        file: PathBuf,
    },
    /// Print the JSON Schema of a file of settings, for editors
    #[command(after_long_help = super::text::CONFIG_SCHEMA)]
    Schema,
    /// Print a file with every setting, explained and commented out
    #[command(after_long_help = super::text::CONFIG_EXAMPLE)]
    Example,
}

/// The checks of the machine that the operator ignores.
#[derive(Args, Debug)]
pub struct Ignore {
    /// Only warn if this check of `appliance preflight` fails; you can repeat this option
    #[arg(
        long = "ignore-preflight",
        value_name = "NAME",
        env = "APPLIANCE_IGNORE_PREFLIGHT",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub checks: Vec<Ignored>,
}

/// Arguments of `preflight`.
#[derive(Args, Debug)]
pub struct Preflight {
    /// The settings of the node and their sources
    #[command(flatten)]
    pub inputs: NodeInputs,

    /// Check the system below this directory, for example a mounted image
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// Check the room for this payload or appliance, not for this program
    #[arg(long, value_name = "FILE")]
    pub payload: Option<PathBuf>,

    /// The failed checks that only warn
    #[command(flatten)]
    pub ignore: Ignore,
}

/// The node that this machine should be.
#[derive(Args, Debug)]
pub struct Wanted {
    /// The settings of the node and their sources
    #[command(flatten)]
    pub inputs: NodeInputs,

    /// Use the system below this directory, for example a mounted image; start nothing
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// Install from this payload or appliance, not from this program
    #[arg(long, value_name = "FILE")]
    pub payload: Option<PathBuf>,

    /// The key that must have signed the payload
    #[command(flatten)]
    pub trust: Trust,

    /// Change this about an installed node: name, address, masters or trust; you can repeat this option
    ///
    /// Without it, an installed node keeps them, whatever the settings say. `name` is for workers only. A worker needs a
    /// token for both. When `address` changes on a master, etcd is told. `masters` changes the list of masters, which get the keys of
    /// the cluster. `trust` gives a master of an older version the authority of etcd.
    #[arg(long, value_name = "FIELD")]
    pub change: Vec<Field>,

    /// The failed checks of the machine that only warn
    #[command(flatten)]
    pub ignore: Ignore,
}

/// Arguments of `install`.
#[derive(Args, Debug)]
pub struct Install {
    /// The node
    #[command(flatten)]
    pub wanted: Wanted,

    /// Change nothing, and show what would change: the same as `appliance plan`
    #[arg(long)]
    pub dry_run: bool,

    /// What to wait for, and how many seconds at most; 0: do not wait
    ///
    /// `node` waits until the services of this node are healthy. `cluster` also waits until Kubernetes calls the nodes
    /// Ready, and add-ons and workloads are available. A number alone is the limit for the node. Another run that has to
    /// end first is waited for as long.
    #[arg(long, value_name = "GOAL|SECONDS|GOAL=SECONDS", default_value_t = Wait::default())]
    pub wait: Wait,

    /// How many seconds a worker tries to join its master; 0: no limit
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = seconds())]
    pub join_timeout: u64,
}

/// What to wait for, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What has to come up.
    pub goal: Goal,
    /// How long at most; zero: not at all.
    pub limit: Duration,
}

impl Default for Wait {
    fn default() -> Wait {
        Wait {
            goal: Goal::Node,
            limit: Duration::from_secs(900),
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.goal, self.limit.as_secs())
    }
}

impl FromStr for Wait {
    type Err = String;

    fn from_str(text: &str) -> Result<Wait, String> {
        let of_goal = |name: &str| {
            [Goal::Node, Goal::Cluster]
                .into_iter()
                .find(|goal| goal.to_string() == name)
        };
        let (goal, seconds) = match text.split_once('=') {
            Some((name, seconds)) => (of_goal(name), Some(seconds)),
            None if text.starts_with(|first: char| first.is_ascii_digit()) => {
                (Some(Goal::Node), Some(text))
            }
            None => (of_goal(text), None),
        };
        let goal =
            goal.ok_or_else(|| tr!("wait for `node` or for `cluster`, for example cluster=1800"))?;
        let Some(seconds) = seconds else {
            return Ok(Wait {
                goal,
                ..Wait::default()
            });
        };
        let limit = seconds.parse().ok().filter(|limit| *limit <= MOST_SECONDS);
        let limit = limit.ok_or_else(|| {
            tr!(
                "name a number of seconds up to {MOST_SECONDS}",
                MOST_SECONDS
            )
        })?;
        Ok(Wait {
            goal,
            limit: Duration::from_secs(limit),
        })
    }
}

/// Arguments of `status`.
#[derive(Args, Clone, Copy, Debug)]
pub struct Status {
    /// Show every service, image, certificate, node and add-on, not only those with a problem
    #[arg(short, long)]
    pub all: bool,

    /// Go on until Ctrl-C: draw it anew on a terminal; elsewhere, print a line when something changed
    ///
    /// The exit code is then that of the last state.
    #[arg(short, long)]
    pub watch: bool,
}

/// Arguments of `plan`.
#[derive(Args, Debug)]
pub struct Plan {
    /// The node
    #[command(flatten)]
    pub wanted: Wanted,

    /// Also show the content of files that do not exist yet
    #[arg(short = 'N', long)]
    pub new_files: bool,

    /// Instead, print which steps need which others, as a graph for Graphviz or Mermaid
    #[arg(long, value_enum, value_name = "FORM", num_args = 0..=1, default_missing_value = "dot",
        require_equals = true, conflicts_with = "new_files")]
    pub graph: Option<GraphForm>,
}

/// A language for graphs.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum GraphForm {
    /// For Graphviz: `dot -Tsvg`
    Dot,
    /// For Markdown
    Mermaid,
}

/// Arguments of `timeline`.
#[derive(Args, Debug)]
pub struct Timeline {
    /// Write a picture (SVG) to this file
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// The node whose disk is mounted at this directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

/// Where the status page is.
#[derive(Args, Debug)]
pub struct ServeStatus {
    /// Port on 127.0.0.1 to listen on; 0 is any free port
    #[arg(long, value_name = "PORT", default_value_t = STATUS_PAGE)]
    pub port: u16,
}

/// Arguments of `verify`.
#[derive(Args, Debug)]
pub struct Verify {
    /// Print one line, for the journal
    #[arg(long)]
    pub brief: bool,

    /// Compare the system below this directory, for example a mounted image: its files only
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// What to do while another run changes this machine
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Arguments of `convert`.
#[derive(Args, Debug)]
pub struct Convert {
    /// The options of the installation with the new profile
    #[command(flatten)]
    pub install: Install,

    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// Arguments of `reset`.
#[derive(Args, Debug)]
pub struct Reset {
    /// Also remove etcd's data, and the list of nodes that joined; a last copy is made first
    #[arg(long)]
    pub data: bool,

    /// Also remove keys and certificates; a last copy is made first
    #[arg(long)]
    pub keys: bool,

    /// Directory for the last copy
    #[arg(long, value_name = "DIR", default_value = crate::paths::COPIES_DIR)]
    pub copy_to: PathBuf,

    /// Leave containers and images in docker, for a docker that does not work any more
    #[arg(long)]
    pub without_docker: bool,

    /// Remove a master even if etcd's cluster then has no majority and stops
    #[arg(long)]
    pub force: bool,

    /// Remove the node from the system below this directory, for example a mounted image
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// Show what would be removed; change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,

    /// What to do while another run changes this machine
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Arguments of `kubeconfig`.
#[derive(Args, Debug)]
pub struct Kubeconfig {
    /// Where the other machine reaches the API server [default: as on this node]
    ///
    /// An IPv4 address or a DNS name, which must be in the API server's certificate. The default
    /// port is 6443.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub server: Option<String>,

    /// File to write, readable by its owner only [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Replace the file if it exists
    #[arg(long)]
    pub force: bool,

    /// Use the master's files below this directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_wait_is_a_limit_or_a_goal_or_both() {
        let of = |text: &str| {
            let wait: Wait = text.parse().unwrap();
            (wait.goal, wait.limit.as_secs())
        };
        assert_eq!(of("0"), (Goal::Node, 0));
        assert_eq!(of("3600"), (Goal::Node, 3600));
        assert_eq!(of("node"), (Goal::Node, 900));
        assert_eq!(of("cluster"), (Goal::Cluster, 900));
        assert_eq!(of("cluster=1800"), (Goal::Cluster, 1800));
        assert_eq!(of(&Wait::default().to_string()), (Goal::Node, 900));
        for wrong in [
            "",
            "nodes",
            "cluster=",
            "cluster=x",
            "=5",
            "-1",
            "5s",
            "99999999",
            "5=cluster",
        ] {
            assert!(wrong.parse::<Wait>().is_err(), "{wrong}");
        }
    }
}

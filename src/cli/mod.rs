//! The command line: types and help texts only. Commands turn these types into actions.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, value_parser};
use clap_complete::Shell;

use crate::language::Language;
use crate::sys::lock::Patience;

mod backup;
mod bundle;
mod check;
mod doctor;
mod etcd;
mod image;
mod join;
mod node;
mod output;
mod pages;
mod parse;
mod programs;
mod refusal;
mod secrets;
mod text;
mod upgrade;
mod user_data;

pub use backup::{Backup, BackupCommand, ObjectStore, Opening, Restore};
pub use bundle::{Bundle, CacheDir, Carrier, Fetch, Ingredients, Repack, Trust, Whole};
pub use check::{Addons, Balance, Check, CheckCommand, Datastore, Images};
pub use doctor::{Doctor, SupportBundle};
pub use etcd::Etcd;
pub use image::{Image, ImageBuild, ImageCheck, ImagePayload, ImagePrepare};
pub use join::{Certs, Join, NewRole, NodeCommand, Serve, Token};
pub use node::{
    Config, Convert, Detect, GraphForm, Install, Kubeconfig, MetadataInputs, NodeInputs, Plan,
    Preflight, Reset, ServeStatus, Status, Timeline, Verify, Wait, Wanted,
};
pub use output::{Named, Output};
pub use pages::{command, texts};
pub use parse::{REMOVES, parse, removes, wants_json};
pub use programs::{Logs, Passed};
pub use secrets::Secrets;
pub use upgrade::{Apply, Prune, Rollback, Upgrade};
pub use user_data::UserData;

/// Turn this machine into a Kubernetes v1.9 node, without internet access
///
/// The program carries everything the node needs. Copy it to an OpenStack VM, or use an image that
/// contains it. It reads its role from the instance metadata, writes every configuration file and
/// certificate, starts the services and reports whether they are healthy.
#[derive(Debug, Parser)]
#[command(
    name = "appliance",
    bin_name = "appliance",
    version,
    max_term_width = 80,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = text::topics(Language::English, &mut str::to_owned),
    after_long_help = text::root(Language::English, &mut str::to_owned),
)]
pub struct Cli {
    /// Also show which programs are run
    #[arg(short, long, global = true, display_order = 900)]
    pub verbose: bool,

    /// Format of the result on standard output
    #[arg(short, long, global = true, value_name = "FORMAT", value_parser = output::Parser,
        default_value = "text", display_order = 899)]
    pub output: Named,

    /// The command to run
    #[command(subcommand)]
    pub command: Command,
}

/// The command to run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Install this machine as a node, or repair it
    ///
    /// You can run this at any time. It changes only what differs, and an interrupted run continues
    /// where it stopped. It never overwrites keys or etcd's data.
    #[command(after_long_help = text::install(&mut str::to_owned))]
    Install(Install),
    /// Show what differs between this machine and what it should be; change nothing
    ///
    /// Shows the changes that `install` would make: files as a unified diff, programs, images, kernel
    /// settings, and the units that it would start or restart. Secrets are never shown.
    #[command(after_long_help = text::PLAN)]
    Plan(Plan),
    /// Give an installed node the bundle of this appliance
    ///
    /// Run this with the appliance of the new version. It shows what changes and asks, brings programs and images
    /// before anything stops, and waits until the node is healthy. If it is not, the node goes back by itself. You can
    /// run this again at any time: an interrupted run continues.
    #[command(after_long_help = text::upgrade::UPGRADE)]
    Upgrade(Upgrade),
    /// Give an installed node other settings
    ///
    /// Checks the whole file, shows what changes and what restarts, and asks. Then the file takes the place of
    /// /etc/appliance/config.yaml, and the node is installed with it. If the node is not healthy afterwards, it goes back
    /// to its former settings by itself. You can run this again at any time: an interrupted run continues.
    #[command(after_long_help = text::upgrade::APPLY)]
    Apply(Apply),
    /// Return a node to what it was before its last upgrade or change of settings
    ///
    /// Shows what changes and asks. Files, links, units, the program and the records become what they were; keys and
    /// certificates stay. It is refused if the former etcd cannot read the data any more.
    #[command(after_long_help = text::upgrade::ROLLBACK)]
    Rollback(Rollback),
    /// Remove bundles that this node neither uses nor can go back to
    ///
    /// Shows the bundles and their images in docker, and asks. The bundle in use and the one before it stay.
    #[command(after_long_help = text::upgrade::PRUNE)]
    Prune(Prune),
    /// Convert a node from the profile simple to with-ca
    ///
    /// Shows what will be stopped and removed, asks, and then installs the node again. etcd's data
    /// is moved aside, not deleted. Convert the workers first and the master last.
    #[command(after_long_help = text::CONVERT)]
    Convert(Convert),
    /// Remove everything that made this machine a node
    ///
    /// Shows what will be removed and asks. etcd's data and the keys are kept, unless you ask for
    /// their removal: then a last copy is made first. You can run this again at any time: an
    /// interrupted run continues where it stopped.
    #[command(after_long_help = text::RESET)]
    Reset(Reset),
    /// Show what this machine would become; change nothing
    #[command(after_long_help = text::DETECT)]
    Detect(Detect),
    /// Check whether this machine can become a node; change nothing
    ///
    /// `install` begins with the same checks, and refuses if one of them fails. For each check it shows
    /// what was seen, what is needed and what to type.
    #[command(after_long_help = text::PREFLIGHT)]
    Preflight(Preflight),
    /// Check, describe or create a file of settings
    #[command(subcommand, after_long_help = text::CONFIG)]
    Config(Config),
    /// Write the user-data that turns servers into nodes
    #[command(after_long_help = text::USER_DATA)]
    UserData(UserData),
    /// Show whether this node is healthy, and whether the cluster is ready
    ///
    /// The node: services, endpoints, container images, certificates, room. The cluster, as this node sees it: whether
    /// Kubernetes calls the nodes Ready, add-ons and workloads, the other masters, BGP sessions. Shows a summary of about
    /// ten lines, and below it all that is not as it should be.
    #[command(after_long_help = text::status::STATUS)]
    Status(Status),
    /// Show the status of this node as a page for a browser
    ///
    /// Serves the page on 127.0.0.1 until you press Ctrl-C. It shows what `appliance status` shows, the nodes of
    /// the cluster and what happened last. It changes nothing, and answers while other parts of the node are down.
    #[command(after_long_help = text::status::SERVE_STATUS)]
    ServeStatus(ServeStatus),
    /// Say why this node does not work, and what to type; change nothing
    ///
    /// `status` says what is wrong; this says why. It looks at records, certificates, units, journals, disks,
    /// clocks, docker, etcd, the kernel's log and the network between nodes, and compares them with known
    /// faults. It works without an API server and without etcd, and on a machine that is only half a node.
    #[command(after_long_help = text::doctor::DOCTOR)]
    Doctor(Doctor),
    /// Write one archive with what others need to help, without secrets
    ///
    /// It has the reports of `status` and `doctor`, versions, settings, units, journals, the kernel's log,
    /// and what docker, etcd, kubectl and the network show. Secrets are replaced, wherever they are.
    #[command(after_long_help = text::doctor::SUPPORT_BUNDLE)]
    SupportBundle(SupportBundle),
    /// Show how long each step of the last bring-up took
    ///
    /// Draws a bar for each step of the last `install` that started services, and for the time until each service was
    /// healthy. The critical path is marked: the steps that the others waited for.
    #[command(after_long_help = text::timeline::TIMELINE)]
    Timeline(Timeline),
    /// Compare this node with what was installed; change nothing
    ///
    /// Reads every byte of programs, files and this program, and looks at modes, owners, images, units,
    /// kernel settings and rules of iptables. A timer does it daily.
    #[command(after_long_help = text::VERIFY)]
    Verify(Verify),
    /// Check the whole cluster, on a master
    ///
    /// Checks versions, nodes, network, DNS and services. It starts pods in the namespace
    /// appliance-check on every node and removes them afterwards. The pods run this program in the
    /// pause image. For each failed check it shows how to fix it.
    #[command(after_long_help = text::CHECK, args_conflicts_with_subcommands = true)]
    Check(Check),
    /// Create, list and revoke join tokens, on a master
    #[command(subcommand, after_long_help = text::TOKEN)]
    Token(Token),
    /// List and release the names of nodes that joined, and change the role of this one
    #[command(subcommand, after_long_help = text::NODE)]
    Node(NodeCommand),
    /// Create, show and renew certificates
    #[command(subcommand, after_long_help = text::CERTS)]
    Certs(Certs),
    /// Show and replace the key that encrypts secrets in etcd, on a master
    #[command(subcommand, after_long_help = text::keys::SECRETS)]
    Secrets(Secrets),
    /// Back up the cluster into one encrypted file, on a master
    ///
    /// The file has everything that a new master needs: etcd's data, Calico's data, the keys, the
    /// tokens and the settings. It is encrypted for the recipients in the settings, or those that you
    /// name.
    #[command(after_long_help = text::backup::BACKUP, args_conflicts_with_subcommands = true)]
    Backup(Backup),
    /// Show and maintain etcd's databases, on a master
    #[command(subcommand, after_long_help = text::etcd::ETCD)]
    Etcd(Etcd),
    /// Restore a cluster from a backup, to a new master
    ///
    /// Shows what will be done, asks, places keys, settings and etcd's data, and installs the node. You
    /// can run this again if it was interrupted: it continues.
    #[command(after_long_help = text::backup::RESTORE)]
    Restore(Restore),
    /// Write a kubeconfig for the admin, to use from another machine
    ///
    /// Run this on a master as root. The kubeconfig contains the cluster's CA certificate, and a new
    /// certificate of the admin with its key, valid for 90 days: anyone who has it controls the cluster.
    #[command(after_long_help = text::KUBECONFIG)]
    Kubeconfig(Kubeconfig),
    /// Run the bundle's kubectl as the admin of the cluster, on a master
    #[command(after_long_help = text::programs::KUBECTL)]
    Kubectl(Passed),
    /// Run the bundle's etcdctl with the certificates of this master
    ///
    /// It uses version 3 of etcd's API, unless ETCDCTL_API says otherwise. Calico's data is in version 2.
    #[command(after_long_help = text::programs::ETCDCTL)]
    Etcdctl(Passed),
    /// Run the bundle's calicoctl with the settings of this node
    #[command(after_long_help = text::programs::CALICOCTL)]
    Calicoctl(Passed),
    /// Show the messages of this node's services in the journal
    #[command(after_long_help = text::programs::LOGS)]
    Logs(Logs),
    /// Forward connections to healthy API servers (run by a unit)
    #[command(hide = true, override_usage = text::BALANCE_USAGE, after_long_help = text::BALANCE)]
    Balance(Balance),
    /// Serve Calico's data in etcd to nodes (run by a unit)
    #[command(hide = true, override_usage = text::DATASTORE_USAGE, after_long_help = text::DATASTORE)]
    Datastore(Datastore),
    /// Run the processes of the join service (run by units)
    #[command(subcommand, hide = true, after_long_help = text::JOIN)]
    Join(Join),
    /// Apply add-ons and workloads to the cluster (run by a unit)
    #[command(subcommand, hide = true, after_long_help = text::ADDONS)]
    Addons(Addons),
    /// Load this node's container images into docker
    #[command(subcommand, after_long_help = text::IMAGES)]
    Images(Images),
    /// Build, prepare and check golden images
    #[command(subcommand, after_long_help = text::image::IMAGE)]
    Image(Image),
    /// Download, pack, verify and list the components of an appliance
    #[command(subcommand, after_long_help = text::bundle::BUNDLE)]
    Bundle(Bundle),
    /// Build an appliance from this program and a bundle; no compiler needed
    #[command(after_long_help = text::bundle::REPACK)]
    Repack(Repack),
    /// Print the version of the program and of the bundle it carries
    #[command(after_long_help = text::VERSION)]
    Version,
    /// Print a completion script for a shell
    #[command(after_long_help = text::COMPLETION)]
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Show a topic of the documentation, or the help of a command
    ///
    /// Without a name, lists all commands and topics. On a terminal, a topic is shown through $PAGER
    /// (default: less).
    #[command(after_long_help = text::HELP)]
    Help {
        /// A topic, or a command and its subcommand
        #[arg(value_name = "TOPIC|COMMAND")]
        names: Vec<String>,
    },
    /// Write the manual pages of all commands
    #[command(after_long_help = text::MAN)]
    Man {
        /// The directory to write to; it is created if it does not exist
        #[arg(short, long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Print the JSON Schema of what a command prints with `--output json`
    ///
    /// Without a name, lists the commands that print a result.
    #[command(after_long_help = text::SCHEMA)]
    Schema {
        /// The command, for example `status` or `token list`; `error` for errors
        #[arg(value_name = "COMMAND")]
        names: Vec<String>,
    },
}

impl Command {
    /// Whether it writes a file, or a directory, that `-o` named in earlier versions.
    fn writes(&self) -> bool {
        matches!(
            self,
            Command::UserData(_)
                | Command::Kubeconfig(_)
                | Command::Repack(_)
                | Command::Man { .. }
                | Command::Bundle(
                    Bundle::Lock { .. } | Bundle::Export { .. } | Bundle::Pack { .. }
                )
                | Command::Certs(Certs::Issue { .. })
                | Command::Image(Image::Build(_))
        )
    }
}

/// The longest time that an option takes, in seconds: a year, so that a sum with the clock is always a time.
const MOST_SECONDS: u64 = 365 * 24 * 3600;

/// Parses a number of seconds.
fn seconds() -> RangedU64ValueParser {
    value_parser!(u64).range(..=MOST_SECONDS)
}

/// What a command does while another one changes the machine.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Waiting {
    /// If another run is changing this machine, wait until it ends, at most this many seconds [default: no
    /// limit]; without this option, end with exit code 5
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, value_parser = seconds())]
    wait: Option<Option<u64>>,
}

impl Waiting {
    /// How long to wait.
    pub fn patience(self) -> Patience {
        match self.wait {
            None => Patience::None,
            Some(None) => Patience::Endless,
            Some(Some(seconds)) => Patience::For(Duration::from_secs(seconds)),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}

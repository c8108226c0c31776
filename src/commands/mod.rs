//! One file for each command. A command calls one stage after the other, and contains no logic of
//! its stages.

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::CommandFactory;

use self::failure::NotInstalled;
use crate::cli::{Cli, Command, Output};
use crate::language::tr;
use crate::nodespec::Refused;
use crate::nodespec::token::redacted;
use crate::observe::records;
use crate::observe::user::check_user;
use crate::records::state::State;
use crate::status::{Goal, Overall, Report};
use crate::sys::lock::Holder;
use crate::sys::root::Root;

mod addons;
mod apply;
mod authority;
mod backup;
mod balance;
mod bundle;
mod causes;
mod certs;
mod check;
mod config;
mod convert;
mod datastore;
mod detect;
mod doctor;
mod documents;
mod etcd;
mod failure;
mod files;
mod help;
mod image;
mod inputs;
mod install;
mod join;
mod kubeconfig;
pub mod log;
pub mod man;
mod node;
mod payload;
mod plan;
mod preflight;
mod print;
mod programs;
mod repack;
mod reset;
mod restore;
mod role;
mod schema;
mod secrets;
mod serve_status;
mod service_accounts;
mod status;
mod support;
mod timeline;
mod token;
mod upgrade;
mod user_data;
mod verify;
mod version;
mod watch;

/// The result of a command that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Done,
    /// The node is not healthy, or a check of the cluster failed.
    Degraded,
    /// This machine is not a node.
    NotInstalled,
    /// The checked object has a problem.
    Unsound,
    /// The input was refused. The result says why.
    Refused,
    /// Other nodes have to follow first.
    Waiting,
    /// This machine cannot become a node.
    Unfit,
    /// The machine differs from what it should be. The result says where.
    Differs,
    /// The node is healthy. The cluster around it is not, or not yet.
    ClusterNotReady,
}

/// The error that there is no node at `root`, and whether one is being made.
fn not_installed(root: &Root) -> anyhow::Error {
    NotInstalled(match Holder::of(root) {
        Some(holder) => tr!(
            "this machine is not installed yet: a run is changing it ({}); wait until it ends: \
             `appliance status` shows how far it is",
            redacted(&holder.to_string())
        ),
        None => {
            tr!("this machine is not installed; to make it a node, run `appliance install`")
        }
    })
    .into()
}

/// Refuses what only root may see, or says that there is no node at `root`, which everyone may see.
fn check_node(root: &Root) -> Result<State> {
    match records::state(root) {
        Ok(None) => Err(not_installed(root)),
        found => {
            check_user(root)?;
            // Not only a record that nobody may read: root gets the error.
            found?.ok_or_else(|| not_installed(root))
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        ExitCode::from(match outcome {
            Outcome::Done => 0,
            Outcome::Unsound => 1,
            Outcome::Unfit => 2,
            Outcome::Refused => 2,
            Outcome::Degraded => 3,
            Outcome::NotInstalled => 4,
            Outcome::Waiting => 6,
            Outcome::Differs => 7,
            Outcome::ClusterNotReady => 8,
        })
    }
}

impl From<Overall> for Outcome {
    fn from(overall: Overall) -> Outcome {
        match overall {
            Overall::Healthy => Outcome::Done,
            Overall::ClusterNotReady => Outcome::ClusterNotReady,
            Overall::Degraded => Outcome::Degraded,
            Overall::NotInstalled => Outcome::NotInstalled,
        }
    }
}

impl Outcome {
    /// How a run ends that waited for `goal`: a cluster that is not ready is no failure of a run that waited for its node.
    fn of(report: Option<&Report>, goal: Goal) -> Outcome {
        match report.map(|report| report.overall) {
            None => Outcome::Done,
            Some(Overall::ClusterNotReady) if goal == Goal::Node => Outcome::Done,
            Some(overall) => overall.into(),
        }
    }
}

/// Continues only if the user confirms.
fn ask() -> Result<()> {
    if !io::stdin().is_terminal() {
        bail!(Refused::new(tr!(
            "this needs your confirmation, and standard input is not a terminal; use --yes"
        )));
    }
    // Standard output is for the result.
    drop(write!(io::stderr(), "{}", tr!("Type yes to continue: ")));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() != "yes" {
        bail!(Refused::new(tr!(
            "you did not type yes: nothing was changed"
        )));
    }
    Ok(())
}

/// Refuses a question where only a document may be printed.
fn check_questions(asks_none: bool, output: Output) -> Result<()> {
    if output == Output::Json && !asks_none {
        bail!(Refused::new(tr!(
            "`--output json` asks no question: use it with `--yes` or `--dry-run`"
        )));
    }
    Ok(())
}

/// Runs the command. Where `required_key` is given, no payload is used that this minisign
/// public key did not sign.
pub fn run(cli: Cli, required_key: Option<&str>) -> Result<Outcome> {
    let (named, output) = (&cli.output, cli.output.format());
    match cli.command {
        Command::Install(arguments) => install::run(&arguments, required_key, output),
        Command::Plan(arguments) => plan::run(&arguments, required_key, output),
        Command::Convert(arguments) => convert::run(&arguments, required_key, output),
        Command::Upgrade(arguments) => upgrade::run(&arguments, required_key, output),
        Command::Apply(arguments) => apply::run(&arguments, required_key, output),
        Command::Rollback(arguments) => upgrade::rollback(&arguments, output),
        Command::Prune(arguments) => upgrade::prune(&arguments, output),
        Command::Reset(arguments) => reset::run(&arguments, output),
        Command::Detect(arguments) => detect::run(&arguments, output),
        Command::Preflight(arguments) => preflight::run(&arguments, output),
        Command::Config(command) => config::run(&command, output),
        Command::UserData(arguments) => user_data::run(&arguments, named),
        Command::Status(arguments) => status::run(arguments, output),
        Command::ServeStatus(arguments) => serve_status::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments, output),
        Command::SupportBundle(arguments) => support::run(&arguments, output),
        Command::Timeline(arguments) => timeline::run(&arguments, output),
        Command::Verify(arguments) => verify::run(&arguments, output),
        Command::Check(arguments) => check::run(&arguments, output),
        Command::Token(command) => token::run(&command, output),
        Command::Node(command) => node::run(&command, required_key, output),
        Command::Certs(command) => certs::run(&command, required_key, named),
        Command::Secrets(command) => secrets::run(&command, required_key, output),
        Command::Backup(arguments) => backup::run(&arguments, named),
        Command::Etcd(command) => etcd::run(&command, output),
        Command::Restore(arguments) => restore::run(&arguments, required_key, output),
        Command::Kubeconfig(arguments) => kubeconfig::run(&arguments, named),
        Command::Kubectl(passed) => programs::kubectl(&passed),
        Command::Etcdctl(passed) => programs::etcdctl(&passed),
        Command::Calicoctl(passed) => programs::calicoctl(&passed),
        Command::Logs(arguments) => programs::logs(&arguments),
        Command::Balance(arguments) => balance::run(&arguments),
        Command::Datastore(arguments) => datastore::run(&arguments),
        Command::Join(command) => join::run(&command),
        Command::Addons(command) => addons::run(&command, output),
        Command::Images(command) => addons::run_images(&command, output),
        Command::Image(command) => image::run(&command, required_key, named),
        Command::Bundle(command) => bundle::run(&command, required_key, named),
        Command::Repack(arguments) => repack::run(&arguments, named),
        Command::Version => version::run(output),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "appliance", &mut script);
            print::text(&String::from_utf8_lossy(&script), output)?;
            Ok(Outcome::Done)
        }
        Command::Help { names } => help::run(&names, output),
        Command::Man { dir } => man::run(dir.as_deref(), named),
        Command::Schema { names } => schema::run(&names, output),
    }
}

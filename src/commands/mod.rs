//! One file for each command. A command calls one stage after the other, and contains no logic of
//! its stages.

use std::io::{self, BufRead, IsTerminal};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::CommandFactory;

use crate::cli::{Cli, Command};
use crate::nodespec::Refused;
use crate::status::Overall;
use crate::sys::lock::Busy;
use crate::sys::out;

mod addons;
mod authority;
mod balance;
mod bundle;
mod certs;
mod check;
mod config;
mod convert;
mod datastore;
mod detect;
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
mod preflight;
mod print;
mod repack;
mod secrets;
mod status;
mod token;
mod user_data;
mod version;

/// The result of a command that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Done,
    /// The node is not healthy.
    Degraded,
    /// This machine is not a node.
    NotInstalled,
    /// The checked object has a problem.
    Unsound,
    /// Other nodes have to follow first.
    Waiting,
    /// This machine cannot become a node.
    Unfit,
}

/// Says that there is no node here, and what to do.
fn not_installed() -> Outcome {
    ::log::error!("this machine is not installed; to make it a node, run `appliance install`");
    Outcome::NotInstalled
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        ExitCode::from(match outcome {
            Outcome::Done => 0,
            Outcome::Unsound => 1,
            Outcome::Unfit => 2,
            Outcome::Degraded => 3,
            Outcome::NotInstalled => 4,
            Outcome::Waiting => 6,
        })
    }
}

impl From<Overall> for Outcome {
    fn from(overall: Overall) -> Outcome {
        match overall {
            Overall::Healthy => Outcome::Done,
            Overall::Degraded => Outcome::Degraded,
            Overall::NotInstalled => Outcome::NotInstalled,
        }
    }
}

/// The exit code of a command that failed: 2 where its input was refused, 5 where another run changes the
/// machine, else 1.
pub fn exit_code_of(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(if error.is::<Refused>() {
        2
    } else if error.is::<Busy>() {
        5
    } else {
        1
    })
}

/// Continues only if the user confirms.
fn ask() -> Result<()> {
    let refused = |why: &str| Refused {
        problems: vec![why.to_owned()],
    };
    if !io::stdin().is_terminal() {
        bail!(refused(
            "this needs your confirmation, and standard input is not a terminal; use --yes"
        ));
    }
    out::text("Type yes to continue: ");
    out::flush();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() != "yes" {
        bail!(refused("you did not type yes: nothing was changed"));
    }
    Ok(())
}

/// Runs the command. Where `required_key` is given, no payload is used that this minisign
/// public key did not sign.
pub fn run(cli: Cli, required_key: Option<&str>) -> Result<Outcome> {
    match cli.command {
        Command::Install(arguments) => install::run(&arguments, required_key),
        Command::Convert(arguments) => convert::run(&arguments, required_key),
        Command::Detect(arguments) => detect::run(&arguments),
        Command::Preflight(arguments) => preflight::run(&arguments),
        Command::Config(command) => config::run(&command),
        Command::UserData(arguments) => user_data::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Token(command) => token::run(&command),
        Command::Node(command) => node::run(&command),
        Command::Certs(command) => certs::run(&command, required_key),
        Command::Secrets(command) => secrets::run(&command, required_key),
        Command::Kubeconfig(arguments) => kubeconfig::run(&arguments),
        Command::Balance(arguments) => balance::run(&arguments),
        Command::Datastore(arguments) => datastore::run(&arguments),
        Command::Join(command) => join::run(&command),
        Command::Addons(command) => addons::run(&command),
        Command::Images(command) => addons::run_images(&command),
        Command::Image(command) => image::run(&command, required_key),
        Command::Bundle(command) => bundle::run(&command, required_key),
        Command::Repack(arguments) => repack::run(&arguments),
        Command::Version { output } => version::run(output),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "appliance", &mut script);
            out::text(&String::from_utf8_lossy(&script));
            Ok(Outcome::Done)
        }
        Command::Help { names } => help::run(&names),
        Command::Man { output } => man::run(&output),
    }
}

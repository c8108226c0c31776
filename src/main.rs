//! The `appliance` program: parse, run a command, turn its end into an exit code.

use std::process::ExitCode;

use appliance::cli::Cli;
use appliance::commands;
use clap::Parser;

/// The minisign public key that has to have signed every payload, where the program was built
/// with one.
const REQUIRED_KEY: Option<&str> = option_env!("APPLIANCE_TRUST_KEY");

fn main() -> ExitCode {
    let cli = Cli::parse();
    commands::log::start(cli.verbose);
    match commands::run(cli, REQUIRED_KEY) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            commands::exit_code_of(&error)
        }
    }
}

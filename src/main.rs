//! The `appliance` program: parse, run a command, turn its end into an exit code.

use std::process::ExitCode;

use appliance::cli::Cli;
use appliance::commands;
use clap::Parser;

fn main() -> ExitCode {
    let cli = Cli::parse();
    commands::log::start(cli.verbose);
    match commands::run(cli) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            commands::exit_code_of(&error)
        }
    }
}

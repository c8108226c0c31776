//! The `appliance` program: parse, run a command, turn its end into an exit code.

use std::process::ExitCode;

use appliance::{cli, commands};

/// The minisign public key that has to have signed every payload, where the program was built
/// with one.
const REQUIRED_KEY: Option<&str> = option_env!("APPLIANCE_TRUST_KEY");

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(cli) => {
            commands::log::start(cli.verbose);
            commands::log::end(commands::run(cli, REQUIRED_KEY))
        }
        Err(shown) => commands::log::end_with(&shown),
    }
}

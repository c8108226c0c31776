//! The `appliance` program: parses the command line, runs a command, and exits with its exit code.

use std::process::ExitCode;

use appliance::language::{self, Language};
use appliance::sys::journal;
use appliance::{cli, commands};

/// The minisign public key that must have signed every payload, if the program was built with one.
const REQUIRED_KEY: Option<&str> = option_env!("APPLIANCE_TRUST_KEY");

fn main() -> ExitCode {
    commands::log::guarded(|| {
        choose_language();
        match cli::parse(std::env::args_os()) {
            Ok(cli) => {
                commands::log::start(cli.verbose);
                let output = cli.output.format();
                commands::log::end(commands::run(cli, REQUIRED_KEY), output)
            }
            Err(shown) => commands::log::end_with(&shown, cli::wants_json(std::env::args_os())),
        }
    })
}

/// Documents and the journal are for programs, too: those of `doctor` and of the operator look for English words.
fn choose_language() {
    if !cli::wants_json(std::env::args_os()) && !journal::is_standard_error() {
        language::speak(Language::of_environment(|name| std::env::var(name).ok()));
    }
}

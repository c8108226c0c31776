//! The command line of the bundle's programs and of the journal.

use std::ffi::OsString;

use clap::Args;

/// What a program of the bundle gets.
#[derive(Args, Debug)]
pub struct Passed {
    /// The arguments of the program
    #[arg(
        value_name = "ARGUMENT",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub arguments: Vec<OsString>,
}

/// The messages of which services, and how many.
#[derive(Args, Debug)]
pub struct Logs {
    /// The services, as `appliance status` names them, or `install` for the installation at boot [default:
    /// all of this node]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,

    /// Also show new messages, until you press Ctrl-C
    #[arg(short, long)]
    pub follow: bool,

    /// How many messages to show, the last ones
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 100)]
    pub lines: u32,

    /// Only messages since this time, as journalctl takes it, for example `-1h` or `today`
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
}

//! What docker is told to do: by `daemon.json`, and by the command line in its unit. Pure.

pub mod command_line;
pub mod daemon;
pub mod json;
mod keys;
mod values;

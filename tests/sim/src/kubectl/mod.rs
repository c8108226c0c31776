//! The stand-in for kubectl: `version`, `get`, `apply`, `delete` and `certificate`,
//! for the kinds the stand-in of the server has.

mod command;
mod get;
mod manifests;
mod table;
mod views;
mod write;

use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;

use crate::program::{VERSION, usage};
use command::Command;

/// Runs one command.
///
/// # Errors
/// A command line it does not take, a server that cannot be reached or refuses.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let command = Command::parse(arguments)?;
    let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    match &words[..] {
        ["version"] => version(&command),
        ["get"] if command.raw.is_some() => raw(&command),
        ["get", "cs" | "componentstatus" | "componentstatuses"] => {
            get::component_statuses(&command)
        }
        ["get", wanted @ ..] => get::run(&command, wanted),
        ["apply"] => write::apply(&command),
        ["delete", wanted @ ..] => write::delete(&command, wanted),
        ["certificate", verdict @ ("approve" | "deny"), names @ ..] => {
            write::certificate(&command, verdict, names)
        }
        _ => Err(usage(format!(
            "the stand-in takes version, get, apply, delete, certificate approve and \
             certificate deny, not {:?}",
            words.join(" ")
        ))),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn version(command: &Command) -> Result<()> {
    println!("Client Version: {VERSION} (appliance test stand-in; not the real kubectl)");
    if command.client_only {
        return Ok(());
    }
    let version: Value = serde_json::from_slice(&command.ask("/version")?.body)?;
    let text = version["gitVersion"].as_str().unwrap_or_default();
    println!("Server Version: {text}");
    Ok(())
}

fn raw(command: &Command) -> Result<()> {
    let path = command.raw.as_deref().unwrap_or("/");
    print!("{}", command.ask(path)?.text());
    Ok(())
}

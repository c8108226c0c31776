//! The stand-in for kubectl: the commands that operators use most, for the kinds of the stand-in
//! for the server.

mod change;
mod command;
mod get;
mod jsonpath;
mod look;
mod make;
mod manifests;
mod pods;
mod rollout;
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
/// # Errors An invalid command line, a server that cannot be reached or refuses.
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
        ["create"] => write::create(&command),
        ["create", "namespace" | "ns", name] => make::namespace(&command, name),
        ["create", "service" | "svc", "clusterip", name] => make::service(&command, name),
        ["run", name] => make::run(&command, name),
        ["expose", wanted @ ..] => make::expose(&command, wanted),
        ["scale", wanted @ ..] => change::scale(&command, wanted),
        ["label", wanted @ ..] => change::label(&command, wanted),
        ["taint", "node" | "nodes" | "no", name, taints @ ..] => {
            change::taint(&command, name, taints)
        }
        ["cordon", name] => change::cordon(&command, name, true),
        ["uncordon", name] => change::cordon(&command, name, false),
        ["rollout", "status", wanted @ ..] => rollout::status(&command, wanted),
        ["logs" | "log", name, container @ ..] => look::logs(&command, name, container),
        ["exec", name, words @ ..] => look::exec(&command, name, words),
        ["describe", wanted @ ..] => look::describe(&command, wanted),
        ["delete", wanted @ ..] => write::delete(&command, wanted),
        ["certificate", verdict @ ("approve" | "deny"), names @ ..] => {
            write::certificate(&command, verdict, names)
        }
        _ => Err(usage(format!(
            "the stand-in takes version, get, apply, create, run, expose, scale, label, taint, \
             cordon, uncordon, rollout status, logs, exec, describe, delete and certificate, not \
             {:?}",
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

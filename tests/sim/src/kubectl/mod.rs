//! The stand-in for kubectl: `version`, `get nodes`, `get componentstatuses` and
//! `get --raw PATH`.

mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::client::{Client, Reply};
use crate::kubeconfig;
use crate::program::{VERSION, usage};
use table::Table;

/// A command line, taken apart.
#[derive(Default)]
struct Command {
    words: Vec<String>,
    kubeconfig: Option<PathBuf>,
    server: Option<String>,
    output: Option<String>,
    raw: Option<String>,
    no_headers: bool,
    client_only: bool,
}

/// Runs one command.
///
/// # Errors
/// A command line it does not take, a server that cannot be reached or refuses.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let command = Command::parse(arguments)?;
    let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    match words[..] {
        ["version"] => command.version(),
        ["get"] if command.raw.is_some() => command.raw(),
        ["get", "cs" | "componentstatus" | "componentstatuses"] => {
            command.list("componentstatuses", &table::component_statuses)
        }
        ["get", "no" | "node" | "nodes"] => command.list("nodes", &table::nodes),
        _ => Err(usage(format!(
            "the stand-in takes version, get nodes, get componentstatuses and \
             get --raw PATH, not {:?}",
            words.join(" ")
        ))),
    }?;
    Ok(ExitCode::SUCCESS)
}

impl Command {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut command = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if !argument.starts_with('-') {
                command.words.push(argument.clone());
                continue;
            }
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            match name {
                "--no-headers" => command.no_headers = true,
                "--client" | "-c" => command.client_only = true,
                "--short" => {}
                "--kubeconfig" | "-s" | "--server" | "-o" | "--output" | "--raw"
                | "--request-timeout" => {
                    let value = value
                        .or_else(|| rest.next().cloned())
                        .ok_or_else(|| usage(format!("flag needs an argument: {name}")))?;
                    command.set(name, value);
                }
                _ => return Err(usage(format!("unknown flag: {name}"))),
            }
        }
        Ok(command)
    }

    fn set(&mut self, name: &str, value: String) {
        match name {
            "--kubeconfig" => self.kubeconfig = Some(value.into()),
            "-s" | "--server" => self.server = Some(value),
            "-o" | "--output" => self.output = Some(value),
            "--raw" => self.raw = Some(value),
            // Every request has a limit of its own.
            _ => {}
        }
    }

    /// The server: `--kubeconfig`, `$KUBECONFIG`, `~/.kube/config`, else
    /// localhost:8080.
    fn client(&self) -> Result<Client> {
        if let Some(server) = &self.server {
            return Client::plain(server);
        }
        let stated = self.kubeconfig.clone().or_else(|| {
            let variable = std::env::var_os("KUBECONFIG")?;
            (!variable.is_empty()).then(|| variable.into())
        });
        if let Some(path) = stated {
            return kubeconfig::client(&path);
        }
        let home = std::env::home_dir().unwrap_or_default();
        let path = home.join(".kube/config");
        if path.exists() {
            return kubeconfig::client(&path);
        }
        Client::plain("http://localhost:8080")
    }

    fn ask(&self, path: &str) -> Result<Reply> {
        let client = self.client()?;
        let reply = client.get(path).with_context(|| {
            format!(
                "The connection to the server {} was refused - did you specify the right \
                 host or port?",
                client.place()
            )
        })?;
        match reply.status {
            200..300 => Ok(reply),
            401 => bail!("error: You must be logged in to the server (Unauthorized)"),
            _ => bail!("Error from server {}", server_error(&reply)),
        }
    }

    fn version(&self) -> Result<()> {
        println!("Client Version: {VERSION} (appliance test stand-in; not the real kubectl)");
        if self.client_only {
            return Ok(());
        }
        let version: Value = serde_json::from_slice(&self.ask("/version")?.body)?;
        let text = version["gitVersion"].as_str().unwrap_or_default();
        println!("Server Version: {text}");
        Ok(())
    }

    fn raw(&self) -> Result<()> {
        let path = self.raw.as_deref().unwrap_or("/");
        print!("{}", self.ask(path)?.text());
        Ok(())
    }

    fn list(&self, resource: &str, table: &dyn Fn(&[Value]) -> Table) -> Result<()> {
        let list: Value = serde_json::from_slice(&self.ask(&format!("/api/v1/{resource}"))?.body)?;
        let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
        match self.output.as_deref() {
            Some("json") => println!("{}", serde_json::to_string_pretty(&list)?),
            Some("name") => {
                for item in items {
                    println!(
                        "{resource}/{}",
                        item["metadata"]["name"].as_str().unwrap_or("?")
                    );
                }
            }
            None | Some("wide") if items.is_empty() => eprintln!("No resources found."),
            None | Some("wide") => print!("{}", table(items).text(!self.no_headers)),
            Some(other) => return Err(usage(format!("the stand-in knows no output {other:?}"))),
        }
        Ok(())
    }
}

fn server_error(reply: &Reply) -> String {
    let status: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    match (status["reason"].as_str(), status["message"].as_str()) {
        (Some(reason), Some(message)) => format!("({reason}): {message}"),
        _ => format!("({}): {}", reply.status, reply.text().trim()),
    }
}

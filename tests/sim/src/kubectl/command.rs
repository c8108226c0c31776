//! kubectl's command line, and its requests to the server.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::client::{Client, Reply};
use crate::kubeconfig;
use crate::program::usage;

/// Flags with a value that only some commands use.
const OPTIONS: [&str; 17] = [
    "--clusterip",
    "--container",
    "--env",
    "--grace-period",
    "--image",
    "--image-pull-policy",
    "--labels",
    "--name",
    "--port",
    "--protocol",
    "--replicas",
    "--restart",
    "--tail",
    "--target-port",
    "--tcp",
    "--timeout",
    "--type",
];

/// A parsed command line.
#[derive(Default)]
pub struct Command {
    /// The arguments that are not flags.
    pub words: Vec<String>,
    /// The files of `-f`.
    pub files: Vec<String>,
    /// The namespace of `-n`.
    pub namespace: Option<String>,
    /// Whether to use objects of all namespaces.
    pub everywhere: bool,
    /// The label selector of `-l`.
    pub selector: Option<String>,
    /// The output format.
    pub output: Option<String>,
    /// The path of `--raw`.
    pub raw: Option<String>,
    /// Whether to omit the header of a table.
    pub no_headers: bool,
    /// Whether to print only the client's version.
    pub client_only: bool,
    /// Whether deleting a missing object succeeds.
    pub ignore_not_found: bool,
    /// Whether to use all objects of a kind.
    pub all: bool,
    /// Whether existing labels may be changed.
    pub overwrite: bool,
    /// Whether to add a column of labels to a table.
    pub show_labels: bool,
    /// The words after `--`.
    pub rest: Vec<String>,
    options: Vec<(String, String)>,
    kubeconfig: Option<PathBuf>,
    server: Option<String>,
}

impl Command {
    /// Parses a command line.
    ///
    /// # Errors An unknown flag, or one without its value.
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let mut command = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--" {
                command.rest = rest.cloned().collect();
                break;
            }
            if !argument.starts_with('-') || argument == "-" {
                command.words.push(argument.clone());
                continue;
            }
            let (name, mut value) = split(argument);
            if command.switch(&name, value.as_deref()) {
                continue;
            }
            let mut value = || {
                value
                    .take()
                    .or_else(|| rest.next().cloned())
                    .ok_or_else(|| usage(format!("flag needs an argument: {argument}")))
            };
            match name.as_str() {
                "--kubeconfig" => command.kubeconfig = Some(value()?.into()),
                "-s" | "--server" => command.server = Some(value()?),
                "-o" | "--output" => command.output = Some(value()?),
                "-n" | "--namespace" => command.namespace = Some(value()?),
                "-l" | "--selector" => command.selector = Some(value()?),
                "-f" | "--filename" => command.files.push(value()?),
                "--raw" => command.raw = Some(value()?),
                // Every request has its own timeout.
                "--request-timeout" => drop(value()?),
                "-c" => command.options.push(("--container".to_owned(), value()?)),
                known if OPTIONS.contains(&known) => {
                    let value = value()?;
                    command.options.push((name, value));
                }
                _ => return Err(usage(format!("unknown flag: {name}"))),
            }
        }
        Ok(command)
    }

    /// Sets a flag that takes no separate value. Returns whether it is one.
    fn switch(&mut self, name: &str, value: Option<&str>) -> bool {
        let on = value != Some("false");
        match name {
            "--no-headers" => self.no_headers = on,
            "--client" => self.client_only = on,
            "-c" if self.words.first().is_some_and(|word| word == "version") => {
                self.client_only = on;
            }
            "--all" => self.all = on,
            "--overwrite" => self.overwrite = on,
            "--show-labels" => self.show_labels = on,
            "--previous" | "-p" | "--command" | "--watch" => {
                self.options.push((name.to_owned(), on.to_string()));
            }
            "--all-namespaces" => self.everywhere = on,
            "--ignore-not-found" => self.ignore_not_found = on,
            // The stand-in does not support the effect of these flags.
            "--short" | "--cascade" | "--force" | "--now" | "--record" | "--validate"
            | "--show-all" | "-a" | "-i" | "-t" | "--stdin" | "--tty" => {}
            _ => return false,
        }
        true
    }

    /// The last value of another flag.
    pub fn option(&self, name: &str) -> Option<&str> {
        let mut given = self.options.iter().rev();
        let found = given.find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Every value of a flag that may be repeated.
    pub fn options(&self, name: &str) -> impl Iterator<Item = &str> {
        let given = self.options.iter().filter(move |(given, _)| given == name);
        given.map(|(_, value)| value.as_str())
    }

    /// The default namespace of objects.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }

    /// The server: `--kubeconfig`, `$KUBECONFIG`, `~/.kube/config`, else
    /// localhost:8080.
    ///
    /// # Errors
    /// A broken kubeconfig.
    pub fn client(&self) -> Result<Client> {
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

    /// The server's answer to one request.
    ///
    /// # Errors A server that cannot be reached.
    pub fn send(&self, request: impl Fn(&Client) -> Result<Reply>) -> Result<Reply> {
        let client = self.client()?;
        request(&client).with_context(|| {
            format!(
                "The connection to the server {} was refused - did you specify the right \
                 host or port?",
                client.place()
            )
        })
    }

    /// The server's answer to a GET.
    ///
    /// # Errors A server that cannot be reached or refuses.
    pub fn ask(&self, path: &str) -> Result<Reply> {
        accepted(self.send(|client| client.get(path))?)
    }
}

/// `--name=value`, `-nVALUE` or a name alone.
fn split(argument: &str) -> (String, Option<String>) {
    if !argument.starts_with("--") && argument.len() > 2 && argument.is_char_boundary(2) {
        let (name, value) = argument.split_at(2);
        let value = value.strip_prefix('=').unwrap_or(value);
        return (name.to_owned(), Some(value.to_owned()));
    }
    match argument.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (argument.to_owned(), None),
    }
}

/// The answer, unless it is a refusal.
///
/// # Errors The refusal, in the words of kubectl.
pub fn accepted(reply: Reply) -> Result<Reply> {
    match reply.status {
        200..300 => Ok(reply),
        401 => bail!("error: You must be logged in to the server (Unauthorized)"),
        422 => {
            let status: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            bail!(
                "The {}",
                status["message"].as_str().unwrap_or("object is invalid")
            )
        }
        _ => bail!("Error from server {}", server_error(&reply)),
    }
}

fn server_error(reply: &Reply) -> String {
    let status: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    match (status["reason"].as_str(), status["message"].as_str()) {
        (Some(reason), Some(message)) => format!("({reason}): {message}"),
        _ => format!("({}): {}", reply.status, reply.text().trim()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn parse(line: &str) -> Result<Command> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Command::parse(&arguments)
    }

    #[test]
    fn takes_flags_in_all_their_forms() {
        let command = parse("get sa -n a -ojson --selector=x=y --all-namespaces -f - b").unwrap();
        assert_eq!(command.words, ["get", "sa", "b"]);
        assert_eq!(command.namespace(), "a");
        assert_eq!(command.output.as_deref(), Some("json"));
        assert_eq!(command.selector.as_deref(), Some("x=y"));
        assert_eq!(command.files, ["-"]);
        assert!(command.everywhere && !command.no_headers);
        let command = parse("exec p -c x -i -- a -n b").unwrap();
        assert_eq!(command.option("--container"), Some("x"));
        assert_eq!(command.rest, ["a", "-n", "b"]);
        assert!(parse("version -c").unwrap().client_only);
        assert!(parse("get --nope").is_err());
        assert!(parse("get -o").is_err());
        assert_eq!(parse("get").unwrap().namespace(), "default");
    }
}

//! An etcd that only this program reaches, while it makes the data of a member.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::blocking::Client;

use crate::language::tr;
use crate::sys::http;
use crate::sys::retry::{permanent, transient};
use crate::sys::waiting::awaited;

/// How long it may take to come up.
const COMING_UP: Duration = Duration::from_secs(300);
/// The longest pause between two looks at it.
const PAUSE: Duration = Duration::from_millis(200);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(600);
/// Its sockets, in the form that etcd wants of an address. They are in its directory, which only root can enter.
const CLIENTS: &str = "c:0";
const PEERS: &str = "p:0";
/// Its log.
const LOG: &str = "etcd.log";
/// Runs it until it ends, or until standard input ends: so it ends with this program, however that ends.
const KEEPER: &str =
    "exec 3<&0; \"$@\" & running=$!; (cat <&3 >/dev/null; kill $running) & wait $running";
/// The host in requests. No name is resolved.
const URL: &str = "http://etcd";

/// etcd and etcdctl.
#[derive(Clone, Copy, Debug)]
pub struct Programs<'a> {
    /// Their directory.
    pub directory: &'a Path,
    /// The arguments that this build of etcd needs.
    pub arguments: &'a [String],
}

/// A running etcd. It is stopped when this is dropped.
pub struct Alone {
    keeper: Option<Child>,
    client: Client,
    dir: PathBuf,
}

impl Alone {
    /// Starts the etcd of `programs` on the data in the directory `data` in `dir`, where its sockets and its log are, too.
    ///
    /// # Errors
    /// If it does not come up, with the end of its log.
    pub fn start(programs: &Programs<'_>, name: &str, dir: &Path) -> Result<Alone> {
        let program = programs.directory.join("etcd");
        for socket in [CLIENTS, PEERS] {
            // etcd does not always remove them, and does not start while they are there.
            match std::fs::remove_file(dir.join(socket)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join(LOG))?;
        let mut command = Command::new("sh");
        command
            .args(["-c", KEEPER, "etcd"])
            .arg(&program)
            .args([&format!("--name={name}"), "--data-dir=data"])
            .args(programs.arguments)
            .arg(format!("--listen-client-urls=unix://{CLIENTS}"))
            // The member on this node announces its own one when it starts.
            .arg("--advertise-client-urls=http://127.0.0.1:2379")
            .arg(format!("--listen-peer-urls=unix://{PEERS}"))
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log));
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("ETCD") {
                command.env_remove(variable);
            }
        }
        let keeper = command
            .spawn()
            .with_context(|| tr!("cannot run {}", program.display()))?;
        let mut etcd = Alone {
            keeper: Some(keeper),
            client: http::client_of_socket(&dir.join(CLIENTS), ANSWER)?,
            dir: dir.to_owned(),
        };
        awaited("etcd with the restored data", COMING_UP, PAUSE, || {
            etcd.runs().map_err(permanent)?;
            http::get(&etcd.client, &format!("{URL}/health")).map_err(transient)
        })
        .with_context(|| etcd.told())?;
        Ok(etcd)
    }

    fn runs(&mut self) -> Result<()> {
        let ended = self.keeper.as_mut().map(Child::try_wait).transpose()?;
        match ended.flatten() {
            None => Ok(()),
            Some(status) => bail!(tr!("etcd ended with {status}", status)),
        }
    }

    /// What reaches it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Its URL for that client.
    pub fn url(&self) -> &'static str {
        URL
    }

    /// Stops it, and waits until it has written everything.
    pub fn stop(mut self) -> Result<()> {
        let status = self.end().context(tr!("it was stopped before"))??;
        // A signal that it was asked for ends it with 143, or 0.
        ensure!(
            matches!(status.code(), Some(0 | 143)),
            tr!("etcd ended with {status}: {}", self.told(), status)
        );
        Ok(())
    }

    fn end(&mut self) -> Option<Result<std::process::ExitStatus>> {
        let mut keeper = self.keeper.take()?;
        drop(keeper.stdin.take());
        Some(keeper.wait().map_err(Into::into))
    }

    fn told(&self) -> String {
        let log = std::fs::read_to_string(self.dir.join(LOG)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(3)..].join("\n")
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        drop(self.end());
    }
}

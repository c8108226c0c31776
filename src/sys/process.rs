//! Runs other programs. A test can replace them all.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::process::{Command as StdCommand, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::interrupt::Interruption;

/// The pause between two checks whether a program has ended that may be killed.
const POLL: Duration = Duration::from_millis(50);

/// A program and its arguments. Never holds a secret: other users can read it in the process list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program: a path, or a name that is searched in PATH.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl Command {
    /// `program` with `arguments`.
    pub fn new(program: &str, arguments: &[&str]) -> Command {
        Command {
            program: program.to_owned(),
            arguments: arguments
                .iter()
                .map(|&argument| argument.to_owned())
                .collect(),
        }
    }
}

/// The path as an argument of a program.
///
/// # Errors
/// If it is not UTF-8.
pub fn argument(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.program, self.arguments.join(" "))
    }
}

/// How a program ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Output {
    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

/// Runs programs: on this machine, or in a test, which only records them.
pub trait Runner {
    /// Runs `command` to its end. An error means that it could not be started.
    fn run(&self, command: &Command) -> Result<Output>;

    /// Like [`Runner::run`], but a program that fails is an error with the end of its output.
    fn check(&self, command: &Command) -> Result<Output> {
        let output = self.run(command)?;
        if output.success() {
            return Ok(output);
        }
        let said = if output.stderr.trim().is_empty() {
            &output.stdout
        } else {
            &output.stderr
        };
        let status = output
            .code
            .map_or("a signal".to_owned(), |code| format!("status {code}"));
        bail!("`{command}` ended with {status}: {}", tail(said));
    }
}

/// Runs programs on this machine.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Runner for System {
    fn run(&self, command: &Command) -> Result<Output> {
        log::debug!("run {command}");
        let output = prepared(command)
            .output()
            .with_context(|| format!("cannot run {}", command.program))?;
        Ok(Output {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// As [`System`], until this process gets a signal to end: then the running program is killed, which
/// is an error, and no other is started.
#[derive(Clone, Debug)]
pub struct Interruptible(pub Interruption);

impl Runner for Interruptible {
    fn run(&self, command: &Command) -> Result<Output> {
        self.0.check()?;
        log::debug!("run {command}");
        let place = || format!("cannot run {}", command.program);
        let mut child = prepared(command)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(place)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        thread::scope(|scope| {
            let stdout = thread::Builder::new().spawn_scoped(scope, || all(stdout));
            let stderr = thread::Builder::new().spawn_scoped(scope, || all(stderr));
            let (Ok(stdout), Ok(stderr)) = (stdout, stderr) else {
                child.kill().with_context(place)?;
                child.wait().with_context(place)?;
                bail!(
                    "cannot run {}: the system gives no more threads",
                    command.program
                );
            };
            let status = loop {
                if let Some(status) = child.try_wait().with_context(place)? {
                    break status;
                }
                if self.0.has_come() {
                    child.kill().with_context(place)?;
                }
                thread::sleep(POLL);
            };
            self.0.check()?;
            Ok(Output {
                code: status.code(),
                stdout: stdout.join().unwrap_or_default(),
                stderr: stderr.join().unwrap_or_default(),
            })
        })
    }
}

fn prepared(command: &Command) -> StdCommand {
    let mut prepared = StdCommand::new(&command.program);
    prepared
        .args(&command.arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    // A systemd service has no HOME. kubectl keeps its cache there, and would write it into `/`.
    if std::env::var_os("HOME").is_none() {
        prepared.env("HOME", "/root");
    }
    prepared
}

/// The whole stream, as text.
fn all(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    // The output before an error is still useful.
    let _ = stream.map(|mut stream| stream.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last lines of a program's output: enough to see why it failed.
fn tail(text: &str) -> String {
    const LINES: usize = 5;
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

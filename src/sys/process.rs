//! Runs other programs. A test can replace them all.

use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command as StdCommand, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::language::tr;

use super::http::PROXIES;
use super::interrupt::Interruption;

/// How long a program may run until the next look whether it still may.
const LOOK: Duration = Duration::from_millis(50);
/// The shortest pause between two looks whether a program has ended, where the kernel does not tell.
const FIRST: Duration = Duration::from_millis(1);

/// A program and its arguments. Never holds a secret: other users can read it in the process list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program: a path, or a name that is searched in PATH.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// How long it may take; `None` without a limit. It is killed when the time is over.
    pub limit: Option<Duration>,
}

/// A program did not end within its limit of time, and was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TookTooLong(pub Duration);

impl fmt::Display for TookTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&tr!("it did not end within {} s", self.0.as_secs()))
    }
}

impl std::error::Error for TookTooLong {}

impl Command {
    /// `program` with `arguments`.
    pub fn new(program: &str, arguments: &[&str]) -> Command {
        Command {
            program: program.to_owned(),
            arguments: arguments
                .iter()
                .map(|&argument| argument.to_owned())
                .collect(),
            limit: None,
        }
    }

    /// The command with a limit of time. If it takes longer, running it is the error [`TookTooLong`].
    #[must_use]
    pub fn within(self, limit: Duration) -> Command {
        Command {
            limit: Some(limit),
            ..self
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

/// A program that takes the place of this one: same terminal, same process. Its variables may name files with secrets, but
/// hold none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    program: String,
    arguments: Vec<OsString>,
    variables: Vec<(&'static str, String)>,
}

impl Replacement {
    /// The program at a path, or of a name that is searched in PATH, with its arguments.
    pub fn new(program: &str, arguments: Vec<OsString>) -> Replacement {
        Replacement {
            program: program.to_owned(),
            arguments,
            variables: Vec::new(),
        }
    }

    /// The same with this variable in its environment.
    #[must_use]
    pub fn with(mut self, variable: &'static str, value: &str) -> Replacement {
        self.variables.push((variable, value.to_owned()));
        self
    }

    /// Replaces this process. Returns only if that fails.
    pub fn run(self) -> anyhow::Error {
        let mut command = StdCommand::new(&self.program);
        command.args(self.arguments).envs(self.variables);
        without_proxies(&mut command);
        let error = command.exec();
        anyhow::Error::from(error).context(format!("cannot run {}", self.program))
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

    /// The output, unless `command`, whose output it is, failed: that is an error with its end.
    pub fn of(self, command: &Command) -> Result<Output> {
        if self.success() {
            return Ok(self);
        }
        let said = if self.stderr.trim().is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        let status = self
            .code
            .map_or("a signal".to_owned(), |code| format!("status {code}"));
        bail!(tr!(
            "`{command}` ended with {status}: {}",
            tail(said),
            command,
            status
        ));
    }
}

/// Runs programs: on this machine, or in a test, which only records them.
pub trait Runner {
    /// Runs `command` to its end. An error means that it could not be started.
    fn run(&self, command: &Command) -> Result<Output>;

    /// Like [`Runner::run`], but a program that fails is an error with the end of its output.
    fn check(&self, command: &Command) -> Result<Output> {
        self.run(command)?.of(command)
    }
}

/// Runs programs on this machine.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Runner for System {
    fn run(&self, command: &Command) -> Result<Output> {
        log::debug!("run {command}");
        if command.limit.is_some() {
            return run_watched(command, &|| Ok(()));
        }
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

/// As [`System`], with a limit of time for each program that has no shorter one of its own.
#[derive(Clone, Copy, Debug)]
pub struct Limited(pub Duration);

impl Runner for Limited {
    fn run(&self, command: &Command) -> Result<Output> {
        let limit = command.limit.map_or(self.0, |own| own.min(self.0));
        System.run(&command.clone().within(limit))
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
        run_watched(command, &|| self.0.check())
    }
}

/// Runs a program until it ends, until its limit of time is over, or until `goes_on` fails. In the last
/// two cases it is killed; with a limit of time, also everything that it started.
fn run_watched(command: &Command, goes_on: &dyn Fn() -> Result<()>) -> Result<Output> {
    let place = || format!("cannot run {}", command.program);
    let mut prepared = prepared(command);
    prepared.stdout(Stdio::piped()).stderr(Stdio::piped());
    if command.limit.is_some() {
        // What it started would keep its output open, so it ends with it.
        prepared.process_group(0);
    }
    let mut child = prepared.spawn().with_context(place)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let stdout = thread::Builder::new().spawn_scoped(scope, || all(stdout));
        let stderr = thread::Builder::new().spawn_scoped(scope, || all(stderr));
        let (Ok(stdout), Ok(stderr)) = (stdout, stderr) else {
            kill(&mut child, command)?;
            child.wait().with_context(place)?;
            bail!(
                "cannot run {}: the system gives no more threads",
                command.program
            );
        };
        let status = wait(&mut child, command, goes_on);
        let (stdout, stderr) = (stdout.join(), stderr.join());
        Ok(Output {
            code: status?.code(),
            stdout: stdout.unwrap_or_default(),
            stderr: stderr.unwrap_or_default(),
        })
    })
}
/// Waits until the program has ended.
fn wait(
    child: &mut Child,
    command: &Command,
    goes_on: &dyn Fn() -> Result<()>,
) -> Result<ExitStatus> {
    let start = Instant::now();
    let end = End::of(child);
    loop {
        if let Some(status) = child.try_wait()? {
            goes_on()?;
            return Ok(status);
        }
        let over = command.limit.filter(|limit| start.elapsed() > *limit);
        let stopped = goes_on().err();
        if over.is_some() || stopped.is_some() {
            kill(child, command)?;
            child.wait()?;
        }
        if let Some(stopped) = stopped {
            return Err(stopped);
        }
        if let Some(limit) = over {
            return Err(anyhow::Error::from(TookTooLong(limit)).context(format!("`{command}`")));
        }
        end.await_or(LOOK, start.elapsed());
    }
}

/// The end of a program, which the kernel tells since Linux 5.3.
struct End(Option<OwnedFd>);

impl End {
    fn of(child: &Child) -> End {
        let program = rustix::process::Pid::from_child(child);
        End(pidfd_open(program, PidfdFlags::empty()).ok())
    }

    /// Waits until the program ends, for `pause` at most. An older kernel is asked again and again, more seldom the longer
    /// the program runs: most end within milliseconds, and a bring-up runs many of them.
    fn await_or(&self, pause: Duration, runs: Duration) {
        let told = self.0.as_ref().map(|end| {
            let pause = Timespec::try_from(pause).ok();
            poll(&mut [PollFd::new(end, PollFlags::IN)], pause.as_ref())
        });
        if !matches!(told, Some(Ok(_))) {
            thread::sleep((runs / 8).clamp(FIRST, pause));
        }
    }
}

fn kill(child: &mut Child, command: &Command) -> Result<()> {
    let group = i32::try_from(child.id()).ok().map(Pid::from_raw);
    match group.filter(|_| command.limit.is_some()) {
        // An error means that all of them have ended.
        Some(group) => drop(killpg(group, Signal::SIGKILL)),
        None => child.kill()?,
    }
    Ok(())
}

fn prepared(command: &Command) -> StdCommand {
    let mut prepared = StdCommand::new(&command.program);
    prepared
        .args(&command.arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    without_proxies(&mut prepared);
    // A systemd service has no HOME. kubectl keeps its cache there, and would write it into `/`.
    if std::env::var_os("HOME").is_none() {
        prepared.env("HOME", "/root");
    }
    prepared
}

/// Programs talk to this machine and to the cluster, never through the operator's proxy.
fn without_proxies(command: &mut StdCommand) {
    for name in PROXIES {
        command.env_remove(name);
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_program_that_takes_too_long_is_killed_with_what_it_started() {
        let script = "echo begun; sleep 1000 & wait";
        let command = Command::new("sh", &["-c", script]).within(Duration::from_millis(200));
        let error = System.run(&command).unwrap_err();
        assert!(error.is::<TookTooLong>(), "{error:#}");
        assert!(error.to_string().contains("sleep 1000"), "{error}");
    }

    #[test]
    fn a_program_that_ends_in_time_is_as_without_a_limit() {
        let command = Command::new("sh", &["-c", "echo out; echo err >&2; exit 3"]);
        let plain = System.run(&command).unwrap();
        let limited = System
            .run(&command.within(Duration::from_secs(60)))
            .unwrap();
        assert_eq!(plain, limited);
        assert_eq!((plain.code, plain.stdout.as_str()), (Some(3), "out\n"));
    }
    #[test]
    fn a_limit_for_all_programs_is_that_of_each() {
        let command = Command::new("sleep", &["1000"]);
        let error = Limited(Duration::from_millis(100))
            .run(&command)
            .unwrap_err();
        assert!(error.is::<TookTooLong>(), "{error:#}");
    }
}

//! A root shell inside the VM that the demonstration left on: on a terminal, or for commands.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{IsTerminal, Read, Write, stderr, stdin, stdout};
use std::net::Shutdown;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use terminal_size::{Height, Width, terminal_size};

use crate::agent::{Agent, Output};
use crate::qemu::{AGENT, SHELL};
use crate::standing::Standing;

/// The systemd unit of the shell inside the VM.
const UNIT: &str = "demonstration-shell.service";
/// The second console inside the VM.
const TERMINAL: &str = "hvc0";
/// Ctrl-], which leaves the shell.
const LEAVE: u8 = 0x1d;
/// How long the guest agent may take to answer, for example during a boot.
const ANSWER: Duration = Duration::from_secs(120);
/// The pause between two attempts to reach the guest agent.
const POLL: Duration = Duration::from_millis(500);

/// Runs `command`, or the commands from standard input if it is no terminal, or opens a shell on
/// this terminal. Returns the exit code.
pub fn run(vm: &Standing, command: Option<&str>) -> Result<u8> {
    vm.ensure_usable()?;
    if let Some(command) = command {
        return batch(vm, &["-c", command], b"");
    }
    if stdin().is_terminal() {
        return interactive(vm);
    }
    let mut commands = Vec::new();
    stdin().read_to_end(&mut commands)?;
    batch(vm, &["-s"], &commands)
}

/// Copies a file of this machine to `/root` inside, with its permissions. Returns its path there.
pub fn copy(vm: &Standing, file: &Path) -> Result<String> {
    vm.ensure_usable()?;
    let shown = file.display();
    let name = file.file_name().and_then(OsStr::to_str);
    let name = name.with_context(|| format!("{shown} has no name"))?;
    let content = File::open(file).with_context(|| format!("cannot read {shown}"))?;
    let found = content.metadata()?;
    ensure!(
        found.is_file(),
        "{shown} is no file: make an archive of a directory, and copy that"
    );
    let to = format!("/root/{name}");
    let mode = format!("{:o}", found.mode() & 0o777);
    let (turn, mut agent) = reach(vm)?;
    let bar = ProgressBar::new(found.len());
    bar.set_style(ProgressStyle::with_template(
        "{bytes} of {total_bytes}, {eta} left",
    )?);
    agent.copy(content, &to, |done| bar.set_position(done))?;
    bar.finish_and_clear();
    let set = agent.run(&["chmod", &mode, &to])?;
    ensure!(
        set.code == 0,
        "cannot set the permissions of {to}: {}",
        set.stderr
    );
    drop(turn);
    Ok(to)
}

/// Runs a program inside.
fn run_inside(vm: &Standing, command: &[&str], input: &[u8]) -> Result<Output> {
    let (_turn, mut agent) = reach(vm)?;
    agent.run_with_input(command, input)
}

/// The guest agent, after its earlier users: QEMU serves one connection at a time. The file holds its lock.
fn reach(vm: &Standing) -> Result<(File, Agent)> {
    let turn = File::create(vm.dir().join("agent.lock"))?;
    turn.lock()?;
    let start = Instant::now();
    loop {
        match Agent::connect(&vm.dir().join(AGENT)) {
            Ok(agent) => return Ok((turn, agent)),
            Err(error) if start.elapsed() > ANSWER || vm.process()?.is_none() => {
                return Err(error).with_context(|| {
                    format!(
                        "the guest agent of the VM does not answer; its console log is {}",
                        vm.dir().join("console.log").display()
                    )
                });
            }
            Err(_) => thread::sleep(POLL),
        }
    }
}

/// Runs a shell without a terminal.
fn batch(vm: &Standing, arguments: &[&str], input: &[u8]) -> Result<u8> {
    let shell = [
        "/usr/bin/env",
        "-C",
        "/root",
        "HOME=/root",
        "/bin/bash",
        "-l",
    ];
    let (_turn, mut agent) = reach(vm)?;
    let command = [&shell, arguments].concat();
    let code = agent.run_shown(&command, input, [&mut stdout(), &mut stderr()])?;
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Connects this terminal with a shell on the VM's second console.
fn interactive(vm: &Standing) -> Result<u8> {
    let turn = File::create(vm.dir().join("shell.lock"))?;
    if turn.try_lock().is_err() {
        bail!("another `make demo-shell` is open; add CMD='kubectl get nodes' to run one command");
    }
    let socket = vm.dir().join(SHELL);
    let console = UnixStream::connect(&socket).with_context(|| socket.display().to_string())?;
    let token = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let marker = format!("\x1b]{};", token.trim());
    start(vm, &format!("\\033]{};%s\\007", token.trim()))?;
    println!("A root shell inside the VM; `exit` or Ctrl-] leaves it, and the VM stays on.");
    let code = {
        let _raw = Raw::enter()?;
        let typing = console.try_clone()?;
        thread::spawn(move || forward_keys(&typing));
        show(console, Ending::new(&marker))?
    };
    println!();
    if vm.process()?.is_none() {
        println!("The VM was switched off.");
        return Ok(code);
    }
    // After Ctrl-], the shell still runs.
    run_inside(vm, &["systemctl", "stop", UNIT], b"")?;
    Ok(code)
}

/// Starts the shell on the VM's second console. It ends with the formatted exit code.
fn start(vm: &Standing, ending: &str) -> Result<()> {
    let (Width(columns), Height(rows)) = terminal_size().unwrap_or((Width(80), Height(24)));
    let terminal = std::env::var("TERM").unwrap_or_default();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-.+".contains(c);
    let terminal = match terminal.chars().all(is_name) {
        true if !terminal.is_empty() => terminal,
        _ => "vt100".to_owned(),
    };
    let shell = format!(
        "stty sane rows {rows} cols {columns}; cd /root; HOME=/root TERM={terminal} bash -l; \
         printf '{ending}' $?"
    );
    let path = format!("TTYPath=/dev/{TERMINAL}");
    let getty = format!("Conflicts=serial-getty@{TERMINAL}.service");
    let mut command = vec!["systemd-run", "--quiet", "--collect", "--unit", UNIT];
    let properties = [
        &path,
        &getty,
        "StandardInput=tty-force",
        "StandardOutput=tty",
        "StandardError=tty",
        "TTYReset=yes",
        "KillSignal=SIGHUP",
        "TimeoutStopSec=5",
    ];
    for property in properties {
        command.extend(["--property", property]);
    }
    command.extend(["/bin/bash", "-c", &shell]);
    // The shell of an earlier terminal, which was closed.
    run_inside(vm, &["systemctl", "stop", UNIT], b"")?;
    let output = run_inside(vm, &command, b"")?;
    if output.code != 0 {
        bail!("cannot start a shell inside the VM: {}", output.stderr);
    }
    Ok(())
}

/// Sends the keys to the VM until Ctrl-].
fn forward_keys(mut console: &UnixStream) {
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = stdin().read(&mut bytes) {
        let typed = &bytes[..length];
        let end = typed.iter().position(|byte| *byte == LEAVE);
        let sent = console.write_all(&typed[..end.unwrap_or(length)]);
        if end.is_some() || sent.is_err() {
            break;
        }
    }
    // The other thread reads to the end.
    let _ = console.shutdown(Shutdown::Both);
}

/// Shows the output of the VM until the shell, or the connection, ends. Returns the exit code.
fn show(mut console: impl Read, mut ending: Ending) -> Result<u8> {
    let mut bytes = [0; 4096];
    loop {
        let length = console.read(&mut bytes)?;
        let (text, code) = ending.feed(&bytes[..length]);
        stdout().write_all(&text)?;
        stdout().flush()?;
        if length == 0 {
            return Ok(0);
        }
        if let Some(code) = code {
            return Ok(code);
        }
    }
}

/// Finds the end of the shell in its output: a marker, the exit code, and a bell.
struct Ending {
    marker: Vec<u8>,
    /// The start of what may be the end.
    held: Vec<u8>,
}

impl Ending {
    fn new(marker: &str) -> Ending {
        Ending {
            marker: marker.as_bytes().to_owned(),
            held: Vec::new(),
        }
    }

    /// The output to show, and the exit code if it has arrived.
    fn feed(&mut self, bytes: &[u8]) -> (Vec<u8>, Option<u8>) {
        let mut shown = Vec::new();
        for &byte in bytes {
            self.held.push(byte);
            let is_code = self.held.starts_with(&self.marker);
            if is_code && byte == 0x07 {
                let code = &self.held[self.marker.len()..self.held.len() - 1];
                let code = str::from_utf8(code).ok().and_then(|code| code.parse().ok());
                return (shown, Some(code.unwrap_or(u8::MAX)));
            }
            while !self.held.is_empty()
                && !self.marker.starts_with(&self.held)
                && !self.held.starts_with(&self.marker)
            {
                shown.push(self.held.remove(0));
            }
        }
        (shown, None)
    }
}

/// The terminal in raw mode; it gets its settings back when this is dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Result<Raw> {
        let before = tcgetattr(stdin()).context("this terminal")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin(), SetArg::TCSANOW, &raw).context("this terminal")?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // If the terminal is gone, there is nothing to do.
        let _ = tcsetattr(stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_end_of_a_shell_is_found_wherever_the_output_is_cut() {
        let text = b"a \x1b]0;title\x07 \x1b]to\x1b]token;3\x07rest";
        for cut in 0..=text.len() {
            let mut ending = Ending::new("\x1b]token;");
            let (mut shown, mut code) = ending.feed(&text[..cut]);
            if code.is_none() {
                let more = ending.feed(&text[cut..]);
                shown.extend(more.0);
                code = more.1;
            }
            assert_eq!(shown, b"a \x1b]0;title\x07 \x1b]to", "cut at {cut}");
            assert_eq!(code, Some(3), "cut at {cut}");
        }
    }

    #[test]
    fn without_a_vm_the_command_that_starts_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let vm = Standing::at(&dir.path().join("demo"));
        let error = run(&vm, Some("true")).unwrap_err().to_string();
        assert!(error.ends_with("make demo"), "{error}");
        assert!(!vm.dir().exists());
    }
}

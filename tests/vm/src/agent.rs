//! The QEMU guest agent: runs programs inside a VM without a network.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

/// How long the agent may take for one answer. This limit only ends a VM that hangs; it measures
/// nothing.
const ANSWER: Duration = Duration::from_secs(60);
/// How many bytes of a file one request has.
const PIECE: u64 = 512 * 1024;
/// The pause between two checks whether a program has ended.
const POLL: Duration = Duration::from_millis(200);

/// How a program inside the VM ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit code, or 128 and the number of the signal that ended it.
    pub code: i64,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// A connection to the agent inside one VM.
pub struct Agent {
    stream: BufReader<UnixStream>,
    /// Whether an answer that is no longer needed may still arrive.
    is_behind: bool,
}

impl Agent {
    /// Connects to the agent through the socket of QEMU; fails if it does not answer yet.
    pub fn connect(socket: &Path) -> Result<Agent> {
        let stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut agent = Agent {
            stream: BufReader::new(stream),
            is_behind: true,
        };
        agent.synchronize()?;
        agent.stream.get_ref().set_read_timeout(Some(ANSWER))?;
        Ok(agent)
    }

    /// Skips the answers to earlier requests, which the agent still sends.
    fn synchronize(&mut self) -> Result<()> {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
        let id = CONNECTIONS.fetch_add(1, Ordering::Relaxed) << 32 | u64::from(std::process::id());
        self.send(&json!({ "execute": "guest-sync", "arguments": { "id": id } }))?;
        while self.receive()?["return"] != json!(id) {}
        self.is_behind = false;
        Ok(())
    }

    fn send(&mut self, message: &Value) -> Result<()> {
        Ok(writeln!(self.stream.get_mut(), "{message}")?)
    }

    fn receive(&mut self) -> Result<Value> {
        let mut line = String::new();
        let length = match self.stream.read_line(&mut line) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                bail!("the guest agent does not answer: the VM is very busy, or it is off")
            }
            length => length?,
        };
        ensure!(length > 0, "the guest agent's connection ended");
        Ok(serde_json::from_str(line.trim_start_matches('\u{ff}'))?)
    }

    fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        if self.is_behind {
            self.synchronize()?;
        }
        self.is_behind = true;
        self.send(&json!({ "execute": command, "arguments": arguments }))?;
        let mut answer = self.receive()?;
        self.is_behind = false;
        if let Some(error) = answer.get("error") {
            bail!("guest agent: {command}: {error}");
        }
        Ok(answer["return"].take())
    }

    /// Whether it answers now.
    pub fn answers(&mut self) -> bool {
        self.ask("guest-ping", &json!({})).is_ok()
    }

    /// Writes a file inside the VM. `told` gets the number of bytes that are there, again and again.
    pub fn copy(&mut self, mut from: impl Read, to: &str, told: impl Fn(u64)) -> Result<()> {
        let file = self.ask("guest-file-open", &json!({ "path": to, "mode": "wb" }))?;
        let mut done = 0;
        loop {
            let mut piece = Vec::new();
            let length = from.by_ref().take(PIECE).read_to_end(&mut piece)?;
            if length == 0 {
                break;
            }
            let order = json!({ "handle": file, "buf-b64": BASE64.encode(&piece) });
            let written = self.ask("guest-file-write", &order)?;
            ensure!(
                written["count"] == json!(length),
                "the guest agent wrote only a part of {to}: is the VM's disk full?"
            );
            done += length as u64;
            told(done);
        }
        self.ask("guest-file-close", &json!({ "handle": file }))?;
        Ok(())
    }

    /// Runs a program to its end.
    pub fn run(&mut self, command: &[&str]) -> Result<Output> {
        self.run_with_input(command, b"")
    }

    /// Runs a program to its end, with these bytes as its standard input.
    pub fn run_with_input(&mut self, command: &[&str], input: &[u8]) -> Result<Output> {
        let status = self.execute(command, input, &mut |_| Ok(()))?;
        Ok(Output {
            code: code(&status),
            stdout: text(&status["out-data"])?,
            stderr: text(&status["err-data"])?,
        })
    }

    /// As [`Agent::run_with_input`], but what it writes is shown while it runs: its standard output and its standard error.
    /// Returns the exit code.
    pub fn run_shown(
        &mut self,
        command: &[&str],
        input: &[u8],
        mut shown: [&mut dyn Write; 2],
    ) -> Result<i64> {
        // The agent itself passes on no output before the end.
        let made = self.run(&["mktemp", "-d"])?;
        let directory = made.stdout.trim();
        ensure!(
            made.code == 0,
            "no temporary directory inside: {}",
            made.stderr
        );
        let paths = ["out", "err"].map(|name| format!("{directory}/{name}"));
        self.run(&["touch", &paths[0], &paths[1]])?;
        let mut handles = Vec::new();
        for path in &paths {
            handles.push(self.ask("guest-file-open", &json!({ "path": path, "mode": "rb" }))?);
        }
        let into = format!("exec \"$@\" >{} 2>{}", paths[0], paths[1]);
        let command = [&["/bin/sh", "-c", &into, "sh"], command].concat();
        let mut pass = |agent: &mut Agent| {
            let mut each = handles.iter().zip(&mut shown);
            each.try_for_each(|(handle, to)| agent.pass_on(handle, *to))
        };
        let status = self.execute(&command, input, &mut pass)?;
        pass(self)?;
        for handle in &handles {
            self.ask("guest-file-close", &json!({ "handle": handle }))?;
        }
        self.run(&["rm", "-r", directory])?;
        Ok(code(&status))
    }

    /// Passes on what was written to an open file since the last time.
    fn pass_on(&mut self, handle: &Value, to: &mut dyn Write) -> Result<()> {
        loop {
            let order = json!({ "handle": handle, "count": PIECE });
            let read = self.ask("guest-file-read", &order)?;
            to.write_all(&BASE64.decode(read["buf-b64"].as_str().unwrap_or_default())?)?;
            to.flush()?;
            if read["eof"] == json!(true) {
                return Ok(());
            }
        }
    }

    /// Runs a program, and returns how it ended. Calls `meanwhile` at every check.
    fn execute(
        &mut self,
        command: &[&str],
        input: &[u8],
        meanwhile: &mut dyn FnMut(&mut Agent) -> Result<()>,
    ) -> Result<Value> {
        let (program, arguments) = command.split_first().context("no program")?;
        let mut order = json!({ "path": program, "arg": arguments, "capture-output": true });
        if !input.is_empty() {
            order["input-data"] = json!(BASE64.encode(input));
        }
        let started = self.ask("guest-exec", &order)?;
        loop {
            let status = self.ask("guest-exec-status", &json!({ "pid": started["pid"] }))?;
            if status["exited"] == json!(true) {
                return Ok(status);
            }
            meanwhile(self)?;
            std::thread::sleep(POLL);
        }
    }
}

fn code(status: &Value) -> i64 {
    let signal = || Some(128 + status["signal"].as_i64()?);
    status["exitcode"].as_i64().or_else(signal).unwrap_or(-1)
}

fn text(data: &Value) -> Result<String> {
    let bytes = BASE64.decode(data.as_str().unwrap_or_default())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

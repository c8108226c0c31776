//! The keeper of a VM: a process in a session of its own that runs QEMU. It switches the VM off if
//! the program that started it ends without asking it to stay, for whatever reason.

use std::ffi::{OsStr, OsString};
use std::io::{Read, stdin};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, ensure};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, setsid};

use crate::standing::Standing;

/// Sent to the keeper if the VM must stay on.
pub(crate) const STAY: &[u8] = b"s";

/// What happens to the keeper.
enum Event {
    /// QEMU has ended.
    Ended,
    /// The program that started the keeper asks it to stay.
    Stay,
    /// That program has ended.
    Abandoned,
}

/// The keeper that runs `qemu`, with its record in `dir`. The keeper waits on its standard input for
/// the request to stay.
pub(crate) fn command(vm: &Path, dir: &Path, qemu: &Command) -> Command {
    let mut command = Command::new(vm);
    command
        .args([OsStr::new("keep"), dir.as_os_str(), OsStr::new("--")])
        .arg(qemu.get_program())
        .args(qemu.get_args())
        .stdin(Stdio::piped());
    command
}

/// Runs QEMU until it ends, or until standard input ends without the request to stay.
pub fn keep(dir: &Path, qemu: &[OsString]) -> Result<()> {
    // No signal of the terminal arrives here any more.
    setsid().context("a new session")?;
    let (program, arguments) = qemu.split_first().context("no program to run")?;
    let mut qemu = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| program.display().to_string())?;
    let status = Standing::at(dir)
        .record(qemu.id())
        .and_then(|()| wait(&mut qemu));
    if status.is_err() {
        qemu.kill()?;
        qemu.wait()?;
    }
    let status = status?;
    ensure!(status.success(), "QEMU ended: {status}");
    Ok(())
}

fn wait(qemu: &mut Child) -> Result<ExitStatus> {
    let (send, events) = mpsc::channel();
    let ended = send.clone();
    let pid = Id::Pid(Pid::from_raw(i32::try_from(qemu.id())?));
    thread::spawn(move || {
        // It stays a zombie, so that its number is not used again before it is killed.
        let _ = waitid(pid, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        ended.send(Event::Ended)
    });
    thread::spawn(move || {
        let mut word = [0; STAY.len()];
        let is_asked = stdin().read_exact(&mut word).is_ok() && word == STAY;
        send.send(if is_asked {
            Event::Stay
        } else {
            Event::Abandoned
        })
    });
    loop {
        match events.recv()? {
            Event::Stay => {}
            Event::Ended => return Ok(qemu.wait()?),
            Event::Abandoned => {
                qemu.kill()?;
                qemu.wait()?;
                return Ok(ExitStatus::from_raw(0));
            }
        }
    }
}

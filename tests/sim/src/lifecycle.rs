//! Runs until it is stopped, and notifies systemd.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Waits for SIGTERM or SIGINT, while `work` runs on its own thread.
///
/// # Errors The error of `work`. If `work` succeeds, the program keeps waiting.
pub fn run_until_stopped(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (ended, end) = mpsc::channel();
    let failed = ended.clone();
    thread::spawn(move || {
        if let Err(error) = work() {
            // The receiver is gone only when the program ends.
            let _ = failed.send(Err(error));
        }
    });
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            eprintln!("got signal {signal}, ending");
            let _ = ended.send(Ok(()));
        }
    });
    end.recv().context("both waiting threads ended")?
}

/// Notifies systemd that the program is ready, if it was started with `Type=notify`.
///
/// # Errors A notification socket that cannot be written to.
pub fn notify_ready() -> Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?
        .send_to_addr(b"READY=1", &address)
        .context("NOTIFY_SOCKET")?;
    Ok(())
}

/// Tries `attempt` up to `times` times, a second apart, and logs each failure.
///
/// # Errors
/// The last failure.
pub fn retry<T>(times: u32, what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut left = times;
    loop {
        left -= 1;
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if left == 0 => return Err(error.context(what.to_owned())),
            Err(error) => eprintln!("{what}: {error:#}; trying again"),
        }
        thread::sleep(Duration::from_secs(1));
    }
}

/// This machine's host name.
///
/// # Errors The kernel does not return it.
pub fn host_name() -> Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("host name")?;
    Ok(name.trim().to_lowercase())
}

/// The present time, in the format of Kubernetes.
pub fn now() -> String {
    time::OffsetDateTime::now_utc()
        .replace_nanosecond(0)
        .ok()
        .and_then(|now| {
            now.format(&time::format_description::well_known::Rfc3339)
                .ok()
        })
        .unwrap_or_default()
}

//! Tells systemd about this process (the protocol of `sd_notify(3)`): that it is ready, and what it does. Where systemd
//! did not ask for that, nothing is sent.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use crate::language::is_hidden;

/// The variable with the place of systemd's socket.
const SOCKET: &str = "NOTIFY_SOCKET";
/// How long systemd may take to read a message. A process that cannot say that it is ready goes on all the same.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest status that is sent, in characters. `systemctl status` shows it on one line.
const LONGEST: usize = 200;

/// Whether systemd runs this process as a service and listens to it.
pub fn is_heard() -> bool {
    env::var_os(SOCKET).is_some()
}

/// This process is ready: systemd calls its unit active, and starts what comes after it (`Type=notify`). A second time
/// changes nothing.
pub fn ready() {
    tell("READY=1");
}

/// What this process does now, for `systemctl status`. A line break ends the text.
pub fn status(text: &str) {
    let line = text.lines().next().unwrap_or_default();
    let line: String = line.chars().filter(|c| !is_hidden(*c)).collect();
    let line: String = line.chars().take(LONGEST).collect();
    tell(&format!("STATUS={line}"));
}

fn tell(message: &str) {
    let Some(place) = env::var_os(SOCKET) else {
        return;
    };
    if let Err(error) = send(&place, message) {
        log::debug!(
            "cannot tell systemd `{message}` at {}: {error}",
            place.display()
        );
    }
}

/// Sends a datagram to the socket at `place`: a path, or the name of an abstract socket after `@`.
fn send(place: &OsStr, message: &str) -> io::Result<()> {
    let address = match place.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(Path::new(place))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to_addr(message.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut text = [0; 512];
        let length = socket.recv(&mut text).unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap()
    }

    #[test]
    fn both_kinds_of_sockets_are_reached() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let at_path = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();
        assert_eq!(received(&at_path), "READY=1");
        let name = format!("appliance-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let abstract_one = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), "STATUS=a").unwrap();
        assert_eq!(received(&abstract_one), "STATUS=a");
    }

    #[test]
    fn a_socket_that_nobody_reads_is_no_reason_to_stop() {
        assert!(send(OsStr::new("/nonexistent/notify"), "READY=1").is_err());
    }
}

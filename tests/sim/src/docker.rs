//! What the kubelet asks of docker, over its unix socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The most docker may answer.
const ANSWER_LIMIT: u64 = 1 << 20;

/// Checks that docker answers and uses the kubelet's cgroup driver. Returns its
/// version, as a node shows it.
///
/// # Errors
/// A docker that does not answer, or uses another driver, as the real kubelet
/// words it.
pub fn check(endpoint: &str, cgroup_driver: &str) -> Result<String> {
    let info = info(endpoint).with_context(|| format!("failed to get docker info: {endpoint}"))?;
    let driver = info["CgroupDriver"].as_str().unwrap_or_default();
    if driver != cgroup_driver {
        bail!(
            "failed to create kubelet: misconfiguration: kubelet cgroup driver: \
             {cgroup_driver:?} is different from docker cgroup driver: {driver:?}"
        );
    }
    let version = info["ServerVersion"].as_str().unwrap_or("unknown");
    Ok(format!("docker://{version}"))
}

fn info(endpoint: &str) -> Result<Value> {
    let path = endpoint
        .strip_prefix("unix://")
        .context("the stand-in reaches docker only through unix://")?;
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // HTTP/1.0: the answer ends with the connection.
    stream.write_all(b"GET /info HTTP/1.0\r\nHost: docker\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_LIMIT).read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("docker answered something else than HTTP")?;
    if head.split_whitespace().nth(1) != Some("200") {
        bail!("docker answered {:?}", head.lines().next());
    }
    serde_json::from_str(body).context("docker's info is not JSON")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::net::UnixListener;

    use super::*;

    fn check_against(answer: &'static str) -> Result<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let result = check(&format!("unix://{}", path.display()), "cgroupfs");
        server.join().unwrap();
        result
    }

    #[test]
    fn the_cgroup_drivers_must_be_the_same() {
        check_against("HTTP/1.0 200 OK\r\n\r\n{\"CgroupDriver\": \"cgroupfs\"}").unwrap();
        let other = check_against("HTTP/1.0 200 OK\r\n\r\n{\"CgroupDriver\": \"systemd\"}");
        assert!(other.unwrap_err().to_string().contains("misconfiguration"));
        assert!(check_against("HTTP/1.0 500 Oh\r\n\r\n{}").is_err());
        assert!(check("unix:///nonexistent/docker.sock", "cgroupfs").is_err());
    }
}

//! The kubelet's requests to docker, over its unix socket.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Method, Url};
use serde_json::{Value, json};

use crate::tls;

/// How long docker may take: it waits for containers to end, and for registries.
const LIMIT: Duration = Duration::from_secs(150);

/// How long it may take for its version and info.
const SHORT: Duration = Duration::from_secs(10);

/// A docker daemon.
#[derive(Clone)]
pub struct Docker {
    http: reqwest::blocking::Client,
    endpoint: String,
}

struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Result<Value> {
        if self.status >= 300 {
            bail!("Error response from daemon: {}", self.message());
        }
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body).context("the answer of docker is not JSON")
    }

    fn message(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["message"].as_str().unwrap_or(text.trim()).to_owned()
    }
}

impl Docker {
    /// The daemon at `endpoint`.
    ///
    /// # Errors An endpoint that is not a unix socket.
    pub fn new(endpoint: &str) -> Result<Self> {
        let path = endpoint
            .strip_prefix("unix://")
            .context("the stand-in reaches docker only through unix://")?;
        let http = reqwest::blocking::Client::builder()
            .tls_backend_preconfigured(tls::client(None, None)?)
            .no_proxy()
            .unix_socket(path)
            .timeout(LIMIT)
            .build()?;
        Ok(Self {
            http,
            endpoint: endpoint.to_owned(),
        })
    }

    /// Checks that docker answers and uses the kubelet's cgroup driver. Returns its version, as a
    /// node shows it.
    ///
    /// # Errors A docker that does not answer, or uses another driver, in the words of the real
    /// kubelet.
    pub fn check(&self, cgroup_driver: &str) -> Result<String> {
        let asked = self.send(Method::GET, "/info", None, SHORT);
        let info = asked
            .and_then(|answer| answer.json())
            .with_context(|| format!("failed to get docker info: {}", self.endpoint))?;
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

    /// The containers with a label, which is `NAME` or `NAME=VALUE`.
    ///
    /// # Errors Docker does not answer or refuses.
    pub fn labelled(&self, label: &str) -> Result<Vec<Value>> {
        let filters = json!({"label": [label]}).to_string();
        let path = query("/containers/json", &[("all", "1"), ("filters", &filters)])?;
        match self.ask(Method::GET, &path, None)? {
            Value::Array(containers) => Ok(containers),
            _ => Ok(Vec::new()),
        }
    }

    /// A container's configuration and state.
    ///
    /// # Errors
    /// Docker does not answer or does not know it.
    pub fn inspect(&self, id: &str) -> Result<Value> {
        self.ask(Method::GET, &format!("/containers/{id}/json"), None)
    }

    /// Creates a container. Returns its id.
    ///
    /// # Errors Docker does not answer or refuses.
    pub fn create(&self, name: &str, settings: &Value) -> Result<String> {
        let path = query("/containers/create", &[("name", name)])?;
        let made = self.ask(Method::POST, &path, Some(settings))?;
        let id = made["Id"].as_str().context("docker returned no id")?;
        Ok(id.to_owned())
    }

    /// Starts a container.
    ///
    /// # Errors
    /// Docker does not answer or refuses.
    pub fn start(&self, id: &str) -> Result<()> {
        let path = format!("/containers/{id}/start");
        self.ask(Method::POST, &path, None).map(drop)
    }

    /// Ends a container: sends it a signal, and kills it after this many seconds.
    ///
    /// # Errors Docker does not answer or refuses. A missing container is no error.
    pub fn stop(&self, id: &str, seconds: u64) -> Result<()> {
        let path = format!("/containers/{id}/stop?t={seconds}");
        self.gone_is_well(Method::POST, &path)
    }

    /// Removes a container, and ends its processes.
    ///
    /// # Errors Docker does not answer or refuses. A missing container is no error.
    pub fn remove(&self, id: &str) -> Result<()> {
        let path = format!("/containers/{id}?force=1&v=1");
        self.gone_is_well(Method::DELETE, &path)
    }

    fn gone_is_well(&self, method: Method, path: &str) -> Result<()> {
        let answer = self.send(method, path, None, LIMIT)?;
        // 304: it ended already; 409: it is being removed.
        if !matches!(answer.status, 200..300 | 304 | 404 | 409) {
            bail!("Error response from daemon: {}", answer.message());
        }
        Ok(())
    }

    /// Whether docker has an image.
    ///
    /// # Errors
    /// Docker does not answer.
    pub fn has_image(&self, image: &str) -> Result<bool> {
        let path = format!("/images/{image}/json");
        let answer = self.send(Method::GET, &path, None, LIMIT)?;
        match answer.status {
            200 => Ok(true),
            404 => Ok(false),
            _ => bail!("Error response from daemon: {}", answer.message()),
        }
    }

    /// Pulls an image.
    ///
    /// # Errors The error of docker.
    pub fn pull(&self, image: &str) -> Result<()> {
        let last = image.rsplit('/').next().unwrap_or_default();
        let tag = if last.contains([':', '@']) {
            ""
        } else {
            "latest"
        };
        let path = query("/images/create", &[("fromImage", image), ("tag", tag)])?;
        let answer = self.send(Method::POST, &path, None, LIMIT)?;
        if answer.status >= 300 {
            bail!("Error response from daemon: {}", answer.message());
        }
        // Failures arrive in the middle of the progress messages.
        let text = String::from_utf8_lossy(&answer.body);
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        for line in lines {
            if let Some(error) = line["error"].as_str() {
                bail!("{error}");
            }
        }
        Ok(())
    }

    /// The last lines of a container's log; all of them without a number.
    ///
    /// # Errors Docker does not answer or refuses.
    pub fn logs(&self, id: &str, tail: Option<&str>) -> Result<Vec<u8>> {
        let pairs = [
            ("stdout", "1"),
            ("stderr", "1"),
            ("tail", tail.unwrap_or("all")),
        ];
        let path = query(&format!("/containers/{id}/logs"), &pairs)?;
        let answer = self.send(Method::GET, &path, None, LIMIT)?;
        if answer.status >= 300 {
            bail!("Error response from daemon: {}", answer.message());
        }
        Ok(plain(&answer.body))
    }

    /// Runs a command in a container. Returns its exit code and its output.
    ///
    /// # Errors Docker does not answer or refuses, or the command takes longer than `limit`.
    pub fn exec(&self, id: &str, command: &[String], limit: Duration) -> Result<(i64, Vec<u8>)> {
        let settings = json!({"Cmd": command, "AttachStdout": true, "AttachStderr": true});
        let path = format!("/containers/{id}/exec");
        let made = self.ask(Method::POST, &path, Some(&settings))?;
        let exec = made["Id"].as_str().context("docker returned no id")?;
        let start = json!({"Detach": false, "Tty": false});
        let path = format!("/exec/{exec}/start");
        let answer = self.send(Method::POST, &path, Some(&start), limit)?;
        if answer.status >= 300 {
            bail!("Error response from daemon: {}", answer.message());
        }
        let ended = self.ask(Method::GET, &format!("/exec/{exec}/json"), None)?;
        let code = ended["ExitCode"]
            .as_i64()
            .context("docker returned no exit code")?;
        Ok((code, plain(&answer.body)))
    }

    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.send(method, path, body, LIMIT)?.json()
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<Answer> {
        let url = format!("http://docker{path}");
        let mut request = self.http.request(method, url).timeout(limit);
        if let Some(body) = body {
            let text = body.to_string();
            request = request
                .header("content-type", "application/json")
                .body(text);
        }
        let reply = request.send().context("docker does not answer")?;
        Ok(Answer {
            status: reply.status().as_u16(),
            body: reply.bytes().context("docker's answer")?.to_vec(),
        })
    }
}

fn query(path: &str, pairs: &[(&str, &str)]) -> Result<String> {
    let mut url = Url::parse("http://docker/")?;
    url.query_pairs_mut()
        .extend_pairs(pairs.iter().filter(|(_, value)| !value.is_empty()));
    Ok(format!("{path}?{}", url.query().unwrap_or_default()))
}

/// Output of containers comes in pieces. Each has a header of eight bytes, which ends with its
/// length.
fn plain(mut stream: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    while let [0..=2, 0, 0, 0, a, b, c, d, rest @ ..] = stream {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let (piece, after) = rest.split_at(length.min(rest.len()));
        text.extend_from_slice(piece);
        stream = after;
    }
    text.extend_from_slice(stream);
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Write};
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
        let docker = Docker::new(&format!("unix://{}", path.display())).unwrap();
        let result = docker.check("cgroupfs");
        server.join().unwrap();
        result
    }

    #[test]
    fn the_cgroup_drivers_must_be_the_same() {
        check_against("HTTP/1.0 200 OK\r\n\r\n{\"CgroupDriver\": \"cgroupfs\"}").unwrap();
        let other = check_against("HTTP/1.0 200 OK\r\n\r\n{\"CgroupDriver\": \"systemd\"}");
        assert!(other.unwrap_err().to_string().contains("misconfiguration"));
        assert!(check_against("HTTP/1.0 500 Oh\r\n\r\n{}").is_err());
        let none = Docker::new("unix:///nonexistent/docker.sock").unwrap();
        assert!(none.check("cgroupfs").is_err());
    }

    #[test]
    fn what_containers_print_is_joined() {
        assert_eq!(
            plain(b"\x01\0\0\0\0\0\0\x02ab\x02\0\0\0\0\0\0\x01c"),
            b"abc"
        );
        assert_eq!(plain(b"as it is"), b"as it is");
    }
}

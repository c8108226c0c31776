//! Probes: whether a container is alive and ready.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::docker::Docker;

/// The results of one probe of one container so far.
#[derive(Default)]
pub struct Probe {
    container: String,
    started: Option<Instant>,
    asked: Option<Instant>,
    failures: u64,
    successes: u64,
    state: Option<bool>,
}

/// A new result of a probe.
pub enum Finding {
    /// No new result.
    None,
    /// An attempt failed, for this reason.
    Failed(String),
}

/// A container with probes.
pub struct Target<'a> {
    /// The docker that runs it.
    pub docker: &'a Docker,
    /// Its id.
    pub id: &'a str,
    /// Its place in the pod's spec.
    pub container: &'a Value,
    /// The pod's address.
    pub ip: &'a str,
}

impl Probe {
    /// Whether the container passed or failed often enough; `None` until then.
    pub fn state(&self) -> Option<bool> {
        self.state
    }

    /// Runs the probe, if it is time to.
    pub fn look(&mut self, probe: &Value, target: &Target<'_>) -> Finding {
        if self.container != target.id {
            *self = Self {
                container: target.id.to_owned(),
                started: Some(Instant::now()),
                ..Self::default()
            };
        }
        let number = |name: &str, default| probe[name].as_u64().unwrap_or(default);
        let elapsed = |since: Option<Instant>| since.map(|since| since.elapsed());
        let delay = Duration::from_secs(number("initialDelaySeconds", 0));
        let period = Duration::from_secs(number("periodSeconds", 10).max(1));
        let early = elapsed(self.started).is_some_and(|passed| passed < delay);
        if early || elapsed(self.asked).is_some_and(|passed| passed < period) {
            return Finding::None;
        }
        self.asked = Some(Instant::now());
        let limit = Duration::from_secs(number("timeoutSeconds", 1).max(1));
        let asked = ask(probe, target, limit);
        self.count(
            asked.is_ok(),
            number("successThreshold", 1),
            number("failureThreshold", 3),
        );
        match asked {
            Ok(()) => Finding::None,
            Err(error) => Finding::Failed(format!("{error:#}")),
        }
    }

    fn count(&mut self, passed: bool, successes: u64, failures: u64) {
        if passed {
            (self.successes, self.failures) = (self.successes + 1, 0);
            if self.successes >= successes {
                self.state = Some(true);
            }
        } else {
            (self.successes, self.failures) = (0, self.failures + 1);
            if self.failures >= failures {
                self.state = Some(false);
            }
        }
    }
}

fn ask(probe: &Value, target: &Target<'_>, limit: Duration) -> Result<()> {
    if probe["httpGet"].is_object() {
        return http(&probe["httpGet"], target, limit);
    }
    if probe["tcpSocket"].is_object() {
        let address = address(&probe["tcpSocket"], target)?;
        TcpStream::connect_timeout(&address, limit).with_context(|| address.to_string())?;
        return Ok(());
    }
    let command = probe["exec"]["command"]
        .as_array()
        .context("a probe of an unknown kind")?;
    let command: Vec<String> = command
        .iter()
        .map(|word| word.as_str().unwrap_or_default().to_owned())
        .collect();
    let (code, text) = target.docker.exec(target.id, &command, limit)?;
    if code != 0 {
        bail!("{}", String::from_utf8_lossy(&text).trim());
    }
    Ok(())
}

fn address(action: &Value, target: &Target<'_>) -> Result<SocketAddr> {
    let port = &action["port"];
    let named = || {
        let mut ports = target.container["ports"].as_array()?.iter();
        ports.find(|one| one["name"] == *port)?["containerPort"].as_u64()
    };
    let port = port.as_u64().or_else(named).context("the probe's port")?;
    let host = action["host"].as_str().filter(|host| !host.is_empty());
    let host = host
        .unwrap_or(target.ip)
        .parse()
        .context("the probe's host")?;
    Ok(SocketAddr::new(host, u16::try_from(port)?))
}

fn http(action: &Value, target: &Target<'_>, limit: Duration) -> Result<()> {
    let address = address(action, target)?;
    let is_tls = action["scheme"] == "HTTPS";
    if is_tls {
        // For a server with TLS, the stand-in only checks that it listens; the real kubelet does
        // not verify its certificate.
        TcpStream::connect_timeout(&address, limit).with_context(|| address.to_string())?;
        return Ok(());
    }
    let path = action["path"]
        .as_str()
        .unwrap_or("/")
        .trim_start_matches('/');
    let url = format!("http://{address}/{path}");
    let client = reqwest::blocking::Client::builder()
        .tls_backend_preconfigured(crate::tls::client(None, None)?)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(limit)
        .build()?;
    let mut request = client.get(&url);
    for header in action["httpHeaders"].as_array().into_iter().flatten() {
        let text = |member: &str| header[member].as_str().unwrap_or_default();
        request = request.header(text("name"), text("value"));
    }
    let status = request
        .send()
        .with_context(|| format!("Get {url}"))?
        .status();
    if !(200..400).contains(&status.as_u16()) {
        bail!("HTTP probe failed with statuscode: {}", status.as_u16());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_changes_after_as_many_tries_as_are_asked_for() {
        let mut probe = Probe::default();
        let mut after = |passed: bool| {
            probe.count(passed, 2, 3);
            probe.state()
        };
        assert_eq!(after(true), None);
        assert_eq!(after(true), Some(true));
        assert_eq!(after(false), Some(true));
        assert_eq!(after(false), Some(true));
        assert_eq!(after(true), Some(true));
        assert_eq!(after(false), Some(true));
        assert_eq!(after(false), Some(true));
        assert_eq!(after(false), Some(false));
    }
}

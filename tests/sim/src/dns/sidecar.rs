//! sidecar: checks the other two again and again, and reports whether they answer.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

use crate::lifecycle;
use crate::server::{Handler, Request, Response, Server};

use super::options::Options;
use super::transport::{self, Way};

const FLAGS: &str = "dnsmasq-addr dnsmasq-port dnsmasq-poll-interval-ms probe prometheus-addr \
    prometheus-path prometheus-port prometheus-namespace";

/// The target of a check.
#[derive(Clone, Debug)]
struct Probe {
    label: String,
    server: SocketAddr,
    name: Name,
    kind: RecordType,
    interval: Duration,
}

/// How often each answered and did not, and the last result.
type Counts = Arc<Mutex<HashMap<String, (u64, u64, bool)>>>;

/// Runs until it is stopped.
///
/// # Errors Flags with which the real program would not run.
pub fn run(arguments: &[String]) -> Result<()> {
    let options = Options::parse(FLAGS, arguments)?;
    let probes: Vec<Probe> = options
        .all("probe")
        .map(Probe::parse)
        .collect::<Result<_>>()?;
    let port = options.port("prometheus-port", 10054)?;
    lifecycle::run_until_stopped(move || {
        let counts = Counts::default();
        for probe in probes {
            let counts = counts.clone();
            thread::spawn(move || probe.keep_asking(&counts));
        }
        let server = Server::new()?;
        let handler: Handler = Arc::new(move |request| answer(&counts, &request));
        server.listen(
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            None,
            handler,
        )?;
        loop {
            thread::park();
        }
    })
}

impl Probe {
    /// `LABEL,SERVER,NAME,SECONDS,TYPE`; the last two may be missing.
    fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(',').collect();
        let [label, server, name, ref rest @ ..] = parts[..] else {
            bail!("invalid probe {text:?}: expected label,server,name,interval,type");
        };
        let seconds = rest.first().map_or(Ok(5), |seconds| seconds.parse());
        let kind = match rest.get(1).copied().unwrap_or("ANY") {
            "A" => RecordType::A,
            "AAAA" => RecordType::AAAA,
            "SRV" => RecordType::SRV,
            "ANY" => RecordType::ANY,
            other => bail!("invalid probe {text:?}: {other} is not a type"),
        };
        let name = Name::from_ascii(format!("{}.", name.trim_end_matches('.')));
        Ok(Self {
            label: label.to_owned(),
            server: server
                .parse()
                .with_context(|| format!("invalid probe {text:?}: server"))?,
            name: name.with_context(|| format!("invalid probe {text:?}: name"))?,
            kind,
            interval: Duration::from_secs(
                seconds.with_context(|| format!("invalid probe {text:?}: interval"))?,
            ),
        })
    }

    fn keep_asking(&self, counts: &Counts) {
        loop {
            let asked = self.ask();
            if let Err(error) = &asked {
                eprintln!("probe {}: {error:#}", self.label);
            }
            if let Ok(mut counts) = counts.lock() {
                let count = counts.entry(self.label.clone()).or_default();
                count.0 += 1;
                count.1 += u64::from(asked.is_err());
                count.2 = asked.is_ok();
            }
            thread::sleep(self.interval);
        }
    }

    fn ask(&self) -> Result<()> {
        let mut question = Message::query();
        question.add_query(Query::query(self.name.clone(), self.kind));
        let answer = transport::ask(self.server, &question.to_vec()?, Way::Udp)?;
        let answer = Message::from_vec(&answer)?;
        if answer.metadata.response_code != ResponseCode::NoError || answer.answers.is_empty() {
            bail!(
                "{} is not known: {}",
                self.name,
                answer.metadata.response_code
            );
        }
        Ok(())
    }
}

fn answer(counts: &Counts, request: &Request) -> Response {
    let counts = counts
        .lock()
        .map(|counts| counts.clone())
        .unwrap_or_default();
    if request.path == "/metrics" {
        let lines = counts.iter().map(|(label, (asked, failed, _))| {
            format!(
                "kubedns_probe_{label}_latency_ms_count {asked}\nkubedns_probe_{label}_errors \
                 {failed}\n"
            )
        });
        return Response::text(200, lines.collect::<String>());
    }
    match request
        .path
        .strip_prefix("/healthcheck/")
        .and_then(|label| counts.get(label))
    {
        Some((_, _, true)) => Response::text(200, "ok\n"),
        Some(_) => Response::text(503, "does not answer\n"),
        None => Response::text(404, "404 page not found\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_read_as_the_manifest_writes_them() {
        let name = "kubernetes.default.svc.cluster.local";
        let probe = Probe::parse(&format!("dnsmasq,127.0.0.1:53,{name},5,A"));
        assert!(probe.is_ok_and(|probe| {
            probe.label == "dnsmasq" && probe.interval.as_secs() == 5 && probe.kind == RecordType::A
        }));
        assert!(Probe::parse(&format!("dnsmasq,127.0.0.1:53,{name},x,A")).is_err());
        assert!(Probe::parse("dnsmasq,127.0.0.1").is_err());
    }
}

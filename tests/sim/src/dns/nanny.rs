//! dnsmasq-nanny, and dnsmasq in it: forwards queries of pods to the given servers by domain, and
//! all other queries to the host's.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, bail};
use hickory_proto::op::{Message, ResponseCode};

use crate::lifecycle;

use super::options::Options;
use super::transport::{self, Handler, Way};
use super::zone::is_below;

const FLAGS: &str = "configDir dnsmasqExec kubednsServer restartDnsmasq syncInterval";

/// Flags of dnsmasq that have no effect here.
const IGNORED: [&str; 16] = [
    "-d",
    "-k",
    "-q",
    "--cache-size",
    "--dns-forward-max",
    "--dns-loop-detect",
    "--keep-in-foreground",
    "--local-ttl",
    "--log-facility",
    "--log-queries",
    "--max-cache-ttl",
    "--neg-ttl",
    "--no-hosts",
    "--no-negcache",
    "--no-poll",
    "--no-daemon",
];

/// The targets of queries.
#[derive(Debug, Default)]
struct Servers {
    by_domain: Vec<(String, Option<SocketAddr>)>,
    others: Vec<SocketAddr>,
    port: u16,
}

/// Runs until it is stopped.
///
/// # Errors Flags with which the real programs would not run.
pub fn run(arguments: &[String]) -> Result<()> {
    let own = arguments.iter().position(|argument| argument == "--");
    let (own, dnsmasq) = arguments.split_at(own.unwrap_or(arguments.len()));
    Options::parse(FLAGS, own)?;
    let dnsmasq = dnsmasq.get(1..).unwrap_or_default();
    let servers = Servers::parse(dnsmasq, Path::new("/etc/resolv.conf"))?;
    lifecycle::run_until_stopped(move || {
        let port = servers.port;
        let handler: Handler = Arc::new(move |question, way| servers.answer(question, way));
        transport::listen(port, &handler)?;
        loop {
            thread::park();
        }
    })
}

impl Servers {
    fn parse(arguments: &[String], resolv_conf: &Path) -> Result<Self> {
        let mut servers = Self {
            port: 53,
            ..Self::default()
        };
        let mut reads_host = true;
        for argument in arguments {
            let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
            match name {
                "--server" | "--local" | "-S" => servers.add(value)?,
                "--no-resolv" | "-R" => reads_host = false,
                "--port" | "-p" => servers.port = value.parse().context("--port")?,
                known if IGNORED.contains(&known) => {}
                _ => bail!("dnsmasq: bad command line options: {argument}"),
            }
        }
        if reads_host {
            let text = fs::read_to_string(resolv_conf).unwrap_or_default();
            let lines = text
                .lines()
                .filter_map(|line| line.strip_prefix("nameserver "));
            let hosts = lines.filter_map(|address| address.trim().parse::<IpAddr>().ok());
            servers
                .others
                .extend(hosts.map(|address| SocketAddr::new(address, 53)));
        }
        Ok(servers)
    }

    /// `ADDRESS#PORT`, `/DOMAIN/ADDRESS#PORT`, or `/DOMAIN/` for names that are not forwarded.
    fn add(&mut self, value: &str) -> Result<()> {
        let (domains, server) = match value.strip_prefix('/') {
            Some(rest) => rest.rsplit_once('/').context("--server: no address")?,
            None => ("", value),
        };
        let place = (!server.is_empty()).then(|| {
            let (address, port) = server.split_once('#').unwrap_or((server, "53"));
            let address = address
                .parse()
                .with_context(|| format!("--server={value}"))?;
            let port = port.parse().with_context(|| format!("--server={value}"))?;
            anyhow::Ok(SocketAddr::new(address, port))
        });
        let place = place.transpose()?;
        if domains.is_empty() {
            self.others.extend(place);
        }
        for domain in domains.split('/').filter(|domain| !domain.is_empty()) {
            let domain = format!("{}.", domain.trim_end_matches('.').to_lowercase());
            self.by_domain.push((domain, place));
        }
        Ok(())
    }

    /// The servers for a name: those of the longest matching domain.
    fn of(&self, name: &str) -> Vec<SocketAddr> {
        let fitting = || {
            self.by_domain
                .iter()
                .filter(|(domain, _)| is_below(name, domain))
        };
        match fitting().map(|(domain, _)| domain.len()).max() {
            Some(longest) => fitting()
                .filter(|(domain, _)| domain.len() == longest)
                .filter_map(|(_, server)| *server)
                .collect(),
            None => self.others.clone(),
        }
    }

    fn answer(&self, question: &[u8], way: Way) -> Option<Vec<u8>> {
        let asked = Message::from_vec(question).ok()?;
        let name = asked.queries.first()?.name().to_ascii().to_lowercase();
        let servers = self.of(&name);
        for server in &servers {
            match transport::ask(*server, question, way) {
                Ok(answer) => return Some(answer),
                Err(error) => eprintln!("{name} from {server}: {error:#}"),
            }
        }
        let code = if servers.is_empty() {
            ResponseCode::Refused
        } else {
            ResponseCode::ServFail
        };
        let mut answer = Message::error_msg(asked.metadata.id, asked.metadata.op_code, code);
        answer.add_queries(asked.queries);
        answer.to_vec().ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn questions_go_to_the_server_of_their_domain() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        fs::write(&path, "search x\nnameserver 192.0.2.53\n").unwrap();
        let parse = |line: &str| {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Servers::parse(&arguments, &path)
        };
        let servers = parse(
            "-k --cache-size=1000 --log-facility=- --server=/cluster.local/127.0.0.1#10053 \
             --server=/in-addr.arpa/127.0.0.1#10053 --server=/ip6.arpa/127.0.0.1#10053 \
             --server=/secret.cluster.local/",
        )
        .unwrap();
        let of = |name: &str| {
            let found = servers.of(name);
            found.first().map(ToString::to_string).unwrap_or_default()
        };
        assert_eq!(of("a.svc.cluster.local."), "127.0.0.1:10053");
        assert_eq!(of("1.0.0.10.in-addr.arpa."), "127.0.0.1:10053");
        assert_eq!(of("a.secret.cluster.local."), "");
        assert_eq!(of("mycluster.local."), "192.0.2.53:53");
        assert!(parse("--no-resolv").unwrap().others.is_empty());
        assert!(parse("--nope").is_err());
        assert!(parse("--server=/a/x").is_err());
    }
}

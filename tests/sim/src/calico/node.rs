//! calico/node's entry point: registers the node in etcd's v2 API and answers
//! Felix's health checks. It sets up no routes.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::client::Client;
use crate::program::usage;
use crate::server::{Request, Response, Server};
use crate::{etcd, lifecycle};

/// How many times, a second apart, etcd is asked before giving up.
const ETCD_TRIES: u32 = 20;

/// What the environment says.
struct Settings {
    name: String,
    address: Ipv4Addr,
    pool: Option<ipnet::Ipv4Net>,
    health: bool,
    etcd: Vec<String>,
}

/// Runs until told to stop.
///
/// # Errors
/// An environment the real program would not run with, or no etcd.
pub fn run(arguments: &[String]) -> Result<()> {
    if let Some(argument) = arguments.first() {
        return Err(usage(format!("unexpected argument {argument:?}")));
    }
    let settings = Settings::read()?;
    lifecycle::run_until_stopped(move || settings.serve())
}

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Settings {
    fn read() -> Result<Self> {
        let name = match variable("NODENAME") {
            Some(name) => name,
            None => lifecycle::host_name()?,
        };
        let address = variable("IP").context("IP is not set: the stand-in detects no address")?;
        let pool = variable("CALICO_IPV4POOL_CIDR").map(|pool| {
            pool.parse()
                .with_context(|| format!("CALICO_IPV4POOL_CIDR: {pool:?} is no IPv4 network"))
        });
        for (key, values) in [
            (
                "CALICO_IPV4POOL_IPIP",
                &["off", "always", "cross-subnet"][..],
            ),
            ("CALICO_NETWORKING_BACKEND", &["bird", "gobgp", "none"]),
        ] {
            if let Some(value) = variable(key)
                && !values.contains(&value.to_lowercase().as_str())
            {
                bail!("{key}: {value:?} is none of {}", values.join(", "));
            }
        }
        let etcd = variable("ETCD_ENDPOINTS").context("ETCD_ENDPOINTS is not set")?;
        Ok(Self {
            name,
            address: address
                .parse()
                .with_context(|| format!("IP: {address:?} is no IPv4 address"))?,
            pool: pool.transpose()?,
            health: variable("FELIX_HEALTHENABLED").is_some_and(|value| {
                ["1", "true", "yes", "y", "t"].contains(&value.to_lowercase().as_str())
            }),
            etcd: etcd.split(',').map(|url| url.trim().to_owned()).collect(),
        })
    }

    fn serve(&self) -> Result<()> {
        check_reverse_path_filter()?;
        let members = Arc::new(self.members()?);
        lifecycle::retry(ETCD_TRIES, "etcd", || self.register(&members))?;
        let server = Server::new()?;
        if self.health {
            let members = members.clone();
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, health_port()?));
            server.listen(address, None, Arc::new(move |r| health(&members, &r)))?;
        }
        eprintln!("Calico node started successfully");
        self.tell_calicoctl(&members)
    }

    fn members(&self) -> Result<Vec<Client>> {
        let [authority, certificate, key] =
            ["ETCD_CA_CERT_FILE", "ETCD_CERT_FILE", "ETCD_KEY_FILE"].map(variable);
        let secure = self.etcd.iter().any(|url| url.starts_with("https://"));
        if secure && (authority.is_none() || certificate.is_none() || key.is_none()) {
            bail!(
                "an https ETCD_ENDPOINTS needs ETCD_CA_CERT_FILE, ETCD_CERT_FILE and ETCD_KEY_FILE"
            );
        }
        let servers: Vec<&str> = self.etcd.iter().map(String::as_str).collect();
        let files = etcd::Files {
            authority: authority.as_deref().map(Path::new),
            certificate: certificate.as_deref().map(Path::new),
            key: key.as_deref().map(Path::new),
        };
        etcd::members(&servers, files)
    }

    fn register(&self, members: &[Client]) -> Result<()> {
        let host = format!("/calico/bgp/v1/host/{}", self.name);
        let address = self.address.to_string();
        put(members, &format!("{host}/ip_addr_v4"), &address)?;
        put(members, &format!("{host}/ip_addr_v6"), "")?;
        if let Some(pool) = self.pool {
            let key = pool.trunc().to_string().replace('/', "-");
            let value = json!({"cidr": pool.trunc().to_string(), "masquerade": true});
            put(
                members,
                &format!("/calico/v1/ipam/v4/pool/{key}"),
                &value.to_string(),
            )?;
        }
        put(members, "/calico/v1/Ready", "true")
    }

    /// Answers each connection with the state, as long as the program lives.
    fn tell_calicoctl(&self, members: &[Client]) -> Result<()> {
        let path = super::socket();
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        // What a container that was killed left behind.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
        for stream in listener.incoming() {
            let state = json!({"node": self.name, "peers": self.peers(members)});
            // calicoctl may be gone already.
            let _ = stream.and_then(|mut stream| writeln!(stream, "{state}"));
        }
        thread::park();
        Ok(())
    }

    /// The other nodes in etcd: the mesh peers.
    fn peers(&self, members: &[Client]) -> Vec<Value> {
        let path = "/v2/keys/calico/bgp/v1/host?recursive=true";
        let Some(Ok(tree)) = members.first().map(|m| m.get(path).and_then(|r| r.json())) else {
            return Vec::new();
        };
        let hosts = tree["node"]["nodes"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let values = hosts
            .iter()
            .flat_map(|host| host["nodes"].as_array().cloned());
        values
            .flatten()
            .filter(|leaf| {
                leaf["key"]
                    .as_str()
                    .is_some_and(|k| k.ends_with("/ip_addr_v4"))
            })
            .map(|leaf| leaf["value"].clone())
            .filter(|value| *value != json!(self.address.to_string()))
            .collect()
    }
}

/// Felix 2.6 ends where the kernel filters loosely and it was not told to bear it.
fn check_reverse_path_filter() -> Result<()> {
    let value = std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/rp_filter");
    let loose = value.is_ok_and(|value| value.trim() == "2");
    let borne = variable("FELIX_IGNORELOOSERPF").is_some_and(|value| value == "true");
    if loose && !borne {
        bail!(
            "Kernel's RPF check is set to 'loose'. Calico requires net.ipv4.conf.all.rp_filter \
             to be set to 0 or 1 (or FELIX_IGNORELOOSERPF=true)"
        );
    }
    Ok(())
}

/// Felix's port; `FELIX_HEALTHPORT` is the real parameter.
fn health_port() -> Result<u16> {
    variable("FELIX_HEALTHPORT").map_or(Ok(9099), |port| {
        port.parse().context("FELIX_HEALTHPORT is no port")
    })
}

fn put(members: &[Client], key: &str, value: &str) -> Result<()> {
    let member = members.first().context("no etcd")?;
    let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let reply = member.put_form(&format!("/v2/keys{key}"), format!("value={encoded}"))?;
    if reply.status == 404 {
        bail!("etcd serves no v2 API, which Calico 2.6 needs (etcd 3.4: --enable-v2)");
    }
    reply.json().map(|_| ()).context(key.to_owned())
}

fn health(members: &[Client], request: &Request) -> Response {
    let ready = || {
        members.first().is_some_and(|member| {
            member
                .get("/v2/keys/calico/v1/Ready")
                .is_ok_and(|reply| reply.status == 200)
        })
    };
    match request.path.as_str() {
        "/liveness" => Response::text(200, ""),
        "/readiness" if ready() => Response::text(200, ""),
        "/readiness" => Response::text(503, "etcd does not answer\n"),
        _ => Response::text(404, "404 page not found\n"),
    }
}

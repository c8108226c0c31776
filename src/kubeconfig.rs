//! The admin's kubeconfig for another machine: that of a master, with the address by which the other
//! machine reaches the API server. Pure.

use core::net::Ipv4Addr;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use anyhow::{Result, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::language::tr;
use crate::nodespec::Refused;
use crate::nodespec::network::dns_name;
use crate::pki::Secret;
use crate::pki::inspect::CertificateInfo;

/// The API server's port on every master.
pub const PORT: u16 = 6443;

/// The address of an API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// An IPv4 address or a DNS name.
    pub host: String,
    /// The port, if it was given.
    pub port: Option<u16>,
}

impl Server {
    /// Whether it is a loopback address.
    fn is_loopback(&self) -> bool {
        let address = self
            .host
            .parse()
            .map(|address: Ipv4Addr| address.is_loopback());
        address.unwrap_or(self.host == "localhost")
    }

    /// Whether that certificate is valid for this server.
    fn is_in(&self, certificate: &CertificateInfo) -> bool {
        certificate.sans().contains(&self.host)
    }
}

impl FromStr for Server {
    type Err = anyhow::Error;

    /// Reads `HOST` or `HOST:PORT`.
    fn from_str(text: &str) -> Result<Server> {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let expected = &tr!(
            "an IPv4 address or a DNS name, and a port: 192.168.1.102 or k8s.example.org:6443"
        );
        let port = match port.map(str::parse) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => bail!(tr!(
                "--server {text}: expected {expected}",
                text = format_args!("{text:?}"),
                expected
            )),
        };
        let host = host.to_ascii_lowercase();
        // A text with only numbers between its dots must be an IPv4 address.
        let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
        let is_valid = if host.split('.').all(is_number) {
            host.parse::<Ipv4Addr>().is_ok()
        } else {
            dns_name(&host).is_ok()
        };
        if !is_valid {
            bail!(tr!(
                "--server {text}: expected {expected}",
                text = format_args!("{text:?}"),
                expected
            ));
        }
        Ok(Server { host, port })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port.unwrap_or(PORT))
    }
}

/// A kubeconfig with certificates in it, as this program writes it.
#[derive(Clone, Deserialize, Serialize)]
pub struct Kubeconfig {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    clusters: Vec<NamedCluster>,
    contexts: Vec<NamedContext>,
    #[serde(rename = "current-context")]
    current_context: String,
    #[serde(default)]
    preferences: BTreeMap<String, String>,
    users: Vec<NamedUser>,
}

#[derive(Clone, Deserialize, Serialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    certificate_authority_data: String,
    server: String,
}

#[derive(Clone, Deserialize, Serialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Clone, Deserialize, Serialize)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Clone, Deserialize, Serialize)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate_data: String,
    client_key_data: String,
}

impl Kubeconfig {
    /// Reads the admin's kubeconfig of a master.
    ///
    /// # Errors If the text is not one. The error contains nothing of the text, because that is
    /// secret.
    pub fn parse(text: &[u8]) -> Result<Kubeconfig> {
        let text = str::from_utf8(text).ok();
        let options = serde_saphyr::options! { with_snippet: false };
        text.and_then(|text| serde_saphyr::from_str_with_options(text, options).ok())
            .filter(Kubeconfig::is_ours)
            .ok_or_else(|| anyhow!(tr!("not a kubeconfig with embedded certificates")))
    }

    /// The same with another client certificate.
    pub fn with_client(mut self, certificate: &str, key: &Secret) -> Kubeconfig {
        for one in &mut self.users {
            one.user = User {
                client_certificate_data: BASE64.encode(certificate),
                client_key_data: BASE64.encode(key.expose()),
            };
        }
        self
    }

    /// Whether it has the form in which this program writes one.
    fn is_ours(&self) -> bool {
        self.kind == "Config"
            && self.clusters.len() == 1
            && self.contexts.len() == 1
            && self.users.len() == 1
    }

    /// The address at which the node itself reaches the API server.
    fn server(&self) -> Option<Server> {
        let url = &self.clusters.first()?.cluster.server;
        url.strip_prefix("https://")?.parse().ok()
    }

    /// The kubeconfig for another machine, which reaches the API server at `wanted`, or else where the
    /// node does. `address` is the node's own, `certificate` that of its API server.
    ///
    /// # Errors
    /// If the API server's certificate is not for that address.
    pub fn for_another_machine(
        mut self,
        wanted: Option<Server>,
        address: Ipv4Addr,
        certificate: &CertificateInfo,
    ) -> Result<String> {
        // If there are several masters, the node connects to the balancer's port on 127.0.0.1.
        let own = self.server().filter(|server| !server.is_loopback());
        let own_port = own.as_ref().and_then(|server| server.port);
        let mut server = match (wanted, own) {
            (Some(wanted), _) => wanted,
            (None, Some(own)) => own,
            (None, None) => Server {
                host: address.to_string(),
                port: None,
            },
        };
        server.port = server.port.or(own_port);
        if !server.is_in(certificate) {
            return Err(not_in(&server, certificate).into());
        }
        for one in &mut self.clusters {
            one.cluster.server = format!("https://{server}");
        }
        Ok(serde_saphyr::to_string(&self)?)
    }
}

fn not_in(server: &Server, certificate: &CertificateInfo) -> Refused {
    Refused::new(tr!(
        "{0} is not in the API server's certificate, which is for: {1}; add it to the setting \
             `apiServerSANs` of every master, for example `apiServerSANs: [{0}]` in \
             /etc/appliance/config.yaml, and run `appliance install` there; see `appliance help kubectl`",
        server.host,
        certificate.sans().join(", ")
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_may_have_a_port() {
        for (text, shown) in [
            ("192.168.1.102", "192.168.1.102:6443"),
            ("203.0.113.7:443", "203.0.113.7:443"),
            ("K8s.example.org", "k8s.example.org:6443"),
        ] {
            assert_eq!(text.parse::<Server>().unwrap().to_string(), shown);
        }
        for text in [
            "",
            ":6443",
            "192.168.1",
            "300.1.1.1",
            "a b",
            "host:0",
            "host:65536",
            "host:",
            "https://192.168.1.102",
            "-x.example",
            "2001:db8::1",
            "host:1:2",
            "k8s..org",
        ] {
            assert!(text.parse::<Server>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_kubeconfig_is_not_shown() {
        for text in [
            "client-key-data: c2VjcmV0",
            "users: [{name: c2VjcmV0}]",
            "c2VjcmV0: [",
        ] {
            let error = Kubeconfig::parse(text.as_bytes()).err().unwrap();
            assert!(!format!("{error:#}").contains("c2VjcmV0"), "{error:#}");
        }
    }

    #[test]
    fn a_kubeconfig_has_one_cluster_one_user_and_one_context() {
        let part = |name: &str, inner: &str, number: usize| {
            format!(
                "{name}:{}\n",
                format!("\n- {{name: n, {inner}}}").repeat(number)
            )
        };
        let text = |kind: &str, [clusters, users, contexts]: [usize; 3]| {
            let cluster = "cluster: {certificate-authority-data: eA==, server: 'https://h:1'}";
            let user = "user: {client-certificate-data: eA==, client-key-data: eA==}";
            format!("apiVersion: v1\nkind: {kind}\ncurrent-context: n\n")
                + &part("clusters", cluster, clusters)
                + &part("users", user, users)
                + &part("contexts", "context: {cluster: n, user: n}", contexts)
        };
        let parse = |text: String| Kubeconfig::parse(text.as_bytes());
        assert!(parse(text("Config", [1, 1, 1])).is_ok());
        assert!(parse(text("Secret", [1, 1, 1])).is_err());
        for numbers in [[2, 1, 1], [1, 2, 1], [1, 1, 2]] {
            assert!(parse(text("Config", numbers)).is_err(), "{numbers:?}");
        }
    }
}

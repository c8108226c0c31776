//! The files in every container of a pod: hosts and name servers.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::settings::Settings;

/// Writes the files of a pod, and returns them with their paths in containers.
///
/// # Errors A directory that cannot be written to; as in v1.9, a host without a file of name
/// servers.
pub fn write(
    settings: &Settings,
    pod: &Value,
    uid: &str,
    ip: &str,
) -> Result<[(PathBuf, &'static str); 2]> {
    let directory = settings.directory(uid);
    let (hosts, resolv) = (directory.join("etc-hosts"), directory.join("resolv.conf"));
    put(&hosts, &self::hosts(pod, ip))?;
    put(&resolv, &resolver(settings, pod)?)?;
    Ok([(hosts, "/etc/hosts"), (resolv, "/etc/resolv.conf")])
}

/// Overwrite the content: a file that is bound into containers must not be replaced by another
/// file.
fn put(path: &Path, text: &str) -> Result<()> {
    if fs::read(path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(());
    }
    fs::write(path, text).with_context(|| path.display().to_string())
}

fn hosts(pod: &Value, ip: &str) -> String {
    if pod["spec"]["hostNetwork"] == true {
        return fs::read_to_string("/etc/hosts").unwrap_or_default();
    }
    let name = pod["spec"]["hostname"].as_str();
    let name = name.or_else(|| pod["metadata"]["name"].as_str());
    format!(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost \
         ip6-loopback\n{ip}\t{}\n",
        name.unwrap_or_default()
    )
}

/// The cluster's name servers, or the host's, according to the pod's policy.
fn resolver(settings: &Settings, pod: &Value) -> Result<String> {
    let on_host = pod["spec"]["hostNetwork"] == true;
    let of_cluster = match pod["spec"]["dnsPolicy"].as_str() {
        Some("ClusterFirstWithHostNet") => true,
        Some("Default") => false,
        _ => !on_host,
    };
    let path = &settings.resolv_conf;
    let host = fs::read_to_string(path).with_context(|| format!("open {}", path.display()))?;
    if !of_cluster || settings.dns.is_empty() {
        return Ok(host);
    }
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
    Ok(cluster_resolver(settings, namespace, &host))
}

fn cluster_resolver(settings: &Settings, namespace: &str, host: &str) -> String {
    let domain = &settings.domain;
    let mut search = Vec::new();
    if !domain.is_empty() {
        search = vec![
            format!("{namespace}.svc.{domain}"),
            format!("svc.{domain}"),
            domain.clone(),
        ];
    }
    let line = |line: &str| {
        let rest = line
            .strip_prefix("search ")
            .or_else(|| line.strip_prefix("domain "))?;
        Some(
            rest.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    };
    search.extend(host.lines().filter_map(line).flatten());
    search.dedup();
    // The resolver of that time accepts six search domains.
    search.truncate(6);
    let servers: String = settings
        .dns
        .iter()
        .map(|server| format!("nameserver {server}\n"))
        .collect();
    format!("{servers}search {}\noptions ndots:5\n", search.join(" "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::client::Client;
    use crate::docker::Docker;

    #[test]
    fn the_policy_says_whose_name_servers_a_pod_asks() {
        let directory = tempfile::tempdir().unwrap();
        let resolv_conf = directory.path().join("resolv.conf");
        fs::write(&resolv_conf, "nameserver 192.0.2.53\nsearch example.org\n").unwrap();
        let settings = Settings {
            node: "n".into(),
            address: None,
            api: Client::plain("http://127.0.0.1:1").unwrap(),
            docker: Docker::new("unix:///nonexistent").unwrap(),
            root: directory.path().into(),
            pause: String::new(),
            network: None,
            dns: vec!["10.68.0.2".into()],
            domain: "cluster.local".into(),
            resolv_conf,
        };
        let of = |policy: &str, host: bool| {
            let pod = json!({
                "metadata": {"namespace": "ns"},
                "spec": {"dnsPolicy": policy, "hostNetwork": host},
            });
            resolver(&settings, &pod).unwrap()
        };
        let cluster = "nameserver 10.68.0.2\nsearch ns.svc.cluster.local svc.cluster.local \
                       cluster.local example.org\noptions ndots:5\n";
        assert_eq!(of("ClusterFirst", false), cluster);
        assert_eq!(of("ClusterFirstWithHostNet", true), cluster);
        for host in [of("ClusterFirst", true), of("Default", false)] {
            assert!(host.starts_with("nameserver 192.0.2.53\n"), "{host}");
        }
        fs::remove_file(&settings.resolv_conf).unwrap();
        let error = resolver(&settings, &json!({})).unwrap_err();
        assert!(error.to_string().starts_with("open "), "{error}");
    }
}

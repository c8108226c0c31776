//! The content of every file of a node.

use core::net::Ipv4Addr;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::{Value, json};

use super::addons;
use super::{
    CURRENT, Content, DOCKER_OF_MACHINE, DOCKER_OF_PAYLOAD, File, HOSTS_FILE, MODULES_FILE,
    SYSCTL_FILE, Sources, USERS_FILE,
};
use crate::bundle::manifest::Kind;
use crate::check::Expected;
use crate::components::{self, Runs, Service};
use crate::join::gate::Names;
use crate::pki::{Pki, Secret, inspect};
use crate::render::render;
use crate::spec::addons::Access;
use crate::spec::{Ipip, NO_NAME_SERVERS, NodeSpec};

const CALICOCTL_CONFIG: &str = "/etc/calico/calicoctl.cfg";
const CNI_CONFIG: &str = "/etc/cni/net.d/10-calico.conf";

/// Every file. Units come last, so that the files they read exist before systemd can start them.
pub fn all(sources: &Sources<'_>, services: &[&Service]) -> Result<Vec<File>> {
    let mut files = config_files(sources)?;
    if let Some(pki) = sources.pki {
        files.extend(pki_files(pki));
        let issuer = issuer(Some(pki)).filter(|_| sources.spec.role.is_master());
        files.extend(issuer.map(|pem| public(components::ISSUER_CERTIFICATE, pem)));
    }
    let tokens = sources.tokens.filter(|_| sources.spec.role.is_master());
    files.extend(tokens.map(|tokens| secret(components::TOKEN_FILE, tokens.clone())));
    files.extend(kubeconfigs(sources)?);
    files.extend(addons::files(sources)?);
    files.push(images(sources)?);
    files.extend(units(sources, services)?);
    Ok(files)
}

pub(super) fn public(path: &str, text: String) -> File {
    File {
        path: path.to_owned(),
        mode: 0o644,
        content: Content::Whole(text.into_bytes()),
    }
}

pub(super) fn secret(path: &str, secret: Secret) -> File {
    File {
        path: path.to_owned(),
        mode: 0o600,
        content: Content::Secret(secret),
    }
}

/// The values that every template may use.
pub(super) fn values(sources: &Sources<'_>) -> Value {
    let spec = sources.spec;
    let cluster = &spec.cluster;
    let docker_dir = format!("{CURRENT}/docker");
    let docker = if sources.bundled_docker {
        DOCKER_OF_PAYLOAD
    } else {
        DOCKER_OF_MACHINE
    };
    json!({
        "bin": format!("{CURRENT}/bin"),
        "docker": docker,
        "docker_dir": docker_dir,
        "tls": spec.tls(),
        "scheme": spec.reach().scheme(),
        "ipip": *cluster.ipip != Ipip::Off,
        "pod_mtu": spec.pod_mtu(),
        "pod_metadata": spec.addons.pod_metadata.to_string(),
        "calico_kubeconfig": components::CALICO_KUBECONFIG,
        "node": {
            "name": *spec.name,
            "address": spec.address.to_string(),
            "is_master": spec.role.is_master(),
            "labels": joined(&spec.labels),
            "taints": joined(&spec.taints),
            "resolv_conf": *spec.resolv_conf,
        },
        "several_masters": spec.has_several_masters(),
        "masters_addresses": spec.master_addresses(),
        "etcd_endpoints": etcd_endpoints(spec),
        "initial_cluster": initial_cluster(spec),
        "balancer_port": *cluster.balancer_port,
        "api_server": api_server(spec),
        "issuer_certificate": match issuer(sources.pki) {
            Some(_) => components::ISSUER_CERTIFICATE,
            None => components::CA_CERTIFICATE,
        },
        "join_port": *spec.join.port,
        "renew_port": spec.join.renew_port(),
        "program": components::PROGRAM,
        "join_user": components::JOIN_USER,
        "cni_plugins": format!("{CURRENT}/cni/bin"),
        "cluster": {
            "name": *cluster.name,
            "pod_cidr": cluster.pod_cidr.to_string(),
            "service_cidr": cluster.service_cidr.to_string(),
            "node_ports": cluster.node_ports.to_string(),
            "ipip": cluster.ipip.to_string(),
            "domain": *cluster.domain,
            "dns": cluster.dns_ip().to_string(),
        },
        "hosts": hosts(spec),
    })
}

/// Every member of etcd, in the form for its clients.
fn etcd_endpoints(spec: &NodeSpec) -> String {
    let scheme = spec.reach().scheme();
    let addresses = spec.master_addresses();
    let urls = addresses.iter().map(|a| format!("{scheme}://{a}:2379"));
    urls.collect::<Vec<_>>().join(",")
}

/// Every member of etcd, in the form for its members.
pub(super) fn initial_cluster(spec: &NodeSpec) -> String {
    let scheme = spec.reach().scheme();
    let member = |name: &str, address: Ipv4Addr| format!("{name}={scheme}://{address}:2380");
    if !spec.has_several_masters() {
        return member(&spec.name, *spec.address);
    }
    let masters = spec.cluster.masters.iter();
    let members = masters.map(|master| member(&master.name, master.address));
    members.collect::<Vec<_>>().join(",")
}

/// The URL at which a node reaches the API server.
fn api_server(spec: &NodeSpec) -> String {
    let port = *spec.cluster.balancer_port;
    match (&spec.master_addresses()[..], spec.tls()) {
        ([address], true) => format!("https://{address}:6443"),
        ([address], false) => format!("http://{address}:8080"),
        _ => format!("https://127.0.0.1:{port}"),
    }
}

/// The certificate of the issuing CA, if there are other CA certificates above it.
fn issuer(pki: Option<&Pki>) -> Option<String> {
    // A file that is not a certificate chain was refused before.
    let mut chain = inspect::certificates(&pki?.authority.certificate_pem).ok()?;
    (chain.len() > 1).then(|| chain.swap_remove(0).0)
}

/// Labels or taints in the form for the kubelet.
fn joined<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join(",")
}

#[derive(Serialize)]
struct Host {
    name: String,
    address: String,
}

/// This node and the nodes in its settings, sorted by name.
fn hosts(spec: &NodeSpec) -> Vec<Host> {
    let mut entries = spec.cluster.hosts.value.clone();
    entries.insert(spec.name.value.clone(), *spec.address);
    let host = |(name, address): (String, Ipv4Addr)| Host {
        name,
        address: address.to_string(),
    };
    entries.into_iter().map(host).collect()
}

pub(super) fn with(mut values: Value, more: Value) -> Value {
    if let (Value::Object(values), Value::Object(more)) = (&mut values, more) {
        values.extend(more);
    }
    values
}

fn config_files(sources: &Sources<'_>) -> Result<Vec<File>> {
    let values = values(sources);
    let file = |path: &str, template: &str| {
        Ok::<_, anyhow::Error>(public(path, render(template, &values)?))
    };
    let hosts = File {
        path: HOSTS_FILE.to_owned(),
        mode: 0o644,
        content: Content::Block(render("config/hosts.block", &values)?),
    };
    let mut files = vec![
        file(MODULES_FILE, "config/modules.conf")?,
        file(SYSCTL_FILE, "config/sysctl.conf")?,
        hosts,
        file(CALICOCTL_CONFIG, "config/calicoctl.cfg.yaml")?,
        file(CNI_CONFIG, "config/10-calico.json")?,
    ];
    if sources.spec.role.is_worker() {
        files.push(File {
            mode: 0o755,
            ..file(components::IPTABLES_RESTORE, "config/iptables-restore.sh")?
        });
        if *sources.spec.resolv_conf == NO_NAME_SERVERS {
            files.push(file(NO_NAME_SERVERS, "config/resolv.conf")?);
        }
    }
    if sources.spec.role.is_master() {
        files.push(file(components::AUDIT_POLICY, "config/audit-policy.yaml")?);
        files.push(public(components::EXPECTED, expected(sources)?));
        if sources.spec.tls() {
            files.push(file(USERS_FILE, "config/sysusers.conf")?);
            let objects = "config/cluster-objects.yaml";
            files.push(file(components::CLUSTER_OBJECTS, objects)?);
            files.push(public(components::JOIN_NAMES, join_names(sources.spec)?));
        }
    }
    Ok(files)
}

/// The list of images for `appliance images ensure` and `appliance status`.
fn images(sources: &Sources<'_>) -> Result<File> {
    let images = super::images(sources);
    let text = serde_json::to_string_pretty(&images)? + "\n";
    Ok(public(components::IMAGES, text))
}

/// The expected state of the cluster for `appliance check`.
fn expected(sources: &Sources<'_>) -> Result<String> {
    let (spec, cluster) = (sources.spec, &sources.spec.cluster);
    let pause = sources.manifest.require(Kind::Image, "pause")?;
    let expected = Expected {
        kubernetes: sources.manifest.bundle.kubernetes.clone(),
        pod_cidr: cluster.pod_cidr.to_string(),
        service_cidr: cluster.service_cidr.to_string(),
        ipip: cluster.ipip.to_string(),
        pod_mtu: spec.pod_mtu(),
        tunnel: *spec.mtu - spec.pod_mtu(),
        domain: cluster.domain.value.clone(),
        api_server_ip: cluster.api_server_ip().to_string(),
        pause: pause.reference.clone().unwrap_or_default(),
        masters: cluster.masters.iter().map(|m| m.name.clone()).collect(),
        pod_metadata: *spec.addons.pod_metadata == Access::Allow,
    };
    Ok(serde_json::to_string_pretty(&expected)? + "\n")
}

fn join_names(spec: &NodeSpec) -> Result<String> {
    let names = Names {
        name: spec.name.value.clone(),
        address: *spec.address,
        hosts: spec.cluster.hosts.value.clone(),
        masters: spec.cluster.masters.value.clone(),
    };
    Ok(serde_json::to_string_pretty(&names)? + "\n")
}

/// The files of keys and certificates. Keys come first: if a run is interrupted between the two,
/// the next run finds the key and makes the certificate again.
pub(super) fn pki_files(pki: &Pki) -> Vec<File> {
    let mut files = Vec::new();
    for issued in pki.issued() {
        let key = issued.key_pem.as_ref();
        files.extend(key.map(|key| secret(&issued.key_path, key.clone())));
        files.push(public(
            &issued.certificate_path,
            issued.certificate_pem.clone(),
        ));
    }
    if let Some(account) = &pki.service_account {
        files.push(secret(&account.private_path, account.private_pem.clone()));
        files.push(public(&account.public_path, account.public_pem.clone()));
    }
    files
}

/// The owner of a kubeconfig.
struct Kubeconfig {
    path: &'static str,
    /// The user. The certificate usually has the same name.
    user: &'static str,
    certificate: &'static str,
    /// Whether it uses the loopback interface, on a master.
    local: bool,
}

const fn kubeconfig_of(
    path: &'static str,
    user: &'static str,
    certificate: &'static str,
    local: bool,
) -> Kubeconfig {
    Kubeconfig {
        path,
        user,
        certificate,
        local,
    }
}

const ADMIN: Kubeconfig = kubeconfig_of(components::ADMIN_KUBECONFIG, "admin", "admin", false);
const MASTERS: &[Kubeconfig] = &[
    kubeconfig_of(
        components::CONTROLLER_MANAGER_KUBECONFIG,
        "kube-controller-manager",
        "kube-controller-manager",
        true,
    ),
    kubeconfig_of(
        components::SCHEDULER_KUBECONFIG,
        "kube-scheduler",
        "kube-scheduler",
        true,
    ),
];
const PROXY: Kubeconfig = kubeconfig_of(
    components::PROXY_KUBECONFIG,
    "kube-proxy",
    "kube-proxy",
    false,
);
const CALICO: Kubeconfig = kubeconfig_of(components::CALICO_KUBECONFIG, "calico", "calico", false);
const BOOTSTRAP: Kubeconfig = kubeconfig_of(
    components::BOOTSTRAP_KUBECONFIG,
    "kubelet-bootstrap",
    components::KUBELET_CLIENT,
    false,
);
const KUBELET: Kubeconfig =
    kubeconfig_of(components::KUBELET_KUBECONFIG, "kubelet", "kubelet", false);

fn kubeconfigs(sources: &Sources<'_>) -> Result<Vec<File>> {
    let (role, tls) = (*sources.spec.role, sources.spec.tls());
    let mut wanted = Vec::new();
    wanted.extend(Some(&CALICO).filter(|_| tls));
    if role.is_master() {
        wanted.push(&ADMIN);
        wanted.extend(MASTERS.iter().filter(|_| tls));
    }
    if role.is_worker() {
        wanted.push(&PROXY);
        // With TLS, the kubelet writes its kubeconfig when it gets its certificate.
        wanted.push(if tls { &BOOTSTRAP } else { &KUBELET });
    }
    wanted
        .into_iter()
        .map(|wanted| kubeconfig(sources, wanted))
        .collect()
}

fn kubeconfig(sources: &Sources<'_>, wanted: &Kubeconfig) -> Result<File> {
    let server = api_server(sources.spec);
    let identity = match sources.pki {
        Some(pki) => {
            let server = if wanted.local {
                "https://127.0.0.1:6443".to_owned()
            } else {
                server
            };
            let name = wanted.certificate;
            let issued = pki
                .named(name)
                .with_context(|| format!("no certificate {name}"))?;
            let key = issued.key_pem.as_ref();
            let key = key.with_context(|| format!("no key for the certificate {name}"))?;
            json!({
                "server": server,
                "authority": BASE64.encode(&pki.authority.certificate_pem),
                "certificate": BASE64.encode(&issued.certificate_pem),
                "key": BASE64.encode(key.expose()),
            })
        }
        None => json!({ "server": server }),
    };
    let values = with(
        with(values(sources), json!({ "user": wanted.user })),
        identity,
    );
    let text = render("config/kubeconfig.yaml", &values)?;
    Ok(secret(wanted.path, Secret::new(text.into_bytes())))
}

fn units(sources: &Sources<'_>, services: &[&Service]) -> Result<Vec<File>> {
    let values = values(sources);
    let mut files = Vec::new();
    for service in services {
        if service.runs == Runs::Docker {
            files.push(public(
                components::DOCKER_DROP_IN,
                render("units/docker-forward.conf", &values)?,
            ));
            if !sources.bundled_docker {
                continue;
            }
        }
        let values = with(values.clone(), own_values(sources, service)?);
        for unit in service.units() {
            let text = render(&format!("units/{unit}"), &values)?;
            files.push(public(&components::unit_path(&unit), text));
        }
    }
    Ok(files)
}

/// The values that only the unit of this service uses.
fn own_values(sources: &Sources<'_>, service: &Service) -> Result<Value> {
    Ok(match service.runs {
        Runs::Program(name) => {
            let program = sources.manifest.require(Kind::Program, name)?;
            let pause = match name {
                "kubelet" => sources
                    .manifest
                    .require(Kind::Image, "pause")?
                    .reference
                    .clone(),
                _ => None,
            };
            json!({ "arguments": program.arguments, "pause": pause })
        }
        Runs::Image(name) => {
            let image = sources.manifest.require(Kind::Image, name)?;
            json!({ "image": image.reference })
        }
        Runs::Docker | Runs::Appliance => json!({}),
    })
}

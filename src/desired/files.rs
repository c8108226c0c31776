//! The content of every file of a node.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::addons;
use super::values::{api_server, issuer, values, with};
use super::{Content, File, Purpose, Sources};
use crate::bundle::manifest::Kind;
use crate::components::{self, Runs, Service, UnitKind};
use crate::language::tr;
use crate::nodespec::NodeSpec;
use crate::nodespec::addons::{Access, Switch};
use crate::nodespec::ports::API_SERVER;
use crate::paths;
use crate::pki::{Pki, Secret};
use crate::records::authorities::AuthoritiesRecord;
use crate::records::backup::Schedule;
use crate::records::cluster::ClusterRecord;
use crate::records::expected::Expected;
use crate::records::machine::MachineRecord;
use crate::records::names::NodeNames;
use crate::render::render;

/// Every file. Units come last, so that the files they read exist before systemd can start them.
pub fn all(sources: &Sources<'_>, services: &[&Service]) -> Result<Vec<File>> {
    let mut files = config_files(sources, services)?;
    if let Some(pki) = sources.pki {
        files.extend(pki_files(pki));
        let issuer = issuer(Some(pki)).filter(|_| sources.spec.role.is_master());
        files.extend(issuer.map(|pem| File::public(paths::ISSUER_CERTIFICATE, pem).for_identity()));
        if sources.spec.role.is_master() {
            let record = AuthoritiesRecord::of(pki)?;
            let text = serde_json::to_string_pretty(&record)? + "\n";
            files.push(File::public(paths::AUTHORITIES, text).for_identity());
        }
    }
    let tokens = sources.tokens.filter(|_| sources.spec.role.is_master());
    files.extend(
        tokens.map(|tokens| File::secret(paths::TOKEN_FILE, tokens.clone()).for_identity()),
    );
    let encryption = sources.encryption.filter(|_| sources.spec.role.is_master());
    files.extend(encryption.map(|key| File::secret(paths::ENCRYPTION, key.clone()).for_identity()));
    files.extend(kubeconfigs(sources)?);
    files.extend(addons::files(sources)?);
    files.push(images(sources)?);
    files.extend(units(sources, services)?);
    Ok(files)
}

fn config_files(sources: &Sources<'_>, services: &[&Service]) -> Result<Vec<File>> {
    let values = values(sources);
    let file = |path: &str, template: &str| {
        Ok::<_, anyhow::Error>(File::public(path, render(template, &values)?))
    };
    let hosts = File {
        path: paths::HOSTS.to_owned(),
        mode: 0o644,
        content: Content::Block(render("config/hosts.block", &values)?),
        purpose: Purpose::Other,
    };
    let mut files = vec![
        file(paths::MODULES, "config/modules.conf")?,
        file(paths::SYSCTL, "config/sysctl.conf")?,
        hosts,
        file(paths::CALICOCTL_CONFIG, "config/calicoctl.cfg.yaml")?,
        file(paths::CNI_CONFIG, "config/10-calico.json")?,
        file(paths::BIRD_ROUTES, "config/bird-routes.conf")?,
        file(paths::BIRD_TEMPLATE, "config/bird.cfg.template")?,
        file(paths::BIRD_BLOCKS_TEMPLATE, "config/bird_aggr.cfg.template")?,
        file(paths::BIRD_POOLS_TEMPLATE, "config/bird_ipam.cfg.template")?,
        file(paths::BIRD6_TEMPLATE, "config/bird6.cfg.template")?,
        File {
            mode: 0o755,
            ..file(paths::CONFD, "config/confd.sh.tera")?
        },
        motd(&values, services)?,
        File::public(paths::MACHINE, machine(sources.spec)?),
        File::public(paths::CLUSTER, cluster(sources.spec).text()),
    ];
    if sources.limits_logs {
        files.push(file(paths::DOCKER_SETTINGS, "config/daemon.json")?);
    }
    if sources.spec.role.is_worker() {
        files.push(File {
            mode: 0o755,
            ..file(paths::IPTABLES_RESTORE, "config/iptables-restore.sh")?
        });
        if *sources.spec.resolv_conf == paths::NO_NAME_SERVERS {
            files.push(file(paths::NO_NAME_SERVERS, "config/resolv.conf")?);
        }
    }
    if sources.spec.role.is_master() {
        files.push(file(paths::AUDIT_POLICY, "config/audit-policy.yaml")?);
        files.push(File::public(paths::EXPECTED, expected(sources)?));
        if sources.spec.tls() {
            files.push(file(paths::ADMISSION, "config/admission.yaml")?);
            files.push(file(paths::EVENT_LIMITS, "config/event-limits.yaml")?);
            files.push(file(paths::USERS, "config/sysusers.conf")?);
            let objects = "config/cluster-objects.yaml";
            files.push(file(paths::CLUSTER_OBJECTS, objects)?);
            files.push(File::public(
                paths::BACKUP_SCHEDULE,
                schedule(sources.spec)?,
            ));
            files.push(File::public(paths::JOIN_NAMES, join_names(sources.spec)?));
        }
    }
    Ok(files)
}

/// The line at a login, with the services that always run.
fn motd(values: &Value, services: &[&Service]) -> Result<File> {
    let always = services.iter().filter(|one| one.unit == UnitKind::Service);
    let always: Vec<String> = always.map(|one| one.unit()).collect();
    let values = with(values.clone(), json!({ "services": always }));
    let text = render("config/motd.sh.tera", &values)?;
    Ok(File {
        mode: 0o755,
        ..File::public(paths::MOTD, text)
    })
}

/// How this master backs the cluster up.
fn schedule(spec: &NodeSpec) -> Result<String> {
    Ok(serde_json::to_string_pretty(&Schedule::of(spec))? + "\n")
}

/// The list of images for `appliance images ensure` and `appliance status`.
fn images(sources: &Sources<'_>) -> Result<File> {
    let images = super::images(sources);
    let text = serde_json::to_string_pretty(&images)? + "\n";
    Ok(File::public(paths::IMAGES, text))
}

/// The expected state of the cluster for `appliance check`.
fn expected(sources: &Sources<'_>) -> Result<String> {
    let (spec, cluster) = (sources.spec, &sources.spec.cluster);
    let pause = sources.manifest.require(Kind::Image, "pause")?;
    let expected = Expected {
        kubernetes: sources.manifest.bundle.kubernetes.clone(),
        pod_cidr: cluster.pod_cidr.to_string(),
        service_cidr: cluster.service_cidr.to_string(),
        ipip: *cluster.ipip,
        pod_mtu: spec.pod_mtu(),
        tunnel: *spec.mtu - spec.pod_mtu(),
        domain: cluster.domain.value.clone(),
        api_server_ip: cluster.api_server_ip().to_string(),
        pause: pause.reference.clone().unwrap_or_default(),
        masters: cluster.masters.iter().map(|m| m.name.clone()).collect(),
        pod_metadata: *spec.addons.pod_metadata == Access::Allow,
        pod_security_policy: *spec.admission.pod_security_policy == Switch::On,
    };
    Ok(serde_json::to_string_pretty(&expected)? + "\n")
}

/// What the node keeps of its cluster.
fn cluster(spec: &NodeSpec) -> ClusterRecord {
    ClusterRecord {
        ipip: *spec.cluster.ipip,
    }
}

/// The machine of this node for `appliance node guard`.
fn machine(spec: &NodeSpec) -> Result<String> {
    let record = MachineRecord {
        uuid: spec.machine.clone(),
        address: *spec.address,
    };
    Ok(serde_json::to_string_pretty(&record)? + "\n")
}

fn join_names(spec: &NodeSpec) -> Result<String> {
    let (api_server_names, api_server_addresses) = components::api_server_names(spec);
    let names = NodeNames {
        name: spec.name.value.clone(),
        address: *spec.address,
        hosts: spec.cluster.hosts.value.clone(),
        masters: spec.cluster.masters.value.clone(),
        api_server_names,
        api_server_addresses,
        ipip: Some(*spec.cluster.ipip),
    };
    Ok(serde_json::to_string_pretty(&names)? + "\n")
}

/// The files of keys and certificates. Keys come first: if a run is interrupted between the two,
/// the next run finds the key and makes the certificate again.
pub(super) fn pki_files(pki: &Pki) -> Vec<File> {
    let mut files = Vec::new();
    for issued in pki.issued() {
        let key = issued.key_pem.as_ref();
        files.extend(key.map(|key| File::secret(&issued.key_path, key.clone())));
        let pem = issued.certificate_pem.clone();
        files.push(File::public(&issued.certificate_path, pem));
    }
    if let Some(account) = &pki.service_account {
        files.push(File::secret(
            &account.private_path,
            account.private_pem.clone(),
        ));
        files.push(File::public(
            &account.public_path,
            account.public_pem.clone(),
        ));
    }
    files.into_iter().map(File::for_identity).collect()
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

const ADMIN: Kubeconfig = kubeconfig_of(paths::ADMIN_KUBECONFIG, "admin", "admin", false);
const MASTERS: &[Kubeconfig] = &[
    kubeconfig_of(
        paths::CONTROLLER_MANAGER_KUBECONFIG,
        "kube-controller-manager",
        "kube-controller-manager",
        true,
    ),
    kubeconfig_of(
        paths::SCHEDULER_KUBECONFIG,
        "kube-scheduler",
        "kube-scheduler",
        true,
    ),
];
const PROXY: Kubeconfig = kubeconfig_of(paths::PROXY_KUBECONFIG, "kube-proxy", "kube-proxy", false);
const CALICO: Kubeconfig = kubeconfig_of(paths::CALICO_KUBECONFIG, "calico", "calico", false);
const BOOTSTRAP: Kubeconfig = kubeconfig_of(
    paths::BOOTSTRAP_KUBECONFIG,
    "kubelet-bootstrap",
    components::KUBELET_CLIENT,
    false,
);
const KUBELET: Kubeconfig = kubeconfig_of(paths::KUBELET_KUBECONFIG, "kubelet", "kubelet", false);

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
    let shown = match sources.pki {
        Some(pki) => {
            let server = if wanted.local {
                format!("https://127.0.0.1:{API_SERVER}")
            } else {
                server
            };
            let name = wanted.certificate;
            let issued = pki
                .named(name)
                .with_context(|| tr!("no certificate {name}", name))?;
            let key = issued.key_pem.as_ref();
            let key = key.with_context(|| tr!("no key for the certificate {name}", name))?;
            json!({
                "server": server,
                "authority": BASE64.encode(&pki.authority.certificate_pem),
                "certificate": BASE64.encode(&issued.certificate_pem),
                "key": BASE64.encode(key.expose()),
            })
        }
        None => json!({ "server": server }),
    };
    let values = with(with(values(sources), json!({ "user": wanted.user })), shown);
    let text = render("config/kubeconfig.yaml", &values)?;
    Ok(File::secret(wanted.path, Secret::new(text.into_bytes())).for_identity())
}

fn units(sources: &Sources<'_>, services: &[&Service]) -> Result<Vec<File>> {
    let values = values(sources);
    let mut files = Vec::new();
    for service in services {
        if service.runs == Runs::Docker {
            files.push(File::unit(
                paths::DOCKER_DROP_IN,
                render("units/docker-forward.conf", &values)?,
            ));
            if !sources.bundled_docker {
                continue;
            }
        }
        let values = with(values.clone(), own_values(sources, service)?);
        for name in service.units() {
            let text = render(&format!("units/{name}"), &values)?;
            files.push(File::unit(&paths::unit(&name), text));
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

//! The apiserver's flags, checked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustls::ServerConfig;

use crate::client::Client;
use crate::flags::Flags;
use crate::keys::VerifyingKey;
use crate::tls::{self, Identity};
use crate::{etcd, keys};

use super::admission::Rules;
use super::audit::Audit;
use super::authn::Authenticator;
use super::authz::Authorizer;
use super::event_limits;
use super::itself::Itself;
use super::node_proxy::Kubelets;

/// Everything that the apiserver needs to run.
pub struct Options {
    /// Where to serve TLS, if at all.
    pub secure: Option<(SocketAddr, ServerConfig)>,
    /// Where to serve plain HTTP, if at all.
    pub insecure: Option<SocketAddr>,
    /// Clients of etcd's members.
    pub etcd: Vec<Client>,
    /// The prefix of all keys in etcd.
    pub etcd_prefix: String,
    /// Finds the user of a request.
    pub authenticator: Authenticator,
    /// Decides what a user may do.
    pub authorizer: Authorizer,
    /// Completes and checks objects.
    pub rules: Rules,
    /// The server's own objects in the cluster.
    pub itself: Itself,
    /// How to reach kubelets.
    pub kubelets: Kubelets,
    /// Records the requests, if configured.
    pub audit: Option<Audit>,
}

impl Options {
    /// Reads and checks the flags and the files that they name.
    ///
    /// # Errors Everything with which the real program does not start.
    pub fn read(flags: &Flags) -> Result<Self> {
        flags.check_files(&[])?;
        let servers = flags.list("etcd-servers");
        if servers.is_empty() {
            bail!("--etcd-servers must be specified");
        }
        check_names(flags)?;
        event_limits::check(flags)?;
        check_advertised(flags)?;
        check_pairs(flags)?;
        Ok(Self {
            secure: secure(flags)?,
            insecure: insecure(flags)?,
            etcd: etcd::members(&servers, etcd_files(flags)).context("--etcd-*")?,
            etcd_prefix: flags.text("etcd-prefix").unwrap_or("/registry").to_owned(),
            authenticator: Authenticator::new(
                flags.text("token-auth-file").map(Path::new),
                account_keys(flags)?,
                flags.boolean("anonymous-auth", true),
            )?,
            authorizer: Authorizer::new(&modes(flags)),
            rules: Rules::read(flags)?,
            itself: Itself::read(flags)?,
            kubelets: Kubelets::read(flags).context("--kubelet-*")?,
            audit: Audit::open(
                flags.text("audit-policy-file").map(Path::new),
                flags.text("audit-log-path"),
            )?,
        })
    }
}

fn etcd_files(flags: &Flags) -> etcd::Files<'_> {
    etcd::Files {
        authority: flags.text("etcd-cafile").map(Path::new),
        certificate: flags.text("etcd-certfile").map(Path::new),
        key: flags.text("etcd-keyfile").map(Path::new),
    }
}

/// The keys of service accounts' tokens; without the flag, that of the server's own certificate, if
/// its kind allows that.
fn account_keys(flags: &Flags) -> Result<Vec<VerifyingKey>> {
    let files = flags.all("service-account-key-file");
    if files.is_empty() {
        let own = flags.text("tls-private-key-file").map(Path::new);
        let keys = own.and_then(|path| keys::verifying_keys(path).ok());
        return Ok(keys.unwrap_or_default());
    }
    let mut all = Vec::new();
    for file in files {
        let keys = keys::verifying_keys(Path::new(file));
        all.extend(keys.context("--service-account-key-file")?);
    }
    Ok(all)
}

fn modes(flags: &Flags) -> Vec<&str> {
    let modes = flags.list("authorization-mode");
    if modes.is_empty() {
        vec!["AlwaysAllow"]
    } else {
        modes
    }
}

/// Values that must be from a fixed set, as of v1.9.0.
fn check_names(flags: &Flags) -> Result<()> {
    const MODES: &str = "AlwaysAllow AlwaysDeny ABAC Webhook RBAC Node";
    const PLUGINS: &str = "AlwaysAdmit AlwaysDeny AlwaysPullImages DefaultStorageClass
        DefaultTolerationSeconds DenyEscalatingExec DenyExecOnPrivileged EventRateLimit
        ExtendedResourceToleration ImagePolicyWebhook InitialResources Initializers
        LimitPodHardAntiAffinityTopology LimitRanger MutatingAdmissionWebhook
        NamespaceAutoProvision NamespaceExists NamespaceLifecycle NodeRestriction
        OwnerReferencesPermissionEnforcement PVCProtection PersistentVolumeClaimResize
        PersistentVolumeLabel PodNodeSelector PodPreset PodSecurityPolicy
        PodTolerationRestriction Priority ResourceQuota SecurityContextDeny ServiceAccount
        ValidatingAdmissionWebhook";
    const BACKENDS: &str = "etcd2 etcd3";
    for (flag, names) in [
        ("authorization-mode", MODES),
        ("admission-control", PLUGINS),
        ("storage-backend", BACKENDS),
    ] {
        for given in flags.list(flag) {
            if !names.split_whitespace().any(|name| name == given) {
                bail!("--{flag}: {given:?} is not known to v1.9.0");
            }
        }
    }
    Ok(())
}

fn check_advertised(flags: &Flags) -> Result<()> {
    if let Some(address) = flags.text("advertise-address") {
        flags.address("advertise-address", IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
        if address == "0.0.0.0" {
            bail!("--advertise-address: others cannot reach 0.0.0.0");
        }
    }
    Ok(())
}

/// A certificate and its key, if both are given, must belong together.
fn check_pairs(flags: &Flags) -> Result<()> {
    for (certificate, key) in [
        ("etcd-certfile", "etcd-keyfile"),
        ("kubelet-client-certificate", "kubelet-client-key"),
        ("proxy-client-cert-file", "proxy-client-key-file"),
        ("tls-cert-file", "tls-private-key-file"),
    ] {
        match (flags.text(certificate), flags.text(key)) {
            (Some(public), Some(private)) => {
                keys::check_pair(Path::new(public), Path::new(private))
                    .with_context(|| format!("--{certificate}, --{key}"))?;
            }
            (None, None) => {}
            _ => bail!("--{certificate} and --{key} must be given together"),
        }
    }
    for name in ["kubelet-certificate-authority", "etcd-cafile"] {
        if let Some(path) = flags.text(name) {
            keys::certificates(Path::new(path)).with_context(|| format!("--{name}"))?;
        }
    }
    Ok(())
}

/// Without a certificate, the real program would make one; the stand-in then serves no TLS.
fn secure(flags: &Flags) -> Result<Option<(SocketAddr, ServerConfig)>> {
    let port = flags.port("secure-port", 6443)?;
    let address = flags.address("bind-address", IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
    let (Some(certificate), Some(key)) = (
        flags.text("tls-cert-file"),
        flags.text("tls-private-key-file"),
    ) else {
        return Ok(None);
    };
    if port == 0 {
        return Ok(None);
    }
    let identity = Identity::from_files(Path::new(certificate), Path::new(key))?;
    let authority = flags.text("client-ca-file").map(Path::new);
    let config = tls::server(identity, authority).context("--client-ca-file, --tls-cert-file")?;
    Ok(Some((SocketAddr::new(address, port), config)))
}

fn insecure(flags: &Flags) -> Result<Option<SocketAddr>> {
    let port = flags.port("insecure-port", 8080)?;
    let address = flags.address("insecure-bind-address", IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    Ok((port != 0).then_some(SocketAddr::new(address, port)))
}

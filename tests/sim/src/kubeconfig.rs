//! Kubeconfig files, as far as the stand-ins need them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use serde::Deserialize;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::client::Client;
use crate::keys;
use crate::tls::{self, Identity};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    users: Vec<NamedUser>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    current_context: String,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

/// A cluster in a kubeconfig.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cluster {
    server: String,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: ContextEntry,
}

/// The cluster and user of a context.
#[derive(Deserialize)]
struct ContextEntry {
    cluster: String,
    #[serde(default)]
    user: String,
}

/// A client for the current context of the kubeconfig at `path`.
///
/// # Errors A file that cannot be read or parsed, a missing context, cluster or user, and invalid
/// certificates or keys. Secrets are never quoted.
pub fn client(path: &Path) -> Result<Client> {
    open(path).with_context(|| format!("kubeconfig {}", path.display()))
}

/// A client of the server in the kubeconfig at `path`, with the certificate and key in the file
/// `pair` instead of those in the kubeconfig.
///
/// # Errors As for [`client`].
pub fn client_with(path: &Path, pair: &Path) -> Result<Client> {
    let text = fs::read(pair).with_context(|| pair.display().to_string())?;
    let identity = Identity::from_pem(&text, &text).with_context(|| pair.display().to_string())?;
    let config = Kubeconfig::read(path)?;
    let (cluster, _) = config.current()?;
    let authorities = authorities(path, cluster)?;
    Client::new(
        &cluster.server,
        tls::client(authorities, Some(identity))?,
        None,
    )
}

/// Whether the kubeconfig at `path` is usable and its certificates have not expired. One with only
/// a token does not count, as for the real kubelet.
pub fn has_valid_certificate(path: &Path) -> bool {
    if !path.exists() {
        return false;
    }
    match open(path).and_then(|_| expiries(path)) {
        Ok(ends) if ends.is_empty() => {
            eprintln!("{}: no client certificate in it", path.display());
            false
        }
        Ok(ends) => {
            let now = time::OffsetDateTime::now_utc().unix_timestamp();
            let expired = ends.iter().any(|end| *end < now);
            if expired {
                eprintln!("{}: its client certificate has expired", path.display());
            }
            !expired
        }
        Err(error) => {
            eprintln!("{}: {error:#}", path.display());
            false
        }
    }
}

fn expiries(path: &Path) -> Result<Vec<i64>> {
    let config = Kubeconfig::read(path)?;
    let (_, user) = config.current()?;
    let text = load(
        beside(path),
        user.client_certificate_data.as_deref(),
        user.client_certificate.as_deref(),
    )?;
    let certificates = text.map(|text| keys::certificates_in(&text)).transpose()?;
    certificates
        .unwrap_or_default()
        .iter()
        .map(|certificate| {
            let (_, certificate) = X509Certificate::from_der(certificate)?;
            Ok(certificate.validity().not_after.timestamp())
        })
        .collect()
}

/// The cluster of the current context of the kubeconfig at `path`; the path of the CA's certificate
/// is made absolute.
///
/// # Errors A file that cannot be read or parsed, or that lacks its context.
pub fn cluster(path: &Path) -> Result<Cluster> {
    let config = Kubeconfig::read(path)?;
    let (cluster, _) = config.current()?;
    let mut cluster = cluster.clone();
    let authority = cluster
        .certificate_authority
        .filter(|file| !file.is_empty());
    cluster.certificate_authority = authority
        .map(|file| std::path::absolute(beside(path).join(file)))
        .transpose()?
        .map(|file| file.display().to_string());
    Ok(cluster)
}

/// The text of a kubeconfig for a cluster that refers to a certificate and its key, as the real
/// kubelet writes it after its bootstrap.
pub fn of_certificate(cluster: &Cluster, certificate: &Path, key: &Path) -> String {
    let authority = match (
        &cluster.certificate_authority,
        &cluster.certificate_authority_data,
    ) {
        (Some(file), _) => format!("    certificate-authority: {file}\n"),
        (None, Some(data)) => format!("    certificate-authority-data: {data}\n"),
        (None, None) => String::new(),
    };
    format!(
        "apiVersion: v1\nclusters:\n- cluster:\n{authority}    server: {}\n  name: \
         default-cluster\ncontexts:\n- context:\n    cluster: default-cluster\n    namespace: \
         default\n    user: default-auth\n  name: default-context\ncurrent-context: \
         default-context\nkind: Config\npreferences: {{}}\nusers:\n- name: default-auth\n  \
         user:\n    client-certificate: {}\n    client-key: {}\n",
        cluster.server,
        certificate.display(),
        key.display()
    )
}

fn beside(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn authorities(path: &Path, cluster: &Cluster) -> Result<Option<RootCertStore>> {
    let authority = load(
        beside(path),
        cluster.certificate_authority_data.as_deref(),
        cluster.certificate_authority.as_deref(),
    )
    .context("certificate-authority")?;
    authority
        .map(|text| keys::certificates_in(&text).and_then(tls::authorities))
        .transpose()
        .context("certificate-authority")
}

fn open(path: &Path) -> Result<Client> {
    let config = Kubeconfig::read(path)?;
    let (cluster, user) = config.current()?;
    if cluster.insecure_skip_tls_verify {
        bail!("insecure-skip-tls-verify: the stand-ins always verify");
    }
    let authorities = authorities(path, cluster)?;
    let identity = identity(beside(path), user)?;
    let token = user.token.clone().filter(|token| !token.is_empty());
    Client::new(&cluster.server, tls::client(authorities, identity)?, token)
}

fn identity(beside: &Path, user: &User) -> Result<Option<Identity>> {
    let certificate = load(
        beside,
        user.client_certificate_data.as_deref(),
        user.client_certificate.as_deref(),
    )
    .context("client-certificate")?;
    let key = load(
        beside,
        user.client_key_data.as_deref(),
        user.client_key.as_deref(),
    )
    .context("client-key")?;
    match (certificate, key) {
        (Some(certificate), Some(key)) => Identity::from_pem(&certificate, &key).map(Some),
        (None, None) => Ok(None),
        _ => bail!("client-certificate and client-key must be given together"),
    }
}

impl Kubeconfig {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)?;
        // The parser's message may quote the text, which contains keys: report only the place.
        serde_saphyr::from_str(&text)
            .map_err(|_| anyhow::anyhow!("not the YAML or JSON of a kubeconfig"))
    }

    fn current(&self) -> Result<(&Cluster, &User)> {
        let name = &self.current_context;
        let context = self
            .contexts
            .iter()
            .find(|context| &context.name == name)
            .with_context(|| format!("no context is named {name:?} (current-context)"))?;
        let wanted = &context.context;
        let cluster = self
            .clusters
            .iter()
            .find(|cluster| cluster.name == wanted.cluster)
            .with_context(|| format!("no cluster is named {:?}", wanted.cluster))?;
        let user = self
            .users
            .iter()
            .find(|user| user.name == wanted.user)
            .with_context(|| format!("no user is named {:?}", wanted.user))?;
        Ok((&cluster.cluster, &user.user))
    }
}

/// The embedded data, else the content of the file, whose path is relative to the kubeconfig's
/// directory.
fn load(beside: &Path, data: Option<&str>, file: Option<&str>) -> Result<Option<Vec<u8>>> {
    if let Some(data) = data.filter(|data| !data.is_empty()) {
        let decoded = STANDARD.decode(data.trim());
        return Ok(Some(
            decoded.map_err(|_| anyhow::anyhow!("the data is not base64"))?,
        ));
    }
    file.filter(|file| !file.is_empty())
        .map(|file| {
            let path = beside.join(file);
            fs::read(&path).with_context(|| path.display().to_string())
        })
        .transpose()
}

//! Kubeconfig files, as far as the stand-ins need them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

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

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
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

/// The cluster and user a context joins.
#[derive(Deserialize)]
struct ContextEntry {
    cluster: String,
    #[serde(default)]
    user: String,
}

/// A client as the kubeconfig at `path` says, in its current context.
///
/// # Errors
/// A file that cannot be read or parsed, a context, cluster or user it lacks, and
/// certificates or keys that are broken. Secrets are never quoted.
pub fn client(path: &Path) -> Result<Client> {
    open(path).with_context(|| format!("kubeconfig {}", path.display()))
}

fn open(path: &Path) -> Result<Client> {
    let text = fs::read_to_string(path)?;
    // The parser's message may quote the text, which holds keys: say only where.
    let config: Kubeconfig = serde_saphyr::from_str(&text)
        .map_err(|_| anyhow::anyhow!("not the YAML or JSON of a kubeconfig"))?;
    let (cluster, user) = config.current()?;
    if cluster.insecure_skip_tls_verify {
        bail!("insecure-skip-tls-verify: the stand-ins always verify");
    }
    let beside = path.parent().unwrap_or(Path::new("/"));
    let authority = load(
        beside,
        cluster.certificate_authority_data.as_deref(),
        cluster.certificate_authority.as_deref(),
    )
    .context("certificate-authority")?;
    let authorities = authority
        .map(|text| keys::certificates_in(&text).and_then(tls::authorities))
        .transpose()
        .context("certificate-authority")?;
    let identity = identity(beside, user)?;
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

/// The embedded data, else the file, whose path is relative to the kubeconfig's
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

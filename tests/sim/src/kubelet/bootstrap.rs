//! How a kubelet without a certificate gets one: it makes a key, requests a certificate with the
//! bootstrap kubeconfig, and waits for it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, DistinguishedName, DnType};
use serde_json::{Value, json};
use sha2::{Digest, Sha512_256};

use crate::client::{Client, Reply};
use crate::csr::{CLIENT_USAGES, has_condition};
use crate::kinds::Kind;
use crate::kubeconfig;
use crate::signing::{self, SigningKey};

const GROUP: &str = "system:nodes";

/// How long to wait for a certificate, and how often to ask for it. The real kubelet watches, and so has it at once.
const PATIENCE: Duration = Duration::from_secs(3600);
const POLL: Duration = Duration::from_millis(200);

/// The inputs of a bootstrap.
pub struct Bootstrap<'a> {
    /// The kubeconfig to write.
    pub kubeconfig: &'a Path,
    /// The kubeconfig for the request.
    pub bootstrap: &'a Path,
    /// The directory of the key and the certificate.
    pub directory: &'a Path,
    /// The node's name.
    pub node: &'a str,
}

impl Bootstrap<'_> {
    /// Writes the kubeconfig, unless it exists with a valid certificate.
    ///
    /// # Errors A server that cannot be reached or refuses, or a request that is denied: then the
    /// key is removed, because the next start must make a new request.
    pub fn run(&self) -> Result<()> {
        if kubeconfig::has_valid_certificate(self.kubeconfig) {
            return Ok(());
        }
        eprintln!(
            "Using bootstrap kubeconfig to generate TLS client cert, key and kubeconfig file"
        );
        let cluster = kubeconfig::cluster(self.bootstrap)
            .and_then(|cluster| Ok((cluster, kubeconfig::client(self.bootstrap)?)));
        let (cluster, api) = cluster.context("unable to load bootstrap kubeconfig")?;
        let directory = std::path::absolute(self.directory)?;
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let (key, certificate) = (
            directory.join("kubelet-client.key"),
            directory.join("kubelet-client.crt"),
        );
        let made = self.request(&api, &key).and_then(|text| {
            write(&certificate, 0o644, &text)?;
            let made = kubeconfig::of_certificate(&cluster, &certificate, &key);
            write(self.kubeconfig, 0o600, made.as_bytes())
        });
        if made.is_err() {
            for path in [&key, &certificate] {
                // Both may be missing.
                let _ = fs::remove_file(path);
            }
        }
        made
    }

    fn request(&self, api: &Client, key: &PathBuf) -> Result<Vec<u8>> {
        if !key.exists() {
            write(key, 0o600, signing::new_key()?.as_bytes())?;
        }
        let secret = fs::read(key).with_context(|| key.display().to_string())?;
        let name = request_name(&secret, self.node);
        let object =
            object(&name, self.node, &secret).with_context(|| key.display().to_string())?;
        let uid = create(api, &name, &object)?;
        wait(api, &name, &uid).context("cannot watch on the certificate signing request")
    }
}

fn write(path: &Path, mode: u32, text: &[u8]) -> Result<()> {
    let named = || path.display().to_string();
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(named)?;
    }
    OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text))
        .with_context(named)
}

/// The request's name, derived from the key and the requested attributes: after a restart, a
/// kubelet finds its request by this name.
fn request_name(secret: &[u8], node: &str) -> String {
    let user = format!("system:node:{node}");
    let mut parts = vec![secret, user.as_bytes(), GROUP.as_bytes()];
    parts.extend(CLIENT_USAGES.map(str::as_bytes));
    let mut hash = Sha512_256::new();
    for part in parts {
        hash.update(URL_SAFE_NO_PAD.encode(part));
        hash.update(b"|");
    }
    format!("node-csr-{}", URL_SAFE_NO_PAD.encode(hash.finalize()))
}

fn object(name: &str, node: &str, secret: &[u8]) -> Result<Value> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, GROUP);
    params
        .distinguished_name
        .push(DnType::CommonName, format!("system:node:{node}"));
    let request = params.serialize_request(&SigningKey::from_pem(secret)?)?;
    Ok(json!({
        "kind": "CertificateSigningRequest",
        "apiVersion": "certificates.k8s.io/v1beta1",
        "metadata": {"name": name},
        "spec": {"request": STANDARD.encode(request.pem()?), "usages": CLIENT_USAGES},
    }))
}

fn path(name: Option<&str>) -> Result<String> {
    let kind = Kind::named("csr").context("no kind of signing requests")?;
    Ok(kind.path(None, name))
}

/// Creates the request, or finds the one of an earlier start. Returns its uid.
fn create(api: &Client, name: &str, object: &Value) -> Result<Value> {
    let failed = "cannot create certificate signing request";
    let mut reply = api.post(&path(None)?, object).context(failed)?;
    if reply.status == 409 {
        eprintln!("csr for this node already exists, reusing");
        reply = api.get(&path(Some(name))?)?;
    }
    let found = said(&reply).context(failed)?;
    Ok(found["metadata"]["uid"].clone())
}

/// The answer, or the error of the server.
fn said(reply: &Reply) -> Result<Value> {
    if reply.status == 401 {
        bail!("Unauthorized");
    }
    let status: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    match status["message"].as_str() {
        Some(message) if reply.status >= 300 => bail!("{message}"),
        _ => reply.json(),
    }
}

fn wait(api: &Client, name: &str, uid: &Value) -> Result<Vec<u8>> {
    let path = format!("{}?fieldSelector=metadata.name%3D{name}", path(None)?);
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        // Retry if the server does not answer; do not retry if it refuses.
        match api.get(&path) {
            Ok(reply) => {
                let list = said(&reply)?;
                if let Some(certificate) = issued(&list["items"][0], name, uid)? {
                    return Ok(certificate);
                }
            }
            Err(error) => eprintln!("certificate signing request {name}: {error:#}"),
        }
        thread::sleep(POLL);
    }
    bail!("timed out waiting for the condition")
}

/// The certificate in an approved request; `None` until it is issued.
fn issued(request: &Value, name: &str, uid: &Value) -> Result<Option<Vec<u8>>> {
    if request.is_null() {
        bail!("csr {name:?} was deleted");
    }
    if request["metadata"]["uid"] != *uid {
        bail!("csr {name:?} changed UIDs");
    }
    if has_condition(request, "Denied") {
        let conditions = request["status"]["conditions"].as_array();
        let mut denials = conditions.into_iter().flatten();
        let denial = denials.find(|condition| condition["type"] == "Denied");
        let text = |member: &str| {
            let found = denial.and_then(|denial| denial[member].as_str());
            found.unwrap_or_default().to_owned()
        };
        bail!(
            "certificate signing request is not approved, reason: {}, message: {}",
            text("reason"),
            text("message")
        );
    }
    let certificate = request["status"]["certificate"].as_str();
    match certificate.filter(|_| has_condition(request, "Approved")) {
        Some(text) => Ok(Some(STANDARD.decode(text).context("the certificate")?)),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::csr::Request;

    #[test]
    fn asks_for_a_node_certificate_and_nothing_else() {
        let secret = signing::new_key().unwrap();
        let object = object("n", "a", secret.as_bytes()).unwrap();
        let request = Request::of(&object).unwrap();
        assert_eq!(request.name, "system:node:a");
        assert_eq!(request.organizations, [GROUP]);
        assert!(!request.has_other_names);
    }

    #[test]
    fn the_name_of_a_request_is_that_of_its_key_and_node() {
        let name = request_name(b"key", "a");
        assert_eq!(name, request_name(b"key", "a"));
        assert_ne!(name, request_name(b"key", "b"));
        assert_ne!(name, request_name(b"other", "a"));
        assert_eq!(name.len(), "node-csr-".len() + 43);
    }

    #[test]
    fn a_certificate_counts_once_the_request_is_approved() {
        let mut request = json!({
            "metadata": {"uid": "1"}, "status": {"certificate": "YQ=="},
        });
        let issued = |request: &Value| issued(request, "n", &json!("1"));
        assert_eq!(issued(&request).unwrap(), None);
        request["status"]["conditions"] = json!([{"type": "Approved"}]);
        assert_eq!(issued(&request).unwrap(), Some(b"a".to_vec()));
        request["status"]["conditions"] = json!([{"type": "Denied", "reason": "r"}]);
        let denied = issued(&request).unwrap_err().to_string();
        assert!(denied.contains("not approved, reason: r"), "{denied}");
        request["metadata"]["uid"] = json!("2");
        assert!(issued(&request).unwrap_err().to_string().contains("UIDs"));
        assert!(
            issued(&json!(null))
                .unwrap_err()
                .to_string()
                .contains("deleted")
        );
    }
}

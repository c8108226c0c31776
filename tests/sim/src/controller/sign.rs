//! The controller `csrsigning`: signs approved requests.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose,
    SerialNumber,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::client::Client;
use crate::csr::{Request, has_condition};
use crate::flags::Flags;
use crate::keys;
use crate::signing::SigningKey;

use super::api::put;

/// The default validity of certificates, and how long before now it begins.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// The default path of the CA.
const CERTIFICATE: &str = "/etc/kubernetes/ca/ca.pem";
const KEY: &str = "/etc/kubernetes/ca/ca.key";

/// Signs certificates.
pub struct Signer {
    issuer: Issuer<'static, SigningKey>,
    lifetime: Duration,
}

impl Signer {
    /// From the flags; `None` if they are empty, or if the CA is not at the default path.
    ///
    /// # Errors Missing or invalid files, or a certificate file with more than one certificate.
    pub fn read(flags: &Flags) -> Result<Option<Self>> {
        let stated = |name, default| Path::new(flags.text(name).unwrap_or(default));
        let certificate = stated("cluster-signing-cert-file", CERTIFICATE);
        let key = stated("cluster-signing-key-file", KEY);
        let by_default = certificate == Path::new(CERTIFICATE) && key == Path::new(KEY);
        if flags.is_emptied("cluster-signing-cert-file")
            || flags.is_emptied("cluster-signing-key-file")
            || (by_default && !certificate.exists() && !key.exists())
        {
            return Ok(None);
        }
        let lifetime = flags.duration("experimental-cluster-signing-duration", LIFETIME);
        let signer = Self::of(certificate, key, lifetime);
        signer
            .map(Some)
            .context("failed to start certificate controller")
    }

    fn of(certificate: &Path, key: &Path, lifetime: Duration) -> Result<Self> {
        let chain = keys::certificates(certificate)?;
        let [authority] = &chain[..] else {
            bail!(
                "error parsing CA cert file {:?}: the PEM file should contain only one object",
                certificate.display()
            );
        };
        let text = fs::read(key).with_context(|| key.display().to_string())?;
        let key = SigningKey::from_pem(&text)
            .with_context(|| format!("error reading CA key file {:?}", key.display()))?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(authority, key)
                .with_context(|| certificate.display().to_string())?,
            lifetime,
        })
    }

    /// Signs a request, if it is approved and not signed.
    ///
    /// # Errors A request that cannot be signed, or a server that does not accept the certificate.
    pub fn handle(&self, api: &Client, object: &Value) -> Result<()> {
        let approved = has_condition(object, "Approved") && !has_condition(object, "Denied");
        if !approved || object["status"]["certificate"].is_string() {
            return Ok(());
        }
        let certificate = self.sign(object).context("error auto signing csr")?;
        let mut signed = object.clone();
        signed["status"]["certificate"] = json!(STANDARD.encode(certificate));
        put(api, &signed, "status").context("error updating signature for csr")
    }

    fn sign(&self, object: &Value) -> Result<String> {
        let mut request = CertificateSigningRequestParams::from_der(&Request::of(object)?.der)?;
        let params = &mut request.params;
        params.is_ca = IsCa::ExplicitNoCa;
        (params.key_usages, params.extended_key_usages) = usages(object)?;
        params.not_before = OffsetDateTime::now_utc() - BACKDATE;
        params.not_after = params.not_before + self.lifetime;
        params.use_authority_key_identifier_extension = true;
        let random = fs::read("/proc/sys/kernel/random/uuid").context("a serial number")?;
        let mut serial = Sha256::digest(random)[..16].to_vec();
        // A positive number of 16 bytes.
        serial[0] = serial[0] & 0x7f | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        Ok(request.signed_by(&self.issuer)?.pem())
    }
}

type Usages = (Vec<KeyUsagePurpose>, Vec<ExtendedKeyUsagePurpose>);

fn usages(object: &Value) -> Result<Usages> {
    let (mut keys, mut extended) = Usages::default();
    let listed = object["spec"]["usages"].as_array();
    for usage in listed.into_iter().flatten().filter_map(Value::as_str) {
        match usage {
            "signing" | "digital signature" => keys.push(KeyUsagePurpose::DigitalSignature),
            "content commitment" => keys.push(KeyUsagePurpose::ContentCommitment),
            "key encipherment" => keys.push(KeyUsagePurpose::KeyEncipherment),
            "data encipherment" => keys.push(KeyUsagePurpose::DataEncipherment),
            "key agreement" => keys.push(KeyUsagePurpose::KeyAgreement),
            "server auth" => extended.push(ExtendedKeyUsagePurpose::ServerAuth),
            "client auth" => extended.push(ExtendedKeyUsagePurpose::ClientAuth),
            "code signing" => extended.push(ExtendedKeyUsagePurpose::CodeSigning),
            _ => {}
        }
    }
    if keys.is_empty() && extended.is_empty() {
        bail!("the request names no usage the signer knows");
    }
    Ok((keys, extended))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, KeyPair};
    use tempfile::TempDir;
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;
    use crate::csr::CLIENT_USAGES;
    use crate::signing::new_key;

    fn authority() -> (TempDir, CertifiedIssuer<'static, KeyPair>) {
        let directory = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        fs::write(
            directory.path().join("ca.key"),
            issuer.key().serialize_pem(),
        )
        .unwrap();
        (directory, issuer)
    }

    fn signer(directory: &TempDir) -> Result<Signer> {
        let path = |name| directory.path().join(name);
        Signer::of(&path("ca.pem"), &path("ca.key"), Duration::from_secs(3600))
    }

    #[test]
    fn signs_what_was_asked_for_and_no_more() {
        let (directory, issuer) = authority();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "system:node:a");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "system:nodes");
        let key = SigningKey::from_pem(new_key().unwrap().as_bytes()).unwrap();
        let request = params.serialize_request(&key).unwrap().pem().unwrap();
        let object = json!({"spec": {
            "request": STANDARD.encode(request), "usages": CLIENT_USAGES,
        }});
        let text = signer(&directory).unwrap().sign(&object).unwrap();
        let der = keys::certificates_in(text.as_bytes()).unwrap().remove(0);
        let (_, made) = X509Certificate::from_der(&der).unwrap();
        let (_, authority) = X509Certificate::from_der(issuer.der()).unwrap();
        made.verify_signature(Some(authority.public_key())).unwrap();
        assert!(!made.is_ca());
        assert_eq!(made.subject().to_string().matches("system:node").count(), 2);
        let validity = made.validity();
        let lifetime = validity.not_after.timestamp() - validity.not_before.timestamp();
        assert_eq!(lifetime, 3600);
        let usage = made.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
    }

    #[test]
    fn the_authority_is_one_certificate() {
        let (directory, issuer) = authority();
        let two = format!("{}{}", issuer.pem(), issuer.pem());
        fs::write(directory.path().join("ca.pem"), two).unwrap();
        let error = format!("{:#}", signer(&directory).err().unwrap());
        assert!(error.contains("only one object"), "{error}");
    }
}

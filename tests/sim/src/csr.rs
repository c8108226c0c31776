//! Certificate signing requests, as the API carries them.

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// The usages of a kubelet's client certificate; exactly these.
pub const CLIENT_USAGES: [&str; 3] = ["digital signature", "key encipherment", "client auth"];

/// A request with a valid signature.
pub struct Request {
    /// The request.
    pub der: CertificateSigningRequestDer<'static>,
    /// The common name.
    pub name: String,
    /// The organizations.
    pub organizations: Vec<String>,
    /// Whether it requests other names: of hosts, addresses or people.
    pub has_other_names: bool,
}

impl Request {
    /// The request in a `CertificateSigningRequest`.
    ///
    /// # Errors It has no request, an invalid one, or one whose signature does not match its key.
    pub fn of(object: &Value) -> Result<Self> {
        let text = object["spec"]["request"].as_str().unwrap_or_default();
        let text = STANDARD.decode(text).context("not base64")?;
        let der = CertificateSigningRequestDer::from_pem_slice(&text)
            .map_err(|_| anyhow::anyhow!("PEM block type must be CERTIFICATE REQUEST"))?;
        let (rest, request) =
            X509CertificationRequest::from_der(&der).context("not a certificate request")?;
        if !rest.is_empty() {
            bail!("data follows the certificate request");
        }
        request
            .verify_signature()
            .context("the signature is not that of the key")?;
        let subject = &request.certification_request_info.subject;
        let organizations = subject
            .iter_organization()
            .filter_map(|value| value.as_str().ok())
            .map(str::to_owned)
            .collect();
        let name = subject.iter_common_name().next();
        Ok(Self {
            name: name
                .and_then(|name| name.as_str().ok())
                .unwrap_or_default()
                .to_owned(),
            organizations,
            has_other_names: has_other_names(&request),
            der: der.clone(),
        })
    }
}

fn has_other_names(request: &X509CertificationRequest<'_>) -> bool {
    request
        .requested_extensions()
        .into_iter()
        .flatten()
        .any(|extension| match extension {
            ParsedExtension::SubjectAlternativeName(names) => {
                names.general_names.iter().any(|name| {
                    matches!(
                        name,
                        GeneralName::DNSName(_)
                            | GeneralName::RFC822Name(_)
                            | GeneralName::IPAddress(_)
                    )
                })
            }
            _ => false,
        })
}

/// The state of a request, by the type of condition.
pub fn has_condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let mut kinds = conditions.into_iter().flatten().map(|c| &c["type"]);
    kinds.any(|found| found == kind)
}

//! What a node has of the certificates it is to have: the keys, and which certificates will do.

use anyhow::{Context, Result, bail};
use rcgen::{KeyPair, PublicKeyData};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

use super::inspect::{CertificateInfo, inspect, is_signed_by};
use super::{CertificateRequest, Existing, Issued, Secret, issue, key};

/// A certificate that ends sooner is made anew.
const RENEW_BEFORE: Duration = Duration::days(30);
/// Of nodes that got their certificates on one day, each renews on a day of its own among these.
const RENEW_SPREAD: i64 = 30;

/// One certificate a node is to have, with its key.
pub struct Held<'a> {
    /// What it is to be.
    pub request: &'a CertificateRequest,
    /// Its key in PEM.
    pub key_pem: Secret,
    /// Whether the key was made now and is nowhere but here.
    pub key_is_new: bool,
    /// The certificate in PEM, if the one that is there will do; else why not.
    pub certificate: Result<String, &'static str>,
    key: KeyPair,
}

/// Looks at what there is of each certificate in `requests`: its key, else a new one; and the
/// certificate, if at the time `now` it is as requested and signed by `authority` (PEM).
///
/// Fails, naming the file and the next step, where a key that is there cannot be read.
pub fn hold<'a>(
    requests: &'a [CertificateRequest],
    existing: &dyn Existing,
    authority: Option<&str>,
    now: OffsetDateTime,
) -> Result<Vec<Held<'a>>> {
    let authority = authority.map(Authority::read).transpose()?;
    let hold = |request: &'a CertificateRequest| {
        let held = key_or_new(existing, &key_path(&request.path))?;
        let found = content(existing, &request.path)?;
        let certificate = match &authority {
            Some(authority) => authority.usable(request, found, &held.key, now),
            None => Err("there was none"),
        };
        Ok(Held {
            request,
            key_pem: held.pem,
            key_is_new: held.is_new,
            certificate,
            key: held.key,
        })
    };
    requests.iter().map(hold).collect()
}

impl Held<'_> {
    /// Asks for the certificate (PKCS#10, PEM).
    pub fn signing_request(&self) -> Result<String> {
        issue::signing_request(self.request, &self.key)
    }

    /// Its public key.
    pub(super) fn public_key(&self) -> &impl PublicKeyData {
        &self.key
    }

    /// SHA-256 of its public key (SubjectPublicKeyInfo), in hexadecimal.
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(self.key.subject_public_key_info()))
    }

    /// With the certificate that it has.
    pub fn kept(self) -> Option<Issued> {
        let pem = self.certificate.clone().ok()?;
        Some(self.issued(pem, None))
    }

    /// With the certificate `pem` that was made for it.
    pub fn issued(self, pem: String, reason: Option<&str>) -> Issued {
        Issued {
            name: self.request.name.to_owned(),
            certificate_path: self.request.path.clone(),
            certificate_pem: pem,
            key_path: key_path(&self.request.path),
            key_pem: Some(self.key_pem),
            reason: reason.map(str::to_owned),
        }
    }

    /// Whether the certificate `pem`, which came from elsewhere, is what was asked for; else why
    /// not.
    pub fn check(&self, pem: &str, authority: &str, now: OffsetDateTime) -> Result<()> {
        let authority = Authority::read(authority)?;
        let usable = authority.usable(self.request, Some(pem.into()), &self.key, now);
        if let Err(why) = usable {
            bail!("the certificate {} will not do: {why}", self.request.name);
        }
        Ok(())
    }
}

/// Who signs.
struct Authority<'a> {
    pem: &'a str,
    ends: OffsetDateTime,
}

impl Authority<'_> {
    fn read(pem: &str) -> Result<Authority<'_>> {
        let ends = inspect(pem.as_bytes())
            .context("the certificate authority")?
            .not_after;
        Ok(Authority { pem, ends })
    }

    /// The certificate that was found, if it will do; else why not.
    fn usable(
        &self,
        request: &CertificateRequest,
        found: Option<Vec<u8>>,
        key: &KeyPair,
        now: OffsetDateTime,
    ) -> Result<String, &'static str> {
        let pem = found.ok_or("there was none")?;
        let info = inspect(&pem).map_err(|_| "it could not be read")?;
        let signed = is_signed_by(&pem, self.pem.as_bytes()).unwrap_or(false);
        // At the end of the authority's own life, a new one would end no later.
        let renewable = info.not_after < self.ends;
        if !signed {
            Err("another authority had signed it")
        } else if info.public_key != key.subject_public_key_info() {
            Err("it was for another key")
        } else if !says_what_is_asked(&info, request) {
            Err("its names or usages differed")
        } else if info.not_before > now {
            Err("it was not yet valid")
        } else if info.not_after - now < renew_before(&info) && renewable {
            Err("it would end soon")
        } else {
            String::from_utf8(pem).map_err(|_| "it could not be read")
        }
    }
}

/// Whether the certificate `pem` should be renewed at the time `now`. One that ends with its
/// authority would end no later if it was.
pub fn is_due(pem: &[u8], authority: &[u8], now: OffsetDateTime) -> Result<bool> {
    let (info, authority) = (inspect(pem)?, inspect(authority)?);
    Ok(info.not_after < authority.not_after && info.not_after - now < renew_before(&info))
}

/// How long before its end a certificate is renewed. The key decides on which of several days, so
/// that a thousand nodes made in one hour do not all come back in one hour.
fn renew_before(info: &CertificateInfo) -> Duration {
    let lot = Sha256::digest(&info.public_key)[0];
    let spread = Duration::days(i64::from(lot) % RENEW_SPREAD);
    let lifetime = info.not_after - info.not_before;
    (RENEW_BEFORE + spread).min(lifetime / 3)
}

fn says_what_is_asked(info: &CertificateInfo, request: &CertificateRequest) -> bool {
    info.common_name == request.common_name
        && info.organization == request.organization
        && info.dns_names == request.dns_names
        // An address more does no harm, and a floating IP is not seen while the metadata service
        // is away: that must not restart the API server.
        && request.ip_addresses.iter().all(|ip| info.ip_addresses.contains(ip))
        && info.server == request.usage.is_server()
        && info.client == request.usage.is_client()
        && !info.is_ca
}

/// Where the key of the certificate at that path lies.
pub(super) fn key_path(certificate_path: &str) -> String {
    format!("{}-key.pem", certificate_path.trim_end_matches(".pem"))
}

/// The file at `path`. One without a single byte, as a power cut may leave it, counts as none:
/// nothing is lost with it.
pub(super) fn content(existing: &dyn Existing, path: &str) -> Result<Option<Vec<u8>>> {
    Ok(existing.read(path)?.filter(|bytes| !bytes.is_empty()))
}

/// The private key at `path`; `None` if there is none.
fn existing_key(existing: &dyn Existing, path: &str) -> Result<Option<(KeyPair, Secret)>> {
    let Some(bytes) = content(existing, path)?.map(Secret::new) else {
        return Ok(None);
    };
    let key = key::read(bytes.expose()).with_context(|| {
        format!(
            "{path} is not a private key this program can use; it is not overwritten: put the \
             right one there, or move it away to have a new one made"
        )
    })?;
    Ok(Some((key, bytes)))
}

/// A private key.
pub(super) struct PrivateKey {
    pub(super) key: KeyPair,
    pub(super) pem: Secret,
    pub(super) is_new: bool,
}

/// The private key at `path`, or a new one.
pub(super) fn key_or_new(existing: &dyn Existing, path: &str) -> Result<PrivateKey> {
    if let Some((key, pem)) = existing_key(existing, path)? {
        return Ok(PrivateKey {
            key,
            pem,
            is_new: false,
        });
    }
    let key = KeyPair::generate()?;
    let pem = Secret::new(key.serialize_pem().into_bytes());
    Ok(PrivateKey {
        key,
        pem,
        is_new: true,
    })
}

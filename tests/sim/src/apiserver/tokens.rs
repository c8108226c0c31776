//! Tokens of service accounts: signed by the controller-manager's key, and valid as long as their
//! secret and the account exist.

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256,
    UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;
use serde_json::Value;

use crate::etcd::Store;
use crate::keys::VerifyingKey;
use crate::user::User;

#[derive(Deserialize)]
struct Head {
    alg: String,
}

/// The claims of a token.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: String,
}

/// The owner of this token, if one of the keys signed it and its account still has it.
///
/// # Errors etcd does not answer.
pub fn user(keys: &[VerifyingKey], store: &Store, token: &str) -> Result<Option<User>> {
    let Some(claims) = claims(keys, token) else {
        return Ok(None);
    };
    let Claims {
        namespace, account, ..
    } = &claims;
    let name = format!("system:serviceaccount:{namespace}:{account}");
    let plain = |part: &str| !part.is_empty() && !part.contains('/');
    if claims.iss != "kubernetes/serviceaccount"
        || claims.sub != name
        || ![namespace, account, &claims.secret]
            .map(|part| plain(part))
            .iter()
            .all(|&ok| ok)
    {
        return Ok(None);
    }
    let read = |directory: &str, name: &str| -> Result<Value> {
        let entry = store.get(&format!("/{directory}/{namespace}/{name}"))?;
        let object = entry.and_then(|entry| serde_json::from_slice(&entry.value).ok());
        Ok(object.unwrap_or_default())
    };
    let secret = read("secrets", &claims.secret)?;
    let kept = secret["data"]["token"].as_str().unwrap_or_default();
    let kept = STANDARD.decode(kept).unwrap_or_default();
    if kept != token.as_bytes()
        || read("serviceaccounts", account)?["metadata"]["uid"] != claims.uid
    {
        return Ok(None);
    }
    Ok(Some(account_user(namespace, account)))
}

/// The user that a service account is.
pub fn account_user(namespace: &str, account: &str) -> User {
    let groups = vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
    ];
    User::authenticated(
        format!("system:serviceaccount:{namespace}:{account}"),
        groups,
    )
}

/// The claims of a token that one of the keys signed.
fn claims(keys: &[VerifyingKey], token: &str) -> Option<Claims> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (head, body) = signed.split_once('.')?;
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
    let head: Head = serde_json::from_slice(&decode(head)?).ok()?;
    let signature = decode(signature)?;
    let algorithm: &'static dyn VerificationAlgorithm = match head.alg.as_str() {
        "RS256" => &RSA_PKCS1_2048_8192_SHA256,
        "ES256" => &ECDSA_P256_SHA256_FIXED,
        "ES384" => &ECDSA_P384_SHA384_FIXED,
        _ => return None,
    };
    let known = keys.iter().any(|key| {
        let public = UnparsedPublicKey::new(algorithm, &key.bytes);
        key.algorithm == head.alg && public.verify(signed.as_bytes(), &signature).is_ok()
    });
    known.then(|| serde_json::from_slice(&decode(body)?).ok())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::keys;
    use crate::signing::{SigningKey, new_key};

    fn key() -> (SigningKey, Vec<VerifyingKey>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        let text = new_key().unwrap();
        std::fs::write(&path, &text).unwrap();
        let key = SigningKey::from_pem(text.as_bytes()).unwrap();
        (key, keys::verifying_keys(&path).unwrap())
    }

    #[test]
    fn only_what_the_key_signed_is_believed() {
        let name = |part: &str| format!("kubernetes.io/serviceaccount/{part}");
        let mut body = json!({"iss": "kubernetes/serviceaccount", "sub": "s"});
        for part in [
            "namespace",
            "secret.name",
            "service-account.name",
            "service-account.uid",
        ] {
            body[name(part)] = json!("x");
        }
        let (signer, own) = key();
        // A number of a signature is shorter if it has leading zeros: some of these signatures have
        // them.
        for round in 0..300 {
            body["round"] = json!(round);
            let token = signer.token(&body).unwrap();
            assert!(claims(&own, &token).is_some());
        }
        let token = signer.token(&body).unwrap();
        let (_, other) = key();
        assert!(claims(&other, &token).is_none());
        let mut parts: Vec<&str> = token.split('.').collect();
        let changed = URL_SAFE_NO_PAD.encode(body.to_string().replace("\"x\"", "\"y\""));
        parts[1] = &changed;
        assert!(claims(&own, &parts.join(".")).is_none());
        assert!(claims(&own, "a.b").is_none());
    }
}

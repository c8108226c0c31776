//! The key with which the API server encrypts secrets in etcd (Kubernetes v1.9, "Encrypting data at rest").

use anyhow::{Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use zeroize::Zeroizing;

use super::Secret;
use super::random::random;

/// Bytes of a key of AES-256.
const KEY_BYTES: usize = 32;
/// What the API server v1.9 calls such a file.
const KIND: &str = "EncryptionConfig";
/// Its providers that have keys.
const KINDS: [&str; 3] = ["aescbc", "secretbox", "aesgcm"];

/// The file for `--experimental-encryption-provider-config`: the existing one, or one with a new key. Secrets
/// that were stored before stay readable.
///
/// An empty file, which a power cut can leave, is written again. Any other file of another kind is refused,
/// never overwritten.
pub fn resolve_encryption(existing: Option<&[u8]>) -> Result<Secret> {
    match existing {
        Some(bytes) if !bytes.is_empty() => {
            ensure!(
                has_key(bytes),
                "it is not an EncryptionConfig with a key; restore it from a backup, because secrets cannot be \
                 read without its key"
            );
            Ok(Secret::new(bytes.to_vec()))
        }
        _ => new_encryption(),
    }
}

/// Whether the API server could take a key from the file: of AES (128, 192 or 256 bits) or of secretbox.
fn has_key(file: &[u8]) -> bool {
    let text = str::from_utf8(file).unwrap_or_default();
    let options = serde_saphyr::options! { with_snippet: false };
    let Ok(config) = serde_saphyr::from_str_with_options::<Value>(text, options) else {
        return false;
    };
    let resources = config["resources"].as_array().into_iter().flatten();
    let providers = resources.filter_map(|resource| resource["providers"].as_array());
    let keys = providers.flatten().flat_map(|provider| {
        KINDS
            .iter()
            .filter_map(|kind| provider[*kind]["keys"].as_array())
    });
    let secrets = keys.flatten().filter_map(|key| key["secret"].as_str());
    let mut lengths = secrets.map(|secret| BASE64.decode(secret).map_or(0, |key| key.len()));
    config["kind"] == KIND && lengths.any(|length| matches!(length, 16 | 24 | 32))
}

fn new_encryption() -> Result<Secret> {
    let key = Zeroizing::new(BASE64.encode(*random::<KEY_BYTES>()?));
    let text = format!(
        "kind: {KIND}\napiVersion: v1\nresources:\n- resources: [secrets]\n  providers:\n  - aescbc:\n      keys:\n      \
         - name: key1\n        secret: {}\n  - identity: {{}}\n",
        *key
    );
    Ok(Secret::new(text.into_bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_file_has_the_form_of_kubernetes_and_a_key_of_its_own() {
        let first = resolve_encryption(None).unwrap();
        let value: Value = serde_saphyr::from_str(str::from_utf8(first.expose()).unwrap()).unwrap();
        let providers = &value["resources"][0]["providers"];
        let key = providers[0]["aescbc"]["keys"][0]["secret"]
            .as_str()
            .unwrap();
        assert_eq!(BASE64.decode(key).unwrap().len(), KEY_BYTES);
        assert!(providers[1]["identity"].is_object());
        assert_eq!(value["resources"][0]["resources"][0], "secrets");
        assert_ne!(resolve_encryption(None).unwrap(), first);
    }

    #[test]
    fn a_key_that_is_there_is_kept_and_another_file_is_refused() {
        let first = resolve_encryption(None).unwrap();
        assert_eq!(resolve_encryption(Some(first.expose())).unwrap(), first);
        assert!(resolve_encryption(Some(b"")).is_ok());
        let whole = first.expose();
        for damaged in [
            b"hello\n".as_slice(),
            b"kind: EncryptionConfig\n",
            b" ",
            &whole[..150],
            &[whole, b"\n: garbage ["].concat(),
        ] {
            let error = resolve_encryption(Some(damaged)).unwrap_err();
            assert!(error.to_string().contains("restore it"), "{error}");
        }
    }
}

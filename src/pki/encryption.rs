//! The keys with which the API server encrypts secrets in etcd (Kubernetes v1.9, "Encrypting data at rest").
//!
//! The API server encrypts with the first key of the file, and decrypts with all of them. Beside each value it
//! stores the name of the key, so a name is never used for two keys.

use std::fmt;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
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
    Ok(EncryptionKeys(vec![Key::new(1)?]).file())
}

/// How far the keys of a file are in a rotation. The names tell it: a newer key has a higher number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// There is one key.
    Settled,
    /// The new key is second: the API server decrypts with it, and encrypts with the old one.
    Added,
    /// The new key is first: the API server encrypts with it, and still decrypts with the old one.
    First,
}

/// The keys of a file that this program wrote, in their order.
#[derive(Clone, PartialEq, Eq)]
pub struct EncryptionKeys(Vec<Key>);

#[derive(Clone, PartialEq, Eq)]
struct Key {
    /// The number in its name.
    number: u32,
    /// The key in base64.
    secret: Zeroizing<String>,
}

impl fmt::Debug for EncryptionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.names())
    }
}

impl Key {
    /// A new key with that number in its name.
    fn new(number: u32) -> Result<Key> {
        let secret = Zeroizing::new(BASE64.encode(*random::<KEY_BYTES>()?));
        Ok(Key { number, secret })
    }

    fn name(&self) -> String {
        format!("key{}", self.number)
    }

    fn read(value: &Value) -> Option<Key> {
        let secret = value["secret"].as_str()?;
        let name = value["name"].as_str()?;
        let key = Key {
            number: name.strip_prefix("key")?.parse().ok()?,
            secret: Zeroizing::new(secret.to_owned()),
        };
        let whole = value.as_object()?.len() == 2 && key.name() == name;
        (whole && BASE64.decode(secret).ok()?.len() == KEY_BYTES).then_some(key)
    }
}

impl EncryptionKeys {
    /// The keys of a file. Fails if the file has another form than this program writes: one provider `aescbc`
    /// with one or two keys `keyNUMBER` of 256 bits for secrets, then `identity`. The error has no key in it.
    pub fn read(file: &Secret) -> Result<EncryptionKeys> {
        let text = str::from_utf8(file.expose()).unwrap_or_default();
        let options = serde_saphyr::options! { with_snippet: false };
        let config = serde_saphyr::from_str_with_options::<Value>(text, options).ok();
        let config = config.unwrap_or_default();
        let listed = &config["resources"][0]["providers"][0]["aescbc"]["keys"];
        let form = json!({
            "kind": KIND,
            "apiVersion": "v1",
            "resources": [{
                "resources": ["secrets"],
                "providers": [{ "aescbc": { "keys": listed } }, { "identity": {} }],
            }],
        });
        let keys = listed.as_array().filter(|_| config == form);
        let keys = keys.and_then(|keys| keys.iter().map(Key::read).collect::<Option<Vec<_>>>());
        let keys = keys.filter(|keys| match &keys[..] {
            [_] => true,
            [one, other] => one.number != other.number,
            _ => false,
        });
        keys.map(EncryptionKeys).context(
            "this program did not write it in this form: one provider aescbc with one or two keys of 256 bits, \
             named key1, key2 and so on, for the resource secrets, then identity; rotate its keys by hand as \
             Kubernetes documents it",
        )
    }

    /// The file with these keys.
    pub fn file(&self) -> Secret {
        let mut text = Zeroizing::new(format!(
            "kind: {KIND}\napiVersion: v1\nresources:\n- resources: [secrets]\n  providers:\n  - aescbc:\n      keys:\n"
        ));
        for key in &self.0 {
            for part in [
                "      - name: ",
                &key.name(),
                "\n        secret: ",
                &key.secret,
                "\n",
            ] {
                text.push_str(part);
            }
        }
        text.push_str("  - identity: {}\n");
        Secret::new(text.as_bytes().to_vec())
    }

    /// The names of the keys, in their order.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(Key::name).collect()
    }

    /// How far they are in a rotation.
    pub fn stage(&self) -> Stage {
        match &self.0[..] {
            [first, second] if second.number > first.number => Stage::Added,
            [_, _] => Stage::First,
            _ => Stage::Settled,
        }
    }

    /// The name of the key with which the API server encrypts.
    pub fn writing(&self) -> String {
        self.0.first().map(Key::name).unwrap_or_default()
    }

    /// These keys and a new one behind them.
    pub fn with_new(&self) -> Result<EncryptionKeys> {
        let newest = self
            .0
            .iter()
            .map(|key| key.number)
            .max()
            .unwrap_or_default();
        let mut keys = self.0.clone();
        keys.push(Key::new(
            newest
                .checked_add(1)
                .context("no number is left for a key")?,
        )?);
        Ok(EncryptionKeys(keys))
    }

    /// These keys with the newest one first.
    #[must_use]
    pub fn newest_first(&self) -> EncryptionKeys {
        let mut keys = self.0.clone();
        keys.sort_by_key(|key| std::cmp::Reverse(key.number));
        EncryptionKeys(keys)
    }

    /// Only the first key.
    #[must_use]
    pub fn without_old(&self) -> EncryptionKeys {
        EncryptionKeys(self.0.iter().take(1).cloned().collect())
    }

    /// The names of the keys of `other` that are missing here. Fails if a key of the same name differs.
    pub fn lack(&self, other: &EncryptionKeys) -> Result<Vec<String>> {
        let mut missing = Vec::new();
        for key in &other.0 {
            match self.0.iter().find(|own| own.number == key.number) {
                None => missing.push(key.name()),
                Some(own) => ensure!(
                    own.secret == key.secret,
                    "two different keys have the name {}",
                    key.name()
                ),
            }
        }
        Ok(missing)
    }
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

    #[test]
    fn keys_are_added_used_and_dropped_and_never_shown() {
        let file = resolve_encryption(None).unwrap();
        let old = EncryptionKeys::read(&file).unwrap();
        assert_eq!((old.file(), old.stage()), (file, Stage::Settled));
        let added = old.with_new().unwrap();
        assert_eq!(
            (added.names(), added.stage()),
            (vec!["key1".to_owned(), "key2".to_owned()], Stage::Added)
        );
        let first = added.newest_first();
        assert_eq!(
            (first.writing(), first.stage()),
            ("key2".to_owned(), Stage::First)
        );
        let new = first.without_old();
        assert_eq!(
            (new.names(), new.stage()),
            (vec!["key2".to_owned()], Stage::Settled)
        );
        for keys in [&added, &first, &new] {
            assert_eq!(&EncryptionKeys::read(&keys.file()).unwrap(), keys);
            assert!(resolve_encryption(Some(keys.file().expose())).is_ok());
            assert!(!format!("{keys:?}").contains(&*keys.0[0].secret));
        }
        assert_eq!(added.lack(&old).unwrap(), Vec::<String>::new());
        assert_eq!(new.lack(&added).unwrap(), ["key1"]);
        assert_eq!(new.with_new().unwrap().names(), ["key2", "key3"]);
        let other = EncryptionKeys(vec![Key::new(2).unwrap()]);
        assert!(
            new.lack(&other)
                .unwrap_err()
                .to_string()
                .contains("name key2")
        );
    }

    #[test]
    fn a_file_of_another_form_is_not_rotated() {
        let keys = EncryptionKeys(vec![Key::new(1).unwrap(), Key::new(2).unwrap()]);
        let text = String::from_utf8(keys.file().expose().to_vec()).unwrap();
        for (part, other) in [
            ("name: key2", "name: key1"),
            ("name: key2", "name: key02"),
            ("name: key2", "name: mine"),
            ("[secrets]", "[secrets, configmaps]"),
            ("  - identity: {}\n", ""),
            ("aescbc", "aesgcm"),
            ("secret: ", "secret: A"),
            ("apiVersion: v1", "apiVersion: v2"),
        ] {
            let changed = text.replace(part, other);
            assert_ne!(changed, text);
            let error = EncryptionKeys::read(&Secret::new(changed.into_bytes())).unwrap_err();
            assert!(!error.to_string().contains(&*keys.0[0].secret), "{error}");
        }
    }
}

//! Signatures in the format of minisign, whose program can make the keys and verify the signatures.

use std::fmt;
use std::fs::{self, File};
use std::io::{Cursor, Read, Seek};
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use minisign::{PublicKey, PublicKeyBox, SecretKey, SecretKeyBox, SignatureBox};
use zeroize::Zeroizing;

use crate::sys::read;

/// The maximum size of a file with a signature, in bytes. minisign limits its comments to less.
const MAX_SIGNATURE: u64 = 64 * 1024;

/// A public key whose signatures are trusted.
#[derive(Clone, Debug)]
pub struct TrustKey(PublicKey);

impl TrustKey {
    /// The key in `text` itself, or in the file with that name.
    pub fn find(text: &str) -> Result<TrustKey> {
        if let Ok(key) = PublicKey::from_base64(text) {
            return Ok(TrustKey(key));
        }
        let content = fs::read_to_string(text).with_context(|| {
            format!("{text} is neither a minisign public key nor a file with one")
        })?;
        let key = PublicKeyBox::from_string(&content)
            .and_then(PublicKeyBox::into_public_key)
            .with_context(|| format!("{text}: not a minisign public key"))?;
        Ok(TrustKey(key))
    }

    /// Verifies that `signature` is the signature of `data` by this key.
    pub fn check(&self, data: &[u8], signature: &str) -> Result<()> {
        self.check_read(Cursor::new(data), signature)
    }

    /// Verifies that the file `signature` has the signature of the whole file `file` by this key.
    pub fn check_file(&self, file: &Path, signature: &Path) -> Result<()> {
        let place = || signature.display().to_string();
        let text = read::bounded(signature, MAX_SIGNATURE)?;
        let text = text.with_context(|| format!("{} does not exist", place()))?;
        let text = String::from_utf8(text).with_context(place)?;
        let data = File::open(file).with_context(|| file.display().to_string())?;
        self.check_read(data, &text).with_context(|| {
            format!(
                "{} is not signed by key {self}, according to {}; use a file that this key signed, or give the \
                 right key with `--trust-key`",
                file.display(),
                place()
            )
        })
    }

    fn check_read(&self, data: impl Read + Seek, signature: &str) -> Result<()> {
        let signature = SignatureBox::from_string(signature)?;
        Ok(minisign::verify(
            &self.0, &signature, data, true, false, false,
        )?)
    }
}

impl fmt::Display for TrustKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.to_base64())
    }
}

/// Signs `data` with the secret key in the file `key`; `comment` is signed too. A key with a
/// password needs it in the file `password`.
pub fn sign(key: &Path, password: Option<&Path>, data: impl Read, comment: &str) -> Result<String> {
    let sign = || -> Result<String> {
        let text = Zeroizing::new(fs::read_to_string(key)?);
        let secret = match password {
            Some(file) => with_password(&text, file)?,
            None => without_password(&text)?,
        };
        // With the public key, the library verifies the new signature.
        let public = PublicKey::from_secret_key(&secret)?;
        let signature = minisign::sign(Some(&public), &secret, data, Some(comment), None)?;
        Ok(signature.into_string())
    };
    sign().with_context(|| format!("secret key {}", key.display()))
}

fn with_password(text: &str, file: &Path) -> Result<SecretKey> {
    let password = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let password = Zeroizing::new(password);
    let password = password.trim_end_matches('\n').to_owned();
    Ok(SecretKeyBox::from_string(text)?.into_secret_key(Some(password))?)
}

fn without_password(text: &str) -> Result<SecretKey> {
    let secret = SecretKeyBox::from_string(text)?.into_unencrypted_secret_key();
    secret.or_else(|error| {
        without_checksum(text).with_context(|| {
            format!(
                "{error}; if the key has a password, name the file with it: `--sign-password-file FILE`"
            )
        })
    })
}

/// minisign 0.11 writes keys without a password also without a checksum, which the library reports
/// as a wrong checksum.
fn without_checksum(text: &str) -> Option<SecretKey> {
    const CHECKSUM: [u8; 32] = [0; 32];
    let bytes = Zeroizing::new(BASE64.decode(text.lines().nth(1)?).ok()?);
    let is_encrypted = bytes.get(2..4)? != [0, 0];
    (!is_encrypted && bytes.ends_with(&CHECKSUM)).then(|| SecretKey::from_bytes(&bytes).ok())?
}

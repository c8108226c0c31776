//! Signatures in the form of minisign, so that its program makes the keys and checks them too.

use std::fmt;
use std::fs;
use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use minisign::{PublicKey, PublicKeyBox, SecretKeyBox, SignatureBox};
use zeroize::Zeroizing;

/// A public key whose signatures are trusted.
#[derive(Clone, Debug)]
pub struct TrustKey(PublicKey);

impl TrustKey {
    /// The key that `text` is, or that is in the file it names.
    pub fn find(text: &str) -> Result<TrustKey> {
        if let Ok(key) = PublicKey::from_base64(text) {
            return Ok(TrustKey(key));
        }
        let content = fs::read_to_string(text).with_context(|| {
            format!("{text} is neither a minisign public key nor a file with one")
        })?;
        let key = PublicKeyBox::from_string(&content)
            .and_then(PublicKeyBox::into_public_key)
            .map_err(|error| anyhow!("{text}: not a minisign public key: {error}"))?;
        Ok(TrustKey(key))
    }

    /// Whether `signature` is this key's of `data`.
    pub fn check(&self, data: &[u8], signature: &str) -> Result<()> {
        let signature = SignatureBox::from_string(signature).map_err(|error| anyhow!("{error}"))?;
        minisign::verify(&self.0, &signature, Cursor::new(data), true, false, false)
            .map_err(|error| anyhow!("{error}"))
    }
}

impl fmt::Display for TrustKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.to_base64())
    }
}

/// Signs `data` with the secret key in the file `key`; `comment` is signed too. A key with a
/// password needs it in the file `password`.
pub fn sign(key: &Path, password: Option<&Path>, data: &[u8], comment: &str) -> Result<String> {
    let place = || format!("secret key {}", key.display());
    let text = Zeroizing::new(fs::read_to_string(key).with_context(place)?);
    let boxed = SecretKeyBox::from_string(&text)
        .map_err(|error| anyhow!("{error}"))
        .with_context(place)?;
    let secret = match password {
        Some(file) => {
            let text = Zeroizing::new(
                fs::read_to_string(file).with_context(|| file.display().to_string())?,
            );
            boxed.into_secret_key(Some(text.trim_end_matches('\n').to_owned()))
        }
        None => boxed.into_unencrypted_secret_key(),
    };
    let secret = match secret {
        Ok(secret) => secret,
        Err(error) if password.is_none() => {
            return Err(anyhow!(
                "{error}; where the key has a password, give its file with --sign-password-file"
            ))
            .with_context(place);
        }
        Err(error) => return Err(anyhow!("{error}")).with_context(place),
    };
    match minisign::sign(None, &secret, Cursor::new(data), Some(comment), None) {
        Ok(signature) => Ok(signature.into_string()),
        Err(error) => bail!("{}: {error}", place()),
    }
}

//! Encrypts backups, and opens them, in the format of age (<https://age-encryption.org/v1>).

use std::fmt;
use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use age::secrecy::{ExposeSecret, SecretString};
use age::stream::StreamWriter;
use age::{DecryptError, Decryptor, Encryptor, Identity, Recipient, scrypt, x25519};
use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::fcntl::OFlag;
use zeroize::Zeroizing;

use crate::language::tr;
use crate::nodespec::Refused;
use crate::pki::Secret;
use crate::sys::read::regular;

/// The most that a file with keys or a passphrase may have, in bytes.
const MOST: u64 = 64 * 1024;
/// The shortest passphrase, in characters.
const SHORTEST: usize = 12;

/// For whom a backup is encrypted.
pub struct Seal(Vec<Box<dyn Recipient>>);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&tr!("{} recipients", self.0.len()))
    }
}

impl Seal {
    /// For the holders of the keys of these `recipients` (`age1…`), or for who has the passphrase in the first line of a
    /// file.
    ///
    /// # Errors
    /// If there is nobody, or both; if one is not a recipient, or the passphrase is short.
    pub fn new(recipients: &[String], passphrase: Option<&Secret>) -> Result<Seal> {
        let mut all: Vec<Box<dyn Recipient>> = Vec::new();
        for recipient in recipients {
            let read: x25519::Recipient = recipient.parse().map_err(|why| {
                let why: &str = why;
                anyhow!(tr!("{recipient} is not a recipient of age ({why}); expected a key that begins with age1", recipient = format_args!("{recipient:?}"), why))
            })?;
            all.push(Box::new(read));
        }
        match (passphrase, all.is_empty()) {
            (None, true) => bail!(tr!(
                "nothing says for whom to encrypt the backup; make a key on another machine with `appliance backup \
                 key --file FILE`, and add the line that it prints: `--recipient age1…`, or \
                 `backup: {recipients: [age1…]}` in the settings"
            )),
            (Some(_), false) => {
                bail!(tr!(
                    "a backup is for recipients or has a passphrase, not both; choose one"
                ))
            }
            (None, false) => {}
            (Some(secret), true) => {
                all.push(Box::new(scrypt::Recipient::new(passphrase_in(secret)?)));
            }
        }
        Ok(Seal(all))
    }

    /// A writer that encrypts what it gets into `output`. Its `finish` ends the file.
    pub fn encrypting<W: Write>(&self, output: W) -> Result<StreamWriter<W>> {
        let recipients = self.0.iter().map(|one| &**one);
        let encryptor = Encryptor::with_recipients(recipients)
            .map_err(|error| anyhow!(tr!("cannot encrypt: {error}", error)))?;
        Ok(encryptor.wrap_output(output)?)
    }
}

/// What opens a backup.
pub struct Keys(Vec<Box<dyn Identity>>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl Keys {
    /// The keys (`AGE-SECRET-KEY-1…`) in the lines of a file, or the passphrase in the first line of another one.
    ///
    /// # Errors
    /// If there is none. An error never quotes them.
    pub fn new(file: Option<&Secret>, passphrase: Option<&Secret>) -> Result<Keys> {
        let mut all: Vec<Box<dyn Identity>> = Vec::new();
        for line in file.map_or("", text).lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let read: x25519::Identity = line.parse().map_err(|_| {
                anyhow!(tr!(
                    "a line of the file is not a key of age; expected AGE-SECRET-KEY-1…"
                ))
            })?;
            all.push(Box::new(read));
        }
        if let Some(secret) = passphrase {
            all.push(Box::new(scrypt::Identity::new(passphrase_in(secret)?)));
        }
        ensure!(
            !all.is_empty(),
            tr!(
                "nothing says what opens the backup; add `--identity FILE` with the key of one of its recipients, or \
             `--passphrase-file FILE`"
            )
        );
        Ok(Keys(all))
    }

    /// A reader of the content of the backup in `input`.
    ///
    /// # Errors
    /// [`Refused`] if it is none, or if none of the keys opens it.
    pub fn opening<R: BufRead>(&self, input: R) -> Result<impl Read + use<R>> {
        let opened = Decryptor::new_buffered(input)
            .and_then(|decryptor| decryptor.decrypt(self.0.iter().map(|one| &**one)));
        opened.map_err(|error| Refused::because(anyhow!("{}", told(&error))).into())
    }
}

fn told(error: &DecryptError) -> String {
    match error {
        DecryptError::NoMatchingKeys => {
            tr!(
                "neither a key nor a passphrase that was given opens it; give the key of one of its recipients, or the passphrase with which it was made"
            )
        }
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => {
            tr!("the passphrase does not open it; give the one with which it was made")
        }
        DecryptError::ExcessiveWork { .. } => {
            tr!("its passphrase would take too much work to check, so this program did not make it")
        }
        DecryptError::InvalidMac | DecryptError::InvalidHeader => {
            tr!("it is damaged, or no backup of this program; use another one")
        }
        _ => tr!("it is not a backup of this program, or its beginning is damaged"),
    }
}

/// A new key: the lines of a file that only its owner may read, and its recipient, which is no secret.
pub fn new_key() -> (Zeroizing<String>, String) {
    let key = x25519::Identity::generate();
    let recipient = key.to_public().to_string();
    let secret = key.to_string();
    let text = format!("# recipient: {recipient}\n{}\n", secret.expose_secret());
    (Zeroizing::new(text), recipient)
}

/// The content of a file with keys or a passphrase.
///
/// # Errors
/// If others may read the file, or if it is too big to be one.
pub fn secret_file(path: &Path) -> Result<Secret> {
    let place = || path.display().to_string();
    let file = File::options()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .with_context(place)?;
    let found = file.metadata().with_context(place)?;
    ensure!(found.is_file(), tr!("{} is not a file", path.display()));
    ensure!(
        found.permissions().mode() & 0o077 == 0,
        tr!(
            "{0}: others may read it; run `chmod 600 {0}`",
            path.display()
        )
    );
    regular(file, MOST).map(Secret::new).with_context(place)
}

fn text(secret: &Secret) -> &str {
    str::from_utf8(secret.expose()).unwrap_or_default()
}

fn passphrase_in(secret: &Secret) -> Result<SecretString> {
    let line = text(secret).lines().next().unwrap_or_default().trim();
    ensure!(
        line.chars().count() >= SHORTEST,
        tr!(
            "the passphrase has fewer than {SHORTEST} characters; use a longer one, for example of \
         `openssl rand -base64 24`",
            SHORTEST
        )
    );
    Ok(SecretString::from(line.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sealed(seal: &Seal) -> Vec<u8> {
        let mut file = Vec::new();
        let mut writer = seal.encrypting(&mut file).unwrap();
        writer.write_all(b"content").unwrap();
        writer.finish().unwrap();
        file
    }

    fn opened(keys: &Keys, file: &[u8]) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        keys.opening(file)?.read_to_end(&mut content)?;
        Ok(content)
    }

    #[test]
    fn only_the_key_of_a_recipient_opens_a_backup() {
        let (key, recipient) = new_key();
        let file = sealed(&Seal::new(&[recipient], None).unwrap());
        assert!(!file.windows(7).any(|part| part == b"content"));
        let of = |text: &str| Keys::new(Some(&Secret::new(text.as_bytes().to_vec())), None);
        assert_eq!(opened(&of(&key).unwrap(), &file).unwrap(), b"content");
        let other = opened(&of(&new_key().0).unwrap(), &file).unwrap_err();
        assert!(other.is::<Refused>(), "{other}");
        assert!(
            other.to_string().contains("neither a key nor a passphrase"),
            "{other}"
        );
        let broken = of("AGE-SECRET-KEY-1SECRET").unwrap_err().to_string();
        assert!(!broken.contains("SECRET-KEY-1SECRET"), "{broken}");
        assert!(of("# nothing").is_err());
    }

    #[test]
    fn only_the_passphrase_opens_a_backup_and_a_short_one_is_refused() {
        let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
        let file = sealed(&Seal::new(&[], Some(&secret("correct horse\n"))).unwrap());
        let of = |text: &str| Keys::new(None, Some(&secret(text))).unwrap();
        assert_eq!(opened(&of("correct horse"), &file).unwrap(), b"content");
        let other = opened(&of("incorrect horse"), &file).unwrap_err();
        assert!(other.to_string().contains("passphrase"), "{other}");
        assert!(Seal::new(&[], Some(&secret("short"))).is_err());
        assert!(Seal::new(&[], None).is_err());
        assert!(Seal::new(&["age1x".to_owned()], None).is_err());
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, b"secret").unwrap();
        for (mode, is_read) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(secret_file(&path).is_ok(), is_read, "{mode:o}");
        }
    }
}

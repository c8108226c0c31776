//! A file of a node. Pure.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::pki::Secret;

/// The content of a file.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// The whole file.
    Whole(Vec<u8>),
    /// A marked part of a file that belongs to the distribution. The rest of the file is bytes in any
    /// encoding, and stays.
    Block(String),
    /// The whole file, which must never be shown.
    Secret(Secret),
}

impl Content {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Content::Whole(bytes) => bytes,
            Content::Block(text) => text.as_bytes(),
            Content::Secret(secret) => secret.expose(),
        }
    }

    /// SHA-256 of its bytes.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.bytes()).into()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Whole(bytes) => write!(f, "{} bytes", bytes.len()),
            Content::Block(text) => write!(f, "block of {} bytes", text.len()),
            Content::Secret(_) => write!(f, "secret"),
        }
    }
}

/// The purpose of a file or a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It is, or holds, a key, a certificate or a token: a renewal writes these only.
    Identity,
    /// It is a unit, or belongs to one: systemd has to read it.
    Unit,
    /// Anything else.
    Other,
}

/// A file with its permission bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its absolute path.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// Its content.
    pub content: Content,
    /// Its purpose.
    pub purpose: Purpose,
}

impl File {
    /// A file of that text, which anyone may read.
    pub(super) fn public(path: &str, text: String) -> File {
        File {
            path: path.to_owned(),
            mode: 0o644,
            content: Content::Whole(text.into_bytes()),
            purpose: Purpose::Other,
        }
    }

    /// A file that only root may read.
    pub(super) fn secret(path: &str, secret: Secret) -> File {
        File {
            path: path.to_owned(),
            mode: 0o600,
            content: Content::Secret(secret),
            purpose: Purpose::Other,
        }
    }

    /// The unit, or what belongs to one, of that path.
    pub(super) fn unit(path: &str, text: String) -> File {
        File {
            purpose: Purpose::Unit,
            ..File::public(path, text)
        }
    }

    /// The file as part of the node's keys and certificates.
    pub(super) fn for_identity(self) -> File {
        File {
            purpose: Purpose::Identity,
            ..self
        }
    }
}

//! The steps that write the files of keys.

use crate::desired::{Content, Purpose};
use crate::pki::Secret;
use crate::plan::Step;

/// Writes a private key, for root alone.
pub fn secret(path: &str, key: Secret) -> Step {
    write(path, Content::Secret(key), 0o600)
}

/// Writes certificates or public keys.
pub fn public(path: &str, pem: String) -> Step {
    write(path, Content::Whole(pem.into_bytes()), 0o644)
}

fn write(path: &str, content: Content, mode: u32) -> Step {
    Step::WriteFile {
        path: path.to_owned(),
        mode,
        content,
        replaces: None,
        new: false,
        purpose: Purpose::Identity,
    }
}

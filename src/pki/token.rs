//! `token.csv`: the token of a kubelet that has no certificate yet.

use anyhow::{Result, ensure};

use super::Secret;
use super::random::random;

/// Bytes of randomness in a token: 128 bits, which cannot be guessed.
const TOKEN_BYTES: usize = 16;
/// The user, its ID and its group, as in the tutorial.
const BOOTSTRAP_USER: &str = "kubelet-bootstrap,10001,\"system:kubelet-bootstrap\"";

/// The content of `token.csv`: the existing one, or a new one.
///
/// An empty file, which a power cut can leave, is written again: nothing is lost. Any other
/// file that has no token in its first field is refused, never overwritten.
pub fn resolve_token_csv(existing: Option<&[u8]>) -> Result<Secret> {
    match existing {
        Some(bytes) if !bytes.is_empty() => {
            let text = str::from_utf8(bytes).unwrap_or_default();
            let fields = text.lines().next().unwrap_or_default().split(',');
            ensure!(
                fields
                    .clone()
                    .next()
                    .is_some_and(|token| token.len() >= TOKEN_BYTES)
                    && fields.count() >= 3,
                "its first line is not TOKEN,USER,UID; correct it, or move it away to get a new one"
            );
            Ok(Secret::new(bytes.to_vec()))
        }
        _ => new_token_csv(),
    }
}

fn new_token_csv() -> Result<Secret> {
    let token = random::<TOKEN_BYTES>()?;
    Ok(Secret::new(
        format!("{},{BOOTSTRAP_USER}\n", hex::encode(*token)).into_bytes(),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_that_is_there_is_kept() {
        let first = resolve_token_csv(None).unwrap();
        assert_eq!(resolve_token_csv(Some(first.expose())).unwrap(), first);
    }

    #[test]
    fn two_new_tokens_differ() {
        assert_ne!(new_token_csv().unwrap(), new_token_csv().unwrap());
    }

    #[test]
    fn an_empty_file_is_written_anew_and_a_broken_one_refused() {
        assert!(resolve_token_csv(Some(b"")).is_ok());
        let error = resolve_token_csv(Some(b"hello\n")).unwrap_err();
        assert!(
            error.to_string().contains("correct it, or move it away"),
            "{error}"
        );
    }
}

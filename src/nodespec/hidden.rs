//! Which lines of a text may hold a secret, so that nobody shows them. Pure.

use super::token::redacted;

/// What is shown instead of such a line.
pub const HIDDEN: &str = "(a line that may hold a secret)";

/// What stands before a secret, in lower case: in messages of programs, settings and command lines.
const BEFORE_SECRETS: [&str; 12] = [
    "api-key",
    "api_key",
    "apikey",
    "basic ",
    "bearer ",
    "key-data",
    "passphrase",
    "passwd",
    "password",
    "private-key",
    "secret",
    "token",
];

/// A line of a text: [`HIDDEN`] if it may hold a secret, else the line without the secrets of join tokens.
pub fn line(text: &str) -> String {
    match may_hold_secret(text) {
        true => HIDDEN.to_owned(),
        false => redacted(text),
    }
}

/// All lines of a text, without their ends, as [`line()`] shows them. The lines of a private key are hidden, too.
pub fn lines(text: &str) -> Vec<String> {
    let mut in_key = false;
    let shown = text.lines().map(|one| {
        let ends = in_key && one.contains("-----END ");
        in_key |= is_start_of_key(&one.to_lowercase());
        let shown = match in_key {
            true => HIDDEN.to_owned(),
            false => line(one),
        };
        in_key &= !ends;
        shown
    });
    shown.collect()
}

fn is_start_of_key(lower: &str) -> bool {
    lower.contains("private key-----")
}

fn may_hold_secret(text: &str) -> bool {
    let lower = text.to_lowercase();
    let has_secret = |word: &&str| {
        let mut after = lower.split(*word).skip(1);
        after.any(|rest| {
            rest.starts_with(['=', ':', '"', '\\']) || (word.ends_with(' ') && !rest.is_empty())
        })
    };
    is_start_of_key(&lower) || BEFORE_SECRETS.iter().any(has_secret) || has_user_of_url(text)
}

/// Whether the text has a URL with a password in it (`scheme://user:password@host`).
fn has_user_of_url(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let end = |c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'');
        let authority = rest.split(end).next().unwrap_or_default();
        authority
            .rsplit_once('@')
            .is_some_and(|(user, _)| user.contains(':'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_private_key_are_hidden_and_no_others() {
        let text =
            "a\n-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\nqQ==\n-----END EC PRIVATE KEY-----\nb\n";
        let expected = ["a", HIDDEN, HIDDEN, HIDDEN, HIDDEN, "b"];
        assert_eq!(lines(text), expected);
    }

    #[test]
    fn a_certificate_and_paths_of_secrets_are_shown() {
        for text in [
            "-----BEGIN CERTIFICATE-----",
            "ExecStart=/opt/etcd --key-file=/etc/kubernetes/ca/etcd/etcd-key.pem",
            "  --token-auth-file=/etc/kubernetes/ca/kubernetes/token.csv \\",
            "resources: [\"secrets\", \"configmaps\"]",
            "server: https://192.168.1.102:6443",
            "Documentation=https://example.org/a@b:c",
        ] {
            assert_eq!(line(text), text);
        }
    }

    #[test]
    fn passwords_tokens_and_keys_are_hidden() {
        for text in [
            "Environment=HTTPS_PROXY=http://me:hunter2@proxy.example.org:3128",
            "    client-key-data: LS0tLS1CRUdJTg==",
            "password: hunter2",
            "ExecStart=/usr/bin/x --token=hunter2",
            "Authorization: Bearer hunter2",
            r#"said "{\"password\": \"hunter2\"}""#,
        ] {
            assert_eq!(line(text), HIDDEN, "{text}");
        }
        assert!(!line("join abcdef.0123456789abcdefghijklmnopqrstuv").contains("0123456789"));
    }
}

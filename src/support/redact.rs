//! Takes secrets out of a text: those that are known, in every form in which programs write them, and what looks like
//! one.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use regex::Regex;

use crate::nodespec::{hidden, token};
use crate::pki::Secret;

/// The shortest form that is looked for, in bytes. A shorter one is in too many words.
pub const SHORTEST: usize = 8;
/// The longest that is taken for a password, in bytes.
const LONGEST: usize = 4096;
/// The shortest form that is looked for over ends of lines, in bytes.
const BROKEN: usize = 16;
/// What is shown instead of a secret.
pub const REPLACED: &str = "<secret>";

/// The names of values that are secrets, and end a line or are quoted: they may have spaces.
macro_rules! password {
    () => {
        "(?i)([a-z0-9_.-]*(?:password|passwd|passphrase|[_-]pass|pwd)\\\\*[\"']?[ \t]*[=:][ \t]*)"
    };
}
/// The names of other values that are secrets.
macro_rules! token {
    () => {
        "(?i)([a-z0-9_.-]*(?:secret|token|api[_-]?key|access[_-]?key(?:[_-]id)?|private[_-]?key|key-data|credentials|signature|\\bauth)\\\\*[\"']?[ \t]*[=:][ \t]*)"
    };
}

/// What looks like a secret: the pattern, and what takes its place. A group `value` is looked for in every text.
const PATTERNS: &[(&str, &str)] = &[
    // Keys in PEM, also where line ends are written as `\n`.
    (
        r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY[A-Z ]*-----.*?(-----END [A-Z ]*PRIVATE KEY[A-Z ]*-----|\z)",
        REPLACED,
    ),
    // PEM in base64: `-----BEGIN `.
    (r"LS0tLS1CRUdJTi[A-Za-z0-9+/_=-]+", REPLACED),
    (r"(?P<value>AGE-SECRET-KEY-1[A-Za-z0-9]+)", REPLACED),
    // Tokens of service accounts (JWT).
    (
        r"\b(?P<value>eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+)",
        REPLACED,
    ),
    (r"\b(AKIA|ASIA)[A-Z0-9]{16}\b", REPLACED),
    // The user and the password in a URL.
    (r#"://[^/\s"':@]*:(?P<value>[^/\s"']+)@"#, "://<secret>@"),
    (r#"://[^/\s"'<]+@"#, "://<secret>@"),
    (
        r"(?i)\b(bearer|basic)[ \t]+[A-Za-z0-9+/=._~-]{6,}",
        "$1 <secret>",
    ),
    // JSON in a text of JSON: the quotes have a backslash.
    (
        concat!(password!(), r#"\\+"(?P<value>[^"\n]*?)\\+""#),
        "$1\"<secret>\"",
    ),
    (
        concat!(password!(), r#""(?P<value>(?:[^"\\\n]|\\[^\n])*)""#),
        "$1\"<secret>\"",
    ),
    (
        concat!(password!(), r"'(?P<value>[^'\n]*)'"),
        "$1'<secret>'",
    ),
    (
        concat!(password!(), r#"(?P<value>[^\s"'{\[<][^\n]*)"#),
        "$1<secret>",
    ),
    (concat!(token!(), r#"\\+"[^"\n]*?\\+""#), "$1\"<secret>\""),
    (
        concat!(token!(), r#""(?:[^"\\\n]|\\[^\n])*""#),
        "$1\"<secret>\"",
    ),
    (concat!(token!(), r"'[^'\n]*'"), "$1'<secret>'"),
    (
        concat!(token!(), r#"[^\s,;"'{\[<][^\s,;"']*"#),
        "$1<secret>",
    ),
    // `--token x`
    (
        r"(?i)(--?[a-z0-9-]*(?:password|passwd|passphrase|secret|token|api-key))[ \t]+([^\s-][^\s]*)",
        "$1 <secret>",
    ),
];

static COMPILED: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let compiled = |(pattern, with): &(&str, &'static str)| {
        // A test compiles each of them.
        Regex::new(pattern).ok().map(|regex| (regex, *with))
    };
    PATTERNS.iter().filter_map(compiled).collect()
});

/// The passwords and tokens that a text shows by their names, so that they are found in other texts and in other forms.
pub fn learned(text: &str) -> Vec<Secret> {
    let all = COMPILED
        .iter()
        .flat_map(|(regex, _)| regex.captures_iter(text));
    let values = all.filter_map(|found| found.name("value"));
    let values = values.map(|value| value.as_str().trim_end().as_bytes().to_vec());
    let long = values.filter(|value| (SHORTEST..=LONGEST).contains(&value.len()));
    long.map(Secret::new).collect()
}

/// Takes secrets out of texts.
pub struct Redactor {
    /// Every form of every known secret.
    known: AhoCorasick,
    /// The long ones without blanks.
    unbroken: AhoCorasick,
}

impl Redactor {
    /// One that knows these secrets.
    ///
    /// # Errors
    /// If there are far too many. Nothing may be shown then.
    pub fn new(secrets: &[Secret]) -> Result<Redactor> {
        let forms: BTreeSet<String> = secrets.iter().flat_map(|one| forms(one.expose())).collect();
        let unbroken: BTreeSet<String> = forms.iter().map(|form| without_blanks(form)).collect();
        let long = unbroken.into_iter().filter(|form| form.len() >= BROKEN);
        Ok(Redactor {
            unbroken: finder(long)?,
            known: finder(forms)?,
        })
    }

    /// The text without known secrets that ends of lines and blanks interrupt, as in base64 of 64 columns.
    fn without_broken(&self, text: &str) -> String {
        let letters = text.char_indices().filter(|(_, one)| !one.is_whitespace());
        // Where each byte of the text without blanks is in the text.
        let places: Vec<usize> = letters
            .flat_map(|(at, one)| at..at + one.len_utf8())
            .collect();
        let (mut left, mut done) = (String::with_capacity(text.len()), 0);
        for found in self.unbroken.find_iter(&without_blanks(text)) {
            let (first, last) = (places[found.start()], places[found.end() - 1]);
            left += &text[done..first];
            left += REPLACED;
            done = last + 1;
        }
        left + &text[done..]
    }

    /// The text without secrets.
    pub fn redacted(&self, text: &str) -> String {
        let mut left = String::with_capacity(text.len());
        self.known.replace_all_with(text, &mut left, |_, _, left| {
            left.push_str(REPLACED);
            true
        });
        let mut text = self.without_broken(&left);
        for (regex, with) in COMPILED.iter() {
            text = regex.replace_all(&text, *with).into_owned();
        }
        // What is left is judged by lines, as everywhere else.
        let lines = text.lines().map(|line| match line.contains(REPLACED) {
            true => token::redacted(line),
            false => hidden::line(line),
        });
        let mut lines: Vec<String> = lines.collect();
        lines.push(String::new());
        lines.join("\n")
    }
}

/// Finds these texts. A table of all states would be fast, but takes minutes to make for a text that repeats itself.
fn finder(texts: impl IntoIterator<Item = String>) -> Result<AhoCorasick> {
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .kind(Some(AhoCorasickKind::ContiguousNFA))
        .build(texts)
        .context("the secrets of this node are too many to look for")
}

fn without_blanks(text: &str) -> String {
    text.chars().filter(|one| !one.is_whitespace()).collect()
}

/// What tools for URLs encode: they leave these as they are (RFC 3986, 2.3).
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The forms in which a secret can be in a text.
fn forms(secret: &[u8]) -> Vec<String> {
    let mut forms = vec![hex::encode(secret), hex::encode_upper(secret)];
    if let Ok(text) = str::from_utf8(secret) {
        forms.push(text.to_owned());
        for set in [NON_ALPHANUMERIC, KEPT] {
            let encoded = percent_encode(secret, set).to_string();
            forms.push(
                encoded
                    .replace("%2F", "%2f")
                    .replace("%2B", "%2b")
                    .replace("%3D", "%3d"),
            );
            forms.push(encoded);
        }
        forms.push(text.escape_default().to_string());
        // A key without the lines around it.
        let body = text.lines().filter(|line| !line.starts_with("-----"));
        forms.push(body.collect::<Vec<_>>().join("\n"));
    }
    for shift in 0..3 {
        forms.extend(encoded(secret, shift));
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

/// The base64 of a secret that begins `shift` bytes after a multiple of three in a longer text: the characters that only
/// the secret decides.
fn encoded(secret: &[u8], shift: usize) -> [String; 2] {
    let mut bytes = vec![0; shift];
    bytes.extend_from_slice(secret);
    // The first characters also hold bits of what comes before, and the last one of what comes after.
    let first = (shift * 8).div_ceil(6);
    let last = bytes.len() * 8 / 6;
    let core = |text: String| text.get(first..last).unwrap_or_default().to_owned();
    [
        core(STANDARD_NO_PAD.encode(&bytes)),
        core(URL_SAFE_NO_PAD.encode(&bytes)),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    #[test]
    fn every_pattern_is_valid() {
        assert_eq!(COMPILED.len(), PATTERNS.len());
    }

    #[test]
    fn a_known_secret_is_found_in_every_form() {
        let value = "hunter2/+ 0123&4567";
        let redactor = Redactor::new(&[secret(value)]).unwrap();
        for before in ["", "a", "ab", "abc"] {
            let long = format!("{before}{value}, and more");
            for text in [
                long.clone(),
                STANDARD_NO_PAD.encode(&long),
                URL_SAFE_NO_PAD.encode(&long),
                hex::encode(&long),
                percent_encode(long.as_bytes(), NON_ALPHANUMERIC).to_string(),
            ] {
                let left = redactor.redacted(&format!("said {text} and went on"));
                assert!(left.contains(REPLACED), "{text}: {left}");
                assert!(
                    left.starts_with("said ") && left.contains("and went on"),
                    "{left}"
                );
            }
        }
        assert_eq!(redactor.redacted("nothing here"), "nothing here\n");
    }

    #[test]
    fn what_one_text_shows_is_found_in_others() {
        let learned = learned(
            "HTTPS_PROXY=http://me:hunter2-x@proxy:1\nPASSWORD=\"correct horse\"\ntoken: default-token\n",
        );
        let redactor = Redactor::new(&learned).unwrap();
        for text in ["hunter2-x", "correct horse"] {
            for text in [
                text.to_owned(),
                STANDARD_NO_PAD.encode(text),
                hex::encode(text),
            ] {
                assert_eq!(
                    redactor
                        .redacted(&format!("a {text} b"))
                        .matches(REPLACED)
                        .count(),
                    1
                );
            }
        }
        // The names of objects are in many texts.
        assert_eq!(redactor.redacted("default-token"), "default-token\n");
    }

    #[test]
    fn a_known_secret_is_found_over_ends_of_lines() {
        let key =
            "-----BEGIN X KEY-----\nabcdefghijklmnop\nqrstuvwxyz012345\n-----END X KEY-----\n";
        let redactor = Redactor::new(&[secret(key)]).unwrap();
        for text in [
            STANDARD_NO_PAD.encode(key),
            "abcdefghijklmnopqrstuvwxyz012345".to_owned(),
        ] {
            for columns in [5, 12, 64] {
                let lines: Vec<&[u8]> = text.as_bytes().chunks(columns).collect();
                let wrapped = String::from_utf8(lines.join(&b"\n"[..])).unwrap();
                let left = redactor.redacted(&format!("a\n{wrapped}\nb"));
                // The last letter of base64 may hold bits of what comes after.
                let rest = left.replacen(REPLACED, "", 1).len();
                assert!(
                    left.starts_with("a\n<secret>") && rest <= "a\n.\nb\n".len(),
                    "{left}"
                );
            }
        }
    }

    #[test]
    fn a_text_that_repeats_itself_is_no_obstacle() {
        let text = format!("password={}", "a".repeat(20_000));
        let redactor = Redactor::new(&learned(&text)).unwrap();
        assert_eq!(redactor.redacted(&text), "password=<secret>\n");
        let long = secret(&"a".repeat(4000));
        assert!(Redactor::new(&[long]).is_ok());
    }

    #[test]
    fn what_looks_like_a_secret_is_replaced_and_the_rest_stays() {
        let redactor = Redactor::new(&[]).unwrap();
        for (text, expected) in [
            (
                "HTTPS_PROXY=http://me:hunter2@proxy.example:3128",
                "HTTPS_PROXY=http://<secret>@proxy.example:3128",
            ),
            ("--token hunter2 --v=2", "--token <secret> --v=2"),
            ("--token=hunter2 --v=2", "--token=<secret> --v=2"),
            (
                "aws_secret_access_key = hunter2/x",
                "aws_secret_access_key = <secret>",
            ),
            ("aws_session_token=hunter2", "aws_session_token=<secret>"),
            (
                "{\"password\": \"hunter2 x\", \"a\": 1}",
                "{\"password\": \"<secret>\", \"a\": 1}",
            ),
            ("\"secrets\": [\"a\"]", "\"secrets\": [\"a\"]"),
            (
                r#"said "{\"password\": \"hunter2\", \"a\": 1}""#,
                r#"said "{\"password\": "<secret>", \"a\": 1}""#,
            ),
            (r#"token: "a\"hunter2""#, r#"token: "<secret>""#),
            ("DB_PASS=hunter2", "DB_PASS=<secret>"),
            ("\"auth\": \"aHVudGVyMg==\"", "\"auth\": \"<secret>\""),
            (
                "Bearer abcdefghijk joined with qwerty.9876543210zyxwvutsrqponmlkjihgfe",
                "Bearer <secret> joined with qwerty.<secret>",
            ),
            (
                "client-key-data: LS0tLS1CRUdJTiBSU0E=",
                "client-key-data: <secret>",
            ),
            (
                "Authorization: Bearer hunter2x",
                "Authorization: Bearer <secret>",
            ),
            ("key AGE-SECRET-KEY-1QQQ", "key <secret>"),
            ("x eyJhbGciOiJSUzI1.eyJpc3MiOiJr.c2ln y", "x <secret> y"),
            ("at AKIAIOSFODNN7EXAMPLE.", "at <secret>."),
            (
                "server: https://192.168.1.102:6443",
                "server: https://192.168.1.102:6443",
            ),
            (
                "--key-file=/etc/kubernetes/ca/etcd/etcd-key.pem",
                "--key-file=/etc/kubernetes/ca/etcd/etcd-key.pem",
            ),
            (
                "--token-auth-file=/etc/kubernetes/ca/kubernetes/token.csv \\",
                "--token-auth-file=/etc/kubernetes/ca/kubernetes/token.csv \\",
            ),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\nb",
                "<secret>\nb",
            ),
            ("-----BEGIN PRIVATE KEY-----\\nAAAA\nBBBB", "<secret>"),
        ] {
            assert_eq!(redactor.redacted(text), format!("{expected}\n"), "{text}");
        }
    }
}

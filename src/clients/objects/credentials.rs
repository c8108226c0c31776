//! Who asks an object store, as a file says.

use std::fmt;

use anyhow::{Result, bail, ensure};
use rusty_s3::Credentials as Signing;

/// The longest value, in bytes.
const LONGEST: usize = 4096;

/// Who asks an object store. The secret itself is never sent: it signs requests.
#[derive(Clone)]
pub struct Credentials(pub(super) Signing);

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl Credentials {
    /// Those in the text of a file, in the form of AWS's tools: lines `aws_access_key_id = …`, `aws_secret_access_key =
    /// …` and perhaps `aws_session_token = …`, in at most one section.
    ///
    /// # Errors
    /// If they are not there once each. An error names the line, and never quotes it.
    pub fn parse(text: &[u8]) -> Result<Credentials> {
        const WANTED: &str =
            "expected the lines `aws_access_key_id = …` and `aws_secret_access_key = …`";
        let (mut key, mut secret, mut token) = (None, None, None);
        let mut sections = 0;
        for (index, line) in str::from_utf8(text)?.lines().enumerate() {
            let (line, number) = (line.trim(), index + 1);
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with('[') {
                sections += 1;
                ensure!(
                    sections == 1,
                    "line {number} begins a second section; keep one"
                );
                continue;
            }
            let Some((name, value)) = line.split_once('=') else {
                bail!("line {number} is not `NAME = VALUE`; {WANTED}");
            };
            let value = value.trim();
            let place = match name.trim() {
                "aws_access_key_id" => &mut key,
                "aws_secret_access_key" => &mut secret,
                "aws_session_token" => &mut token,
                _ => continue,
            };
            let is_one = (1..=LONGEST).contains(&value.len())
                && value.bytes().all(|byte| byte.is_ascii_graphic());
            ensure!(
                is_one,
                "the value in line {number} is empty, too long, or has other characters than ASCII's"
            );
            ensure!(place.is_none(), "line {number} repeats a line before");
            *place = Some(value);
        }
        let (Some(key), Some(secret)) = (key, secret) else {
            bail!("it has no key; {WANTED}");
        };
        Ok(Credentials(match token {
            Some(token) => Signing::new_with_token(key, secret, token),
            None => Signing::new(key, secret),
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_form_of_other_tools_is_read_and_no_error_or_debug_has_the_secret() {
        let text = "# a\n[default]\naws_access_key_id=KEY\n aws_secret_access_key = hunter2+/= \nregion = x\n";
        let read = Credentials::parse(text.as_bytes()).unwrap();
        assert_eq!(
            (read.0.key(), read.0.secret(), read.0.token()),
            ("KEY", "hunter2+/=", None)
        );
        assert!(!format!("{read:?}").contains("hunter2"));
        for (text, why) in [
            ("", "no key"),
            ("aws_secret_access_key = hunter2", "no key"),
            ("hunter2", "line 1"),
            (
                "aws_access_key_id = a\naws_secret_access_key = hunter2 x",
                "line 2",
            ),
            ("aws_access_key_id =", "line 1"),
            (
                "aws_secret_access_key = hunter2\naws_secret_access_key = b",
                "line 2 repeats",
            ),
            ("[a]\n[b]", "second section"),
        ] {
            let told = Credentials::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(
                told.contains(why) && !told.contains("hunter2"),
                "{text}: {told}"
            );
        }
    }
}
